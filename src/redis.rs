//! Durable dispatch and a shared watch on Redis.

mod admin;
mod builder;
mod calls;
mod check;
mod dispatcher;
mod emitter;
mod engine;
mod envelope;
mod error;
mod keeper;
mod layout;
mod link;
mod listener;
mod record;
#[cfg(test)]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "the tests of the folder `tests` share it, and use more of it"
)]
#[path = "../tests/support/redis_server.rs"]
mod redis_server;
mod reply;

pub use builder::Builder;
pub use dispatcher::Dispatcher;
pub use envelope::Codec;
pub use error::{BuildError, ConnectError};
