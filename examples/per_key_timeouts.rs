//! Twenty keys with different random timeouts beat once each, and expire in the order of their deadlines.
//!
//! ```text
//! cargo run --release --example per_key_timeouts
//! cargo run --release --example per_key_timeouts -- --seed 7
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compact_str::{CompactString, format_compact};
use crossbeam_channel::Receiver;
use liveness::{Event, KeyEvent, Options, Watcher};

/// The output of `--help`.
const HELP: &str = "\
Sets random timeouts from 100 to 500 ms for 20 keys, beats each key once, and prints the keys as they expire.

Usage: per_key_timeouts [--seed N]

    --seed N   seed of the timeouts, to repeat an earlier run [default: the current time]
    --help     print this help

Times are in milliseconds since the start. Lateness is the time from the deadline to the delivery.

Exit code: 0 if every key was reported once, none early, in the order of deadlines; 1 if not; 2 if an argument is invalid.
";

/// The number of keys.
const KEYS: usize = 20;

/// The shortest timeout, us.
const SHORTEST_US: u64 = 100_000;

/// The longest timeout, us.
const LONGEST_US: u64 = 500_000;

/// How long to wait for a missing event after the last deadline. Only a fault makes this time pass.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let seed = match parse_seed() {
        Ok(Some(seed)) => seed,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            return ExitCode::from(2);
        }
    };
    match run(seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the arguments: the seed, or `None` to ask for help.
fn parse_seed() -> Result<Option<u64>, lexopt::Error> {
    use lexopt::prelude::*;

    let mut seed = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seed") => seed = Some(parser.value()?.parse()?),
            Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    // A clock before 1970 gives a seed as good as any other.
    let time_of_day = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    };
    Ok(Some(
        seed.unwrap_or_else(|| time_of_day().as_nanos() as u64),
    ))
}

/// Beats each key once and watches it expire; returns whether that went as promised.
fn run(seed: u64) -> Result<bool, Box<dyn Error>> {
    // One worker, because events come in the order of deadlines from each worker, and from several in no fixed order
    // among them. No key beats again, so there is none that a stall of the machine could wrong: expire on the dot.
    let (watcher, events) = Watcher::<CompactString>::builder()
        .workers(1)
        .stall_threshold(Duration::ZERO)
        .build_with_channel(KEYS)?;

    let timeouts = random_timeouts(seed);
    for (key, &timeout) in &timeouts {
        watcher.beat_with(key.clone(), Options::new().timeout(timeout))?;
    }

    writeln!(io::stdout(), "{KEYS} keys, seed {seed}\n")?;
    let arrived = receive(&watcher, &events)?;
    let stats = watcher.close();
    let mut faults = faults(&arrived, &timeouts);
    if stats.delivered != KEYS as u64 || !stats.is_balanced() {
        faults.push(format!("the accounting does not balance: {stats:?}"));
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\nlateness: p50 {:.3} ms, max {:.3} ms",
        ms(stats.delivery.quantile(0.5)),
        ms(stats.delivery.max())
    )?;
    for fault in &faults {
        writeln!(out, "FAULT: {fault}")?;
    }
    if faults.is_empty() {
        writeln!(
            out,
            "every key expired once, none early, in the order of deadlines"
        )?;
    }
    Ok(faults.is_empty())
}

/// Returns the keys and their timeouts.
fn random_timeouts(seed: u64) -> HashMap<CompactString, Duration> {
    let mut random = SplitMix64(seed);
    (0..KEYS)
        .map(|number| {
            let us = SHORTEST_US + random.next() % (LONGEST_US - SHORTEST_US + 1);
            (
                format_compact!("key-{number:02}"),
                Duration::from_micros(us),
            )
        })
        .collect()
}

/// Prints the expiries as they arrive, until every key has expired or a time limit is reached.
fn receive(
    watcher: &Watcher<CompactString>,
    events: &Receiver<Event<CompactString>>,
) -> io::Result<Vec<KeyEvent<CompactString>>> {
    let give_up = watcher.now() + Duration::from_micros(LONGEST_US) + PATIENCE;
    let mut out = io::stdout().lock();
    let mut arrived = Vec::new();
    writeln!(
        out,
        "{:<8} {:>9} {:>10} {:>10} {:>10} {:>9}",
        "key", "timeout", "last beat", "deadline", "detected", "lateness"
    )?;
    while arrived.len() < KEYS
        && let Ok(event) = events.recv_timeout(give_up - watcher.now())
    {
        let Some(event) = event.into_key_event() else {
            continue;
        };
        writeln!(
            out,
            "{:<8} {:>9.3} {:>10.3} {:>10.3} {:>10.3} {:>9.3}",
            event.key,
            ms(event.timeout),
            ms(event.last_beat.since_origin()),
            event
                .deadline
                .map_or(f64::INFINITY, |deadline| ms(deadline.since_origin())),
            ms(event.detected.since_origin()),
            ms(event.lateness())
        )?;
        arrived.push(event);
    }
    Ok(arrived)
}

/// What the events that `arrived` have wrong with them.
fn faults(
    arrived: &[KeyEvent<CompactString>],
    timeouts: &HashMap<CompactString, Duration>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in arrived.windows(2) {
        if pair[1].deadline < pair[0].deadline {
            faults.push(format!(
                "{} came before {}, whose deadline is earlier",
                pair[0].key, pair[1].key
            ));
        }
    }
    for event in arrived {
        if event.silence() < timeouts[&event.key] {
            faults.push(format!(
                "{} expired after a silence of {:?} only",
                event.key,
                event.silence()
            ));
        }
    }
    for key in timeouts.keys() {
        let times = arrived.iter().filter(|event| event.key == *key).count();
        if times != 1 {
            faults.push(format!("{key} was reported {times} times"));
        }
    }
    faults
}

/// The generator `SplitMix64` of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014), with
/// the constants of Sebastiano Vigna's `splitmix64.c`. Holds its state.
struct SplitMix64(u64);

impl SplitMix64 {
    /// The next number.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// `time` in milliseconds.
fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
