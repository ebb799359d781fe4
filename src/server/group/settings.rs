//! The options of a group, checked.

use std::num::NonZeroU32;

use crate::clock::Clock;
use crate::error::OptionError;

/// The largest capacity, of the inbox, of slow calls and of timers.
const MAX_CAPACITY: usize = 1 << 20;

/// The most slow threads of a group.
const MAX_SLOW_THREADS: usize = 1_024;

/// What a group does after a panic of a closure.
///
/// The panic is caught and counted in any case. The state may be incomplete: it is what the closure left.
///
/// ```
/// use std::time::Duration;
/// use liveness::server::{Group, group::{CallError, OnPanic}};
///
/// let world = Group::builder("world").on_panic(OnPanic::Stop).spawn(7)?;
/// assert_eq!(world.call(|_| panic!("a fault")), Err::<(), _>(CallError::Panicked));
/// assert_eq!(world.call(|n| *n), Err(CallError::Stopped));
/// assert_eq!(world.stop(Duration::from_secs(5)).state, Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnPanic {
    /// The group goes on with the next job.
    #[default]
    Continue,
    /// The group stops, and discards the jobs that wait.
    Stop,
    /// The group stops like [`Stop`](OnPanic::Stop) at the panic of this number, counted from its beginning.
    StopAfter(NonZeroU32),
}

impl OnPanic {
    /// Returns whether the group stops after `panics` panics.
    pub(super) fn stops(self, panics: u64) -> bool {
        match self {
            OnPanic::Continue => false,
            OnPanic::Stop => true,
            OnPanic::StopAfter(limit) => panics >= u64::from(limit.get()),
        }
    }
}

/// The options of a group.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Its name, which its threads have.
    pub(super) name: String,
    /// How many jobs wait at most.
    pub(super) capacity: usize,
    /// How many threads run slow calls at most.
    pub(super) slow_threads: usize,
    /// How many slow calls are unfinished at most.
    pub(super) slow_capacity: usize,
    /// How many timers are pending at most.
    pub(super) max_timers: usize,
    /// What happens after a panic.
    pub(super) on_panic: OnPanic,
    /// The time source, if it is not a monotonic clock.
    pub(super) clock: Option<Clock>,
}

impl Settings {
    /// The defaults.
    pub(super) fn new(name: String) -> Self {
        Settings {
            name,
            capacity: 1_024,
            slow_threads: 4,
            slow_capacity: 1_024,
            max_timers: 65_536,
            on_panic: OnPanic::Continue,
            clock: None,
        }
    }

    /// Checks the ranges.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        let range = "be from 1 to 1,048,576";
        for (name, value) in [
            ("capacity", self.capacity),
            ("slow_capacity", self.slow_capacity),
            ("max_timers", self.max_timers),
        ] {
            OptionError::check(name, range, (1..=MAX_CAPACITY).contains(&value))?;
        }
        let is_in_range = (1..=MAX_SLOW_THREADS).contains(&self.slow_threads);
        OptionError::check("slow_threads", "be from 1 to 1,024", is_in_range)?;
        OptionError::check("name", "not contain a zero byte", !self.name.contains('\0'))
    }
}
