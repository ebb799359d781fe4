//! Durable dispatch and a shared watch on Redis.

#![allow(dead_code, unused_imports, reason = "the parts that use it follow")]

mod calls;
mod check;
mod error;
mod layout;
mod link;
#[cfg(test)]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "the tests of the folder `tests` share it, and use more of it"
)]
#[path = "../tests/support/redis_server.rs"]
mod redis_server;
mod reply;

pub use error::{BuildError, ConnectError};
