//! A copy of this program in a process of its own, and what it prints.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::role::Role;
use crate::story::Failure;

/// How long an event or the end of a copy may take. Only a fault lets it pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy, which is killed when it is dropped.
pub(crate) struct Copy {
    /// What it is called in the story.
    name: &'static str,
    /// The process. Its standard input is closed to end it.
    child: Child,
    /// Its events, with the times at which they were read.
    events: Receiver<Event>,
}

/// A line that a copy has printed.
pub(crate) struct Event {
    /// When it was read.
    pub(crate) at: Instant,
    /// Its words.
    pub(crate) words: Vec<String>,
}

impl Event {
    /// Returns the words.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

impl Copy {
    /// Starts a copy.
    pub(crate) fn start(name: &'static str, role: &Role) -> Result<Self, Failure> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--role")
            .args(role.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let (send, events) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words = line.split(' ').map(str::to_owned).collect();
                let at = Instant::now();
                if send.send(Event { at, words }).is_err() {
                    break;
                }
            }
        });
        Ok(Copy {
            name,
            child,
            events,
        })
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for the next event.
    pub(crate) fn next(&self) -> Result<Event, Failure> {
        let event = self.events.recv_timeout(PATIENCE);
        event.map_err(|_| format!("no event of {} within {PATIENCE:?}", self.name).into())
    }

    /// Sends a signal. Returns the time before.
    pub(crate) fn signal(&self, signal: Signal) -> Result<Instant, Failure> {
        let before = Instant::now();
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        Ok(before)
    }

    /// Kills it, and checks that it has printed nothing that was not read. Returns the time before.
    pub(crate) fn kill(mut self) -> Result<Instant, Failure> {
        let before = self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        self.nothing_follows()?;
        Ok(before)
    }

    /// Asks it to end.
    pub(crate) fn end(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has ended, and checks that it found nothing wrong.
    pub(crate) fn join(mut self) -> Result<(), Failure> {
        self.nothing_follows()?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("{} has ended with {status}", self.name).into());
        }
        Ok(())
    }

    /// Waits until its output has ended, and checks that no event was in it.
    fn nothing_follows(&self) -> Result<(), Failure> {
        match self.events.recv_timeout(PATIENCE) {
            Ok(event) => Err(format!("{}: {:?} is not expected", self.name, event.words()).into()),
            Err(RecvTimeoutError::Timeout) => Err(format!("{} does not end", self.name).into()),
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
