//! What is measured: scenarios, settings, metrics.

use peers::frame::Named;
use serde::{Deserialize, Serialize};

/// What is done to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// One event a call.
    Emit,
    /// 200 events a call.
    EmitMany,
    /// Events that wait are handled by a handler that does nothing.
    Drain,
    /// From the due time of an event to its start.
    Due,
    /// From a call in one process to the start in another, idle one.
    Start,
    /// Nothing happens.
    Idle,
}

impl Named for Scenario {
    const ALL: &'static [Self] = &[
        Scenario::Emit,
        Scenario::EmitMany,
        Scenario::Drain,
        Scenario::Due,
        Scenario::Start,
        Scenario::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Scenario::Emit => "emit",
            Scenario::EmitMany => "emit_many",
            Scenario::Drain => "drain",
            Scenario::Due => "due",
            Scenario::Start => "start",
            Scenario::Idle => "idle",
        }
    }
}

/// What rows are compared within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// What is done.
    pub(crate) scenario: Scenario,
    /// By how many threads, or with how many calls in flight.
    pub(crate) at_once: usize,
    /// Whether the server makes an fsync for each write, instead of each second.
    pub(crate) always: bool,
}

impl peers::frame::Setting for Setting {
    type Scenario = Scenario;

    fn scenario(self) -> Scenario {
        self.scenario
    }

    fn title(self) -> String {
        let what = match self.scenario {
            Scenario::Emit => format!("emit, {} at once", self.at_once),
            Scenario::EmitMany => "emit_many, 200 events a call".to_owned(),
            Scenario::Drain => format!("drain of no-ops, {} at once", self.at_once),
            Scenario::Due => "due to start".to_owned(),
            Scenario::Start => "emit to start in another, idle process".to_owned(),
            Scenario::Idle => "idle, one topic".to_owned(),
        };
        let fsync = if self.always { "always" } else { "everysec" };
        format!("{what}, appendfsync {fsync}")
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Events in a second.
    EventsPerS,
    /// How long a call took, half of them at most.
    CallP50Us,
    /// How long a call took, 99 % of them at most.
    CallP99Us,
    /// CPU time of the server for one event.
    ServerUs,
    /// CPU time of the client for one event.
    ClientUs,
    /// How often the server read from a connection, for 100 events.
    ReadsPer100,
    /// What the server stores for an event that waits.
    BytesPerEvent,
    /// How late, half of them at most.
    LateP50Ms,
    /// How late, 99 % of them at most.
    LateP99Ms,
    /// How late, all of them at most.
    LateMaxMs,
    /// Commands in a second, those within scripts included.
    CommandsPerS,
    /// How often in a second the server read from a connection.
    ReadsPerS,
    /// CPU time of the client in a second.
    ClientMsPerS,
}

impl peers::frame::Metric for Metric {
    const ALL: &'static [Self] = &[
        Metric::EventsPerS,
        Metric::CallP50Us,
        Metric::CallP99Us,
        Metric::ServerUs,
        Metric::ClientUs,
        Metric::ReadsPer100,
        Metric::BytesPerEvent,
        Metric::LateP50Ms,
        Metric::LateP99Ms,
        Metric::LateMaxMs,
        Metric::CommandsPerS,
        Metric::ReadsPerS,
        Metric::ClientMsPerS,
    ];

    fn title(self) -> &'static str {
        match self {
            Metric::EventsPerS => "k events/s",
            Metric::CallP50Us => "call us p50",
            Metric::CallP99Us | Metric::LateP99Ms => "p99",
            Metric::ServerUs => "server us",
            Metric::ClientUs => "client us",
            Metric::ReadsPer100 => "reads/100",
            Metric::BytesPerEvent => "bytes/event",
            Metric::LateP50Ms => "late ms p50",
            Metric::LateMaxMs => "max",
            Metric::CommandsPerS => "commands/s",
            Metric::ReadsPerS => "reads/s",
            Metric::ClientMsPerS => "client ms/s",
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Metric::EventsPerS => format!("{:.1}", value / 1e3),
            Metric::CallP50Us | Metric::CallP99Us | Metric::BytesPerEvent => format!("{value:.0}"),
            Metric::ServerUs | Metric::ClientUs | Metric::ReadsPer100 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use peers::frame::rows::{Row, Sample, rows_of};

    use super::*;
    use crate::Durable;
    use crate::candidate::Candidate;

    #[test]
    fn a_row_is_the_median_of_the_rounds() {
        let setting = Setting {
            scenario: Scenario::Emit,
            at_once: 1,
            always: false,
        };
        let rounds = [4.0, 100.0, 1.0].map(|value| {
            vec![Sample {
                metric: Metric::ServerUs,
                value,
            }]
        });
        let rows: Vec<Row<Durable>> = rows_of(setting, Candidate::Liveness, &rounds).collect();
        assert_eq!((rows.len(), rows[0].value), (1, 4.0));
        let json = serde_json::to_string(&rows[0]).expect("a row can be written");
        assert_eq!(
            json,
            r#"{"scenario":"emit","at_once":1,"always":false,"candidate":"liveness","metric":"server_us","value":4.0}"#
        );
    }
}
