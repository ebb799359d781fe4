//! The command-line arguments.

use std::ffi::OsString;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lexopt::prelude::*;
use peers::Failure;
use peers::frame::Named;
use peers::frame::args::list;

use crate::candidates::Kind;
use crate::job::{Job, Scenario};

/// The output of `--help` before the list of candidates.
const HELP: &str = "\
Runs the same scenarios on liveness and on alternative solutions, and prints a table of the results.

    cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTIONS]

Each measurement runs in its own process. Rounds alternate between the candidates. The median of the rounds is printed
with its ratio to the value of liveness. Before the measurements, each candidate is checked: it must report each dead
key exactly once and not early, and no living key. Requires Linux.

Options:
  --quick            fewer keys and rounds: less than five minutes on two cores instead of about 25
  --scenario NAME    run only this scenario; may be repeated, or a list separated by commas
  --candidate NAME   run only this candidate; may be repeated, or a list separated by commas; without `liveness` no
                     ratios are printed
  --keys N           use this number of keys instead of the scenario's, 1 to 20000000; may be repeated, or a list
                     separated by commas; 10_000, 10k and 1M are accepted
  --producers N      threads that beat, 1 to 64; default 2, and 1 for `handle`
  --workers N        threads of a candidate, if configurable (liveness, naive), 1 to 64; default 2
  --rounds N         measurements of each candidate, 1 to 99
  --json FILE        write all rows as a JSON array
  -h, --help         print this help

Scenarios:                                                                   keys, quick           keys
  beat               beats one at a time                                     10k 1M                10k 100k 1M
  beat_many          beats of 256 keys per call, if supported        10k 1M                10k 100k 1M
  handle             beats by a handle to a key, if supported          10k 100k              10k 100k 1M
  per_key_timeout    beats one at a time, keys with 400 different timeouts   100k                  10k 1M
  mass_expiry        all keys die together                                   100k                  1M
  steady             keys beat every 500 ms, 0.1 % die, 1 s timeout          20k                   100k
  memory             resident memory for each key                            200k                  1M
  idle               wake-ups and CPU while nothing happens, 1 h timeouts    200k                  1M

Candidates:
";

/// The request of the user.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Prints the help.
    Help(String),
    /// Measures.
    Run(Options),
    /// Runs one measurement in this process; not for users.
    Measure(Job),
}

/// What to measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Whether to use fewer keys and rounds.
    pub(crate) quick: bool,
    /// The scenarios; the usual ones if empty.
    pub(crate) scenarios: Vec<Scenario>,
    /// The candidates; all if empty.
    pub(crate) candidates: Vec<Kind>,
    /// The numbers of keys; the scenario's own if empty.
    pub(crate) keys: Vec<usize>,
    /// The threads that beat; the scenario's own if not given.
    pub(crate) producers: Option<usize>,
    /// The threads of a candidate; the scenario's own if not given.
    pub(crate) workers: Option<usize>,
    /// The rounds; the scenario's own if not given.
    pub(crate) rounds: Option<usize>,
    /// Where to write the rows.
    pub(crate) json: Option<PathBuf>,
}

/// Parses the arguments, without the name of the program.
///
/// # Errors
///
/// Returns a text that states what is wrong.
pub(crate) fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Request, Failure> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Request::Help(help())),
            Long("quick") => options.quick = true,
            Long("scenario") => {
                options
                    .scenarios
                    .extend(list::<Scenario>(&mut parser, "scenario")?);
            }
            Long("candidate") => {
                options
                    .candidates
                    .extend(list::<Kind>(&mut parser, "candidate")?);
            }
            Long("keys") => {
                for part in parser.value()?.string()?.split(',') {
                    options.keys.push(number("--keys", part, 1..=20_000_000)?);
                }
            }
            Long("producers") => options.producers = Some(one(&mut parser, "--producers", 1..=64)?),
            Long("workers") => options.workers = Some(one(&mut parser, "--workers", 1..=64)?),
            Long("rounds") => options.rounds = Some(one(&mut parser, "--rounds", 1..=99)?),
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("measure") => {
                let job = serde_json::from_str(&parser.value()?.string()?)?;
                return Ok(Request::Measure(job));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Request::Run(options))
}

/// The whole help.
fn help() -> String {
    let mut help = HELP.to_owned();
    for kind in Kind::ALL {
        let (name, description) = (kind.name(), kind.description());
        let _ = writeln!(help, "  {name:<18} {description}");
    }
    help
}

/// The value of an option as a number.
fn one(
    parser: &mut lexopt::Parser,
    option: &str,
    range: RangeInclusive<usize>,
) -> Result<usize, Failure> {
    number(option, &parser.value()?.string()?, range)
}

/// A number such as `10000`, `10_000`, `10k` or `1M`.
fn number(option: &str, text: &str, range: RangeInclusive<usize>) -> Result<usize, Failure> {
    let plain = text.replace('_', "");
    let (digits, unit) = match plain.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => match plain.strip_suffix(['m', 'M']) {
            Some(digits) => (digits, 1_000_000),
            None => (plain.as_str(), 1),
        },
    };
    let number = digits
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_mul(unit));
    number.filter(|n| range.contains(n)).ok_or_else(|| {
        let (min, max) = (range.start(), range.end());
        format!("{option} is `{text}`; it must be a number from {min} to {max}").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood() {
        let args = [
            "--quick",
            "--scenario=beat,idle",
            "--scenario",
            "steady",
            "--keys",
            "10k,1_000_000",
            "--workers",
            "4",
            "--json",
            "out.json",
        ];
        let Ok(Request::Run(options)) = parse(args) else {
            panic!("these are fine");
        };
        assert!(options.quick);
        assert_eq!(
            options.scenarios,
            [Scenario::Beat, Scenario::Idle, Scenario::Steady]
        );
        assert_eq!(options.keys, [10_000, 1_000_000]);
        assert_eq!((options.producers, options.workers), (None, Some(4)));
        assert_eq!(options.json, Some("out.json".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (args, said) in [
            (
                &["--scenario", "beet"][..],
                "unknown scenario `beet`; the choices are beat, beat_many",
            ),
            (
                &["--keys", "0"],
                "--keys is `0`; it must be a number from 1 to 20000000",
            ),
            (&["--keys", "1x"], "--keys is `1x`"),
            (&["--workers"], "missing argument for option '--workers'"),
            (&["--fast"], "invalid option '--fast'"),
            (&["what"], "unexpected argument \"what\""),
        ] {
            match parse(args) {
                Err(error) => assert!(error.to_string().contains(said), "{error}"),
                Ok(request) => panic!("{request:?}"),
            }
        }
    }
}
