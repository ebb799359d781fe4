//! Whole watchers under random schedules of their threads. Shuttle chooses at each lock, atomic, park and wait which
//! thread continues. A test names a guarantee, and the explorer searches for a schedule that violates it.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib schedules`. Time is a message: a manual clock that some thread moves.
//! Executions are run in batches, each by a scheduler with a seed of its own. The seed of a batch that fails is
//! appended to `src/models/schedules/kept.txt`, and every later run begins with the seeds kept there.

#[cfg(feature = "dispatch")]
mod dispatcher;
mod early;
mod flush;
#[cfg(feature = "server")]
mod groups;
mod maximum;
mod reentrancy;
mod removal;
#[cfg(feature = "server")]
mod serving;
mod shutdown;
mod wakeup;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{catch_unwind, resume_unwind};
use std::str::FromStr;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::{Builder, EventKind, ManualClock, Stats, Watcher};

/// The timeout of the watchers in the models.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The number of executions that share a seed. The first execution of a batch of the second scheduler only measures.
const BATCH: usize = 25;

/// The number of executions of each model unless `LIVENESS_SCHEDULES` is set.
const SCHEDULES: usize = 500;

/// More steps than any execution takes that does not loop forever.
const MOST_STEPS: usize = 100_000;

/// The file of the seeds of failed batches: a model, a scheduler and a seed on each line.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/schedules/kept.txt");

/// How the next thread is chosen.
#[derive(Clone, Copy, Debug)]
enum Scheduler {
    /// Any thread that can run, with equal probability.
    Random,
    /// The thread of the highest priority, which changes only a few times (probabilistic concurrency testing). Finds
    /// faults that require one thread to be delayed for long.
    Pct,
}

impl Scheduler {
    /// Explores a batch of executions of `model`.
    fn explore(self, seed: u64, model: fn()) {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        config.max_steps = shuttle::MaxSteps::FailAfter(MOST_STEPS);
        config.silence_warnings = true;
        match self {
            Scheduler::Random => {
                Runner::new(RandomScheduler::new_from_seed(seed, BATCH), config).run(model)
            }
            Scheduler::Pct => {
                Runner::new(PctScheduler::new_from_seed(seed, 3, BATCH), config).run(model)
            }
        };
    }
}

/// Returns the environment variable `name` as a number, or `default`.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| {
        given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {given}"))
    })
}

/// Explores the stored seeds of the model called `name`, then as many new ones as requested.
fn explore(name: &str, model: fn()) {
    let kept = fs::read_to_string(KEPT).expect("the kept seeds are there");
    for line in kept.lines().filter(|line| !line.starts_with('#')) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [whose, scheduler, seed] if whose == name => {
                let scheduler = match scheduler {
                    "Random" => Scheduler::Random,
                    "Pct" => Scheduler::Pct,
                    _ => panic!("no such scheduler: {line}"),
                };
                scheduler.explore(seed.parse().expect("a seed is a number"), model);
            }
            [_, _, _] => {}
            _ => panic!("not a model, a scheduler and a seed: {line}"),
        }
    }
    let first = setting("LIVENESS_SEED", 0);
    let batches = setting("LIVENESS_SCHEDULES", SCHEDULES).div_ceil(2 * BATCH) as u64;
    for seed in first..first + batches {
        for scheduler in [Scheduler::Random, Scheduler::Pct] {
            if let Err(panic) = catch_unwind(|| scheduler.explore(seed, model)) {
                keep(&format!("{name} {scheduler:?} {seed}"));
                resume_unwind(panic);
            }
        }
    }
}

/// Stores a seed, unless it is stored already.
fn keep(line: &str) {
    eprintln!("kept in {KEPT}: {line}");
    let kept = fs::read_to_string(KEPT).unwrap_or_default();
    if !kept.lines().any(|kept| kept == line) {
        let mut file = OpenOptions::new().append(true).open(KEPT).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Returns options of a watcher whose threads are scheduled and whose keys are hashed by the explorer's seed.
fn builder(clock: &ManualClock, workers: usize, inbox_capacity: usize) -> Builder<u64> {
    Watcher::builder()
        .timeout(TIMEOUT)
        .events([EventKind::Expired])
        .clock(clock.clone())
        .workers(workers)
        .inbox_capacity(inbox_capacity)
        .seed(1)
}

/// Asserts what holds for every watcher at a quiet point, and returns its statistics.
fn quiet(stats: Stats) -> Stats {
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.panics, stats.failed_workers), (0, 0), "{stats:?}");
    stats
}
