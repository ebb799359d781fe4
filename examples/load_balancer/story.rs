//! What happens: the script, the node processes that it is played with, and the line for each thing that is seen.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use liveness::registry::{Change, Fleet, NodeStatus, Policy, Registry, Transition, Update};

use crate::Failure;
use crate::door::{Door, Rules};
use crate::judge::{Record, Seen};
use crate::keeper::{self, Nodes, Told};
use crate::node::Role;
use crate::trouble;
use crate::wire::{Name, Secret};

/// A node may be silent for so many units.
pub(crate) const TIMEOUT: u32 = 5;

/// The story ends after so many units.
pub(crate) const LENGTH: u32 = 72;

/// The nodes, and of how many units their intervals are.
pub(crate) const NODES: [(&str, u32); 8] = [
    ("ant", 4),
    ("bee", 6),
    ("cat", 8),
    ("dog", 11),
    ("eel", 4),
    ("fox", 4),
    ("gnu", 4),
    ("hen", 4),
];

/// The nodes and their intervals, and with none who makes trouble.
pub(crate) fn cast() -> impl Iterator<Item = (&'static str, u32)> {
    NODES.into_iter().chain([(trouble::NAME, 0)])
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A process is started.
    Start,
    /// It is killed: `SIGKILL`.
    Kill,
    /// It is stopped, as a machine that hangs: `SIGSTOP`.
    Stop,
    /// It goes on: `SIGCONT`.
    Continue,
    /// It is asked to leave.
    Leave,
    /// It sends what it must not.
    Trouble,
}

/// What is done, after how many units, to whom. Each has shown what it does before the next: that takes a timeout at most.
pub(crate) const SCRIPT: [(u32, Act, &str); 7] = [
    (8, Act::Kill, "eel"),
    (16, Act::Stop, "fox"),
    (24, Act::Leave, "gnu"),
    (32, Act::Continue, "fox"),
    (40, Act::Kill, "hen"),
    (48, Act::Trouble, trouble::NAME),
    (56, Act::Start, "hen"),
];

/// The processes of the nodes.
struct Herd {
    /// Each node's latest.
    processes: BTreeMap<&'static str, Child>,
    /// Where their keeper listens.
    keeper: SocketAddr,
    /// What their keys come from.
    secret: Secret,
    /// The length of a unit.
    unit: Duration,
}

impl Herd {
    /// Does `act` to `node`.
    fn act(&mut self, act: Act, node: &'static str) -> Result<(), Failure> {
        match act {
            Act::Start => self.start(node),
            Act::Kill => Ok(self.process(node)?.kill()?),
            Act::Stop => stop(self.process(node)?, true),
            Act::Continue => stop(self.process(node)?, false),
            Act::Leave => tell(self.process(node)?, "leave"),
            Act::Trouble => Ok(trouble::make(self.keeper, &self.secret)?),
        }
    }

    /// The process of `node`.
    fn process(&mut self, node: &str) -> Result<&mut Child, Failure> {
        Ok(self.processes.get_mut(node).ok_or("no such process")?)
    }

    /// Starts a process for `node`: this program again.
    fn start(&mut self, node: &'static str) -> Result<(), Failure> {
        let (_, interval) = cast().find(|&(name, _)| name == node).ok_or("who is it?")?;
        let role = Role {
            name: node.into(),
            key: self.secret.key_of(node),
            keeper: self.keeper,
            interval: self.unit * interval,
        };
        let process = Command::new(env::current_exe()?)
            .args(["--node", node])
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut before) = self.processes.insert(node, process) {
            end(&mut before);
        }
        tell(self.process(node)?, &role.to_string())
    }
}

/// However the story ends, by a panic too. Should this program be killed itself, its nodes see their input end.
impl Drop for Herd {
    fn drop(&mut self) {
        self.processes.values_mut().for_each(end);
    }
}

/// Gives a process a line to read.
fn tell(process: &mut Child, line: &str) -> Result<(), Failure> {
    let input = process.stdin.as_mut().ok_or("it has no input")?;
    Ok(writeln!(input, "{line}")?)
}

/// Stops a process, or lets it go on.
#[cfg(unix)]
fn stop(process: &Child, is_to_stop: bool) -> Result<(), Failure> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let signal = if is_to_stop {
        Signal::SIGSTOP
    } else {
        Signal::SIGCONT
    };
    Ok(kill(Pid::from_raw(process.id().cast_signed()), signal)?)
}

/// Stops a process, or lets it go on.
#[cfg(not(unix))]
fn stop(_: &Child, _: bool) -> Result<(), Failure> {
    Err("this system has no way to stop a process for a while".into())
}

/// Ends a process, which may have ended by itself, or be stopped.
fn end(process: &mut Child) {
    _ = process.kill();
    _ = process.wait();
}

/// Who looks on: prints a line for each thing that happens, and takes it down.
struct Witness {
    /// What the registry and the keeper tell.
    told: Receiver<Told>,
    /// The fleet, as far as it was told.
    fleet: Fleet<Name, SocketAddr>,
    /// What was seen.
    record: Record,
}

impl Witness {
    /// Looks on until `end` by the clock of `nodes`.
    fn look_on(&mut self, nodes: &Nodes, end: Duration) -> Result<(), Failure> {
        while let Some(left) = end.checked_sub(nodes.now().since_origin()) {
            match self.told.recv_timeout(left) {
                Ok(told) => self.take_down(told)?,
                Err(error) if error.is_timeout() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes down what was told.
    fn take_down(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            Told::Heard { at, node, was_up } => {
                // What else a beat changes has a line of its own.
                if was_up {
                    self.line(at, "updated", &node)?;
                }
                self.record.see(at, node, Seen::Heard);
            }
            Told::Update(update) => {
                self.fleet.apply(&update)?;
                match update {
                    Update::Node(transition) => self.change(&transition)?,
                    Update::Stalled { stall, .. } => self.record.held += stall.held_for,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Takes down what the registry says of a node.
    fn change(&mut self, transition: &Transition<Name, SocketAddr>) -> io::Result<()> {
        let (at, change) = (transition.at.since_origin(), transition.change);
        let node = transition.status.node.id();
        let what = match change {
            Change::Up => "registered",
            Change::Updated => "moved",
            Change::Down => "UNAVAILABLE",
            Change::Recovered { .. } => "RECOVERED",
            Change::Left => "left",
            // Registered: it is up as soon as it has beaten.
            _ => "",
        };
        if !what.is_empty() {
            self.line(at, what, node)?;
        }
        self.record.see(at, node.clone(), Seen::Change(change));
        Ok(())
    }

    /// Prints what happened, and the nodes that may have requests since.
    fn line(&self, at: Duration, what: &str, node: &str) -> io::Result<()> {
        let name_if_listed = |name: &'static str| {
            let status = self.fleet.get(name);
            let is_listed = status.is_some_and(NodeStatus::is_listed);
            if is_listed { name } else { " . " }
        };
        let list: Vec<_> = cast().map(|(name, _)| name_if_listed(name)).collect();
        let list = list.join(" ");
        writeln!(
            io::stdout(),
            "{:>6.2} {:>7}  {what:<12} {node:<4}  {}",
            at.as_secs_f64() / self.record.unit.as_secs_f64(),
            at.as_millis(),
            list.trim_end(),
        )
    }
}

/// How to read the lines.
pub(crate) fn legend(unit: Duration) -> String {
    format!(
        "\
Eight nodes beat over UDP; who is silent for {TIMEOUT} units of {unit:?} is unavailable until it beats again.
    ant            every 4 units, and so is always available
    bee, cat, dog  every 6, 8 and 11 units: they come and go
    eel            every 4; is killed
    fox            every 4; is stopped for a while, as a machine that hangs
    gnu            every 4; leaves politely, and is not available at once
    hen            every 4; is killed, and started again
    imp            sends what is malformed, oversized, forged, replayed, or too much

A line tells what happened: registered (by its first beat), updated (by a further one), unavailable, recovered, moved (a new
process serves elsewhere), left; with a star, what was done to it. Then the nodes that may have requests.

 units      ms  what         node  available"
    )
}

/// Plays the story, and returns what was seen.
pub(crate) fn play(unit: Duration) -> Result<Record, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let secret = Secret::new(secret);
    // And one for trouble.
    let max_nodes = NODES.len() + 1;
    let door = Door::new(Rules {
        secret: secret.clone(),
        max_nodes,
        pace: unit,
        burst: 5,
    });
    let nodes: Nodes = Registry::builder()
        .policy(Policy::Fixed(unit * TIMEOUT))
        .max_nodes(max_nodes)
        // Most of these nodes fall silent on purpose.
        .mass_death_guard(None)
        .build()?;
    let (tell, told) = unbounded();
    let tell_updates = tell.clone();
    let (fleet, subscription) = nodes.subscribe_with(1_024, move |update| {
        _ = tell_updates.send(Told::Update(update));
    })?;
    let mut herd = Herd {
        processes: BTreeMap::new(),
        keeper: socket.local_addr()?,
        secret,
        unit,
    };
    let mut witness = Witness {
        told,
        fleet,
        record: Record::new(unit),
    };
    // Closed when this is dropped, by a panic too; then the threads end.
    let (ending, is_over) = bounded(0);
    thread::scope(|scope| {
        let ending = ending;
        let keeper = scope.spawn(|| keeper::listen(&socket, door, &nodes, &tell, &is_over));
        let client = scope.spawn(|| keeper::request(&nodes, unit / 2, &is_over));
        for (node, _) in NODES {
            herd.act(Act::Start, node)?;
        }
        for (at, act, node) in SCRIPT {
            witness.look_on(&nodes, unit * at)?;
            witness
                .record
                .see(nodes.now().since_origin(), node.into(), Seen::Act(act));
            witness.line(nodes.now().since_origin(), &format!("* {act:?}"), node)?;
            herd.act(act, node)?;
        }
        witness.look_on(&nodes, unit * LENGTH)?;
        drop(ending);
        witness.record.counts = keeper.join().map_err(|_| "the keeper panicked")??;
        witness.record.picks = client.join().map_err(|_| "the client panicked")??;
        Ok::<_, Failure>(())
    })?;
    witness.record.end = nodes.now().since_origin();
    // What is still on its way; it ends with the thread that forwards it.
    nodes.close();
    drop(tell);
    while let Ok(told) = witness.told.recv() {
        witness.take_down(told)?;
    }
    drop(subscription);
    if witness.fleet.version() != nodes.stats().version {
        return Err("some updates are missing".into());
    }
    Ok(witness.record)
}
