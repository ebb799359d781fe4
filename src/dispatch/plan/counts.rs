//! The counters of a topic.

/// The counters of the events of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events that were accepted.
    pub(crate) emitted: u64,
    /// Events that wait now.
    pub(crate) waiting: u64,
    /// Events that run now.
    pub(crate) running: u64,
    /// Events that all handlers have handled.
    pub(crate) done: u64,
    /// Events that were cancelled.
    pub(crate) cancelled: u64,
    /// Events that were removed from the dead list.
    pub(crate) purged: u64,
    /// Events that waited when the dispatcher stopped.
    pub(crate) discarded: u64,
    /// The number of times that an event became dead. A replayed event may be counted again.
    pub(crate) died: u64,
    /// The number of times that a dead event was replayed.
    pub(crate) replayed: u64,
    /// Attempts that failed and were followed by another attempt.
    pub(crate) retried: u64,
    /// Attempts that do not count, because a handler asked for more time or the dispatcher stopped.
    pub(crate) put_off: u64,
}

impl Counts {
    /// How many events wait or run.
    pub(crate) fn unfinished(&self) -> usize {
        (self.waiting + self.running) as usize
    }
}
