//! What the machine and the usual crates offer.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

/// The channel that carries a worker's answer to whoever waits for it.
pub(crate) mod answer {
    pub(crate) use crossbeam_channel::{Sender, bounded};
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
}
