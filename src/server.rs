//! Connections over TCP and WebSocket that are kept alive, on plain threads.
//!
//! A message is an envelope with a name, such as `Echo`, and a body in the encoding of the [`Codec`]: JSON with the
//! feature `json`, `MessagePack` with `msgpack`, and Protocol Buffers with `protobuf`.

#[allow(dead_code, reason = "the reactor uses it")]
mod close;
#[allow(dead_code, reason = "the reactor uses it")]
mod codec;
#[allow(dead_code, reason = "the reactor uses it")]
mod deadlines;
mod framing;
pub mod group;
#[allow(dead_code, reason = "the reactor uses it")]
mod http;
#[allow(dead_code, reason = "the reactor uses it")]
mod keepalive;
#[allow(dead_code, reason = "the reactor uses it")]
mod limits;
#[allow(dead_code, reason = "the reactor uses it")]
mod outbox;
#[allow(dead_code, unused_imports, reason = "the reactor uses it")]
mod session;
#[allow(dead_code, reason = "the reactor uses it")]
mod violation;
mod websocket;
#[allow(dead_code, reason = "the reactor uses it")]
mod wire;

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
pub use framing::Framing;
pub use group::Group;
pub use http::{Network, NetworkError, Origins, Request};
pub use keepalive::{Alive, Keepalive, Ping};
pub use limits::{Excess, Overflow, Rate};

/// Runs the operations that `data` stands for on a session, for the fuzzer. Returns how many.
#[cfg(all(fuzzing, feature = "json", feature = "msgpack", feature = "protobuf"))]
#[doc(hidden)]
#[must_use]
pub fn fuzz(data: &[u8]) -> usize {
    session::hostile::run(data)
}
