//! What the machine and the usual crates offer.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

/// The channel that carries a worker's answer to whoever waits for it.
pub(crate) mod answer {
    pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
}

/// Atomics.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Threads.
pub(crate) mod thread {
    pub(crate) use std::thread::{
        Builder, JoinHandle, Thread, available_parallelism, current, park, park_timeout, yield_now,
    };

    /// Returns a number above zero that no other running thread has. A thread may get that of one that has ended.
    #[inline]
    pub(crate) fn token() -> usize {
        std::thread_local! {
            static ANCHOR: u8 = const { 0 };
        }
        ANCHOR.with(|anchor| std::ptr::from_ref(anchor).addr())
    }
}
