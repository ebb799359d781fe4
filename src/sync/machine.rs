//! The primitives of the machine and of the usual crates.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

/// The channel of a worker's answer to a caller.
pub(crate) mod answer {
    pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
}

/// Atomics.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Threads.
pub(crate) mod thread {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(crate) use std::thread::{
        Builder, JoinHandle, Thread, available_parallelism, current, park, park_timeout, yield_now,
    };

    std::thread_local! {
        /// The number of this thread, or zero.
        static TOKEN: Cell<u32> = const { Cell::new(0) };
    }

    /// Returns the number of the current thread, or zero if it has not [taken](take_token) one yet.
    #[inline]
    pub(crate) fn token() -> u32 {
        TOKEN.get()
    }

    /// Returns a number greater than zero that no other thread has, or zero once 2^32 - 2 threads have taken one.
    #[cold]
    pub(crate) fn take_token() -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        if TOKEN.get() == 0 {
            let next = |last: u32| (last < u32::MAX - 1).then_some(last + 1);
            let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            TOKEN.set(last.map_or(0, |last| last + 1));
        }
        TOKEN.get()
    }
}
