//! One client on the reactor: its attempts, its connection, and what follows from their ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::address::Address;
use super::course::{Backoff, Course, Next};
use super::greeting::Greeting;
use super::job::{Epoch, Job};
use super::reactor::{Context, Member, READ, Timer};
use super::shared::Shared;
use super::state::{ClosedBy, LinkError, State};
use crate::clock::{self, Timestamp};
use crate::options::Options;
use crate::panic::catch_panic;
use crate::server::codec::Codec;
use crate::server::session::{Session, Settings, Step, Traffic, Upgrade};
use crate::server::{Cause, Fault, RequestError, websocket};

/// How many bytes the session is given before it has written some: what it holds is lost with the connection, what
/// waits in the queue is not.
const AHEAD: usize = 64 << 10;

/// The most buffers of a write.
const SLICES: usize = 64;

/// What an attempt needs.
pub(super) struct Plan {
    /// Where the server is.
    pub(super) address: Address,
    /// Further headers of the upgrade request.
    pub(super) headers: Vec<(String, String)>,
    /// Keepalive and limits.
    pub(super) settings: Arc<Settings>,
    /// How long an attempt may take before there is a connection.
    pub(super) connect_within: Duration,
    /// The waits between attempts.
    pub(super) backoff: Backoff,
}

/// A connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
struct Link<C> {
    /// The state machine.
    session: Session<C>,
    /// The socket.
    stream: TcpStream,
    /// Whether reading may yield something.
    is_readable: bool,
    /// Whether the end of the input was announced, which a short read does not reach.
    is_read_closed: bool,
    /// Whether the socket may accept something.
    is_writable: bool,
    /// The number of the connection, once it is open.
    epoch: Option<Epoch>,
    /// Whether its end was reported.
    has_ended: bool,
    /// The traffic that is counted.
    counted: Traffic,
}

/// Where a client stands.
enum Stage<C> {
    /// The next attempt is waited for, or none is made.
    Waiting,
    /// The name of the host is looked up.
    Resolving,
    /// A connection to the first address is being made; the others follow if that fails.
    Connecting(TcpStream, VecDeque<SocketAddr>),
    /// There is a connection.
    Linked(Box<Link<C>>),
}

/// A client on the reactor.
pub(super) struct Line<C> {
    /// What it shares with the handle.
    shared: Arc<Shared<C>>,
    /// What attempts need.
    plan: Plan,
    /// The attempts so far.
    course: Course,
    /// Where it stands.
    stage: Stage<C>,
    /// Whether a socket event has come since the last look.
    has_event: bool,
    /// The number of attempts that took too long: the next one begins with another address.
    slow: usize,
    /// The wait for the next attempt, which begins when the socket is closed; `None` if none follows.
    wait: Option<Duration>,
    /// Whether the program, or the server, has closed the client.
    is_closed: bool,
}

impl<C: Codec> Line<C> {
    /// Creates the line of a client whose attempts follow `plan`.
    pub(super) fn new(shared: Arc<Shared<C>>, plan: Plan) -> Self {
        Line {
            shared,
            plan,
            course: Course::default(),
            stage: Stage::Waiting,
            has_event: false,
            slow: 0,
            wait: None,
            is_closed: false,
        }
    }

    /// Sets the time of the next step of dialing, or clears it.
    fn dial_after(&self, after: Option<Duration>, cx: &mut Context<'_>) {
        let key = (self.shared.id, Timer::Dial);
        match after {
            Some(after) => {
                // The time is not zero, and the number of keys is not limited.
                let options = Options::new().timeout(after.max(Duration::from_nanos(1)));
                let _ = cx.deadlines.beat_with(key, cx.now, options);
            }
            None => drop(cx.deadlines.remove(&key, cx.now)),
        }
    }

    /// Begins an attempt.
    fn dial(&mut self, cx: &mut Context<'_>) {
        self.course.begin();
        self.shared.dialing();
        self.shared.report(State::Connecting, cx.runnable);
        self.dial_after(Some(self.plan.connect_within), cx);
        if let Some(address) = self.plan.address.number() {
            self.connect([address].into(), None, cx);
        } else {
            let Address { host, port, .. } = &self.plan.address;
            self.stage = Stage::Resolving;
            cx.resolve(self.shared.id, host, *port);
        }
    }

    /// Begins a connection to the first of `addresses` that allows to. `error` is that of the last one before.
    fn connect(
        &mut self,
        mut addresses: VecDeque<SocketAddr>,
        error: Option<(SocketAddr, io::Error)>,
        cx: &mut Context<'_>,
    ) {
        let mut last = error;
        while let Some(&address) = addresses.front() {
            let connected = TcpStream::connect(address).and_then(|mut stream| {
                let token = Token(self.shared.id as usize);
                let interest = Interest::READABLE | Interest::WRITABLE;
                cx.registry.register(&mut stream, token, interest)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    self.has_event = false;
                    self.stage = Stage::Connecting(stream, addresses);
                    return;
                }
                Err(error) => last = Some((address, error)),
            }
            addresses.pop_front();
        }
        let error = match last {
            Some((address, error)) => LinkError::Connect(address, Arc::new(error)),
            None => LinkError::Resolve(Arc::new(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ))),
        };
        self.failed(error, cx);
    }

    /// Looks whether the connection has been made.
    fn check_connection(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.stage, Stage::Connecting(..)) || !std::mem::take(&mut self.has_event) {
            return;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Waiting);
        let Stage::Connecting(mut stream, mut addresses) = stage else {
            return;
        };
        let error = match stream.take_error() {
            Ok(None) => match stream.peer_addr() {
                Ok(_) => return self.linked(stream, cx),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.stage = Stage::Connecting(stream, addresses);
                    return;
                }
                Err(error) => error,
            },
            Ok(Some(error)) | Err(error) => error,
        };
        // It is closed in any case.
        let _ = cx.registry.deregister(&mut stream);
        let error = addresses.pop_front().map(|address| (address, error));
        self.connect(addresses, error, cx);
    }

    /// Begins the session on a connection that was made.
    fn linked(&mut self, stream: TcpStream, cx: &mut Context<'_>) {
        self.dial_after(None, cx);
        self.slow = 0;
        // An option that the system does not grant costs only time.
        let _ = stream.set_nodelay(true);
        let Plan {
            address,
            headers,
            settings,
            ..
        } = &self.plan;
        let wire = self.shared.wire;
        let upgrade = address.target.as_ref().map(|target| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&websocket::unforeseen().to_ne_bytes());
            nonce[8..].copy_from_slice(&websocket::unforeseen().to_ne_bytes());
            let upgrade = Upgrade::new(nonce, wire.codec.subprotocol());
            let request = upgrade.request(&address.host_header(), target, headers);
            (upgrade, request)
        });
        self.stage = Stage::Linked(Box::new(Link {
            session: Session::client(settings, wire, upgrade, cx.now),
            stream,
            is_readable: true,
            is_read_closed: false,
            is_writable: true,
            epoch: None,
            has_ended: false,
            counted: Traffic::default(),
        }));
    }

    /// Handles the end of an attempt or of a connection, which `was_open`.
    fn ended(&mut self, error: LinkError, was_open: bool, cx: &mut Context<'_>) {
        self.shared.dropped();
        self.wait = None;
        if self.is_closed {
            return;
        }
        let next = self
            .course
            .ended(&error, was_open, &self.plan.backoff, fastrand::f64());
        match next {
            Next::Wait(wait, failures) => {
                self.wait = Some(wait);
                let state = State::Offline { failures, error };
                self.shared.report(state, cx.runnable);
            }
            Next::Stop(by) => {
                self.is_closed = true;
                self.shared.report(State::Closed(by), cx.runnable);
            }
        }
    }

    /// Handles the end of an attempt that made no connection.
    fn failed(&mut self, error: LinkError, cx: &mut Context<'_>) {
        self.stage = Stage::Waiting;
        self.ended(error, false, cx);
        self.dial_after(self.wait, cx);
    }

    /// Closes the client, which its program no longer wants.
    fn close_by_program(&mut self, cx: &mut Context<'_>) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.wait = None;
        if let Stage::Linked(link) = &mut self.stage {
            // What waits is written before the close.
            if link.epoch.is_some() {
                link.take_messages(&self.shared, usize::MAX, cx.now);
            }
            link.session.close(Cause::App, None, String::new(), cx.now);
        } else {
            if let Stage::Connecting(stream, _) = &mut self.stage {
                // It is closed in any case.
                let _ = cx.registry.deregister(stream);
            }
            self.stage = Stage::Waiting;
            self.dial_after(None, cx);
            self.shared.dropped();
        }
        let state = State::Closed(ClosedBy::Program);
        self.shared.report(state, cx.runnable);
    }

    /// Does what there is to do for a connection. Returns whether more can be done at once.
    fn service_link(&mut self, cx: &mut Context<'_>) -> bool {
        let Stage::Linked(link) = &mut self.stage else {
            return false;
        };
        link.read(&self.shared, &mut self.course, cx);
        if link.epoch.is_some() {
            link.take_messages(&self.shared, AHEAD, cx.now);
        }
        // The answers of inline handlers go before an end that came with their messages.
        link.session.conclude(cx.now);
        link.flush(cx.now);
        link.count(&self.shared);
        let step = link.session.step();
        if step == Step::ShutdownWrite {
            // A socket that is gone is seen by the next read.
            let _ = link.stream.shutdown(Shutdown::Write);
        }
        let closed = link.session.closed().filter(|_| !link.has_ended);
        link.has_ended |= closed.is_some();
        let was_open = link.epoch.is_some();
        let id = self.shared.id;
        link.session.take_changes(|kind, change| {
            change.apply(cx.deadlines, (id, Timer::Session(kind)), cx.now);
        });
        let more = link.is_readable && link.session.wants_read();
        if step == Step::Close {
            // It is closed in any case.
            let _ = cx.registry.deregister(&mut link.stream);
        }
        if let Some(closed) = closed {
            if let Some(rtt) = link.session.rtt() {
                let rtt = clock::nanos(rtt);
                self.shared.count(|stats| stats.rtt.record(rtt));
            }
            if closed.cause == Cause::Silence {
                let late = clock::nanos(closed.late);
                self.shared.count(|stats| stats.silence.record(late));
            }
            self.ended(LinkError::Ended(closed), was_open, cx);
        }
        if step == Step::Close {
            self.stage = Stage::Waiting;
            self.shared.unsent();
            self.dial_after(self.wait, cx);
        }
        more
    }
}

impl<C: Codec> Link<C> {
    /// Reads from the socket until nothing is left, or others have their turn.
    fn read(&mut self, shared: &Arc<Shared<C>>, course: &mut Course, cx: &mut Context<'_>) {
        self.open(shared, course, cx);
        let mut total = 0;
        while total < READ && self.is_readable && self.session.wants_read() {
            match self.stream.read(cx.scratch) {
                Ok(0) => {
                    self.is_readable = false;
                    self.session.eof();
                }
                Ok(count) => {
                    total += count;
                    // A short read has emptied the buffer, and what comes later is announced.
                    self.is_readable = count == cx.scratch.len() || self.is_read_closed;
                    self.receive(count, shared, cx);
                    if self.open(shared, course, cx) {
                        // Messages may have come with the answer.
                        self.receive(0, shared, cx);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_readable = false;
                    self.session.failed(cx.now);
                }
            }
        }
    }

    /// Reports a session that has just opened, and sends the greeting. None of its messages were handled before.
    /// Returns whether it has just opened.
    fn open(&mut self, shared: &Arc<Shared<C>>, course: &mut Course, cx: &mut Context<'_>) -> bool {
        if self.epoch.is_some() || !self.session.was_opened() {
            return false;
        }
        self.epoch = Some(shared.opened());
        let attempt = course.opened();
        shared.report(State::Online { attempt }, cx.runnable);
        if shared.strand.is_full() {
            // Messages of the connection before still wait.
            self.session.pause();
        }
        if let Err(why) = self.greet(shared, cx.now) {
            self.session.close(Cause::Handler, None, why, cx.now);
        }
        shared.take_messages();
        true
    }

    /// Sends the greeting.
    fn greet(&mut self, shared: &Shared<C>, now: Timestamp) -> Result<(), String> {
        let Some(greet) = &shared.program.greet else {
            return Ok(());
        };
        let mut greeting = Greeting::new(shared.wire);
        if catch_panic(|| greet(&mut greeting)).is_none() {
            shared.count(|stats| stats.panics += 1);
            return Err("the greeting panicked".to_owned());
        }
        let frames = greeting.into_frames();
        for frame in frames.map_err(|error| format!("the greeting: {error}"))? {
            if self.session.send(frame, now).is_err() {
                return Err("the greeting is longer than the queue".to_owned());
            }
            shared.took_extra();
        }
        Ok(())
    }

    /// Gives the session the first `count` bytes that were read.
    fn receive(&mut self, count: usize, shared: &Arc<Shared<C>>, cx: &mut Context<'_>) {
        let mut is_full = false;
        let mut unknown = 0;
        let epoch = self.epoch.unwrap_or_default();
        let codec = shared.wire.codec;
        // Nothing is reported after the close.
        let is_closed = shared.is_closed();
        let runnable = &mut *cx.runnable;
        let input = &mut cx.scratch[..count];
        let session = &mut self.session;
        let received = catch_panic(|| {
            session.receive(input, cx.now, |envelope| {
                if is_closed {
                    return;
                }
                let is_fault = envelope.name == Fault::NAME;
                if let Some(re) = envelope.re {
                    let fault =
                        is_fault.then(|| codec.split_fault(envelope.body).unwrap_or_default());
                    let answer = fault.map_or_else(|| Ok(envelope.body.to_vec()), Err);
                    shared.answered(re, answer.map_err(RequestError::Fault));
                    return;
                }
                let Some((name, route)) = shared.program.routes.get_key_value(&*envelope.name)
                else {
                    unknown += u64::from(!is_fault);
                    if let Some(id) = envelope.id {
                        // Without room, the server learns by its own timeout.
                        let _ = shared.refuse(&Fault::new(404, "unknown message"), (id, epoch));
                    }
                    return;
                };
                let asked = envelope.id.map(|id| (id, epoch));
                if route.is_inline {
                    shared.call(route, envelope.body, asked);
                } else {
                    let job = Job::Message(name.clone(), envelope.body.into(), asked);
                    is_full |= shared.push_job(job, envelope.body.len(), runnable);
                }
            });
        });
        // Code of the program is caught nearer by; this is a codec's.
        if received.is_none() {
            shared.count(|stats| stats.panics += 1);
            session.broken();
        }
        if is_full {
            self.session.pause();
        }
        if unknown > 0 {
            shared.count(|stats| stats.unknown += unknown);
        }
    }

    /// Gives the session messages of the queue while it holds less than `ahead` bytes.
    fn take_messages(&mut self, shared: &Shared<C>, ahead: usize, now: Timestamp) {
        while self.session.is_open() && self.session.queued() < ahead {
            let Some(frame) = shared.take() else {
                return;
            };
            // There is room for all that may wait; one that is refused is counted as lost.
            let _ = self.session.send(frame, now);
        }
    }

    /// Writes what waits, as far as the socket accepts it.
    fn flush(&mut self, now: Timestamp) {
        while self.is_writable && self.session.has_output() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.session.slices(&mut slices);
            match self.stream.write_vectored(&slices[..count]) {
                Ok(written) => self.session.wrote(written, now),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(_) => {
                    self.session.failed(now);
                    return;
                }
            }
        }
        if self.session.has_output() {
            self.session.wrote(0, now);
        }
    }

    /// Counts the traffic since the last call.
    fn count(&mut self, shared: &Shared<C>) {
        let traffic = self.session.traffic();
        let counted = std::mem::replace(&mut self.counted, traffic);
        if traffic == counted {
            return;
        }
        shared.wrote(traffic.sent - counted.sent);
        shared.count(|stats| {
            stats.received += traffic.received - counted.received;
            stats.bytes_in += traffic.bytes_in - counted.bytes_in;
            stats.bytes_out += traffic.bytes_out - counted.bytes_out;
        });
    }
}

impl<C: Codec> Member for Line<C> {
    fn id(&self) -> u64 {
        self.shared.id
    }

    fn begin(&mut self, cx: &mut Context<'_>) {
        self.dial(cx);
    }

    fn ready(&mut self, is_readable: bool, is_read_closed: bool, is_writable: bool) {
        self.has_event = true;
        if let Stage::Linked(link) = &mut self.stage {
            link.is_readable |= is_readable;
            link.is_read_closed |= is_read_closed;
            link.is_writable |= is_writable;
        }
    }

    fn service(&mut self, cx: &mut Context<'_>) -> bool {
        self.check_connection(cx);
        self.service_link(cx)
    }

    fn resolved(&mut self, found: io::Result<Vec<SocketAddr>>, cx: &mut Context<'_>) {
        if !matches!(self.stage, Stage::Resolving) {
            // The attempt has ended meanwhile.
            return;
        }
        match found {
            Ok(mut addresses) => {
                let by = self.slow % addresses.len().max(1);
                addresses.rotate_left(by);
                self.connect(addresses.into(), None, cx);
            }
            Err(error) => self.failed(LinkError::Resolve(Arc::new(error)), cx),
        }
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        self.close_by_program(cx);
    }

    fn resume(&mut self) {
        if let Stage::Linked(link) = &mut self.stage {
            link.session.resume();
        }
    }

    fn expired(&mut self, timer: Timer, deadline: Timestamp, cx: &mut Context<'_>) {
        match (timer, &mut self.stage) {
            (Timer::Session(kind), Stage::Linked(link)) => {
                link.session.fired(kind);
                // The last look.
                link.is_readable = true;
                link.read(&self.shared, &mut self.course, cx);
                link.session.conclude(cx.now);
                link.session.expired(kind, cx.now, cx.now - deadline);
            }
            (Timer::Session(_), _) | (Timer::Dial, Stage::Linked(_)) => {}
            (Timer::Dial, Stage::Waiting) => self.dial(cx),
            (Timer::Dial, Stage::Resolving | Stage::Connecting(..)) => {
                if let Stage::Connecting(stream, _) = &mut self.stage {
                    // It is closed in any case.
                    let _ = cx.registry.deregister(stream);
                }
                self.slow += 1;
                self.failed(LinkError::TimedOut(self.plan.connect_within), cx);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_closed && matches!(self.stage, Stage::Waiting)
    }
}

impl<C> Drop for Line<C> {
    fn drop(&mut self) {
        self.shared.set_gone();
    }
}
