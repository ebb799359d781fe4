//! The identity of an event.

use std::fmt;

/// The identity of an event, unique within its dispatcher.
///
/// Ids increase in the order in which events are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(u64);

impl EventId {
    /// Creates the id of the event `number`.
    pub(crate) fn new(number: u64) -> Self {
        EventId(number)
    }

    /// Returns the id as a number, from 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

impl fmt::Display for EventId {
    /// Writes the number, such as `17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
