//! What a worker shares with those who want to end its call: which attempt it runs, and whether that is cancelled.

use std::time::Duration;

use super::cause::Cause;
use crate::clock::{Clock, nanos};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// How many bits of the word are the cause.
const CAUSE_BITS: u32 = 3;

/// The seat of a worker.
///
/// One word holds the number of the start that runs and the cause for which it is cancelled, zero if it is not, so that a
/// cancellation never meets the next call: it replaces the word of its own start or none.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// `fence << CAUSE_BITS | cause`.
    word: AtomicU64,
    /// Held between a look at the word and falling asleep.
    lock: Mutex<()>,
    /// Notified when the word gets a cause.
    cancelled: Condvar,
}

impl Seat {
    /// The start `fence` begins. Afterwards no cancellation of an earlier one has an effect.
    pub(crate) fn begin(&self, fence: u64) {
        self.word.store(fence << CAUSE_BITS, Ordering::Release);
    }

    /// Cancels the start `fence`, if it runs. The first cause stays, except that [`Cause::TooLong`] gives way to any other.
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

    /// Ends the effect of [`Cause::TooLong`], which one call of the start `fence` has and the next has not.
    pub(crate) fn forgive(&self, fence: u64) {
        let word = fence << CAUSE_BITS;
        let too_long = word | u64::from(Cause::TooLong.number());
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.word.compare_exchange(too_long, word, success, failure);
    }

    /// Wakes the call that waits here, which looks again.
    pub(crate) fn ring(&self) {
        drop(self.lock.lock());
        self.cancelled.notify_all();
    }

    /// Why what runs is cancelled, if it is.
    pub(crate) fn cause(&self) -> Option<Cause> {
        Cause::from_number(cause_of(self.word.load(Ordering::Acquire)))
    }

    /// Blocks until what runs is cancelled, for at most `wait` of `clock`. Returns whether it is cancelled.
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
