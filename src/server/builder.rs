//! The options of a server, its routes, and its start.

use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;

use super::agent::Agent;
use super::channel::Layer;
use super::close::Closed;
use super::codec::{Codec, Decode, Encode, Fault};
use super::core::{self, Core, Handle, OnStall, Program, Reject, Route};
use super::desk::{Blocked, Supervisor};
use super::error::StartError;
use super::face::{Running, Server};
use super::framing::Framing;
use super::http::{Network, Origins, Policy, Request, Response};
use super::hub::{Hub, HubOptions, Port};
use super::inbox::Wake;
use super::keepalive::Keepalive;
use super::limits::{Limits, Overflow, Rate};
use super::net::{Poll, Waker};
use super::reactor::{ConnectionLimits, Listener, Reactor, Start, WAKER};
use super::session::{self, Settings};
use super::strand::{Pool, Room};
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::clock::Clock;
use crate::error::OptionError;
use crate::panic::catch_panic;

/// Options and routes of a [`Server`], created by [`Server::builder`].
///
/// Setters never fail; [`start`](ServerBuilder::start) returns an error that names the invalid option.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use liveness::server::{Json, Rate, Server};
///
/// let error = Server::<Json, ()>::builder().rate(Rate::new(0)).start().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`rate` must allow from 1 to 1000000 messages a second, not 0"
/// );
/// ```
#[must_use]
pub struct ServerBuilder<C, T> {
    /// The addresses.
    ports: Vec<(String, Port, Layer)>,
    /// How messages on TCP are delimited.
    framing: Framing,
    /// When silent connections are pinged and dropped.
    keepalive: Keepalive,
    /// The limits of a connection.
    limits: Limits,
    /// What is asked of upgrade requests.
    policy: Policy,
    /// The limits of connections.
    connections: ConnectionLimits,
    /// The limits of what waits to be handled.
    room: Room,
    /// The most bytes that wait for all connections.
    max_buffered: usize,
    /// The number of reactors.
    reactors: usize,
    /// The number of handler threads.
    handlers: usize,
    /// For how long code may run before its thread is reported.
    stall_after: Duration,
    /// What the names of threads begin with.
    thread_name: String,
    /// The program.
    program: Program<C, T>,
    /// Is called when a thread is blocked.
    on_stall: Option<OnStall>,
    /// The first route that is not possible.
    bad_route: Option<OptionError>,
}

impl<C: Codec, T: Send + Sync + 'static> ServerBuilder<C, T> {
    /// Creates the default options. `first_data` makes the data of agents that `authorize` makes none for.
    pub(crate) fn new(first_data: fn() -> T) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        ServerBuilder {
            ports: Vec::new(),
            framing: Framing::default(),
            keepalive: Keepalive::default(),
            limits: Limits::default(),
            policy: Policy::default(),
            connections: ConnectionLimits {
                max_connections: 20_000,
                max_handshaking: 1_024,
                per_ip: None,
                nodelay: true,
            },
            room: Room {
                jobs: 64,
                bytes: 256 << 10,
            },
            max_buffered: 256 << 20,
            reactors: (cores / 2).clamp(1, 8),
            handlers: (2 * cores).max(4),
            stall_after: Duration::from_secs(1),
            thread_name: "server".to_owned(),
            program: Program {
                routes: Vec::new(),
                by_name: HashMap::default(),
                pages: HashMap::default(),
                first_data,
                authorize: None,
                opened: None,
                closed: None,
                names: ["authorize", "opened", "closed"].map(Into::into),
            },
            on_stall: None,
            bad_route: None,
        }
    }

    /// Listens for TCP connections on `address`, such as `0.0.0.0:7000`. Port 0 takes a free one.
    pub fn tcp(self, address: impl Into<String>) -> Self {
        // The framing may be set later.
        self.port(address, Port::Tcp(Framing::default()), Layer::default())
    }

    /// Listens for TCP connections under TLS on `address`. They open after the handshake of TLS, which must be complete
    /// within [`handshake_within`](ServerBuilder::handshake_within).
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tcp_tls(self, address: impl Into<String>, tls: &Tls) -> Self {
        let layer = Layer {
            tls: Some(tls.clone()),
        };
        self.port(address, Port::Tcp(Framing::default()), layer)
    }

    /// Listens for WebSocket connections on `address`. A `GET` or `HEAD` request for `/healthz` is answered with 200, or 503 while the server
    /// [drains](Server::drain).
    pub fn websocket(self, address: impl Into<String>) -> Self {
        self.port(address, Port::WebSocket, Layer::default())
    }

    /// Listens for WebSocket connections under TLS (`wss`) on `address`. The handshakes of TLS and of WebSocket
    /// together must be complete within [`handshake_within`](ServerBuilder::handshake_within).
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn websocket_tls(self, address: impl Into<String>, tls: &Tls) -> Self {
        let layer = Layer {
            tls: Some(tls.clone()),
        };
        self.port(address, Port::WebSocket, layer)
    }

    /// Adds a listener.
    fn port(mut self, address: impl Into<String>, port: Port, layer: Layer) -> Self {
        self.ports.push((address.into(), port, layer));
        self
    }

    /// Sets how messages on TCP are delimited. Default: [`Framing::U16`]. [`Framing::Lines`] is an error for a codec
    /// that is not text.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Accepts WebSocket connections on this path, and on others that are set by further calls. Default: on any path. A
    /// path that does not begin with a slash is an error.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.policy.paths.push(path.into());
        self
    }

    /// Sets the pages from which browsers may connect. Default: [`Origins::Same`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.policy.origins = origins;
        self
    }

    /// Sets the proxies whose `X-Forwarded-For` is believed. Default: none.
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.policy.trusted_proxies = proxies.into_iter().collect();
        self
    }

    /// Sets when silent connections are pinged and dropped. Default: after 25 and 45 seconds.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets the number of threads that own connections, from 1 to 64. Default: half the cores, at most 8.
    pub fn reactors(mut self, threads: usize) -> Self {
        self.reactors = threads;
        self
    }

    /// Sets the number of threads that run handlers, from 1 to 512. Default: twice the cores, at least 4.
    pub fn handlers(mut self, threads: usize) -> Self {
        self.handlers = threads;
        self
    }

    /// Sets the most connections, from 1 to 2^20. Default: 20,000. Further ones are answered with status 503, or closed
    /// on TCP.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections.max_connections = connections;
        self
    }

    /// Sets the most connections whose handshake is going on. Default: 1,024. Zero is an error.
    pub fn max_handshaking(mut self, connections: usize) -> Self {
        self.connections.max_handshaking = connections;
        self
    }

    /// Sets the most connections of one address. Default: no limit. Further ones are answered with status 429, or
    /// closed on TCP. Zero is an error.
    pub fn max_per_ip(mut self, connections: usize) -> Self {
        self.connections.per_ip = Some(connections);
        self
    }

    /// Sets the longest message in bytes, from 1 to 16 MiB. Default: 64 KiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.max_message = bytes;
        self
    }

    /// Sets the longest upgrade request in bytes, from 1 KiB to 64 KiB. Default: 8 KiB. A longer one, or one with more
    /// than 64 headers, is answered with status 431.
    pub fn max_header(mut self, bytes: usize) -> Self {
        self.limits.max_header = bytes;
        self
    }

    /// Sets whether small writes are sent at once, with `TCP_NODELAY`. Default: yes. Without it, the operating system
    /// may hold a message back for some 40 ms to send it with the next one.
    pub fn nodelay(mut self, is_on: bool) -> Self {
        self.connections.nodelay = is_on;
        self
    }

    /// Sets how long a handshake may take in all. Default: 5 seconds. Zero is an error.
    pub fn handshake_within(mut self, duration: Duration) -> Self {
        self.limits.handshake_within = duration;
        self
    }

    /// Sets how long a message may be incomplete. Default: 30 seconds. Zero is an error.
    pub fn message_within(mut self, duration: Duration) -> Self {
        self.limits.message_within = duration;
        self
    }

    /// Sets how long a peer may accept no byte of what waits for it. Default: 20 seconds. Zero is an error.
    pub fn write_within(mut self, duration: Duration) -> Self {
        self.limits.write_within = duration;
        self
    }

    /// Sets how long a peer may take to answer a close. Default: 5 seconds. Zero is an error.
    pub fn close_within(mut self, duration: Duration) -> Self {
        self.limits.close_within = duration;
        self
    }

    /// Sets how many messages and bytes of one connection may wait to be handled before its socket is no longer read.
    /// Default: 64 and 256 KiB. What was read at once, at most 64 KiB, may exceed it. Zero is an error.
    ///
    /// The bytes are at most an eighth of [`outbound`](ServerBuilder::outbound), so that answers as long as their
    /// messages do not exceed that limit, however many messages a peer sends before it reads.
    pub fn inbound(mut self, messages: usize, bytes: usize) -> Self {
        self.room = Room {
            jobs: messages,
            bytes,
        };
        self
    }

    /// Sets how many bytes may wait to be sent to one connection, at least `max_message`. Default: 256 KiB.
    pub fn outbound(mut self, bytes: usize) -> Self {
        self.limits.outbound = bytes;
        self
    }

    /// Sets what happens beyond [`outbound`](ServerBuilder::outbound). Default: [`Overflow::Close`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Sets how many bytes may wait to be sent to all connections together, at least `outbound`. As many may wait to be
    /// handled; beyond that, no socket is read until there are fewer. Default: 256 MiB.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// Sets how many messages a peer may send. Default: no limit. See [`Rate`].
    pub fn rate(mut self, rate: Rate) -> Self {
        self.limits.rate = Some(rate);
        self
    }

    /// Sets for how long the code of a route may run before [`on_stall`](ServerBuilder::on_stall) is called. Default: 1
    /// second. Zero is an error.
    pub fn stall_after(mut self, duration: Duration) -> Self {
        self.stall_after = duration;
        self
    }

    /// Sets what the names of the threads begin with. Default: `server`.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name = prefix.into();
        self
    }

    /// Answers `GET` and `HEAD` requests for `path` on the addresses of [`websocket`](ServerBuilder::websocket) with what `code`
    /// returns, on a handler thread. The path is that of the request without its query. Requests are answered while the
    /// server [drains](Server::drain), too, and each takes a connection. A later call for the same path replaces an
    /// earlier one, also that of `/healthz`.
    ///
    /// The rest of HTTP is missing: no other method, no body of a request, no second request on a connection.
    ///
    #[cfg_attr(feature = "json", doc = "```")]
    #[cfg_attr(not(feature = "json"), doc = "```ignore")]
    /// use std::io::{Read, Write};
    /// use liveness::server::{Json, Response, Server};
    ///
    /// let server = Server::<Json, ()>::builder()
    ///     .websocket("127.0.0.1:0")
    ///     .get("/hello", |request| Response::new("text/plain", format!("hello {:?}", request.query())))
    ///     .start()?;
    ///
    /// let mut browser = std::net::TcpStream::connect(server.local_addrs()[0])?;
    /// browser.write_all(b"GET /hello?you HTTP/1.1\r\nHost: here\r\n\r\n")?;
    /// let mut answer = String::new();
    /// browser.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello Some(\"you\")"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(
        mut self,
        path: impl Into<String>,
        code: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let pages = &mut self.program.pages;
        pages.insert(path.as_str().into(), Box::new(code));
        self.policy.pages.push(path);
        self
    }

    /// Decides about each upgrade request, on a handler thread. What `code` returns is the [data](Agent::data) of the
    /// agent. Without it, and on TCP, the data is the default value, or what [`builder_with`](Server::builder_with) was
    /// given.
    pub fn authorize(
        mut self,
        code: impl Fn(&Request) -> Result<T, Reject> + Send + Sync + 'static,
    ) -> Self {
        self.program.authorize = Some(Box::new(code));
        self
    }

    /// Calls `code` for each message named `name`, on a handler thread. The messages of one connection are handled one
    /// after the other in their order, those of different connections at the same time. What `code` returns is ignored.
    ///
    /// A message whose body is no `M` closes its connection with [`Cause::BadMessage`](super::Cause::BadMessage), and a
    /// panic of `code` with [`Cause::Handler`](super::Cause::Handler).
    pub fn on<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, false, Self::handle(code))
    }

    /// Calls `code` for each message named `name` like [`on`](ServerBuilder::on), but on the thread that owns the
    /// connection, which saves the change of threads. `code` must not block: all connections of the thread wait for it.
    /// Calls of more than 10 ms are counted in [`ServerStats::slow_inline`](super::ServerStats::slow_inline). An inline
    /// message may overtake messages of other routes.
    pub fn on_inline<M: Decode<C>, R>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Self {
        self.route(name, true, Self::handle(code))
    }

    /// Answers each request named `name` with what `code` returns, on a handler thread like [`on`](ServerBuilder::on).
    /// A fault is sent as the message `Error`. A message without a number is handled, and gets no answer.
    pub fn on_request<M: Decode<C>, A: Encode<C>>(
        self,
        name: &str,
        code: impl Fn(&Agent<C, T>, M) -> Result<A, Fault> + Send + Sync + 'static,
    ) -> Self {
        let answer = name.to_owned();
        let handle: Handle<C, T> = Box::new(move |agent, codec, body, id| {
            agent.answer(&answer, id, code(agent, M::decode(codec, body)?));
            Ok(())
        });
        self.route(name, false, handle)
    }

    /// Calls `code` when a connection has opened, before any of its messages are handled.
    pub fn opened(mut self, code: impl Fn(&Agent<C, T>) + Send + Sync + 'static) -> Self {
        self.program.opened = Some(Box::new(code));
        self
    }

    /// Calls `code` once for each connection that was opened, after all of its messages were handled.
    pub fn closed(mut self, code: impl Fn(&Agent<C, T>, &Closed) + Send + Sync + 'static) -> Self {
        self.program.closed = Some(Box::new(code));
        self
    }

    /// Calls `code` when a thread of the server is blocked in user code, once for each call of that code.
    pub fn on_stall(mut self, code: impl Fn(&Blocked) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(Box::new(code));
        self
    }

    /// Makes a handler of `code`.
    fn handle<M: Decode<C>, R>(
        code: impl Fn(&Agent<C, T>, M) -> R + Send + Sync + 'static,
    ) -> Handle<C, T> {
        Box::new(move |agent, codec, body, _| {
            drop(code(agent, M::decode(codec, body)?));
            Ok(())
        })
    }

    /// Adds a route.
    fn route(mut self, name: &str, is_inline: bool, handle: Handle<C, T>) -> Self {
        let name: Arc<str> = name.into();
        if session::is_reserved(&name) || self.program.by_name.contains_key(&name) {
            self.bad_route.get_or_insert(core::bad_route(&name));
            return self;
        }
        let index = self.program.routes.len();
        self.program.by_name.insert(name.clone(), index);
        self.program.routes.push(Route {
            name,
            is_inline,
            handle,
        });
        self
    }

    /// Checks the options.
    fn validate(&mut self) -> Result<(), OptionError> {
        if let Some(error) = self.bad_route.take() {
            return Err(error);
        }
        let from_1 = |option, given: usize, most: usize| {
            if (1..=most).contains(&given) {
                return Ok(());
            }
            let must = if most == usize::MAX {
                "be at least 1".to_owned()
            } else {
                format!("be from 1 to {most}, not {given}")
            };
            Err(OptionError::new(option, must))
        };
        from_1("reactors", self.reactors, 64)?;
        from_1("handlers", self.handlers, 512)?;
        from_1("max_connections", self.connections.max_connections, 1 << 20)?;
        from_1("max_handshaking", self.connections.max_handshaking, 1 << 20)?;
        from_1("max_per_ip", self.connections.per_ip.unwrap_or(1), 1 << 20)?;
        from_1("max_message", self.limits.max_message, 16 << 20)?;
        if !(1 << 10..=64 << 10).contains(&self.limits.max_header) {
            return Err(OptionError::new(
                "max_header",
                "be from 1024 to 65536 bytes",
            ));
        }
        from_1("inbound", self.room.jobs.min(self.room.bytes), usize::MAX)?;
        if self.limits.outbound < self.limits.max_message {
            let must = format!(
                "be at least `max_message`, which is {}",
                self.limits.max_message
            );
            return Err(OptionError::new("outbound", must));
        }
        if self.max_buffered < self.limits.outbound {
            let must = format!("be at least `outbound`, which is {}", self.limits.outbound);
            return Err(OptionError::new("max_buffered", must));
        }
        for (option, duration) in [
            ("handshake_within", self.limits.handshake_within),
            ("message_within", self.limits.message_within),
            ("write_within", self.limits.write_within),
            ("close_within", self.limits.close_within),
            ("stall_after", self.stall_after),
        ] {
            OptionError::positive(option, !duration.is_zero())?;
        }
        if self.thread_name.contains('\0') {
            return Err(OptionError::new(
                "thread_name",
                "contain no zero byte".to_owned(),
            ));
        }
        if self.framing == Framing::Lines && !C::default().is_text() {
            let must =
                "have a length for a codec that is not text: `Framing::U16` or `Framing::U32`";
            return Err(OptionError::new("framing", must));
        }
        if let Some(path) = self.policy.paths.iter().find(|path| !path.starts_with('/')) {
            let must = format!("begin with a slash, unlike `{path}`");
            return Err(OptionError::new("path", must));
        }
        if let Some(rate) = &self.limits.rate {
            rate.validate()?;
        }
        self.keepalive.validate()
    }

    /// Binds the addresses.
    fn listen(&self) -> Result<Vec<Listener>, StartError> {
        let mut listeners = Vec::new();
        for (address, port, layer) in &self.ports {
            let failed = |error| StartError::Listen {
                address: address.clone(),
                error,
            };
            let port = match port {
                Port::Tcp(_) => Port::Tcp(self.framing),
                Port::WebSocket => Port::WebSocket,
            };
            for resolved in address.to_socket_addrs().map_err(failed)? {
                listeners.push(Listener::bind(resolved, port, layer.clone()).map_err(failed)?);
            }
        }
        Ok(listeners)
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if an option is out of range, an address cannot be listened on, or a thread cannot be
    /// created. Nothing runs then.
    pub fn start(mut self) -> Result<Server<C, T>, StartError> {
        self.validate()?;
        let mut listeners = self.listen()?;
        let addresses: Vec<_> = listeners
            .iter()
            .filter_map(|it| it.local_addr().ok())
            .collect();
        let clock = Clock::monotonic();
        let mut polls = Vec::new();
        let mut wakers: Vec<Box<dyn Wake>> = Vec::new();
        for _ in 0..self.reactors {
            let poll = Poll::new()?;
            wakers.push(Box::new(Waker::new(poll.registry(), WAKER)?));
            polls.push(poll);
        }
        let hub = Arc::new(Hub::new(
            wakers,
            HubOptions {
                clock: clock.clone(),
                max_buffered: self.max_buffered,
                outbound: self.limits.outbound,
                overflow: self.limits.overflow,
            },
        ));
        let bytes = self.room.bytes.min(self.limits.outbound / 8).max(1);
        let room = Room { bytes, ..self.room };
        let on_stall = self.on_stall;
        let supervisor = Supervisor::start(&clock, self.stall_after, {
            let hub = hub.clone();
            move |blocked| report(&hub, blocked, on_stall.as_ref())
        })
        .map_err(|error| StartError::System(std::io::Error::other(error)))?;
        let core = Arc::new(Core {
            hub,
            program: self.program,
            agents: Mutex::default(),
            pool: Arc::new(Pool::new(self.handlers, room, self.max_buffered)),
            supervisor: supervisor.clone(),
        });
        let names = (0..self.reactors).map(|index| format!("{}-r{index}", self.thread_name));
        let reactor_desks: Vec<_> = names.map(|name| supervisor.seat(name)).collect();
        let names = (0..self.handlers).map(|index| format!("{}-h{index}", self.thread_name));
        let handler_desks: Vec<_> = names.map(|name| supervisor.seat(name)).collect();
        let salt = ahash::RandomState::new().hash_one(0_u64);
        let settings = Arc::new(Settings {
            keepalive: self.keepalive,
            limits: self.limits,
            policy: self.policy,
            salt,
        });
        // From here on a failure shuts down what was started.
        let mut running = Running::default();
        let started = (|| {
            for desk in handler_desks {
                let core = core.clone();
                let name = desk.name().to_owned();
                running
                    .handlers
                    .push(thread::Builder::new().name(name).spawn(move || {
                        core.hub.mark_thread(false);
                        core.supervisor.sit_at(desk);
                        core.pool.work();
                    })?);
            }
            for (index, (poll, desk)) in polls.into_iter().zip(reactor_desks).enumerate() {
                let reactor = Reactor::new(Start {
                    index,
                    poll,
                    core: core.clone(),
                    settings: settings.clone(),
                    listeners: std::mem::take(&mut listeners),
                    limits: self.connections,
                    desk: desk.clone(),
                })?;
                let name = desk.name().to_owned();
                running
                    .reactors
                    .push(thread::Builder::new().name(name).spawn(|| reactor.run())?);
            }
            Ok(())
        })();
        let server = Server::new(core, addresses, running);
        match started {
            Ok(()) => Ok(server),
            // Dropping the server ends what was started.
            Err(error) => Err(StartError::System(error)),
        }
    }
}

/// Reports a thread that is blocked.
fn report<C: Codec>(hub: &Hub<C>, blocked: &Blocked, on_stall: Option<&OnStall>) {
    hub.stats.lock().stalls += 1;
    crate::log::warn!("{blocked}");
    if let Some(code) = on_stall
        && catch_panic(|| code(blocked)).is_none()
    {
        hub.stats.lock().panics += 1;
    }
}

impl<C, T> fmt::Debug for ServerBuilder<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").finish_non_exhaustive()
    }
}
