//! Files to which processes append lines, each in one write, so that a line survives the process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// Opens a file to append to it.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Returns the time in nanoseconds, by the clock that all processes and the server share.
pub(crate) fn now() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}

/// Appends a line: the time, the number of the process, and `words`.
pub(crate) fn write(file: &mut File, words: &[&str]) {
    let line = format!("{} {} {}\n", now(), process::id(), words.join(" "));
    file.write_all(line.as_bytes())
        .expect("the ledger takes a line");
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it was written, ns.
    pub(crate) at: u128,
    /// The process that wrote it.
    pub(crate) process: u32,
    /// The rest.
    pub(crate) words: Vec<String>,
}

/// Reads the lines of a file, of which there are none if it does not exist.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some(Line {
            at: words.next()?.parse().ok()?,
            process: words.next()?.parse().ok()?,
            words: words.collect(),
        })
    };
    whole.lines().filter_map(line).collect()
}
