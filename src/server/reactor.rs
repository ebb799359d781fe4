//! A thread that owns sockets and their sessions, and judges their silence.
//!
//! A round reads before it judges, with one reading of the clock, in one thread. What lay in a socket's buffer at a
//! deadline is therefore seen before the peer is called silent: a round reads what is ready, and looks at the socket of
//! each overdue peer once more. After the reactor itself was late, expiry is held back, because the peers may have
//! waited for it.

mod accepting;
mod connections;
mod deadlines;
mod expiry;
mod listeners;
mod traffic;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::agent::{Agent, Delegate, Transport};
use super::channel::{Channel, Scratch};
use super::close::Cause;
use super::codec::Codec;
use super::core::{Core, Seated};
use super::desk::Desk;
use super::hub::{Command, Place, Port, later};
use super::net::{Events, Interest, Poll, Token};
use super::pool::Turns;
use super::session::{Session, Settings, Traffic};
use super::shortcut;
use crate::clock::Timestamp;
use connections::{Connection, Slab, Stage};
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

    /// Does what other threads ask for.
    fn obey(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        shortcut::begin_to_obey();
        self.core.hub.inboxes[self.index].take(&mut commands);
        for command in commands.drain(..) {
            self.obey_one(command);
        }
        shortcut::has_obeyed();
        if commands.capacity() > 4_096 {
            commands = Vec::new();
        }
        self.commands = commands;
    }

    /// Returns the slot of `place`, unless that connection has ended.
    fn find(&self, place: Place) -> Option<u32> {
        self.slab.has(place).then_some(place.slot)
    }

    /// Does what another thread asks for.
    fn obey_one(&mut self, command: Command<C>) {
        let now = self.now;
        match command {
            Command::Adopt(channel, peer, port) => self.adopt(channel, peer, port),
            Command::Send(place, frame) => {
                let len = frame.len();
                if let Some(slot) = self.find(place) {
                    let connection = &mut self.slab[slot];
                    // It was counted when it was sent, and is until it is written or discarded.
                    connection.charged += len;
                    // The report has what is refused as not sent.
                    if connection.session.send(frame, now).is_err() {
                        connection.rare().refused += len as u64;
                    }
                    self.mark_dirty(slot);
                } else {
                    // The connection has ended.
                    self.core.hub.give_back(len);
                    self.has_room = true;
                }
            }
            Command::Close(place, cause, code, reason) => {
                if let Some(slot) = self.find(place) {
                    self.slab[slot].session.close(cause, code, reason, now);
                    self.mark_dirty(slot);
                }
            }
            Command::Decide(place, request, decided) => {
                if let Some(slot) = self.find(place) {
                    self.decide(slot, &request, decided);
                }
            }
            Command::Resume(place) => {
                // The strand may have become full again since; another command follows then.
                if let Some(slot) = self.find(place)
                    && !self.slab[slot].agent.jobs().is_full()
                {
                    self.slab[slot].session.resume();
                    self.mark_dirty(slot);
                }
            }
            Command::ResumeAll => {
                for slot in self.slab.slots() {
                    if self.core.pool.relent(self.slab[slot].agent.jobs()) {
                        self.slab[slot].session.resume();
                        self.mark_dirty(slot);
                    }
                }
            }
            Command::Join(place, room, is_joining) => {
                if let Some(slot) = self.find(place) {
                    self.slab.join(slot, room, is_joining);
                }
            }
            Command::Publish(room, frames) => {
                // From now on they count where they wait.
                self.core.hub.took(&frames);
                for slot in self.slab.members(room.as_ref()) {
                    let connection = &mut self.slab[slot];
                    let wire = connection.session.wire();
                    let frame = frames.iter().find(|(it, _)| *it == wire);
                    let Some((_, frame)) = frame.filter(|_| connection.session.is_open()) else {
                        continue;
                    };
                    let hub = &self.core.hub;
                    let buffered = hub.buffered.load(Ordering::Acquire);
                    let is_over = buffered + frame.len() > hub.max_buffered && {
                        // A peer that takes what it is sent does not suffer from the others.
                        connection.flush(now, &mut self.traffic);
                        connection.session.queued() > 0
                    };
                    let sent = if is_over {
                        Err(connection.session.refuse_message(now))
                    } else {
                        connection.session.send(frame.clone(), now)
                    };
                    if sent.is_err() {
                        connection.rare().refused += frame.len() as u64;
                    }
                    connection.recount();
                    self.mark_dirty(slot);
                }
            }
            Command::StopListening(done) => {
                self.listeners.close(self.poll.registry());
                // The caller may have given up.
                let _ = done.send(());
            }
            Command::Shutdown(spread, cut) => self.begin_end(spread, cut),
        }
    }

    /// Takes a connection.
    fn adopt(&mut self, mut channel: Channel, peer: SocketAddr, port: Port) {
        let hub = self.core.hub.clone();
        let place = self.slab.next_place(self.index as u32);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(place.slot as usize);
        // An option that the system does not grant costs only time.
        let stream = &mut channel.stream;
        let _ = stream.set_nodelay(self.limits.nodelay);
        let registered = self.poll.registry().register(stream, token, interest);
        if registered.is_err() {
            let mut stats = hub.stats.lock();
            stats.handshaking -= 1;
            stats.refused += 1;
            drop(stats);
            hub.loads[self.index].fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let codec = C::default();
        let (session, transport) = match port {
            Port::Tcp(framing) if channel.is_secure() => {
                let session =
                    Session::tcp_after_handshake(&self.settings, framing, codec, self.now);
                (session, Transport::Tcp)
            }
            Port::Tcp(framing) => {
                let session = Session::tcp(&self.settings, framing, codec, self.now);
                (session, Transport::Tcp)
            }
            Port::WebSocket => {
                let session = Session::websocket(&self.settings, codec, peer, self.now);
                (session, Transport::WebSocket)
            }
        };
        let first_data = self.core.program.first_data;
        let agent = Agent::new(hub.clone(), place, peer, transport, first_data);
        self.slab.insert(Connection::new(session, channel, agent));
        let slot = place.slot;
        if self.slab[slot].session.is_open() {
            self.admit(slot);
        }
        if self.ending.is_some() {
            let now = self.now;
            self.slab[slot]
                .session
                .close(Cause::Shutdown, None, String::new(), now);
        }
        self.mark_dirty(slot);
    }

    /// Reports a TCP connection that has opened, or closes it because of the limit of its address.
    fn admit(&mut self, slot: u32) {
        let address = self.slab[slot].agent.peer().ip();
        if self.count_address(slot, address) {
            self.opened(slot);
            return;
        }
        let why = "too many connections".to_owned();
        let session = &mut self.slab[slot].session;
        session.close(Cause::Refused, Some(1013), why, self.now);
    }

    /// Removes what is left and ends.
    fn finish(&mut self) {
        let rest = self.core.hub.inboxes[self.index].close();
        for command in rest {
            match command {
                Command::Send(_, frame) => self.core.hub.give_back(frame.len()),
                Command::Publish(_, frames) => self.core.hub.took(&frames),
                Command::Adopt(..) => {
                    let mut stats = self.core.hub.stats.lock();
                    stats.handshaking -= 1;
                    stats.refused += 1;
                }
                _ => {}
            }
        }
        self.core.hub.announce_room();
    }

    /// Begins to close all connections.
    fn begin_end(&mut self, spread: Duration, cut: Instant) {
        let slots = self.slab.slots();
        let began = Instant::now();
        let mut order = std::collections::VecDeque::new();
        let count = slots.len().max(1) as u32;
        for (index, slot) in slots.into_iter().enumerate() {
            let connection = &self.slab[slot];
            // A handshake need not wait for its turn.
            let wait = if connection.stage == Stage::Open {
                spread / count * index as u32
            } else {
                Duration::ZERO
            };
            order.push_back((later(began, wait), connection.agent.place()));
        }
        order.make_contiguous().sort_by_key(|(at, _)| *at);
        self.ending = Some(Ending { order, cut });
    }

    /// Closes the connections whose turn it is.
    fn end_in_turn(&mut self) {
        let Some(Ending { mut order, cut }) = self.ending.take() else {
            return;
        };
        let (instant, now) = (Instant::now(), self.now);
        while let Some(&(at, place)) = order.front()
            && at <= instant
        {
            order.pop_front();
            if let Some(slot) = self.find(place) {
                let why = "the server shuts down".to_owned();
                self.slab[slot]
                    .session
                    .close(Cause::Shutdown, None, why, now);
                self.mark_dirty(slot);
            }
        }
        if instant >= cut {
            for slot in self.slab.slots() {
                let connection = &mut self.slab[slot];
                if connection.was_reported {
                    self.core.hub.cut.lock().push(connection.agent.id().get());
                }
                let session = &mut connection.session;
                session.close(Cause::Shutdown, None, "cut".to_owned(), now);
                session.failed(now);
                self.mark_dirty(slot);
            }
        }
        self.ending = Some(Ending { order, cut });
    }

    /// Returns whether the reactor has nothing more to do.
    fn has_ended(&self) -> bool {
        self.ending.is_some() && self.slab.is_empty()
    }
}
