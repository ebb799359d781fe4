//! The events that the sink has not taken, in the order in which they occurred.
//!
//! A million keys that expire together must not allocate a million events. Expired keys therefore stay in their slots,
//! chained through `next`, and the queue only counts runs of keys that were detected together. Other events stand
//! between the runs, so that the events of each key keep their order.

use std::collections::VecDeque;

use super::ids::SlotId;
use super::memory::SHRINK_DIVISOR;
use super::slab::Slab;
use crate::event::{Event, Generation};

/// The item that is offered to the sink next.
#[derive(Debug)]
pub(super) enum Item<K, V> {
    /// The episode in `slot` expired, detected at `detected` ns. The slot is no longer chained.
    Expired {
        /// The slot of the key.
        slot: SlotId,
        /// When the expiry was detected, ns.
        detected: u64,
    },
    /// The key in `slot` is down and stays watched. The contents of its report are in [`Down`](super::Down). A key has
    /// at most one report, which describes the state at its delivery.
    Report {
        /// The slot of the key, if the key is still watched.
        slot: SlotId,
        /// The episode that the report is about.
        generation: Generation,
    },
    /// Any other event.
    Notice(Event<K, V>),
}

/// A section of the queue.
#[derive(Debug)]
enum Run<K, V> {
    /// The next `count` chained slots, whose expiry was detected at `detected` ns.
    Expired { detected: u64, count: usize },
    /// One other item.
    Other(Item<K, V>),
}

/// The number of sections from which on droppable events are dropped.
const PRESSURE: usize = 1_024;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<K, V> {
    /// The sections, the oldest first.
    runs: VecDeque<Run<K, V>>,
    /// The oldest chained slot, or [`SlotId::NIL`].
    head: SlotId,
    /// The newest chained slot, or [`SlotId::NIL`].
    tail: SlotId,
    /// The number of items that were ever appended.
    pushed: u64,
    /// The number of items that were taken and not put back.
    popped: u64,
}

impl<K, V> Queue<K, V> {
    /// Creates an empty queue.
    pub(super) fn new() -> Self {
        Queue {
            runs: VecDeque::new(),
            head: SlotId::NIL,
            tail: SlotId::NIL,
            pushed: 0,
            popped: 0,
        }
    }

    /// Returns the number of items that were ever appended. The items that wait now have left when this many were
    /// [taken](Queue::popped).
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Returns the number of items that were taken for good.
    pub(super) fn popped(&self) -> u64 {
        self.popped
    }

    /// Returns whether the queue is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns whether the queue is so long that only items that must not be lost should be added.
    pub(super) fn is_pressed(&self) -> bool {
        self.runs.len() >= PRESSURE
    }

    /// Returns whether the queue is so long that a table of up to `max_keys` keys should accept no further key. The
    /// events that its present keys can still cause are bounded: a report and a recovery each, and a removal.
    pub(super) fn is_full(&self, max_keys: usize) -> bool {
        self.runs.len() >= max_keys.saturating_add(PRESSURE)
    }

    /// Returns the number of bytes allocated, without slots.
    pub(super) fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run<K, V>>()
    }

    /// Appends the expiry of slot `at`, detected at `detected`.
    pub(super) fn push_expired(&mut self, slab: &mut Slab<K, V>, at: SlotId, detected: u64) {
        self.pushed += 1;
        slab[at].next = SlotId::NIL;
        match self.tail {
            SlotId::NIL => self.head = at,
            tail => slab[tail].next = at,
        }
        self.tail = at;
        match self.runs.back_mut() {
            Some(Run::Expired {
                detected: last,
                count,
            }) if *last == detected => *count += 1,
            _ => self.runs.push_back(Run::Expired { detected, count: 1 }),
        }
    }

    /// Appends any item except an expiry.
    pub(super) fn push(&mut self, item: Item<K, V>) {
        debug_assert!(!matches!(item, Item::Expired { .. }));
        self.pushed += 1;
        self.runs.push_back(Run::Other(item));
    }

    /// Puts `item`, which is not an expiry, at the head in place of the item that was popped last.
    pub(super) fn push_front(&mut self, item: Item<K, V>) {
        debug_assert!(!matches!(item, Item::Expired { .. }));
        self.popped -= 1;
        self.runs.push_front(Run::Other(item));
    }

    /// Removes and returns the oldest item.
    pub(super) fn pop(&mut self, slab: &mut Slab<K, V>) -> Option<Item<K, V>> {
        if let Some(Run::Expired { detected, count }) = self.runs.front_mut() {
            self.popped += 1;
            let (slot, detected) = (self.head, *detected);
            *count -= 1;
            if *count == 0 {
                self.runs.pop_front();
            }
            self.head = slab[slot].next;
            if self.head == SlotId::NIL {
                self.tail = SlotId::NIL;
            }
            return Some(Item::Expired { slot, detected });
        }
        match self.runs.pop_front()? {
            Run::Other(item) => {
                self.popped += 1;
                Some(item)
            }
            Run::Expired { .. } => unreachable!("the front is not a run of expiries"),
        }
    }

    /// Puts the item that was popped last back at the head.
    pub(super) fn put_back(&mut self, slab: &mut Slab<K, V>, item: Item<K, V>) {
        self.popped -= 1;
        let Item::Expired { slot, detected } = item else {
            return self.runs.push_front(Run::Other(item));
        };
        slab[slot].next = self.head;
        if self.head == SlotId::NIL {
            self.tail = slot;
        }
        self.head = slot;
        match self.runs.front_mut() {
            Some(Run::Expired {
                detected: first,
                count,
            }) if *first == detected => *count += 1,
            _ => self.runs.push_front(Run::Expired { detected, count: 1 }),
        }
    }

    /// Drops every key and value that waits here and not in a slot, one by one. The queue cannot be used afterwards.
    pub(super) fn dismantle(&mut self) {
        for run in self.runs.drain(..) {
            if let Run::Other(Item::Notice(event)) = run {
                event.dismantle();
            }
        }
    }

    /// Returns the memory of a queue that was once long. If there is nothing to do, this costs two comparisons.
    pub(super) fn shrink(&mut self) {
        let (len, capacity) = (self.runs.len(), self.runs.capacity());
        if capacity > PRESSURE && len < capacity / SHRINK_DIVISOR {
            self.runs.shrink_to(PRESSURE.max(len * 2));
        }
    }

    /// Panics unless the length of the chain matches the sections and the chain holds no live key.
    #[cfg(test)]
    pub(super) fn validate(&self, slab: &Slab<K, V>) {
        use super::slab::State;

        let counts = self.runs.iter().map(|run| match run {
            Run::Expired { count, .. } => *count,
            Run::Other(_) => 0,
        });
        let chained = counts.sum();
        let others = |run: &&Run<K, V>| matches!(run, Run::Other(_));
        let waiting = chained + self.runs.iter().filter(others).count();
        assert_eq!(self.pushed - self.popped, waiting as u64, "items counted");
        let mut at = self.head;
        for _ in 0..chained {
            assert!(
                !matches!(slab.body(at).state, State::Listed | State::Deferred),
                "slot {at} is live and queued"
            );
            if slab[at].next == SlotId::NIL {
                assert_eq!(self.tail, at, "tail of the chain");
            }
            at = slab[at].next;
        }
        assert_eq!(at, SlotId::NIL, "the chain is longer than the runs");
    }
}
