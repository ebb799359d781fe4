//! What a process holds of one topic: the events that it has claimed, the outcomes that it has not reported, and when
//! it makes its next call. Pure: the time, in ns of the dispatcher's clock, is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::calls::{Again, Claimed, MOST, Outcomes, When, WorkReply, micros};
use super::super::layout::Keys;
use super::super::record::Record;
use crate::clock::nanos;
use crate::dispatch::EventId;
use crate::dispatch::attempt::{Outcome, Rest};
use crate::dispatch::plan::TopicId;

/// For how long outcomes are gathered while the workers have more to do.
const GATHER: u64 = 1_000_000;

/// How much work is claimed ahead of free workers, ns: as much as hides a round trip, and little enough that another
/// process is not kept waiting for it.
const AHEAD: f64 = 10e6;

/// The most events that are claimed ahead: two calls, one of which the workers run while the other is made.
const MOST_AHEAD: usize = 2 * MOST;

/// No event is claimed ahead if attempts take longer than this on average, ns: a round trip is then of no weight.
const SLOW: f64 = 5e6;

/// If no attempt ends for this long, ns, events that were claimed ahead are given back: another process may be free.
const STUCK: u64 = 20_000_000;

/// The mean run time that is assumed after that, ns. About 80 quick attempts bring it below [`SLOW`].
const NOT_AHEAD: f64 = 1e9;

/// How much the run time of one attempt changes the mean.
const WEIGHT: f64 = 1.0 / 16.0;

/// The limits of a topic while it has handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many of its events run at a time in this process.
    pub(crate) parallel: usize,
    /// How many of its events run at a time everywhere; zero means any number.
    pub(crate) everywhere: usize,
    /// The least time between two starts, us; zero means none.
    pub(crate) interval: u64,
}

/// The intervals of a dispatcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The lease.
    pub(crate) lease: Duration,
    /// The longest time between two calls for a topic with handlers.
    pub(crate) look: Duration,
}

/// The outcome of an attempt.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The topic.
    pub(crate) topic: TopicId,
    /// The event.
    pub(crate) id: u64,
    /// The fence of the attempt.
    pub(crate) fence: u64,
    /// How many attempts failed before.
    pub(crate) attempts: u32,
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// How long the attempt took, ns.
    pub(crate) run_time: u64,
}

/// An event that runs here, or waits for a worker of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Its id in the plan of the executor.
    pub(crate) local: EventId,
    /// The fence of its attempt.
    pub(crate) fence: u64,
    /// When it was due, us of the clock of Redis.
    due: u64,
}

/// A call that was not answered yet. It is repeated as it is.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Its number.
    pub(crate) seq: u64,
    /// When it was made first, ns. The leases of the events that it claims begin then or later.
    sent: u64,
    /// How many events are wanted.
    pub(crate) want: usize,
    /// The outcomes that it reports.
    pub(crate) outcomes: Outcomes,
}

/// What a process holds of one topic.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Its number in the executor.
    pub(crate) topic: TopicId,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its keys.
    pub(crate) keys: Arc<Keys>,
    /// Its limits; `None` without a handler.
    limits: Option<Limits>,
    /// The events that are claimed, by id.
    flights: HashMap<u64, Flight, ahash::RandomState>,
    /// Outcomes that are not in a call yet.
    outcomes: Outcomes,
    /// When the first of them came.
    since: u64,
    /// The call that was not answered yet.
    pub(crate) pending: Option<Pending>,
    /// Since when the server refuses its calls, and until when no further one is made.
    refused: Option<(u64, u64)>,
    /// When an event may be ready to be claimed, as far as is known.
    look_at: u64,
    /// Whether this process took the token that wakes one, and has not called since.
    has_token: bool,
    /// Whether an event is ready that this process has no worker for, and that it has passed on by a token.
    has_passed: bool,
    /// When the leases are renewed next.
    renew_at: u64,
    /// The mean run time of an attempt, ns; zero at first.
    mean: f64,
    /// When an event was claimed or an attempt ended last, ns.
    moved_at: u64,
}

/// What is to be done for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Claim and finish events now.
    Work,
    /// Renew the leases now.
    Renew,
    /// Give back what was claimed ahead and has not started.
    TakeBack,
    /// Nothing until this time.
    Until(u64),
}

impl Claims {
    /// Creates the claims of a topic, whose first call is made at once.
    pub(crate) fn new(topic: TopicId, name: Arc<str>, keys: Arc<Keys>) -> Self {
        Claims {
            topic,
            name,
            keys,
            limits: None,
            flights: HashMap::default(),
            outcomes: Outcomes::default(),
            since: 0,
            pending: None,
            refused: None,
            look_at: 0,
            has_token: false,
            has_passed: false,
            renew_at: u64::MAX,
            mean: 0.0,
            moved_at: 0,
        }
    }

    /// Sets the limits. A topic that gets its first handler is looked at now.
    pub(crate) fn set_limits(&mut self, limits: Option<Limits>, now: u64) {
        if self.limits.is_none() {
            self.look_at = now;
        }
        self.limits = limits;
    }

    /// The limits, if the topic has a handler.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// How many events are claimed.
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Notes that an event may be ready now: this process took the token of the topic.
    pub(crate) fn token(&mut self, now: u64) {
        self.has_token = true;
        self.look_at = self.look_at.min(now);
    }

    /// How many more events this process has use for, if it runs `threads` handlers at a time and has claimed `all`
    /// events of all topics.
    pub(crate) fn want(&self, threads: usize, all: usize) -> usize {
        let Some(limits) = self.limits else {
            return 0;
        };
        let ahead = self.ahead(threads);
        let own = limits.parallel.min(threads).saturating_add(ahead);
        let free = own.saturating_sub(self.flights.len());
        free.min((threads + ahead).saturating_sub(all)).min(MOST)
    }

    /// How many events are claimed ahead of free workers.
    fn ahead(&self, threads: usize) -> usize {
        if self.mean == 0.0 || self.mean > SLOW {
            return 0;
        }
        let ahead = (threads as f64 * AHEAD / self.mean).min(MOST_AHEAD as f64);
        #[expect(clippy::cast_sign_loss, reason = "the mean is not negative")]
        let ahead = ahead as usize;
        ahead
    }

    /// What is to be done at `now`.
    pub(crate) fn step(&self, threads: usize, all: usize, now: u64) -> Step {
        if let Some((_, until)) = self.refused
            && until > now
        {
            return Step::Until(until);
        }
        if self.pending.is_some() || self.has_token {
            return Step::Work;
        }
        if !self.flights.is_empty() && self.renew_at <= now {
            return Step::Renew;
        }
        let mut until = u64::MAX;
        // While the workers have enough to do, calls are made for many events at once.
        let is_busy = self.flights.len() > threads;
        let enough = if is_busy {
            self.ahead(threads).clamp(2, MOST_AHEAD) / 2
        } else {
            1
        };
        let want = self.want(threads, all);
        // A call that wants nothing leaves a token, so that another process runs the event that is due.
        if want >= enough || (want == 0 && self.limits.is_some() && !self.has_passed) {
            until = self.look_at;
        }
        if self.outcomes.len() > 0 {
            let is_full = self.outcomes.len() >= MOST;
            let gather = if is_busy && !is_full { GATHER } else { 0 };
            until = until.min(self.since.saturating_add(gather));
        }
        if !self.flights.is_empty() {
            until = until.min(self.renew_at);
        }
        let parallel = self
            .limits
            .map_or(threads, |limits| limits.parallel.min(threads));
        if self.flights.len() > parallel {
            let stuck_at = self.moved_at.saturating_add(STUCK);
            if stuck_at <= now {
                return Step::TakeBack;
            }
            until = until.min(stuck_at);
        }
        if until <= now {
            Step::Work
        } else {
            Step::Until(until)
        }
    }

    /// Whether a token of the topic is of use: this process could run another event and knows of none that is ready.
    pub(crate) fn is_open(&self, threads: usize, all: usize, now: u64) -> bool {
        self.look_at > now && self.want(threads, all) > 0
    }

    /// Takes the outcome of an attempt. Returns `false` if the event is no longer claimed.
    pub(crate) fn settle(&mut self, settled: Settled, now: u64) -> bool {
        let Settled {
            id,
            fence,
            attempts,
            outcome,
            run_time,
            ..
        } = settled;
        let Some(flight) = self
            .flights
            .get(&id)
            .filter(|flight| flight.fence == fence)
            .copied()
        else {
            return false;
        };
        self.flights.remove(&id);
        // Zero stands for an unknown mean, so a shorter run time counts as this.
        let run_time = (run_time as f64).max(100.0);
        let weight = if self.mean == 0.0 { 1.0 } else { WEIGHT };
        self.mean += (run_time - self.mean) * weight;
        self.moved_at = now;
        self.report(id, flight, attempts, outcome, now);
        true
    }

    /// Adds an outcome to those that are not reported.
    fn report(&mut self, id: u64, flight: Flight, attempts: u32, outcome: Outcome, now: u64) {
        if self.outcomes.len() == 0 {
            self.since = now;
        }
        let fence = flight.fence;
        match outcome {
            Outcome::Done => self.outcomes.done.push((id, fence)),
            Outcome::Again {
                delay,
                counts,
                rest,
            } => {
                let record = Record::new(attempts.saturating_add(counts.into()), rest);
                let due = delay.map_or(When::At(flight.due), |delay| When::After(micros(delay)));
                self.outcomes.again.push(Again {
                    id,
                    fence,
                    due,
                    record: (record != Record::default()).then(|| record.write()),
                    counts,
                });
            }
            Outcome::Dead(rest) => {
                let record = Record::new(attempts.saturating_add(1), rest);
                self.outcomes.dead.push((id, fence, record.write()));
            }
        }
    }

    /// The events that are claimed, by their ids in the plan of the executor.
    pub(crate) fn locals(&self) -> Vec<EventId> {
        self.flights.values().map(|flight| flight.local).collect()
    }

    /// Gives back the events with the given ids in the plan of the executor, and claims none ahead for a while.
    pub(crate) fn took_back(&mut self, locals: &[EventId], now: u64) {
        let taken = self
            .flights
            .extract_if(|_, flight| locals.contains(&flight.local));
        let taken: Vec<_> = taken.collect();
        for (id, flight) in taken {
            self.give_back_flight(id, flight, now);
        }
        self.mean = NOT_AHEAD;
        self.moved_at = now;
    }

    /// Gives back an event with the given claim.
    fn give_back_flight(&mut self, id: u64, flight: Flight, now: u64) {
        let outcome = Outcome::Again {
            delay: None,
            counts: false,
            rest: Rest::default(),
        };
        self.report(id, flight, 0, outcome, now);
    }

    /// Gives back an event that was claimed with `fence` and that the executor did not take.
    pub(crate) fn refuse(&mut self, event: &Claimed, fence: u64, now: u64) {
        let flight = Flight {
            local: EventId::new(0),
            fence,
            due: event.due,
        };
        self.give_back_flight(event.id, flight, now);
    }

    /// Moves an event that was claimed with `fence` to the dead list, because its processes ended while it ran.
    pub(crate) fn bury(&mut self, event: &Claimed, fence: u64, record: &Record, now: u64) {
        if self.outcomes.len() == 0 {
            self.since = now;
        }
        self.outcomes.dead.push((event.id, fence, record.write()));
    }

    /// Notes that the executor has taken an event.
    pub(crate) fn fly(&mut self, event: &Claimed, fence: u64, local: EventId, now: u64) {
        let due = event.due;
        self.moved_at = now;
        self.flights.insert(event.id, Flight { local, fence, due });
    }

    /// Ends a claim whose lease is lost or whose event was cancelled, and returns it.
    pub(crate) fn end(&mut self, id: u64) -> Option<Flight> {
        self.flights.remove(&id)
    }

    /// Begins a call, or repeats the one that was not answered. `seq` is the number of a new one.
    pub(crate) fn begin(&mut self, threads: usize, all: usize, seq: u64, now: u64) -> &Pending {
        let want = self.want(threads, all);
        self.has_token = false;
        let outcomes = &mut self.outcomes;
        self.pending.get_or_insert_with(|| Pending {
            seq,
            sent: now,
            want,
            outcomes: outcomes.take(MOST),
        })
    }

    /// Takes the reply of a call, which came at `now`. The claimed events are not part of it. Returns the outcomes that
    /// the call reported.
    pub(crate) fn replied(&mut self, reply: &WorkReply, times: Times, now: u64) -> Outcomes {
        let look = now.saturating_add(nanos(times.look));
        let wait = reply
            .wait
            .map(|wait| now.saturating_add(wait.saturating_mul(1_000)));
        self.look_at = wait.unwrap_or(look).min(look);
        let Some(pending) = self.pending.take() else {
            return Outcomes::default();
        };
        self.has_passed = pending.want == 0 && reply.wait == Some(0);
        // A reply may come late, or be that of a call made long ago.
        let renew_at = pending.sent.saturating_add(nanos(times.lease) / 3);
        self.renew_at = if self.flights.is_empty() {
            renew_at
        } else {
            self.renew_at.min(renew_at)
        };
        pending.outcomes
    }

    /// The claims to renew, and notes that they are renewed at `now`.
    pub(crate) fn renew(&mut self, times: Times, now: u64) -> Vec<(u64, u64)> {
        self.renew_at = now.saturating_add(nanos(times.lease) / 3);
        self.flights
            .iter()
            .map(|(id, flight)| (*id, flight.fence))
            .collect()
    }

    /// Renews the leases as soon as possible, because a connection was lost and is there again, or a renewal failed.
    pub(crate) fn renew_now(&mut self) {
        self.renew_at = 0;
    }

    /// Notes that the server refused a call: there is none for `wait`, ns. Returns whether this is the first in a row.
    pub(crate) fn refused(&mut self, wait: u64, now: u64) -> bool {
        let since = self.refused.map(|(since, _)| since);
        self.refused = Some((since.unwrap_or(now), now.saturating_add(wait)));
        since.is_none()
    }

    /// Notes that the server has executed a call. Returns since when it refused them, if it did.
    pub(crate) fn accepted(&mut self) -> Option<u64> {
        self.refused.take().map(|(since, _)| since)
    }

    /// Whether all outcomes are reported.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_none() && self.outcomes.len() == 0
    }
}

#[cfg(test)]
mod tests;
