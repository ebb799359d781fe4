//! The metrics of a group.

use crate::observe::families::Samples;
use crate::server::group::{Busy, GroupStats};

/// Adds the metrics of a group.
pub(super) fn add(to: &mut Samples<'_>, stats: &GroupStats, busy: Option<&Busy>) {
    to.gauges(
        "liveness_group_jobs",
        "Jobs that wait in the inbox, and slow calls that wait or run, now",
        "state",
        [
            ("waiting", stats.waiting),
            ("running", stats.running),
            ("slow_waiting", stats.slow_waiting),
            ("slow_running", stats.slow_running),
        ],
    );
    to.counter(
        "liveness_group_accepted",
        "Jobs that the inbox accepted",
        stats.accepted,
    );
    to.counter(
        "liveness_group_refused",
        "Closures, values, timers and receivers that were refused",
        stats.refused,
    );
    to.counters(
        "liveness_group_ended",
        "Jobs that have ended, by what became of them",
        "by",
        [
            ("done", stats.done),
            ("panicked", stats.panicked),
            ("withdrawn", stats.withdrawn),
            ("discarded", stats.discarded),
        ],
    );
    to.gauge(
        "liveness_group_pending_timers",
        "Timers that are pending now",
        stats.timers_pending as f64,
    );
    to.counter(
        "liveness_group_timer_calls",
        "Calls of timers",
        stats.timer_calls,
    );
    to.counter(
        "liveness_group_skipped_ticks",
        "Ticks of timers that were skipped",
        stats.skipped_ticks,
    );
    to.counter(
        "liveness_group_items",
        "Items of attached receivers",
        stats.items,
    );
    to.counter(
        "liveness_group_panics",
        "Panics on the thread of the group",
        stats.panics,
    );
    to.gauge(
        "liveness_group_busy_seconds",
        "How long the closure that runs now has been running",
        busy.map_or(0.0, |busy| busy.duration.as_secs_f64()),
    );
    to.histogram(
        "liveness_group_lateness_seconds",
        "From when timers were due to their calls",
        &stats.lateness,
    );
    to.histogram(
        "liveness_group_run_seconds",
        "Calls of user code on the thread of the group",
        &stats.run_time,
    );
}
