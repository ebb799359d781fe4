//! Ten thousand services beat every 500 ms. Eight of them stop, and each is reported a second after its last beat.
//!
//! ```text
//! cargo run --release --example watch
//! cargo run --release --example watch -- --seconds 5 --services 100000
//! ```

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use compact_str::{CompactString, format_compact};
use crossbeam_channel::Receiver;
use liveness::{BeatError, Event, EventKind, Stats, Timestamp, Watcher};

/// The output of `--help`.
const HELP: &str = "\
Watches services that beat every 500 ms with a timeout of 1 s, and prints each service that falls silent.

Usage: watch [--seconds N] [--services N] [--workers N]

    --seconds N    duration of the run in seconds, 1 to 86400 [default: 15]
    --services N   number of services, 1 to 1000000 [default: 10000]
    --workers N    number of worker threads, 1 to 1024 [default: the available parallelism, at most 4]
    --help         print this help

Services are numbered from 0. Services 67, 100, 120, 3456, 4000, 5221, 7899 and 9999, if they exist, stop after their
number of milliseconds. A service that would stop less than 2 s before the end (the timeout plus a second for the
report) continues to the end instead, so all eight stop only with `--seconds 12` or more.

Events and the summary are written to stdout, and the progress to stderr. Times are in milliseconds since the start.
The offset is the time from the deadline to the delivery.

Exit code: 0 if exactly the services that stopped were reported, 1 if not, 2 if an argument is invalid.
";

/// The services that stop, each after its number of milliseconds.
const STOPPING: [u64; 8] = [67, 100, 120, 3456, 4000, 5221, 7899, 9999];

/// The time between two beats of a service, ms.
const INTERVAL_MS: u64 = 500;

/// The longest silence allowed.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The time from the last deadline to the end of the run: far more than a report takes, so that the result does not
/// depend on chance.
const SPARE: Duration = Duration::from_secs(1);

/// The number of threads that beat.
const BEATERS: u64 = 4;

/// The arguments.
struct Options {
    /// The duration of the run, s.
    seconds: u64,
    /// The number of services.
    services: u64,
    /// The number of workers; the watcher's default if not set.
    workers: Option<usize>,
}

impl Options {
    /// Parses the arguments; returns `None` for `--help`.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            seconds: 15,
            services: 10_000,
            workers: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => options.seconds = number(&mut parser, "--seconds", 1..=86_400)?,
                Long("services") => {
                    options.services = number(&mut parser, "--services", 1..=1_000_000)?;
                }
                Long("workers") => {
                    options.workers = Some(number(&mut parser, "--workers", 1..=1_024)?);
                }
                Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// When the run ends.
    fn end(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The value of `option`, which must be a number in `range`.
fn number<T>(
    parser: &mut lexopt::Parser,
    option: &str,
    range: RangeInclusive<T>,
) -> Result<T, lexopt::Error>
where
    T: FromStr + PartialOrd + Display,
{
    let value = parser.value()?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            format!(
                "`{option}` takes a number from {least} to {most}, not `{}`",
                value.display()
            )
            .into()
        })
}

/// The services.
struct Fleet {
    /// The name of each, at its number.
    keys: Vec<CompactString>,
    /// When the run ends.
    end: Duration,
}

impl Fleet {
    /// The services of a run with `options`.
    fn new(options: &Options) -> Self {
        Fleet {
            keys: (0..options.services)
                .map(|number| format_compact!("service-{number:05}"))
                .collect(),
            end: options.end(),
        }
    }

    /// When service `number` stops; `None` if it beats to the end.
    fn stop(&self, number: u64) -> Option<Duration> {
        let stop = Duration::from_millis(number);
        (STOPPING.contains(&number) && stop + TIMEOUT + SPARE <= self.end).then_some(stop)
    }

    /// The services that beat at `tick` ms: each in the millisecond before the one that its number says, and then every
    /// interval. So its last beat comes right before it stops, and not after that even if the beat is a little late.
    fn beating_at(&self, tick: u64) -> impl Iterator<Item = &CompactString> {
        let first = (tick + 1) % INTERVAL_MS;
        let due = Duration::from_millis(tick);
        (first..self.keys.len() as u64)
            .step_by(INTERVAL_MS as usize)
            .filter(move |&number| self.stop(number).is_none_or(|stop| due <= stop))
            .map(|number| &self.keys[number as usize])
    }

    /// Returns the services that must be reported, in the order of their numbers.
    fn stopping(&self) -> Vec<CompactString> {
        (0..self.keys.len() as u64)
            .filter(|&number| self.stop(number).is_some())
            .map(|number| self.keys[number as usize].clone())
            .collect()
    }
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the fleet and the watcher; returns whether exactly the right services were reported.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let fleet = Fleet::new(options);
    let mut builder = Watcher::<CompactString>::builder()
        .timeout(TIMEOUT)
        .expected_keys(fleet.keys.len())
        .events([EventKind::Expired, EventKind::Stalled]);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let (watcher, events) = builder.build_with_channel(1_024)?;

    let mut reported = thread::scope(|scope| -> Result<_, Box<dyn Error>> {
        let beaters = (0..BEATERS)
            .map(|beater| {
                let (watcher, fleet) = (&watcher, &fleet);
                thread::Builder::new()
                    .name(format!("beater-{beater}"))
                    .spawn_scoped(scope, move || beat(watcher, fleet, beater))
            })
            .collect::<Result<Vec<_>, _>>()?;
        // If the output fails there is no reason to continue; the beaters end when the watcher is closed.
        let reported = report(&watcher, &events, options).inspect_err(|_| drop(watcher.close()))?;
        for beater in beaters {
            beater.join().map_err(|_| "a beater panicked")??;
        }
        Ok(reported)
    })?;

    let stats = watcher.close();
    for event in events.try_iter() {
        print_event(event, &mut reported)?;
    }
    reported.sort();
    summarize(&stats, &reported, &fleet)?;
    Ok(reported == fleet.stopping() && stats.is_balanced())
}

/// The body of a thread that beats, which handles every [`BEATERS`]th millisecond. Each beat has a fixed time, so a
/// delay does not delay later beats.
fn beat(
    watcher: &Watcher<CompactString>,
    fleet: &Fleet,
    beater: u64,
) -> Result<(), BeatError<CompactString>> {
    let ticks = fleet.end.as_millis() as u64;
    for tick in (beater..ticks).step_by(BEATERS as usize) {
        thread::sleep(Timestamp::from(Duration::from_millis(tick)) - watcher.now());
        for key in fleet.beating_at(tick) {
            // A short `CompactString` is copied, not allocated.
            watcher.beat(key.clone())?;
        }
    }
    Ok(())
}

/// Prints each event as it arrives, and the progress every second; returns the services that were reported.
fn report(
    watcher: &Watcher<CompactString>,
    events: &Receiver<Event<CompactString>>,
    options: &Options,
) -> Result<Vec<CompactString>, Box<dyn Error>> {
    let mut reported = Vec::new();
    let mut before = (Timestamp::ORIGIN, 0);
    print_heading()?;
    for second in 1..=options.seconds {
        let next = Timestamp::from(Duration::from_secs(second));
        while let Ok(event) = events.recv_timeout(next - watcher.now()) {
            print_event(event, &mut reported)?;
        }
        // Beats may wait in the inbox until a deadline is near. A flush applies and counts them.
        watcher.flush()?;
        let (now, stats) = (watcher.now(), watcher.stats());
        let rate = (stats.applied_beats - before.1) as f64 / (now - before.0).as_secs_f64();
        before = (now, stats.applied_beats);
        writeln!(
            io::stderr(),
            "[{:>5.1} s] {} keys watched, {} beats, {rate:.0} beats/s, {} expired",
            now.since_origin().as_secs_f64(),
            stats.live,
            stats.applied_beats,
            reported.len()
        )?;
    }
    Ok(reported)
}

/// Prints the heading of the events.
fn print_heading() -> io::Result<()> {
    writeln!(
        io::stdout(),
        "{:<15} {:>11} {:>11} {:>11} {:>11} {:>9}",
        "key",
        "last beat",
        "deadline",
        "detected",
        "delivered",
        "offset"
    )
}

/// Prints `event`, and adds its key to `reported` if it expired.
fn print_event(event: Event<CompactString>, reported: &mut Vec<CompactString>) -> io::Result<()> {
    let Event::Expired(event) = event else {
        // A stall: the machine kept a worker from running, so expiry was held back for the beats on their way.
        return writeln!(io::stdout(), "{event}");
    };
    writeln!(
        io::stdout(),
        "{:<15} {:>11.3} {:>11.3} {:>11.3} {:>11.3} {:>9.3}",
        event.key,
        ms(event.last_beat.since_origin()),
        event
            .deadline
            .map_or(f64::INFINITY, |deadline| ms(deadline.since_origin())),
        ms(event.detected.since_origin()),
        ms(event.delivered.since_origin()),
        ms(event.lateness()),
    )?;
    reported.push(event.key);
    Ok(())
}

/// Prints what was counted, and what was reported by mistake or not at all.
fn summarize(stats: &Stats, reported: &[CompactString], fleet: &Fleet) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let expected = fleet.stopping();
    let seconds = fleet.end.as_secs();
    let Stats {
        started,
        live,
        pending,
        delivered,
        removed,
        discarded,
        ..
    } = stats;
    writeln!(out)?;
    writeln!(
        out,
        "beats       {} in {seconds} s, {} per second",
        stats.applied_beats,
        stats.applied_beats / seconds
    )?;
    writeln!(
        out,
        "events      {} expired of {} expected, {} stalls",
        reported.len(),
        expected.len(),
        stats.stalls
    )?;
    writeln!(
        out,
        "lateness    p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        ms(stats.delivery.quantile(0.5)),
        ms(stats.delivery.quantile(0.99)),
        ms(stats.delivery.max())
    )?;
    writeln!(
        out,
        "accounting  {started} started = {live} live + {pending} pending + {delivered} delivered + {removed} removed \
         + {discarded} discarded: {}",
        if stats.is_balanced() {
            "balanced"
        } else {
            "NOT BALANCED"
        }
    )?;
    for key in expected.iter().filter(|key| !reported.contains(key)) {
        writeln!(out, "MISSING     {key} stopped but was not reported")?;
    }
    for key in reported.iter().filter(|key| !expected.contains(key)) {
        writeln!(out, "FALSE       {key} was reported but had not stopped")?;
    }
    Ok(())
}

/// `time` in milliseconds.
fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
