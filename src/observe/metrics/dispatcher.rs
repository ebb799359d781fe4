//! The metrics of a dispatcher, local or on Redis.

use crate::dispatch::{DispatchStats, TopicStats, Unavailable};
use crate::observe::families::Samples;

/// The most topics that have metrics of their own. The topics of dispatchers that have more are added up.
const MAX_TOPICS: usize = 100;

/// Adds the metrics of a dispatcher.
pub(super) fn add(to: &mut Samples<'_>, stats: Result<&DispatchStats, &Unavailable>) {
    let (name, help) = (
        "liveness_dispatcher_available",
        "Whether the store of the dispatcher answered this scrape",
    );
    to.gauge(name, help, f64::from(u8::from(stats.is_ok())));
    let Ok(stats) = stats else {
        return;
    };
    if stats.topics.len() > MAX_TOPICS {
        topic(&mut to.with("topic", ""), &stats.total());
    } else {
        for one in &stats.topics {
            topic(&mut to.with("topic", &one.topic), one);
        }
    }
    to.counter(
        "liveness_dispatcher_refused",
        "Events that were refused",
        stats.refused,
    );
    to.counter(
        "liveness_dispatcher_stuck",
        "Calls of handlers that did not return after their time limit",
        stats.stuck,
    );
    to.counter(
        "liveness_dispatcher_skipped_ticks",
        "Ticks of schedules that were skipped",
        stats.skipped_ticks,
    );
    to.counter(
        "liveness_dispatcher_panics",
        "Panics of schedules and of the callback for notices",
        stats.panics,
    );
    to.counter(
        "liveness_dispatcher_lost_notices",
        "Notices that were dropped because nobody took them",
        stats.lost_notices,
    );
}

/// Adds the metrics of one topic.
fn topic(to: &mut Samples<'_>, stats: &TopicStats) {
    to.gauges(
        "liveness_dispatcher_events",
        "Events that wait, run, or are in the dead list now",
        "state",
        [
            ("waiting", stats.waiting),
            ("running", stats.running),
            ("dead", stats.dead),
        ],
    );
    to.counter(
        "liveness_dispatcher_emitted",
        "Events that were accepted",
        stats.emitted,
    );
    to.counters(
        "liveness_dispatcher_ended",
        "Events that have ended, by what became of them",
        "by",
        [
            ("done", stats.done),
            ("cancelled", stats.cancelled),
            ("purged", stats.purged),
            ("discarded", stats.discarded),
            ("lost", stats.lost),
        ],
    );
    to.counters(
        "liveness_dispatcher_attempts_failed",
        "Attempts that did not succeed, by what followed",
        "then",
        [
            ("retried", stats.retried),
            ("died", stats.died),
            ("put_off", stats.put_off),
            ("lapsed", stats.lapsed),
            ("stale", stats.stale),
        ],
    );
    to.counter(
        "liveness_dispatcher_replayed",
        "Times that an event was replayed from the dead list",
        stats.replayed,
    );
    to.counter(
        "liveness_dispatcher_handler_panics",
        "Calls of handlers that panicked",
        stats.panics,
    );
    to.histogram(
        "liveness_dispatcher_lateness_seconds",
        "From the due time of events to their start",
        &stats.lateness,
    );
    to.histogram(
        "liveness_dispatcher_run_seconds",
        "From the start of events to the end of the attempt",
        &stats.run_time,
    );
}
