//! Which datagrams the keeper listens to. Time is an argument, and nothing here waits.
//!
//! In order, what costs least first: length, layout, signature ([`wire::decode`]), then epoch and number, the node's
//! pace, and room for a new node.
//!
//! The pace is limited by node, after the signature, and not by source address before it: an address can be forged, so a
//! limit on it would let a stranger who sends a little in a node's name silence that node. To check a signature costs about
//! as much as to receive its datagram, so a flood of forged ones costs about twice what any flood does. One that fills the
//! socket's buffer loses beats whatever is done here: it is for a firewall to stop.
//!
//! What was sent before cannot be sent again, as long as the keeper knows the node. One that started anew, or has
//! forgotten the node, does not: a recording then makes the node seem alive for one timeout. Where that matters, let nodes
//! sign the time too, and keep the clocks together.

use std::collections::HashMap;
use std::time::Duration;

use crate::wire::{self, Kind, Message, Name, Refusal, Secret};

/// What it is told once.
pub(crate) struct Rules {
    /// What the nodes' keys come from.
    pub(crate) secret: Secret,
    /// So many nodes there may be.
    pub(crate) max_nodes: usize,
    /// A node may send one datagram in this time,
    pub(crate) pace: Duration,
    /// and so many at once.
    pub(crate) burst: u32,
}

/// What a datagram that is listened to says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A node started.
    Started(Message),
    /// One that had started is still there.
    Beat(Message),
    /// One leaves.
    Left(Message),
}

/// The last that came from a node.
struct Last {
    /// When it started.
    epoch: u64,
    /// The highest number since.
    number: u64,
    /// When it will have kept to the pace, with all it sent (the generic cell rate algorithm, ITU-T I.371).
    even: Duration,
}

/// Remembers the nodes that spoke.
pub(crate) struct Door {
    /// What it was told.
    rules: Rules,
    /// The last that came from each node, at most as many as there may be.
    nodes: HashMap<Name, Last>,
}

impl Door {
    /// One through which nobody has come.
    pub(crate) fn new(rules: Rules) -> Self {
        Door {
            rules,
            nodes: HashMap::new(),
        }
    }

    /// Reads a datagram that came at `now`. What a node sent counts as long as the node is `known`, and then makes room
    /// for others.
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

    /// What comes of a datagram of `message` at `ms`, where all nodes that were admitted are known, but for `forgotten`.
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
