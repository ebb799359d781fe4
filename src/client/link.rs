//! One connection of a client: what is read, written and judged, from the moment that the socket is connected.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::course::Course;
use super::greeting::Greeting;
use super::job::{Epoch, Job};
use super::reactor::{Context, READ, Timer};
use super::shared::Shared;
use super::state::{LinkError, State};
use crate::clock::{self, Timestamp};
use crate::panic::catch_panic;
use crate::server::channel::Channel;
use crate::server::codec::Codec;
use crate::server::net::Input;
use crate::server::session::{Kind, Session, Step, Traffic};
use crate::server::{Cause, Fault, RequestError};

/// How many bytes the session is given before it has written some: what it holds is lost with the connection, what
/// waits in the queue is not.
const AHEAD: usize = 64 << 10;

/// The most buffers of a write.
const SLICES: usize = 64;

/// A connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Link<C> {
    /// The state machine.
    session: Session<C>,
    /// The socket.
    channel: Channel,
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
    /// The traffic that is not in the statistics.
    traffic: Traffic,
    /// Why TLS could not begin.
    #[cfg(feature = "tls")]
    insecure: Option<String>,
}

impl<C: Codec> Link<C> {
    /// Creates a connection over a socket that is connected.
    pub(super) fn new(session: Session<C>, channel: Channel) -> Self {
        Link {
            session,
            channel,
            is_readable: true,
            is_read_closed: false,
            is_writable: true,
            epoch: None,
            has_ended: false,
            traffic: Traffic::default(),
            #[cfg(feature = "tls")]
            insecure: None,
        }
    }

    /// Returns whether it was open, even if it has ended since.
    pub(super) fn was_open(&self) -> bool {
        self.epoch.is_some()
    }

    /// Returns whether more can be read at once.
    pub(super) fn has_more(&self) -> bool {
        self.is_readable && self.session.wants_read()
    }

    /// Takes an event of the socket.
    pub(super) fn ready(&mut self, is_readable: bool, is_read_closed: bool, is_writable: bool) {
        self.is_readable |= is_readable;
        self.is_read_closed |= is_read_closed;
        self.is_writable |= is_writable;
    }

    /// Reads on.
    pub(super) fn resume(&mut self) {
        self.session.resume();
    }

    /// Closes the connection, which the program no longer wants, after what waits.
    pub(super) fn close(&mut self, shared: &Shared<C>, now: Timestamp) {
        if self.was_open() {
            self.take_messages(shared, usize::MAX, now);
        }
        self.session.close(Cause::App, None, String::new(), now);
    }

    /// Judges the deadline of `kind`, which was missed at `deadline`, after a last look at the socket.
    pub(super) fn expired(
        &mut self,
        kind: Kind,
        deadline: Timestamp,
        shared: &Arc<Shared<C>>,
        course: &mut Course,
        cx: &mut Context<'_>,
    ) {
        self.session.fired(kind);
        self.is_readable = true;
        self.read(shared, course, cx);
        self.session.conclude(cx.now);
        self.session.expired(kind, cx.now, cx.now - deadline);
    }

    /// Does what there is to do. Returns whether the socket is to be closed, which is no longer registered then.
    pub(super) fn service(
        &mut self,
        shared: &Arc<Shared<C>>,
        course: &mut Course,
        cx: &mut Context<'_>,
    ) -> bool {
        self.read(shared, course, cx);
        if self.was_open() {
            self.take_messages(shared, AHEAD, cx.now);
        }
        // The answers of inline handlers go before an end that came with their messages.
        self.session.conclude(cx.now);
        self.flush(cx.now);
        self.count(shared);
        let step = self.session.step();
        if step == Step::ShutdownWrite {
            self.channel.end();
        }
        self.session.take_changes(|kind, change| {
            change.apply(cx.deadlines, (shared.id, Timer::Session(kind)), cx.now);
        });
        let is_closed = step == Step::Close;
        if is_closed {
            if self.channel.is_secure() {
                self.channel.end();
            }
            // It is closed in any case.
            let _ = cx.registry.deregister(&mut self.channel.stream);
        }
        is_closed
    }

    /// Returns why the connection has ended, once.
    pub(super) fn take_end(&mut self, shared: &Shared<C>) -> Option<LinkError> {
        let closed = self.session.closed().filter(|_| !self.has_ended)?;
        self.has_ended = true;
        let rtt = self.session.rtt().map(clock::nanos);
        shared.count(|stats| {
            if let Some(rtt) = rtt {
                stats.rtt.record(rtt);
            }
            if closed.cause == Cause::Silence {
                stats.silence.record(clock::nanos(closed.late));
            }
        });
        #[cfg(feature = "tls")]
        if let Some(why) = self.insecure.take() {
            return Some(LinkError::Tls(why.into()));
        }
        Some(LinkError::Ended(closed))
    }

    /// Reads from the socket until nothing is left, or others have their turn.
    fn read(&mut self, shared: &Arc<Shared<C>>, course: &mut Course, cx: &mut Context<'_>) {
        self.open(shared, course, cx);
        let mut total = 0;
        while total < READ && self.is_readable && self.session.wants_read() {
            match self.channel.read(cx.scratch) {
                Ok(Input::End) => {
                    self.is_readable = false;
                    self.session.eof();
                }
                Ok(Input::Bytes {
                    count,
                    taken,
                    is_short,
                }) => {
                    total += taken;
                    // A short read has emptied the buffer, and what comes later is announced.
                    self.is_readable = !is_short || self.is_read_closed;
                    if self.session.awaits_owner() && self.channel.is_ready() {
                        self.session.open(cx.now);
                        self.open(shared, course, cx);
                    }
                    self.session.set_partial(self.channel.is_partial());
                    if count > 0 {
                        self.receive(count, shared, cx);
                    } else {
                        self.session.hear_part(cx.now);
                    }
                    if self.open(shared, course, cx) {
                        // Messages may have come with the answer.
                        self.receive(0, shared, cx);
                    }
                }
                #[cfg(feature = "tls")]
                Ok(Input::Broken(why)) => {
                    if !self.channel.is_ready() {
                        self.insecure = Some(why.clone());
                    }
                    self.session.undecipherable(why);
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
        let input = &mut cx.scratch.clear[..count];
        let (session, traffic) = (&mut self.session, &mut self.traffic);
        let received = catch_panic(|| {
            session.receive(input, cx.now, traffic, |envelope| {
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
                    self.session.wrote(written, now, &mut self.traffic);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(_) => {
                    self.session.failed(now);
                    return;
                }
            }
        }
        self.session.hold(self.channel.held());
        if is_taken && self.session.has_output() {
            self.session.wrote(0, now, &mut self.traffic);
        }
    }

    /// Counts the traffic since the last call.
    fn count(&mut self, shared: &Shared<C>) {
        let traffic = std::mem::take(&mut self.traffic);
        if traffic == Traffic::default() {
            return;
        }
        shared.wrote(traffic.sent);
        shared.count(|stats| {
            stats.received += traffic.received;
            stats.bytes_in += traffic.bytes_in;
            stats.bytes_out += traffic.bytes_out;
        });
    }
}
