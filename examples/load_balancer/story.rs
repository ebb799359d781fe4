//! The scenario: its script, the node processes, and the lines of the output.

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

/// The timeout of a node, in units.
pub(crate) const TIMEOUT: u32 = 5;

/// The length of the scenario, in units.
pub(crate) const LENGTH: u32 = 72;

/// The nodes and their intervals in units.
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

/// Returns the nodes and their intervals, and the attacker without one.
pub(crate) fn cast() -> impl Iterator<Item = (&'static str, u32)> {
    NODES.into_iter().chain([(trouble::NAME, 0)])
}

/// An action on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A process is started.
    Start,
    /// It is killed: `SIGKILL`.
    Kill,
    /// It is suspended, like a machine that hangs: `SIGSTOP`.
    Stop,
    /// It continues: `SIGCONT`.
    Continue,
    /// It is asked to leave.
    Leave,
    /// It sends invalid datagrams.
    Trouble,
}

/// The actions, each after a number of units. Each takes effect before the next, within one timeout at most.
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
    /// The latest process of each node.
    processes: BTreeMap<&'static str, Child>,
    /// The address of their keeper.
    keeper: SocketAddr,
    /// The secret from which their keys are derived.
    secret: Secret,
    /// The length of a unit.
    unit: Duration,
}

impl Herd {
    /// Performs `act` on `node`.
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

    /// Returns the process of `node`.
    fn process(&mut self, node: &str) -> Result<&mut Child, Failure> {
        Ok(self
            .processes
            .get_mut(node)
            .ok_or("the node has no process")?)
    }

    /// Starts a process for `node`, which runs this program.
    fn start(&mut self, node: &'static str) -> Result<(), Failure> {
        let (_, interval) = cast()
            .find(|&(name, _)| name == node)
            .ok_or("unknown node")?;
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

/// Ends all nodes, also after a panic. If this program is killed, the nodes end when their input ends.
impl Drop for Herd {
    fn drop(&mut self) {
        self.processes.values_mut().for_each(end);
    }
}

/// Writes a line to the standard input of a process.
fn tell(process: &mut Child, line: &str) -> Result<(), Failure> {
    let input = process
        .stdin
        .as_mut()
        .ok_or("the process has no standard input")?;
    Ok(writeln!(input, "{line}")?)
}

/// Suspends a process, or lets it continue.
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

/// Suspends a process, or lets it continue.
#[cfg(not(unix))]
fn stop(_: &Child, _: bool) -> Result<(), Failure> {
    Err("this system cannot suspend a process".into())
}

/// Kills a process, which may have ended already or be suspended.
fn end(process: &mut Child) {
    _ = process.kill();
    _ = process.wait();
}

/// The observer, which prints and records each change.
struct Witness {
    /// The reports of the registry and the keeper.
    told: Receiver<Told>,
    /// The fleet, as far as it was reported.
    fleet: Fleet<Name, SocketAddr>,
    /// The record of the changes.
    record: Record,
}

impl Witness {
    /// Observes until `end` by the clock of `nodes`.
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

    /// Records the reports.
    fn take_down(&mut self, told: Told) -> Result<(), Failure> {
        match told {
            Told::Heard { at, node, was_up } => {
                // Other changes by a beat have their own lines.
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

    /// Records a change of a node that the registry reports.
    fn change(&mut self, transition: &Transition<Name, SocketAddr>) -> io::Result<()> {
        let (at, change) = (transition.at.since_origin(), transition.change);
        let node = transition.status.node.id();
        let what = match change {
            Change::Up => "registered",
            Change::Updated => "moved",
            Change::Down => "UNAVAILABLE",
            Change::Recovered { .. } => "RECOVERED",
            Change::Left => "left",
            // A registered node is up as soon as it has beaten.
            _ => "",
        };
        if !what.is_empty() {
            self.line(at, what, node)?;
        }
        self.record.see(at, node.clone(), Seen::Change(change));
        Ok(())
    }

    /// Prints a change, and the nodes that may receive requests after it.
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

/// Returns the legend of the output.
pub(crate) fn legend(unit: Duration) -> String {
    format!(
        "\
Eight nodes beat over UDP. A node that is silent for {TIMEOUT} units of {unit:?} is unavailable until it beats again.
    ant            beats every 4 units, so it is always available
    bee, cat, dog  beat every 6, 8 and 11 units, so they come and go
    eel            beats every 4 units; is killed
    fox            beats every 4 units; is suspended for a while, like a machine that hangs
    gnu            beats every 4 units; leaves, and is unavailable at once
    hen            beats every 4 units; is killed and started again
    imp            sends malformed, oversized, forged, replayed and too many datagrams

A line describes a change of a node: registered (by its first beat), updated (by a further beat), unavailable, recovered,
moved (a new process serves at another address) or left. A star marks an action on the node. The last column lists the
nodes that may receive requests.

 units      ms  what         node  available"
    )
}

/// Runs the scenario, and returns the record.
pub(crate) fn play(unit: Duration) -> Result<Record, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut secret = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let secret = Secret::new(secret);
    // The socket of the attacker.
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
    // Closed when this is dropped, also by a panic, which ends the threads.
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
    // The remaining reports; the channel closes with the thread that forwards them.
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
