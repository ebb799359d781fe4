//! The command-line arguments.

use std::ffi::OsString;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use super::{Candidate, Comparison, Named, ScenarioOf};
use crate::Failure;

/// What to do.
#[derive(Debug)]
pub enum Request<C: Comparison> {
    /// Print this.
    Help(String),
    /// Be a child process.
    Task(Box<C::Task>),
    /// Measure.
    Run(Options<C>),
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options<C: Comparison> {
    /// Whether to take less time.
    pub quick: bool,
    /// Only these; all if there are none.
    pub scenarios: Vec<ScenarioOf<C>>,
    /// Only these; all if there are none.
    pub candidates: Vec<C::Candidate>,
    /// How often.
    pub rounds: usize,
    /// For how long to repeat a measurement that others disturbed.
    pub patience: Duration,
    /// Where to write the rows.
    pub json: Option<PathBuf>,
    /// What only this comparison has.
    pub own: C::Own,
}

impl<C: Comparison> Default for Options<C> {
    fn default() -> Self {
        Options {
            quick: false,
            scenarios: Vec::new(),
            candidates: Vec::new(),
            rounds: 3,
            patience: Duration::ZERO,
            json: None,
            own: C::Own::default(),
        }
    }
}

/// Reads the arguments, without the name of the program.
///
/// # Errors
///
/// Returns what is wrong with them.
pub fn parse<C: Comparison>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Request<C>, Failure> {
    let mut options = Options::default();
    let mut rounds = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => options.quick = true,
            Long("scenario") => options
                .scenarios
                .extend(list::<ScenarioOf<C>>(&mut parser, "scenario")?),
            Long("candidate") => options
                .candidates
                .extend(list::<C::Candidate>(&mut parser, "candidate")?),
            Long("rounds") => rounds = Some(parser.value()?.parse::<NonZeroUsize>()?),
            Long("patience") => {
                options.patience = Duration::from_secs(parser.value()?.parse()?);
            }
            Long("json") => options.json = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(Request::Help(help::<C>())),
            Long(name) if name == C::CHILD => {
                let task = serde_json::from_str(&parser.value()?.string()?)?;
                return Ok(Request::Task(task));
            }
            Long(name) => {
                let name = name.to_owned();
                if !C::option(&mut options.own, &name, &mut parser)? {
                    return Err(lexopt::Error::UnexpectedOption(format!("--{name}")).into());
                }
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let usual = if options.quick { 1 } else { 3 };
    options.rounds = rounds.map_or(usual, NonZeroUsize::get);
    Ok(Request::Run(options))
}

/// Reads the value of an option as names separated by commas.
///
/// # Errors
///
/// Returns the choices if there is no such name.
pub fn list<T: Named>(parser: &mut lexopt::Parser, what: &str) -> Result<Vec<T>, Failure> {
    let names = parser.value()?.string()?;
    names.split(',').map(|name| named(what, name)).collect()
}

/// Returns the item called `name`.
fn named<T: Named>(what: &str, name: &str) -> Result<T, Failure> {
    let mut all = T::ALL.iter().copied();
    all.find(|item| item.name() == name).ok_or_else(|| {
        let choices: Vec<_> = T::ALL.iter().map(|item| item.name()).collect();
        let choices = choices.join(", ");
        format!("unknown {what} `{name}`; the choices are {choices}").into()
    })
}

/// The output of `--help`.
fn help<C: Comparison>() -> String {
    let mut help = C::HELP.to_owned();
    for candidate in C::Candidate::ALL {
        let (name, description) = (candidate.name(), candidate.description());
        let _ = writeln!(help, "  {name:<19}{description}");
    }
    help
}
