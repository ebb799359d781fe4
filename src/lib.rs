#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod builder;
mod clock;
mod error;
mod event;
mod heart;
mod inbox;
mod key_limit;
mod local;
mod log;
#[cfg(all(test, loom))]
mod orderings;
#[cfg(feature = "pacemaker")]
pub mod pacemaker;
mod panic;
mod pulse;
#[cfg(feature = "registry")]
pub mod registry;
mod router;
#[cfg(all(test, shuttle))]
mod schedules;
mod sink;
mod stats;
mod sync;
mod table;
mod watcher;
mod worker;

pub use builder::Builder;
pub use crossbeam_channel::Receiver;

pub use clock::{Clock, ManualClock, Timestamp};
pub use error::{BeatError, BeatErrorKind, BeatManyError, BuildError, CallError, HeartError};
pub use event::{Event, EventKind, Generation, KeyEvent, Mode, Options, Stall, Status};
pub use heart::Heart;
pub use local::LocalWatcher;
pub use sink::{Refused, Sink};
pub use stats::{Histogram, Stats};
pub use watcher::Watcher;

/// How it works: words, protocols, races.
#[cfg(doc)]
#[doc = include_str!("../docs/design.md")]
pub mod design {}

/// Keeping a fleet: which numbers to choose, and what happens when.
#[cfg(all(doc, feature = "registry", feature = "pacemaker"))]
#[doc = include_str!("../docs/fleet.md")]
pub mod fleet {}
