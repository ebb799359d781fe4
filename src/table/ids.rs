//! What identifies a key and a slot inside a table.

/// The half of a key's hash that the index uses. The router uses the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(pub(crate) u32);

/// The slot number that stands for none.
pub(super) const NIL: u32 = u32::MAX;

/// The most slots a slab can have: [`NIL`] is not one.
pub(super) const MAX_SLOTS: usize = NIL as usize;
