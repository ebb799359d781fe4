//! Whole watchers under random schedules of their threads: shuttle chooses at each lock, atomic, park and wait which
//! thread goes on, so a test names a promise and the explorer looks for a schedule that breaks it.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib schedules`. Time is a message: a manual clock that some thread moves.
//! Executions are run in batches, each by a scheduler with a seed of its own. The seed of a batch that fails is
//! appended to `src/models/schedules/kept.txt`, and every later run begins with the seeds kept there.

mod early;
mod flush;
mod maximum;
mod reentrancy;
mod removal;
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

/// How many executions share a seed. The first of a batch of the second scheduler only measures.
const BATCH: usize = 25;

/// How many executions of each model there are unless `LIVENESS_SCHEDULES` says so.
const SCHEDULES: usize = 500;

/// More steps than any execution takes that does not spin for ever.
const MOST_STEPS: usize = 100_000;

/// Where the seeds of batches that failed are kept: a model, a scheduler and a seed on each line.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/schedules/kept.txt");

/// Who chooses the next thread.
#[derive(Clone, Copy, Debug)]
enum Scheduler {
    /// Any that can run, with equal chances.
    Random,
    /// The one of highest priority, which changes but a few times (probabilistic concurrency testing): finds what needs
    /// one thread to be held up for long.
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

/// The environment variable `name` as a number, or `default`.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| {
        given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {given}"))
    })
}

/// Explores the kept seeds of the model called `name`, then as many new ones as asked for.
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

/// Keeps a seed, unless it is kept already.
fn keep(line: &str) {
    eprintln!("kept in {KEPT}: {line}");
    let kept = fs::read_to_string(KEPT).unwrap_or_default();
    if !kept.lines().any(|kept| kept == line) {
        let mut file = OpenOptions::new().append(true).open(KEPT).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Options of a watcher whose threads go where the schedule says and whose keys go where the seed says.
fn builder(clock: &ManualClock, workers: usize, inbox_capacity: usize) -> Builder<u64> {
    Watcher::builder()
        .timeout(TIMEOUT)
        .events([EventKind::Expired])
        .clock(clock.clone())
        .workers(workers)
        .inbox_capacity(inbox_capacity)
        .seed(1)
}

/// Checks what is true of every watcher at a quiet point, and returns its accounting.
fn quiet(stats: Stats) -> Stats {
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.panics, stats.failed_workers), (0, 0), "{stats:?}");
    stats
}
