//! The state machine of one connection: bytes, reports of deadlines and commands in; bytes, messages, changes of
//! deadlines and the cause of the end out. It has no socket, thread or clock; time is an argument.
//!
//! # How the owner uses it
//!
//! A client's session has the same phases and rules; only the handshake and the masks differ.
//!
//! 1. What is read from the socket goes to [`receive`](Session::receive), which calls a sink with each message. Then
//!    [`take_asked`](Session::take_asked) returns an upgrade request, if one is complete, and the owner
//!    [accepts](Session::accept) or [refuses](Session::refuse) it.
//! 2. Frames of other threads go to [`send`](Session::send).
//! 3. [`conclude`](Session::conclude) ends the session if something that was received does. [`slices`](Session::slices)
//!    returns what is to be written. The owner reports each attempt to [`wrote`](Session::wrote), also one that wrote
//!    nothing.
//! 4. [`take_changes`](Session::take_changes) returns what is to be done with the keys of the owner's watcher. A key
//!    that the watcher reports goes to [`fired`](Session::fired). After a last look at the socket,
//!    [`expired`](Session::expired) judges it; bytes that were received in between have begun the deadline again, and
//!    nothing happens.
//! 5. After a flush, [`step`](Session::step) says whether the socket is to be shut down or closed.
//!
//! A peer on TCP that ends its direction may still read. While its messages are handled, the owner calls
//! [`eof_while_handling`](Session::eof_while_handling), and [`handled`](Session::handled) afterwards: in between,
//! answers are accepted.
//!
//! The first cause of an end counts. From then on nothing more is accepted for sending but the close itself.

#[cfg(all(
    any(test, fuzzing),
    feature = "client",
    feature = "json",
    feature = "msgpack",
    feature = "protobuf"
))]
mod driver;
mod ending;
#[cfg(all(
    any(test, fuzzing),
    feature = "client",
    feature = "json",
    feature = "msgpack",
    feature = "protobuf"
))]
pub(crate) mod hostile;
mod reading;
mod timing;

use std::io::IoSlice;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::close::{Cause, Ending};
use super::codec::{Codec, Fault, Head};
use super::deadlines::Deadlines;
pub(crate) use super::deadlines::Kind;
use super::framing::{Framing, Splitter};
#[cfg(feature = "client")]
pub(crate) use super::http::upgrade::Upgrade;
use super::http::{Asked, Policy};
use super::keepalive::Keepalive;
use super::limits::{Limits, Meter, Overflow};
use super::outbox::{Data, Outbox};
use super::websocket::{self, Role};
use super::wire::{Link, Wire};
use crate::clock::Timestamp;

/// How long the rest of the input is read after this side has shut its direction down. A socket that is closed while
/// input waits is reset, and the peer may lose what it has not read.
const LINGER: Duration = Duration::from_secs(1);

/// How often it is looked whether the rate of messages allows to read on: a constant, so that connections share a
/// timeout.
const THROTTLE: Duration = Duration::from_millis(100);

/// The name of the message that asks for a sign of life.
pub(crate) const PING: &str = "Ping";

/// The name of its answer.
pub(crate) const PONG: &str = "Pong";

/// Returns whether messages named `name` have no handler.
pub(crate) fn is_reserved(name: &str) -> bool {
    [PING, PONG, Fault::NAME].contains(&name)
}

/// What the sessions of a server have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// When silent connections are pinged and dropped.
    pub(crate) keepalive: Keepalive,
    /// The limits.
    pub(crate) limits: Limits,
    /// What is asked of upgrade requests.
    pub(crate) policy: Policy,
    /// Makes the payloads of pings differ between servers.
    pub(crate) salt: u64,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The upgrade request, its answer, or a handshake of the owner's, is incomplete.
    Requesting,
    /// The owner decides about it.
    Deciding,
    /// Messages go both ways.
    Open,
    /// This side has closed. Messages still come in; the peer's close is awaited.
    Closing,
    /// The rest is written; what comes in is dropped.
    Flushing,
    /// The rest is written as far as the socket takes it at once.
    Aborting,
    /// Everything is written, and this direction is shut down; what comes in is dropped.
    Lingering,
    /// The socket can be closed.
    Done,
}

/// The refusal of a message: the session has ended, or too much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// What the owner does with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Run,
    /// Shut the direction of writing down, once.
    ShutdownWrite,
    /// Close the socket, and drop the session.
    Close,
}

/// What a handshake needs.
#[derive(Debug)]
struct Handshake {
    /// What was received: the request or its answer, or what came after it.
    buffer: Vec<u8>,
    /// What this side needs.
    side: Side,
    /// Whether the request is `HEAD`, whose answer has no body.
    is_head: bool,
}

/// What a side needs during a handshake.
#[derive(Debug)]
enum Side {
    /// The server: the other end of the socket, and what its request asks for.
    Server(SocketAddr, Option<Asked>),
    /// The client: what the answer must prove.
    #[cfg(feature = "client")]
    Client(Upgrade),
}

/// What delimits the messages that are received.
#[derive(Debug)]
enum Input {
    /// On TCP.
    Tcp(Splitter),
    /// On WebSocket.
    WebSocket(websocket::Reader),
}

/// What happens on connections, as their owner counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Messages received, without `Ping` and `Pong`.
    pub(crate) received: u64,
    /// Messages written completely.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) bytes_in: u64,
    /// Bytes written.
    pub(crate) bytes_out: u64,
}

/// A point in time, in 8 bytes also if there may be none: ns, plus one.
#[derive(Clone, Copy, Debug)]
struct Moment(NonZeroU64);

impl Moment {
    /// Keeps `now`.
    fn new(now: Timestamp) -> Self {
        Moment(NonZeroU64::MIN.saturating_add(now.as_nanos()))
    }

    /// Returns the point in time, ns.
    fn get(self) -> u64 {
        self.0.get() - 1
    }
}

/// The state machine of one connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each holds in several phases"
)]
pub(crate) struct Session<C> {
    /// What it has in common with others.
    settings: Arc<Settings>,
    /// How messages are written and read.
    wire: Wire<C>,
    /// Where it stands.
    phase: Phase,
    /// Whether the owner reads nothing for now.
    is_paused: bool,
    /// Whether nothing is read because too many messages have come.
    is_throttled: bool,
    /// Whether the watcher must not judge the peer's silence, because nothing is read.
    is_deaf: bool,
    /// Whether the peer has ended its direction.
    is_eof: bool,
    /// Whether something was received that ends it, which is in `ending`, and answers to what came before are accepted.
    is_concluding: bool,
    /// Whether the peer has ended its direction before its messages were handled, and their answers are accepted.
    awaits_handlers: bool,
    /// Whether the owner has a part of something that is for the session once it is complete.
    is_partial: bool,
    /// Whether a ping of the keepalive waits to be written.
    awaits_ping: bool,
    /// The deadlines.
    deadlines: Deadlines,
    /// The rate of the messages that came.
    meter: Meter,
    /// The pings that were written in this silence.
    pings: u32,
    /// The number of the last ping.
    ping_number: u32,
    /// What delimits the messages that are received.
    input: Input,
    /// What waits to be written.
    outbox: Outbox,
    /// What the handshake needs.
    handshake: Option<Box<Handshake>>,
    /// What a server on TCP said last, if that was an error: why it is about to close.
    farewell: Option<Box<Fault>>,
    /// Why it ends.
    ending: Option<Box<Ending>>,
    /// When it was opened, if it was.
    opened: Option<Moment>,
    /// When the last byte was received, or the session was made, ns.
    heard: u64,
    /// When the last ping was written that no pong has answered.
    pinged: Option<Moment>,
    /// The last time from a ping to its pong, ns, at least 1.
    rtt: Option<NonZeroU64>,
    /// The messages that were received, without `Ping` and `Pong`.
    received: u64,
    /// The messages that were written completely.
    sent: u64,
}

impl<C: Codec> Session<C> {
    /// Creates the session of a TCP connection, which is open at once.
    pub(crate) fn tcp(
        settings: &Arc<Settings>,
        framing: Framing,
        codec: C,
        now: Timestamp,
    ) -> Self {
        let wire = Wire {
            link: Link::Tcp(framing),
            codec,
            role: Role::Server,
        };
        let mut session = Session::new(settings, wire, Phase::Open, now);
        session.open(now);
        session
    }

    /// Creates the session of a TCP connection that is [opened](Session::open) after a handshake of the owner's.
    pub(crate) fn tcp_after_handshake(
        settings: &Arc<Settings>,
        framing: Framing,
        codec: C,
        now: Timestamp,
    ) -> Self {
        let wire = Wire {
            link: Link::Tcp(framing),
            codec,
            role: Role::Server,
        };
        Session::after_handshake(settings, wire, now)
    }

    /// Creates the session of either side of a TCP connection that is [opened](Session::open) after a handshake of the
    /// owner's.
    pub(crate) fn after_handshake(settings: &Arc<Settings>, wire: Wire<C>, now: Timestamp) -> Self {
        let mut session = Session::new(settings, wire, Phase::Requesting, now);
        session.deadlines.arm(Kind::Handshake);
        session
    }

    /// Creates the session of a connection of `peer` that begins with an upgrade request. `codec` is that of peers that
    /// ask for none.
    pub(crate) fn websocket(
        settings: &Arc<Settings>,
        codec: C,
        peer: SocketAddr,
        now: Timestamp,
    ) -> Self {
        let wire = Wire {
            link: Link::WebSocket,
            codec,
            role: Role::Server,
        };
        Session::requesting(settings, wire, Side::Server(peer, None), now)
    }

    /// Creates the session of a client on a connection that was made: open at once, unless it begins with `upgrade`
    /// and its request.
    #[cfg(feature = "client")]
    #[allow(dead_code, reason = "for the client")]
    pub(crate) fn client(
        settings: &Arc<Settings>,
        wire: Wire<C>,
        upgrade: Option<(Upgrade, Vec<u8>)>,
        now: Timestamp,
    ) -> Self {
        let Some((upgrade, request)) = upgrade else {
            let mut session = Session::new(settings, wire, Phase::Open, now);
            session.open(now);
            return session;
        };
        let mut session = Session::requesting(settings, wire, Side::Client(upgrade), now);
        session.outbox.push_other(request);
        session
    }

    /// Creates a session that begins with a handshake.
    fn requesting(settings: &Arc<Settings>, wire: Wire<C>, side: Side, now: Timestamp) -> Self {
        let mut session = Session::new(settings, wire, Phase::Requesting, now);
        let buffer = Vec::new();
        session.handshake = Some(Box::new(Handshake {
            buffer,
            side,
            is_head: false,
        }));
        session.deadlines.arm(Kind::Handshake);
        session
    }

    /// Creates a session without deadlines.
    fn new(settings: &Arc<Settings>, wire: Wire<C>, phase: Phase, now: Timestamp) -> Self {
        Session {
            settings: settings.clone(),
            wire,
            phase,
            is_paused: false,
            is_throttled: false,
            is_deaf: false,
            is_eof: false,
            is_concluding: false,
            awaits_handlers: false,
            is_partial: false,
            awaits_ping: false,
            deadlines: Deadlines::default(),
            meter: Meter::default(),
            pings: 0,
            ping_number: 0,
            input: match wire.link {
                Link::Tcp(_) => Input::Tcp(Splitter::default()),
                Link::WebSocket => Input::WebSocket(websocket::Reader::default()),
            },
            outbox: Outbox::default(),
            handshake: None,
            farewell: None,
            ending: None,
            opened: None,
            heard: now.as_nanos(),
            pinged: None,
            rtt: None,
            received: 0,
            sent: 0,
        }
    }

    /// Opens the session.
    pub(crate) fn open(&mut self, now: Timestamp) {
        self.phase = Phase::Open;
        self.opened = Some(Moment::new(now));
        self.deadlines.disarm(Kind::Handshake);
        self.deadlines.arm(Kind::Silence);
        if self.settings.keepalive.longest_quiet().is_some() {
            self.deadlines.arm(Kind::Heartbeat);
        }
    }

    /// Returns how messages of this session are written, for frames that other threads make.
    pub(crate) fn wire(&self) -> Wire<C> {
        self.wire
    }

    /// Returns whether the session was opened, even if it has ended since.
    #[cfg(any(test, fuzzing, feature = "client"))]
    #[allow(dead_code, reason = "for the client")]
    pub(crate) fn was_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// Returns whether the session waits to be [opened](Session::open) by its owner.
    pub(crate) fn awaits_owner(&self) -> bool {
        self.phase == Phase::Requesting && self.wire.link != Link::WebSocket
    }

    /// Returns whether messages can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns why the session ends, if it does.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let ending = self.ending.as_ref();
        ending.filter(|_| !self.awaits_handlers).map(|it| it.cause)
    }

    /// Returns how many bytes of messages wait to be written, with what the owner holds.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.queued()
    }

    /// Returns when the last byte was received.
    pub(crate) fn last_heard(&self) -> Timestamp {
        Timestamp::from_nanos(self.heard)
    }

    /// Returns the last time from a ping to its pong.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_nanos(rtt.get()))
    }

    /// Returns how many pings were written since the last byte was received.
    #[cfg(test)]
    pub(crate) fn pings(&self) -> u32 {
        self.pings
    }

    /// Returns whether the owner should read from the socket: not while it [pauses](Session::pause), decides about a
    /// request, or has much to write that the peer does not take, nor while the peer has sent too many messages or what
    /// [ends](Session::conclude) the session.
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            _ if self.is_concluding => false,
            Phase::Open => !self.is_paused && !self.is_throttled && !self.is_backed_up(),
            // Messages are still handled, so a peer that goes on waits for the handlers.
            Phase::Closing => !self.is_paused && !self.is_eof,
            Phase::Deciding | Phase::Aborting | Phase::Done => false,
            _ => !self.is_eof,
        }
    }

    /// Returns whether more waits to be written than a quarter of what may: the rest is for answers to what was read.
    fn is_backed_up(&self) -> bool {
        self.outbox.queued() > self.settings.limits.outbound / 4
    }

    /// Queues a whole frame with one message, written by [`wire`](Session::wire).
    ///
    /// # Errors
    ///
    /// Returns why it is not sent. If the limit is exceeded and the policy is to close, the session has ended.
    pub(crate) fn send(
        &mut self,
        frame: impl AsRef<[u8]> + Into<Data>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        if !self.is_open() {
            return Err(Refused);
        }
        if self.queued() + frame.as_ref().len() > self.settings.limits.outbound {
            return Err(self.refuse_message(now));
        }
        self.outbox.push(frame);
        self.update_hearing();
        Ok(())
    }

    /// Refuses a message because too many bytes wait, here or for all connections. If the policy is to close, the
    /// session ends.
    pub(crate) fn refuse_message(&mut self, now: Timestamp) -> Refused {
        if self.settings.limits.overflow == Overflow::Close {
            self.overflow(now);
        }
        Refused
    }

    /// Returns whether something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Fills `slices` with what is to be written next, and returns how many were filled.
    pub(crate) fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.slices(slices)
    }

    /// Records that an attempt at `now` wrote the next `count` bytes, which may be none, and counts them in `traffic`.
    pub(crate) fn wrote(&mut self, count: usize, now: Timestamp, traffic: &mut Traffic) {
        let written = self.outbox.wrote(count);
        self.sent += written.messages;
        traffic.sent += written.messages;
        traffic.bytes_out += count as u64;
        let has_heartbeat = self.settings.keepalive.longest_quiet().is_some();
        if count > 0 && has_heartbeat && self.is_open() {
            self.deadlines.arm(Kind::Heartbeat);
        }
        self.time_writing(count > 0);
        if written.ping {
            self.ping_was_written(now);
        }
        self.update_hearing();
    }

    /// Records that of the bytes that were written, `held` wait for the socket: an owner that encrypts them may have
    /// taken them before the socket accepts them.
    pub(crate) fn hold(&mut self, held: usize) {
        let before = self.outbox.hold(held);
        if before != held {
            self.time_writing(held < before);
            self.update_hearing();
        }
    }

    /// Begins or ends the deadline of what waits to be written.
    fn time_writing(&mut self, is_progress: bool) {
        if self.outbox.is_written() {
            self.deadlines.disarm(Kind::Drain);
        } else if is_progress || !self.deadlines.is_armed(Kind::Drain) {
            self.deadlines.arm(Kind::Drain);
        }
    }
}

/// Returns a frame with a message without a body.
fn plain<C: Codec>(wire: Wire<C>, name: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    // Short names fit every framing, and an empty body has an encoding.
    let _ = wire.encode_raw(Head::new(name), wire.codec.empty(), &mut frame);
    frame
}

#[cfg(all(
    test,
    feature = "client",
    feature = "json",
    feature = "msgpack",
    feature = "protobuf"
))]
mod tests;
