//! Servers as child processes, on a core of their own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Failure;
use crate::candidate::Candidate;
use crate::servers::Task;

/// The core of the servers.
const SERVER_CORE: usize = 0;

/// The core of the load.
pub(crate) const LOAD_CORE: usize = 1;

/// How long a child may take for anything.
const LONGEST: Duration = Duration::from_secs(20);

/// A server.
#[derive(Debug)]
pub(crate) struct Child {
    /// The process.
    process: std::process::Child,
    /// What it wrote, line by line.
    lines: Receiver<String>,
    /// Collects what it complained about.
    complaints: Option<JoinHandle<String>>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Lets this thread, and processes that it creates, run on one core only.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| format!("cannot run on core {core}: {error}").into())
}

impl Child {
    /// Starts the server of `task` on its core, and waits until it listens. Leaves this thread on the core of the load.
    pub(crate) fn start(task: &Task) -> Result<Self, Failure> {
        let mut command = if let Some((program, file)) = task.candidate.program() {
            let local = folder().join(program);
            let mut command = Command::new(if local.exists() {
                local
            } else {
                program.into()
            });
            command.arg(folder().join(file));
            if task.is_broadcast {
                command.arg("broadcast");
            }
            command
        } else {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("--serve").arg(serde_json::to_string(task)?);
            command
        };
        pin(SERVER_CORE)?;
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        pin(LOAD_CORE)?;
        let mut process = started?;
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
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let line = child.line()?;
        let port = line.strip_prefix("ready ").and_then(|it| it.parse().ok());
        let port: u16 = port.ok_or_else(|| format!("it said {line:?} instead of a port"))?;
        child.address.set_port(port);
        Ok(child)
    }

    /// Writes one line to it.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.process.stdin.as_mut().ok_or("no standard input")?;
        writeln!(stdin, "{line}").map_err(|error| format!("it is gone: {error}").into())
    }

    /// Reads one line from it.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
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

    /// Returns the CPU time of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name before may contain spaces.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
            .sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Returns the bytes of its memory; of what it shares with other processes, its part.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|rest| rest.split_whitespace().next());
        let kib: u64 = kib.ok_or("no `Pss:`")?.parse()?;
        Ok(kib * 1_024)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The folder of the servers in other languages.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("websocket")
}

/// Returns why `candidate` cannot run here, if so.
pub(crate) fn reason_against(candidate: Candidate) -> Option<String> {
    candidate.program()?;
    let folder = folder();
    if !folder.join("node_modules").is_dir() {
        return Some(format!("run `npm ci --prefix {}` first", folder.display()));
    }
    let node = Command::new("node").arg("--version").output();
    node.err().map(|error| format!("node: {error}"))
}
