//! What agents and reactors of a server share.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use bytes::Bytes;

use super::channel::Channel;
use super::close::Cause;
use super::codec::Codec;
use super::error::SendError;
use super::http::{Answer, Request};
use super::inbox::{Inbox, Wake};
use super::limits::Overflow;
use super::net::Waker;
use super::shortcut;
use super::stats::ServerStats;
use super::wire::Wire;
use crate::clock::Clock;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, answer, thread_local};

/// Where a connection is: the slot of a reactor. A slot that is used again has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The index of the reactor.
    pub(crate) reactor: u32,
    /// The slot.
    pub(crate) slot: u32,
    /// The generation of the slot.
    pub(crate) generation: u32,
}

/// How messages are framed by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// TCP with this framing.
    Tcp(super::framing::Framing),
    /// WebSocket.
    WebSocket,
}

/// A message in each form that the connections of the server need.
pub(crate) type Frames<C> = Arc<[(Wire<C>, Bytes)]>;

/// What a reactor is asked for.
#[derive(Debug)]
pub(crate) enum Command<C> {
    /// Take this connection.
    Adopt(Channel, SocketAddr, Port),
    /// Send a frame.
    Send(Place, Vec<u8>),
    /// Close the connection.
    Close(Place, Cause, Option<u16>, String),
    /// Accept the upgrade request, or answer with another status.
    Decide(Place, Box<Request>, Result<(), Answer>),
    /// Read on.
    Resume(Place),
    /// End a connection whose peer has ended its direction: all that it sent was handled.
    Handled(Place),
    /// Read on wherever the strand [relents](super::pool::Pool::relent).
    ResumeAll,
    /// Join a room, or leave it.
    Join(Place, Arc<str>, bool),
    /// Send to all members of a room, or to all connections.
    Publish(Option<Arc<str>>, Frames<C>),
    /// Close the listeners.
    StopListening(answer::Sender<()>),
    /// Close all connections, spread over this time, and cut what is left at the second time.
    Shutdown(Duration, Instant),
}

/// What agents and reactors of a server share.
pub(crate) struct Hub<C> {
    /// The queues of the reactors.
    pub(crate) inboxes: Box<[Inbox<Command<C>>]>,
    /// The time source.
    pub(crate) clock: Clock,
    /// The number of the next agent.
    pub(crate) next_id: AtomicU64,
    /// The number of the next request.
    pub(crate) next_request: AtomicU64,
    /// The bytes of messages that wait for all connections.
    pub(crate) buffered: AtomicUsize,
    /// The bytes of messages to many that reactors have not taken. They do not count for the connections, so that
    /// connections which hold much do not keep messages from the others.
    pub(crate) publishing: AtomicUsize,
    /// The most of either.
    pub(crate) max_buffered: usize,
    /// The most bytes that wait for one connection.
    pub(crate) outbound: usize,
    /// What happens beyond that.
    pub(crate) overflow: Overflow,
    /// Whether no connection is taken.
    pub(crate) is_draining: AtomicBool,
    /// The connections of each reactor.
    pub(crate) loads: Box<[AtomicUsize]>,
    /// The counters.
    pub(crate) stats: Mutex<ServerStats>,
    /// The numbers of the agents whose connections a shutdown has cut.
    pub(crate) cut: Mutex<Vec<u64>>,
    /// The open connections of each address.
    pub(crate) addresses: Mutex<HashMap<IpAddr, usize>>,
    /// The forms of messages that connections need.
    wires: Mutex<Vec<Wire<C>>>,
    /// The senders that wait for room.
    blocked: AtomicUsize,
    /// The lock under which they wait.
    lock: Mutex<()>,
    /// Notified when there is room.
    room: Condvar,
}

thread_local! {
    /// The hub whose reactor or handler this thread is, as an address.
    static OWN: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// A thread of a group that handles messages of the server, until this is dropped.
pub(crate) struct Lent {
    /// What it was before.
    before: (usize, bool),
}

impl Drop for Lent {
    fn drop(&mut self) {
        OWN.with(|own| own.set(self.before));
    }
}

/// Options of a hub.
pub(crate) struct HubOptions {
    /// The time source.
    pub(crate) clock: Clock,
    /// The most bytes that wait for all connections.
    pub(crate) max_buffered: usize,
    /// The most bytes that wait for one connection.
    pub(crate) outbound: usize,
    /// What happens beyond that.
    pub(crate) overflow: Overflow,
}

impl<C: Codec> Hub<C> {
    /// Creates the hub of the reactors that `wakers` wake.
    pub(crate) fn new(wakers: Vec<Box<dyn Wake>>, options: HubOptions) -> Self {
        let loads = wakers.iter().map(|_| AtomicUsize::new(0)).collect();
        Hub {
            inboxes: wakers.into_iter().map(Inbox::new).collect(),
            clock: options.clock,
            next_id: AtomicU64::new(1),
            next_request: AtomicU64::new(1),
            buffered: AtomicUsize::new(0),
            publishing: AtomicUsize::new(0),
            max_buffered: options.max_buffered,
            outbound: options.outbound,
            overflow: options.overflow,
            is_draining: AtomicBool::new(false),
            loads,
            stats: Mutex::default(),
            cut: Mutex::default(),
            addresses: Mutex::default(),
            wires: Mutex::default(),
            blocked: AtomicUsize::new(0),
            lock: Mutex::default(),
            room: Condvar::new(),
        }
    }

    /// Asks the reactor of `place`. A reactor that has ended has no connections, so that nothing is to be done.
    pub(crate) fn ask(&self, place: Place, command: Command<C>) -> bool {
        shortcut::bar();
        self.inboxes[place.reactor as usize].push(command).is_ok()
    }

    /// Marks this thread as one of the server, a reactor or a handler.
    pub(crate) fn mark_thread(&self, is_reactor: bool) {
        OWN.with(|own| own.set((std::ptr::from_ref(self).addr(), is_reactor)));
    }

    /// Marks this thread as one of the server until the returned value is dropped.
    pub(crate) fn lend_thread(&self) -> Lent {
        Lent {
            before: OWN.with(|own| own.replace((std::ptr::from_ref(self).addr(), false))),
        }
    }

    /// Returns whether this thread is a reactor or a handler of the server.
    pub(crate) fn is_own_thread(&self) -> bool {
        OWN.with(Cell::get).0 == std::ptr::from_ref(self).addr()
    }

    /// Returns whether this thread is a reactor of the server.
    pub(crate) fn is_reactor_thread(&self) -> bool {
        OWN.with(Cell::get) == (std::ptr::from_ref(self).addr(), true)
    }

    /// Adds a form that messages need. Called before a connection of that form is reported.
    pub(crate) fn add_wire(&self, wire: Wire<C>) {
        let mut wires = self.wires.lock();
        if !wires.contains(&wire) {
            wires.push(wire);
        }
    }

    /// The forms that messages need.
    pub(crate) fn wires(&self) -> Vec<Wire<C>> {
        self.wires.lock().clone()
    }

    /// Asks all reactors to send `frames`, whose bytes count for each reactor until it has taken them.
    pub(crate) fn publish(&self, room: Option<&str>, frames: &Frames<C>) -> Result<(), SendError> {
        let room: Option<Arc<str>> = room.map(Into::into);
        if frames.iter().any(|(_, frame)| frame.len() > self.outbound) {
            return Err(SendError::TooBig);
        }
        let len = len_of(frames);
        if !self.count(&self.publishing, len.saturating_mul(self.inboxes.len())) {
            return Err(SendError::Full);
        }
        shortcut::bar();
        let mut is_taken = false;
        for inbox in &self.inboxes {
            let publish = Command::Publish(room.clone(), frames.clone());
            if inbox.push(publish).is_ok() {
                is_taken = true;
            } else {
                self.took(frames);
            }
        }
        if is_taken {
            Ok(())
        } else {
            Err(SendError::Closed)
        }
    }

    /// Counts that a reactor has taken `frames`.
    pub(crate) fn took(&self, frames: &Frames<C>) {
        self.publishing.fetch_sub(len_of(frames), Ordering::AcqRel);
    }

    /// Counts `len` more bytes that wait for a connection, if there is room.
    pub(crate) fn take(&self, len: usize) -> bool {
        self.count(&self.buffered, len)
    }

    /// Adds `len` to `counter`, if there is room.
    fn count(&self, counter: &AtomicUsize, len: usize) -> bool {
        let take = |all: usize| {
            let sum = all.checked_add(len)?;
            (sum <= self.max_buffered).then_some(sum)
        };
        let taken = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.is_ok()
    }

    /// Counts `len` bytes as no longer waiting. The caller then [announces](Hub::announce_room) the room.
    pub(crate) fn give_back(&self, len: usize) {
        self.buffered.fetch_sub(len, Ordering::AcqRel);
    }

    /// Waits until `has_room` or the time is over.
    ///
    /// *Race.* Room may come between the look and the sleep. The sender counts itself, and then looks; the reactor
    /// makes room, and then looks whether anyone is counted. The fences order each pair, so one of them sees the other.
    /// A sender that is counted holds the lock from its look until it sleeps, and the reactor notifies under that lock.
    pub(crate) fn wait_for_room(&self, within: Duration, has_room: impl Fn() -> bool) {
        let until = crate::sync::Instant::now().checked_add(within);
        self.blocked.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut lock = self.lock.lock();
        while !has_room() {
            match until {
                None => self.room.wait(&mut lock),
                Some(until) if self.room.wait_until(&mut lock, until).timed_out() => break,
                Some(_) => {}
            }
        }
        drop(lock);
        self.blocked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes the senders that wait for room, after there has become some.
    pub(crate) fn announce_room(&self) {
        fence(Ordering::SeqCst);
        if self.blocked.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock());
            self.room.notify_all();
        }
    }
}

/// Returns the point in time `by` after `at`, or one later than any program runs.
pub(crate) fn later(at: Instant, by: Duration) -> Instant {
    at + by.min(Duration::from_secs(1 << 30))
}

/// Returns how many bytes `frames` hold.
fn len_of<C>(frames: &Frames<C>) -> usize {
    frames.iter().map(|(_, frame)| frame.len()).sum()
}

impl<C> fmt::Debug for Hub<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // Fails only if the counter of the descriptor is full, and then it is awake.
        let _: io::Result<()> = Waker::wake(self);
    }
}
