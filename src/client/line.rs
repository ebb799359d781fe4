//! One client on the reactor: its attempts, and what follows from their ends and from those of its connections.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::address::Address;
use super::course::{Backoff, Course, Next};
use super::link::Link;
use super::reactor::{Context, Member, Timer};
use super::shared::Shared;
use super::state::{ClosedBy, LinkError, State};
#[cfg(feature = "tls")]
use super::trust::Identity;
use crate::clock::Timestamp;
use crate::options::Options;
use crate::server::channel::Channel;
use crate::server::codec::Codec;
use crate::server::session::{Session, Settings, Upgrade};
use crate::server::websocket;

/// What an attempt needs.
pub(super) struct Plan {
    /// Where the server is.
    pub(super) address: Address,
    /// What the server must prove under TLS; `None` without it.
    #[cfg(feature = "tls")]
    pub(super) identity: Option<Identity>,
    /// Further headers of the upgrade request.
    pub(super) headers: Vec<(String, String)>,
    /// Keepalive and limits.
    pub(super) settings: Arc<Settings>,
    /// How long an attempt may take before there is a connection.
    pub(super) connect_within: Duration,
    /// The waits between attempts.
    pub(super) backoff: Backoff,
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
        let channel = match self.channel(stream) {
            Ok(channel) => channel,
            Err(error) => return self.failed(error, cx),
        };
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
        let session = if channel.is_secure() && upgrade.is_none() {
            Session::after_handshake(settings, wire, cx.now)
        } else {
            Session::client(settings, wire, upgrade, cx.now)
        };
        self.stage = Stage::Linked(Box::new(Link::new(session, channel)));
    }

    /// Returns the channel of a socket that is connected.
    #[cfg_attr(
        not(feature = "tls"),
        expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "without the feature all channels are plain"
        )
    )]
    fn channel(&self, stream: TcpStream) -> Result<Channel, LinkError> {
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.plan.identity {
            let secured = identity.secure(stream);
            return secured.map_err(|why| LinkError::Tls(why.into()));
        }
        Ok(Channel::plain(stream))
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
            link.close(&self.shared, cx.now);
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
        let is_closed = link.service(&self.shared, &mut self.course, cx);
        let more = link.has_more();
        let was_open = link.was_open();
        if let Some(error) = link.take_end(&self.shared) {
            self.ended(error, was_open, cx);
        }
        if is_closed {
            self.stage = Stage::Waiting;
            self.shared.unsent();
            self.dial_after(self.wait, cx);
        }
        more
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
            link.ready(is_readable, is_read_closed, is_writable);
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
            link.resume();
        }
    }

    fn expired(&mut self, timer: Timer, deadline: Timestamp, cx: &mut Context<'_>) {
        match (timer, &mut self.stage) {
            (Timer::Session(kind), Stage::Linked(link)) => {
                link.expired(kind, deadline, &self.shared, &mut self.course, cx);
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
