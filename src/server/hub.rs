//! What agents and reactors of a server share.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::HashMap;
use bytes::Bytes;
use mio::net::TcpStream;
use parking_lot::{Condvar, Mutex};

use super::close::Cause;
use super::codec::Codec;
use super::http::{Answer, Request};
use super::inbox::{Inbox, Wake};
use super::limits::Overflow;
use super::stats::ServerStats;
use super::wire::Wire;
use crate::clock::Clock;

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
    Adopt(TcpStream, SocketAddr, Port),
    /// Send a frame.
    Send(Place, Bytes),
    /// Close the connection.
    Close(Place, Cause, Option<u16>, String),
    /// Accept the upgrade request, or answer with another status.
    Decide(Place, Box<Request>, Result<(), Answer>),
    /// Read on.
    Resume(Place),
    /// Join a room, or leave it.
    Join(Place, Arc<str>, bool),
    /// Send to all members of a room, or to all connections.
    Publish(Option<Arc<str>>, Frames<C>),
    /// Close the listeners.
    StopListening(crossbeam_channel::Sender<()>),
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
    /// The most of them.
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
            max_buffered: options.max_buffered,
            outbound: options.outbound,
            overflow: options.overflow,
            is_draining: AtomicBool::new(false),
            loads,
            stats: Mutex::default(),
            addresses: Mutex::default(),
            wires: Mutex::default(),
            blocked: AtomicUsize::new(0),
            lock: Mutex::default(),
            room: Condvar::new(),
        }
    }

    /// Asks the reactor of `place`. A reactor that has ended has no connections, so that nothing is to be done.
    pub(crate) fn ask(&self, place: Place, command: Command<C>) -> bool {
        self.inboxes[place.reactor as usize].push(command).is_ok()
    }

    /// Marks this thread as one of the server, a reactor or a handler.
    pub(crate) fn mark_thread(&self, is_reactor: bool) {
        OWN.set((std::ptr::from_ref(self).addr(), is_reactor));
    }

    /// Returns whether this thread is a reactor or a handler of the server.
    pub(crate) fn is_own_thread(&self) -> bool {
        OWN.get().0 == std::ptr::from_ref(self).addr()
    }

    /// Returns whether this thread is a reactor of the server.
    pub(crate) fn is_reactor_thread(&self) -> bool {
        OWN.get() == (std::ptr::from_ref(self).addr(), true)
    }

    /// Adds a form that messages need. Called before a connection of that form is told of.
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

    /// Asks all reactors to send `frames`.
    pub(crate) fn publish(&self, room: Option<&str>, frames: &Frames<C>) {
        let room: Option<Arc<str>> = room.map(Into::into);
        for inbox in &self.inboxes {
            // A reactor that has ended has no connections.
            let _ = inbox.push(Command::Publish(room.clone(), frames.clone()));
        }
    }

    /// Waits until `has_room` or the time is over.
    pub(crate) fn wait_for_room(&self, within: Duration, has_room: impl Fn() -> bool) {
        let until = Instant::now().checked_add(within);
        self.blocked.fetch_add(1, Ordering::SeqCst);
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
        if self.blocked.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock());
            self.room.notify_all();
        }
    }
}

impl<C> fmt::Debug for Hub<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Wake for mio::Waker {
    fn wake(&self) {
        // Fails only if the counter of the descriptor is full, and then it is awake.
        let _: io::Result<()> = mio::Waker::wake(self);
    }
}
