//! A thread that owns sockets and their sessions, and judges their silence.
//!
//! A round reads before it judges, with one reading of the clock, in one thread. What lay in a socket's buffer at a
//! deadline is therefore seen before the peer is called silent: a round reads what is ready, and looks at the socket of
//! each overdue peer once more. After the reactor itself was late, expiry is held back, because the peers may have
//! waited for it.

mod accepting;
mod commands;
mod connections;
mod deadlines;
mod ending;
mod expiry;
mod listeners;
mod traffic;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::agent::Delegate;
use super::channel::Scratch;
use super::codec::Codec;
use super::core::{Core, Seated};
use super::desk::Desk;
use super::hub::{Command, Place};
use super::net::{Events, Poll, Token};
use super::pool::Turns;
use super::session::{Settings, Traffic};
use crate::clock::Timestamp;
use connections::Slab;
use deadlines::Watch;
pub(crate) use listeners::Listener;

/// The token of the waker.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// The token of the first listener; the others follow downwards.
const FIRST_LISTENER: usize = usize::MAX - 1;

/// The most events of the operating system in a round.
const EVENTS: usize = 1_024;

/// How many bytes are read from a socket in a round before others have their turn.
const READ: usize = crate::sync::sized(64 << 10, 64);

/// The most connections that a round ends because of a deadline, so that many that die do not hold up the others.
const MAX_ENDS: usize = 128;

/// How late a round may be before expiry is held back.
const STALL: Duration = Duration::from_millis(100);

/// The longest sleep of a reactor that has a time to keep in mind that no event announces.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// What a reactor is started with.
pub(crate) struct Start<C, T> {
    /// Its index.
    pub(crate) index: usize,
    /// What it waits with.
    pub(crate) poll: Poll,
    /// The server.
    pub(crate) core: Arc<Core<C, T>>,
    /// What sessions have in common.
    pub(crate) settings: Arc<Settings>,
    /// What is accepted; empty for all but the first.
    pub(crate) listeners: Vec<Listener>,
    /// The limits of connections.
    pub(crate) limits: ConnectionLimits,
    /// What it is doing.
    pub(crate) desk: Arc<Desk>,
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// The most connections.
    pub(crate) max_connections: usize,
    /// The most of them whose handshake is going on.
    pub(crate) max_handshaking: usize,
    /// The most of one address.
    pub(crate) per_ip: Option<usize>,
    /// Whether small writes are sent at once.
    pub(crate) nodelay: bool,
}

/// The end of the reactor.
struct Ending {
    /// The connections that are closed next, at their times.
    order: std::collections::VecDeque<(Instant, Place)>,
    /// When what is left is cut.
    cut: Instant,
}

/// A reactor.
pub(crate) struct Reactor<C, T> {
    /// Its index.
    index: usize,
    /// What it waits with.
    poll: Poll,
    /// The server.
    core: Arc<Core<C, T>>,
    /// What sessions have in common.
    settings: Arc<Settings>,
    /// What is accepted.
    listeners: listeners::Listeners,
    /// The limits of connections.
    limits: ConnectionLimits,
    /// What it is doing.
    desk: Arc<Desk>,
    /// The connections.
    slab: Slab<C, T>,
    /// Their deadlines.
    watch: Watch,
    /// The slots from which may be read.
    ready: Vec<u32>,
    /// The slots that have changed in this round.
    dirty: Vec<u32>,
    /// The agents whose strands have something to do.
    runnable: Turns<Seated<C, T>, Arc<dyn Delegate<C, T>>>,
    /// Where input is read to.
    scratch: Scratch,
    /// What is taken from the inbox.
    commands: Vec<Command<C>>,
    /// The time of this round.
    now: Timestamp,
    /// The traffic that is not in the statistics.
    traffic: Traffic,
    /// Whether bytes that waited have gone in this round, for which senders may wait.
    has_room: bool,
    /// The end.
    ending: Option<Ending>,
}

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Creates a reactor.
    pub(crate) fn new(start: Start<C, T>) -> io::Result<Self> {
        let Start {
            index,
            poll,
            core,
            settings,
            listeners,
            limits,
            desk,
        } = start;
        let now = core.hub.clock.now();
        let listeners = listeners::Listeners::new(listeners, poll.registry(), FIRST_LISTENER)?;
        Ok(Reactor {
            index,
            poll,
            core,
            settings,
            listeners,
            limits,
            desk,
            slab: Slab::new(),
            watch: Watch::new().map_err(io::Error::other)?,
            ready: Vec::new(),
            dirty: Vec::new(),
            runnable: Vec::new(),
            scratch: Scratch::new(READ),
            commands: Vec::new(),
            now,
            traffic: Traffic::default(),
            has_room: false,
            ending: None,
        })
    }

    /// Runs until the server is shut down and no connection is left.
    pub(crate) fn run(mut self) {
        self.core.hub.mark_thread(true);
        let mut events = Events::with_capacity(EVENTS);
        while !self.has_ended() {
            let began = self.now;
            let before = self.core.hub.clock.now();
            if before - began > STALL {
                self.watch.stalled(began, before);
            }
            let deadline = self.watch.next_deadline();
            let sleep = self.sleep(deadline, before);
            if let Err(error) = self.poll.poll(&mut events, Some(sleep))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The queue of the operating system is gone; a pause keeps the loop from using up the processor.
                std::thread::sleep(Duration::from_millis(10));
            }
            self.now = self.core.hub.clock.now();
            let alive = deadline.map_or(self.now, |deadline| deadline.max(before));
            if self.now - alive > STALL {
                self.watch.stalled(alive, self.now);
            }
            self.round(&events);
        }
        self.finish();
    }

    /// Returns how long to sleep.
    fn sleep(&self, deadline: Option<Timestamp>, now: Timestamp) -> Duration {
        let has_work = !self.ready.is_empty() || self.watch.has_overdue();
        if has_work || self.listeners.is_pending() || !self.core.hub.inboxes[self.index].may_sleep()
        {
            return Duration::ZERO;
        }
        let mut sleep = deadline.map_or(LONGEST_SLEEP, |deadline| deadline - now);
        if let Some(again) = self.listeners.again_at() {
            sleep = sleep.min(again.saturating_duration_since(Instant::now()));
        }
        if let Some(Ending { order, cut }) = &self.ending {
            let next = order.front().map_or(*cut, |(at, _)| *at);
            sleep = sleep.min(next.saturating_duration_since(Instant::now()));
        }
        sleep
    }

    /// Does what there is to do.
    fn round(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token) if token > FIRST_LISTENER - self.listeners.len() => {
                    self.listeners.mark(FIRST_LISTENER - token);
                }
                Token(token) => {
                    let slot = token as u32;
                    let Some(connection) = self.slab.get_mut(slot) else {
                        continue;
                    };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        connection.is_readable = true;
                        connection.is_read_closed |= event.is_read_closed() || event.is_error();
                        self.mark_ready(slot);
                    }
                    if event.is_writable() {
                        self.slab[slot].is_writable = true;
                        self.mark_dirty(slot);
                    }
                }
            }
        }
        self.obey();
        self.accept();
        self.read_ready();
        // What inline handlers sent, and what others sent meanwhile, leaves in this round.
        self.obey();
        self.end_in_turn();
        self.settle_dirty();
        self.expire();
        self.settle_dirty();
        self.publish_traffic();
        self.core.pool.schedule(&mut self.runnable);
        self.slab.free_removed();
    }

    /// Lets the slot be read in this round.
    fn mark_ready(&mut self, slot: u32) {
        let connection = &mut self.slab[slot];
        if !std::mem::replace(&mut connection.is_in_ready, true) {
            self.ready.push(slot);
        }
    }

    /// Lets the slot be flushed in this round.
    fn mark_dirty(&mut self, slot: u32) {
        let connection = &mut self.slab[slot];
        if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// Returns the slot of `place`, unless that connection has ended.
    fn find(&self, place: Place) -> Option<u32> {
        self.slab.has(place).then_some(place.slot)
    }
}
