//! The options of a server, its routes, and its start.

mod options;
mod routing;
mod start;

use std::fmt;
use std::thread;
use std::time::Duration;

use ahash::HashMap;

use super::channel::Layer;
use super::codec::Codec;
use super::core::{OnStall, Program};
use super::framing::Framing;
use super::http::Policy;
use super::hub::Port;
use super::keepalive::Keepalive;
use super::limits::Limits;
use super::reactor::ConnectionLimits;
use super::strand::Room;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::error::OptionError;

/// Options and routes of a [`Server`](super::Server), created by [`Server::builder`](super::Server::builder).
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

    /// Listens for WebSocket connections on `address`. A `GET` or `HEAD` request for `/healthz` is answered with 200,
    /// or 503 while the server [drains](super::Server::drain).
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
}

impl<C, T> fmt::Debug for ServerBuilder<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").finish_non_exhaustive()
    }
}
