//! A watchdog for a pool of worker threads: one thread gets stuck, one panics, and both are reported by name after
//! their timeout.
//!
//! ```text
//! cargo run --release --example watchdog --all-features
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use liveness::pacemaker::{Pacemaker, Pacer, Progress};
use liveness::{Event, Watcher};

/// How long a worker may be silent.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How long the pool runs.
const LENGTH: Duration = Duration::from_secs(3);

/// The duration of a job.
const JOB: Duration = Duration::from_millis(20);

/// The workers and their fates.
const WORKERS: [(&str, Fate); 6] = [
    ("ant", Fate::Works),
    ("bee", Fate::GetsStuck),
    ("cat", Fate::Works),
    ("dog", Fate::Panics),
    ("elk", Fate::Works),
    ("fox", Fate::Works),
];

/// What happens to a worker after a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It continues to work.
    Works,
    /// It waits for something that never happens.
    GetsStuck,
    /// It panics.
    Panics,
}

/// Does jobs, and reports progress after each, until `end` is closed.
fn work(name: &str, fate: Fate, progress: &Progress, end: &Receiver<()>) {
    let began = Instant::now();
    while end.recv_timeout(JOB).is_err_and(|error| error.is_timeout()) {
        progress.made();
        if began.elapsed() < Duration::from_secs(1) {
            continue;
        }
        match fate {
            Fate::Works => {}
            // Like waiting for a lock that is never released.
            Fate::GetsStuck => drop(end.recv()),
            Fate::Panics => panic!("{name} divides by zero"),
        }
    }
}

/// Runs the pool, and returns the workers that were reported.
fn run() -> Result<BTreeSet<&'static str>, Box<dyn Error>> {
    let (watcher, events) = Watcher::<&'static str>::builder()
        .timeout(TIMEOUT)
        .build_with_channel(64)?;
    let watcher = Arc::new(watcher);
    // One thread beats for all workers, and for each only while it makes progress.
    let pacer = Pacer::spawn()?;
    let (ending, end) = bounded::<()>(0);
    let began = Instant::now();
    let mut threads = Vec::new();
    for (name, fate) in WORKERS {
        let (beats, leaves) = (watcher.clone(), watcher.clone());
        let options = Pacemaker::for_timeout(TIMEOUT)
            .idle()
            // A worker that returns is no longer watched. `goodbye` is not called for one that panics, so it expires.
            .goodbye(move || _ = leaves.remove(&name));
        let mut pacemaker = pacer.start(options, move || beats.beat(name))?;
        let end = end.clone();
        let body = move || pacemaker.during_progress(|progress| work(name, fate, progress, &end));
        threads.push(thread::Builder::new().name(name.into()).spawn(body)?);
    }
    println!(
        "watching {} workers with a timeout of {TIMEOUT:?}",
        threads.len()
    );

    let mut reported = BTreeSet::new();
    while let Some(left) = LENGTH.checked_sub(began.elapsed()) {
        let Ok(event) = events.recv_timeout(left) else {
            break;
        };
        println!("{:>6.3} s: {event}", began.elapsed().as_secs_f64());
        if let Event::Expired(event) = event {
            reported.insert(event.key);
        }
    }
    drop(ending);
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        let end = if thread.join().is_ok() {
            "ended"
        } else {
            "panicked"
        };
        println!("{name} {end}");
    }
    reported.extend(events.try_iter().filter_map(|event| event.key().copied()));
    Ok(reported)
}

fn main() -> ExitCode {
    let expected = WORKERS.into_iter().filter(|&(_, fate)| fate != Fate::Works);
    let expected: BTreeSet<_> = expected.map(|(name, _)| name).collect();
    match run() {
        Ok(reported) if reported == expected => {
            println!("exactly the workers that had stopped were reported: {reported:?}");
            ExitCode::SUCCESS
        }
        Ok(reported) => {
            eprintln!("watchdog: {expected:?} had stopped, but {reported:?} were reported");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("watchdog: {error}");
            ExitCode::FAILURE
        }
    }
}
