//! The keeper: the thread that claims events for the workers, reports their outcomes, and renews the leases.
//!
//! It makes one call at a time, for the topics in turn, and sleeps until the next call is of use: until an event is
//! due, a lease is to be renewed, an outcome is there, or the listener took a token. `docs/redis.md` lists the races.

mod calls;
pub(crate) mod claims;
pub(crate) mod inbox;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claims::{Claims, Settled, Step, Times};
use inbox::{Inbox, Order, Received};

use super::calls::MOST;
use super::link::{Line, LinkError, cmd};
use super::listener::Ears;
use crate::clock::{Clock, nanos};
use crate::dispatch::local::Core;
use crate::dispatch::{Cause, EventId, Notice};

/// How often a topic is searched for events that are in no list.
const AUDIT: Duration = Duration::from_secs(60);

/// How long the keeper tries to report the last outcomes.
pub(crate) const LAST_CALLS: Duration = Duration::from_secs(2);

/// How long the keeper leaves a topic alone after an error of the server that does not pass by itself.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// The options of the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The session of its calls.
    pub(crate) session: String,
    /// How many handlers run at a time.
    pub(crate) threads: usize,
    /// The intervals.
    pub(crate) times: Times,
    /// How many dead events a topic keeps.
    pub(crate) max_dead: usize,
    /// How often the lease of an event may end before the event is dead.
    pub(crate) max_lapses: u64,
}

/// The keeper.
pub(crate) struct Keeper {
    /// Its options.
    options: Options,
    /// The workers.
    core: Arc<Core>,
    /// The time.
    clock: Clock,
    /// What it is to do.
    inbox: Arc<Inbox>,
    /// The listener.
    ears: Arc<Ears>,
    /// The connection.
    line: Line,
    /// The topics, in the order of their first handlers.
    topics: Vec<Claims>,
    /// The place of each topic, by its number in the executor.
    places: HashMap<usize, usize, ahash::RandomState>,
    /// The place of the topic that is served next.
    turn: usize,
    /// The number of the last call.
    seq: u64,
    /// Until when no call is made after a failure, ns.
    rests_until: u64,
    /// Since when the server is out of reach, ns.
    lost_since: Option<u64>,
    /// When the next audit is made, ns, of which topic, and where it goes on.
    audit: (u64, usize, (String, String)),
    /// Whether events are no longer claimed.
    is_stopping: bool,
    /// Until when the last calls are made, ns, and whether attempts that still run are waited for.
    ends_at: Option<(u64, bool)>,
}

impl Keeper {
    /// Creates a keeper.
    pub(crate) fn new(
        options: Options,
        core: Arc<Core>,
        inbox: Arc<Inbox>,
        ears: Arc<Ears>,
        line: Line,
    ) -> Self {
        let clock = core.clock().clone();
        let now = clock.now_ns();
        Keeper {
            options,
            core,
            clock,
            inbox,
            ears,
            line,
            topics: Vec::new(),
            places: HashMap::default(),
            turn: 0,
            seq: 0,
            rests_until: 0,
            lost_since: None,
            audit: (now.saturating_add(nanos(AUDIT)), 0, start()),
            is_stopping: false,
            ends_at: None,
        }
    }

    /// Runs until it is ordered to end and has reported all outcomes.
    pub(crate) fn run(mut self) {
        loop {
            let now = self.clock.now_ns();
            self.receive(now);
            if self.is_over(now) {
                break;
            }
            if self.rests_until > now {
                self.sleep(self.rests_until, now);
                continue;
            }
            match self.next_step(now) {
                (at, Step::Work) => self.work(at),
                (at, Step::Renew) => self.renew(at, now),
                (at, Step::TakeBack) => self.take_back(at, now),
                (_, Step::Until(until)) if self.audit_at() <= now && until > now => self.audit(now),
                (_, Step::Until(until)) => self.sleep(until.min(self.audit_at()), now),
            }
        }
        if self.ears.end() {
            self.wake_listener();
        }
    }

    /// Whether the last call was made.
    fn is_over(&self, now: u64) -> bool {
        let is_done = |waits: bool| {
            let mut topics = self.topics.iter();
            topics.all(|topic| topic.is_settled() && !(waits && topic.flights() > 0))
        };
        self.ends_at
            .is_some_and(|(end, waits)| now >= end || is_done(waits))
    }

    /// When the next audit is made.
    fn audit_at(&self) -> u64 {
        if self.topics.is_empty() {
            u64::MAX
        } else {
            self.audit.0
        }
    }

    /// How many events are claimed, of all topics.
    fn flights(&self) -> usize {
        self.topics.iter().map(Claims::flights).sum()
    }

    /// What is to be done next, and for which topic. Renewals come first, then the topics in turn.
    fn next_step(&mut self, now: u64) -> (usize, Step) {
        let (threads, all) = (self.options.threads, self.flights());
        let mut next = (0, Step::Until(u64::MAX));
        for offset in 0..self.topics.len() {
            let at = (self.turn + offset) % self.topics.len();
            let step = self.topics[at].step(threads, all, now);
            match (step, next.1) {
                (Step::Renew | Step::TakeBack, _) => return (at, step),
                (Step::Work, Step::Until(_)) => next = (at, step),
                (Step::Until(one), Step::Until(other)) if one < other => next = (at, step),
                _ => {}
            }
        }
        next
    }

    /// Sleeps until `until`, or until there is enough in the inbox.
    fn sleep(&mut self, until: u64, now: u64) {
        // While the workers have enough to do, outcomes are gathered.
        let busy = self.flights().saturating_sub(self.options.threads);
        let until = until.min(self.ends_at.map_or(u64::MAX, |(end, _)| end));
        let deadline = (until < u64::MAX)
            .then(|| Instant::now().checked_add(Duration::from_nanos(until.saturating_sub(now))));
        self.inbox.wait(deadline.flatten(), busy.clamp(1, MOST / 2));
    }

    /// Takes what is in the inbox.
    fn receive(&mut self, now: u64) {
        let Received { settled, orders } = self.inbox.take();
        for outcome in settled {
            self.settle(outcome, now);
        }
        for order in orders {
            self.obey(order, now);
        }
    }

    /// Takes the outcome of an attempt.
    fn settle(&mut self, settled: Settled, now: u64) {
        if let Some(&at) = self.places.get(&settled.topic.at()) {
            self.topics[at].settle(settled, now);
        }
    }

    /// Executes an order.
    fn obey(&mut self, order: Order, now: u64) {
        match order {
            Order::Limits(topic, name, keys, limits) => {
                let place = self.topics.len();
                let at = *self.places.entry(topic.at()).or_insert(place);
                if at == place {
                    self.ears.add(at, &keys.wake);
                    self.topics.push(Claims::new(topic, name, keys));
                }
                self.topics[at].set_limits(limits.filter(|_| !self.is_stopping), now);
                if limits.is_none() {
                    // Without a handler they would not start here.
                    self.take_back(at, now);
                }
            }
            Order::Token(at) => self.topics[at].token(now),
            Order::Cancelled(topic, id) => {
                if let Some(&at) = self.places.get(&topic.at()) {
                    self.recall(at, id, Cause::Cancelled);
                }
            }
            Order::Stop => {
                self.is_stopping = true;
                for topic in &mut self.topics {
                    topic.set_limits(None, now);
                }
            }
            Order::End { undone, waits } => {
                self.ends_at = Some((now.saturating_add(nanos(LAST_CALLS)), waits));
                for topic in &mut self.topics {
                    let undone = undone.iter().filter(|(name, _)| *name == topic.name);
                    let undone: Vec<_> = undone.map(|(_, local)| *local).collect();
                    topic.took_back(&undone, now);
                }
            }
        }
    }

    /// Ends the call of an event whose claim has ended.
    fn recall(&mut self, at: usize, id: u64, cause: Cause) {
        let topic = &mut self.topics[at];
        if let Some(flight) = topic.end(id) {
            self.core.recall(topic.topic, flight.local, cause);
            if cause == Cause::LeaseLost {
                self.core.notify(Notice::LeaseLost {
                    topic: topic.name.to_string(),
                    id: EventId::new(id),
                });
            }
        }
    }

    /// Gives back what was claimed ahead for topic `at` and has not started.
    fn take_back(&mut self, at: usize, now: u64) {
        let topic = &mut self.topics[at];
        let taken = self.core.take_back(topic.topic, topic.locals());
        topic.took_back(&taken, now);
    }

    /// Lets the listener take the token of topic `at` if it is of use.
    fn listen(&mut self, at: usize, now: u64) {
        let (threads, all) = (self.options.threads, self.flights());
        if self.topics[at].is_open(threads, all, now) && self.ears.open(at) {
            self.wake_listener();
        }
    }

    /// Wakes the listener, which blocks on the server.
    fn wake_listener(&mut self) {
        let mut push = cmd("RPUSH");
        push.arg(self.ears.bye()).arg(1);
        // If the server is out of reach, the listener is not blocked either, or not for long.
        if self.lost_since.is_some() || self.line.query(&push).is_err() {
            self.ears.not_woken();
        }
    }

    /// Notes that the server has executed a call for topic `at`.
    fn reached(&mut self, at: usize, now: u64) {
        let refused_since = self.topics[at].accepted();
        let lost_since = self.lost_since.take();
        if lost_since.is_some() {
            self.topics.iter_mut().for_each(Claims::renew_now);
        }
        if let Some(since) = lost_since.or(refused_since) {
            let after = Duration::from_nanos(now.saturating_sub(since));
            self.core.notify(Notice::Reconnected { after });
        }
    }

    /// Notes that a call for topic `at` failed, which is repeated later. One that was refused holds up no other topic.
    fn failed(&mut self, at: usize, error: &LinkError, now: u64) {
        let is_first = if error.is_passing() {
            // Leases must be renewed, and outcomes reported, within the lease that the first call after an outage
            // grants.
            let wait = self.line.backoff().min(self.options.times.lease / 4);
            self.rests_until = now.saturating_add(nanos(wait));
            self.lost_since
                .replace(self.lost_since.unwrap_or(now))
                .is_none()
        } else {
            self.topics[at].refused(nanos(REFUSED_WAIT), now)
        };
        if is_first {
            let error = error.to_string();
            self.core.notify(Notice::Disconnected { error });
        }
    }
}

/// Where an audit begins, and where it ends.
fn start() -> (String, String) {
    ("0".to_owned(), "0".to_owned())
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("topics", &self.topics.len())
            .field("is_stopping", &self.is_stopping)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
