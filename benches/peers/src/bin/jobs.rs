//! No-op jobs per second and lateness of delayed jobs: `liveness::dispatch` beside what one would otherwise pick.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin jobs` prints two tables. Each figure is the
//! median of several rounds, in which the candidates take turns.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use liveness::dispatch::{Dispatcher, Emit, On, Topic};
use scheduled_thread_pool::ScheduledThreadPool;
use threadpool::ThreadPool;

/// What `--help` prints.
const HELP: &str = "\
No-op jobs per second and lateness of delayed jobs, beside other thread pools.

Usage: jobs [options]

  --jobs N      instant jobs per round (default 1000000)
  --delayed N   delayed jobs per round (default 10000)
  --over S      seconds over which they are spread (default 10)
  --rounds N    rounds (default 3)
  --workers N   worker threads of each pool (default 2)
  --quick       200000 jobs, 2000 delayed ones over 2 s, 1 round
  -h, --help    print this help
";

/// The events of the dispatcher.
const JOB: Topic<u64> = Topic::new("job");

/// What is measured.
struct Options {
    jobs: u64,
    delayed: u64,
    over: Duration,
    rounds: usize,
    workers: usize,
}

/// Parses the arguments; `None` if there is nothing left to do.
fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options {
        jobs: 1_000_000,
        delayed: 10_000,
        over: Duration::from_secs(10),
        rounds: 3,
        workers: 2,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("jobs") => options.jobs = parser.value()?.parse()?,
            Long("delayed") => options.delayed = parser.value()?.parse()?,
            Long("over") => options.over = Duration::from_secs(parser.value()?.parse()?),
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("workers") => options.workers = parser.value()?.parse()?,
            Long("quick") => {
                options.jobs = 200_000;
                options.delayed = 2_000;
                options.over = Duration::from_secs(2);
                options.rounds = 1;
            }
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// Where jobs note that they ran.
#[derive(Default)]
struct Done {
    count: AtomicU64,
}

impl Done {
    /// One ran.
    fn one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until `jobs` have run.
    fn wait(&self, jobs: u64) {
        while self.count.load(Ordering::Relaxed) < jobs {
            thread::sleep(Duration::from_micros(100));
        }
    }
}

/// The jobs per second of `submit`, which `producers` threads call for their part of all jobs.
fn rate(jobs: u64, producers: u64, done: &Done, submit: impl Fn(u64) + Sync) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for producer in 0..producers {
            let submit = &submit;
            scope
                .spawn(move || (0..jobs / producers).for_each(|job| submit(producer * jobs + job)));
        }
    });
    done.wait(jobs / producers * producers);
    jobs as f64 / began.elapsed().as_secs_f64()
}

/// A candidate for instant jobs: its name, and its rate for so many jobs, producers and workers.
type Instants = (&'static str, fn(u64, u64, usize) -> f64);

/// The candidates for instant jobs.
const INSTANTS: [Instants; 4] = [
    ("liveness::dispatch", |jobs, producers, workers| {
        let dispatcher = dispatcher(workers);
        let done = Arc::<Done>::default();
        let noted = done.clone();
        let registered = dispatcher.on(&JOB, "note", On::new(), move |_, _| {
            noted.one();
            Ok(())
        });
        registered.expect("the options are in range");
        rate(jobs, producers, &done, |job| {
            dispatcher.emit(&JOB, job).expect("there is room");
        })
    }),
    ("scheduled-thread-pool", |jobs, producers, workers| {
        let pool = ScheduledThreadPool::new(workers);
        let done = Arc::<Done>::default();
        rate(jobs, producers, &done, |_| {
            let noted = done.clone();
            pool.execute(move || noted.one());
        })
    }),
    ("threadpool", |jobs, producers, workers| {
        let pool = ThreadPool::new(workers);
        let done = Arc::<Done>::default();
        rate(jobs, producers, &done, |_| {
            let noted = done.clone();
            pool.execute(move || noted.one());
        })
    }),
    ("bare crossbeam channel", |jobs, producers, workers| {
        let (sender, receiver) = crossbeam_channel::unbounded::<Box<dyn FnOnce() + Send>>();
        for _ in 0..workers {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().for_each(|job| job()));
        }
        let done = Arc::<Done>::default();
        rate(jobs, producers, &done, |_| {
            let noted = done.clone();
            sender
                .send(Box::new(move || noted.one()))
                .expect("the workers wait");
        })
    }),
];

/// A candidate for delayed jobs: its name, and how late each of so many jobs spread over a time was, with so many
/// workers.
type Delayed = (&'static str, fn(u64, Duration, usize) -> Vec<Duration>);

/// The candidates for delayed jobs.
const DELAYED: [Delayed; 3] = [
    ("bare sleep", |jobs, over, _| {
        let began = Instant::now();
        let mut delays: Vec<_> = (0..jobs).map(|job| delay(job, jobs, over)).collect();
        delays.sort_unstable();
        let late = delays.into_iter().map(|delay| {
            let due = began + delay;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due.elapsed()
        });
        late.collect()
    }),
    ("liveness::dispatch", |jobs, over, workers| {
        let dispatcher = dispatcher(workers);
        let (sender, late) = crossbeam_channel::unbounded();
        let registered = dispatcher.on(&LATE, "note", On::new(), move |_, due| {
            sender.send(due.elapsed())?;
            Ok(())
        });
        registered.expect("the options are in range");
        for job in 0..jobs {
            let delay = delay(job, jobs, over);
            let due = Instant::now() + delay;
            dispatcher
                .emit_with(&LATE, due, Emit::after(delay))
                .expect("there is room");
        }
        late.iter().take(jobs as usize).collect()
    }),
    ("scheduled-thread-pool", |jobs, over, workers| {
        let pool = ScheduledThreadPool::new(workers);
        let (sender, late) = crossbeam_channel::unbounded();
        for job in 0..jobs {
            let delay = delay(job, jobs, over);
            let due = Instant::now() + delay;
            let sender = sender.clone();
            pool.execute_after(delay, move || {
                let _ = sender.send(due.elapsed());
            });
        }
        late.iter().take(jobs as usize).collect()
    }),
];

/// Events that carry when they are due.
const LATE: Topic<Instant> = Topic::new("late");

/// A dispatcher that takes all jobs of a round.
fn dispatcher(workers: usize) -> Dispatcher {
    let options = Dispatcher::builder()
        .threads(workers)
        .max_unfinished(10_000_000);
    options.build().expect("the options are in range")
}

/// When job number `job` of `jobs` is due: from half a second on, evenly over a time, in an order that is not that of
/// their numbers.
fn delay(job: u64, jobs: u64, over: Duration) -> Duration {
    let place = job.wrapping_mul(0x9E37_79B9_7F4A_7C15) % jobs;
    Duration::from_millis(500) + over.mul_f64(place as f64 / jobs as f64)
}

/// The median of `values`.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The percentile `percent` of sorted `late`, ms.
fn percentile(late: &[Duration], percent: usize) -> f64 {
    let at = (late.len() * percent / 100).min(late.len() - 1);
    late[at].as_secs_f64() * 1e3
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let Options {
        jobs,
        delayed,
        over,
        rounds,
        workers,
    } = options;
    println!(
        "{jobs} no-op jobs, {workers} workers, million jobs per second, median of {rounds} rounds"
    );
    println!("{:24} {:>12} {:>12}", "", "1 producer", "2 producers");
    let mut rates = vec![[Vec::new(), Vec::new()]; INSTANTS.len()];
    for round in 0..rounds {
        for (at, (name, run)) in INSTANTS.iter().enumerate() {
            eprint!("\rround {} of {rounds}: {name:24}", round + 1);
            for producers in [1, 2] {
                rates[at][producers - 1].push(run(jobs, producers as u64, workers) / 1e6);
            }
        }
    }
    eprint!("\r{:48}\r", "");
    for ((name, _), [one, two]) in INSTANTS.iter().zip(rates) {
        println!("{name:24} {:12.2} {:12.2}", median(one), median(two));
    }
    println!();
    println!("{delayed} jobs due over {over:?}, lateness in ms, median of {rounds} rounds");
    println!("{:24} {:>12} {:>12} {:>12}", "", "p50", "p99", "max");
    let mut lates = vec![[Vec::new(), Vec::new(), Vec::new()]; DELAYED.len()];
    for round in 0..rounds {
        for (at, (name, run)) in DELAYED.iter().enumerate() {
            eprint!("\rround {} of {rounds}: {name:24}", round + 1);
            let mut late = run(delayed, over, workers);
            late.sort();
            for (values, percent) in lates[at].iter_mut().zip([50, 99, 100]) {
                values.push(percentile(&late, percent));
            }
        }
    }
    eprint!("\r{:48}\r", "");
    for ((name, _), [p50, p99, max]) in DELAYED.iter().zip(lates) {
        println!(
            "{name:24} {:12.3} {:12.3} {:12.3}",
            median(p50),
            median(p99),
            median(max)
        );
    }
    Ok(())
}
