//! Child processes, as their parent sees them: lines on the standard input and output.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Failure;

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    /// The process.
    process: std::process::Child,
    /// What it wrote, line by line.
    lines: Receiver<String>,
    /// Collects what it complained about.
    complaints: Option<JoinHandle<String>>,
    /// How long it may take for a line.
    longest: Duration,
}

impl Child {
    /// Starts `command`, which may take `longest` for each line.
    ///
    /// # Errors
    ///
    /// Returns why it could not be started.
    pub fn start(command: &mut Command, longest: Duration) -> Result<Self, Failure> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
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
        Ok(Child {
            process,
            lines,
            complaints: Some(complaints),
            longest,
        })
    }

    /// Writes one line to it.
    ///
    /// # Errors
    ///
    /// Returns that it has ended.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.process.stdin.as_mut().ok_or("no standard input")?;
        writeln!(stdin, "{line}").map_err(|error| format!("it is gone: {error}").into())
    }

    /// Reads one line from it.
    ///
    /// # Errors
    ///
    /// Returns that it took too long, or how it ended and its first complaint.
    pub fn line(&mut self) -> Result<String, Failure> {
        match self.lines.recv_timeout(self.longest) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("it said nothing for {:?}", self.longest).into())
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

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// Returns that it had not after `longest`.
    pub fn wait(&mut self, longest: Duration) -> Result<(), Failure> {
        let since = Instant::now();
        while self.process.try_wait()?.is_none() {
            if since.elapsed() > longest {
                return Err(format!("it did not end within {longest:?}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Returns the CPU time of all its threads.
    ///
    /// # Errors
    ///
    /// Returns that it is gone.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.process.id())
    }

    /// Returns the bytes of its memory; of what it shares with other processes, its part.
    ///
    /// # Errors
    ///
    /// Returns that it is gone.
    pub fn memory(&self) -> Result<u64, Failure> {
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

/// Returns the CPU time of all threads of a process.
///
/// # Errors
///
/// Returns that there is no such process.
pub fn cpu_of(pid: u32) -> Result<Duration, Failure> {
    ticks(&format!("/proc/{pid}/stat"), 2)
}

/// Returns the sum of the first `fields` times in a file like `/proc/self/stat`: of the process in user and system
/// mode, then of its children that have ended.
pub(crate) fn ticks(file: &str, fields: usize) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(file)?;
    // The name before may contain spaces.
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(fields)
        .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
        .sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Returns why a program for Node.js in `folder` cannot run here, if so.
#[must_use]
pub fn reason_against_node(folder: &Path) -> Option<String> {
    if !folder.join("node_modules").is_dir() {
        return Some(format!("run `npm ci --prefix {}` first", folder.display()));
    }
    let node = Command::new("node").arg("--version").output();
    node.err().map(|error| format!("node: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time() {
        let work: Vec<u64> = (0..20_000_000u64).map(|i| i * i).collect();
        assert!(std::hint::black_box(work).len() == 20_000_000);
        assert!(cpu_of(std::process::id()).expect("Linux tells") > Duration::ZERO);
    }
}
