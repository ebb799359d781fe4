//! One measurement: what a child process is given, and what it answers.

use std::time::Duration;

use peers::frame::Named;
use serde::{Deserialize, Serialize};

use crate::candidates::Kind;

/// What is done to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Does it do the job at all?
    Check,
    /// Beats one at a time.
    Beat,
    /// Beats 256 at a time.
    BeatMany,
    /// Beats by a handle.
    Handle,
    /// Beats of keys with 400 different timeouts.
    PerKeyTimeout,
    /// All keys die together.
    MassExpiry,
    /// Keys beat evenly, a few die.
    Steady,
    /// What a key takes.
    Memory,
    /// Many keys, and nothing happens.
    Idle,
}

impl Named for Scenario {
    const ALL: &'static [Self] = &[
        Scenario::Beat,
        Scenario::BeatMany,
        Scenario::Handle,
        Scenario::PerKeyTimeout,
        Scenario::MassExpiry,
        Scenario::Steady,
        Scenario::Memory,
        Scenario::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Scenario::Check => "check",
            Scenario::Beat => "beat",
            Scenario::BeatMany => "beat_many",
            Scenario::Handle => "handle",
            Scenario::PerKeyTimeout => "per_key_timeout",
            Scenario::MassExpiry => "mass_expiry",
            Scenario::Steady => "steady",
            Scenario::Memory => "memory",
            Scenario::Idle => "idle",
        }
    }
}

/// What a child process is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to do.
    pub(crate) scenario: Scenario,
    /// To whom.
    pub(crate) candidate: Kind,
    /// How many keys.
    pub(crate) keys: usize,
    /// How many threads beat.
    pub(crate) producers: usize,
    /// How many threads the candidate may use, where that can be chosen.
    pub(crate) workers: usize,
    /// For how long to measure, in milliseconds, where that can be chosen.
    pub(crate) millis: u64,
}

impl Job {
    /// For how long to measure.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Beats taken and applied in a second.
    BeatsPerS,
    /// CPU time of the whole process for one beat.
    CpuNsPerBeat,
    /// From the first deadline to the last report.
    DrainS,
    /// From a deadline to its report, half of them at most.
    LateP50Ms,
    /// 99 % of them at most.
    LateP99Ms,
    /// All of them at most.
    MaxLateMs,
    /// CPU time of the whole process in a second.
    CpuCores,
    /// Resident memory for each key.
    BytesPerKey,
    /// Times in a second that a thread slept and woke.
    WakeupsPerS,
}

/// What a child process answers.
pub(crate) type Answer = peers::frame::rows::Outcome<Metric>;
