//! `steady`: every key beats twice a second, one in a thousand dies at each turn, the timeout is a second. How late is
//! a death reported, and what does all of it cost?
//!
//! Each producer owns a share of the keys and beats them evenly over the period, a few every 5 ms. A key that dies
//! skips its beats until it is reported, and then beats again: the number of keys stays the same. The lateness of a
//! report is that after its deadline, counted from just before the call that made the last beat. The CPU time is that
//! of the whole process, producers included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{BEAT, start};
use crate::candidate::{Candidate, Clock, Report, nanos};
use crate::floors;
use crate::job::{Answer, Job, Metric};
use crate::key::{self, Random};
use crate::process::CpuTime;

/// How often a key beats.
const PERIOD: Duration = Duration::from_millis(500);

/// The longest silence.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How often a producer wakes to make a few beats.
const TURN: Duration = Duration::from_millis(5);

/// One key in so many dies, at each of its turns.
const ONE_IN: usize = 1_000;

/// How long it runs before it counts: the first deaths are reported by then.
const WARM_UP: Duration = Duration::from_millis(1_500);

/// How long, after the end, a candidate gets to report those who are dead.
const PATIENCE: Duration = Duration::from_secs(4);

/// A key that beats at its turns.
const ALIVE: u8 = 0;

/// A key that skips its turns.
const DEAD: u8 = 1;

/// A key that was reported, and so is not watched: at its next turn it has to beat before it may die again.
const REPORTED: u8 = 2;

/// What is known of each key.
#[derive(Default)]
struct Life {
    /// When it last beat.
    beat_ns: AtomicU64,
    /// [`ALIVE`], [`DEAD`] or [`REPORTED`].
    state: AtomicU8,
}

/// What producers, callback and scenario share.
struct Lives {
    /// The keys by number.
    keys: Vec<Life>,
    /// How late each report was that counts, in nanoseconds.
    late_ns: Mutex<Vec<u64>>,
    /// Reports of keys that were alive.
    wrong: AtomicUsize,
    /// Whether reports count.
    counts: AtomicBool,
    /// Whether no further key dies.
    is_over: AtomicBool,
    /// Whether producers end.
    stop: AtomicBool,
    /// The time.
    clock: Clock,
}

impl Lives {
    /// This many keys, all alive.
    fn new(keys: usize) -> Self {
        Lives {
            keys: (0..keys).map(|_| Life::default()).collect(),
            late_ns: Mutex::new(Vec::new()),
            wrong: AtomicUsize::new(0),
            counts: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            clock: Clock::new(),
        }
    }

    /// The key called `name` is reported.
    fn reported(&self, name: &[u8]) {
        let now_ns = self.clock.now_ns();
        let life = &self.keys[key::index_of(name)];
        let deadline_ns = life.beat_ns.load(Ordering::Acquire) + nanos(TIMEOUT);
        if life.state.load(Ordering::Acquire) != DEAD || now_ns < deadline_ns {
            self.wrong.fetch_add(1, Ordering::AcqRel);
            return;
        }
        if self.counts.load(Ordering::Acquire) {
            self.late_ns.lock().push(now_ns - deadline_ns);
        }
        life.state.store(REPORTED, Ordering::Release);
    }

    /// How many keys wait to be reported.
    fn dead(&self) -> usize {
        let is_dead = |life: &&Life| life.state.load(Ordering::Acquire) == DEAD;
        self.keys.iter().filter(is_dead).count()
    }

    /// Producer `n` of `producers`: beats its share of the keys, evenly over the period, by `beat`.
    fn produce(&self, n: usize, producers: usize, mut beat: impl FnMut(usize)) {
        let mine: Vec<usize> = key::shuffled(self.keys.len(), BEAT)
            .into_iter()
            .filter(|index| index % producers == n)
            .collect();
        let turns = (PERIOD.as_nanos() / TURN.as_nanos()) as usize;
        let (began, mut random) = (Instant::now(), Random::new(3 + n as u64));
        for turn in 0.. {
            let part = mine.len() * (turn % turns) / turns..mine.len() * (turn % turns + 1) / turns;
            for &index in &mine[part] {
                let life = &self.keys[index];
                let state = life.state.load(Ordering::Acquire);
                // In the first two periods everybody lives, so that everybody is known.
                let may_die =
                    state == ALIVE && turn >= 2 * turns && !self.is_over.load(Ordering::Relaxed);
                if state == DEAD {
                    continue;
                }
                if may_die && random.below(ONE_IN) == 0 {
                    life.state.store(DEAD, Ordering::Release);
                    continue;
                }
                life.beat_ns.store(self.clock.now_ns(), Ordering::Release);
                life.state.store(ALIVE, Ordering::Release);
                beat(index);
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let next = began + TURN * (turn + 1) as u32;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// See above.
pub(crate) fn steady<C: Candidate>(job: &Job) -> Answer {
    let lives = Arc::new(Lives::new(job.keys));
    let reported = lives.clone();
    let report = Report::new(move |name| reported.reported(name));
    let candidate = start::<C>(job, TIMEOUT, report);
    let keys: Vec<C::Key> = (0..job.keys)
        .map(|index| C::key(key::name(index)))
        .collect();
    let mut answer = Answer::default();
    thread::scope(|scope| {
        for n in 0..job.producers {
            let (lives, candidate, keys) = (&lives, &candidate, &keys);
            scope.spawn(move || {
                lives.produce(n, job.producers, |index| candidate.beat(&keys[index]));
            });
        }
        thread::sleep(WARM_UP);
        let cpu = CpuTime::start();
        lives.counts.store(true, Ordering::Release);
        thread::sleep(job.duration());
        lives.counts.store(false, Ordering::Release);
        let busy = cpu.elapsed();
        answer.add(
            Metric::CpuCores,
            busy.as_secs_f64() / job.duration().as_secs_f64(),
        );
        lives.is_over.store(true, Ordering::Relaxed);
        let give_up = Instant::now() + TIMEOUT + PATIENCE;
        while lives.dead() > 0 && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(20));
        }
        lives.stop.store(true, Ordering::Relaxed);
    });
    answer.note_if(lives.dead(), "dead keys were not reported within 4 s");
    answer.note_if(
        lives.wrong.load(Ordering::Acquire),
        "living keys were reported",
    );
    std::mem::forget(candidate);
    add_lateness(&mut answer, std::mem::take(&mut *lives.late_ns.lock()));
    answer
}

/// The floor: the same producers, whose beats go nowhere, and a thread that sleeps until one deadline after the other,
/// as many as there would be deaths.
pub(crate) fn floor(job: &Job) -> Answer {
    let lives = Lives::new(job.keys);
    let deaths_per_s = (job.keys / ONE_IN).max(1)
        * (Duration::from_secs(1).as_nanos() / PERIOD.as_nanos()) as usize;
    let apart = Duration::from_secs(1) / deaths_per_s as u32;
    let count = (job.duration().as_nanos() / apart.as_nanos()) as usize;
    lives.is_over.store(true, Ordering::Relaxed);
    let mut answer = Answer::default();
    thread::scope(|scope| {
        for n in 0..job.producers {
            let lives = &lives;
            scope.spawn(move || lives.produce(n, job.producers, |_| {}));
        }
        thread::sleep(PERIOD);
        let (began, cpu) = (Instant::now(), CpuTime::start());
        let late_ns = floors::sleeps(count, apart);
        let busy = cpu.elapsed();
        answer.add(
            Metric::CpuCores,
            busy.as_secs_f64() / began.elapsed().as_secs_f64(),
        );
        add_lateness(&mut answer, late_ns);
        lives.stop.store(true, Ordering::Relaxed);
    });
    answer
}

/// Adds the quantiles of `late_ns`, each by its nearest rank.
fn add_lateness(answer: &mut Answer, mut late_ns: Vec<u64>) {
    late_ns.sort_unstable();
    if late_ns.is_empty() {
        answer.notes.push("no key was reported in time".to_owned());
        return;
    }
    for (metric, quantile) in [
        (Metric::LateP50Ms, 0.5),
        (Metric::LateP99Ms, 0.99),
        (Metric::MaxLateMs, 1.0),
    ] {
        #[expect(clippy::cast_sign_loss, reason = "a quantile is at least zero")]
        let rank = (late_ns.len() as f64 * quantile).ceil() as usize;
        answer.add(metric, late_ns[rank.max(1) - 1] as f64 / 1e6);
    }
}
