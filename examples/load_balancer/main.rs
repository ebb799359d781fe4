//! The keeper of a load balancer and its nodes, each a separate process that beats over UDP. Nodes flap, are killed,
//! hang, leave and come back, while a client picks nodes from the list and an attacker sends invalid datagrams.
//!
//! ```text
//! cargo run --release --example load_balancer --all-features
//! ```
//!
//! To build your own keeper, start from these files: `wire.rs` defines and signs the datagrams, `door.rs` decides which
//! of them the keeper accepts, `keeper.rs` maintains the list and contains a client, and `node.rs` is the sender. The
//! other files run the scenario and check its outcome.

mod door;
mod judge;
mod keeper;
mod node;
mod story;
mod trouble;
mod wire;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// Any error of the scenario.
type Failure = Box<dyn Error + Send + Sync>;

/// The output of `--help`.
const HELP: &str = "\
Runs a keeper and eight nodes for 72 units. The nodes beat every 4, 6, 8 or 11 units, with a timeout of 5 units.

Usage: load_balancer [--unit MS]

    --unit MS    length of a unit, 50 to 5000 ms [default: 200, which takes 15 s in total]
    --help       print this help

Each line of the output describes a change, with its time in units and in milliseconds, and lists the nodes that may
receive requests after it. Units of less than 100 ms need an idle machine.

Exit code: 0 if the outcome was as expected, 1 if not, 2 if an argument is invalid.
";

/// The task of this process.
enum Task {
    /// Print the help.
    Help,
    /// Run the scenario, with units of this length.
    Keeper(Duration),
    /// Run a node.
    Node,
}

/// Parses the arguments.
fn parse() -> Result<Task, lexopt::Error> {
    use lexopt::prelude::*;

    let mut parser = lexopt::Parser::from_env();
    let mut unit = 200;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("unit") => {
                unit = parser.value()?.parse()?;
                if !(50..=5_000).contains(&unit) {
                    return Err("`--unit` must be a number from 50 to 5000".into());
                }
            }
            // For the processes that the keeper starts. The name identifies the node in a list of processes.
            Long("node") => {
                parser.value()?;
                return Ok(Task::Node);
            }
            Long("help") => return Ok(Task::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Task::Keeper(Duration::from_millis(unit)))
}

/// Runs the scenario; returns whether the outcome was as expected.
fn keep(unit: Duration) -> Result<bool, Failure> {
    println!("{}", story::legend(unit));
    let record = story::play(unit)?;
    println!("\n{}", record.summary());
    let complaints = record.complaints();
    for complaint in &complaints {
        eprintln!("FAULT: {complaint}");
    }
    if complaints.is_empty() {
        println!("the outcome was as expected");
    }
    Ok(complaints.is_empty())
}

fn main() -> ExitCode {
    let outcome = match parse() {
        Ok(Task::Help) => {
            print!("{HELP}");
            Ok(true)
        }
        Ok(Task::Keeper(unit)) => keep(unit),
        Ok(Task::Node) => node::run().map(|()| true),
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
