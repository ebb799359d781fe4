//! When a periodic event is due.

use std::time::Duration;

use crate::clock::{Clock, nanos};
use crate::error::OptionError;

/// When a periodic event is due: see [`Dispatcher::schedule`](super::Dispatcher::schedule).
///
/// [`Dispatcher::schedule`](super::Dispatcher::schedule) has an example. Ticks do not drift: each follows from the one before, whenever that was handled. Ticks that come while the process stands
/// still or all workers are busy are skipped but for the earliest, and counted in
/// [`skipped_ticks`](super::DispatchStats::skipped_ticks).
#[derive(Clone, Debug)]
#[must_use = "it says when a periodic event is due, and does nothing by itself"]
pub struct Schedule {
    /// The kind.
    kind: Kind,
}

/// The kinds of schedule.
#[derive(Clone, Debug)]
enum Kind {
    /// Every so many nanoseconds.
    Every(u64),
}

impl Schedule {
    /// Returns a schedule that ticks every `interval`, for the first time one interval from now. It must be greater than zero.
    pub fn every(interval: Duration) -> Self {
        Schedule {
            kind: Kind::Every(nanos(interval)),
        }
    }

    /// Checks the interval.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        match self.kind {
            Kind::Every(interval) => OptionError::positive("Schedule::every", interval > 0),
        }
    }

    /// The first tick of a schedule that begins at `now` ns.
    pub(crate) fn first(&self, now: u64, _clock: &Clock) -> u64 {
        match self.kind {
            Kind::Every(interval) => now.saturating_add(interval),
        }
    }

    /// The tick after the one that was due at `due` and is taken at `now`, ns, and how many between them are skipped.
    pub(crate) fn next(&self, due: u64, now: u64, _clock: &Clock) -> (u64, u64) {
        match self.kind {
            Kind::Every(interval) => {
                let missed = now.saturating_sub(due) / interval;
                (
                    due.saturating_add(interval.saturating_mul(missed + 1)),
                    missed,
                )
            }
        }
    }
}
