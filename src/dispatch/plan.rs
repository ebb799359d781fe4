//! The plan: which event of which topic starts next. Pure: it knows no thread and no clock, and runs no code of the user's.
//!
//! An event that was emitted is in one place until it ends:
//!
//! ```text
//! emit --> waiting --next--> running --finish--> done
//!             ^  ^              | |
//!             |  +--- again ----+ +--> dead --replay--> waiting
//!             |                          +----purge---> gone
//!             +-- reschedule; cancel ends an event in any place, drain ends all that wait
//! ```
//!
//! *Order.* Each topic has its waiting events in the order of due time, then emission: those that are due at once in a
//! deque, the others in a heap. A topic that may start an event now stands once in the ring of topics, from which `next` takes
//! the first and to which it returns behind all others. A topic whose next start is later stands in a heap by that time.
//! Whatever changes a topic ends with [`Plan::settle`], which puts it where it belongs.
//!
//! *Cost.* An event that is due at once costs O(1) to emit, start and finish, a later one O(log n).
//!
//! *Removal.* An event that is cancelled or rescheduled leaves its old entry behind, which is dropped when it comes up: an
//! entry counts if the event still waits for just that due time.

mod counts;
mod topic;

use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) use counts::Counts;
pub(crate) use topic::{Limits, TopicId};

use self::topic::{Board, Place};
use super::attempt::{Outcome, Rest};
use super::id::{EventId, MAX_EVENTS};
use crate::clock::nanos;
use crate::due::DueQueue;

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits until its due time, and until its topic may start it.
    Waiting,
    /// It runs: as attempt `fence`, on worker `runner`.
    Running { fence: u64, runner: u32 },
    /// Its attempts are used up, since `at` ns.
    Dead { at: u64 },
}

/// An event that is not at its end.
#[derive(Debug)]
struct Record<P> {
    /// Its id.
    id: EventId,
    /// Where it is.
    state: State,
    /// Its topic.
    topic: TopicId,
    /// When it is or was due, ns.
    due: u64,
    /// How many attempts at it have begun and count.
    attempts: u32,
    /// What earlier attempts left.
    rest: Option<Arc<Rest>>,
    /// Its unique key, while it is unfinished.
    unique: Option<Arc<str>>,
    /// What it carries; `None` while it runs.
    payload: Option<P>,
}

/// An event that is to be run now.
#[derive(Debug)]
pub(crate) struct Start<P> {
    /// Which event, and which attempt at it.
    pub(crate) token: Token,
    /// When it was due, ns.
    pub(crate) due: u64,
    /// When it started, ns.
    pub(crate) started: u64,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// What earlier attempts left.
    pub(crate) rest: Option<Arc<Rest>>,
    /// What it carries.
    pub(crate) payload: P,
}

/// One attempt at an event. A token is accepted once; after that, and after the event is cancelled, its outcome is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The event.
    pub(crate) id: EventId,
    /// Its topic.
    pub(crate) topic: TopicId,
    /// The number of the start, which rises with each.
    pub(crate) fence: u64,
}

/// What an event that was accepted leads to.
#[derive(Debug)]
pub(crate) struct Emitted<P> {
    /// The event's id, or that of the one whose unique key it has.
    pub(crate) id: EventId,
    /// A payload that is not needed: the event's own, or the one that it replaced. It is dropped where no lock is held.
    pub(crate) unneeded: Option<P>,
}

/// Why an event was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The topic has no handler.
    NoHandler,
    /// Too many events are unfinished.
    Full,
    /// This one has the same unique key.
    Duplicate(EventId),
}

/// How an attempt ended, as far as the plan knows.
#[derive(Debug)]
pub(crate) enum Finished<P> {
    /// The event has left the plan.
    Gone(P),
    /// It waits again.
    Again,
    /// It is dead; the oldest dead event of the topic may have made room for it.
    Dead(Option<P>),
    /// The attempt was no longer the current one.
    Stale(P),
}

/// What was cancelled.
#[derive(Debug)]
pub(crate) enum Removed<P> {
    /// An event that waited.
    Waiting(P),
    /// One that runs on worker `runner` as attempt `fence`.
    Running { fence: u64, runner: u32 },
    /// A dead one.
    Dead(P),
    /// No such event is known.
    Unknown,
}

/// What happens to an event whose unique key is taken.
pub(crate) use super::options::OnDuplicate;

/// The plan. `P` is what an event carries.
#[derive(Debug)]
pub(crate) struct Plan<P> {
    /// The events, by the place in their id.
    records: Vec<Option<Record<P>>>,
    /// The places that are free.
    free: Vec<u32>,
    /// The topics.
    topics: Vec<Board>,
    /// The topics that may start an event now, as far as is known.
    ring: VecDeque<TopicId>,
    /// The topics that may start one later, by that time.
    later: DueQueue<TopicId>,
    /// How many events are unfinished: they wait or run.
    unfinished: usize,
    /// How many may be.
    max_unfinished: usize,
    /// How many dead ones a topic keeps.
    max_dead: usize,
    /// The latest time that was passed in, ns.
    now: u64,
    /// The number of the last event.
    last_number: u64,
    /// The number of the last start.
    last_fence: u64,
}

impl<P: Clone> Plan<P> {
    /// An empty plan for at most `max_unfinished` unfinished events, and `max_dead` dead ones of each topic.
    pub(crate) fn new(max_unfinished: usize, max_dead: usize) -> Self {
        Plan {
            records: Vec::new(),
            free: Vec::new(),
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

    /// Pauses `topic`, or lets it go on. Returns whether that changed anything.
    pub(crate) fn set_paused(&mut self, topic: TopicId, is_paused: bool) -> bool {
        let was_paused = std::mem::replace(&mut self.topics[topic.at()].is_paused, is_paused);
        self.settle(topic);
        was_paused != is_paused
    }

    /// Whether `topic` is paused.
    pub(crate) fn is_paused(&self, topic: TopicId) -> bool {
        self.topics[topic.at()].is_paused
    }

    /// The counters of `topic`.
    pub(crate) fn counts(&self, topic: TopicId) -> Counts {
        self.topics[topic.at()].counts
    }

    /// Whether `topic` can take `more` events.
    pub(crate) fn has_room(&self, topic: TopicId, more: usize) -> bool {
        let board = &self.topics[topic.at()];
        let places = MAX_EVENTS - self.records.len() + self.free.len();
        more <= places
            && self.unfinished.saturating_add(more) <= self.max_unfinished
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
    /// The payload back, and why it was not accepted.
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
                    let record = self.record_mut(other).expect("it waits");
                    Ok(Emitted {
                        id: other,
                        unneeded: record.payload.replace(payload),
                    })
                }
                _ => Err((Refusal::Duplicate(other), payload)),
            };
        }
        if !self.has_room(topic, 1) {
            return Err((Refusal::Full, payload));
        }
        let unique = unique.map(|(key, _)| Arc::from(key));
        let id = self.add(topic, due, unique, payload);
        let board = &mut self.topics[topic.at()];
        board.counts.emitted += 1;
        board.enter_waiting(id, due, now);
        self.unfinished += 1;
        self.settle(topic);
        Ok(Emitted { id, unneeded: None })
    }

    /// Starts the next event on worker `runner`, if one may start now.
    pub(crate) fn next(&mut self, runner: u32, now: u64) -> Option<Start<P>> {
        self.observe(now);
        let (topic, id) = self.take_next()?;
        self.last_fence += 1;
        let fence = self.last_fence;
        let now = self.now;
        let board = &mut self.topics[topic.at()];
        board.started(now);
        let record = self.record_mut(id).expect("a live entry has an event");
        record.state = State::Running { fence, runner };
        record.attempts += 1;
        let start = Start {
            token: Token { id, topic, fence },
            due: record.due,
            started: now,
            attempt: record.attempts,
            rest: record.rest.clone(),
            payload: record.payload.take().expect("it waited"),
        };
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

    /// Whether an event runs, or occupies a worker although it is cancelled.
    pub(crate) fn is_busy(&self) -> bool {
        self.topics.iter().any(|topic| topic.busy > 0)
    }

    /// When the next event may start, ns, if none may start now; topics that [`next`](Plan::next) would start now are left
    /// out.
    pub(crate) fn next_due(&mut self) -> Option<u64> {
        let topics = &self.topics;
        let first = self
            .later
            .peek(|due, topic| topics[topic.at()].place == Place::Later(due));
        first.map(|(due, _)| due)
    }

    /// Ends the attempt `token`, and gives its place in the topic and what it carries back.
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

    /// Counts an outcome that comes after its attempt was given up.
    pub(crate) fn count_stale(&mut self, topic: TopicId) {
        self.topics[topic.at()].counts.stale += 1;
    }

    /// Moves the event `id` of `topic`, if it waits, to `due` ns. Returns whether it did.
    pub(crate) fn reschedule(&mut self, topic: TopicId, id: EventId, due: u64, now: u64) -> bool {
        self.observe(now);
        let now = self.now;
        let record = self.record_mut(id);
        let waiting =
            record.filter(|record| record.topic == topic && record.state == State::Waiting);
        let Some(record) = waiting else {
            return false;
        };
        if std::mem::replace(&mut record.due, due) != due {
            self.topics[topic.at()].insert(id, due, now);
            self.sweep(topic);
            self.settle(topic);
        }
        true
    }

    /// Ends the event `id` of `topic`, wherever it is.
    pub(crate) fn cancel(&mut self, topic: TopicId, id: EventId) -> Removed<P> {
        if self.record(id).is_none_or(|record| record.topic != topic) {
            return Removed::Unknown;
        }
        let record = self.remove(id);
        let board = &mut self.topics[topic.at()];
        board.counts.cancelled += 1;
        let removed = match (record.state, record.payload) {
            (State::Waiting, Some(payload)) => {
                board.counts.waiting -= 1;
                self.unfinished -= 1;
                Removed::Waiting(payload)
            }
            (State::Dead { at }, Some(payload)) => {
                board.dead.remove(&(at, id));
                Removed::Dead(payload)
            }
            (State::Running { fence, runner }, _) => {
                board.counts.running -= 1;
                self.unfinished -= 1;
                Removed::Running { fence, runner }
            }
            (State::Waiting | State::Dead { .. }, None) => {
                unreachable!("only an event that runs is without what it carries")
            }
        };
        self.sweep(topic);
        self.settle(topic);
        removed
    }

    /// Lets up to `max` dead events of `topic` wait again, the oldest first, due now and with no attempts used. Returns how
    /// many: no more than there is room for.
    pub(crate) fn replay(&mut self, topic: TopicId, max: usize, now: u64) -> usize {
        self.observe(now);
        let mut count = 0;
        while count < max && self.has_room(topic, 1) {
            let Some((_, id)) = self.topics[topic.at()].dead.pop_first() else {
                break;
            };
            let due = self.now;
            let record = self.record_mut(id).expect("a dead event has a record");
            record.state = State::Waiting;
            record.attempts = 0;
            record.due = due;
            let left = record.rest.take().map(|rest| {
                let mut rest = Arc::unwrap_or_clone(rest);
                rest.pending.append(&mut rest.failed);
                Arc::new(rest)
            });
            record.rest = left;
            let board = &mut self.topics[topic.at()];
            board.counts.replayed += 1;
            board.enter_waiting(id, due, due);
            self.unfinished += 1;
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
        purged
            .filter_map(|(_, id)| self.remove(id).payload)
            .collect()
    }

    /// Removes all events that wait. They are counted as discarded.
    pub(crate) fn drain(&mut self) -> Vec<(TopicId, Entry<P>)> {
        let records = self.records.iter().flatten();
        let waiting = records.filter(|record| record.state == State::Waiting);
        let mut ids: Vec<_> = waiting.map(|record| (record.due, record.id)).collect();
        ids.sort_unstable();
        let drained = ids.into_iter().filter_map(|(_, id)| {
            let record = self.remove(id);
            let board = &mut self.topics[record.topic.at()];
            board.counts.waiting -= 1;
            board.counts.discarded += 1;
            self.unfinished -= 1;
            Some((record.topic, Entry::copy(&record)?))
        });
        let drained = drained.collect();
        for at in 0..self.topics.len() as u32 {
            self.sweep(TopicId(at));
            self.settle(TopicId(at));
        }
        drained
    }

    /// Up to `max` events of `topic` that wait, in the order in which they start. Costs a look at each that waits.
    pub(crate) fn peek(&self, topic: TopicId, max: usize) -> Vec<Entry<P>> {
        let records = self.records.iter().flatten();
        let waiting =
            records.filter(|record| record.topic == topic && record.state == State::Waiting);
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable_by_key(|record| (record.due, record.id));
        waiting.truncate(max);
        waiting.into_iter().filter_map(Entry::copy).collect()
    }

    /// How many events of `topic` that wait are due at `now`. Costs a look at each event.
    pub(crate) fn due_by(&self, topic: TopicId, now: u64) -> usize {
        let records = self.records.iter().flatten();
        let is_due = |record: &&Record<P>| {
            record.topic == topic && record.state == State::Waiting && record.due <= now
        };
        records.filter(is_due).count()
    }

    /// The number of the last start.
    pub(crate) fn last_fence(&self) -> u64 {
        self.last_fence
    }

    /// How many dead events of `topic` there are.
    pub(crate) fn dead_len(&self, topic: TopicId) -> usize {
        self.topics[topic.at()].dead.len()
    }

    /// Up to `max` dead events of `topic`, the oldest first, and since when they are dead, ns.
    pub(crate) fn dead(&self, topic: TopicId, max: usize) -> Vec<(u64, Entry<P>)> {
        let dead = self.topics[topic.at()].dead.iter().take(max);
        let entry = |&(at, id): &(u64, EventId)| Some((at, Entry::copy(self.record(id)?)?));
        dead.filter_map(entry).collect()
    }

    /// The latest time that was passed in only moves forward: two callers may read the clock in one order and come here in
    /// the other.
    fn observe(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The event that starts next, taken from its topic.
    fn take_next(&mut self) -> Option<(TopicId, EventId)> {
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
            if let Some(id) = board.pop(now, |due, id| waits_until(records, *id, due)) {
                return Some((topic, id));
            }
            self.settle(topic);
        }
        None
    }

    /// Takes the first topic out of the ring.
    fn leave_ring(&mut self) -> Option<TopicId> {
        let topic = self.ring.pop_front()?;
        self.topics[topic.at()].place = Place::Nowhere;
        Some(topic)
    }

    /// When `topic` starts its next event, ns, if time is all it waits for.
    fn next_start(&mut self, topic: TopicId) -> Option<u64> {
        let records = &self.records;
        self.topics[topic.at()].next_start(|due, id| waits_until(records, *id, due))
    }

    /// Puts `topic` where it belongs: into the ring, among those that start an event later, or nowhere. One that is in the
    /// ring stays there until its turn.
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

    /// Lets the event of `token` go where `outcome` says, if the attempt is the current one.
    fn apply(&mut self, token: Token, payload: P, outcome: Outcome) -> Finished<P> {
        let Token { id, topic, fence } = token;
        let is_current = |record: &Record<P>| matches!(record.state, State::Running { fence: current, .. } if current == fence);
        if !self.record(id).is_some_and(is_current) {
            self.count_stale(topic);
            return Finished::Stale(payload);
        }
        let (now, max_dead) = (self.now, self.max_dead);
        let board = &mut self.topics[topic.at()];
        board.counts.running -= 1;
        match outcome {
            Outcome::Done => {
                board.counts.done += 1;
                self.unfinished -= 1;
                self.remove(id);
                Finished::Gone(payload)
            }
            Outcome::Again {
                delay,
                counts,
                rest,
            } => {
                board.counts.retried += u64::from(counts);
                board.counts.put_off += u64::from(!counts);
                let record = self.record_mut(id).expect("it is current");
                record.attempts -= u32::from(!counts);
                record.due = delay.map_or(record.due, |delay| now.saturating_add(nanos(delay)));
                record.state = State::Waiting;
                record.rest = Some(Arc::new(rest));
                record.payload = Some(payload);
                let due = record.due;
                self.topics[topic.at()].enter_waiting(id, due, now);
                Finished::Again
            }
            Outcome::Dead(rest) => {
                self.unfinished -= 1;
                self.free_key(id);
                let record = self.record_mut(id).expect("it is current");
                record.state = State::Dead { at: now };
                record.rest = Some(Arc::new(rest));
                record.payload = Some(payload);
                let board = &mut self.topics[topic.at()];
                board.counts.died += 1;
                board.dead.insert((now, id));
                if board.dead.len() <= max_dead {
                    return Finished::Dead(None);
                }
                let oldest = board.dead.pop_first();
                board.counts.purged += 1;
                Finished::Dead(oldest.and_then(|(_, id)| self.remove(id).payload))
            }
        }
    }

    /// Makes room for an event in `topic` and returns its id.
    fn add(&mut self, topic: TopicId, due: u64, unique: Option<Arc<str>>, payload: P) -> EventId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.records.push(None);
            self.records.len() as u32 - 1
        });
        self.last_number += 1;
        let id = EventId::new(self.last_number, place);
        if let Some(key) = &unique {
            self.topics[topic.at()].unique.insert(key.clone(), id);
        }
        self.records[place as usize] = Some(Record {
            id,
            state: State::Waiting,
            topic,
            due,
            attempts: 0,
            rest: None,
            unique,
            payload: Some(payload),
        });
        id
    }

    /// Takes the event `id`, which is known, out of its place, and frees its key.
    fn remove(&mut self, id: EventId) -> Record<P> {
        self.free_key(id);
        self.free.push(id.place());
        self.records[id.place() as usize]
            .take()
            .expect("the event is known")
    }

    /// Frees the unique key of event `id`.
    fn free_key(&mut self, id: EventId) {
        if let Some(record) = self.record_mut(id)
            && let Some(key) = record.unique.take()
        {
            let topic = record.topic;
            self.topics[topic.at()].unique.remove(&key);
        }
    }

    /// The event `id`, if it is known.
    fn record(&self, id: EventId) -> Option<&Record<P>> {
        let record = self.records.get(id.place() as usize)?.as_ref();
        record.filter(|record| record.id == id)
    }

    /// The event `id`, if it is known.
    fn record_mut(&mut self, id: EventId) -> Option<&mut Record<P>> {
        let record = self.records.get_mut(id.place() as usize)?.as_mut();
        record.filter(|record| record.id == id)
    }

    /// Panics if what the plan keeps twice does not agree.
    #[cfg(test)]
    pub(crate) fn validate(&self) {
        for (at, board) in self.topics.iter().enumerate() {
            let topic = TopicId(at as u32);
            let records = || self.records.iter().flatten().filter(|it| it.topic == topic);
            let waiting = records().filter(|record| record.state == State::Waiting);
            for record in waiting {
                let copies = board.count_entries(record.due, record.id);
                assert!(copies > 0, "{} has no entry", record.id);
            }
            let running = records()
                .filter(|it| matches!(it.state, State::Running { .. }))
                .count();
            assert!(running <= board.busy);
            for (key, id) in &board.unique {
                let record = self.record(*id).expect("a key belongs to an event");
                assert_eq!(record.unique.as_ref(), Some(key));
            }
            let keys = records().filter(|record| record.unique.is_some()).count();
            assert_eq!(keys, board.unique.len());
            let in_ring = self.ring.iter().filter(|other| **other == topic).count();
            assert_eq!(in_ring, usize::from(board.place == Place::Ring));
        }
        let places = self.records.iter().flatten().count() + self.free.len();
        assert_eq!(places, self.records.len());
    }

    /// Drops the entries that the topic's removed events left behind, if there are many.
    fn sweep(&mut self, topic: TopicId) {
        let records = &self.records;
        self.topics[topic.at()].sweep(|due, id| waits_until(records, *id, due));
    }
}

/// Whether the event `id` waits for the due time `due`: whether such an entry counts.
fn waits_until<P>(records: &[Option<Record<P>>], id: EventId, due: u64) -> bool {
    records[id.place() as usize].as_ref().is_some_and(|record| {
        record.id == id && record.state == State::Waiting && record.due == due
    })
}

/// An event as it is shown to a user.
#[derive(Debug)]
pub(crate) struct Entry<P> {
    /// Its id.
    pub(crate) id: EventId,
    /// When it is or was due, ns.
    pub(crate) due: u64,
    /// How many attempts at it count.
    pub(crate) attempts: u32,
    /// What they left.
    pub(crate) rest: Option<Arc<Rest>>,
    /// What it carries.
    pub(crate) payload: P,
}

impl<P: Clone> Entry<P> {
    /// That of `record`.
    fn copy(record: &Record<P>) -> Option<Self> {
        Some(Entry {
            id: record.id,
            due: record.due,
            attempts: record.attempts,
            rest: record.rest.clone(),
            payload: record.payload.clone()?,
        })
    }
}

#[cfg(test)]
mod tests;
