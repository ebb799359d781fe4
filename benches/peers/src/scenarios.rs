//! The scenarios, each run alone in a process of its own, and what they share.

pub(crate) mod beats;
pub(crate) mod check;
pub(crate) mod mass_expiry;
pub(crate) mod rest;
pub(crate) mod steady;

use std::time::Duration;

use crate::candidate::{Candidate, Config, Report};
use crate::candidates::{Kind, with_beat_many, with_candidate, with_handles};
use crate::floors::{Channels, ClockStore};
use crate::job::{Answer, Job, Scenario};
use crate::key;

/// A timeout that nobody reaches.
const NEVER: Duration = Duration::from_hours(1);

/// The seed of the order in which keys are first watched.
const FILL: u64 = 1;

/// The seed of the order in which they beat. It must be another: tables lay keys out in the order in which they came,
/// and to beat in the same order would walk through memory in sequence.
const BEAT: u64 = 2;

/// Does `job`; `None` if its candidate cannot.
pub(crate) fn run(job: &Job) -> Option<Answer> {
    let result = match job.scenario {
        Scenario::Check => with_candidate!(job.candidate, Uniform, check(job)),
        Scenario::Beat => match job.candidate {
            Kind::FloorChannel => Ok(beats::single::<Channels>(job)),
            candidate => with_candidate!(candidate, Uniform, single(job)),
        },
        Scenario::BeatMany => match job.candidate {
            Kind::FloorChannel => Ok(beats::many::<Channels>(job)),
            candidate => with_beat_many!(candidate, many(job)),
        },
        Scenario::Handle => match job.candidate {
            Kind::FloorClockStore => Ok(beats::by_handle::<ClockStore>(job)),
            candidate => with_handles!(candidate, by_handle(job)),
        },
        Scenario::PerKeyTimeout => with_candidate!(job.candidate, Own, own_timeouts(job)),
        Scenario::MassExpiry => with_candidate!(job.candidate, Uniform, mass_expiry(job)),
        Scenario::Steady => match job.candidate {
            Kind::FloorSleep => Ok(steady::floor(job)),
            candidate => with_candidate!(candidate, Uniform, steady(job)),
        },
        Scenario::Memory => with_candidate!(job.candidate, Uniform, memory(job)),
        Scenario::Idle => with_candidate!(job.candidate, Uniform, idle(job)),
    };
    result.ok()
}

use self::beats::{by_handle, many, own_timeouts, single};
use self::check::check;
use self::mass_expiry::mass_expiry;
use self::rest::{idle, memory};
use self::steady::steady;

/// Returns why `candidate` does not run in `scenario`, or `None` if it does.
pub(crate) fn reason_against(candidate: Kind, scenario: Scenario) -> Option<&'static str> {
    match (scenario, candidate) {
        (Scenario::BeatMany, Kind::Moka | Kind::Dashmap | Kind::Beatwise) => {
            Some("no call for many keys")
        }
        (Scenario::BeatMany, Kind::Naive) => Some("one message per beat, by definition"),
        (Scenario::Handle, Kind::LivenessTsc) => Some("the floor reads the usual clock"),
        (Scenario::Memory | Scenario::Idle, Kind::LivenessTsc) => {
            Some("the clock makes no difference")
        }
        (Scenario::Handle, Kind::Moka | Kind::LinkedMap) => {
            Some("no handles: a beat must look up its key")
        }
        (
            Scenario::Handle,
            Kind::DelayQueue | Kind::DelayQueueLazy | Kind::HashWheel | Kind::Naive,
        ) => Some("a beat is a message: there is nothing to hold on to"),
        _ => None,
    }
}

/// The keys of a job in the order of `seed`.
fn keys_of<C: Candidate>(job: &Job, seed: u64) -> Vec<C::Key> {
    key::shuffled(job.keys, seed)
        .into_iter()
        .map(|index| C::key(key::name(index)))
        .collect()
}

/// A candidate that watches all keys of a job, none of which expires.
fn watching<C: Candidate>(job: &Job) -> C {
    let candidate = start::<C>(job, NEVER, Report::new(|_| {}));
    for key in &keys_of::<C>(job, FILL) {
        candidate.beat(key);
    }
    candidate.settle();
    candidate
}

/// A candidate that watches nobody yet.
fn start<C: Candidate>(job: &Job, timeout: Duration, report: Report) -> C {
    let config = Config {
        keys: job.keys,
        timeout,
        workers: job.workers,
    };
    C::start(&config, report)
}
