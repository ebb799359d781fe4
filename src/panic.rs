//! Calls into code of the user's that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the user's; `None` if it panicked. What a panic carries may panic again when it is dropped, and what
/// that carries is leaked.
pub(crate) fn catch_panic<T>(code: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(code));
    result
        .map_err(|panic| {
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                std::mem::forget(again);
            }
        })
        .ok()
}

/// Drops something of the user's; a panic is caught.
pub(crate) fn discard<T>(value: T) {
    let _ = catch_panic(|| drop(value));
}

/// Drops a key and then its value, each of which may panic. Returns whether neither did.
pub(crate) fn drop_both<K, V>(key: K, extra: V) -> bool {
    catch_panic(|| drop(key)).is_some() & catch_panic(|| drop(extra)).is_some()
}

/// The items of an iterator, of which those that nobody takes are dropped one by one, for example because a panic unwinds.
/// Where a collection is dropped as a whole, a second item that panics ends the process.
pub(crate) struct OneByOne<I: Iterator> {
    /// What is left.
    items: I,
    /// Drops an item, and does not panic.
    dismantle: fn(I::Item),
}

impl<I: Iterator> OneByOne<I> {
    /// The items of `items`; the ones that nobody takes are given to `dismantle`, which must not panic.
    pub(crate) fn new(items: I, dismantle: fn(I::Item)) -> Self {
        OneByOne { items, dismantle }
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &I {
        &self.items
    }
}

impl<I: Iterator> Iterator for OneByOne<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        self.items.next()
    }
}

impl<I: Iterator> Drop for OneByOne<I> {
    fn drop(&mut self) {
        self.items.by_ref().for_each(self.dismantle);
    }
}
