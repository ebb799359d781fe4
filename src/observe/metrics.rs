//! The metrics of each kind of source.

use super::families::{Families, Samples};
use super::measure::Measure;
use crate::stats::Stats;

#[cfg(feature = "dispatch")]
use crate::dispatch::{DispatchStats, TopicStats};
#[cfg(feature = "pacemaker")]
use crate::pacemaker::{Connection, PacemakerStats};
#[cfg(feature = "redis")]
use crate::redis::SharedStats;
#[cfg(feature = "registry")]
use crate::registry::RegistryStats;
#[cfg(feature = "server")]
use crate::server::group::{Busy, GroupStats};
#[cfg(feature = "server")]
use crate::server::{Cause, ServerStats};

/// The most topics that have metrics of their own. The topics of dispatchers that have more are added up.
#[cfg(feature = "dispatch")]
const MAX_TOPICS: usize = 100;

/// Adds the metrics of one source.
pub(crate) fn add(families: &mut Families, name: &str, measure: &Measure) {
    let mut to = Samples::new(families, name);
    match measure {
        Measure::Watcher(stats) => watcher(&mut to, stats),
        #[cfg(feature = "registry")]
        Measure::Registry(stats) => registry(&mut to, stats),
        #[cfg(feature = "pacemaker")]
        Measure::Pacemaker(stats, connection) => pacemaker(&mut to, *stats, *connection),
        #[cfg(feature = "dispatch")]
        Measure::Dispatcher(stats) => {
            let (name, help) = (
                "liveness_dispatcher_available",
                "Whether the store of the dispatcher answered this scrape",
            );
            to.gauge(name, help, f64::from(u8::from(stats.is_ok())));
            if let Ok(stats) = stats {
                dispatcher(&mut to, stats);
            }
        }
        #[cfg(feature = "redis")]
        Measure::SharedWatcher(stats) => shared_watcher(&mut to, stats),
        #[cfg(feature = "server")]
        Measure::Server {
            stats,
            is_draining,
            blocked,
        } => {
            server(&mut to, stats, *is_draining, blocked.len());
        }
        #[cfg(feature = "server")]
        Measure::Group(stats, busy) => group(&mut to, stats, busy.as_ref()),
    }
}

/// Adds the metrics of a watcher.
fn watcher(to: &mut Samples<'_>, stats: &Stats) {
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

/// Adds the metrics of a registry.
#[cfg(feature = "registry")]
fn registry(to: &mut Samples<'_>, stats: &RegistryStats) {
    to.gauges(
        "liveness_registry_nodes",
        "Nodes by state",
        "state",
        [
            ("joining", stats.joining as u64),
            ("up", stats.up as u64),
            ("suspect", stats.suspect as u64),
            ("down", stats.down as u64),
            ("left", stats.left as u64),
        ],
    );
    to.gauge(
        "liveness_registry_listed_nodes",
        "Nodes that may receive traffic",
        stats.listed as f64,
    );
    to.gauges(
        "liveness_registry_marked_nodes",
        "Nodes that the guard holds, that are drained, or that are suppressed because they flap",
        "mark",
        [
            ("held", stats.held as u64),
            ("drained", stats.drained as u64),
            ("suppressed", stats.suppressed as u64),
        ],
    );
    to.counter(
        "liveness_registry_deaths",
        "Times that a node went down",
        stats.deaths,
    );
    to.counter(
        "liveness_registry_recoveries",
        "Times that a node came back",
        stats.recoveries,
    );
    to.counter(
        "liveness_registry_guards",
        "Times that the guard against the death of many nodes became active",
        stats.guards,
    );
    to.counter(
        "liveness_registry_stalls",
        "Times that the registry did not run for a while and held judgement back",
        stats.stalls,
    );
    to.counter(
        "liveness_registry_refused",
        "Registrations that were refused because the registry was full",
        stats.refused,
    );
    to.gauge(
        "liveness_registry_subscribers",
        "Subscriptions that have not ended",
        stats.subscribers as f64,
    );
    to.counter(
        "liveness_registry_missed_updates",
        "Updates that were dropped because a subscriber was behind",
        stats.missed_updates,
    );
}

/// Adds the metrics of a pacemaker.
#[cfg(feature = "pacemaker")]
fn pacemaker(to: &mut Samples<'_>, stats: PacemakerStats, connection: Connection) {
    let is = |state| u64::from(connection == state);
    to.gauges(
        "liveness_pacemaker_connection",
        "1 for the state of the peer, 0 for the others",
        "state",
        [
            ("unknown", is(Connection::Unknown)),
            ("online", is(Connection::Online)),
            ("offline", is(Connection::Offline)),
        ],
    );
    to.counters(
        "liveness_pacemaker_calls",
        "Calls of the beat function that were due",
        "result",
        [
            ("ok", stats.beats),
            ("failed", stats.failures),
            ("withheld", stats.withheld),
        ],
    );
    to.counter(
        "liveness_pacemaker_skipped_ticks",
        "Ticks that passed while the process was suspended or a call ran",
        stats.skipped,
    );
}

/// Adds the metrics of a dispatcher.
#[cfg(feature = "dispatch")]
fn dispatcher(to: &mut Samples<'_>, stats: &DispatchStats) {
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
#[cfg(feature = "dispatch")]
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

/// Adds the metrics of a shared watch.
#[cfg(feature = "redis")]
fn shared_watcher(to: &mut Samples<'_>, stats: &SharedStats) {
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

/// Adds the metrics of a server.
#[cfg(feature = "server")]
fn server(to: &mut Samples<'_>, stats: &ServerStats, is_draining: bool, blocked: usize) {
    to.gauges(
        "liveness_server_connections",
        "Connections by state",
        "state",
        [
            ("handshaking", stats.handshaking),
            ("open", stats.open),
            ("closing", stats.closing),
        ],
    );
    to.counter(
        "liveness_server_accepted",
        "Connections that were accepted",
        stats.accepted,
    );
    to.counter(
        "liveness_server_refused",
        "Connections that ended before they were open, without answered requests",
        stats.refused.saturating_sub(stats.pages),
    );
    to.counter(
        "liveness_server_pages",
        "Requests for pages that were answered",
        stats.pages,
    );
    for cause in Cause::ALL {
        to.with("cause", &snake(&format!("{cause:?}"))).counter(
            "liveness_server_closed",
            "Ends of connections by cause, including those that were never open",
            match cause {
                Cause::Refused => stats.ended_by(cause).saturating_sub(stats.pages),
                _ => stats.ended_by(cause),
            },
        );
    }
    traffic(to, stats);
    to.gauge(
        "liveness_server_queued_bytes",
        "Bytes of messages that wait to be written",
        stats.queued_bytes as f64,
    );
    to.counter(
        "liveness_server_unknown",
        "Messages without a route",
        stats.unknown,
    );
    to.counter(
        "liveness_server_panics",
        "Panics of user code",
        stats.panics,
    );
    to.counter(
        "liveness_server_stalls",
        "Times that a thread was found blocked in user code",
        stats.stalls,
    );
    to.gauge(
        "liveness_server_blocked_threads",
        "Threads that are blocked in user code now",
        blocked as f64,
    );
    to.gauge(
        "liveness_server_draining",
        "Whether the server takes no further connections",
        f64::from(u8::from(is_draining)),
    );
    to.counter(
        "liveness_server_slow_inline",
        "Calls of inline handlers that took longer than 10 ms",
        stats.slow_inline,
    );
    to.counter(
        "liveness_server_accept_pauses",
        "Times that accepting was suspended because no descriptor was left",
        stats.accept_pauses,
    );
    to.histogram(
        "liveness_server_silence_lateness_seconds",
        "From deadlines to the drop of silent connections",
        &stats.silence,
    );
    to.histogram(
        "liveness_server_rtt_seconds",
        "From pings to their pongs",
        &stats.rtt,
    );
}

/// Adds what went through a server.
#[cfg(feature = "server")]
fn traffic(to: &mut Samples<'_>, stats: &ServerStats) {
    to.counters(
        "liveness_server_messages",
        "Messages without pings and pongs",
        "direction",
        [("in", stats.received), ("out", stats.sent)],
    );
    to.counter(
        "liveness_server_received_bytes",
        "Bytes received",
        stats.bytes_in,
    );
    to.counter(
        "liveness_server_sent_bytes",
        "Bytes written",
        stats.bytes_out,
    );
}

/// Adds the metrics of a group.
#[cfg(feature = "server")]
fn group(to: &mut Samples<'_>, stats: &GroupStats, busy: Option<&Busy>) {
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

/// Returns `name` in snake case.
#[cfg(feature = "server")]
fn snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
