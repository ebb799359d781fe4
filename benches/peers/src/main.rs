//! Runs the same scenarios on `liveness` and on what one would otherwise pick, and prints one table. `--help` explains.

mod args;
mod candidate;
mod candidates;
mod floors;
mod job;
mod key;
mod process;
mod report;
mod rows;
mod runner;
mod scenarios;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use peers::Failure;
use peers::frame::{exit, write_results};

use crate::args::Request;
use crate::job::Job;

fn main() -> ExitCode {
    let request = args::parse(std::env::args_os().skip(1));
    exit("peers", request, |request| match request {
        Request::Help(help) => Ok(io::stdout().write_all(help.as_bytes())?),
        Request::Measure(job) => measure(&job),
        Request::Run(options) => write_results(options.json.as_deref(), || {
            let results = runner::run(&options);
            let table = report::table(&results);
            (results.rows, table, results.is_complete)
        }),
    })
}

/// Is the process of one measurement: writes its answer and ends at once, whatever threads the candidate has.
fn measure(job: &Job) -> Result<(), Failure> {
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
