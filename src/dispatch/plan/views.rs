//! Looking at the plan.

use super::Plan;
use super::counts::Counts;
use super::event::{Entry, Record};
#[cfg(test)]
use super::topic::Place;
use super::topic::TopicId;
use crate::dispatch::id::EventId;

impl<P: Clone> Plan<P> {
    /// Whether `topic` is paused.
    pub(crate) fn is_paused(&self, topic: TopicId) -> bool {
        self.topics[topic.at()].is_paused
    }

    /// The counters of `topic`.
    pub(crate) fn counts(&self, topic: TopicId) -> Counts {
        self.topics[topic.at()].counts
    }

    /// Whether an event runs, or occupies a worker although it is cancelled.
    pub(crate) fn is_busy(&self) -> bool {
        self.topics.iter().any(|topic| topic.busy > 0)
    }

    /// Up to `max` events of `topic` that wait, in the order in which they start. Visits every waiting event.
    pub(crate) fn peek(&self, topic: TopicId, max: usize) -> Vec<Entry<P>> {
        let at_once = self.topics[topic.at()].at_once.iter();
        let at_once =
            at_once.filter_map(|event| Some(Entry::at_once(event, event.payload.clone()?)));
        let records = self
            .waiting(topic)
            .map(|(id, record)| Entry::copy(id, record));
        let mut waiting: Vec<_> = at_once.take(max).chain(records).collect();
        waiting.sort_unstable_by_key(|entry| (entry.due, entry.id));
        waiting.truncate(max);
        waiting
    }

    /// How many events of `topic` that wait are due at `now`. Visits every event with a record.
    pub(crate) fn due_by(&self, topic: TopicId, now: u64) -> usize {
        let at_once = self.topics[topic.at()].at_once.iter();
        let at_once = at_once.filter(|event| event.payload.is_some() && event.due <= now);
        let records = self.waiting(topic).filter(|(_, record)| record.due <= now);
        at_once.count() + records.count()
    }

    /// The number of the last start.
    pub(crate) fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// How many dead events of `topic` there are.
    pub(crate) fn dead_len(&self, topic: TopicId) -> usize {
        self.topics[topic.at()].dead.len()
    }

    /// Up to `max` dead events of `topic`, the oldest first, with the time at which they became dead, ns.
    pub(crate) fn dead(&self, topic: TopicId, max: usize) -> Vec<(u64, Entry<P>)> {
        let dead = self.topics[topic.at()].dead.iter().take(max);
        let entry = |&(at, id): &(u64, EventId)| {
            let record = self.records.get(&id)?;
            Some((at, Entry::copy(id, record)))
        };
        dead.filter_map(entry).collect()
    }

    /// The events of `topic` that wait and have a record.
    pub(super) fn waiting(&self, topic: TopicId) -> impl Iterator<Item = (EventId, &Record<P>)> {
        let records = self.records.iter().map(|(id, record)| (*id, record));
        records.filter(move |(_, record)| record.topic == topic && record.died.is_none())
    }

    /// Panics if redundant state of the plan is inconsistent.
    #[cfg(test)]
    pub(crate) fn validate(&self) {
        let mut unfinished = 0;
        for (at, board) in self.topics.iter().enumerate() {
            let topic = TopicId(at as u32);
            for (id, record) in self.waiting(topic) {
                assert!(board.has_entry(record.due, id), "{id} has no entry");
            }
            let at_once = board.at_once.iter().filter(|event| event.payload.is_some());
            let waiting = at_once.count() + self.waiting(topic).count();
            let running = || {
                self.runs
                    .iter()
                    .flatten()
                    .filter(|run| run.token.topic == topic)
            };
            assert_eq!(waiting as u64, board.counts.waiting);
            assert_eq!(running().count() as u64, board.counts.running);
            assert!(running().count() <= board.busy);
            unfinished += board.counts.unfinished();
            let records = self.records.values().filter(|record| record.topic == topic);
            let keys = records.filter_map(|record| record.unique.as_ref());
            let keys = keys.chain(running().filter_map(|run| run.unique.as_ref()));
            assert_eq!(keys.clone().count(), board.unique.len());
            assert!(keys.clone().all(|key| board.unique.contains_key(key)));
            let in_ring = self.ring.iter().filter(|other| **other == topic).count();
            assert_eq!(in_ring, usize::from(board.place == Place::Ring));
            for (died, id) in &board.dead {
                assert_eq!(self.records[id].died, Some(*died));
            }
        }
        assert_eq!(unfinished, self.unfinished);
    }
}
