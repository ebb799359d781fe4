//! What the plan knows of one topic.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::counts::Counts;
use crate::dispatch::id::EventId;
use crate::due::DueQueue;

/// The number of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(super) u32);

impl TopicId {
    /// The topic's place among all.
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// How fast a topic may start its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many run at a time.
    pub(crate) parallel: usize,
    /// The least time between two starts, ns.
    pub(crate) interval: u64,
}

/// Where the plan has a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It starts no event, whatever the time.
    Nowhere,
    /// In the ring of those that start one now.
    Ring,
    /// Among those that start one later, at this time, ns.
    Later(u64),
}

/// A topic.
#[derive(Debug)]
pub(super) struct Board {
    /// How fast it may start events; `None` while it has no handler.
    pub(super) limits: Option<Limits>,
    /// Whether it starts none because it is paused.
    pub(super) is_paused: bool,
    /// How many of its events may be unfinished.
    pub(super) max_unfinished: usize,
    /// How many of its events occupy a worker, stale ones too.
    pub(super) busy: usize,
    /// Before this time it starts no event, ns.
    rate_from: u64,
    /// Where the plan has it.
    pub(super) place: Place,
    /// Events that wait and were due when they came here, by due time and id, which rise.
    at_once: VecDeque<(u64, EventId)>,
    /// All others that wait.
    later: DueQueue<EventId>,
    /// The dead, by the time of death and id.
    pub(super) dead: BTreeSet<(u64, EventId)>,
    /// The unfinished events with a unique key.
    pub(super) unique: HashMap<Arc<str>, EventId>,
    /// What happened.
    pub(super) counts: Counts,
}

impl Board {
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
            unique: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Event `id` waits from now on.
    pub(super) fn enter_waiting(&mut self, id: EventId, due: u64, now: u64) {
        self.counts.waiting += 1;
        self.insert(id, due, now);
    }

    /// Adds the entry of an event that waits: to the deque if it is due and follows all that are there, else to the heap.
    pub(super) fn insert(&mut self, id: EventId, due: u64, now: u64) {
        if due <= now && self.at_once.back().is_none_or(|last| *last < (due, id)) {
            self.at_once.push_back((due, id));
        } else {
            self.later.push(due, id);
        }
    }

    /// An event of it starts at `now`.
    pub(super) fn started(&mut self, now: u64) {
        self.counts.waiting -= 1;
        self.counts.running += 1;
        self.busy += 1;
        let interval = self.limits.map_or(0, |limits| limits.interval);
        self.rate_from = now.saturating_add(interval);
    }

    /// When it starts its next event, ns, if time is all it waits for.
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

    /// The first event that waits.
    fn first(&mut self, is_live: impl Fn(u64, &EventId) -> bool) -> Option<(u64, EventId)> {
        while let Some(&(due, id)) = self.at_once.front()
            && !is_live(due, &id)
        {
            self.at_once.pop_front();
        }
        let at_once = self.at_once.front().copied();
        let later = self.later.peek(is_live).map(|(due, id)| (due, *id));
        at_once.into_iter().chain(later).min()
    }

    /// Takes the first event that waits, if one may start at `now`.
    pub(super) fn pop(
        &mut self,
        now: u64,
        is_live: impl Fn(u64, &EventId) -> bool,
    ) -> Option<EventId> {
        let limits = self.limits?;
        if self.is_paused || self.busy >= limits.parallel || !self.is_paced(now) {
            return None;
        }
        let first = self.first(&is_live).filter(|(due, _)| *due <= now)?;
        if self.at_once.front() == Some(&first) {
            self.at_once.pop_front();
        } else {
            self.later.pop_due(first.0, is_live);
        }
        Some(first.1)
    }

    /// Whether its rate lets it start an event at `now`.
    fn is_paced(&self, now: u64) -> bool {
        self.limits
            .is_none_or(|limits| limits.interval == 0 || self.rate_from <= now)
    }

    /// Whether it looks as if it may start an event at `now`: a look that costs nothing, and may be wrong if the event has
    /// been cancelled.
    pub(super) fn seems_ready(&self, now: u64) -> bool {
        let has_place = self
            .limits
            .is_some_and(|limits| self.busy < limits.parallel);
        let due = self.at_once.front().is_some_and(|(due, _)| *due <= now);
        has_place && due && !self.is_paused && self.is_paced(now)
    }

    /// Drops entries of events that no longer wait, if there are more of those than of others.
    pub(super) fn sweep(&mut self, is_live: impl Fn(u64, &EventId) -> bool) {
        self.later.sweep(self.counts.waiting as usize, &is_live);
        if self.at_once.len() > 2 * self.counts.waiting as usize + 64 {
            self.at_once.retain(|(due, id)| is_live(*due, id));
        }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.at_once.len() + self.later.len()
    }

    /// How many entries there are of an event that is due at `due`.
    #[cfg(test)]
    pub(super) fn count_entries(&self, due: u64, id: EventId) -> usize {
        let at_once = self
            .at_once
            .iter()
            .filter(|entry| **entry == (due, id))
            .count();
        at_once
            + self
                .later
                .iter()
                .filter(|(at, it)| (*at, **it) == (due, id))
                .count()
    }
}
