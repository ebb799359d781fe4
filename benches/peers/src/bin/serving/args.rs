//! The command-line arguments.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Failure;
use crate::candidate::Candidate;
use crate::rows::Scenario;
use crate::servers::Task;

/// The output of `--help` before the list of candidates.
const HELP: &str = "\
Measures servers for TCP and WebSocket under load, and prints tables and a list of targets.

    npm ci --prefix benches/peers/websocket
    cargo run --release --manifest-path benches/peers/Cargo.toml --features serving --bin serving -- [OPTIONS]

Each measurement has a fresh server in a process of its own on the first core. The load is one thread on the second. It
keeps a fixed number of messages on the way, and checks every byte that comes back. Rounds alternate between the
candidates; the tables show medians. Messages are JSON with a body of 32 bytes; this library decodes and encodes them,
and its peers send the text back as it came.
Requires Linux with two cores, a limit of 10,100 open files, and Node.js for two of the peers.

Options:
  --quick            shorter, and one round: about 3 minutes instead of about 14
  --scenario NAME    run only this scenario; may be repeated, or a list separated by commas
  --candidate NAME   run only this candidate; may be repeated, or a list separated by commas
  --load CxM         echo only with C connections and M messages in flight on each; may be repeated
  --connections N    connections where there are many (default 10000)
  --rounds N         rounds (default 3, quick 1)
  --patience S       measure again what other programs disturbed, for up to S seconds a measurement (default 0)
  --json FILE        also write the rows as a JSON array to FILE
  -h, --help         print this help

Scenarios: echo, connect, memory, broadcast, silence, silence_of_all, idle (not with --quick unless it is named)

Candidates:
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print this.
    Help(String),
    /// Be the server of a measurement.
    Serve(Task),
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
    /// The connections of echoes, and the messages in flight on each.
    pub(crate) loads: Vec<(usize, usize)>,
    /// How many connections, where there are many.
    pub(crate) connections: usize,
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
            loads: Vec::new(),
            connections: 10_000,
            rounds: 3,
            patience: Duration::ZERO,
            json: None,
        }
    }
}

/// Reads the arguments.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Request, Failure> {
    let mut options = Options::default();
    let mut rounds = None;
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
            Long("load") => {
                let load = parser.value()?.string()?;
                let (connections, in_flight) = load.split_once('x').ok_or("a load is CxM")?;
                let both = (connections.parse()?, in_flight.parse()?);
                options.loads.push((positive(both.0)?, positive(both.1)?));
            }
            Long("connections") => {
                options.connections = positive(parser.value()?.parse()?)?;
            }
            Long("rounds") => rounds = Some(positive(parser.value()?.parse()?)?),
            Long("patience") => {
                options.patience = Duration::from_secs(parser.value()?.parse()?);
            }
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("serve") => {
                let task = serde_json::from_str(&parser.value()?.string()?)?;
                return Ok(Request::Serve(task));
            }
            Short('h') | Long("help") => return Ok(Request::Help(help())),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if options.loads.is_empty() {
        options.loads = vec![(64, 1), (64, 16), (8, 1), (1, 1)];
    }
    options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 3 });
    Ok(Request::Run(options))
}

/// Returns `number` if it is one or more.
fn positive(number: usize) -> Result<usize, Failure> {
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
        let _ = writeln!(help, "  {name:<19}{description}");
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(help().lines().all(|line| line.len() <= 120));
    }
}
