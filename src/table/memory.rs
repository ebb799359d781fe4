//! The memory that collections have allocated, and when it is worth returning.

/// A collection with room for fewer entries than this is not shrunk.
const SHRINK_FLOOR: usize = 4_096;

/// A collection is shrunk when less than one part in this many is taken.
pub(super) const SHRINK_DIVISOR: usize = 8;

/// Returns whether `len` entries leave so much of a `capacity` empty that shrinking is worthwhile.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    len * SHRINK_DIVISOR < capacity && capacity >= SHRINK_FLOOR
}

/// Returns the bytes that a map of entries `T` with room for `capacity` entries has allocated. It has an additional
/// byte for each bucket, and 8 buckets for at most 7 entries.
pub(super) fn map_bytes<T>(capacity: usize) -> usize {
    capacity * 8 / 7 * (size_of::<T>() + 1)
}
