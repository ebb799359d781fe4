//! The arguments that only this comparison has.

use std::num::NonZeroU64;

use lexopt::prelude::*;
use peers::Failure;

/// The output of `--help` before the list of candidates.
pub(crate) const HELP: &str = "\
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

/// What to measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// Only servers that make an fsync for each write, or only those that do not.
    pub(crate) fsync: Option<bool>,
    /// How many events to emit and to drain.
    pub(crate) events: Option<NonZeroU64>,
    /// How many events asynchronous peers drain.
    pub(crate) peer_events: Option<NonZeroU64>,
}

impl Own {
    /// Takes the option `name`, if there is one.
    pub(crate) fn option(
        &mut self,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<bool, Failure> {
        match name {
            "fsync" => {
                self.fsync = Some(match parser.value()?.string()?.as_str() {
                    "everysec" => false,
                    "always" => true,
                    other => return Err(format!("`{other}` is not everysec or always").into()),
                });
            }
            "events" => self.events = Some(parser.value()?.parse()?),
            "peer-events" => self.peer_events = Some(parser.value()?.parse()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns how many events to emit and to drain, and how many an asynchronous peer drains.
    pub(crate) fn events(&self, quick: bool) -> [u64; 2] {
        let [all, peers] = if quick {
            [200_000, 50_000]
        } else {
            [1_000_000, 200_000]
        };
        [(self.events, all), (self.peer_events, peers)]
            .map(|(given, usual)| given.map_or(usual, NonZeroU64::get))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use peers::frame::args::{Options, Request, parse};

    use super::*;
    use crate::Durable;
    use crate::setting::Scenario;

    /// Parses `words`.
    fn run(words: &[&str]) -> Result<Options<Durable>, Failure> {
        match parse(words.iter().map(OsString::from))? {
            Request::Run(options) => Ok(options),
            other => Err(format!("{other:?}").into()),
        }
    }

    #[test]
    fn what_is_given_replaces_the_defaults() {
        let options = run(&["--quick", "--scenario", "emit,due", "--rounds", "2"]).expect("valid");
        assert_eq!(options.scenarios, [Scenario::Emit, Scenario::Due]);
        assert_eq!((options.own.events(true)[0], options.rounds), (200_000, 2));
        for words in [
            &["--scenario", "emits"][..],
            &["--fsync", "no"],
            &["--rounds", "0"],
            &["--fast"],
        ] {
            assert!(run(words).is_err(), "{words:?}");
        }
    }
}
