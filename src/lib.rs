//! Watches keys (services, connections, devices, threads, jobs) for signs of life on plain OS threads, and reports each
//! one that has been silent for longer than its timeout, within about a millisecond.

mod builder;
mod clock;
mod error;
mod event;
mod heart;
mod inbox;
mod local;
mod log;
mod pulse;
mod roster;
mod router;
mod sink;
mod stats;
mod table;
mod watcher;
mod worker;

pub use builder::Builder;
pub use clock::{Clock, ManualClock};
pub use error::{BeatError, BeatErrorKind, BeatManyError, BuildError, CallError, HeartError};
pub use event::{Event, EventKind, Generation, KeyEvent, Mode, Options, Stall, Status};
pub use heart::Heart;
pub use local::LocalWatcher;
pub use sink::{Refused, Sink};
pub use stats::{Histogram, Stats};
pub use watcher::Watcher;
