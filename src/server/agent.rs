//! The handle to one connection.

mod requests;
pub(super) mod sending;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::HashMap;
use crossbeam_channel::Sender;

use super::close::{Cause, Closed};
use super::codec::{Codec, DecodeError, Fault, RequestId};
use super::hub::{Command, Hub, Place};
use super::job::Job;
use super::strand::Strand;
use super::wire::Wire;
use crate::clock::Timestamp;
use crate::panic::catch_panic;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The number of an agent, which is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub(crate) u64);

impl AgentId {
    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Over plain TCP.
    Tcp,
    /// Over WebSocket.
    WebSocket,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::WebSocket => "websocket",
        })
    }
}

/// The requests to a peer that wait for an answer.
#[derive(Default)]
struct Requests {
    /// Where the answers go; `None` if none is awaited.
    waiting: Option<Box<HashMap<RequestId, Sender<Answered>>>>,
    /// Whether the connection has ended.
    has_ended: bool,
}

impl Requests {
    /// Removes the request `id`.
    fn remove(&mut self, id: RequestId) -> Option<Sender<Answered>> {
        let sender = self.waiting.as_mut()?.remove(&id);
        self.waiting.take_if(|waiting| waiting.is_empty());
        sender
    }
}

/// The body of an answer, or the fault that came in its place.
type Answered = Result<Vec<u8>, Fault>;

/// What a group does for an agent.
#[derive(Debug)]
pub(crate) enum Visit<'a> {
    /// Handle a message with this name, body and number.
    Message(&'a str, &'a [u8], Option<RequestId>),
    /// Handle the end.
    Closed(&'a Closed),
}

/// The turn of an agent in a group. If it is dropped, the agent is closed, and goes on without the group.
pub(crate) trait Visitor<C, T>: Send {
    /// Calls `code` for each message that waits and belongs to the group, for a while, and passes the turn on. Returns
    /// whether `code` panicked, which ends the turn.
    fn run(self: Box<Self>, code: &mut Attend<'_, C, T>) -> bool;
}

/// What a group does with each message of an agent.
pub(crate) type Attend<'a, C, T> =
    dyn FnMut(&Agent<C, T>, C, &Visit<'_>) -> Result<(), DecodeError> + 'a;

/// A group to which messages of an agent are delegated.
pub(crate) trait Delegate<C, T>: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Returns the name of the route named `name`, if it has one.
    fn route(&self, name: &str) -> Option<&Arc<str>>;

    /// Returns whether it handles the end of connections.
    fn has_closed(&self) -> bool;

    /// Lets the turn run on the thread of the group, or drops it if the group is stopped.
    fn accept(self: Arc<Self>, turn: Box<dyn Visitor<C, T>>);
}

/// The strand of an agent.
pub(crate) type Jobs<C, T> = Strand<Job, Arc<dyn Delegate<C, T>>>;

/// A handle to one connection of a server. Clones are handles to the same connection, and remain valid after its end:
/// operations then return [`SendError::Closed`](super::SendError::Closed) or do nothing.
///
/// All methods can be called from any thread and from handlers. None calls a handler.
pub struct Agent<C, T> {
    /// What all handles share.
    inner: Arc<Inner<C, T>>,
}

/// What all handles to a connection share.
struct Inner<C, T> {
    /// The number.
    id: AgentId,
    /// Where the session is.
    place: Place,
    /// The other end of the socket.
    peer: SocketAddr,
    /// How it came.
    transport: Transport,
    /// What the server shares.
    hub: Arc<Hub<C>>,
    /// How messages are written; set when the connection opens.
    wire: OnceLock<Wire<C>>,
    /// The data of the program.
    data: OnceLock<T>,
    /// Makes the data if nothing else has set it.
    first_data: fn() -> T,
    /// Whether messages are accepted.
    is_open: AtomicBool,
    /// The bytes that are on the way to the session or wait in it.
    queued: AtomicUsize,
    /// When the last byte was received, ns.
    heard: AtomicU64,
    /// The last time from a ping to its pong, ns; zero if there was none.
    rtt: AtomicU64,
    /// The requests to the peer.
    requests: Mutex<Requests>,
    /// The jobs of the connection.
    strand: Jobs<C, T>,
}

impl<C, T> Drop for Inner<C, T> {
    /// Drops the data of the program, which may panic, on whichever thread has the last handle.
    fn drop(&mut self) {
        if catch_panic(|| drop(self.data.take())).is_none() {
            self.hub.stats.lock().panics += 1;
        }
    }
}

impl<C, T> Clone for Agent<C, T> {
    fn clone(&self) -> Self {
        Agent {
            inner: self.inner.clone(),
        }
    }
}

impl<C: Codec, T> Agent<C, T> {
    /// Creates the handle to the connection of `peer`.
    pub(crate) fn new(
        hub: Arc<Hub<C>>,
        place: Place,
        peer: SocketAddr,
        transport: Transport,
        first_data: fn() -> T,
    ) -> Self {
        let id = AgentId(hub.next_id.fetch_add(1, Ordering::Relaxed));
        let now = hub.clock.now().as_nanos();
        let inner = Inner {
            id,
            place,
            peer,
            transport,
            hub,
            wire: OnceLock::new(),
            data: OnceLock::new(),
            first_data,
            is_open: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            heard: AtomicU64::new(now),
            rtt: AtomicU64::new(0),
            requests: Mutex::default(),
            strand: Strand::new(),
        };
        Agent {
            inner: Arc::new(inner),
        }
    }

    /// Returns the number of the agent.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.inner.id
    }

    /// Returns the other end of the socket, which may be a proxy.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.inner.peer
    }

    /// Returns how the connection came.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.inner.transport
    }

    /// Returns the data of the program: what `authorize` returned, or without it the default value, or what was given
    /// to [`builder_with`](super::Server::builder_with).
    ///
    /// The data is shared by the threads that have a handle. Data that is known only after a message, such as who has
    /// logged in, goes into a `OnceLock`, and data that changes into a `Mutex` or an atomic.
    ///
    #[cfg_attr(feature = "json", doc = "```")]
    #[cfg_attr(not(feature = "json"), doc = "```ignore")]
    /// use std::sync::OnceLock;
    /// use liveness::server::{Agent, Fault, Json, Server};
    ///
    /// let server = Server::<Json, OnceLock<String>>::builder()
    ///     .tcp("127.0.0.1:0")
    ///     .on_request("Login", |agent, (name, password): (String, String)| {
    ///         if password != "secret" {
    ///             return Err(Fault::new(1, "wrong password"));
    ///         }
    ///         agent.data().set(name).map_err(|_| Fault::new(2, "a connection logs in once"))
    ///     })
    ///     .on("Say", |agent: &Agent<_, OnceLock<String>>, text: String| match agent.data().get() {
    ///         Some(name) => println!("{name}: {text}"),
    ///         None => agent.close(4001, "log in first"),
    ///     })
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn data(&self) -> &T {
        self.inner.data.get_or_init(self.inner.first_data)
    }

    /// Returns whether messages are accepted. The connection may end at any time after the call. That of a peer on TCP
    /// that has gone is open until its handlers have returned, a message cannot be written, or `close_within` has
    /// passed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.is_open.load(Ordering::Acquire)
    }

    /// Returns when the last byte was received, by the clock of the server.
    #[must_use]
    pub fn last_heard(&self) -> Timestamp {
        Timestamp::from_nanos(self.inner.heard.load(Ordering::Relaxed))
    }

    /// Returns for how long nothing was received.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        let now = self.inner.hub.clock.now();
        now.saturating_duration_since(self.last_heard())
    }

    /// Returns the last time from a ping to its pong, or `None` if there was none.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let ns = self.inner.rtt.load(Ordering::Relaxed);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }

    /// Returns how many bytes of messages wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.inner.queued.load(Ordering::Acquire)
    }

    /// Closes the connection with a close code of WebSocket and a reason, after what is queued was written. A code that
    /// must not be sent becomes 1000. The first cause of an end counts.
    pub fn close(&self, code: u16, reason: impl Into<String>) {
        self.end(Cause::App, Some(code), reason.into());
    }

    /// Adds the connection to a room.
    pub fn join(&self, room: &str) {
        self.ask(Command::Join(self.inner.place, room.into(), true));
    }

    /// Removes the connection from a room.
    pub fn leave(&self, room: &str) {
        self.ask(Command::Join(self.inner.place, room.into(), false));
    }

    /// Returns the address of what all handles to this connection share.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// Closes the connection for `cause`. Nothing is accepted for sending from now on.
    pub(crate) fn end(&self, cause: Cause, code: Option<u16>, reason: String) {
        self.shut();
        self.ask(Command::Close(self.inner.place, cause, code, reason));
    }

    /// Asks the reactor of this connection.
    pub(crate) fn ask(&self, command: Command<C>) {
        // A reactor that has ended has closed its connections.
        let _ = self.inner.hub.ask(self.inner.place, command);
    }

    /// Returns where the session is.
    pub(crate) fn place(&self) -> Place {
        self.inner.place
    }

    /// Returns how messages are written, once the connection is open.
    pub(crate) fn wire(&self) -> Option<Wire<C>> {
        self.inner.wire.get().copied()
    }

    /// Returns the jobs.
    pub(crate) fn jobs(&self) -> &Jobs<C, T> {
        &self.inner.strand
    }

    /// Sets the data before the connection opens.
    pub(crate) fn set_data(&self, data: T) {
        // There is no other data before that.
        let _ = self.inner.data.set(data);
    }

    /// Accepts messages from now on, which are written with `wire`.
    pub(crate) fn open(&self, wire: Wire<C>) {
        // Opened once.
        let _ = self.inner.wire.set(wire);
        self.inner.is_open.store(true, Ordering::Release);
    }

    /// Accepts no messages from now on.
    pub(crate) fn shut(&self) {
        self.inner.is_open.store(false, Ordering::Release);
    }

    /// Publishes what the session knows of its peer.
    pub(crate) fn set_heard(&self, heard: Timestamp, rtt: Option<Duration>) {
        self.inner.heard.store(heard.as_nanos(), Ordering::Relaxed);
        if let Some(rtt) = rtt {
            let ns = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.inner.rtt.store(ns, Ordering::Relaxed);
        }
    }
}

impl<C, T> fmt::Debug for Agent<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            id,
            peer,
            transport,
            ..
        } = &*self.inner;
        f.debug_struct("Agent")
            .field("id", &id.0)
            .field("peer", peer)
            .field("transport", transport)
            .finish_non_exhaustive()
    }
}
