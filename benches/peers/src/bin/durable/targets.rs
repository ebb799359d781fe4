//! The ratios and limits that the library is to keep.

use crate::candidate::Candidate::{
    self, Bullmq, BullmqRust, FloorMove, FloorSet, FloorSetPipelined, Liveness,
};
use crate::setting::Metric::{
    self, BytesPerEvent, EventsPerS, LateP50Ms, LateP99Ms, ReadsPer100, ReadsPerS, ServerUs,
};
use crate::setting::Scenario::{self, Drain, Due, Emit, EmitMany, Idle, Start};
use crate::setting::{Row, Setting};

/// One target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// What it is about.
    pub(crate) name: &'static str,
    /// The least, or the most.
    pub(crate) goal: Goal,
    /// Computes it from the rows, where they are there.
    pub(crate) value: fn(&Values<'_>) -> Option<f64>,
}

/// What a value must keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Goal {
    /// Whether `value` keeps it.
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        }
    }
}

/// The rows, to look values up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a>(pub(crate) &'a [Row]);

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

/// All targets.
pub(crate) const TARGETS: [Target; 20] = [
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
