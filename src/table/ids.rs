//! The types that identify a key, a slot, a list and a deferral in a table.

use std::fmt;

/// The half of a key's hash that the index uses. The router uses the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(pub(crate) u32);

/// The number of a slot in a slab, or [`NIL`](SlotId::NIL). 32 bits keep a slot within a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(u32);

impl SlotId {
    /// No slot.
    pub(super) const NIL: SlotId = SlotId(u32::MAX);

    /// The maximum number of slots of a slab, without [`NIL`](SlotId::NIL).
    pub(super) const MAX_SLOTS: usize = u32::MAX as usize;

    /// Returns the number of the slot at `index`, which must be less than [`MAX_SLOTS`](SlotId::MAX_SLOTS).
    #[inline]
    pub(crate) fn new(index: usize) -> Self {
        debug_assert!(index < SlotId::MAX_SLOTS);
        SlotId(index as u32)
    }

    /// Returns the index of the slot. That of [`NIL`](SlotId::NIL) is beyond every slab.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the bits, for sums that only keep a read from being optimized away.
    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ListId(u32);

impl ListId {
    /// The list of the default policy, which is never removed.
    pub(super) const DEFAULT: ListId = ListId(0);

    /// Returns the number of the list at `index`. A table has fewer lists than slots, so the number fits.
    #[inline]
    pub(super) fn new(index: usize) -> Self {
        ListId(index as u32)
    }

    /// Returns the index of the list.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of an entry in the heap of deferred slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u32);

impl Ticket {
    /// Returns the next number, which differs from [`SlotId::NIL`] as a link.
    #[inline]
    pub(super) fn next(self) -> Self {
        Ticket(self.0.wrapping_add(1) % SlotId::NIL.0)
    }

    /// Returns the number in the form in which a deferred slot stores it in `prev`.
    #[inline]
    pub(super) fn as_link(self) -> SlotId {
        SlotId(self.0)
    }
}
