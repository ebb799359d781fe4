//! Puts the length of a body in front of it after it was written, so that it is encoded where it belongs.

/// Inserts `prefix` at `start` of `out`.
pub(super) fn insert(out: &mut Vec<u8>, start: usize, prefix: &[u8]) {
    let end = out.len();
    out.extend_from_slice(prefix);
    out.copy_within(start..end, start + prefix.len());
    out[start..start + prefix.len()].copy_from_slice(prefix);
}
