//! What collections have allocated, and when it is worth giving back.

/// What has room for fewer entries than this is not worth shrinking.
const SHRINK_FLOOR: usize = 4_096;

/// What grew is shrunk when less than one part in this many is taken.
pub(super) const SHRINK_DIVISOR: usize = 8;

/// Whether `len` entries leave so much of the room for `capacity` empty that it is worth giving back.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    len * SHRINK_DIVISOR < capacity && capacity >= SHRINK_FLOOR
}

/// The bytes that a map of entries `T` with room for `capacity` of them has allocated: it has a byte of its own for each
/// bucket, and 8 buckets for at most 7 entries.
pub(super) fn map_bytes<T>(capacity: usize) -> usize {
    capacity * 8 / 7 * (size_of::<T>() + 1)
}
