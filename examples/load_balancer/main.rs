//! A load balancer's keeper and its nodes, each a process of its own that beats over UDP: they flap, are killed, hang,
//! leave and come back, while a client picks from the list and somebody makes trouble.
//!
//! ```text
//! cargo run --release --example load_balancer --all-features
//! ```
//!
//! What to copy for a keeper of your own: `wire.rs`, what the nodes send and how it is signed; `door.rs`, what the keeper
//! takes; `keeper.rs`, how it makes the list, and how a client picks from it; `node.rs`, the other side. The rest tells the
//! story and sees that it is right.

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

/// Whatever may end a part of the story.
type Failure = Box<dyn Error + Send + Sync>;

/// What `--help` prints.
const HELP: &str = "\
Plays a keeper and eight nodes, which beat every 4, 6, 8 or 11 units and may be silent for 5, and ends after 72 units.

Usage: load_balancer [--unit MS]

    --unit MS    how long a unit is, 50 to 5000 ms [default: 200, which makes 15 s in all]
    --help       print this and end

The story goes to stdout, a line for each thing that happens, with the time in units and in milliseconds and the nodes
that may have requests since then. The less than 100 ms a unit has, the more idle the machine must be.

Exit code: 0 if all went as it should, 1 if not, 2 if an argument is wrong.
";

/// What to do.
enum Task {
    /// Explain.
    Help,
    /// Play the story, with units so long.
    Keeper(Duration),
    /// Be a node.
    Node,
}

/// Reads the arguments.
fn parse() -> Result<Task, lexopt::Error> {
    use lexopt::prelude::*;

    let mut parser = lexopt::Parser::from_env();
    let mut unit = 200;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("unit") => {
                unit = parser.value()?.parse()?;
                if !(50..=5_000).contains(&unit) {
                    return Err("`--unit` takes a number from 50 to 5000".into());
                }
            }
            // For the processes that the keeper starts; the name is for who lists processes.
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

/// Plays the story; returns whether it went as it should.
fn keep(unit: Duration) -> Result<bool, Failure> {
    println!("{}", story::legend(unit));
    let record = story::play(unit)?;
    println!("\n{}", record.summary());
    let complaints = record.complaints();
    for complaint in &complaints {
        eprintln!("WRONG: {complaint}");
    }
    if complaints.is_empty() {
        println!("all went as it should");
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
