//! The ratios and limits that the library is to keep.

use peers::frame::report::{self, Goal};
use peers::frame::rows::Row;

use crate::Durable;
use crate::candidate::Candidate::{
    self, Bullmq, BullmqRust, FloorMove, FloorSet, FloorSetPipelined, Liveness,
};
use crate::setting::Metric::{
    self, BytesPerEvent, EventsPerS, LateP50Ms, LateP99Ms, ReadsPer100, ReadsPerS, ServerUs,
};
use crate::setting::Scenario::{self, Drain, Due, Emit, EmitMany, Idle, Start};
use crate::setting::Setting;

/// One target.
struct Target {
    /// What it is about.
    name: &'static str,
    /// The least, or the most.
    goal: Goal,
    /// Computes it from the rows, where they are there.
    value: fn(&Values<'_>) -> Option<f64>,
}

/// The rows, to look values up.
struct Values<'a>(&'a [Row<Durable>]);

impl Values<'_> {
    /// A value where the server makes an fsync each second.
    fn of(&self, scenario: Scenario, at_once: usize, who: Candidate, what: Metric) -> Option<f64> {
        self.find(scenario, at_once, false, who, what)
    }

    /// A rate where the server makes an fsync for each write.
    fn always(&self, scenario: Scenario, at_once: usize, who: Candidate) -> Option<f64> {
        self.find(scenario, at_once, true, who, EventsPerS)
    }

    /// A rate where the server makes an fsync each second.
    fn rate(&self, scenario: Scenario, at_once: usize, who: Candidate) -> Option<f64> {
        self.of(scenario, at_once, who, EventsPerS)
    }

    /// The highest rate of a drain, with however many at once.
    fn fastest_drain(&self, who: Candidate) -> Option<f64> {
        let rates = [1, 8, 100]
            .into_iter()
            .filter_map(|at_once| self.rate(Drain, at_once, who));
        rates.reduce(f64::max)
    }

    /// Any value.
    fn find(
        &self,
        scenario: Scenario,
        at_once: usize,
        always: bool,
        who: Candidate,
        what: Metric,
    ) -> Option<f64> {
        let setting = Setting {
            scenario,
            at_once,
            always,
        };
        let mut rows = self.0.iter();
        rows.find(|row| (row.setting, row.candidate, row.metric) == (setting, who, what))
            .map(|row| row.value)
    }
}

/// `value` divided by `other`.
fn ratio(value: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(value? / other?)
}

/// Returns the targets whose values were measured.
pub(crate) fn targets(rows: &[Row<Durable>]) -> Vec<report::Target> {
    let measured = TARGETS.iter().filter_map(|target| {
        Some(report::Target {
            name: target.name.to_owned(),
            goal: target.goal,
            value: (target.value)(&Values(rows))?,
        })
    });
    measured.collect()
}

/// All targets.
const TARGETS: [Target; 20] = [
    Target {
        name: "emit, 1 at once / SET -c 1",
        goal: Goal::AtLeast(0.85),
        value: |v| ratio(v.rate(Emit, 1, Liveness), v.rate(Emit, 1, FloorSet)),
    },
    Target {
        name: "emit, 8 at once / 1 at once",
        goal: Goal::AtLeast(2.5),
        value: |v| ratio(v.rate(Emit, 8, Liveness), v.rate(Emit, 1, Liveness)),
    },
    Target {
        name: "emit, 32 at once / 1 at once",
        goal: Goal::AtLeast(5.0),
        value: |v| ratio(v.rate(Emit, 32, Liveness), v.rate(Emit, 1, Liveness)),
    },
    Target {
        name: "emit_many / SET -P 100",
        goal: Goal::AtLeast(0.45),
        value: |v| {
            ratio(
                v.rate(EmitMany, 1, Liveness),
                v.rate(EmitMany, 1, FloorSetPipelined),
            )
        },
    },
    Target {
        name: "emit_many / BullMQ addBulk",
        goal: Goal::AtLeast(5.0),
        value: |v| ratio(v.rate(EmitMany, 1, Liveness), v.rate(EmitMany, 1, Bullmq)),
    },
    Target {
        name: "emit_many: server CPU, us an event",
        goal: Goal::AtMost(4.5),
        value: |v| v.of(EmitMany, 1, Liveness, ServerUs),
    },
    Target {
        name: "bytes of a waiting event, payload of 100 included",
        goal: Goal::AtMost(300.0),
        value: |v| v.of(EmitMany, 1, Liveness, BytesPerEvent),
    },
    Target {
        name: "drain, 8 workers / moving 200 ids",
        goal: Goal::AtLeast(0.25),
        value: |v| ratio(v.rate(Drain, 8, Liveness), v.rate(Drain, 8, FloorMove)),
    },
    Target {
        name: "drain, 8 workers / BullMQ at its fastest",
        goal: Goal::AtLeast(5.0),
        value: |v| ratio(v.rate(Drain, 8, Liveness), v.fastest_drain(Bullmq)),
    },
    Target {
        name: "drain, 8 workers / bullmq-official at its fastest",
        goal: Goal::AtLeast(4.0),
        value: |v| ratio(v.rate(Drain, 8, Liveness), v.fastest_drain(BullmqRust)),
    },
    Target {
        name: "drain: server CPU, us an event",
        goal: Goal::AtMost(4.5),
        value: |v| v.of(Drain, 8, Liveness, ServerUs),
    },
    Target {
        name: "drain: reads of the server for 100 events",
        goal: Goal::AtMost(2.0),
        value: |v| v.of(Drain, 8, Liveness, ReadsPer100),
    },
    Target {
        name: "due to start, p50 ms",
        goal: Goal::AtMost(0.6),
        value: |v| v.of(Due, 8, Liveness, LateP50Ms),
    },
    Target {
        name: "due to start, p99 ms",
        goal: Goal::AtMost(1.5),
        value: |v| v.of(Due, 8, Liveness, LateP99Ms),
    },
    Target {
        name: "emit to start, p50 ms",
        goal: Goal::AtMost(0.5),
        value: |v| v.of(Start, 8, Liveness, LateP50Ms),
    },
    Target {
        name: "emit to start, p99 ms",
        goal: Goal::AtMost(1.5),
        value: |v| v.of(Start, 8, Liveness, LateP99Ms),
    },
    Target {
        name: "idle: calls a second",
        goal: Goal::AtMost(0.5),
        value: |v| v.of(Idle, 8, Liveness, ReadsPerS),
    },
    Target {
        name: "always: emit, 1 at once / SET -c 1",
        goal: Goal::AtLeast(0.65),
        value: |v| ratio(v.always(Emit, 1, Liveness), v.always(Emit, 1, FloorSet)),
    },
    Target {
        name: "always: emit_many / everysec",
        goal: Goal::AtLeast(0.5),
        value: |v| {
            ratio(
                v.always(EmitMany, 1, Liveness),
                v.rate(EmitMany, 1, Liveness),
            )
        },
    },
    Target {
        name: "always: drain, 8 workers / everysec",
        goal: Goal::AtLeast(0.5),
        value: |v| ratio(v.always(Drain, 8, Liveness), v.rate(Drain, 8, Liveness)),
    },
];
