//! Runs handlers for events that are stored in Redis or Valkey, so that no process takes them along when it ends.
//!
//! [`Dispatcher`] has the methods and options of the [local dispatcher](crate::dispatch), and implements the same trait
//! [`Dispatch`](crate::dispatch::Dispatch). An event for which `emit` has returned `Ok` is handled at least once, or
//! ends cancelled or dead, whatever process ends at whatever moment. Every process that uses the same server and
//! registers a handler for a topic takes part in its events.
//!
//! ```no_run
//! use std::time::Duration;
//! use liveness::dispatch::{Emit, On, Topic};
//! use liveness::redis::Dispatcher;
//!
//! const MAIL: Topic<String> = Topic::new("mail");
//!
//! // This needs a server.
//! let jobs = Dispatcher::builder("redis://127.0.0.1/").threads(8).build()?;
//! jobs.on(&MAIL, "send", On::new().max_attempts(5), |context, to| {
//!     println!("to {to}, attempt {}, fence {}", context.attempt(), context.fence());
//!     Ok(())
//! })?;
//! jobs.emit(&MAIL, "ada@example.org".to_owned())?;
//! let id = jobs.emit_with(&MAIL, "bob@example.org".to_owned(), Emit::after(Duration::from_secs(900)))?;
//! jobs.cancel(&MAIL, id)?;
//! let _ = jobs.stop(Duration::from_secs(10)); // what waits stays in Redis
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An event needs `serde`'s `Serialize` and `Deserialize`. It is stored as JSON, or as `MessagePack` with the feature
//! `msgpack`. The event of a handler is decoded for each call; an event that cannot be decoded is a failed attempt.
//!
//! # At least once
//!
//! A handler may be called again for an event that it has handled: if its process ended before the outcome was stored,
//! or was suspended for longer than the [lease](Builder::lease). [`Context::fence`](crate::dispatch::Context::fence)
//! rises with every attempt, so a store can refuse the writes of an earlier one.
//!
//! The module `on_redis` of this documentation lists the guarantees, the keys, the races, what each setting of the
//! server can lose, the permissions, and what to watch in operation.

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
mod shared;
#[cfg(test)]
mod three_nodes;

pub use builder::Builder;
pub use dispatcher::Dispatcher;
pub use envelope::Codec;
pub use error::{BuildError, ConnectError};
pub use shared::SharedStatus;
pub use shared::SharedWatcher;
pub use shared::beater::{Beater, BeaterStats};
pub use shared::builder::SharedBuilder;
pub use shared::counts::SharedCounts;
pub use shared::error::{CloseTimeout, WatchError};
pub use shared::report::Expired;
pub use shared::stats::SharedStats;
