//! A server for TCP and WebSocket under load: `liveness::server` beside its peers, and beside the least that a server can
//! do. `--help` explains.

mod args;
mod candidate;
mod child;
mod crowd;
mod echo;
mod keepalive;
mod measure;
mod report;
mod rows;
mod runner;
mod servers;
mod targets;
mod wire;

#[path = "../durable/others.rs"]
mod others;
#[path = "../../progress.rs"]
mod progress;
#[path = "../../text.rs"]
mod text;

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::{Options, Request};

/// What a failure is, whatever its cause.
type Failure = Box<dyn Error + Send + Sync>;

/// The exit code of wrong arguments.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let request = match args::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("serving: {error}; see `--help`");
            return ExitCode::from(USAGE);
        }
    };
    let result = match request {
        Request::Help(help) => io::stdout().write_all(help.as_bytes()).map_err(Into::into),
        Request::Serve(task) => servers::run(&task),
        Request::Run(options) => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serving: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints the tables, writes the file.
fn run(options: &Options) -> Result<(), Failure> {
    // Minutes of measuring should not end with a file that cannot be written.
    let json = match &options.json {
        Some(path) => {
            let file = File::create(path);
            Some(file.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => None,
    };
    let results = runner::run(options);
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&mut file, &results.rows)?;
        writeln!(file)?;
    }
    io::stdout().write_all(report::report(&results).as_bytes())?;
    if results.is_complete {
        Ok(())
    } else {
        Err("some measurements failed; see the notes".into())
    }
}
