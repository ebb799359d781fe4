//! Lines on the standard error that show what is being measured.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line on the standard error that shows what is being done.
#[derive(Debug)]
pub struct Progress {
    /// How many measurements there are.
    total: usize,
    /// How many have begun.
    begun: usize,
    /// Since when.
    start: Instant,
    /// Whether a line can be written over.
    is_terminal: bool,
    /// The line that was written last.
    said: String,
}

impl Progress {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Progress {
            total,
            begun: 0,
            start: Instant::now(),
            is_terminal: io::stderr().is_terminal(),
            said: String::new(),
        }
    }

    /// The next measurement begins: `label`, of `candidate`.
    pub fn step(&mut self, label: &str, candidate: &str) {
        let elapsed = self.start.elapsed();
        let left = match u32::try_from(self.begun) {
            Ok(begun @ 1..) => elapsed / begun * (self.total - self.begun) as u32,
            _ => Duration::ZERO,
        };
        self.begun += 1;
        if self.is_terminal {
            self.say(&format!(
                "[{:>3}/{}] {label}: {candidate} ({}, about {} left)",
                self.begun,
                self.total,
                clock(elapsed),
                clock(left),
            ));
        } else {
            self.say(label);
        }
    }

    /// Shows `line`: on a terminal in place of the one before, elsewhere below it if it is another.
    pub fn say(&mut self, line: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is harmed if it cannot be written.
        let _ = if self.is_terminal {
            write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush())
        } else if self.said == line {
            Ok(())
        } else {
            writeln!(stderr, "{line}")
        };
        line.clone_into(&mut self.said);
    }

    /// Everything is done.
    pub fn end(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Minutes and seconds.
fn clock(duration: Duration) -> String {
    format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60)
}
