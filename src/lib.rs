//! Watches keys (services, connections, devices, threads, jobs) for signs of life on plain OS threads, and reports each
//! key that has been silent for longer than its timeout, within about a millisecond.
//!
//! ```
//! use std::time::Duration;
//! use liveness::{ManualClock, Watcher};
//!
//! let clock = ManualClock::new(); // for this example; by default the system's clock is used
//! let (watcher, events) = Watcher::<&str>::builder()
//!     .timeout(Duration::from_secs(5))
//!     .clock(clock.clone())
//!     .build_with_channel(1_024)?;
//! watcher.beat("db-1")?;
//! let connection = watcher.watch("client-7")?;
//! clock.advance(Duration::from_secs(4));
//! connection.beat()?;
//! clock.advance(Duration::from_secs(1));
//! watcher.flush()?;
//! assert_eq!(events.try_recv()?.key(), Some(&"db-1"));
//! assert!(watcher.contains(&"client-7")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! * [`Watcher`] watches keys on its own worker threads; [`Builder`] sets its options. Any thread calls
//!   [`beat`](Watcher::beat). Events go to a callback, a channel or a [`Sink`].
//! * A [`Heart`] is a handle to one key whose beats cost one atomic store.
//! * [`Options`] and [`Mode`] determine how one key is watched: its timeout, its value, and what happens to it when it
//!   expires.
//! * [`Event`] is a report, [`Status`] is the state of a key, and [`Stats`] counts all episodes.
//! * [`LocalWatcher`] is the same engine without threads, for a loop that passes the time to each call.
//! * [`ManualClock`] and [`flush`](Watcher::flush) make tests deterministic.
//!
//! # Features
//!
//! All features are off by default. `pacemaker` sends beats, `registry` maintains the list of nodes that may receive
//! traffic, `dispatch` calls handlers for instant, delayed and retried events on local threads, `redis` adds a
//! dispatcher whose events survive in Redis and a watch that processes share, `cron` adds periodic events by the
//! calendar, `server` adds connections over TCP and WebSocket that are kept alive, `client` adds their other side,
//! `json`, `msgpack` and `protobuf` add the encodings of its messages, of which `msgpack` also serves `redis`, `tls`
//! adds TLS for the connections of both, `observe` adds metrics for Prometheus and a page with live pictures, `tsc`
//! adds a faster clock, `serde` adds `Serialize`, and `log` reports stalls and failures through the `log` crate. The
//! README lists the cost of each.
//!
//! # How it works
//!
//! A router hashes each key to one of a fixed number of worker threads. Each worker owns a slab of slots, LRU lists
//! that link the slots, and an index that maps keys to slots. The module `design` of this documentation describes the
//! protocols between the threads, `fleet` explains how to choose the options of a fleet, `dispatching` describes
//! the dispatcher, `on_redis` what is stored in Redis, and `promises` lists the guarantees and their tests.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

// The name by which the model that tests share knows the library, here as in the folders `tests` and `fuzz`.
#[cfg(test)]
extern crate self as liveness;

#[cfg(any(feature = "pacemaker", feature = "registry"))]
mod callback;
#[cfg(feature = "client")]
pub mod client;
mod clock;
#[cfg(feature = "dispatch")]
pub mod dispatch;
mod due;
mod error;
mod event;
#[cfg(feature = "registry")]
mod feed;
mod local;
mod log;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
#[cfg(feature = "observe")]
pub mod observe;
mod options;
#[cfg(feature = "pacemaker")]
pub mod pacemaker;
mod panic;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "server")]
pub mod server;
mod sink;
mod stats;
mod status;
mod sync;
mod table;
mod wakeup;
mod watcher;

pub use crossbeam_channel::Receiver;

pub use clock::{Clock, ManualClock, Timestamp};
pub use error::{
    BeatError, BeatErrorKind, BeatManyError, BuildError, CallError, CloseTimeout, HeartError,
    OptionError,
};
pub use event::{Event, EventKind, Generation, KeyEvent, Stall};
pub use local::LocalWatcher;
pub use local::builder::LocalBuilder;
pub use options::{Mode, Options};
pub use sink::{Refused, Sink};
pub use stats::{Histogram, Stats};
pub use status::Status;
pub use watcher::Watcher;
pub use watcher::builder::Builder;
pub use watcher::heart::Heart;

/// The design: terms, protocols and races.
#[cfg(doc)]
#[doc = ""]
#[doc = "[fleet]: crate::fleet"]
#[doc = "[promises]: crate::promises"]
#[doc = ""]
#[doc = include_str!("../docs/design.md")]
pub mod design {}

/// The guarantees, the tests that check them, and what is not guaranteed.
#[cfg(doc)]
#[doc = ""]
#[doc = "[dispatch]: crate::dispatching"]
#[doc = "[fleet]: crate::fleet"]
#[doc = ""]
#[doc = include_str!("../docs/promises.md")]
pub mod promises {}

/// Fleets: which options to choose, and what happens on failures.
#[cfg(all(doc, feature = "registry", feature = "pacemaker"))]
#[doc = include_str!("../docs/fleet.md")]
pub mod fleet {}

/// The dispatcher: semantics, promises, options and the protocol of its lock.
#[cfg(all(doc, feature = "dispatch"))]
#[doc = include_str!("../docs/dispatch.md")]
pub mod dispatching {}

/// Durable dispatch and the shared watch: promises, keys, protocol, durability and operations.
#[cfg(all(doc, feature = "redis"))]
#[doc = ""]
#[doc = "[dispatch]: crate::dispatching"]
#[doc = "[scale]: crate::scale"]
#[doc = ""]
#[doc = include_str!("../docs/redis.md")]
pub mod on_redis {}

/// What shared watches of 1 million, 100 million and 1 billion keys need.
#[cfg(all(doc, feature = "redis"))]
#[doc = include_str!("../docs/scale.md")]
pub mod scale {}

/// Clients: states, threads, races, times, and a registry whose nodes are clients.
#[cfg(all(any(doc, doctest), feature = "client"))]
#[doc = "[client]: crate::client"]
#[doc = "[serving]: crate::serving"]
#[cfg_attr(feature = "pacemaker", doc = "[pacemaker]: crate::pacemaker")]
#[cfg_attr(feature = "registry", doc = "[registry]: crate::registry")]
#[doc = ""]
#[doc = include_str!("../docs/client.md")]
pub mod connecting {}

/// Servers: threads and data path, races, times of the keepalive, and limits.
#[cfg(all(doc, feature = "server"))]
#[doc = ""]
#[doc = "[server]: crate::server"]
#[cfg_attr(feature = "client", doc = "[connecting]: crate::connecting")]
#[doc = ""]
#[doc = include_str!("../docs/server.md")]
pub mod serving {}

/// Metrics: what each one means, which alerts to set, and what a scrape costs.
#[cfg(all(doc, feature = "observe"))]
#[doc = ""]
#[doc = "[`Observer`]: crate::observe::Observer"]
#[doc = ""]
#[doc = include_str!("../docs/observe.md")]
pub mod observing {}

/// The examples of the README, some of which use these features.
#[cfg(all(
    doctest,
    feature = "dispatch",
    feature = "redis",
    feature = "json",
    feature = "observe",
    feature = "server"
))]
#[doc = include_str!("../README.md")]
struct Readme;
