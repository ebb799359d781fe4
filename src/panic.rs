//! Calls into code of the user's that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the user's; `None` if it panicked. What a panic carries may panic again when it is dropped, and what
/// that carries is leaked.
pub(crate) fn survive<T>(code: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(code));
    result
        .map_err(|panic| {
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
        })
        .ok()
}

/// Drops a key and then its value, each of which may panic. Returns whether neither did.
pub(crate) fn drop_both<K, V>(key: K, extra: V) -> bool {
    survive(|| drop(key)).is_some() & survive(|| drop(extra)).is_some()
}
