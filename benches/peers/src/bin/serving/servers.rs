//! The servers that are a part of this program, each in a process of its own.

mod floor;
mod ours;
mod tungstenite;

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;
use peers::Failure;
use peers::frame::Named;

/// What a server is started with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Which one.
    pub(crate) candidate: Candidate,
    /// After which silence it pings, and drops, milliseconds. Only this library does.
    pub(crate) keepalive: [u64; 2],
    /// Whether it will send to all.
    pub(crate) is_broadcast: bool,
}

/// Is the server of `task`, until the standard input ends.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    match task.candidate {
        Candidate::Floor => floor::run(),
        Candidate::TungsteniteTuned => tungstenite::run(true),
        Candidate::Tungstenite => tungstenite::run(false),
        Candidate::TcpInline | Candidate::TcpStrand | Candidate::WsInline | Candidate::WsStrand => {
            ours::run(task)
        }
        other => Err(format!("{} is another program", other.name()).into()),
    }
}

/// Reports the port, and calls `obey` with each line of the standard input until it ends.
fn ready(port: u16, mut obey: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    println!("ready {port}");
    for line in io::stdin().lock().lines() {
        obey(&line?)?;
    }
    Ok(())
}
