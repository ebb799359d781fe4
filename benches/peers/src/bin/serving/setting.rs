//! What is measured: scenarios, settings, metrics.

use peers::frame::Named;
use peers::text::grouped;
use serde::Serialize;

/// What is done to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Messages are sent back.
    Echo,
    /// Connections are opened.
    Connect,
    /// Connections are idle, then have sent something once.
    Memory,
    /// A message goes to all.
    Broadcast,
    /// A part of the peers falls silent, at random moments.
    Silence,
    /// All peers fall silent at once.
    SilenceOfAll,
    /// All peers answer pings and do nothing else.
    Idle,
}

impl Named for Scenario {
    const ALL: &'static [Self] = &[
        Scenario::Echo,
        Scenario::Connect,
        Scenario::Memory,
        Scenario::Broadcast,
        Scenario::Silence,
        Scenario::SilenceOfAll,
        Scenario::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Scenario::Echo => "echo",
            Scenario::Connect => "connect",
            Scenario::Memory => "memory",
            Scenario::Broadcast => "broadcast",
            Scenario::Silence => "silence",
            Scenario::SilenceOfAll => "silence_of_all",
            Scenario::Idle => "idle",
        }
    }
}

/// What rows are compared within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Setting {
    /// What is done.
    pub(crate) scenario: Scenario,
    /// By how many connections.
    pub(crate) connections: usize,
    /// With how many messages of each on the way, or how many connections at once.
    pub(crate) in_flight: usize,
}

impl peers::frame::Setting for Setting {
    type Scenario = Scenario;

    fn scenario(self) -> Scenario {
        self.scenario
    }

    fn title(self) -> String {
        let Setting {
            scenario,
            connections,
            in_flight,
        } = self;
        let count = grouped(connections);
        match scenario {
            Scenario::Echo => format!("echo, {connections} x {in_flight} in flight"),
            Scenario::Connect => format!("connect and upgrade, {count}, {in_flight} at once"),
            Scenario::Memory => format!("memory, {count} connections"),
            Scenario::Broadcast => format!("broadcast of 256 bytes to {count}"),
            Scenario::Silence => format!("silence, a tenth of {count}, at random moments"),
            Scenario::SilenceOfAll => format!("silence, all {count} at once"),
            Scenario::Idle => format!("idle, {count}, each pinged every 25 s"),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Messages in a second.
    MessagesPerS,
    /// From the moment at which a message is due to its echo, half of them at most.
    EchoP50Us,
    /// The same, 99 % of them at most.
    EchoP99Us,
    /// CPU time of the server for one message.
    CpuUs,
    /// Connections in a second.
    ConnectsPerS,
    /// From the connect to the answer, 99 % of them at most.
    ConnectP99Ms,
    /// Memory of the server for a connection on which nothing was sent.
    IdleBytes,
    /// The same, after a message of 32 KiB and its echo.
    UsedBytes,
    /// Memory of the server with all connections idle.
    ProcessMb,
    /// From the order to the last byte, as read by the peers.
    LastByteMs,
    /// The silence beyond what is allowed, half of them at most, by the server's report.
    LateP50Ms,
    /// The same, 99 % of them at most.
    LateP99Ms,
    /// The same, all of them at most.
    LateMaxMs,
    /// The same as seen by the peers, 99 % of them at most.
    SeenP99Ms,
    /// CPU time of the server, percent of a core.
    CpuPercent,
}

impl peers::frame::Metric for Metric {
    const ALL: &'static [Self] = &[
        Metric::MessagesPerS,
        Metric::EchoP50Us,
        Metric::EchoP99Us,
        Metric::CpuUs,
        Metric::ConnectsPerS,
        Metric::ConnectP99Ms,
        Metric::IdleBytes,
        Metric::UsedBytes,
        Metric::ProcessMb,
        Metric::LastByteMs,
        Metric::LateP50Ms,
        Metric::LateP99Ms,
        Metric::LateMaxMs,
        Metric::SeenP99Ms,
        Metric::CpuPercent,
    ];

    fn title(self) -> &'static str {
        match self {
            Metric::MessagesPerS => "k msgs/s",
            Metric::EchoP50Us => "us p50",
            Metric::EchoP99Us | Metric::LateP99Ms => "p99",
            Metric::CpuUs => "CPU us/msg",
            Metric::ConnectsPerS => "k connects/s",
            Metric::ConnectP99Ms => "ms p99",
            Metric::IdleBytes => "bytes idle",
            Metric::UsedBytes => "after 32 KiB",
            Metric::ProcessMb => "MB in all",
            Metric::LastByteMs => "ms to last",
            Metric::LateP50Ms => "late ms p50",
            Metric::LateMaxMs => "max",
            Metric::SeenP99Ms => "p99 as seen",
            Metric::CpuPercent => "CPU %",
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Metric::MessagesPerS | Metric::ConnectsPerS => format!("{:.1}", value / 1e3),
            Metric::IdleBytes | Metric::UsedBytes => format!("{value:.0}"),
            Metric::EchoP50Us | Metric::EchoP99Us | Metric::ProcessMb => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use peers::frame::rows::{Row, Sample, rows_of};

    use super::*;
    use crate::Serving;
    use crate::candidate::Candidate;

    #[test]
    fn a_row_is_the_median_of_the_rounds() {
        let setting = Setting {
            scenario: Scenario::Echo,
            connections: 64,
            in_flight: 16,
        };
        let rounds = [4.0, 100.0, 1.0].map(|value| {
            vec![Sample {
                metric: Metric::CpuUs,
                value,
            }]
        });
        let rows: Vec<Row<Serving>> = rows_of(setting, Candidate::Floor, &rounds).collect();
        assert_eq!((rows.len(), rows[0].value), (1, 4.0));
        let json = serde_json::to_string(&rows[0]).expect("a row can be written");
        assert_eq!(
            json,
            r#"{"scenario":"echo","connections":64,"in_flight":16,"candidate":"floor","metric":"cpu_us","value":4.0}"#
        );
    }
}
