//! The types that identify a key and a slot in a table.

/// The half of a key's hash that the index uses. The router uses the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(pub(crate) u32);

/// The slot number that means no slot.
pub(super) const NIL: u32 = u32::MAX;

/// The maximum number of slots of a slab, without [`NIL`].
pub(super) const MAX_SLOTS: usize = NIL as usize;
