//! The metrics of what a process does for a shared watch.

use crate::observe::families::Samples;
use crate::redis::SharedStats;

/// Adds the metrics of a shared watch.
pub(super) fn add(to: &mut Samples<'_>, stats: &SharedStats) {
    to.counter(
        "liveness_shared_watcher_beats",
        "Beats that were sent",
        stats.beats,
    );
    to.counter(
        "liveness_shared_watcher_failed_calls",
        "Calls that the server did not answer, or refused",
        stats.failed_calls,
    );
    to.counter(
        "liveness_shared_watcher_outages",
        "Calls that found a shard out of reach and moved its deadlines",
        stats.outages,
    );
    to.counters(
        "liveness_shared_watcher_reports",
        "Reports of silent keys that this process took, delivered, gave back, or delivered too late",
        "result",
        [
            ("taken", stats.taken),
            ("delivered", stats.delivered),
            ("returned", stats.returned),
            ("stale", stats.stale),
        ],
    );
    to.counter(
        "liveness_shared_watcher_panics",
        "Panics of the callback",
        stats.panics,
    );
    to.histogram(
        "liveness_shared_watcher_lateness_seconds",
        "From deadlines to the call of the callback",
        &stats.lateness,
    );
}
