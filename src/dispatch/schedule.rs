//! When a periodic event is due.

#[cfg(feature = "cron")]
mod cron;

use std::time::{Duration, SystemTime};

use crate::clock::nanos;
use crate::error::OptionError;

#[cfg(feature = "cron")]
pub use cron::ScheduleError;

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
    /// By the calendar.
    #[cfg(feature = "cron")]
    Cron(cron::Cron),
}

/// What a look at a schedule comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// When the tick that is taken was due, ns; `None` if none has come.
    pub(crate) tick: Option<u64>,
    /// How many ticks that came after it are skipped.
    pub(crate) skipped: u64,
    /// When to look again, ns.
    pub(crate) next: u64,
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
            #[cfg(feature = "cron")]
            Kind::Cron(_) => Ok(()),
        }
    }

    /// Begins at `now` ns, which is `wall` by the wall clock. Returns when to look for the first time, ns.
    #[cfg_attr(
        not(feature = "cron"),
        expect(unused_variables, reason = "only the calendar goes by the wall clock")
    )]
    pub(crate) fn start(&mut self, now: u64, wall: SystemTime) -> u64 {
        match &mut self.kind {
            Kind::Every(interval) => now.saturating_add(*interval),
            #[cfg(feature = "cron")]
            Kind::Cron(cron) => cron.start(now, wall),
        }
    }

    /// Takes the tick that has come by `now` ns, which is `wall` by the wall clock, at the look that was due at `due` ns.
    #[cfg_attr(
        not(feature = "cron"),
        expect(unused_variables, reason = "only the calendar goes by the wall clock")
    )]
    pub(crate) fn look(&mut self, due: u64, now: u64, wall: SystemTime) -> Look {
        match &mut self.kind {
            Kind::Every(interval) => {
                let missed = now.saturating_sub(due) / *interval;
                Look {
                    tick: Some(due),
                    skipped: missed,
                    next: due.saturating_add(interval.saturating_mul(missed + 1)),
                }
            }
            #[cfg(feature = "cron")]
            Kind::Cron(cron) => cron.look(now, wall),
        }
    }
}
