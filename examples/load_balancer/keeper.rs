//! The keeper, which receives the datagrams of the nodes and maintains the list of available ones, and a client that
//! picks from it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use liveness::registry::{NodeOptions, Registry, RegistryError, State, Update};

use crate::Failure;
use crate::door::{Door, News};
use crate::wire::{MAX_LEN, Message, Name, Refusal};

/// The nodes and the addresses at which they serve.
pub(crate) type Nodes = Registry<Name, SocketAddr>;

/// A report to the observer.
pub(crate) enum Told {
    /// A node beat.
    Heard {
        /// When, but not before the registry processed it.
        at: Duration,
        /// The node.
        node: Name,
        /// Whether the node was up before, so that the beat changed nothing.
        was_up: bool,
    },
    /// An update of the registry.
    Update(Update<Name, SocketAddr>),
}

/// The counters of the datagrams.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The number of accepted datagrams.
    pub(crate) heard: u64,
    /// The numbers of ignored datagrams by reason.
    pub(crate) refused: BTreeMap<Refusal, u64>,
}

/// Receives datagrams on `socket` until `end` is closed. An ignored datagram is only counted: a log line for each would
/// allow anyone to fill the disk.
pub(crate) fn listen(
    socket: &UdpSocket,
    mut door: Door,
    nodes: &Nodes,
    tell: &Sender<Told>,
    end: &Receiver<()>,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    // One byte more than the longest datagram, because a longer one is truncated silently and would appear to be valid.
    let mut buffer = [0; MAX_LEN + 1];
    // How often it checks for the end.
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

/// Passes a message to the registry. Returns the node that beat, and whether it was up before.
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
        // A goodbye of an unknown node, a beat that the network delivers after the goodbye, or either of them from a
        // previous process.
        Err(RegistryError::Unknown | RegistryError::Left | RegistryError::Superseded { .. }) => {
            Ok(None)
        }
        told => told,
    }
}

/// Handles a beat of a node, with the same result.
fn beat(message: Message, nodes: &Nodes) -> Result<Option<(Name, bool)>, RegistryError> {
    let is_up = nodes
        .status(&message.node)
        .is_some_and(|status| status.state == State::Up);
    nodes.beat_as(&message.node, message.epoch)?;
    Ok(Some((message.node, is_up)))
}

/// A request of the client.
#[derive(Debug)]
pub(crate) struct Pick {
    /// When the client picked a node.
    pub(crate) at: Duration,
    /// The node.
    pub(crate) node: Name,
    /// Whether it answered.
    pub(crate) is_answered: bool,
}

/// Sends requests to one node after another until `end` is closed, and waits at most `pace` for each answer.
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
        // The node itself is picked, not its id for a later lookup, so its address is available as long as the node is
        // held.
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

/// Waits for the answer to `request`, and skips late answers to earlier requests.
fn is_answered(client: &UdpSocket, request: [u8; 8]) -> bool {
    let mut answer = [0; 9];
    while let Ok(length) = client.recv(&mut answer) {
        if answer[..length] == request {
            return true;
        }
    }
    false
}

/// Returns whether `end` is closed.
fn is_over(end: &Receiver<()>) -> bool {
    end.try_recv().is_err_and(|error| error.is_disconnected())
}

/// Returns whether the error only means that there is nothing to read at the moment.
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
