//! What this process counts of a shared watch.

use std::fmt;
use std::time::Duration;

use crate::log::warn;
use crate::stats::Histogram;
use crate::sync::Instant;
use crate::sync::Mutex;

/// Outages of different shards within this time are one line in the log.
const ONE_LINE: Duration = Duration::from_secs(1);

/// What one process has done for a shared watch, returned by [`stats`](super::SharedWatcher::stats). The numbers of all
/// processes together are in [`SharedCounts`](super::SharedCounts).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SharedStats {
    /// Keys that this watcher's `beat` methods, and its beaters, have sent. A key counts each time.
    pub beats: u64,
    /// Calls that the server did not answer, or refused.
    pub failed_calls: u64,
    /// Calls that found a shard out of reach and moved its deadlines.
    pub outages: u64,
    /// Reports that this process took.
    pub taken: u64,
    /// Reports for which the callback returned.
    pub delivered: u64,
    /// Calls of the callback that panicked. The report is handed out again after its lease.
    pub panics: u64,
    /// Reports that were given back undelivered when the watcher was closed.
    pub returned: u64,
    /// Delivered reports that another keeper had taken meanwhile, because the lease had lapsed. These may have been
    /// delivered twice.
    pub stale: u64,
    /// The time from the deadline of a key to the call of the callback.
    pub lateness: Histogram,
}

impl fmt::Display for SharedStats {
    /// Writes the numbers on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} beats, {} failed calls, {} outages; {} taken, {} delivered, {} panics, {} returned, {} stale; \
             late p50 {:.3?} p99 {:.3?}",
            self.beats,
            self.failed_calls,
            self.outages,
            self.taken,
            self.delivered,
            self.panics,
            self.returned,
            self.stale,
            self.lateness.quantile(0.5),
            self.lateness.quantile(0.99),
        )
    }
}

/// The statistics while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The numbers.
    stats: Mutex<SharedStats>,
    /// When an outage was last logged.
    logged: Mutex<Option<Instant>>,
}

impl Tally {
    /// Changes the numbers.
    pub(crate) fn count(&self, change: impl FnOnce(&mut SharedStats)) {
        change(&mut self.stats.lock());
    }

    /// Counts that a shard was found out of reach, if its deadlines were moved by more than zero, us.
    pub(crate) fn moved(&self, name: &str, by: u64) {
        if by == 0 {
            return;
        }
        self.count(|stats| stats.outages += 1);
        let now = Instant::now();
        let last = self.logged.lock().replace(now);
        if last.is_none_or(|last| now - last > ONE_LINE) {
            let by = Duration::from_micros(by);
            warn!("the watch `{name}` could not be reached; its deadlines are moved by {by:?}");
        }
    }

    /// Returns the numbers.
    pub(crate) fn stats(&self) -> SharedStats {
        self.stats.lock().clone()
    }
}
