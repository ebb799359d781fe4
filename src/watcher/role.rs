//! What the current thread is to a watcher: a thread of the user's, or one of the watcher's own, which must not wait for
//! each other.

use std::cell::Cell;
use std::sync::atomic;

use crate::sync::thread_local;

/// The number of a watcher in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatcherId(u64);

impl WatcherId {
    /// A number no other watcher has; zero is none's. In no model: no thread learns anything from it.
    pub(crate) fn new() -> Self {
        static LAST: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        WatcherId(LAST.fetch_add(1, atomic::Ordering::Relaxed) + 1)
    }
}

/// What a thread is to a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of the user's threads.
    Caller,
    /// A worker.
    Worker,
    /// A worker of another watcher.
    WorkerOfAnother,
    /// The delivery thread.
    Delivery,
    /// The delivery thread of another watcher.
    DeliveryOfAnother,
}

thread_local! {
    /// Whose thread this is, and in which role.
    static ROLE: Cell<(WatcherId, Role)> = const { Cell::new((WatcherId(0), Role::Caller)) };
}

/// Makes the current thread one of the watcher's own.
pub(crate) fn enter(id: WatcherId, role: Role) {
    ROLE.with(|mine| mine.set((id, role)));
}

/// What the current thread is to the watcher `id`.
#[inline]
pub(crate) fn of_current_thread(id: WatcherId) -> Role {
    match ROLE.with(Cell::get) {
        (mine, role) if mine == id => role,
        (_, Role::Worker) => Role::WorkerOfAnother,
        (_, Role::Delivery) => Role::DeliveryOfAnother,
        _ => Role::Caller,
    }
}

/// Whether the current thread must not wait for a worker: it is one, of whatever watcher. Workers of two watchers whose
/// callbacks call the other watcher would wait for each other.
#[inline]
pub(crate) fn must_not_wait() -> bool {
    ROLE.with(Cell::get).1 == Role::Worker
}
