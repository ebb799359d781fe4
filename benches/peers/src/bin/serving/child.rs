//! Servers as child processes, on a core of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peers::frame::Comparison;
use peers::{Failure, child};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Serving;
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
    process: child::Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Deref for Child {
    type Target = child::Child;

    fn deref(&self) -> &child::Child {
        &self.process
    }
}

impl DerefMut for Child {
    fn deref_mut(&mut self) -> &mut child::Child {
        &mut self.process
    }
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
            command
                .arg(format!("--{}", Serving::CHILD))
                .arg(serde_json::to_string(task)?);
            command
        };
        pin(SERVER_CORE)?;
        let started = child::Child::start(&mut command, LONGEST);
        pin(LOAD_CORE)?;
        let mut process = started?;
        let line = process.line()?;
        let port = line.strip_prefix("ready ").and_then(|it| it.parse().ok());
        let port: u16 = port.ok_or_else(|| format!("it said {line:?} instead of a port"))?;
        Ok(Child {
            process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        })
    }
}

/// The folder of the servers in other languages.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("websocket")
}

/// Returns why `candidate` cannot run here, if so.
pub(crate) fn reason_against(candidate: Candidate) -> Option<String> {
    candidate.program()?;
    child::reason_against_node(&folder())
}
