//! A queue of items, ordered by due time, with lazy deletion.
//!
//! If the time of an item changes, or the item is removed, its entry stays in the queue, because removing it from the
//! middle of a heap would require a search. The owner knows when each of its items is due, and the queue asks it about
//! each entry that comes to the top. Stale entries are dropped. Stale entries that do not come to the top are dropped
//! by [`sweep`](DueQueue::sweep) once they outnumber the others.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};

/// The number of stale entries that a queue may hold beyond the number of live ones; it is small in tests, so that
/// models reach it.
pub(crate) const STALE: usize = if cfg!(test) { 2 } else { 64 };

/// A queue of items of type `T`, with the earliest on top. `D` is a point in time, by default in ns; items that are due
/// at the same time are ordered by themselves.
#[derive(Debug)]
pub(crate) struct DueQueue<T, D = u64> {
    /// The entries, some of them stale.
    heap: BinaryHeap<Reverse<(D, T)>>,
}

impl<T: Ord, D: Ord> Default for DueQueue<T, D> {
    fn default() -> Self {
        DueQueue::new()
    }
}

impl<T: Ord, D: Ord> DueQueue<T, D> {
    /// Creates an empty queue, which allocates nothing.
    pub(crate) fn new() -> Self {
        DueQueue {
            heap: BinaryHeap::new(),
        }
    }

    /// Adds an entry for `item`. The owner decides whether an earlier entry for it is stale.
    pub(crate) fn push(&mut self, due: D, item: T) {
        self.heap.push(Reverse((due, item)));
    }
}

impl<T: Ord, D: Ord + Copy> DueQueue<T, D> {
    /// Returns the entry that is due first. Stale entries above it are dropped.
    pub(crate) fn peek(&mut self, mut is_live: impl FnMut(D, &T) -> bool) -> Option<(D, &T)> {
        self.settle(|due, item| is_live(due, item).then_some(due))
    }

    /// Returns the entry that is due first, where the time of an entry is a lower bound. `due_now` returns when the
    /// item of an entry is due, or `None` if the entry is stale. An entry whose item is due later moves down.
    pub(crate) fn settle(
        &mut self,
        mut due_now: impl FnMut(D, &T) -> Option<D>,
    ) -> Option<(D, &T)> {
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((bound, item)) = &*top;
            match due_now(*bound, item) {
                None => drop(PeekMut::pop(top)),
                Some(due) if due == *bound => break,
                Some(due) => top.0.0 = due,
            }
        }
        self.heap.peek().map(|Reverse((due, item))| (*due, item))
    }

    /// Takes the entry that is due first, if it is due at `now`. Stale entries above it are dropped.
    pub(crate) fn pop_due(&mut self, now: D, is_live: impl FnMut(D, &T) -> bool) -> Option<(D, T)> {
        self.peek(is_live).filter(|&(due, _)| due <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops the stale entries and all but one of equal entries, if there are more than [`STALE`] entries beyond twice
    /// the `live` ones. Called before or after each push, it keeps the queue that small, and costs a comparison then,
    /// or the sorting of at most twice as many entries as were pushed since the last time.
    pub(crate) fn sweep(&mut self, live: usize, is_live: impl FnMut(D, &T) -> bool) {
        if self.heap.len() > live.saturating_mul(2).saturating_add(STALE) {
            self.drop_stale(is_live);
        }
    }

    /// Drops the stale entries and all but one of equal entries.
    #[cold]
    fn drop_stale(&mut self, mut is_live: impl FnMut(D, &T) -> bool) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|Reverse((due, item))| is_live(*due, item));
        entries.sort_unstable();
        entries.dedup();
        self.heap = entries.into();
    }

    /// Replaces each item by what `map` returns for it, and drops the entries for which it returns `None`. Frees memory
    /// beyond twice the need.
    pub(crate) fn filter_map(&mut self, mut map: impl FnMut(D, T) -> Option<T>) {
        let entries = std::mem::take(&mut self.heap).into_vec().into_iter();
        let entries =
            entries.filter_map(|Reverse((due, item))| Some(Reverse((due, map(due, item)?))));
        self.heap = entries.collect();
        self.shrink();
    }

    /// Drops all entries, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }

    /// Frees memory beyond twice the need.
    pub(crate) fn shrink(&mut self) {
        self.heap.shrink_to(self.heap.len() * 2);
    }

    /// Returns the number of entries, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns the number of entries for which memory is allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.heap.capacity()
    }

    /// Returns the bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(D, T)>>()
    }

    /// Returns all entries, stale ones included, in any order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (D, &T)> {
        self.heap.iter().map(|Reverse((due, item))| (*due, item))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// An operation of the owner of a queue.
    #[derive(Clone, Debug)]
    enum Action {
        /// An item is due at another time than before, or for the first time.
        Set(u8, u64),
        /// An item is removed.
        Unset(u8),
        /// All items that are due at a time are taken out.
        PopDue(u64),
        /// All items are renamed.
        Rename,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (0..8u8, 0..20u64).prop_map(|(item, due)| Action::Set(item, due)),
            1 => (0..8u8).prop_map(Action::Unset),
            1 => (0..20u64).prop_map(Action::PopDue),
            1 => Just(Action::Rename),
        ]
    }

    /// The least of `model`, by time and item.
    fn first(model: &BTreeMap<u8, u64>) -> Option<(u64, u8)> {
        model.iter().map(|(&item, &due)| (due, item)).min()
    }

    proptest! {
        #[test]
        fn it_yields_what_a_map_yields(actions in proptest::collection::vec(action(), 1..100)) {
            let mut queue = DueQueue::new();
            let mut model = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Set(item, due) => {
                        model.insert(item, due);
                        queue.push(due, item);
                        queue.sweep(model.len(), |due, item| model.get(item) == Some(&due));
                    }
                    Action::Unset(item) => drop(model.remove(&item)),
                    Action::PopDue(now) => {
                        while let Some((due, item)) =
                            queue.pop_due(now, |due, item| model.get(item) == Some(&due))
                        {
                            prop_assert_eq!(Some((due, item)), first(&model));
                            model.remove(&item);
                        }
                        prop_assert!(first(&model).is_none_or(|(due, _)| due > now));
                    }
                    Action::Rename => {
                        let renamed = |item: u8| (item + 3) % 8;
                        let is_live = |due, item: &u8| model.get(item) == Some(&due);
                        queue.filter_map(|due, item| is_live(due, &item).then(|| renamed(item)));
                        let items = model.iter();
                        model = items.map(|(&item, &due)| (renamed(item), due)).collect();
                    }
                }
                prop_assert!(queue.len() <= 2 * 8 + STALE);
                let peeked = queue.peek(|due, item| model.get(item) == Some(&due));
                prop_assert_eq!(peeked.map(|(due, &item)| (due, item)), first(&model));
            }
        }

        #[test]
        fn an_entry_may_say_that_its_item_is_due_too_soon(
            pushed in proptest::collection::vec((0..20u64, 0..20u64), 8),
        ) {
            let mut queue = DueQueue::new();
            let mut model = BTreeMap::new();
            for (item, (due, later)) in (0..8u8).zip(pushed) {
                queue.push(due, item);
                model.insert(item, due + later);
            }
            while let Some((due, item)) = first(&model) {
                let settled = queue.settle(|_, item| model.get(item).copied());
                prop_assert_eq!(settled, Some((due, &item)));
                model.remove(&item);
            }
            prop_assert_eq!(queue.settle(|_, item| model.get(item).copied()), None);
        }
    }

    #[test]
    fn equal_entries_do_not_add_up() {
        let mut queue = DueQueue::new();
        for _ in 0..1_000 {
            queue.push(7, 'a');
            queue.sweep(1, |_, _| true);
            assert!(queue.len() <= 2 + STALE + 1);
        }
        assert_eq!(queue.pop_due(6, |_, _| true), None);
        assert_eq!(queue.pop_due(7, |_, _| true), Some((7, 'a')));
    }

    #[test]
    fn memory_is_given_back() {
        let mut queue = DueQueue::new();
        for item in 0..1_000u64 {
            queue.push(item, item);
        }
        queue.filter_map(|_, item| (item < 10).then_some(item));
        assert!(queue.len() == 10 && queue.capacity() <= 20);
        assert_eq!(queue.bytes(), queue.capacity() * 16);
        queue.clear();
        assert_eq!(queue.peek(|_, _| true), None);
    }
}
