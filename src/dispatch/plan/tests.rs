//! The plan against a naive model, operation by operation.

mod model;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dispatch::attempt::Rest;
use model::Model;

/// How many topics there are.
const TOPICS: u32 = 3;

/// How many events may be unfinished, in all and of a topic, and how many dead ones a topic keeps: so few that all
/// limits are met.
const LIMITS: (usize, usize, usize) = (9, 6, 2);

/// What is done to the plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Time passes.
    Pass(u64),
    /// An event is emitted.
    Emit {
        topic: u32,
        delay: Option<u64>,
        unique: Option<(u8, OnDuplicate)>,
    },
    /// The next event is started.
    Next,
    /// An attempt ends, the one at this place among those that have begun and not ended.
    Finish { which: usize, outcome: End },
    /// An event is cancelled, the one at this place among all that there ever were.
    Cancel(usize),
    /// An event is rescheduled.
    Reschedule(usize, u64),
    /// The limits of a topic change; a parallelism of zero means no handler.
    Limit(u32, usize, u64),
    /// A topic is paused or resumed.
    Pause(u32, bool),
    /// Dead events are replayed.
    Replay(u32, usize),
    /// Dead events are purged.
    Purge(u32),
    /// All that wait are taken out.
    Drain,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Done,
    Again(Option<u64>, bool),
    Dead,
}

fn policy() -> impl Strategy<Value = OnDuplicate> {
    prop_oneof![
        Just(OnDuplicate::Error),
        Just(OnDuplicate::Keep),
        Just(OnDuplicate::Replace)
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let end = prop_oneof![
        4 => Just(End::Done),
        2 => (0..9u64).prop_map(|delay| End::Again(Some(delay), true)),
        1 => (0..9u64).prop_map(|delay| End::Again(Some(delay), false)),
        1 => Just(End::Again(None, false)),
        2 => Just(End::Dead),
    ];
    let unique = proptest::option::weighted(0.3, (0..3u8, policy()));
    prop_oneof![
        12 => (0..6u64).prop_map(Action::Pass),
        24 => (0..TOPICS, proptest::option::of(0..20u64), unique)
            .prop_map(|(topic, delay, unique)| Action::Emit { topic, delay, unique }),
        24 => Just(Action::Next),
        18 => (0..8usize, end).prop_map(|(which, outcome)| Action::Finish { which, outcome }),
        6 => (0..64usize).prop_map(Action::Cancel),
        6 => (0..64usize, 0..20u64).prop_map(|(which, delay)| Action::Reschedule(which, delay)),
        3 => (0..TOPICS, 0..4usize, 0..4u64).prop_map(|(topic, n, gap)| Action::Limit(topic, n, gap)),
        3 => (0..TOPICS, any::<bool>()).prop_map(|(topic, is)| Action::Pause(topic, is)),
        3 => (0..TOPICS, 0..4usize).prop_map(|(topic, max)| Action::Replay(topic, max)),
        1 => (0..TOPICS).prop_map(Action::Purge),
        1 => Just(Action::Drain),
    ]
}

/// A plan and its model, which do the same.
struct Pair {
    plan: Plan<u64>,
    model: Model,
    now: u64,
    /// Attempts that have begun and not ended.
    open: Vec<(Token, u64)>,
    /// All events that there ever were, by topic.
    ids: Vec<(TopicId, EventId)>,
    /// The payload of the next event.
    payload: u64,
}

impl Pair {
    fn new() -> Self {
        let (unfinished, per_topic, dead) = LIMITS;
        let mut plan = Plan::new(unfinished, dead);
        for at in 0..TOPICS {
            let topic = plan.add_topic(per_topic);
            assert_eq!(topic, TopicId(at));
            plan.set_limits(topic, Some(limits(2, 0)));
        }
        Pair {
            plan,
            model: Model::new(TOPICS, unfinished, per_topic, dead),
            now: 0,
            open: Vec::new(),
            ids: Vec::new(),
            payload: 0,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per action")]
    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Pass(by) => self.now += by,
            Action::Emit {
                topic,
                delay,
                unique,
            } => {
                self.payload += 1;
                let topic = TopicId(topic);
                let due = delay.map(|delay| now + delay);
                let key = unique.map(|(key, policy)| (key.to_string(), policy));
                let key = key.as_ref().map(|(key, policy)| (&**key, *policy));
                let emitted = self.plan.emit(topic, self.payload, due, key, now);
                let expected = self.model.emit(topic, self.payload, due, key, now);
                match (emitted, expected) {
                    (Ok(emitted), Ok((None, unneeded))) => {
                        assert_eq!((emitted.unneeded, unneeded), (None, None));
                        self.model.added(emitted.id);
                        self.ids.push((topic, emitted.id));
                    }
                    (Ok(emitted), Ok((Some(id), unneeded))) => {
                        assert_eq!((emitted.id, emitted.unneeded), (id, unneeded));
                    }
                    (Err((refusal, payload)), Err(expected)) => {
                        assert_eq!((refusal, payload), (expected, self.payload));
                    }
                    (emitted, expected) => panic!("{emitted:?} instead of {expected:?}"),
                }
            }
            Action::Next => {
                let is_ready = self.plan.is_ready(now);
                let free = (0..u32::MAX)
                    .find(|free| self.open.iter().all(|(token, _)| token.runner != *free));
                let runner = free.expect("there are more numbers than attempts");
                let start = self.plan.next(runner, now);
                assert_eq!(is_ready, start.is_some());
                match start {
                    None => assert_eq!(self.model.startable(now), []),
                    Some(start) => {
                        let expected = self.model.start(start.token, now);
                        assert_eq!(
                            (
                                start.due,
                                start.attempt,
                                start.payload,
                                start.rest.is_some()
                            ),
                            expected
                        );
                        self.open.push((start.token, start.payload));
                    }
                }
            }
            Action::Finish { which, outcome } => {
                if self.open.is_empty() {
                    return;
                }
                let (token, payload) = self.open.remove(which % self.open.len());
                let rest = Rest::default;
                let ended = match outcome {
                    End::Done => Outcome::Done,
                    End::Again(delay, counts) => Outcome::Again {
                        delay: delay.map(Duration::from_nanos),
                        counts,
                        rest: rest(),
                    },
                    End::Dead => Outcome::Dead(rest()),
                };
                let finished = self.plan.finish(token, payload, ended, now);
                self.model.finish(token, outcome, now, &finished);
            }
            Action::Cancel(which) => {
                let Some(&(topic, id)) = self.ids.get(which % self.ids.len().max(1)) else {
                    return;
                };
                let removed = self.plan.cancel(topic, id);
                self.model.cancel(topic, id, &removed);
            }
            Action::Reschedule(which, delay) => {
                let Some(&(topic, id)) = self.ids.get(which % self.ids.len().max(1)) else {
                    return;
                };
                let is_moved = self.plan.reschedule(topic, id, now + delay, now);
                assert_eq!(is_moved, self.model.reschedule(id, now + delay));
            }
            Action::Limit(topic, parallel, interval) => {
                let new = (parallel > 0).then(|| limits(parallel, interval));
                self.plan.set_limits(TopicId(topic), new);
                self.model.set_limits(TopicId(topic), new);
            }
            Action::Pause(topic, is_paused) => {
                let is_changed = self.plan.set_paused(TopicId(topic), is_paused);
                assert_eq!(is_changed, self.model.set_paused(TopicId(topic), is_paused));
            }
            Action::Replay(topic, max) => {
                let count = self.plan.replay(TopicId(topic), max, now);
                assert_eq!(count, self.model.replay(TopicId(topic), max, now));
            }
            Action::Purge(topic) => {
                let purged = self.plan.purge(TopicId(topic));
                assert_eq!(purged, self.model.purge(TopicId(topic)));
            }
            Action::Drain => {
                let drained = self.plan.drain().into_iter();
                let drained: Vec<_> = drained.map(|(_, entry)| entry.payload).collect();
                assert_eq!(drained, self.model.drain());
            }
        }
    }

    /// Compares all that can be seen.
    fn validate(&mut self) {
        self.plan.validate();
        let (plan, model, now) = (&mut self.plan, &self.model, self.now);
        for topic in (0..TOPICS).map(TopicId) {
            assert_eq!(plan.counts(topic), model.counts(topic));
            assert_eq!(plan.dead_len(topic), model.dead(topic).len());
            let dead = plan.dead(topic, 9).into_iter();
            let dead: Vec<_> = dead.map(|(at, entry)| (at, entry.id)).collect();
            assert_eq!(dead, model.dead(topic));
            let peeked = plan.peek(topic, 99).into_iter();
            let peeked: Vec<_> = peeked.map(|entry| (entry.due, entry.id)).collect();
            assert_eq!(peeked, model.waiting(topic));
            let due = peeked.iter().filter(|(due, _)| *due <= now).count();
            assert_eq!(plan.due_by(topic, now), due);
        }
        if !plan.is_ready(now) {
            assert_eq!(model.startable(now), []);
            assert_eq!(plan.next_due(), model.next_start());
        }
    }
}

fn limits(parallel: usize, interval: u64) -> Limits {
    Limits { parallel, interval }
}

/// How many operations each case has, and how many cases there are: 100,000 operations in all, or as many times more as
/// `LIVENESS_PLAN_ROUNDS` says.
const CASES: (usize, u32) = (200, 500);

#[test]
fn the_plan_does_what_the_model_does() {
    let rounds = std::env::var("LIVENESS_PLAN_ROUNDS").map_or(1, |rounds| {
        rounds.parse().expect("LIVENESS_PLAN_ROUNDS is a number")
    });
    let config = ProptestConfig::with_cases(CASES.1 * rounds);
    let actions = proptest::collection::vec(action(), CASES.0);
    proptest!(config, |(actions in actions)| {
        let mut pair = Pair::new();
        for action in actions {
            pair.act(action);
            pair.validate();
        }
    });
}

#[test]
fn topics_take_turns() {
    let mut pair = Pair::new();
    for topic in [0, 0, 0, 1, 1, 2] {
        pair.act(Action::Emit {
            topic,
            delay: None,
            unique: None,
        });
    }
    let mut topics = Vec::new();
    while let Some(start) = pair.plan.next(0, 0) {
        topics.push(start.token.topic.0);
        pair.plan
            .finish(start.token, start.payload, Outcome::Done, 0);
    }
    assert_eq!(topics, [0, 1, 2, 0, 1, 0]);
}

#[test]
fn entries_of_cancelled_events_do_not_add_up() {
    let mut plan = Plan::new(1_000_000, 0);
    let topic = plan.add_topic(1_000_000);
    plan.set_limits(topic, Some(limits(1, 0)));
    plan.set_paused(topic, true);
    plan.emit(topic, 0, None, None, 0).unwrap();
    for number in 0..100_000 {
        let due = (number % 2 == 0).then_some(1_000);
        let id = plan.emit(topic, number, due, None, 0).unwrap().id;
        plan.cancel(topic, id);
    }
    assert!(
        plan.topics[0].entries() < 200,
        "{}",
        plan.topics[0].entries()
    );
    assert!(plan.records.is_empty());
}

#[test]
fn a_token_is_accepted_once() {
    let mut plan = Plan::new(9, 9);
    let topic = plan.add_topic(9);
    plan.set_limits(topic, Some(limits(2, 0)));
    plan.emit(topic, 'a', None, None, 0).unwrap();
    let first = plan.next(0, 0).unwrap().token;
    let again = Outcome::Again {
        delay: Some(Duration::ZERO),
        counts: true,
        rest: Rest::default(),
    };
    assert!(matches!(plan.finish(first, 'a', again, 0), Finished::Again));
    let second = plan.next(1, 0).unwrap().token;
    assert!(second.fence > first.fence);
    plan.topics[0].busy += 1; // the first worker comes back a second time
    assert!(matches!(
        plan.finish(first, 'b', Outcome::Done, 0),
        Finished::Stale('b')
    ));
    assert!(matches!(
        plan.finish(second, 'a', Outcome::Done, 0),
        Finished::Gone('a')
    ));
}
