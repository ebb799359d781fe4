//! `beat`, `beat_many`, `handle` and `per_key_timeout`: how many beats a second, and what each costs.
//!
//! All keys are watched before the clock starts; it stops when everything that was sent is applied. The CPU time is
//! that of the whole process, producers and the candidate's threads together.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BEAT, FILL, NEVER, keys_of, start, watching};
use crate::candidate::{BeatMany, Candidate, Handles, OwnTimeouts, Report};
use crate::job::{Answer, Job, Metric};
use crate::key;
use crate::process::CpuTime;

/// How many keys a call of `beat_many` is given.
const CHUNK: usize = 256;

/// How many different timeouts keys have that have their own.
const TIMEOUTS: u64 = 400;

/// One beat at a time.
pub(crate) fn single<C: Candidate>(job: &Job) -> Answer {
    let candidate = watching::<C>(job);
    let keys = keys_of::<C>(job, BEAT);
    let answer = measure(job, &candidate, &keys, 1, |key| candidate.beat(key));
    // The process ends anyway; taking a million keys down one by one would only delay it.
    std::mem::forget(candidate);
    answer
}

/// One beat at a time, of keys that have timeouts of their own.
pub(crate) fn own_timeouts<C: OwnTimeouts>(job: &Job) -> Answer {
    let candidate = start::<C>(job, NEVER, Report::new(|_| {}));
    for (extra, key) in (0..TIMEOUTS).cycle().zip(&keys_of::<C>(job, FILL)) {
        candidate.beat_with(key, NEVER + Duration::from_secs(extra));
    }
    candidate.settle();
    let keys = keys_of::<C>(job, BEAT);
    let answer = measure(job, &candidate, &keys, 1, |key| candidate.beat(key));
    std::mem::forget(candidate);
    answer
}

/// Many beats at a time.
pub(crate) fn many<C: BeatMany>(job: &Job) -> Answer {
    let candidate = watching::<C>(job);
    let keys = keys_of::<C>(job, BEAT);
    let chunks: Vec<&[C::Key]> = keys.chunks_exact(CHUNK.min(keys.len())).collect();
    let size = chunks[0].len() as u64;
    let answer = measure(job, &candidate, &chunks, size, |chunk| {
        candidate.beat_many(chunk);
    });
    std::mem::forget(candidate);
    answer
}

/// Beats by handles.
pub(crate) fn by_handle<C: Handles>(job: &Job) -> Answer {
    let candidate = start::<C>(job, NEVER, Report::new(|_| {}));
    let keys = keys_of::<C>(job, FILL);
    let mut handles: Vec<C::Handle> = keys.iter().map(|key| candidate.handle(key)).collect();
    // What they point to was allocated in their order.
    key::shuffle(&mut handles, BEAT);
    candidate.settle();
    let answer = measure(job, &candidate, &handles, 1, |handle| {
        candidate.beat_by(handle);
    });
    std::mem::forget((candidate, handles));
    answer
}

/// Producers call `beat` with `items` round and round, each from a place of its own, until the time is over. A call
/// makes `beats` beats.
fn measure<C: Candidate, T: Sync>(
    job: &Job,
    candidate: &C,
    items: &[T],
    beats: u64,
    beat: impl Fn(&T) + Sync,
) -> Answer {
    let (ready, is_over) = (Barrier::new(job.producers + 1), AtomicBool::new(false));
    let (ready, is_over, beat) = (&ready, &is_over, &beat);
    let (calls, elapsed, cpu) = thread::scope(|scope| {
        let producers: Vec<_> = (0..job.producers)
            .map(|n| {
                scope.spawn(move || {
                    let items = items.iter().cycle().skip(items.len() / job.producers * n);
                    let mut calls = 0;
                    ready.wait();
                    for item in items {
                        beat(item);
                        calls += 1;
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    calls
                })
            })
            .collect();
        ready.wait();
        let (began, cpu) = (Instant::now(), CpuTime::start());
        thread::sleep(job.duration());
        is_over.store(true, Ordering::Relaxed);
        let calls: u64 = producers
            .into_iter()
            .map(|producer| producer.join().expect("no producer panics"))
            .sum();
        candidate.settle();
        (calls, began.elapsed(), cpu.elapsed())
    });
    let count = (calls * beats) as f64;
    let mut answer = Answer::default();
    answer.add(Metric::BeatsPerS, count / elapsed.as_secs_f64());
    answer.add(Metric::CpuNsPerBeat, cpu.as_nanos() as f64 / count);
    answer
}
