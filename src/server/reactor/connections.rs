//! The connections of a reactor.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use ahash::HashMap;

use super::super::agent::Agent;
use super::super::channel::Channel;
use super::super::codec::Codec;
use super::super::hub::Place;
use super::super::session::{Session, Traffic};
use crate::clock::Timestamp;

/// The most buffers of a write.
const SLICES: usize = 64;

/// How a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its handshake is going on.
    Handshaking,
    /// It is open.
    Open,
    /// It is being closed.
    Closing,
}

/// A connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Connection<C, T> {
    /// The state machine.
    pub(super) session: Session<C>,
    /// The socket.
    pub(super) channel: Channel,
    /// The handle.
    pub(super) agent: Agent<C, T>,
    /// How it is counted.
    pub(super) stage: Stage,
    /// Whether reading may yield something.
    pub(super) is_readable: bool,
    /// Whether the end of the input was announced, which a short read does not reach.
    pub(super) is_read_closed: bool,
    /// Whether the socket may accept something.
    pub(super) is_writable: bool,
    /// Whether the slot is in the list of those that are read.
    pub(super) is_in_ready: bool,
    /// Whether the slot is in the list of those that are flushed.
    pub(super) is_dirty: bool,
    /// Whether the agent was reported as opened.
    pub(super) was_reported: bool,
    /// The bytes of messages that wait here, as far as they are counted for the agent.
    pub(super) charged: usize,
    /// What most connections do not have.
    pub(super) rare: Option<Box<Rare>>,
}

/// What most connections do not have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The bytes of messages that were accepted and then refused by the session.
    pub(super) refused: u64,
    /// The address for which it is counted.
    pub(super) address: Option<IpAddr>,
    /// The rooms.
    rooms: Vec<Arc<str>>,
}

impl<C: Codec, T> Connection<C, T> {
    /// Creates a connection whose handshake is going on.
    pub(super) fn new(session: Session<C>, channel: Channel, agent: Agent<C, T>) -> Self {
        Connection {
            session,
            channel,
            agent,
            stage: Stage::Handshaking,
            is_readable: false,
            is_read_closed: false,
            is_writable: true,
            is_in_ready: false,
            is_dirty: false,
            was_reported: false,
            charged: 0,
            rare: None,
        }
    }

    /// What most connections do not have.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// A slot: a connection, and the generation of it or of the next one.
type Slot<C, T> = (Option<Box<Connection<C, T>>>, u32);

/// The connections by slot.
pub(super) struct Slab<C, T> {
    /// The connections.
    slots: Vec<Slot<C, T>>,
    /// The empty slots.
    free: Vec<u32>,
    /// The slots that became empty in this round.
    removed: Vec<u32>,
    /// The members of rooms.
    rooms: HashMap<Arc<str>, Vec<u32>>,
    /// The number of connections.
    len: usize,
}

impl<C: Codec, T> Slab<C, T> {
    /// Creates an empty slab.
    pub(super) fn new() -> Self {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
            removed: Vec::new(),
            rooms: HashMap::default(),
            len: 0,
        }
    }

    /// Returns whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns where the next connection of `reactor` is inserted.
    pub(super) fn next_place(&self, reactor: u32) -> Place {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |it| it.1);
        Place {
            reactor,
            slot,
            generation,
        }
    }

    /// Inserts `connection` at the [next place](Slab::next_place).
    pub(super) fn insert(&mut self, connection: Connection<C, T>) {
        let connection = Some(Box::new(connection));
        self.len += 1;
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].0 = connection,
            None => self.slots.push((connection, 0)),
        }
    }

    /// Returns the connection in `slot`.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection<C, T>> {
        self.slots.get_mut(slot as usize)?.0.as_deref_mut()
    }

    /// Returns whether the connection at `place` is here.
    pub(super) fn has(&self, place: Place) -> bool {
        let slot = self.slots.get(place.slot as usize);
        slot.is_some_and(|(it, generation)| it.is_some() && *generation == place.generation)
    }

    /// Returns the slots that are in use.
    pub(super) fn slots(&self) -> Vec<u32> {
        let used = self.slots.iter().enumerate();
        let used = used.filter(|(_, it)| it.0.is_some());
        used.map(|(slot, _)| slot as u32).collect()
    }

    /// Removes the connection in `slot`, which is used again after this round.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Box<Connection<C, T>>> {
        let (connection, generation) = self.slots.get_mut(slot as usize)?;
        let connection = connection.take()?;
        *generation = generation.wrapping_add(1);
        self.len -= 1;
        self.removed.push(slot);
        for room in connection.rooms() {
            self.leave(slot, room);
        }
        Some(connection)
    }

    /// Lets the slots that became empty be used again.
    pub(super) fn free_removed(&mut self) {
        self.free.append(&mut self.removed);
    }

    /// Adds the connection in `slot` to a room, or removes it.
    pub(super) fn join(&mut self, slot: u32, room: Arc<str>, is_joining: bool) {
        let connection = &mut self[slot];
        let is_member = connection.rooms().contains(&room);
        if is_joining && !is_member && connection.session.is_open() {
            connection.rare().rooms.push(room.clone());
            self.rooms.entry(room).or_default().push(slot);
        } else if !is_joining && is_member {
            connection.rare().rooms.retain(|it| *it != room);
            self.leave(slot, &room);
        }
    }

    /// Removes `slot` from the members of `room`.
    fn leave(&mut self, slot: u32, room: &Arc<str>) {
        if let Some(members) = self.rooms.get_mut(room) {
            members.retain(|it| *it != slot);
            if members.is_empty() {
                self.rooms.remove(room);
            }
        }
    }

    /// Returns the members of a room, or all connections.
    pub(super) fn members(&self, room: Option<&Arc<str>>) -> Vec<u32> {
        match room {
            None => self.slots(),
            Some(room) => self.rooms.get(room).cloned().unwrap_or_default(),
        }
    }
}

impl<C: Codec, T> Index<u32> for Slab<C, T> {
    type Output = Connection<C, T>;

    fn index(&self, slot: u32) -> &Connection<C, T> {
        self.slots[slot as usize]
            .0
            .as_deref()
            .expect("the slot is in use")
    }
}

impl<C: Codec, T> IndexMut<u32> for Slab<C, T> {
    fn index_mut(&mut self, slot: u32) -> &mut Connection<C, T> {
        let connection = self.slots[slot as usize].0.as_deref_mut();
        connection.expect("the slot is in use")
    }
}

impl<C: Codec, T> Connection<C, T> {
    /// Returns the rooms.
    fn rooms(&self) -> &[Arc<str>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.rooms)
    }

    /// Counts the bytes that wait in the session for the agent. Returns whether they have become fewer.
    pub(super) fn recount(&mut self) -> bool {
        let queued = self.session.queued();
        let before = std::mem::replace(&mut self.charged, queued);
        self.agent.recount(before, queued);
        queued < before
    }

    /// Writes what waits, as far as the socket accepts it, and counts it in `traffic`.
    pub(super) fn flush(&mut self, now: Timestamp, traffic: &mut Traffic) {
        // Before that, output waits for the handshake of TLS; after an end in between, nobody will read it.
        let is_taken = self.channel.is_ready() || self.session.cause().is_some();
        while self.is_writable && (is_taken && self.session.has_output() || self.channel.held() > 0)
        {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = if is_taken {
                self.session.slices(&mut slices)
            } else {
                0
            };
            match self.channel.write(&slices[..count]) {
                Ok(written) => {
                    self.session.hold(self.channel.held());
                    self.session.wrote(written, now, traffic);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_writable = false;
                }
                Err(_) => {
                    self.session.failed(now);
                    return;
                }
            }
        }
        self.session.hold(self.channel.held());
        if self.session.has_output() {
            self.session.wrote(0, now, traffic);
        }
    }
}
