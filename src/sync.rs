//! The locks, atomics, threads and clock readings by which threads communicate: those of the machine, or those of a
//! schedule explorer in its models.
//!
//! Only this module selects between them. `cfg(shuttle)` and `cfg(loom)` take effect in unit tests only, where the
//! explorers are available. Every other build re-exports the types of the machine.

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

/// Selects a size: `machine`, or `model` in models, in which only a handful of messages ever wait.
pub(crate) const fn sized(machine: usize, model: usize) -> usize {
    if cfg!(all(test, any(shuttle, loom))) {
        model
    } else {
        machine
    }
}
