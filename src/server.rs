//! Connections over TCP and WebSocket that are kept alive, on plain threads.
//!
//! A message is an envelope with a name, such as `Echo`, and a body in the encoding of the [`Codec`]: JSON with the
//! feature `json`, `MessagePack` with `msgpack`, and Protocol Buffers with `protobuf`. A [`Server`] calls a handler for
//! each name, in order for each connection and on a pool of threads. An [`Agent`] is the handle to a connection.
//!
#![cfg_attr(feature = "json", doc = "```")]
#![cfg_attr(not(feature = "json"), doc = "```ignore")]
//! use std::time::Duration;
//! use liveness::server::{Agent, Json, Keepalive, Server, Shutdown};
//!
//! let server = Server::<Json, ()>::builder()
//!     .tcp("127.0.0.1:0") // any free port
//!     .websocket("127.0.0.1:0")
//!     .keepalive(Keepalive::new(Duration::from_secs(6), Duration::from_secs(12)))
//!     .on("Echo", |agent: &Agent<_, _>, text: String| agent.send("Echo", &text))
//!     .on_request("Double", |_, number: u32| Ok(number.saturating_mul(2)))
//!     .opened(|agent| println!("agent {} came over {}", agent.id(), agent.transport()))
//!     .closed(|agent, closed| println!("agent {} has gone: {closed}", agent.id()))
//!     .start()?;
//!
//! use std::io::{Read, Write};
//! let mut peer = std::net::TcpStream::connect(server.local_addrs()[0])?;
//! let message = br#"{"type":"Echo","data":"hello"}"#;
//! peer.write_all(&[0, message.len() as u8])?; // a length in two bytes precedes each message
//! peer.write_all(message)?;
//! let mut answer = [0; 32];
//! peer.read_exact(&mut answer)?;
//! assert_eq!(&answer[2..], message);
//!
//! let report = server.shutdown(Shutdown::within(Duration::from_secs(5)));
//! assert!(report.still_running.is_empty() && server.stats().is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The module `serving` of this documentation describes the threads, the times of the keepalive, and the limits.

pub(crate) mod agent;
mod builder;
pub(crate) mod channel;
mod close;
pub(crate) mod codec;
pub(crate) mod core;
pub(crate) mod deadlines;
pub(crate) mod desk;
mod error;
pub(crate) mod face;
mod framing;
pub mod group;
pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod inbox;
mod job;
pub(crate) mod keepalive;
pub(crate) mod limits;
pub(crate) mod net;
mod outbox;
pub(crate) mod pool;
pub(crate) mod reactor;
mod routes;
pub(crate) mod session;
mod shortcut;
mod stats;
pub(crate) mod strand;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod violation;
pub(crate) mod websocket;
pub(crate) mod wire;

pub use self::core::Reject;
pub use agent::{Agent, AgentId, Transport};
pub use builder::ServerBuilder;
pub use close::{Cause, Closed};
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub use codec::json::Json;
#[cfg(feature = "msgpack")]
#[cfg_attr(docsrs, doc(cfg(feature = "msgpack")))]
pub use codec::msgpack::MsgPack;
#[cfg(feature = "protobuf")]
#[cfg_attr(docsrs, doc(cfg(feature = "protobuf")))]
pub use codec::protobuf::Protobuf;
pub use codec::{Codec, Decode, DecodeError, Either, Encode, EncodeError, Envelope, Fault, Head};
pub use desk::Blocked;
pub use error::{RequestError, SendError, StartError};
pub use face::{Server, Shutdown, ShutdownReport};
pub use framing::Framing;
pub use group::Group;
pub use http::{Network, NetworkError, Origins, Request, Response};
pub use keepalive::{Alive, Keepalive, Ping};
pub use limits::{Excess, Overflow, Rate};
pub use routes::{Routes, RoutesBuilder};
pub use stats::ServerStats;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tls::{Tls, TlsError};

/// Runs the operations that `data` stands for on a session, for the fuzzer. Returns how many.
#[cfg(all(
    fuzzing,
    feature = "client",
    feature = "json",
    feature = "msgpack",
    feature = "protobuf"
))]
#[doc(hidden)]
#[must_use]
pub fn fuzz(data: &[u8]) -> usize {
    session::hostile::run(data)
}
