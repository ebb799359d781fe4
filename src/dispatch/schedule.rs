//! When a periodic event is due.

#[cfg(feature = "cron")]
mod cron;

use std::time::{Duration, SystemTime};

use crate::clock::nanos;
use crate::error::OptionError;

#[cfg(feature = "cron")]
pub use cron::ScheduleError;

/// The times at which a periodic event is due.
///
/// See [`Dispatcher::schedule`](super::Dispatcher::schedule) for an example. Ticks do not drift: the time of each tick
/// is computed from the previous tick, not from the time at which that was handled. If several ticks become due while
/// the process is suspended or all workers are busy, only the earliest emits its event. The others are counted in
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
    /// At an interval, ns.
    Every(u64),
    /// By the calendar.
    #[cfg(feature = "cron")]
    Cron(cron::Cron),
}

/// The result of checking a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// When the tick that is taken was due, ns; `None` if no tick is due yet.
    pub(crate) tick: Option<u64>,
    /// How many later ticks are skipped.
    pub(crate) skipped: u64,
    /// When to check again, ns.
    pub(crate) next: u64,
}

impl Schedule {
    /// Returns a schedule that ticks every `interval`. The first tick is one interval after the schedule is registered.
    /// An interval of zero is an error.
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

    /// Begins at `now` ns, which is `wall` by the wall clock. Returns the time of the first check, ns.
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

    /// Takes the tick that is due at `now` ns, which is `wall` by the wall clock. The check was planned for `due` ns.
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
