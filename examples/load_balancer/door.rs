//! Decides which datagrams the keeper accepts. Time is an argument, and nothing here waits.
//!
//! The checks are made in the order of their cost: length, layout and signature ([`wire::decode`]), then epoch and
//! number, the node's rate, and room for a new node.
//!
//! The rate is limited per node, after the signature is checked. A limit per source address, before the signature,
//! would be wrong: addresses can be forged, so an attacker could silence a node by sending a little in its name.
//! Checking a signature costs about as much as receiving its datagram, so a flood of forged datagrams costs about twice
//! as much as any flood. A flood that fills the socket's buffer loses beats in any case, and must be stopped by a
//! firewall.
//!
//! A datagram cannot be replayed as long as the keeper knows its node. A keeper that has restarted, or has forgotten
//! the node, accepts a recording, which makes the node appear alive for one timeout. If that matters, let nodes sign
//! the time as well, and synchronize the clocks.

use std::collections::HashMap;
use std::time::Duration;

use crate::wire::{self, Kind, Message, Name, Refusal, Secret};

/// The options of a door.
pub(crate) struct Rules {
    /// The secret from which the nodes' keys are derived.
    pub(crate) secret: Secret,
    /// The maximum number of nodes.
    pub(crate) max_nodes: usize,
    /// The time per datagram of a node.
    pub(crate) pace: Duration,
    /// The number of datagrams that a node may send at once.
    pub(crate) burst: u32,
}

/// An accepted datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A node has started.
    Started(Message),
    /// A node that had started beats again.
    Beat(Message),
    /// A node leaves.
    Left(Message),
}

/// The last accepted datagram of a node.
struct Last {
    /// When the node started.
    epoch: u64,
    /// The highest number since then.
    number: u64,
    /// When the node will have complied with its rate, after all that it sent (the generic cell rate algorithm, ITU-T
    /// I.371).
    even: Duration,
}

/// The state of all nodes that have sent datagrams.
pub(crate) struct Door {
    /// The options.
    rules: Rules,
    /// The last accepted datagram of each node, for at most the maximum number of nodes.
    nodes: HashMap<Name, Last>,
}

impl Door {
    /// Creates a door that has accepted nothing.
    pub(crate) fn new(rules: Rules) -> Self {
        Door {
            rules,
            nodes: HashMap::new(),
        }
    }

    /// Checks a datagram that arrived at `now`. The state of a node is kept as long as the node is `known`, and then
    /// makes room for others.
    pub(crate) fn admit(
        &mut self,
        datagram: &[u8],
        now: Duration,
        known: impl Fn(&Name) -> bool,
    ) -> Result<News, Refusal> {
        let message = wire::decode(datagram, &self.rules.secret)?;
        let is_known = known(&message.node);
        if !is_known && self.nodes.len() >= self.rules.max_nodes {
            self.nodes.retain(|node, _| known(node));
            if self.nodes.len() >= self.rules.max_nodes {
                return Err(Refusal::Full);
            }
        }
        let last = self.nodes.get(&message.node).filter(|_| is_known);
        if last.is_some_and(|last| (message.epoch, message.number) <= (last.epoch, last.number)) {
            return Err(Refusal::Replayed);
        }
        let even = last.map_or(now, |last| last.even.max(now)) + self.rules.pace;
        if even > now + self.rules.pace * self.rules.burst {
            return Err(Refusal::Flooding);
        }
        let has_started = last.is_none_or(|last| message.epoch > last.epoch);
        let last = Last {
            epoch: message.epoch,
            number: message.number,
            even,
        };
        self.nodes.insert(message.node.clone(), last);
        Ok(match message.kind {
            Kind::Goodbye => News::Left(message),
            Kind::Beat if has_started => News::Started(message),
            Kind::Beat => News::Beat(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(100);

    fn secret() -> Secret {
        Secret::new("only the keeper knows")
    }

    fn door() -> Door {
        Door::new(Rules {
            secret: secret(),
            max_nodes: 2,
            pace: PACE,
            burst: 5,
        })
    }

    fn message(node: &str, kind: Kind, epoch: u64, number: u64) -> Message {
        Message {
            node: node.into(),
            kind,
            epoch,
            number,
            address: "192.0.2.1:80".parse().unwrap(),
        }
    }

    /// What comes of a datagram of `message` at `ms`, where all nodes that were admitted are known, but for
    /// `forgotten`.
    fn admit_and_forget(
        door: &mut Door,
        message: &Message,
        ms: u64,
        forgotten: &str,
    ) -> Result<News, Refusal> {
        let datagram = wire::encode(message, &secret().key_of(&message.node));
        let known: Vec<Name> = door.nodes.keys().cloned().collect();
        let is_known = |node: &Name| known.contains(node) && node != forgotten;
        door.admit(&datagram, Duration::from_millis(ms), is_known)
    }

    /// The same, with nobody forgotten.
    fn admit(door: &mut Door, message: &Message, ms: u64) -> Result<News, Refusal> {
        admit_and_forget(door, message, ms, "")
    }

    #[test]
    fn a_repeated_or_older_datagram_is_refused_and_one_of_a_new_epoch_is_a_start() {
        let (mut door, beat) = (door(), |epoch, number| {
            message("ant", Kind::Beat, epoch, number)
        });
        let story = [
            (beat(10, 5), Ok(News::Started(beat(10, 5)))),
            (beat(10, 6), Ok(News::Beat(beat(10, 6)))),
            (beat(10, 6), Err(Refusal::Replayed)),
            (beat(10, 5), Err(Refusal::Replayed)),
            (beat(9, 99), Err(Refusal::Replayed)),
            (beat(11, 0), Ok(News::Started(beat(11, 0)))),
            (beat(10, 7), Err(Refusal::Replayed)),
            (message("ant", Kind::Goodbye, 10, 8), Err(Refusal::Replayed)),
            (beat(11, u64::MAX), Ok(News::Beat(beat(11, u64::MAX)))),
        ];
        for (ms, (message, expected)) in (0..).step_by(1_000).zip(story) {
            assert_eq!(admit(&mut door, &message, ms), expected);
        }
    }

    #[test]
    fn a_goodbye_is_taken_from_the_node_itself() {
        let goodbye = message("ant", Kind::Goodbye, 10, 0);
        let mut door = door();
        let forged = wire::encode(&goodbye, &secret().key_of("bee"));
        let refusal = door.admit(&forged, Duration::ZERO, |_| true);
        assert_eq!(refusal, Err(Refusal::Forged));
        assert_eq!(admit(&mut door, &goodbye, 0), Ok(News::Left(goodbye)));
    }

    #[test]
    fn a_node_keeps_to_its_pace_whatever_others_do_and_when_it_starts_anew() {
        let mut door = door();
        let mut taken = |node: &str, epoch: u64, ms| {
            let beats = (0..100).map(|number| message(node, Kind::Beat, epoch + number, 0));
            beats
                .filter(|beat| admit(&mut door, beat, ms).is_ok())
                .count()
        };
        assert_eq!(taken("ant", 0, 1_000), 5);
        assert_eq!(taken("ant", 200, 1_099), 0);
        assert_eq!(taken("ant", 400, 1_100), 1);
        assert_eq!(taken("bee", 0, 1_100), 5);
        assert_eq!(taken("ant", 600, 9_999), 5);
    }

    #[test]
    fn there_is_room_for_so_many_nodes() {
        let mut door = door();
        let beat = |node, number| message(node, Kind::Beat, 10, number);
        for node in ["ant", "bee"] {
            assert_eq!(
                admit(&mut door, &beat(node, 0), 0),
                Ok(News::Started(beat(node, 0)))
            );
        }
        assert_eq!(admit(&mut door, &beat("cat", 0), 0), Err(Refusal::Full));
        assert_eq!(
            admit(&mut door, &beat("bee", 1), 0),
            Ok(News::Beat(beat("bee", 1)))
        );
        let late = admit_and_forget(&mut door, &beat("cat", 0), 0, "ant");
        assert_eq!(late, Ok(News::Started(beat("cat", 0))));
        assert_eq!(admit(&mut door, &beat("ant", 1), 0), Err(Refusal::Full));
        assert_eq!(door.nodes.len(), 2);
    }

    #[test]
    fn a_node_that_is_forgotten_starts_whatever_its_clock_says() {
        let mut door = door();
        let beat = |epoch| message("ant", Kind::Beat, epoch, 0);
        assert!(admit(&mut door, &beat(10), 0).is_ok());
        assert_eq!(admit(&mut door, &beat(9), 0), Err(Refusal::Replayed));
        let late = admit_and_forget(&mut door, &beat(9), 0, "ant");
        assert_eq!(late, Ok(News::Started(beat(9))));
        assert_eq!(admit(&mut door, &beat(9), 0), Err(Refusal::Replayed));
    }
}
