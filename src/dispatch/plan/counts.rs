//! The account of a topic.

/// What happened to the events of a topic, and where they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events that were accepted.
    pub(crate) emitted: u64,
    /// Those that wait now.
    pub(crate) waiting: u64,
    /// Those that run now.
    pub(crate) running: u64,
    /// Those of which all handlers are done.
    pub(crate) done: u64,
    /// Those that were cancelled.
    pub(crate) cancelled: u64,
    /// Those that were removed from the dead list.
    pub(crate) purged: u64,
    /// Those that waited when the dispatcher stopped.
    pub(crate) discarded: u64,
    /// Times that an event died. One that is replayed may die again.
    pub(crate) died: u64,
    /// Times that a dead event was replayed.
    pub(crate) replayed: u64,
    /// Attempts that failed and were followed by another.
    pub(crate) retried: u64,
    /// Attempts that do not count, because a handler asked for more time or the dispatcher stopped.
    pub(crate) put_off: u64,
    /// Outcomes of attempts that were no longer the current ones.
    pub(crate) stale: u64,
}

impl Counts {
    /// How many events wait or run.
    pub(crate) fn unfinished(&self) -> usize {
        (self.waiting + self.running) as usize
    }
}
