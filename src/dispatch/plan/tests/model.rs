//! What the plan is to do, done naively: one list of events, searched from the beginning each time.

use super::super::counts::Counts;
use super::super::*;
use super::End;

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running(Token),
    Dead { at: u64 },
}

/// An event.
#[derive(Clone, Debug)]
struct Event {
    id: EventId,
    topic: TopicId,
    due: u64,
    attempts: u32,
    has_rest: bool,
    unique: Option<String>,
    payload: u64,
    state: State,
}

/// A topic.
#[derive(Clone, Debug)]
struct Topic {
    limits: Option<Limits>,
    is_paused: bool,
    busy: usize,
    /// The last start, and the interval that held then.
    last_start: Option<(u64, u64)>,
    counts: Counts,
}

/// The model.
pub(super) struct Model {
    max: usize,
    max_per_topic: usize,
    max_dead: usize,
    topics: Vec<Topic>,
    events: Vec<Event>,
    /// The event that was accepted last, and has no id yet.
    new: Option<Event>,
}

impl Model {
    pub(super) fn new(topics: u32, max: usize, max_per_topic: usize, max_dead: usize) -> Self {
        let topic = Topic {
            limits: Some(super::limits(2, 0)),
            is_paused: false,
            busy: 0,
            last_start: None,
            counts: Counts::default(),
        };
        Model {
            max,
            max_per_topic,
            max_dead,
            topics: vec![topic; topics as usize],
            events: Vec::new(),
            new: None,
        }
    }

    fn topic(&mut self, topic: TopicId) -> &mut Topic {
        &mut self.topics[topic.at()]
    }

    fn position(&self, id: EventId) -> Option<usize> {
        self.events.iter().position(|event| event.id == id)
    }

    fn unfinished(&self) -> usize {
        let is_unfinished = |event: &&Event| !matches!(event.state, State::Dead { .. });
        self.events.iter().filter(is_unfinished).count()
    }

    fn has_room(&self, topic: TopicId) -> bool {
        let of_topic = self.counts(topic);
        self.unfinished() < self.max && of_topic.unfinished() < self.max_per_topic
    }

    /// `Ok((Some(id), unneeded))` if the event takes the place of `id`, or gives way to it.
    pub(super) fn emit(
        &mut self,
        topic: TopicId,
        payload: u64,
        due: Option<u64>,
        unique: Option<(&str, OnDuplicate)>,
        now: u64,
    ) -> Result<(Option<EventId>, Option<u64>), Refusal> {
        if self.topic(topic).limits.is_none() {
            return Err(Refusal::NoHandler);
        }
        let due = due.unwrap_or(now);
        if let Some((key, policy)) = unique {
            let has_key = |event: &&mut Event| {
                event.topic == topic
                    && event.unique.as_deref() == Some(key)
                    && !matches!(event.state, State::Dead { .. })
            };
            if let Some(other) = self.events.iter_mut().find(has_key) {
                return match policy {
                    OnDuplicate::Keep => Ok((Some(other.id), Some(payload))),
                    OnDuplicate::Replace if other.state == State::Waiting => {
                        other.due = due;
                        (other.attempts, other.has_rest) = (0, false);
                        let old = std::mem::replace(&mut other.payload, payload);
                        Ok((Some(other.id), Some(old)))
                    }
                    _ => Err(Refusal::Duplicate(other.id)),
                };
            }
        }
        if !self.has_room(topic) {
            return Err(Refusal::Full);
        }
        self.topic(topic).counts.emitted += 1;
        self.new = Some(Event {
            id: EventId::new(0),
            topic,
            due,
            attempts: 0,
            has_rest: false,
            unique: unique.map(|(key, _)| key.to_owned()),
            payload,
            state: State::Waiting,
        });
        Ok((None, None))
    }

    /// The event that was accepted last has this id.
    pub(super) fn added(&mut self, id: EventId) {
        assert!(self.events.iter().all(|event| event.id < id));
        let event = self.new.take().unwrap();
        self.events.push(Event { id, ..event });
    }

    /// The events of a topic that wait, in order.
    pub(super) fn waiting(&self, topic: TopicId) -> Vec<(u64, EventId)> {
        let waiting = self.events.iter();
        let waiting = waiting.filter(|it| it.topic == topic && it.state == State::Waiting);
        let mut waiting: Vec<_> = waiting.map(|event| (event.due, event.id)).collect();
        waiting.sort_unstable();
        waiting
    }

    /// When a topic starts its next event.
    fn start_of(&self, at: usize) -> Option<(u64, EventId)> {
        let topic = &self.topics[at];
        let limits = topic
            .limits
            .filter(|limits| !topic.is_paused && topic.busy < limits.parallel)?;
        let (due, id) = *self.waiting(TopicId(at as u32)).first()?;
        let paced = match topic.last_start {
            Some((last, gap)) if limits.interval > 0 => due.max(last + gap),
            _ => due,
        };
        Some((paced, id))
    }

    /// The events that may start at `now`: one of each topic.
    pub(super) fn startable(&self, now: u64) -> Vec<EventId> {
        let starts = (0..self.topics.len()).filter_map(|at| self.start_of(at));
        starts
            .filter(|(at, _)| *at <= now)
            .map(|(_, id)| id)
            .collect()
    }

    /// When the next event may start.
    pub(super) fn next_start(&self) -> Option<u64> {
        (0..self.topics.len())
            .filter_map(|at| Some(self.start_of(at)?.0))
            .min()
    }

    pub(super) fn start(&mut self, token: Token, now: u64) -> (u64, u32, u64, bool) {
        assert!(
            self.startable(now).contains(&token.id),
            "{token:?} may not start"
        );
        let topic = self.topic(token.topic);
        topic.busy += 1;
        topic.last_start = topic.limits.map(|limits| (now, limits.interval));
        let at = self.position(token.id).unwrap();
        let event = &mut self.events[at];
        event.attempts += 1;
        event.state = State::Running(token);
        (event.due, event.attempts, event.payload, event.has_rest)
    }

    pub(super) fn finish(&mut self, token: Token, end: End, now: u64, finished: &Finished<u64>) {
        self.topic(token.topic).busy -= 1;
        let is_current =
            |event: &Event| event.id == token.id && event.state == State::Running(token);
        let Some(at) = self.events.iter().position(is_current) else {
            assert!(matches!(finished, Finished::Stale(_)));
            return;
        };
        match end {
            End::Done => {
                let event = self.events.remove(at);
                self.topic(token.topic).counts.done += 1;
                assert!(matches!(finished, Finished::Gone(payload) if *payload == event.payload));
            }
            End::Again(delay, counts) => {
                let event = &mut self.events[at];
                event.due = delay.map_or(event.due, |delay| now + delay);
                event.attempts -= u32::from(!counts);
                event.state = State::Waiting;
                event.has_rest = true;
                let topic = self.topic(token.topic);
                topic.counts.retried += u64::from(counts);
                topic.counts.put_off += u64::from(!counts);
                assert!(matches!(finished, Finished::Again));
            }
            End::Dead => {
                let event = &mut self.events[at];
                event.state = State::Dead { at: now };
                event.unique = None;
                event.has_rest = true;
                self.topic(token.topic).counts.died += 1;
                let dead = self.dead(token.topic);
                let mut purged = None;
                if dead.len() > self.max_dead {
                    let at = self.position(dead[0].1).unwrap();
                    purged = Some(self.events.remove(at).payload);
                    self.topic(token.topic).counts.purged += 1;
                }
                assert!(matches!(finished, Finished::Dead(oldest) if *oldest == purged));
            }
        }
    }

    pub(super) fn cancel(&mut self, topic: TopicId, id: EventId, removed: &Removed<u64>) {
        let Some(at) = self.position(id) else {
            assert!(matches!(removed, Removed::Unknown));
            return;
        };
        let event = self.events.remove(at);
        self.topic(topic).counts.cancelled += 1;
        let is_right = match (event.state, removed) {
            (State::Waiting, Removed::Waiting(payload))
            | (State::Dead { .. }, Removed::Dead(payload)) => *payload == event.payload,
            (State::Running(token), Removed::Running(other)) => token == *other,
            _ => false,
        };
        assert!(is_right, "{removed:?} instead of {event:?}");
    }

    pub(super) fn reschedule(&mut self, id: EventId, due: u64) -> bool {
        let at = self
            .position(id)
            .filter(|&at| self.events[at].state == State::Waiting);
        if let Some(at) = at {
            self.events[at].due = due;
        }
        at.is_some()
    }

    pub(super) fn set_limits(&mut self, topic: TopicId, limits: Option<Limits>) {
        self.topic(topic).limits = limits;
    }

    pub(super) fn set_paused(&mut self, topic: TopicId, is_paused: bool) -> bool {
        std::mem::replace(&mut self.topic(topic).is_paused, is_paused) != is_paused
    }

    /// The dead of a topic, the oldest first.
    pub(super) fn dead(&self, topic: TopicId) -> Vec<(u64, EventId)> {
        let dead = self.events.iter().filter(|event| event.topic == topic);
        let mut dead: Vec<_> = dead
            .filter_map(|event| match event.state {
                State::Dead { at } => Some((at, event.id)),
                _ => None,
            })
            .collect();
        dead.sort_unstable();
        dead
    }

    pub(super) fn replay(&mut self, topic: TopicId, max: usize, now: u64) -> usize {
        let mut count = 0;
        for (_, id) in self.dead(topic).into_iter().take(max) {
            if !self.has_room(topic) {
                break;
            }
            let at = self.position(id).unwrap();
            let event = &mut self.events[at];
            event.state = State::Waiting;
            event.due = now;
            event.attempts = 0;
            count += 1;
        }
        self.topic(topic).counts.replayed += count as u64;
        count
    }

    pub(super) fn purge(&mut self, topic: TopicId) -> Vec<u64> {
        let dead = self.dead(topic);
        let take = |(_, id)| {
            let at = self.position(id).unwrap();
            self.events.remove(at).payload
        };
        let purged: Vec<_> = dead.into_iter().map(take).collect();
        self.topic(topic).counts.purged += purged.len() as u64;
        purged
    }

    pub(super) fn drain(&mut self) -> Vec<u64> {
        let mut all: Vec<_> = (0..self.topics.len() as u32)
            .flat_map(|topic| self.waiting(TopicId(topic)))
            .collect();
        all.sort_unstable();
        let take = |(_, id)| {
            let at = self.position(id).unwrap();
            let event = self.events.remove(at);
            self.topic(event.topic).counts.discarded += 1;
            event.payload
        };
        all.into_iter().map(take).collect()
    }

    /// The counters of a topic, those of what is there now counted anew.
    pub(super) fn counts(&self, topic: TopicId) -> Counts {
        let events = || self.events.iter().filter(|event| event.topic == topic);
        let is_running = |event: &&Event| matches!(event.state, State::Running(_));
        let counts = Counts {
            waiting: events()
                .filter(|event| event.state == State::Waiting)
                .count() as u64,
            running: events().filter(is_running).count() as u64,
            ..self.topics[topic.at()].counts
        };
        let dead = self.dead(topic).len() as u64;
        let ended = counts.done + counts.cancelled + counts.purged + counts.discarded;
        assert_eq!(
            counts.emitted,
            counts.waiting + counts.running + dead + ended
        );
        counts
    }
}
