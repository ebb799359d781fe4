//! The command-line arguments.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Failure;
use crate::candidate::Candidate;
use crate::setting::Scenario;
use crate::task::Task;

/// The output of `--help` before the list of candidates.
const HELP: &str = "\
Measures durable dispatch on a private `redis-server`, and prints tables and a list of targets.

    npm ci --prefix benches/peers/node
    cargo run --release --manifest-path benches/peers/Cargo.toml --features durable --bin durable -- [OPTIONS]

Each measurement has a fresh server on a Unix socket in a temporary folder (`--appendonly yes`, no snapshots, no
rewrites of the file), and a process of its own for each client. Rounds alternate between the candidates; the tables
show medians. Payloads have 100 bytes. What was emitted is counted on the server, and what has run by the handlers,
each event once.
Requires Linux, `redis-server` and `redis-benchmark` of version 7.0 or newer, and Node.js for one of the peers.

Options:
  --quick            fewer events and one round: about 5 minutes on two idle cores instead of about 45
  --scenario NAME    run only this scenario; may be repeated, or a list separated by commas
  --candidate NAME   run only this candidate; may be repeated, or a list separated by commas
  --fsync NAME       only servers with this `appendfsync`: everysec or always (default: both)
  --events N         events to emit and to drain (default 1000000, quick 200000)
  --peer-events N    events to drain by asynchronous peers, which are slower (default 200000, quick 50000)
  --rounds N         rounds (default 3, quick 1)
  --patience S       measure again what other programs disturbed, for up to S seconds a measurement (default 0)
  --json FILE        also write the rows as a JSON array to FILE
  -h, --help         print this help

Scenarios: emit, emit_many, drain, due, start, idle

Candidates:
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print this.
    Help(String),
    /// Be the child process of a measurement.
    Task(Box<Task>),
    /// Measure.
    Run(Options),
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Whether to take less time.
    pub(crate) quick: bool,
    /// Only these; all if there are none.
    pub(crate) scenarios: Vec<Scenario>,
    /// Only these; all if there are none.
    pub(crate) candidates: Vec<Candidate>,
    /// Only servers that make an fsync for each write, or only those that do not.
    pub(crate) fsync: Option<bool>,
    /// How many events to emit and to drain.
    pub(crate) events: u64,
    /// How many events asynchronous peers drain.
    pub(crate) peer_events: u64,
    /// How often.
    pub(crate) rounds: usize,
    /// For how long to repeat a measurement that others disturbed.
    pub(crate) patience: Duration,
    /// Where to write the rows.
    pub(crate) json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            quick: false,
            scenarios: Vec::new(),
            candidates: Vec::new(),
            fsync: None,
            events: 1_000_000,
            peer_events: 200_000,
            rounds: 3,
            patience: Duration::ZERO,
            json: None,
        }
    }
}

/// Reads the arguments.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, Failure> {
    let mut options = Options::default();
    let (mut events, mut peer_events, mut rounds) = (None, None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => options.quick = true,
            Long("scenario") => {
                let names = parser.value()?.string()?;
                options.scenarios.extend(list(&names, Scenario::parse)?);
            }
            Long("candidate") => {
                let names = parser.value()?.string()?;
                options.candidates.extend(list(&names, Candidate::parse)?);
            }
            Long("fsync") => {
                options.fsync = Some(match parser.value()?.string()?.as_str() {
                    "everysec" => false,
                    "always" => true,
                    other => return Err(format!("`{other}` is not everysec or always").into()),
                });
            }
            Long("events") => events = Some(positive(parser.value()?.parse()?)?),
            Long("peer-events") => peer_events = Some(positive(parser.value()?.parse()?)?),
            Long("rounds") => rounds = Some(positive(parser.value()?.parse()?)?),
            Long("patience") => {
                options.patience = Duration::from_secs(parser.value()?.parse()?);
            }
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("task") => {
                let task = serde_json::from_str(&parser.value()?.string()?)?;
                return Ok(Request::Task(task));
            }
            Short('h') | Long("help") => return Ok(Request::Help(help())),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let (few, fewer, once) = if options.quick {
        (200_000, 50_000, 1)
    } else {
        (options.events, options.peer_events, 3)
    };
    options.events = events.unwrap_or(few);
    options.peer_events = peer_events.unwrap_or(fewer);
    options.rounds = rounds.unwrap_or(once) as usize;
    Ok(Request::Run(options))
}

/// Returns `number` if it is one or more.
fn positive(number: u64) -> Result<u64, Failure> {
    if number == 0 {
        return Err("a number must be 1 or more".into());
    }
    Ok(number)
}

/// Reads a list of names.
fn list<T>(names: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Failure> {
    let parse = |name| parse(name).ok_or_else(|| format!("`{name}` is not known").into());
    names.split(',').map(parse).collect()
}

/// The output of `--help`.
fn help() -> String {
    let mut help = HELP.to_owned();
    for candidate in Candidate::ALL {
        let (name, description) = (candidate.name(), candidate.description());
        let _ = writeln!(help, "  {name:<17}{description}");
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `words`.
    fn run(words: &[&str]) -> Result<Options, Failure> {
        match parse(words.iter().map(OsString::from))? {
            Request::Run(options) => Ok(options),
            other => Err(format!("{other:?}").into()),
        }
    }

    #[test]
    fn what_is_given_replaces_the_defaults() {
        let options = run(&["--quick", "--scenario", "emit,due", "--rounds", "2"]).expect("valid");
        assert_eq!(options.scenarios, [Scenario::Emit, Scenario::Due]);
        assert_eq!((options.events, options.rounds), (200_000, 2));
        for words in [
            &["--scenario", "emits"][..],
            &["--fsync", "no"],
            &["--rounds", "0"],
            &["--fast"],
        ] {
            assert!(run(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(help().lines().all(|line| line.len() <= 120));
    }
}
