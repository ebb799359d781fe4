//! The handle to one connection.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::HashMap;
use bytes::Bytes;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::close::{Cause, Closed};
use super::codec::{Codec, Decode, DecodeError, Encode, EncodeError, Fault, Head, RequestId};
use super::error::{RequestError, SendError};
use super::http::Request;
use super::hub::{Command, Frames, Hub, Place};
use super::limits::Overflow;
use super::shortcut::Draft;
use super::strand::Strand;
use super::wire::Wire;
use crate::clock::Timestamp;
use crate::panic::catch_panic;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How much room a frame is given before it is encoded, bytes: enough for a short message.
const FRAME: usize = 128;

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

/// The requests to a peer that wait for an answer; `None` after the end.
type Requests = Mutex<Option<HashMap<RequestId, Sender<Answered>>>>;

/// A request that waits for an answer until this is dropped.
struct Outstanding<'a>(&'a Requests, RequestId);

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        if let Some(requests) = &mut *self.0.lock() {
            requests.remove(&self.1);
        }
    }
}

/// Whose room is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The connection's.
    Connection,
    /// That of all connections together.
    Server,
}

/// The body of an answer, or the fault that came in its place.
type Answered = Result<Vec<u8>, Fault>;

/// What runs on the strand of an agent.
#[derive(Debug)]
pub(crate) enum Job {
    /// Decide about an upgrade request.
    Authorize(Box<Request>),
    /// Answer a request for a page.
    Page(Box<Request>),
    /// Report that the connection is open.
    Opened,
    /// Call the handler of a route with a body.
    Message(Target, Box<[u8]>, Option<RequestId>),
    /// Report that the connection has ended.
    Closed(Box<Closed>),
}

/// What a message is for.
#[derive(Debug)]
pub(crate) enum Target {
    /// The route of the server with this index.
    Route(usize),
    /// No route of the server, but perhaps one of a group that has this name.
    Other(Box<str>),
}

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
/// operations then return [`SendError::Closed`] or do nothing.
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
    /// The requests to the peer; `None` after the end.
    requests: Requests,
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
            requests: Mutex::new(Some(HashMap::default())),
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
    #[must_use]
    pub fn data(&self) -> &T {
        self.inner.data.get_or_init(self.inner.first_data)
    }

    /// Returns whether messages are accepted. The connection may end at any time after the call.
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

    /// Sends a message named `name`. `Ok` means that it is queued.
    ///
    /// If too many bytes wait, the [`Overflow`] of the server applies. With [`Overflow::Block`] this waits, but not on
    /// threads of the server itself, which would wait for themselves.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if the connection is closed, if too many bytes wait, or if the body has no encoding.
    pub fn send<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        self.send_head(Head::new(name), body, true)
    }

    /// Sends a message like [`send`](Agent::send), but never waits.
    ///
    /// # Errors
    ///
    /// Returns the errors of `send`.
    pub fn try_send<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        self.send_head(Head::new(name), body, false)
    }

    /// Sends a request, and waits for its answer for at most `within`.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if the request is not sent, the answer does not come in time or is an error, or the
    /// connection ends. An inline handler gets [`WouldDeadlock`](RequestError::WouldDeadlock).
    pub fn request<B, R>(&self, name: &str, body: &B, within: Duration) -> Result<R, RequestError>
    where
        B: Encode<C> + ?Sized,
        R: Decode<C>,
    {
        let inner = &*self.inner;
        if inner.hub.is_reactor_thread() {
            return Err(RequestError::WouldDeadlock);
        }
        let id = inner.hub.next_request.fetch_add(1, Ordering::Relaxed);
        let id = NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN);
        let (sender, answer) = bounded(1);
        match &mut *inner.requests.lock() {
            Some(requests) => drop(requests.insert(id, sender)),
            None => return Err(RequestError::Send(SendError::Closed)),
        }
        // Also if the encoding panics.
        let _outstanding = Outstanding(&inner.requests, id);
        self.send_head(Head::new(name).id(Some(id)), body, true)
            .map_err(RequestError::Send)?;
        let answered = match answer.recv_timeout(within) {
            Ok(answered) => answered.map_err(RequestError::Fault)?,
            Err(RecvTimeoutError::Timeout) => return Err(RequestError::Timeout),
            Err(RecvTimeoutError::Disconnected) => return Err(RequestError::Lost),
        };
        let codec = self.wire().ok_or(RequestError::Lost)?.codec;
        R::decode(codec, &answered).map_err(RequestError::Decode)
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

    /// Sends a message to all members of a room of this agent's server, like
    /// [`Server::publish`](super::Server::publish).
    ///
    /// # Errors
    ///
    /// Returns the errors of that method.
    pub fn publish<B: Encode<C> + ?Sized>(
        &self,
        room: &str,
        name: &str,
        body: &B,
    ) -> Result<(), SendError> {
        publish(&self.inner.hub, Some(room), name, body)
    }

    /// Sends a message to all connections of this agent's server, like [`Server::broadcast`](super::Server::broadcast).
    ///
    /// # Errors
    ///
    /// Returns the errors of that method.
    pub fn broadcast<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        publish(&self.inner.hub, None, name, body)
    }

    /// Sends a message.
    pub(crate) fn send_head<B: Encode<C> + ?Sized>(
        &self,
        head: Head<'_>,
        body: &B,
        may_wait: bool,
    ) -> Result<(), SendError> {
        self.send_frame(may_wait, |wire, out| wire.encode(head, body, out))
    }

    /// Answers the message `name`, if it was a request and has the number `re`.
    pub(crate) fn answer<B: Encode<C>>(
        &self,
        name: &str,
        re: Option<RequestId>,
        answer: Result<B, Fault>,
    ) {
        if re.is_some() {
            // A peer that has gone needs no answer.
            let _ = match answer {
                Ok(body) => self.send_head(Head::new(name).re(re), &body, true),
                Err(fault) => self.send_fault(&fault, re),
            };
        }
    }

    /// Answers the request `re` with a fault.
    pub(crate) fn send_fault(&self, fault: &Fault, re: Option<RequestId>) -> Result<(), SendError> {
        self.send_frame(true, |wire, out| wire.encode_fault(fault, re, out))
    }

    /// Sends the frame that `encode` appends to the session.
    fn send_frame(
        &self,
        may_wait: bool,
        encode: impl FnOnce(Wire<C>, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), SendError> {
        let wire = self.wire().ok_or(SendError::Closed)?;
        if let Some(mut draft) = Draft::begin(self.address()) {
            encode(wire, draft.buffer())?;
            self.admit(draft.len(), may_wait)?;
            draft.keep();
            return Ok(());
        }
        let Inner { hub, place, .. } = &*self.inner;
        let mut frame = Vec::with_capacity(FRAME);
        encode(wire, &mut frame)?;
        let len = frame.len();
        self.admit(len, may_wait)?;
        if hub.ask(*place, Command::Send(*place, frame)) {
            Ok(())
        } else {
            self.inner.queued.fetch_sub(len, Ordering::AcqRel);
            hub.give_back(len);
            hub.announce_room();
            Err(SendError::Closed)
        }
    }

    /// Returns the address of what all handles to this connection share.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// Reserves room for a frame of `len` bytes.
    fn admit(&self, len: usize, may_wait: bool) -> Result<(), SendError> {
        let hub = &self.inner.hub;
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        if len > hub.outbound {
            return Err(SendError::TooBig);
        }
        if let Err(full) = self.reserve(len) {
            match hub.overflow {
                Overflow::Close if full == Full::Connection => {
                    // Before the refusal returns, so that no later message is accepted.
                    let why = "too many bytes wait to be read".to_owned();
                    self.end(Cause::SlowConsumer, None, why);
                    return Err(SendError::Full);
                }
                Overflow::Block(within) if may_wait && !hub.is_own_thread() => {
                    let is_reserved = Cell::new(false);
                    hub.wait_for_room(within, || {
                        is_reserved.set(self.is_open() && self.reserve(len).is_ok());
                        is_reserved.get() || !self.is_open()
                    });
                    if !is_reserved.get() {
                        let is_open = self.is_open();
                        return Err(if is_open {
                            SendError::Full
                        } else {
                            SendError::Closed
                        });
                    }
                }
                _ => return Err(SendError::Full),
            }
        }
        Ok(())
    }

    /// Reserves `len` bytes, if there is room. A failure leaves no trace that could make another sender fail.
    fn reserve(&self, len: usize) -> Result<(), Full> {
        let Inner { hub, queued, .. } = &*self.inner;
        let take = |mine: usize| {
            let sum = mine.checked_add(len)?;
            (sum <= hub.outbound).then_some(sum)
        };
        if take(self.queued()).is_none() {
            return Err(Full::Connection);
        }
        if !hub.take(len) {
            return Err(Full::Server);
        }
        let taken = queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        if taken.is_err() {
            // Another sender took the room in between.
            hub.give_back(len);
            return Err(Full::Connection);
        }
        Ok(())
    }

    /// Counts that `before` bytes of what is queued, which were in the session or came to it, have become `after`.
    pub(crate) fn recount(&self, before: usize, after: usize) {
        let Inner { hub, queued, .. } = &*self.inner;
        if after > before {
            queued.fetch_add(after - before, Ordering::AcqRel);
            hub.buffered.fetch_add(after - before, Ordering::AcqRel);
        } else if after < before {
            queued.fetch_sub(before - after, Ordering::AcqRel);
            hub.give_back(before - after);
        }
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

    /// Ends all requests.
    pub(crate) fn lose_requests(&self) {
        drop(self.inner.requests.lock().take());
    }

    /// Publishes what the session knows of its peer.
    pub(crate) fn set_heard(&self, heard: Timestamp, rtt: Option<Duration>) {
        self.inner.heard.store(heard.as_nanos(), Ordering::Relaxed);
        if let Some(rtt) = rtt {
            let ns = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.inner.rtt.store(ns, Ordering::Relaxed);
        }
    }

    /// Passes on the answer to the request `re`.
    pub(crate) fn answered(&self, re: RequestId, answer: Answered) {
        let mut requests = self.inner.requests.lock();
        let sender = requests.as_mut().and_then(|requests| requests.remove(&re));
        drop(requests);
        if let Some(sender) = sender {
            // It has room for one.
            let _ = sender.try_send(answer);
        }
    }
}

/// Sends a message to the members of a room or to all connections, encoded in each form that connections need.
pub(crate) fn publish<C: Codec, B: Encode<C> + ?Sized>(
    hub: &Hub<C>,
    room: Option<&str>,
    name: &str,
    body: &B,
) -> Result<(), SendError> {
    let encode = |wire: Wire<C>| {
        let mut frame = Vec::new();
        wire.encode(Head::new(name), body, &mut frame)?;
        Ok((wire, Bytes::from(frame)))
    };
    let frames: Result<Frames<C>, EncodeError> = hub.wires().into_iter().map(encode).collect();
    hub.publish(room, &frames?)
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
