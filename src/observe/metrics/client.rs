//! The metrics of a client.

use crate::client::{ClientStats, State};
use crate::observe::families::Samples;

/// Adds the metrics of a client.
pub(super) fn add(to: &mut Samples<'_>, stats: &ClientStats, state: &State) {
    let (is_online, is_closed) = (state.is_online(), state.is_closed());
    let is_connecting = matches!(state, State::Connecting);
    to.gauges(
        "liveness_client_connection",
        "1 for the state of the client, 0 for the others",
        "state",
        [
            ("connecting", u64::from(is_connecting)),
            ("online", u64::from(is_online)),
            (
                "offline",
                u64::from(!is_connecting && !is_online && !is_closed),
            ),
            ("closed", u64::from(is_closed)),
        ],
    );
    to.counters(
        "liveness_client_attempts",
        "Attempts to connect that have ended",
        "result",
        [("opened", stats.opened), ("failed", stats.failed)],
    );
    to.counter(
        "liveness_client_connections_ended",
        "Connections that were open and have ended",
        stats.ended,
    );
    to.counters(
        "liveness_client_messages",
        "Messages without pings and pongs",
        "direction",
        [("in", stats.received), ("out", stats.sent)],
    );
    to.gauge(
        "liveness_client_queued_messages",
        "Messages that wait to be sent",
        stats.queued as f64,
    );
    to.counters(
        "liveness_client_unsent",
        "Messages that were never sent, and those that were being written when the connection ended",
        "by",
        [("dropped", stats.dropped), ("lost", stats.lost)],
    );
    to.gauge(
        "liveness_client_waiting_requests",
        "Requests that wait for their answers",
        stats.waiting as f64,
    );
    to.counters(
        "liveness_client_requests",
        "Requests that have ended",
        "result",
        [
            ("answered", stats.answered),
            ("timed_out", stats.timed_out),
            ("lost", stats.lost_requests),
        ],
    );
    to.counter(
        "liveness_client_received_bytes",
        "Bytes received",
        stats.bytes_in,
    );
    to.counter(
        "liveness_client_sent_bytes",
        "Bytes written",
        stats.bytes_out,
    );
    to.counters(
        "liveness_client_unhandled",
        "Messages that no handler got",
        "reason",
        [("no_handler", stats.unknown), ("bad_body", stats.bad)],
    );
    to.counter(
        "liveness_client_panics",
        "Panics of user code",
        stats.panics,
    );
    to.histogram(
        "liveness_client_silence_lateness_seconds",
        "From deadlines to the verdict on silent servers",
        &stats.silence,
    );
    to.histogram(
        "liveness_client_rtt_seconds",
        "From pings to their pongs, one for each connection",
        &stats.rtt,
    );
}
