//! The metrics of a server.

use crate::observe::families::Samples;
use crate::server::{Cause, ServerStats};

/// Adds the metrics of a server.
pub(super) fn add(to: &mut Samples<'_>, stats: &ServerStats, is_draining: bool, blocked: usize) {
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

/// Returns `name` in snake case.
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
