//! The locks, atomics, threads and clock readings that threads meet by: those of the machine, or in a model those of a
//! schedule explorer.
//!
//! The only place that decides. `cfg(shuttle)` and `cfg(loom)` count in unit tests alone, where the explorers are; any
//! other build has the machine's own, by plain re-export.

#[cfg(all(test, any(shuttle, loom)))]
mod explored;
#[cfg(not(all(test, any(shuttle, loom))))]
mod machine;

#[cfg(all(test, any(shuttle, loom)))]
use explored as source;
#[cfg(not(all(test, any(shuttle, loom))))]
use machine as source;

pub(crate) use source::{
    Condvar, Instant, Mutex, MutexGuard, answer, atomic, thread, thread_local,
};

/// A size: `machine`, or in models, where no more than a handful of anything ever waits, `model`.
pub(crate) const fn sized(machine: usize, model: usize) -> usize {
    if cfg!(all(test, any(shuttle, loom))) {
        model
    } else {
        machine
    }
}
