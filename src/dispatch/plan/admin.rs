//! What is done to single events, or to all, from outside: reschedule, cancel, replay, purge, drain.

use std::sync::Arc;

use super::event::{Entry, Record, Removed, Run};
use super::{Plan, TopicId};
use crate::dispatch::id::EventId;

impl<P: Clone> Plan<P> {
    /// Moves the event `id` of `topic`, if it waits, to `due` ns. Returns whether it did.
    pub(crate) fn reschedule(&mut self, topic: TopicId, id: EventId, due: u64, now: u64) -> bool {
        self.observe(now);
        let board = &mut self.topics[topic.at()];
        let is_waiting = |record: &&mut Record<P>| record.topic == topic && record.died.is_none();
        if let Some(record) = self.records.get_mut(&id).filter(is_waiting) {
            if std::mem::replace(&mut record.due, due) != due {
                board.later.push(due, id);
            }
        } else if let Some(event) = board.take_at_once(id) {
            let record = Record {
                topic,
                due,
                attempts: 0,
                rest: None,
                unique: None,
                died: None,
                payload: event,
            };
            board.counts.waiting -= 1;
            self.wait(id, record);
        } else {
            return false;
        }
        self.sweep(topic);
        self.settle(topic);
        true
    }

    /// Cancels the event `id` of `topic` in any state.
    pub(crate) fn cancel(&mut self, topic: TopicId, id: EventId) -> Removed<P> {
        let board = &mut self.topics[topic.at()];
        let is_it = |run: &&mut Option<Run>| {
            run.as_ref()
                .is_some_and(|run| (run.token.topic, run.token.id) == (topic, id))
        };
        let removed = if let Some(payload) = board.take_at_once(id) {
            board.counts.waiting -= 1;
            self.unfinished -= 1;
            Removed::Waiting(payload)
        } else if self
            .records
            .get(&id)
            .is_some_and(|record| record.topic == topic)
        {
            let record = self.remove(id);
            let board = &mut self.topics[topic.at()];
            if let Some(at) = record.died {
                board.dead.remove(&(at, id));
                Removed::Dead(record.payload)
            } else {
                board.counts.waiting -= 1;
                self.unfinished -= 1;
                Removed::Waiting(record.payload)
            }
        } else if let Some(run) = self.runs.iter_mut().find(is_it).and_then(Option::take) {
            board.counts.running -= 1;
            self.unfinished -= 1;
            board.free_key(run.unique.as_ref());
            Removed::Running(run.token)
        } else {
            return Removed::Unknown;
        };
        self.topics[topic.at()].counts.cancelled += 1;
        self.sweep(topic);
        self.settle(topic);
        removed
    }

    /// Replays up to `max` dead events of `topic`, the oldest first. They are due now, and their attempts are counted
    /// from zero. Returns their number, which is limited by the room.
    pub(crate) fn replay(&mut self, topic: TopicId, max: usize, now: u64) -> usize {
        self.observe(now);
        let mut count = 0;
        while count < max && self.has_room(topic, 1) {
            let Some((_, id)) = self.topics[topic.at()].dead.pop_first() else {
                break;
            };
            let mut record = self.records.remove(&id).expect("a dead event has a record");
            record.died = None;
            record.attempts = 0;
            record.due = self.now;
            record.rest = record.rest.map(|rest| {
                let mut rest = Arc::unwrap_or_clone(rest);
                rest.pending.append(&mut rest.failed);
                Arc::new(rest)
            });
            self.topics[topic.at()].counts.replayed += 1;
            self.unfinished += 1;
            self.wait(id, record);
            count += 1;
        }
        self.settle(topic);
        count
    }

    /// Removes all dead events of `topic`.
    pub(crate) fn purge(&mut self, topic: TopicId) -> Vec<P> {
        let dead = std::mem::take(&mut self.topics[topic.at()].dead);
        self.topics[topic.at()].counts.purged += dead.len() as u64;
        let purged = dead.into_iter();
        purged.map(|(_, id)| self.remove(id).payload).collect()
    }

    /// Removes all events that wait, in the order of their due times. They are counted as discarded.
    pub(crate) fn drain(&mut self) -> Vec<(TopicId, Entry<P>)> {
        let waiting = self
            .records
            .iter()
            .filter(|(_, record)| record.died.is_none());
        let ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        let records = ids.into_iter().map(|id| (id, self.remove(id)));
        let mut drained: Vec<_> = records
            .map(|(id, record)| (record.topic, Entry::of(id, record)))
            .collect();
        for at in 0..self.topics.len() {
            let topic = TopicId(at as u32);
            let board = &mut self.topics[at];
            let at_once = std::mem::take(&mut board.at_once).into_iter();
            drained.extend(at_once.filter_map(|mut event| {
                let payload = event.payload.take()?;
                Some((topic, Entry::at_once(&event, payload)))
            }));
            self.unfinished -= board.counts.waiting as usize;
            board.counts.discarded += std::mem::take(&mut board.counts.waiting);
            self.sweep(topic);
            self.settle(topic);
        }
        drained.sort_unstable_by_key(|(_, entry)| (entry.due, entry.id));
        drained
    }

    /// Takes the payloads of all events, when the dispatcher ends.
    pub(crate) fn clear(&mut self) -> Vec<P> {
        let boards = self.topics.iter_mut();
        let at_once = boards.flat_map(|board| std::mem::take(&mut board.at_once));
        let at_once = at_once.filter_map(|event| event.payload);
        let records = self.records.drain().map(|(_, record)| record.payload);
        at_once.chain(records).collect()
    }
}
