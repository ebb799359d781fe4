//! What a candidate must do to take part: take beats, and report each silent key once, by itself.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::key::Name;

/// What a candidate is started with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How many keys to make room for.
    pub(crate) keys: usize,
    /// The longest silence of a key that is given none of its own. Who scans goes by it, as others are about as long.
    pub(crate) timeout: Duration,
    /// The threads to use, where that can be chosen.
    pub(crate) workers: usize,
}

/// Where a candidate reports each expired key, on whatever thread it notices.
#[derive(Clone)]
pub(crate) struct Report(Arc<Callback>);

/// What is called with the name of an expired key.
type Callback = dyn Fn(&[u8]) + Send + Sync;

impl Report {
    /// Reports go to `callback`.
    pub(crate) fn new(callback: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Report(Arc::new(callback))
    }

    /// The key called `name` was silent for its timeout.
    pub(crate) fn expired(&self, name: &[u8]) {
        (self.0)(name);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").finish_non_exhaustive()
    }
}

/// Something that watches keys. Dropping it ends its threads.
pub(crate) trait Candidate: Sized + Sync {
    /// What it wants keys to be: a [`Name`], if it is not part of its idea to have something dearer.
    type Key: Clone + Send + Sync + AsRef<[u8]>;

    /// The key called `name`.
    fn key(name: Name) -> Self::Key;

    /// Starts it, with its threads.
    fn start(config: &Config, report: Report) -> Self;

    /// A sign of life of `key`, which is watched from then on.
    fn beat(&self, key: &Self::Key);

    /// A sign of life of each of `keys`; where there is no better way, one after the other.
    fn beat_many(&self, keys: &[Self::Key]) {
        for key in keys {
            self.beat(key);
        }
    }

    /// Returns when all that was accepted so far is applied; at once where there is no queue.
    fn settle(&self);
}

/// A candidate whose keys may have timeouts of their own.
pub(crate) trait OwnTimeouts: Candidate {
    /// A beat that also says what the timeout of `key` is from then on.
    fn beat_with(&self, key: &Self::Key, timeout: Duration);
}

/// A candidate that has a better way for [`beat_many`](Candidate::beat_many).
pub(crate) trait BeatMany: Candidate {}

/// A candidate with a handle on one key, by which that key beats without being looked up.
pub(crate) trait Handles: Candidate {
    /// The handle.
    type Handle: Send + Sync;

    /// A handle on `key`, which is watched from then on.
    fn handle(&self, key: &Self::Key) -> Self::Handle;

    /// A sign of life by `handle`.
    fn beat_by(&self, handle: &Self::Handle);
}

/// The timeout that a table keeps with each key.
pub(crate) trait Patience: Copy + Send + Sync + 'static {
    /// Whether all keys have the candidate's timeout.
    const UNIFORM: bool;

    /// A timeout of `timeout`.
    fn of(timeout: Duration) -> Self;

    /// The timeout in nanoseconds, where the candidate's is `default_ns`.
    fn ns(self, default_ns: u64) -> u64;
}

/// The candidate's own timeout, which takes no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uniform;

impl Patience for Uniform {
    const UNIFORM: bool = true;

    fn of(_: Duration) -> Self {
        Uniform
    }

    fn ns(self, default_ns: u64) -> u64 {
        default_ns
    }
}

/// A timeout in nanoseconds for each key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own(pub(crate) u64);

impl Patience for Own {
    const UNIFORM: bool = false;

    fn of(timeout: Duration) -> Self {
        Own(nanos(timeout))
    }

    fn ns(self, _: u64) -> u64 {
        self.0
    }
}

/// A monotonic clock in nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A clock whose zero is now.
    pub(crate) fn new() -> Self {
        Clock(Instant::now())
    }

    /// The time.
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// The instant `ns`.
    pub(crate) fn at(self, ns: u64) -> Instant {
        self.0 + Duration::from_nanos(ns)
    }
}

/// The nanoseconds of `duration`, by 64-bit arithmetic.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos())
}
