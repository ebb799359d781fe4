//! The keeper: hears the nodes and keeps the list of those that may have requests; and a client that picks from it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use liveness::registry::{NodeOptions, Registry, RegistryError, State, Update};

use crate::Failure;
use crate::door::{Door, News};
use crate::wire::{MAX_LEN, Message, Name, Refusal};

/// The nodes, and where each serves.
pub(crate) type Nodes = Registry<Name, SocketAddr>;

/// What whoever looks on is told.
pub(crate) enum Told {
    /// A node beat.
    Heard {
        /// When: not before what the registry made of it.
        at: Duration,
        /// The node.
        node: Name,
        /// Whether it was up before, and the beat changed nothing.
        was_up: bool,
    },
    /// What the registry says.
    Update(Update<Name, SocketAddr>),
}

/// What came of the datagrams.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// So many were listened to,
    pub(crate) heard: u64,
    /// and so many ignored.
    pub(crate) refused: BTreeMap<Refusal, u64>,
}

/// Hears what comes to `socket`, until `end` is closed. Whoever sends what, it is counted, and nothing else: a line in
/// the log for each would let anybody fill the disk.
pub(crate) fn listen(
    socket: &UdpSocket,
    mut door: Door,
    nodes: &Nodes,
    tell: &Sender<Told>,
    end: &Receiver<()>,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    // A byte more than there may be: what is longer is cut off without a word, and would look as if it were as long.
    let mut buffer = [0; MAX_LEN + 1];
    // So often it looks for the end.
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !is_over(end) {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let known = |node: &Name| nodes.status(node).is_some();
        match door.admit(&buffer[..length], nodes.now().since_origin(), known) {
            Ok(news) => {
                counts.heard += 1;
                if let Some((node, was_up)) = apply(news, nodes)? {
                    let at = nodes.now().since_origin();
                    tell.send(Told::Heard { at, node, was_up })?;
                }
            }
            Err(refusal) => *counts.refused.entry(refusal).or_default() += 1,
        }
    }
    Ok(counts)
}

/// Lets the registry know. Returns who beat, and whether it was up before.
fn apply(news: News, nodes: &Nodes) -> Result<Option<(Name, bool)>, RegistryError> {
    let told = match news {
        News::Left(message) => nodes.leave_as(&message.node, message.epoch).map(|()| None),
        News::Started(message) => {
            let options = NodeOptions::new().incarnation(message.epoch);
            nodes
                .register_with(message.node.clone(), message.address, options)
                .map_err(|refused| refused.error)
                .and_then(|_| beat(message, nodes))
        }
        News::Beat(message) => beat(message, nodes),
    };
    match told {
        // A goodbye of a node that was not here, a beat that the network delivers after the goodbye, or either of them from
        // a process before the one that runs.
        Err(RegistryError::Unknown | RegistryError::Left | RegistryError::Superseded { .. }) => {
            Ok(None)
        }
        told => told,
    }
}

/// A sign of life of a node; the same.
fn beat(message: Message, nodes: &Nodes) -> Result<Option<(Name, bool)>, RegistryError> {
    let is_up = nodes
        .status(&message.node)
        .is_some_and(|status| status.state == State::Up);
    nodes.beat_as(&message.node, message.epoch)?;
    Ok(Some((message.node, is_up)))
}

/// A request that a client made.
#[derive(Debug)]
pub(crate) struct Pick {
    /// When the client asked for a node.
    pub(crate) at: Duration,
    /// The node.
    pub(crate) node: Name,
    /// Whether it answered.
    pub(crate) is_answered: bool,
}

/// Sends a request to one node after the other until `end` is closed, and waits for each answer no longer than `pace`.
pub(crate) fn request(
    nodes: &Nodes,
    pace: Duration,
    end: &Receiver<()>,
) -> Result<Vec<Pick>, Failure> {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.set_read_timeout(Some(pace))?;
    let mut picks = Vec::new();
    while end
        .recv_timeout(pace)
        .is_err_and(|error| error.is_timeout())
    {
        let at = nodes.now().since_origin();
        // Not a node that is picked and then looked up: what was picked is there as long as it is held.
        let Some(node) = nodes.available().round_robin().cloned() else {
            continue;
        };
        let request = (picks.len() as u64).to_be_bytes();
        client.send_to(&request, node.data())?;
        picks.push(Pick {
            at,
            node: node.id().clone(),
            is_answered: is_answered(&client, request),
        });
    }
    Ok(picks)
}

/// Waits for the answer to `request`, and passes over late ones to those before.
fn is_answered(client: &UdpSocket, request: [u8; 8]) -> bool {
    let mut answer = [0; 9];
    while let Ok(length) = client.recv(&mut answer) {
        if answer[..length] == request {
            return true;
        }
    }
    false
}

/// Whether `end` is closed.
fn is_over(end: &Receiver<()>) -> bool {
    end.try_recv().is_err_and(|error| error.is_disconnected())
}

/// Whether there was only nothing to read for now.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    use liveness::ManualClock;
    use liveness::registry::Policy;

    use crate::wire::Kind;

    #[test]
    fn the_registry_learns_who_starts_beats_moves_and_leaves() {
        let clock = ManualClock::new();
        let nodes = Nodes::builder()
            .policy(Policy::Fixed(Duration::from_secs(5)))
            .clock(clock.clone())
            .build()
            .unwrap();
        let message = |port: u16| Message {
            node: "ant".into(),
            kind: Kind::Beat,
            epoch: port.into(),
            number: 0,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        };
        let told = |news| apply(news, &nodes).unwrap().map(|(_, was_up)| was_up);
        let port = || {
            nodes
                .available()
                .round_robin()
                .map(|node| node.data().port())
        };
        // Who is not known says nothing.
        assert_eq!(told(News::Left(message(1))), None);
        assert_eq!(told(News::Beat(message(1))), None);
        assert_eq!(port(), None);
        assert_eq!(told(News::Started(message(1))), Some(false));
        assert_eq!(told(News::Beat(message(1))), Some(true));
        assert_eq!(port(), Some(1));
        clock.advance(Duration::from_secs(5));
        nodes.flush().unwrap();
        assert_eq!(port(), None);
        assert_eq!(told(News::Started(message(2))), Some(false));
        assert_eq!(port(), Some(2));
        assert_eq!(told(News::Left(message(2))), None);
        assert_eq!(told(News::Beat(message(2))), None);
        assert_eq!(told(News::Started(message(2))), None);
        assert_eq!(port(), None);
        assert_eq!(told(News::Started(message(3))), Some(false));
        assert_eq!(told(News::Left(message(2))), None);
        assert_eq!(told(News::Beat(message(2))), None);
        assert_eq!(port(), Some(3));
    }
}
