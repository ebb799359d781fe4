//! `check`: does a candidate do the job at all? Each dead key is reported exactly once for each death and not before
//! its deadline, no living key is reported. Runs before anything is measured, and as a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{FILL, keys_of, start};
use crate::candidate::{BeatMany, Candidate, Clock, Handles, OwnTimeouts, Report, nanos};
use crate::candidates::{with_beat_many, with_candidate, with_handles};
use crate::job::{Answer, Job};
use crate::key;

/// Long enough that a busy machine does not make living keys look dead.
const TIMEOUT: Duration = Duration::from_millis(600);

/// How often the living beat.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the slowest candidate gets to report the dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen of each key.
#[derive(Default)]
struct Life {
    /// When it last beat.
    beat_ns: AtomicU64,
    /// How long it may be silent.
    timeout_ns: AtomicU64,
    /// How often it was reported.
    reports: AtomicUsize,
    /// How often that was early.
    early: AtomicUsize,
}

/// The keys by number, and the time.
struct Lives {
    /// The keys.
    keys: Vec<Life>,
    /// The time.
    clock: Clock,
}

impl Lives {
    /// How many, and where to report them.
    fn new(keys: usize) -> (Arc<Self>, Report) {
        let lives = Arc::new(Lives {
            keys: (0..keys).map(|_| Life::default()).collect(),
            clock: Clock::new(),
        });
        let reported = lives.clone();
        let report = Report::new(move |name| {
            let life = &reported.keys[key::index_of(name)];
            let silent_ns = reported.clock.now_ns() - life.beat_ns.load(Ordering::Acquire);
            let is_early = silent_ns < life.timeout_ns.load(Ordering::Acquire);
            life.early
                .fetch_add(usize::from(is_early), Ordering::AcqRel);
            life.reports.fetch_add(1, Ordering::AcqRel);
        });
        (lives, report)
    }

    /// `key` is about to beat.
    fn beats(&self, key: &[u8], timeout: Duration) {
        let life = &self.keys[key::index_of(key)];
        life.timeout_ns.store(nanos(timeout), Ordering::Release);
        life.beat_ns.store(self.clock.now_ns(), Ordering::Release);
    }

    /// Whether each of `keys` was reported `times` times.
    fn are_reported<K: AsRef<[u8]>>(&self, keys: &[K], times: usize) -> bool {
        self.count_other_than(keys, times) == 0
    }

    /// How many of `keys` were not reported exactly `times` times.
    fn count_other_than<K: AsRef<[u8]>>(&self, keys: &[K], times: usize) -> usize {
        let reports = |key: &K| &self.keys[key::index_of(key.as_ref())].reports;
        keys.iter()
            .filter(|key| reports(key).load(Ordering::Acquire) != times)
            .count()
    }

    /// How many reports came before their deadline.
    fn early(&self) -> usize {
        self.keys
            .iter()
            .map(|life| life.early.load(Ordering::Acquire))
            .sum()
    }
}

/// See above. What is wrong is in the notes. The parts run side by side, as each of them mostly waits.
pub(crate) fn check<C: Candidate>(job: &Job) -> Answer {
    let mut answer = Answer::default();
    thread::scope(|scope| {
        let parts = [
            scope.spawn(|| by_beats::<C>(job)),
            scope.spawn(|| {
                with_candidate!(job.candidate, Own, by_own_timeouts(job)).unwrap_or_default()
            }),
            // Those that have no such thing have nothing to prove.
            scope.spawn(|| with_beat_many!(job.candidate, by_many(job)).unwrap_or_default()),
            scope.spawn(|| with_handles!(job.candidate, by_handles(job)).unwrap_or_default()),
        ];
        for part in parts {
            match part.join() {
                Ok(part) => answer.notes.extend(part.notes),
                Err(_) => answer.notes.push("it panicked".to_owned()),
            }
        }
    });
    answer
}

/// Half of the keys die, come back, and die again; the others live until the end.
fn by_beats<C: Candidate>(job: &Job) -> Answer {
    let mut answer = Answer::default();
    let (lives, report) = Lives::new(job.keys);
    let candidate = start::<C>(job, TIMEOUT, report);
    let keys = keys_of::<C>(job, FILL);
    let (living, dying) = keys.split_at(keys.len() / 2);
    let beat = |keys: &[C::Key]| {
        for key in keys {
            lives.beats(key.as_ref(), TIMEOUT);
            candidate.beat(key);
        }
    };
    for death in 1..=2 {
        beat(dying);
        keep_alive(|| beat(living), || lives.are_reported(dying, death));
        // Time for who reports twice to do so.
        let again = Instant::now() + PAUSE * 2;
        keep_alive(|| beat(living), || Instant::now() > again);
        answer.note_if(
            lives.count_other_than(dying, death),
            "dead keys were not reported once",
        );
        answer.note_if(
            lives.count_other_than(living, 0),
            "living keys were reported",
        );
    }
    keep_alive(|| {}, || lives.are_reported(living, 1));
    answer.note_if(
        lives.count_other_than(living, 1),
        "keys that died last were not reported once",
    );
    answer.note_if(lives.early(), "reports were early");
    answer
}

/// Keys with two timeouts of their own die.
fn by_own_timeouts<C: OwnTimeouts>(job: &Job) -> Answer {
    let mut answer = Answer::default();
    let (lives, report) = Lives::new(job.keys);
    let candidate = start::<C>(job, TIMEOUT, report);
    let keys = keys_of::<C>(job, FILL);
    for (i, key) in keys.iter().enumerate() {
        let timeout = TIMEOUT * (1 + i as u32 % 2);
        lives.beats(key.as_ref(), timeout);
        candidate.beat_with(key, timeout);
    }
    // A plain beat keeps the timeout.
    thread::sleep(PAUSE);
    for (i, key) in keys.iter().enumerate() {
        lives.beats(key.as_ref(), TIMEOUT * (1 + i as u32 % 2));
        candidate.beat(key);
    }
    keep_alive(|| {}, || lives.are_reported(&keys, 1));
    answer.note_if(
        lives.count_other_than(&keys, 1),
        "keys with individual timeouts were not reported once",
    );
    answer.note_if(
        lives.early(),
        "keys with individual timeouts were reported early",
    );
    answer
}

/// Keys that beat by the chunk live on, and are reported once they do not.
fn by_many<C: BeatMany>(job: &Job) -> Answer {
    let mut answer = Answer::default();
    let (lives, report) = Lives::new(job.keys);
    let candidate = start::<C>(job, TIMEOUT, report);
    let keys = keys_of::<C>(job, FILL);
    let until = Instant::now() + TIMEOUT * 2;
    keep_alive(
        || {
            for key in &keys {
                lives.beats(key.as_ref(), TIMEOUT);
            }
            candidate.beat_many(&keys);
        },
        || Instant::now() > until,
    );
    answer.note_if(
        lives.count_other_than(&keys, 0),
        "keys that beat in chunks were reported",
    );
    keep_alive(|| {}, || lives.are_reported(&keys, 1));
    answer.note_if(
        lives.count_other_than(&keys, 1),
        "keys of a chunk were not reported once",
    );
    answer
}

/// Keys that beat by their handles live on, and are reported once they do not.
fn by_handles<C: Handles>(job: &Job) -> Answer {
    let mut answer = Answer::default();
    let (lives, report) = Lives::new(job.keys);
    let candidate = start::<C>(job, TIMEOUT, report);
    let keys = keys_of::<C>(job, FILL);
    let handles: Vec<C::Handle> = keys.iter().map(|key| candidate.handle(key)).collect();
    let until = Instant::now() + TIMEOUT * 2;
    keep_alive(
        || {
            for (key, handle) in keys.iter().zip(&handles) {
                lives.beats(key.as_ref(), TIMEOUT);
                candidate.beat_by(handle);
            }
        },
        || Instant::now() > until,
    );
    answer.note_if(
        lives.count_other_than(&keys, 0),
        "keys that beat by a handle were reported",
    );
    keep_alive(|| {}, || lives.are_reported(&keys, 1));
    answer.note_if(
        lives.count_other_than(&keys, 1),
        "keys with a handle were not reported once",
    );
    answer.note_if(lives.early(), "keys with a handle were reported early");
    answer
}

/// Calls `beat` every now and then until `is_done`, or patience is over.
fn keep_alive(beat: impl Fn(), is_done: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_done() && Instant::now() < give_up {
        beat();
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::run;
    use crate::candidates::Kind;
    use crate::job::{Job, Scenario};

    /// Runs the check on `candidate`.
    fn assert_does_the_job(candidate: Kind) {
        let job = Job {
            scenario: Scenario::Check,
            candidate,
            keys: 1_000,
            producers: 1,
            workers: 2,
            millis: 0,
        };
        let answer = run(&job).expect("every candidate can be checked");
        assert!(answer.notes.is_empty(), "{candidate:?}: {:?}", answer.notes);
    }

    #[test]
    fn liveness_does_the_job() {
        assert_does_the_job(Kind::Liveness);
    }

    #[test]
    fn moka_does_the_job() {
        assert_does_the_job(Kind::Moka);
    }

    #[test]
    fn delay_queue_does_the_job() {
        assert_does_the_job(Kind::DelayQueue);
    }

    #[test]
    fn delay_queue_lazy_does_the_job() {
        assert_does_the_job(Kind::DelayQueueLazy);
    }

    #[test]
    fn hash_wheel_does_the_job() {
        assert_does_the_job(Kind::HashWheel);
    }

    #[test]
    fn dashmap_does_the_job() {
        assert_does_the_job(Kind::Dashmap);
    }

    #[test]
    fn linked_map_does_the_job() {
        assert_does_the_job(Kind::LinkedMap);
    }

    #[test]
    fn beatwise_does_the_job() {
        assert_does_the_job(Kind::Beatwise);
    }

    #[test]
    fn naive_does_the_job() {
        assert_does_the_job(Kind::Naive);
    }
}
