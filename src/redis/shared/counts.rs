//! The account of a watch.

use std::fmt;

/// The account of a watch or a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SharedCounts {
    /// Keys that are watched now.
    pub watched: u64,
    /// Keys among them whose deadline has passed. No keeper has taken them yet.
    pub overdue: u64,
    /// Reports that are with a keeper now, or wait to be taken by another one.
    pub pending: u64,
    /// How often a key began to be watched.
    pub started: u64,
    /// Reports that were delivered.
    pub delivered: u64,
    /// How often a watched key was removed.
    pub removed: u64,
    /// How often a report was handed out again, because its keeper gave it back or let its lease lapse.
    pub redelivered: u64,
    /// How often deadlines were moved because a shard could not be reached. One outage counts once for each shard.
    pub outages: u64,
}

impl SharedCounts {
    /// Returns whether the account balances: each time that a key began to be watched, it is still watched, its report
    /// is pending or was delivered, or it was removed.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.started == self.watched + self.pending + self.delivered + self.removed
    }

    /// Adds the numbers of another shard.
    pub(crate) fn add(&mut self, other: &SharedCounts) {
        self.watched += other.watched;
        self.overdue += other.overdue;
        self.pending += other.pending;
        self.started += other.started;
        self.delivered += other.delivered;
        self.removed += other.removed;
        self.redelivered += other.redelivered;
        self.outages += other.outages;
    }
}

impl fmt::Display for SharedCounts {
    /// Writes the account on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} started = {} watched + {} pending + {} delivered + {} removed; {} overdue, {} redelivered, {} outages",
            self.started,
            self.watched,
            self.pending,
            self.delivered,
            self.removed,
            self.overdue,
            self.redelivered,
            self.outages
        )
    }
}
