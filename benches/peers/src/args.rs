//! The arguments: what they mean, what is allowed.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::candidates::Kind;
use crate::job::{Job, Scenario};

/// What `--help` prints, before the candidates.
const HELP: &str = "\
Runs the same scenarios on liveness and on what one would otherwise pick, and prints one table.

    cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTIONS]

Each measurement runs in a process of its own. Rounds alternate between the candidates, and the median of the rounds is
told. Every value comes with its ratio to ours. Before anything is measured each candidate has to prove that it reports
each dead key exactly once, not early, and no living one. Needs Linux.

Options:
  --quick            less of everything: about three minutes on two cores, instead of about half an hour
  --scenario NAME    only this one; may be given several times, or NAMES separated by commas
  --candidate NAME   only this one, and those given in the same way; without `liveness` there are no ratios
  --keys N           instead of the scenario's own number of keys; may be given several times, or separated by commas;
                     1 to 20000000; 10_000, 10k and 1M are fine too
  --producers N      threads that beat, 1 to 64; default 2, and 1 for `handle`
  --workers N        threads that a candidate uses, where that can be chosen (liveness, naive), 1 to 64; default 2
  --rounds N         measurements of each candidate, 1 to 99
  --json FILE        writes all rows as a JSON array
  -h, --help         this

Scenarios:                                                                   keys, quick           keys
  beat               beats one at a time                                     10k 1M                10k 100k 1M
  beat_many          beats 256 at a time, where there is such a thing        10k 1M                10k 100k 1M
  handle             beats by a handle on a key, where there is one          10k 100k              10k 100k 1M
  per_key_timeout    beats one at a time, keys have 400 different timeouts   100k                  10k 1M
  mass_expiry        all keys die together                                   100k                  1M
  steady             keys beat every 500 ms, 0.1 % die, 1 s timeout          20k                   100k
  memory             resident memory for each key                            200k                  1M
  idle               wake-ups and CPU while nothing happens, 1 h timeouts    200k                  1M

Candidates:
";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// The help.
    Help(String),
    /// To measure.
    Run(Options),
    /// To be the process of one measurement; not for users.
    Measure(Job),
}

/// What to measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Less of everything.
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

/// Understands arguments, the name of the program not among them.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(crate) fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Request, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options::default();
    while let Some(arg) = parser.next().map_err(say)? {
        match arg {
            Short('h') | Long("help") => return Ok(Request::Help(help())),
            Long("quick") => options.quick = true,
            Long("scenario") => {
                let all = Scenario::ALL.map(Scenario::name);
                options
                    .scenarios
                    .extend(list(&mut parser, "scenario", &all, Scenario::parse)?);
            }
            Long("candidate") => {
                let all = Kind::CANDIDATES.map(Kind::name);
                options
                    .candidates
                    .extend(list(&mut parser, "candidate", &all, Kind::parse)?);
            }
            Long("keys") => {
                for part in text(&mut parser)?.split(',') {
                    options.keys.push(number("--keys", part, 1..=20_000_000)?);
                }
            }
            Long("producers") => options.producers = Some(one(&mut parser, "--producers", 1..=64)?),
            Long("workers") => options.workers = Some(one(&mut parser, "--workers", 1..=64)?),
            Long("rounds") => options.rounds = Some(one(&mut parser, "--rounds", 1..=99)?),
            Long("json") => options.json = Some(parser.value().map_err(say)?.into()),
            Long("measure") => {
                let job = serde_json::from_str(&text(&mut parser)?);
                return job.map(Request::Measure).map_err(say);
            }
            other => return Err(say(other.unexpected())),
        }
    }
    Ok(Request::Run(options))
}

/// The whole help.
fn help() -> String {
    let candidates = Kind::CANDIDATES
        .iter()
        .map(|kind| format!("  {:<18} {}\n", kind.name(), kind.description()));
    HELP.chars()
        .chain(candidates.collect::<String>().chars())
        .collect()
}

/// An error as a sentence.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn say(error: impl ToString) -> String {
    error.to_string()
}

/// The value of an option as text.
fn text(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().map_err(say)?.string().map_err(say)
}

/// The value of an option as a number.
fn one(
    parser: &mut lexopt::Parser,
    option: &str,
    range: RangeInclusive<usize>,
) -> Result<usize, String> {
    number(option, &text(parser)?, range)
}

/// The value of an option as names separated by commas.
fn list<T>(
    parser: &mut lexopt::Parser,
    what: &str,
    all: &[&str],
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    text(parser)?
        .split(',')
        .map(|name| {
            parse(name)
                .ok_or_else(|| format!("there is no {what} `{name}`; there are {}", all.join(", ")))
        })
        .collect()
}

/// A number such as `10000`, `10_000`, `10k` or `1M`.
fn number(option: &str, text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
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
        format!("{option} is `{text}`; it must be a number from {min} to {max}")
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
                "there is no scenario `beet`; there are beat, beat_many",
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
                Err(error) => assert!(error.contains(said), "{error}"),
                Ok(request) => panic!("{request:?}"),
            }
        }
    }
}
