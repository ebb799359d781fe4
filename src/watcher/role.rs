//! The role of the current thread for a watcher: a thread of the user, or a thread of a watcher. Threads of watchers
//! must not wait for each other.

use std::cell::Cell;
use std::sync::atomic;

use crate::sync::thread_local;

/// The number of a watcher in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatcherId(u64);

impl WatcherId {
    /// Returns a number that no other watcher has. Zero belongs to none. Not part of any model, because no thread
    /// learns anything from it.
    pub(crate) fn new() -> Self {
        static LAST: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        WatcherId(LAST.fetch_add(1, atomic::Ordering::Relaxed) + 1)
    }
}

/// The role of a thread for a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A thread of the user.
    Caller,
    /// A worker of the watcher.
    Worker,
    /// A worker of another watcher.
    WorkerOfAnother,
    /// The delivery thread of the watcher.
    Delivery,
    /// The delivery thread of another watcher.
    DeliveryOfAnother,
}

thread_local! {
    /// The watcher that this thread belongs to, and its role there.
    static ROLE: Cell<(WatcherId, Role)> = const { Cell::new((WatcherId(0), Role::Caller)) };
}

/// Registers the current thread as a thread of a watcher.
pub(crate) fn enter(id: WatcherId, role: Role) {
    ROLE.with(|mine| mine.set((id, role)));
}

/// Returns the role of the current thread for the watcher `id`.
#[inline]
pub(crate) fn of_current_thread(id: WatcherId) -> Role {
    match ROLE.with(Cell::get) {
        (mine, role) if mine == id => role,
        (_, Role::Worker) => Role::WorkerOfAnother,
        (_, Role::Delivery) => Role::DeliveryOfAnother,
        _ => Role::Caller,
    }
}

/// Returns whether the current thread must not wait for a worker, because it is a worker of any watcher. Workers of two
/// watchers whose callbacks call the other watcher would wait for each other.
#[inline]
pub(crate) fn must_not_wait() -> bool {
    ROLE.with(Cell::get).1 == Role::Worker
}
