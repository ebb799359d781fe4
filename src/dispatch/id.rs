//! The name of one event.

use std::fmt;

/// How many bits of an id are the event's place in the plan.
const PLACE_BITS: u32 = 24;

/// The most events that a plan can hold.
pub(crate) const MAX_EVENTS: usize = 1 << PLACE_BITS;

/// The identity of an event, unique within its dispatcher.
///
/// Ids rise in the order in which events are accepted. It is `Copy` and prints as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(u64);

impl EventId {
    /// The id of the event `number`, which is at `place`. Unique while fewer than 2^40 events, a trillion, come between two
    /// in the same place.
    pub(crate) fn new(number: u64, place: u32) -> Self {
        EventId(number << PLACE_BITS | u64::from(place))
    }

    /// The event's place.
    pub(crate) fn place(self) -> u32 {
        (self.0 & (MAX_EVENTS as u64 - 1)) as u32
    }

    /// Returns the id as a number.
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
    /// Writes the number of the event, then its place, such as `17.3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> PLACE_BITS, self.place())
    }
}
