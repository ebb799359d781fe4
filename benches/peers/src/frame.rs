//! One program for all comparisons: arguments, runs in turn, tables and targets. A comparison states what differs.

pub mod args;
pub mod report;
pub mod rows;
pub mod runner;

use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use args::{Options, Request};
use report::Target;
use rows::{Outcome, Row};
use runner::Group;

/// The exit code of wrong arguments.
const USAGE: u8 = 2;

/// One of a list, with a name in arguments and results.
pub trait Named: Copy + Debug + Ord + Send + Sync + Serialize + 'static {
    /// Those one can ask for, in the order of the tables.
    const ALL: &'static [Self];

    /// Returns its name.
    fn name(self) -> &'static str;
}

/// Who is measured.
pub trait Candidate: Named {
    /// Returns what it is.
    fn description(self) -> &'static str;
}

/// What rows are compared within.
pub trait Setting: Copy + Debug + Ord + Send + Sync + Serialize + 'static {
    /// What is done.
    type Scenario: Named;

    /// Returns what is done.
    fn scenario(self) -> Self::Scenario;

    /// Returns what stands over its table.
    fn title(self) -> String;
}

/// What is measured.
pub trait Metric: Copy + Debug + Ord + Send + Sync + Serialize + 'static {
    /// All, in the order of the columns.
    const ALL: &'static [Self];

    /// Returns what stands over its column, unit included.
    fn title(self) -> &'static str;

    /// Returns a value in the unit of its column.
    fn shown(self, value: f64) -> String;
}

/// A comparison of candidates in settings.
pub trait Comparison: Copy + Debug + Sized + 'static {
    /// The name of the program.
    const NAME: &'static str;
    /// The output of `--help` before the list of candidates.
    const HELP: &'static str;
    /// The option with which the program is a child process of itself. Its value is a [`Task`](Comparison::Task) in
    /// JSON.
    const CHILD: &'static str;
    /// Whether the first column of a table has bars.
    const HAS_BARS: bool;

    /// Who is measured.
    type Candidate: Candidate;
    /// What is done to them, and how.
    type Setting: Setting;
    /// What is measured.
    type Metric: Metric;
    /// The options that only this comparison has.
    type Own: Clone + Debug + Default + Sync;
    /// What a child process is asked to do.
    type Task: Debug + DeserializeOwned;

    /// Takes the option `name` with its value, and returns whether there is such an option.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the value.
    fn option(
        own: &mut Self::Own,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<bool, Failure>;

    /// Is the child process of `task`.
    ///
    /// # Errors
    ///
    /// Returns why it could not do it.
    fn run_task(task: &Self::Task) -> Result<(), Failure>;

    /// Returns what can run, whatever the options select.
    fn plan(options: &Options<Self>) -> Vec<Group<Self>>;

    /// Returns why `candidate` cannot run here, if so.
    fn reason_against(candidate: Self::Candidate) -> Option<String>;

    /// Measures once, on a thread of its own.
    ///
    /// # Errors
    ///
    /// Returns why it could not.
    fn measure(
        setting: Self::Setting,
        candidate: Self::Candidate,
        options: &Options<Self>,
    ) -> Result<Outcome<Self::Metric>, Failure>;

    /// Returns what stands over all tables.
    fn introduction(options: &Options<Self>) -> String;

    /// Returns whom the ratios of a table refer to, and the title of their column.
    fn base(setting: Self::Setting) -> (Self::Candidate, &'static str);

    /// Returns the targets whose values are among `rows`.
    fn targets(rows: &[Row<Self>]) -> Vec<Target>;

    /// Returns what `candidate` promises if a worker is killed.
    fn promise(_candidate: Self::Candidate) -> Option<&'static str> {
        None
    }
}

/// What a setting of `C` does.
pub type ScenarioOf<C> = <<C as Comparison>::Setting as Setting>::Scenario;

/// Is the program of `C`.
#[must_use]
pub fn main<C: Comparison>() -> ExitCode {
    let request = args::parse::<C>(std::env::args_os().skip(1));
    exit(C::NAME, request, |request| match request {
        Request::Help(help) => Ok(io::stdout().write_all(help.as_bytes())?),
        Request::Task(task) => C::run_task(&task),
        Request::Run(options) => write_results(options.json.as_deref(), || {
            let results = runner::run(&options);
            let report = report::report(&results, &options);
            (results.rows, report, results.is_complete)
        }),
    })
}

/// Does what is requested of the program `name`, and reports what is wrong.
pub fn exit<R, E: Display>(
    name: &str,
    request: Result<R, E>,
    act: impl FnOnce(R) -> Result<(), Failure>,
) -> ExitCode {
    match request.map(act) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{name}: {error}; see `--help`");
            ExitCode::from(USAGE)
        }
    }
}

/// Measures, prints the report, and writes the rows to the file `json`. `measure` returns rows, report, and whether all
/// could be measured.
///
/// # Errors
///
/// Returns why the file cannot be written, or that a measurement failed.
pub fn write_results<R: Serialize>(
    json: Option<&Path>,
    measure: impl FnOnce() -> (Vec<R>, String, bool),
) -> Result<(), Failure> {
    // Half an hour of measuring should not end with a file that cannot be written.
    let create =
        |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
    let json = json.map(create).transpose()?;
    let (rows, report, is_complete) = measure();
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&mut file, &rows)?;
        writeln!(file)?;
    }
    io::stdout().write_all(report.as_bytes())?;
    if is_complete {
        Ok(())
    } else {
        Err("some measurements failed; see the notes".into())
    }
}
