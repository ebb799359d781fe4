//! The arguments that only this comparison has.

use std::num::NonZeroUsize;

use lexopt::prelude::*;
use peers::Failure;

/// The output of `--help` before the list of candidates.
pub(crate) const HELP: &str = "\
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

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// The connections of echoes, and the messages in flight on each; the usual ones if there are none.
    pub(crate) loads: Vec<(usize, usize)>,
    /// How many connections, where there are many.
    pub(crate) connections: usize,
}

impl Default for Own {
    fn default() -> Self {
        Own {
            loads: Vec::new(),
            connections: 10_000,
        }
    }
}

impl Own {
    /// Takes the option `name`, if there is one.
    pub(crate) fn option(
        &mut self,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<bool, Failure> {
        match name {
            "load" => {
                let load = parser.value()?.string()?;
                let (connections, in_flight) = load.split_once('x').ok_or("a load is CxM")?;
                let load: (NonZeroUsize, NonZeroUsize) = (connections.parse()?, in_flight.parse()?);
                self.loads.push((load.0.get(), load.1.get()));
            }
            "connections" => self.connections = parser.value()?.parse::<NonZeroUsize>()?.get(),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
