//! Which group a thread belongs to, and which group waits for which.
//!
//! A group's thread that waits for another group, whose thread waits for the first one, would wait for ever. The waits
//! of all groups form a graph in which each group has at most one edge. An edge that would close a circle is refused.
//! The graph is one for the process, because a circle may consist of groups that know nothing of each other. Its lock
//! is taken only when the thread of a group waits for a group, and is held for as many steps as the chain of waits has.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sync::thread_local;

thread_local! {
    /// The id of the group whose thread this is, or zero.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
    /// The id of the group for which this thread runs slow calls, or zero.
    static SLOW_OF: Cell<u64> = const { Cell::new(0) };
}

/// The group for which each waiting group waits. This is a lock of the machine in the models too: nothing is scheduled
/// while it is held.
static WAITS: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// Returns an id that no other group of this process has.
pub(super) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Makes the current thread the one of group `id`.
pub(super) fn enter(id: u64) {
    CURRENT.with(|current| current.set(id));
}

/// Makes the current thread one for slow calls of group `id`.
pub(super) fn enter_slow(id: u64) {
    SLOW_OF.with(|slow_of| slow_of.set(id));
}

/// Returns whether the current thread runs slow calls of group `id`.
pub(super) fn is_slow_of(id: u64) -> bool {
    SLOW_OF.with(Cell::get) == id
}

/// Returns whether the current thread is the one of group `id`.
pub(super) fn is_current(id: u64) -> bool {
    CURRENT.with(Cell::get) == id
}

/// A wait for a group, until this is dropped.
pub(super) struct Wait {
    /// The group whose edge is removed when this is dropped, or zero. A wait within a wait for the same group leaves
    /// the edge to the outer one.
    from: u64,
}

impl Wait {
    /// Declares that the current thread waits for group `to`. Returns `None` if that group waits for the group of the
    /// current thread, directly or through others.
    pub(super) fn begin(to: u64) -> Option<Self> {
        let from = CURRENT.with(Cell::get);
        if from == 0 {
            return Some(Wait { from });
        }
        let mut waits = waits();
        let mut chain = std::iter::successors(Some(to), |at| waits.get(at).copied());
        if chain.any(|at| at == from) {
            return None;
        }
        let is_inner = waits.insert(from, to).is_some();
        Some(Wait {
            from: if is_inner { 0 } else { from },
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.from != 0 {
            waits().remove(&self.from);
        }
    }
}

/// Locks the graph.
fn waits() -> MutexGuard<'static, BTreeMap<u64, u64>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(any(loom, shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    /// Begins a wait of group `from`.
    fn wait(from: u64, to: u64) -> Option<Wait> {
        enter(from);
        let wait = Wait::begin(to);
        enter(0);
        wait
    }

    #[test]
    fn a_wait_that_closes_a_circle_is_refused() {
        let [a, b, c, d] = [(); 4].map(|()| next_id());
        assert!(wait(a, a).is_none());
        let first = wait(a, b).unwrap();
        let second = wait(b, c).unwrap();
        assert!(wait(c, a).is_none() && wait(c, b).is_none() && wait(c, c).is_none());
        let third = wait(c, d).unwrap();
        assert!(wait(d, a).is_none());
        drop(second);
        assert!(wait(b, a).is_none());
        assert!(wait(d, a).is_some());
        drop((first, third));
        assert!(wait(b, a).is_some());
    }

    #[test]
    fn a_wait_within_a_wait_leaves_the_edge() {
        let (a, b) = (next_id(), next_id());
        let outer = wait(a, b).unwrap();
        drop(wait(a, b).unwrap());
        assert!(wait(b, a).is_none());
        drop(outer);
        assert!(wait(b, a).is_some());
    }

    #[test]
    fn a_thread_of_no_group_may_wait_for_every_group() {
        let (a, b) = (next_id(), next_id());
        let _first = wait(a, b).unwrap();
        assert!(Wait::begin(a).is_some() && Wait::begin(b).is_some());
    }
}
