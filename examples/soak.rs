//! A soak test: keeps a watcher busy for a given time, and stops when a guarantee is violated.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 3600
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use liveness::{Event, EventKind, Generation, KeyEvent, Stall, Stats, Timestamp, Watcher};
use parking_lot::{Mutex, RwLock};

/// The output of `--help`.
const HELP: &str = "\
Watches keys that beat at 0.5, 0.9 and 0.99 of their timeout, keys that die and come back, and keys that are removed,
under floods of beats. Suspends its own process repeatedly. Stops when a guarantee is violated.

Usage: soak [--seconds N] [--keys N] [--timeout-ms N] [--no-stops]

    --seconds N      duration of the run in seconds, 5 to 604800 [default: 30]
    --keys N         number of keys, 100 to 1000000 [default: 10000]
    --timeout-ms N   timeout in milliseconds, 20 to 60000 [default: 500]
    --no-stops       do not suspend the process; by default it is suspended every ten seconds, for one to four timeouts,
                     if there is a `kill` command
    --help           print this help

Every five seconds the senders pause, and the accounting and the observations are printed. `own` counts keys that expired
because this program itself beat too late, which can happen on a busy machine.

Exit code: 0 if every guarantee held, 1 with the evidence if not, 2 if an argument is invalid.
";

/// How late a report may be before it counts as lost, in addition to the time for which the process was suspended.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// How often the accounting is checked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often the process is suspended.
const STOP_EVERY: Duration = Duration::from_secs(10);

/// The arguments.
struct Options {
    /// The duration of the run.
    length: Duration,
    /// The number of keys.
    keys: u64,
    /// The timeout of all keys.
    timeout: Duration,
    /// Whether the process is suspended repeatedly.
    stops: bool,
}

impl Options {
    /// Parses the arguments; returns `None` for `--help`.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            length: Duration::from_secs(30),
            keys: 10_000,
            timeout: Duration::from_millis(500),
            stops: true,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => {
                    options.length = Duration::from_secs(number(&mut parser, 5..604_801)?);
                }
                Long("keys") => options.keys = number(&mut parser, 100..1_000_001)?,
                Long("timeout-ms") => {
                    options.timeout = Duration::from_millis(number(&mut parser, 20..60_001)?);
                }
                Long("no-stops") => options.stops = false,
                Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// Returns the value of the option that was read last, which must be in `range`.
fn number(parser: &mut lexopt::Parser, range: Range<u64>) -> Result<u64, lexopt::Error> {
    let value = parser.value()?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "the value must be a number from {} to {}, not `{}`",
                range.start,
                range.end - 1,
                value.display()
            )
            .into()
        })
}

/// The behaviour of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It beats forever, each time this many hundredths of its timeout have passed.
    Steady(u32),
    /// It beats a few times, dies, and comes back after its death was reported.
    Mortal,
    /// It beats a few times, is removed, and comes back.
    Removed,
}

/// Returns the behaviour of key number `key`.
fn role(key: u64) -> Role {
    match key % 10 {
        0..=2 => Role::Steady(50),
        3..=5 => Role::Steady(90),
        6..=7 => Role::Steady(99),
        9 if key % 20 == 9 => Role::Removed,
        _ => Role::Mortal,
    }
}

/// The state of a key as its sender knows it.
#[derive(Debug, Default)]
struct Life {
    /// The last accepted beat: the times before and after the call.
    beat: (Timestamp, Timestamp),
    /// Whether the key is dying: it no longer beats.
    is_dying: bool,
    /// When the removal of the key was flushed, if it has not beaten since.
    removed: Option<Timestamp>,
    /// The last episode that was reported.
    reported: Option<Generation>,
}

/// The state that all threads share.
struct Soak {
    /// The arguments.
    options: Options,
    /// The states of the keys.
    lives: Vec<Mutex<Life>>,
    /// Senders hold it for reading. While it is held for writing, no sender runs.
    quiet: RwLock<()>,
    /// Whether the run is over.
    is_over: AtomicBool,
    /// When the process last continued after it had not run for a while, and how long that was, ns.
    resumed: Mutex<(Timestamp, Duration)>,
    /// How long it did not run in total, ns.
    stopped_ns: AtomicU64,
    /// How often it did not run.
    stops: AtomicU64,
    /// Deaths that were reported.
    deaths: AtomicU64,
    /// Keys that expired because this program beat too late.
    own: AtomicU64,
    /// Until when a worker holds expiry back after a stall, by the watcher's clock.
    held_until: Mutex<Timestamp>,
    /// The latest report of a death that no stall delayed, from its deadline to its detection, ns.
    latest_ns: AtomicU64,
    /// The first violated guarantee.
    broken: Sender<String>,
}

impl Soak {
    /// Records a violated guarantee; the first one ends the run.
    fn breaks(&self, promise: &str, evidence: &dyn fmt::Debug) {
        let _ = self.broken.try_send(format!("{promise}\n{evidence:#?}"));
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the run is over.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Beats `key` and records the beat.
    fn beat(&self, watcher: &Watcher<u64>, key: u64) {
        let before = watcher.now();
        if watcher.beat(key).is_err() {
            return self.breaks("an open watcher must accept beats", &key);
        }
        let after = watcher.now();
        let mut life = self.lives[key as usize].lock();
        life.beat = (before, after);
        life.removed = None;
    }

    /// Records the time for which a stall may delay reports.
    fn excuse(&self, stall: &Stall) {
        let mut held_until = self.held_until.lock();
        *held_until = (*held_until).max(stall.resumed + stall.held_for);
    }

    /// Checks an expiry.
    fn judge(&self, event: &KeyEvent<u64>) {
        let mut life = self.lives[event.key as usize].lock();
        let evidence = &(event, &*life);
        let deadline = event.last_beat + event.timeout;
        let (before, after) = life.beat;
        if before > event.last_beat && after < deadline {
            return self.breaks("I1: a beat was accepted within the timeout", evidence);
        }
        if event.detected < deadline {
            return self.breaks("I1: detected before the deadline", evidence);
        }
        if life.reported.is_some_and(|last| event.generation <= last) {
            return self.breaks(
                "I2, I4: an episode was reported twice, or out of order",
                evidence,
            );
        }
        // A call of the callback that had already begun is allowed.
        if life.removed.is_some_and(|at| event.delivered > at) && before <= event.last_beat {
            return self.breaks("I6: reported after a flushed removal", evidence);
        }
        if life.is_dying {
            self.deaths.fetch_add(1, Ordering::Relaxed);
            life.is_dying = false;
            if deadline > *self.held_until.lock() {
                let late = (event.detected - deadline).as_nanos() as u64;
                self.latest_ns.fetch_max(late, Ordering::Relaxed);
            }
        } else {
            let (resumed, gap) = *self.resumed.lock();
            let grace = gap.min(event.timeout).mul_f64(0.8);
            if event.detected >= resumed && event.detected < resumed + grace {
                return self.breaks(
                    "I11: reported just after the process had been suspended",
                    evidence,
                );
            }
            self.own.fetch_add(1, Ordering::Relaxed);
        }
        life.reported = Some(event.generation);
    }

    /// Beats for the steady keys of `share` when they are due, until the run is over.
    fn keep_alive(&self, watcher: &Watcher<u64>, share: Range<u64>) {
        let mut queues = [50, 90, 99].map(|hundredths| {
            let keys = share
                .clone()
                .filter(|&key| role(key) == Role::Steady(hundredths));
            let queue: VecDeque<_> = keys.map(|key| (Timestamp::ORIGIN, key)).collect();
            (self.options.timeout * hundredths / 100, queue)
        });
        while !self.is_over() {
            let sending = self.quiet.read();
            let now = watcher.now();
            for (interval, queue) in &mut queues {
                while let Some(&(_, key)) = queue.front().filter(|(due, _)| *due <= now) {
                    queue.pop_front();
                    self.beat(watcher, key);
                    queue.push_back((watcher.now() + *interval, key));
                }
            }
            drop(sending);
            thread::sleep(self.options.timeout / 1_000);
        }
    }

    /// Lets keys die and come back, and removes others, until the run is over.
    fn kill_and_remove(&self, watcher: &Watcher<u64>) {
        let count = self.options.keys;
        for round in 0_u64.. {
            for key in 0..count {
                if self.is_over() {
                    return;
                }
                let sending = self.quiet.read();
                // Each key takes part in one round of three, so that some keys are always in each state.
                if (key / 10 + round) % 3 == 0 {
                    match role(key) {
                        Role::Steady(_) => {}
                        Role::Mortal => self.revive(watcher, key),
                        Role::Removed => self.remove(watcher, key),
                    }
                }
                drop(sending);
            }
            thread::sleep(self.options.timeout / 4);
        }
    }

    /// Beats `key` once, unless it is already dying.
    fn revive(&self, watcher: &Watcher<u64>, key: u64) {
        // The death is recorded first, because the report may arrive quickly.
        if !std::mem::replace(&mut self.lives[key as usize].lock().is_dying, true) {
            self.beat(watcher, key);
        }
    }

    /// Beats `key` once, and removes it.
    fn remove(&self, watcher: &Watcher<u64>, key: u64) {
        self.lives[key as usize].lock().is_dying = true;
        self.beat(watcher, key);
        if watcher.remove(&key).is_err() || watcher.flush().is_err() {
            return self.breaks("an open watcher must remove keys", &key);
        }
        let mut life = self.lives[key as usize].lock();
        life.is_dying = false;
        life.removed = Some(watcher.now());
    }

    /// Repeatedly floods the watcher for a moment with beats of one steady key, until the run is over.
    fn flood(&self, watcher: &Watcher<u64>) {
        while !self.is_over() {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(100) && !self.is_over() {
                let _sending = self.quiet.read();
                if watcher.beat_many([0_u64; 256]).is_err() {
                    return self.breaks("an open watcher must accept beats", &0);
                }
                self.beat(watcher, 0);
            }
            thread::sleep(Duration::from_secs(2));
        }
    }

    /// Records when the process did not run, until the run is over.
    fn see_gaps(&self, watcher: &Watcher<u64>) {
        let mut last = watcher.now();
        while !self.is_over() {
            thread::sleep(Duration::from_millis(1));
            let now = watcher.now();
            let gap = now - last;
            if gap > self.options.timeout / 2 {
                *self.resumed.lock() = (now, gap);
                self.stopped_ns
                    .fetch_add(gap.as_nanos() as u64, Ordering::Relaxed);
                self.stops.fetch_add(1, Ordering::Relaxed);
            }
            last = now;
        }
    }

    /// Suspends the process repeatedly, until the run is over.
    fn stop_now_and_then(&self) {
        let pid = std::process::id();
        for nth in 0_u32.. {
            let next = Instant::now() + STOP_EVERY;
            while Instant::now() < next {
                if self.is_over() {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
            let length = (self.options.timeout * (nth % 4 + 1)).as_secs_f64();
            let script = format!("kill -STOP {pid}; sleep {length}; kill -CONT {pid}");
            if Command::new("sh").args(["-c", &script]).status().is_err() {
                return;
            }
        }
    }

    /// Checks, while all senders are paused, that the accounting balances and no death is overdue.
    fn look(&self, watcher: &Watcher<u64>) -> Result<Stats, Box<dyn Error>> {
        let _quiet = self.quiet.write();
        let began = Instant::now();
        let stats = loop {
            watcher.flush()?;
            let stats = watcher.stats();
            if stats.is_balanced() {
                break stats;
            }
            if began.elapsed() > LOST_AFTER {
                self.breaks("I5: the accounting does not balance", &stats);
                break stats;
            }
        };
        let now = watcher.now();
        let stopped = Duration::from_nanos(self.stopped_ns.load(Ordering::Relaxed));
        for (key, life) in self.lives.iter().enumerate() {
            let life = life.lock();
            let patience = self.options.timeout * 2 + LOST_AFTER + stopped.min(STOP_EVERY);
            if life.is_dying && now > life.beat.1 + patience {
                self.breaks(
                    "I2, I3: a death was not reported",
                    &(key, now, &*life, &stats),
                );
            }
        }
        Ok(stats)
    }
}

/// Runs the test; returns the violated guarantee, if there is one.
fn run(options: Options) -> Result<Option<String>, Box<dyn Error>> {
    let (broken, first_broken): (_, Receiver<String>) = bounded(1);
    let soak = Arc::new(Soak {
        lives: (0..options.keys).map(|_| Mutex::default()).collect(),
        options,
        quiet: RwLock::new(()),
        is_over: AtomicBool::new(false),
        resumed: Mutex::default(),
        stopped_ns: AtomicU64::new(0),
        stops: AtomicU64::new(0),
        deaths: AtomicU64::new(0),
        own: AtomicU64::new(0),
        held_until: Mutex::default(),
        latest_ns: AtomicU64::new(0),
        broken,
    });
    let judge = soak.clone();
    let watcher = Watcher::<u64>::builder()
        .timeout(soak.options.timeout)
        .events([EventKind::Expired, EventKind::Stalled])
        .on_event(move |event| match event {
            Event::Expired(event) => judge.judge(&event),
            Event::Stalled(stall) => judge.excuse(&stall),
            _ => {}
        })
        .build()?;

    let (soak, watcher) = (&*soak, &watcher);
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let half = soak.options.keys / 2;
        scope.spawn(move || soak.keep_alive(watcher, 0..half));
        scope.spawn(move || soak.keep_alive(watcher, half..soak.options.keys));
        scope.spawn(move || soak.kill_and_remove(watcher));
        scope.spawn(move || soak.flood(watcher));
        scope.spawn(move || soak.see_gaps(watcher));
        if soak.options.stops {
            scope.spawn(move || soak.stop_now_and_then());
        }
        let looked = keep_looking(soak, watcher);
        soak.is_over.store(true, Ordering::Release);
        looked
    })?;
    if watcher.close().failed_workers > 0 {
        soak.breaks("I10: a worker failed", &watcher.stats());
    }
    Ok(first_broken.try_recv().ok())
}

/// Checks and prints the accounting every few seconds, until the run is over.
fn keep_looking(soak: &Soak, watcher: &Watcher<u64>) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut next = LOOK_EVERY;
    while !soak.is_over() && began.elapsed() < soak.options.length {
        thread::sleep(Duration::from_millis(20));
        if began.elapsed() < next {
            continue;
        }
        next += LOOK_EVERY;
        let stats = soak.look(watcher)?;
        println!(
            "{:6.0} s: {stats}\n          {} deaths, late by at most {:?} outside stalls; {} own; suspended {} times",
            began.elapsed().as_secs_f64(),
            soak.deaths.load(Ordering::Relaxed),
            Duration::from_nanos(soak.latest_ns.load(Ordering::Relaxed)),
            soak.own.load(Ordering::Relaxed),
            soak.stops.load(Ordering::Relaxed),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("soak: {error}; see `--help`");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(None) => {
            println!("every guarantee held");
            ExitCode::SUCCESS
        }
        Ok(Some(evidence)) => {
            eprintln!("violated: {evidence}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
