//! `memory` and `idle`: what watched keys take, and what they cost while nothing happens.

use std::thread;
use std::time::Duration;

use super::{FILL, NEVER, start};
use crate::candidate::{Candidate, Report};
use crate::job::{Answer, Job, Metric};
use crate::key;
use crate::process::{self, CpuTime};

/// How long threads get to come to rest.
const COME_TO_REST: Duration = Duration::from_millis(500);

/// Resident memory for each key, the key itself included. Each key beats twice, so that what buffers there are, are
/// there; keys are made one at a time, so that the harness keeps none.
pub(crate) fn memory<C: Candidate>(job: &Job) -> Answer {
    let order = key::shuffled(job.keys, FILL);
    let before = process::resident_bytes();
    let candidate = fill::<C>(job, &order);
    thread::sleep(COME_TO_REST);
    let bytes = process::resident_bytes().saturating_sub(before);
    std::mem::forget(candidate);
    let mut answer = Answer::default();
    answer.add(Metric::BytesPerKey, bytes as f64 / job.keys as f64);
    answer
}

/// Wake-ups and CPU time while keys with a timeout of an hour are watched and nobody beats.
pub(crate) fn idle<C: Candidate>(job: &Job) -> Answer {
    let candidate = fill::<C>(job, &key::shuffled(job.keys, FILL));
    thread::sleep(COME_TO_REST);
    // The CPU time is read last and first, so that looking for wake-ups is not in it.
    let waits = process::waits_of_others();
    let cpu = CpuTime::start();
    thread::sleep(job.duration());
    let busy = cpu.elapsed();
    let waited = process::waits_of_others() - waits;
    std::mem::forget(candidate);
    let seconds = job.duration().as_secs_f64();
    let mut answer = Answer::default();
    answer.add(Metric::WakeupsPerS, waited as f64 / seconds);
    answer.add(Metric::CpuCores, busy.as_secs_f64() / seconds);
    answer
}

/// A candidate that watches keys `order`, each of which beat twice.
fn fill<C: Candidate>(job: &Job, order: &[usize]) -> C {
    let candidate = start::<C>(job, NEVER, Report::new(|_| {}));
    for _ in 0..2 {
        for index in order {
            candidate.beat(&C::key(key::name(*index)));
        }
        candidate.settle();
    }
    candidate
}
