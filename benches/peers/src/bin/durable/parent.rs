//! The parent process, as its child sees it: lines on the standard input and output.

use std::io::{self, BufRead, Write};

use peers::Failure;

use crate::task::Answer;

/// Reports that all is prepared, and waits until the parent says to begin.
pub(crate) fn ready() -> Result<(), Failure> {
    say("ready")?;
    listen()
}

/// Sends the answer.
pub(crate) fn answer(answer: &Answer) -> Result<(), Failure> {
    say(&serde_json::to_string(answer)?)
}

/// Waits until the parent says to end, or has gone.
pub(crate) fn until_end() -> Result<(), Failure> {
    listen()
}

/// Writes one line.
fn say(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// Reads one line.
fn listen() -> Result<(), Failure> {
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
