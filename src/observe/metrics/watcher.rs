//! The metrics of a watcher.

use crate::observe::families::Samples;
use crate::stats::Stats;

/// Adds the metrics of a watcher.
pub(super) fn add(to: &mut Samples<'_>, stats: &Stats) {
    to.gauges(
        "liveness_watcher_keys",
        "Keys that are watched now",
        "state",
        [
            ("up", stats.live.saturating_sub(stats.down)),
            ("down", stats.down),
        ],
    );
    to.counter(
        "liveness_watcher_episodes",
        "Episodes that began",
        stats.started,
    );
    to.counters(
        "liveness_watcher_episodes_ended",
        "Episodes that ended, by what became of them",
        "by",
        [
            ("delivered", stats.delivered),
            ("removed", stats.removed),
            ("discarded", stats.discarded),
        ],
    );
    to.gauge(
        "liveness_watcher_pending_events",
        "Ended episodes whose event waits for the sink",
        stats.pending as f64,
    );
    to.counters(
        "liveness_watcher_beats",
        "Beats by call; beats of hearts are not counted",
        "result",
        [
            ("applied", stats.applied_beats),
            ("late", stats.late_beats),
            ("refused", stats.refused_beats),
            ("unknown", stats.unknown),
        ],
    );
    to.counter(
        "liveness_watcher_expiries",
        "Deadlines that were missed",
        stats.expiries,
    );
    to.counter(
        "liveness_watcher_recoveries",
        "Keys that were down and beat again",
        stats.recoveries,
    );
    to.counter(
        "liveness_watcher_folded_recoveries",
        "Recoveries that were not reported, because the key changed again before the report of its silence was taken",
        stats.folded_recoveries,
    );
    to.counter(
        "liveness_watcher_beat_events_dropped",
        "Beat events that were dropped because the sink was behind",
        stats.beat_events_dropped,
    );
    to.counter(
        "liveness_watcher_panics",
        "Panics of callbacks and sinks",
        stats.panics,
    );
    to.counter(
        "liveness_watcher_stalls",
        "Times that a worker did not run for a while and held expiry back",
        stats.stalls,
    );
    to.counter(
        "liveness_watcher_wakeups",
        "Times that a worker slept and woke",
        stats.wakeups,
    );
    to.gauge(
        "liveness_watcher_failed_workers",
        "Workers that ended by a panic of a key's code",
        stats.failed_workers as f64,
    );
    to.gauge(
        "liveness_watcher_table_bytes",
        "Memory of the tables, without allocations of keys",
        stats.bytes as f64,
    );
    to.gauge(
        "liveness_watcher_imbalance_ratio",
        "Keys of the fullest worker, divided by the average",
        stats.imbalance(),
    );
    to.histogram(
        "liveness_watcher_detection_seconds",
        "From deadlines to the detection of the silence",
        &stats.detection,
    );
    to.histogram(
        "liveness_watcher_delivery_seconds",
        "From deadlines to the delivery of the event",
        &stats.delivery,
    );
}
