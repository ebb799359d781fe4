//! The events that the sink has not taken, in the order they happened.
//!
//! A million keys that expire together must not allocate a million events: expired keys stay in their slots, chained
//! through `next`, and the queue only counts them by runs that were detected together. Other events stand in the queue
//! between the runs, so that each key's events keep their order.

use std::collections::VecDeque;

use super::ids::NIL;
use super::memory::SHRINK_DIVISOR;
use super::slab::Slab;
use crate::event::{Event, Generation};

/// What the sink is offered next.
#[derive(Debug)]
pub(super) enum Item<K, V> {
    /// The episode in `slot` expired, found out at `detected` ns. No longer chained.
    Expired {
        /// Where the key is.
        slot: u32,
        /// When it was found out, ns.
        detected: u64,
    },
    /// The key in `slot` is down and stays watched. What is reported of it stands in [`Down`](super::Down), so that there is
    /// one report of a key at most, and it says what holds when it is delivered.
    Report {
        /// Where the key is, if it is still watched.
        slot: u32,
        /// The episode that it is about.
        generation: Generation,
    },
    /// Anything else.
    Notice(Event<K, V>),
}

/// A stretch of the queue.
#[derive(Debug)]
enum Run<K, V> {
    /// The next `count` chained slots, found expired at `detected` ns.
    Expired { detected: u64, count: usize },
    /// One other item.
    Other(Item<K, V>),
}

/// From this many runs on, events that may be dropped are.
const PRESSURE: usize = 1_024;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<K, V> {
    /// The stretches, the oldest first.
    runs: VecDeque<Run<K, V>>,
    /// The oldest chained slot, or [`NIL`].
    head: u32,
    /// The newest chained slot, or [`NIL`].
    tail: u32,
    /// How many items were ever appended.
    pushed: u64,
    /// How many of them were taken and not put back.
    popped: u64,
}

impl<K, V> Queue<K, V> {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Queue {
            runs: VecDeque::new(),
            head: NIL,
            tail: NIL,
            pushed: 0,
            popped: 0,
        }
    }

    /// How many items were ever appended: those that are here now have left when so many were [taken](Queue::popped).
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many items were taken for good.
    pub(super) fn popped(&self) -> u64 {
        self.popped
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether there is so much here already that only what must not be lost should be added.
    pub(super) fn is_pressed(&self) -> bool {
        self.runs.len() >= PRESSURE
    }

    /// Whether so much waits that a table of up to `max_keys` keys should take no more of them. What its keys can still cause
    /// is bounded: a report and a recovery each, and a removal.
    pub(super) fn is_full(&self, max_keys: usize) -> bool {
        self.runs.len() >= max_keys.saturating_add(PRESSURE)
    }

    /// The bytes allocated, slots not among them.
    pub(super) fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run<K, V>>()
    }

    /// Appends the expiry of slot `at`, found out at `detected`.
    pub(super) fn push_expired(&mut self, slab: &mut Slab<K, V>, at: u32, detected: u64) {
        self.pushed += 1;
        slab[at].next = NIL;
        match self.tail {
            NIL => self.head = at,
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

    /// Appends anything but an expiry.
    pub(super) fn push(&mut self, item: Item<K, V>) {
        debug_assert!(!matches!(item, Item::Expired { .. }));
        self.pushed += 1;
        self.runs.push_back(Run::Other(item));
    }

    /// The expired slots, the oldest first.
    pub(super) fn iter_expired<'a>(
        &self,
        slab: &'a Slab<K, V>,
    ) -> impl Iterator<Item = u32> + use<'a, K, V> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let this = (at != NIL).then_some(at)?;
            at = slab[this].next;
            Some(this)
        })
    }

    /// Puts `item`, which is no expiry, to the head in place of the item that was popped last.
    pub(super) fn push_front(&mut self, item: Item<K, V>) {
        debug_assert!(!matches!(item, Item::Expired { .. }));
        self.popped -= 1;
        self.runs.push_front(Run::Other(item));
    }

    /// Takes the oldest item.
    pub(super) fn pop(&mut self, slab: &mut Slab<K, V>) -> Option<Item<K, V>> {
        if let Some(Run::Expired { detected, count }) = self.runs.front_mut() {
            self.popped += 1;
            let (slot, detected) = (self.head, *detected);
            *count -= 1;
            if *count == 0 {
                self.runs.pop_front();
            }
            self.head = slab[slot].next;
            if self.head == NIL {
                self.tail = NIL;
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

    /// Puts the item that was popped last back to the head.
    pub(super) fn put_back(&mut self, slab: &mut Slab<K, V>, item: Item<K, V>) {
        self.popped -= 1;
        let Item::Expired { slot, detected } = item else {
            return self.runs.push_front(Run::Other(item));
        };
        slab[slot].next = self.head;
        if self.head == NIL {
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

    /// Drops every key and value that waits here and not in a slot, one by one. The queue is of no use afterwards.
    pub(super) fn dismantle(&mut self) {
        for run in self.runs.drain(..) {
            if let Run::Other(Item::Notice(event)) = run {
                event.dismantle();
            }
        }
    }

    /// Gives back the memory of a queue that was long once. Costs two comparisons if it is not to.
    pub(super) fn shrink(&mut self) {
        let (len, capacity) = (self.runs.len(), self.runs.capacity());
        if capacity > PRESSURE && len < capacity / SHRINK_DIVISOR {
            self.runs.shrink_to(PRESSURE.max(len * 2));
        }
    }

    /// Panics unless the chain is as long as the runs say and holds no live key.
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
            if slab[at].next == NIL {
                assert_eq!(self.tail, at, "tail of the chain");
            }
            at = slab[at].next;
        }
        assert_eq!(at, NIL, "the chain is longer than the runs");
    }
}
