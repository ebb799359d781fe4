//! The plan decides which event of which topic starts next. It is pure: it uses no thread and no clock, and runs no
//! user code.
//!
//! An emitted event is in exactly one place until it ends:
//!
//! ```text
//! emit --> waiting --next--> running --finish--> done
//!             ^  ^              | |
//!             |  +--- again ----+ +--> dead --replay--> waiting
//!             |                          +----purge---> gone
//!             +-- reschedule; cancel ends an event in any place, drain ends all that wait
//! ```
//!
//! *Places.* An event that is due when it is emitted is stored with its payload in the deque of its topic until it
//! starts. While it runs, only the entry of its worker refers to it. Most events need nothing else. An event has a
//! record if it is due later, has a unique key, will run again, or is dead.
//!
//! *Order.* The waiting events of a topic are ordered by due time, then by emission. They are in the deque, in which
//! both increase, and in a heap of the events with a record. A topic that may start an event now has one entry in the
//! ring of topics. `next` takes the first topic and puts it back at the end. A topic whose next start is later is in a
//! heap by that time. Every change of a topic ends with [`Plan::settle`], which puts the topic into the ring, into the
//! heap, or into neither.
//!
//! *Cost.* An event that is due at once costs O(1) to emit, start and finish, a later one O(log n).
//!
//! *Removal.* The entry of an event that is cancelled or rescheduled stays, and is dropped when it comes to the front.
//! An entry of the heap is valid if its event still waits for the same due time. An entry of the deque is valid if it
//! still has its payload.

mod admin;
mod counts;
mod event;
mod topic;
mod views;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use event::{Emitted, Entry, Finished, Refusal, Removed, Start, Token};
pub(crate) use topic::{Limits, TopicId};

use self::event::{Record, Run};
use self::topic::{Board, First, Place};
use super::attempt::Outcome;
use super::id::EventId;
pub(crate) use super::options::OnDuplicate;
use crate::clock::nanos;
use crate::due::DueQueue;

/// The plan. `P` is the type of payloads.
#[derive(Debug)]
pub(crate) struct Plan<P> {
    /// The events with a record.
    records: Records<P>,
    /// The event that each worker runs.
    runs: Vec<Option<Run>>,
    /// The topics.
    topics: Vec<Board<P>>,
    /// The topics that may start an event now. Entries may be outdated.
    ring: VecDeque<TopicId>,
    /// The topics that may start one later, by that time.
    later: DueQueue<TopicId>,
    /// The number of unfinished events, which wait or run.
    unfinished: usize,
    /// The maximum number of unfinished events.
    max_unfinished: usize,
    /// The maximum number of dead events of a topic.
    max_dead: usize,
    /// The latest time that was passed in, ns.
    now: u64,
    /// The number of the last event.
    last_number: u64,
    /// The number of the last start.
    last_fence: u64,
}

/// Records by the ids of their events.
type Records<P> = HashMap<EventId, Record<P>, ahash::RandomState>;

impl<P: Clone> Plan<P> {
    /// An empty plan for at most `max_unfinished` unfinished events, and `max_dead` dead ones of each topic.
    pub(crate) fn new(max_unfinished: usize, max_dead: usize) -> Self {
        Plan {
            records: HashMap::default(),
            runs: Vec::new(),
            topics: Vec::new(),
            ring: VecDeque::new(),
            later: DueQueue::new(),
            unfinished: 0,
            max_unfinished,
            max_dead,
            now: 0,
            last_number: 0,
            last_fence: 0,
        }
    }

    /// Adds a topic, without handlers and with at most `max_unfinished` unfinished events.
    pub(crate) fn add_topic(&mut self, max_unfinished: usize) -> TopicId {
        self.topics.push(Board::new(max_unfinished));
        TopicId(self.topics.len() as u32 - 1)
    }

    /// Replaces the limits of `topic`; `None` if it has no handler.
    pub(crate) fn set_limits(&mut self, topic: TopicId, limits: Option<Limits>) {
        self.topics[topic.at()].limits = limits;
        self.settle(topic);
    }

    /// Pauses or resumes `topic`. Returns whether this changed its state.
    pub(crate) fn set_paused(&mut self, topic: TopicId, is_paused: bool) -> bool {
        let was_paused = std::mem::replace(&mut self.topics[topic.at()].is_paused, is_paused);
        self.settle(topic);
        was_paused != is_paused
    }

    /// Whether `topic` can take `more` events.
    pub(crate) fn has_room(&self, topic: TopicId, more: usize) -> bool {
        let board = &self.topics[topic.at()];
        self.unfinished.saturating_add(more) <= self.max_unfinished
            && board.counts.unfinished().saturating_add(more) <= board.max_unfinished
    }

    /// Whether `topic` has a handler.
    pub(crate) fn has_handler(&self, topic: TopicId) -> bool {
        self.topics[topic.at()].limits.is_some()
    }

    /// Accepts an event of `topic` that is due at `due` ns, if that is given, and else now.
    ///
    /// # Errors
    ///
    /// Returns the payload and the reason.
    pub(crate) fn emit(
        &mut self,
        topic: TopicId,
        payload: P,
        due: Option<u64>,
        unique: Option<(&str, OnDuplicate)>,
        now: u64,
    ) -> Result<Emitted<P>, (Refusal, P)> {
        self.observe(now);
        let now = self.now;
        let due = due.unwrap_or(now);
        let board = &self.topics[topic.at()];
        if board.limits.is_none() {
            return Err((Refusal::NoHandler, payload));
        }
        if let Some((key, policy)) = unique
            && let Some(&other) = board.unique.get(key)
        {
            return match policy {
                OnDuplicate::Keep => Ok(Emitted {
                    id: other,
                    unneeded: Some(payload),
                }),
                OnDuplicate::Replace if self.reschedule(topic, other, due, now) => {
                    let record = self.records.get_mut(&other).expect("it waits");
                    // No handler has received the new payload.
                    record.attempts = 0;
                    record.rest = None;
                    Ok(Emitted {
                        id: other,
                        unneeded: Some(std::mem::replace(&mut record.payload, payload)),
                    })
                }
                _ => Err((Refusal::Duplicate(other), payload)),
            };
        }
        if !self.has_room(topic, 1) {
            return Err((Refusal::Full, payload));
        }
        self.last_number += 1;
        let id = EventId::new(self.last_number);
        self.unfinished += 1;
        let board = &mut self.topics[topic.at()];
        board.counts.emitted += 1;
        if due <= now && unique.is_none() && board.follows_all(due) {
            board.push_at_once(id, due, payload);
        } else {
            let unique = unique.map(|(key, _)| Arc::<str>::from(key));
            if let Some(key) = &unique {
                board.unique.insert(key.clone(), id);
            }
            let record = Record {
                topic,
                due,
                attempts: 0,
                rest: None,
                unique,
                died: None,
                payload,
            };
            self.wait(id, record);
        }
        self.settle(topic);
        Ok(Emitted { id, unneeded: None })
    }

    /// Starts the next event on worker `runner`, which runs none, if one may start now.
    #[inline]
    pub(crate) fn next(&mut self, runner: u32, now: u64) -> Option<Start<P>> {
        self.observe(now);
        let (topic, first) = self.take_next()?;
        self.last_fence += 1;
        let (id, due, attempts, rest, unique, payload) = match first {
            First::AtOnce(id, due, payload) => (id, due, 0, None, None, payload),
            First::Record(id) => {
                let record = self.records.remove(&id).expect("a live entry has a record");
                let Record {
                    due,
                    attempts,
                    rest,
                    unique,
                    payload,
                    ..
                } = record;
                (id, due, attempts, rest, unique, payload)
            }
        };
        let token = Token {
            id,
            topic,
            fence: self.last_fence,
            runner,
        };
        let attempts = attempts + 1;
        let start = Start {
            token,
            due,
            started: self.now,
            attempt: attempts,
            rest,
            payload,
        };
        let at = runner as usize;
        if self.runs.len() <= at {
            self.runs.resize_with(at + 1, || None);
        }
        self.runs[at] = Some(Run {
            token,
            due,
            attempts,
            unique,
        });
        let now = self.now;
        self.topics[topic.at()].started(now);
        self.settle(topic);
        Some(start)
    }

    /// Whether an event may start at `now`.
    pub(crate) fn is_ready(&mut self, now: u64) -> bool {
        self.observe(now);
        while let Some(&topic) = self.ring.front() {
            if self.next_start(topic).is_some_and(|at| at <= self.now) {
                return true;
            }
            self.leave_ring();
            self.settle(topic);
        }
        self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next event may start, ns, if none may start now; topics that [`next`](Plan::next) would start now are
    /// left out.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        let topics = &self.topics;
        let first = self
            .later
            .peek(|due, topic| topics[topic.at()].place == Place::Later(due));
        first.map(|(due, _)| due)
    }

    /// Ends the attempt `token`, frees its place in the topic, and returns its payload.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        token: Token,
        payload: P,
        outcome: Outcome,
        now: u64,
    ) -> Finished<P> {
        self.observe(now);
        self.topics[token.topic.at()].busy -= 1;
        let finished = self.apply(token, payload, outcome);
        self.settle(token.topic);
        finished
    }

    /// Whether the attempt `token` is the current one: it has not ended, and its event is not cancelled.
    pub(crate) fn runs(&self, token: Token) -> bool {
        let run = self.runs.get(token.runner as usize);
        run.is_some_and(|run| run.as_ref().is_some_and(|run| run.token == token))
    }

    /// Advances the latest time that was passed in. It never decreases: two callers may read the clock in one order and
    /// take the lock in the other.
    #[inline]
    fn observe(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The event that starts next, taken from its topic.
    #[inline]
    fn take_next(&mut self) -> Option<(TopicId, First<P>)> {
        let now = self.now;
        while let Some((_, topic)) = {
            let topics = &self.topics;
            let is_live = |due, topic: &TopicId| topics[topic.at()].place == Place::Later(due);
            self.later.pop_due(now, is_live)
        } {
            self.topics[topic.at()].place = Place::Ring;
            self.ring.push_back(topic);
        }
        while let Some(topic) = self.leave_ring() {
            let records = &self.records;
            let board = &mut self.topics[topic.at()];
            if let Some(first) = board.pop(now, |due, id| waits_until(records, *id, due)) {
                return Some((topic, first));
            }
            self.settle(topic);
        }
        None
    }

    /// Takes the first topic out of the ring.
    #[inline]
    fn leave_ring(&mut self) -> Option<TopicId> {
        let topic = self.ring.pop_front()?;
        self.topics[topic.at()].place = Place::Nowhere;
        Some(topic)
    }

    /// When `topic` starts its next event, ns, if it only waits for a time.
    fn next_start(&mut self, topic: TopicId) -> Option<u64> {
        let records = &self.records;
        self.topics[topic.at()].next_start(|due, id| waits_until(records, *id, due))
    }

    /// Puts `topic` into the ring, into the heap of topics that start an event later, or into neither. A topic that is
    /// in the ring stays there until its turn.
    #[inline]
    fn settle(&mut self, topic: TopicId) {
        let board = &mut self.topics[topic.at()];
        if board.place == Place::Ring {
            return;
        }
        if board.seems_ready(self.now) {
            board.place = Place::Ring;
            self.ring.push_back(topic);
            return;
        }
        let place = match self.next_start(topic) {
            None => Place::Nowhere,
            Some(at) if at <= self.now => Place::Ring,
            Some(at) => Place::Later(at),
        };
        let old = std::mem::replace(&mut self.topics[topic.at()].place, place);
        match place {
            Place::Ring => self.ring.push_back(topic),
            Place::Later(at) if old != place => {
                self.later.push(at, topic);
                let topics = &self.topics;
                let is_live = |due, topic: &TopicId| topics[topic.at()].place == Place::Later(due);
                self.later.sweep(topics.len(), is_live);
            }
            _ => {}
        }
    }

    /// Applies `outcome` to the event of `token`, if the attempt is the current one.
    #[inline]
    fn apply(&mut self, token: Token, payload: P, outcome: Outcome) -> Finished<P> {
        let Token { id, topic, .. } = token;
        let (now, max_dead) = (self.now, self.max_dead);
        let run = self.runs.get_mut(token.runner as usize);
        let run = run.and_then(|run| run.take_if(|run| run.token == token));
        let board = &mut self.topics[topic.at()];
        let Some(run) = run else {
            return Finished::Stale(payload);
        };
        board.counts.running -= 1;
        match outcome {
            Outcome::Done => {
                board.counts.done += 1;
                self.unfinished -= 1;
                board.free_key(run.unique.as_ref());
                Finished::Gone(payload)
            }
            Outcome::Again {
                delay,
                counts,
                rest,
            } => {
                board.counts.retried += u64::from(counts);
                board.counts.put_off += u64::from(!counts);
                let due = delay.map_or(run.due, |delay| now.saturating_add(nanos(delay)));
                let record = Record {
                    topic,
                    due,
                    attempts: run.attempts - u32::from(!counts),
                    rest: Some(Arc::new(rest)),
                    unique: run.unique,
                    died: None,
                    payload,
                };
                self.wait(id, record);
                Finished::Again
            }
            Outcome::Dead(rest) => {
                self.unfinished -= 1;
                board.free_key(run.unique.as_ref());
                board.counts.died += 1;
                board.dead.insert((now, id));
                let record = Record {
                    topic,
                    due: run.due,
                    attempts: run.attempts,
                    rest: Some(Arc::new(rest)),
                    unique: None,
                    died: Some(now),
                    payload,
                };
                self.records.insert(id, record);
                let board = &mut self.topics[topic.at()];
                if board.dead.len() <= max_dead {
                    return Finished::Dead(None);
                }
                let oldest = board.dead.pop_first();
                board.counts.purged += 1;
                Finished::Dead(oldest.map(|(_, id)| self.remove(id).payload))
            }
        }
    }

    /// Adds the event `id`, with a record, to the waiting events.
    fn wait(&mut self, id: EventId, record: Record<P>) {
        let board = &mut self.topics[record.topic.at()];
        board.counts.waiting += 1;
        board.later.push(record.due, id);
        self.records.insert(id, record);
    }

    /// Removes the record of event `id`, which has one, and frees its key.
    fn remove(&mut self, id: EventId) -> Record<P> {
        let record = self.records.remove(&id).expect("the event has a record");
        self.topics[record.topic.at()].free_key(record.unique.as_ref());
        record
    }

    /// Drops the entries of removed events of the topic, if there are many.
    fn sweep(&mut self, topic: TopicId) {
        let records = &self.records;
        self.topics[topic.at()].sweep(|due, id| waits_until(records, *id, due));
    }
}

/// Whether the event `id` waits for the due time `due`, so that this entry of the heap is valid.
fn waits_until<P>(records: &Records<P>, id: EventId, due: u64) -> bool {
    let record = records.get(&id);
    record.is_some_and(|record| record.died.is_none() && record.due == due)
}

#[cfg(test)]
mod tests;
