//! State that a worker shares with threads that may cancel its call: the attempt that it runs, and whether the attempt
//! is cancelled.

use std::time::Duration;

use super::cause::Cause;
use crate::clock::{Clock, nanos};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// The number of bits of the word that hold the cause.
const CAUSE_BITS: u32 = 3;

/// The seat of a worker.
///
/// One word holds the number of the running start and the cause of its cancellation, or zero if it is not cancelled. A
/// cancellation replaces the word only if it still holds the same start, so it never affects a later one.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// `fence << CAUSE_BITS | cause`.
    word: AtomicU64,
    /// Held from reading the word until falling asleep.
    lock: Mutex<()>,
    /// Notified when the word gets a cause.
    cancelled: Condvar,
}

impl Seat {
    /// Begins the start `fence`. After this, no cancellation of an earlier start has an effect.
    pub(crate) fn begin(&self, fence: u64) {
        self.word.store(fence << CAUSE_BITS, Ordering::Release);
    }

    /// Cancels the start `fence`, if it runs. The first cause is kept, except that any other cause replaces
    /// [`Cause::TooLong`].
    pub(crate) fn cancel(&self, fence: u64, cause: Cause) {
        let (order, look) = (Ordering::AcqRel, Ordering::Acquire);
        let cancelled = self.word.fetch_update(order, look, |word| {
            let is_replaced = match Cause::from_number(cause_of(word)) {
                None => true,
                Some(earlier) => earlier == Cause::TooLong && cause != Cause::TooLong,
            };
            let is_wanted = word >> CAUSE_BITS == fence && is_replaced;
            is_wanted.then_some(fence << CAUSE_BITS | u64::from(cause.number()))
        });
        if cancelled.is_ok() {
            self.ring();
        }
    }

    /// Clears [`Cause::TooLong`], which applies to one call of the start `fence` and not to the next call.
    pub(crate) fn forgive(&self, fence: u64) {
        let word = fence << CAUSE_BITS;
        let too_long = word | u64::from(Cause::TooLong.number());
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.word.compare_exchange(too_long, word, success, failure);
    }

    /// Wakes the call that waits here, so that it checks again.
    pub(crate) fn ring(&self) {
        drop(self.lock.lock());
        self.cancelled.notify_all();
    }

    /// The cause for which the running attempt is cancelled, if any.
    pub(crate) fn cause(&self) -> Option<Cause> {
        Cause::from_number(cause_of(self.word.load(Ordering::Acquire)))
    }

    /// Blocks until the running attempt is cancelled, for at most `wait` of `clock`. Returns whether it is cancelled.
    pub(crate) fn wait(&self, clock: &Clock, wait: Duration) -> bool {
        let end = clock.now_ns().saturating_add(nanos(wait));
        let mut guard = self.lock.lock();
        loop {
            if self.cause().is_some() {
                return true;
            }
            if clock.now_ns() >= end {
                return false;
            }
            clock.wait_until(&self.cancelled, &mut guard, Some(end));
        }
    }
}

/// The number of the cause in `word`.
fn cause_of(word: u64) -> u8 {
    (word & ((1 << CAUSE_BITS) - 1)) as u8
}
