//! Child processes, as their parent sees them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::candidate::Candidate;
use crate::server::cpu_of;
use crate::task::{Answer, Task};

/// How long a child may take for anything. Only a fault lets it pass.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a child may take to end.
const END: Duration = Duration::from_secs(15);

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    /// The process.
    process: std::process::Child,
    /// What it wrote, line by line.
    lines: Receiver<String>,
    /// Collects what it complained about.
    complaints: Option<JoinHandle<String>>,
    /// Its CPU time when it was told to begin.
    began: Duration,
}

impl Child {
    /// Starts the program of `task`, and waits until it is ready.
    pub(crate) fn start(task: &Task) -> Result<Self, Failure> {
        let told = serde_json::to_string(task)?;
        let (program, first) = match program(task.candidate) {
            Some(file) => ("node".into(), file),
            None => (std::env::current_exe()?, "--task".into()),
        };
        let mut process = Command::new(program)
            .arg(first)
            .arg(told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", task.candidate.name()))?;
        let (sender, lines) = channel();
        let stdout = process.stdout.take().ok_or("no standard output")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stderr = process.stderr.take().ok_or("no standard error")?;
        let complaints = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut child = Child {
            process,
            lines,
            complaints: Some(complaints),
            began: Duration::ZERO,
        };
        let line = child.line()?;
        if line == "ready" {
            Ok(child)
        } else {
            Err(format!("it said {line:?} instead of `ready`").into())
        }
    }

    /// Tells it to begin.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.began = cpu_of(self.process.id())?;
        self.say("begin")
    }

    /// Waits for its answer.
    pub(crate) fn answer(&mut self) -> Result<Answer, Failure> {
        let line = self.line()?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("{error} in {line:?}"))?)
    }

    /// Returns its CPU time since it was told to begin.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(cpu_of(self.process.id())?.saturating_sub(self.began))
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.say("end")?;
        let since = Instant::now();
        while self.process.try_wait()?.is_none() {
            if since.elapsed() > END {
                return Err(format!("it did not end within {END:?}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Writes one line to it.
    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.process.stdin.as_mut().ok_or("no standard input")?;
        writeln!(stdin, "{line}").map_err(|error| format!("it is gone: {error}").into())
    }

    /// Reads one line from it.
    fn line(&mut self) -> Result<String, Failure> {
        match self.lines.recv_timeout(LONGEST) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("it said nothing for {LONGEST:?}").into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.process.wait()?;
                let complaints = self.complaints.take().map(JoinHandle::join);
                let text = complaints.and_then(Result::ok).unwrap_or_default();
                let first = text.lines().find(|line| !line.trim().is_empty());
                Err(format!("it failed: {status}: {}", first.unwrap_or_default()).into())
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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
    let folder = folder();
    if !folder.join("node_modules").is_dir() {
        let folder = folder.display();
        return Some(format!("run `npm ci --prefix {folder}` first"));
    }
    let node = Command::new("node").arg("--version").output();
    node.err().map(|error| format!("node: {error}"))
}
