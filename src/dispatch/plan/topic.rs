//! The plan's state of one topic.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::counts::Counts;
use crate::dispatch::id::EventId;
use crate::due::DueQueue;

/// The number of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) u32);

impl TopicId {
    /// The index of the topic.
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// The limits on the starts of a topic's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The number of events that may run at the same time.
    pub(crate) parallel: usize,
    /// The minimum time between two starts, ns.
    pub(crate) interval: u64,
}

/// The place of a topic in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Neither: it starts no event at any time.
    Nowhere,
    /// In the ring of topics that start an event now.
    Ring,
    /// In the heap of topics that start an event later, at this time, ns.
    Later(u64),
}

/// An event that was due when it was emitted, and waits.
#[derive(Debug)]
pub(super) struct AtOnce<P> {
    /// Its id.
    pub(super) id: EventId,
    /// When it was due, ns.
    pub(super) due: u64,
    /// The payload; `None` if the event no longer waits.
    pub(super) payload: Option<P>,
}

/// The event that starts next.
#[derive(Debug)]
pub(super) enum First<P> {
    /// An event of the deque: its id, due time and payload.
    AtOnce(EventId, u64, P),
    /// An event with a record.
    Record(EventId),
}

/// A topic.
#[derive(Debug)]
pub(super) struct Board<P> {
    /// The limits on its starts; `None` while it has no handler.
    pub(super) limits: Option<Limits>,
    /// Whether it is paused.
    pub(super) is_paused: bool,
    /// How many of its events may be unfinished.
    pub(super) max_unfinished: usize,
    /// The number of its events that occupy a worker, including stale ones.
    pub(super) busy: usize,
    /// Before this time it starts no event, ns.
    rate_from: u64,
    /// Its place in the plan.
    pub(super) place: Place,
    /// The waiting events that were due when they were emitted. Due times and ids increase.
    pub(super) at_once: VecDeque<AtOnce<P>>,
    /// All other waiting events.
    pub(super) later: DueQueue<EventId>,
    /// The dead events, by the time at which they became dead and by id.
    pub(super) dead: BTreeSet<(u64, EventId)>,
    /// The unfinished events with a unique key.
    pub(super) unique: HashMap<Arc<str>, EventId, ahash::RandomState>,
    /// The counters.
    pub(super) counts: Counts,
}

impl<P> Board<P> {
    /// A topic without handlers.
    pub(super) fn new(max_unfinished: usize) -> Self {
        Board {
            limits: None,
            is_paused: false,
            max_unfinished,
            busy: 0,
            rate_from: 0,
            place: Place::Nowhere,
            at_once: VecDeque::new(),
            later: DueQueue::new(),
            dead: BTreeSet::new(),
            unique: HashMap::default(),
            counts: Counts::default(),
        }
    }

    /// Whether an event that is due at `due` follows all that are in the deque.
    pub(super) fn follows_all(&self, due: u64) -> bool {
        self.at_once.back().is_none_or(|last| last.due <= due)
    }

    /// Adds event `id` to the deque. The id is higher than all earlier ones.
    pub(super) fn push_at_once(&mut self, id: EventId, due: u64, payload: P) {
        self.counts.waiting += 1;
        let payload = Some(payload);
        self.at_once.push_back(AtOnce { id, due, payload });
    }

    /// Takes the payload of event `id`, if it waits in the deque. Its entry stays.
    pub(super) fn take_at_once(&mut self, id: EventId) -> Option<P> {
        let at = self
            .at_once
            .binary_search_by_key(&id, |event| event.id)
            .ok()?;
        self.at_once[at].payload.take()
    }

    /// Frees the unique key of an event, if it has one.
    pub(super) fn free_key(&mut self, key: Option<&Arc<str>>) {
        if let Some(key) = key {
            self.unique.remove(key);
        }
    }

    /// Records that an event of the topic starts at `now`.
    #[inline]
    pub(super) fn started(&mut self, now: u64) {
        self.counts.waiting -= 1;
        self.counts.running += 1;
        self.busy += 1;
        let interval = self.limits.map_or(0, |limits| limits.interval);
        self.rate_from = now.saturating_add(interval);
    }

    /// When it starts its next event, ns, if it only waits for a time.
    pub(super) fn next_start(&mut self, is_live: impl Fn(u64, &EventId) -> bool) -> Option<u64> {
        let limits = self.limits?;
        if self.is_paused || self.busy >= limits.parallel {
            return None;
        }
        let (due, _) = self.first(is_live)?;
        Some(if limits.interval == 0 {
            due
        } else {
            due.max(self.rate_from)
        })
    }

    /// The first event that waits: its due time and id.
    #[inline]
    fn first(&mut self, is_live: impl Fn(u64, &EventId) -> bool) -> Option<(u64, EventId)> {
        while self
            .at_once
            .front()
            .is_some_and(|event| event.payload.is_none())
        {
            self.at_once.pop_front();
        }
        let at_once = self.at_once.front().map(|event| (event.due, event.id));
        let later = self.later.peek(is_live).map(|(due, id)| (due, *id));
        at_once.into_iter().chain(later).min()
    }

    /// Takes the first event that waits, if one may start at `now`.
    #[inline]
    pub(super) fn pop(
        &mut self,
        now: u64,
        is_live: impl Fn(u64, &EventId) -> bool,
    ) -> Option<First<P>> {
        let limits = self.limits?;
        if self.is_paused || self.busy >= limits.parallel || !self.is_paced(now) {
            return None;
        }
        let (due, id) = self.first(&is_live).filter(|(due, _)| *due <= now)?;
        if self.at_once.front().is_some_and(|event| event.id == id) {
            let payload = self.at_once.pop_front()?.payload?;
            return Some(First::AtOnce(id, due, payload));
        }
        self.later.pop_due(due, is_live);
        Some(First::Record(id))
    }

    /// Whether its rate allows a start at `now`.
    #[inline]
    fn is_paced(&self, now: u64) -> bool {
        self.limits
            .is_none_or(|limits| limits.interval == 0 || self.rate_from <= now)
    }

    /// Whether the topic probably may start an event at `now`. This check is cheap. It may be wrong if the event has
    /// been cancelled.
    #[inline]
    pub(super) fn seems_ready(&self, now: u64) -> bool {
        let has_place = self
            .limits
            .is_some_and(|limits| self.busy < limits.parallel);
        let due = self.at_once.front().is_some_and(|event| event.due <= now);
        has_place && due && !self.is_paused && self.is_paced(now)
    }

    /// Drops the entries of events that no longer wait, if they outnumber the others.
    pub(super) fn sweep(&mut self, is_live: impl Fn(u64, &EventId) -> bool) {
        self.later.sweep(self.counts.waiting as usize, &is_live);
        if self.at_once.len() > 2 * self.counts.waiting as usize + 64 {
            self.at_once.retain(|event| event.payload.is_some());
        }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.at_once.len() + self.later.len()
    }

    /// Whether there is an entry in the heap of an event that is due at `due`.
    #[cfg(test)]
    pub(super) fn has_entry(&self, due: u64, id: EventId) -> bool {
        self.later.iter().any(|(at, it)| (at, *it) == (due, id))
    }
}
