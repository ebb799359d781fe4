//! The ratios and limits that the library is to keep.

use peers::frame::report::{Goal, Target};
use peers::frame::rows::Row;

use crate::Serving;
use crate::candidate::Candidate::{
    self, Bun, Floor, NodeWs, TcpInline, TcpStrand, TungsteniteTuned, WsInline, WsStrand,
};
use crate::setting::Metric::{self, CpuUs, EchoP50Us, MessagesPerS};
use crate::setting::Scenario;

/// Whom an echo is compared with.
type Echoes = [(
    &'static str,
    Candidate,
    &'static str,
    Candidate,
    (usize, usize),
    f64,
)];

/// The ratios of echo rates on a whole core.
const ECHOES: &Echoes = &[
    ("TCP inline", TcpInline, "floor", Floor, (64, 1), 0.85),
    ("WebSocket inline", WsInline, "floor", Floor, (64, 1), 0.85),
    ("TCP inline", TcpInline, "floor", Floor, (64, 16), 0.55),
    ("WebSocket inline", WsInline, "floor", Floor, (64, 16), 0.45),
    ("TCP strands", TcpStrand, "inline", TcpInline, (64, 1), 0.85),
    (
        "WebSocket strands",
        WsStrand,
        "inline",
        WsInline,
        (64, 1),
        0.85,
    ),
    (
        "TCP strands",
        TcpStrand,
        "inline",
        TcpInline,
        (64, 16),
        0.85,
    ),
    (
        "WebSocket strands",
        WsStrand,
        "inline",
        WsInline,
        (64, 16),
        0.85,
    ),
    ("TCP strands", TcpStrand, "inline", TcpInline, (8, 1), 0.55),
    (
        "WebSocket strands",
        WsStrand,
        "inline",
        WsInline,
        (8, 1),
        0.55,
    ),
    ("WebSocket inline", WsInline, "Bun", Bun, (64, 1), 0.95),
    ("WebSocket inline", WsInline, "Bun", Bun, (64, 16), 0.95),
    (
        "WebSocket inline",
        WsInline,
        "tokio-tungstenite, tuned",
        TungsteniteTuned,
        (64, 1),
        0.95,
    ),
    (
        "WebSocket inline",
        WsInline,
        "tokio-tungstenite, tuned",
        TungsteniteTuned,
        (64, 16),
        0.95,
    ),
    (
        "WebSocket inline",
        WsInline,
        "node ws",
        NodeWs,
        (64, 1),
        1.6,
    ),
    (
        "WebSocket inline",
        WsInline,
        "node ws",
        NodeWs,
        (64, 16),
        10.0,
    ),
];

/// The limits of single values with many connections.
const LIMITS: &[(&str, Scenario, Candidate, Metric, Goal)] = &[
    (
        "TCP, bytes of an idle connection",
        Scenario::Memory,
        TcpInline,
        Metric::IdleBytes,
        Goal::AtMost(400.0),
    ),
    (
        "WebSocket, bytes of an idle connection",
        Scenario::Memory,
        WsInline,
        Metric::IdleBytes,
        Goal::AtMost(1_024.0),
    ),
    (
        "WebSocket, bytes after a message of 32 KiB",
        Scenario::Memory,
        WsInline,
        Metric::UsedBytes,
        Goal::AtMost(1_228.0),
    ),
    (
        "idle WebSockets, MB of the process",
        Scenario::Memory,
        WsInline,
        Metric::ProcessMb,
        Goal::AtMost(15.0),
    ),
    (
        "connects and upgrades, k/s",
        Scenario::Connect,
        WsInline,
        Metric::ConnectsPerS,
        Goal::AtLeast(25.0),
    ),
    (
        "broadcast, ms to the last byte",
        Scenario::Broadcast,
        WsInline,
        Metric::LastByteMs,
        Goal::AtMost(100.0),
    ),
    (
        "silence, late ms p50",
        Scenario::Silence,
        WsInline,
        Metric::LateP50Ms,
        Goal::AtMost(1.5),
    ),
    (
        "silence, late ms p99",
        Scenario::Silence,
        WsInline,
        Metric::LateP99Ms,
        Goal::AtMost(5.0),
    ),
    (
        "silence, late ms at most",
        Scenario::Silence,
        WsInline,
        Metric::LateMaxMs,
        Goal::AtMost(20.0),
    ),
    (
        "silence of all, late ms at most",
        Scenario::SilenceOfAll,
        WsInline,
        Metric::LateMaxMs,
        Goal::AtMost(250.0),
    ),
    (
        "idle and pinged, CPU %",
        Scenario::Idle,
        WsInline,
        Metric::CpuPercent,
        Goal::AtMost(1.0),
    ),
];

/// Returns the targets whose values are among `rows`.
pub(crate) fn targets(rows: &[Row<Serving>]) -> Vec<Target> {
    let echo = |candidate, metric, (connections, in_flight)| {
        let is_it = |row: &&Row<Serving>| {
            let at = row.setting;
            at.scenario == Scenario::Echo
                && (at.connections, at.in_flight) == (connections, in_flight)
                && (row.candidate, row.metric) == (candidate, metric)
        };
        rows.iter().find(is_it).map(|row| row.value)
    };
    let mut targets = Vec::new();
    for &(name, ours, other, candidate, at, least) in ECHOES {
        // With many messages on the way the server is never idle, and the time of the processor for a message gives the
        // rate of a whole core also if other programs take a part of it.
        let is_busy = at.0 == 64;
        let metric = if is_busy { CpuUs } else { MessagesPerS };
        if let Some((ours, theirs)) = echo(ours, metric, at).zip(echo(candidate, metric, at)) {
            let by = if is_busy { ", by CPU" } else { "" };
            targets.push(Target {
                name: format!("echo, {} x {}{by}: {name} / {other}", at.0, at.1),
                goal: Goal::AtLeast(least),
                value: if is_busy {
                    theirs / ours
                } else {
                    ours / theirs
                },
            });
        }
    }
    for (name, strand, inline) in [
        ("TCP", TcpStrand, TcpInline),
        ("WebSocket", WsStrand, WsInline),
    ] {
        let at = |candidate| echo(candidate, EchoP50Us, (1, 1));
        if let Some((strand, inline)) = at(strand).zip(at(inline)) {
            targets.push(Target {
                name: format!("echo, 1 x 1: {name} strands - inline, us"),
                goal: Goal::AtMost(15.0),
                value: strand - inline,
            });
        }
    }
    for &(name, scenario, candidate, metric, goal) in LIMITS {
        let is_it = |row: &&Row<Serving>| {
            row.setting.scenario == scenario && (row.candidate, row.metric) == (candidate, metric)
        };
        if let Some(row) = rows.iter().find(is_it) {
            let unit = if metric == Metric::ConnectsPerS {
                1e3
            } else {
                1.0
            };
            targets.push(Target {
                name: name.to_owned(),
                goal,
                value: row.value / unit,
            });
        }
    }
    targets
}
