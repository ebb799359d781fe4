//! Child processes of a measurement: each begins when all is prepared, and ends, at a sign of the parent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peers::frame::{Comparison, Named};
use peers::{Failure, child};

use crate::Durable;
use crate::candidate::Candidate;
use crate::task::{Answer, Task};

/// How long a child may take for anything. Only a fault lets it pass.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a child may take to end.
const END: Duration = Duration::from_secs(15);

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    /// The process.
    process: child::Child,
    /// Its CPU time when it got the sign to begin.
    began: Duration,
}

impl Child {
    /// Starts the program of `task`, and waits until it is ready.
    pub(crate) fn start(task: &Task) -> Result<Self, Failure> {
        let mut command = if let Some(file) = program(task.candidate) {
            let mut command = Command::new("node");
            command.arg(file);
            command
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(format!("--{}", Durable::CHILD));
            command
        };
        command.arg(serde_json::to_string(task)?);
        let process = child::Child::start(&mut command, LONGEST);
        let mut process = process.map_err(|error| format!("{}: {error}", task.candidate.name()))?;
        let line = process.line()?;
        if line != "ready" {
            return Err(format!("it said {line:?} instead of `ready`").into());
        }
        let began = Duration::ZERO;
        Ok(Child { process, began })
    }

    /// Tells it to begin.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.began = self.process.cpu()?;
        self.process.say("begin")
    }

    /// Waits for its answer.
    pub(crate) fn answer(&mut self) -> Result<Answer, Failure> {
        let line = self.process.line()?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("{error} in {line:?}"))?)
    }

    /// Returns its CPU time since it got the sign to begin.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(self.process.cpu()?.saturating_sub(self.began))
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.process.say("end")?;
        self.process.wait(END)
    }
}

/// Returns the file of a candidate that runs on Node.js.
fn program(candidate: Candidate) -> Option<PathBuf> {
    (candidate == Candidate::Bullmq).then(|| folder().join("bullmq.mjs"))
}

/// The folder of the programs for Node.js.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

/// Returns why `candidate` cannot run here, if so.
pub(crate) fn reason_against(candidate: Candidate) -> Option<String> {
    program(candidate)?;
    child::reason_against_node(&folder())
}
