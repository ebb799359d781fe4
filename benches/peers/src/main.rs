//! Runs the same scenarios on `liveness` and on what one would otherwise pick, and prints one table. `--help` explains.

mod args;
mod candidate;
mod candidates;
mod floors;
mod job;
mod key;
mod process;
mod progress;
mod report;
mod rows;
mod runner;
mod scenarios;
mod text;

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Options, Request};
use crate::job::Job;

/// What the arguments were wrong with.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let request = match args::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("peers: {error}; see `--help`");
            return ExitCode::from(USAGE);
        }
    };
    let result = match request {
        Request::Help(help) => io::stdout().write_all(help.as_bytes()).map_err(Into::into),
        Request::Measure(job) => measure(&job),
        Request::Run(options) => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints the table, writes the file.
fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // Half an hour of measuring should not end with a file that cannot be written.
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
    io::stdout().write_all(report::table(&results).as_bytes())?;
    if results.is_complete {
        Ok(())
    } else {
        Err("some measurements failed; see the notes".into())
    }
}

/// Is the process of one measurement: writes its answer and ends at once, whatever threads the candidate has.
fn measure(job: &Job) -> Result<(), Box<dyn Error>> {
    // A candidate that hangs must not hold up the others for ever.
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST);
        eprintln!("took longer than {LONGEST:?}");
        std::process::exit(1);
    });
    let answer = scenarios::run(job).ok_or("this candidate does not support the scenario")?;
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.flush()?;
    std::process::exit(0);
}

/// The longest that one measurement may take.
const LONGEST: Duration = Duration::from_mins(3);
