//! Calls of user code that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code and returns its result, or `None` if it panicked. The payload of the panic may panic again when it is
/// dropped. The payload of that second panic is leaked.
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

/// Runs a user's code.
///
/// # Errors
///
/// The text that it panicked with.
#[cfg(any(feature = "dispatch", feature = "server"))]
pub(crate) fn catch_text<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        discard(panic);
        text.unwrap_or_else(|| "a panic without text".to_owned())
    })
}

/// Drops a user's value, and catches a panic.
pub(crate) fn discard<T>(value: T) {
    let _ = catch_panic(|| drop(value));
}

/// Drops a key and then its value, each of which may panic. Returns whether neither did.
pub(crate) fn drop_both<K, V>(key: K, extra: V) -> bool {
    catch_panic(|| drop(key)).is_some() & catch_panic(|| drop(extra)).is_some()
}

/// An iterator whose remaining items are dropped one by one, for example when a panic unwinds. If they were dropped as
/// a collection, a second item that panics would end the process.
pub(crate) struct OneByOne<I: Iterator> {
    /// The remaining items.
    items: I,
    /// Drops an item, and does not panic.
    dismantle: fn(I::Item),
}

impl<I: Iterator> OneByOne<I> {
    /// Iterates over `items`. The items that are not taken are passed to `dismantle`, which must not panic.
    pub(crate) fn new(items: I, dismantle: fn(I::Item)) -> Self {
        OneByOne { items, dismantle }
    }

    /// Returns the remaining items.
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
