//! The intervals between the beats of one node, and the timeout that follows from them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::f64::consts::LN_10;
use std::mem;
use std::time::Duration;

use super::{PhiAccrual, Policy, normal};
use crate::clock;

/// The shortest timeout that a history makes, ns: 1 ms, about as exactly as silence is noticed.
const FLOOR_NS: u64 = 1_000_000;

/// The longest interval remembered, µs: 557 years. The sums of 2^32 squares then fit 128 bits.
const LONGEST_US: u128 = 1 << 44;

/// The power of two of the number of timeouts between a power of two and the next.
const STEPS_LOG2: u32 = 6;

/// A node's own history. Empty, and a null pointer, for any policy but [`Policy::Adaptive`].
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct History {
    /// The last intervals, from the first beat on.
    window: Option<Box<Window>>,
}

impl Policy {
    /// Returns the timeout of a node that has no history yet, which is that of every node unless the policy is adaptive.
    #[must_use]
    pub fn initial_timeout(&self) -> Duration {
        History::new().timeout(self)
    }
}

impl History {
    /// One without beats.
    pub(in crate::registry) fn new() -> Self {
        History::default()
    }

    /// A beat at `now`; the one before was at `before`. Returns the timeout to wait from `now` on.
    ///
    /// The interval is remembered unless it is none of the node's own: there was no beat before (`None`), or the silence has
    /// to be [forgotten](Self::forget), or `before` is later than `now`; or unless it is one of a burst. Costs two
    /// additions, three divisions and a root, some tens of nanoseconds; nothing to mention where the policy is not adaptive.
    pub(in crate::registry) fn beat(
        &mut self,
        policy: &Policy,
        before: Option<Duration>,
        now: Duration,
    ) -> Duration {
        match policy {
            Policy::Fixed(_) | Policy::Missed { .. } => self.window = None,
            Policy::Adaptive(phi) => {
                let interval = before.and_then(|before| now.checked_sub(before));
                match &mut self.window {
                    None => self.window = Some(Box::default()),
                    Some(window) => window.beat(phi, interval, now),
                }
            }
        }
        self.timeout(policy)
    }

    /// The timeout that holds now, without a beat.
    pub(in crate::registry) fn timeout(&self, policy: &Policy) -> Duration {
        match *policy {
            Policy::Fixed(timeout) => timeout,
            Policy::Missed { interval, count } => {
                interval.checked_mul(count).unwrap_or(Duration::MAX)
            }
            Policy::Adaptive(phi) => {
                let ns = self.distribution(&phi).deadline(phi.score);
                clock::duration(round_up(ns.max(FLOOR_NS)))
            }
        }
    }

    /// φ at a silence of `silence`, from zero to infinity; `None` where the policy is not adaptive.
    pub(in crate::registry) fn phi(&self, policy: &Policy, silence: Duration) -> Option<f64> {
        match policy {
            Policy::Fixed(_) | Policy::Missed { .. } => None,
            Policy::Adaptive(phi) => Some(self.distribution(phi).phi(silence)),
        }
    }

    /// The silence until the next beat is no ordinary interval. One that is [foreign](Gap::Foreign) stays so.
    pub(in crate::registry) fn forget(&mut self, gap: Gap) {
        if let Some(window) = &mut self.window {
            window.gap = window.gap.max(gap);
        }
    }

    /// Whether an interval in which the registry did not run for `deaf_for` says too little of the node. A small part does no
    /// harm; if each of many short stalls cost an interval, a registry that is always a little late would learn nothing.
    pub(in crate::registry) fn is_spoiled(interval: Duration, deaf_for: Duration) -> bool {
        deaf_for > interval / 4
    }

    /// Forgets the intervals that ended after `last_alive`, until when the registry surely ran, and began before `resumed`, as
    /// far as they are [spoiled](Self::is_spoiled). Nothing else is lost, except what had to leave the window.
    pub(in crate::registry) fn unlearn(&mut self, last_alive: Duration, resumed: Duration) {
        if let Some(window) = &mut self.window {
            window.unlearn(last_alive, resumed);
        }
    }

    /// How intervals are distributed, by what was seen; by what is expected where nothing was.
    fn distribution(&self, phi: &PhiAccrual) -> Normal {
        let sums = match &self.window {
            Some(window) if !window.intervals.is_empty() => window.sums,
            _ => around(micros(phi.first_interval)).into_iter().collect(),
        };
        let (mean, deviation) = sums.mean_and_deviation();
        Normal {
            mean: mean * 1e3 + clock::nanos(phi.acceptable_pause) as f64,
            deviation: (deviation * 1e3).max(clock::nanos(phi.min_deviation) as f64),
        }
    }
}

/// Two intervals whose mean is `us` and whose deviation is a quarter of that: what a history begins with.
fn around(us: u64) -> [u64; 2] {
    [us - us / 4, us + us / 4]
}

/// What the silence until the next beat is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::registry) enum Gap {
    /// An interval, as far as is known.
    #[default]
    Ordinary,
    /// The node went down in it, or would have: an outage, or the interval of a node that has become slow.
    Death,
    /// Not the node's own: it lies between two of its lives.
    Foreign,
}

/// So many outages in a row that are alike are no outages but the pace of the node. One or two happen by chance; more would
/// only add deaths of a node that is alive.
const ALIKE_OUTAGES: u8 = 3;

/// An interval below this part of the mean is one of a burst, as beats that were held up come, unless so short ones go on for
/// as long as a mean interval.
const SHORT: u128 = 10;

/// Outages one after the other, with no ordinary interval between them.
#[derive(Clone, Copy, Debug, Default)]
struct Outages {
    /// How many were alike.
    count: u8,
    /// The shortest of them, µs.
    shortest: u64,
    /// The longest of them, µs: at most twice the shortest.
    longest: u64,
}

impl Outages {
    /// Adds an outage of `us`; if it is not like those before, it is the first of a new row.
    fn add(&mut self, us: u64) {
        let (shortest, longest) = (self.shortest.min(us), self.longest.max(us));
        *self = if self.count > 0 && longest <= 2 * shortest {
            Outages {
                count: self.count + 1,
                shortest,
                longest,
            }
        } else {
            Outages {
                count: 1,
                shortest: us,
                longest: us,
            }
        };
    }
}

/// The last intervals between the beats of a node.
#[derive(Clone, Debug, Default)]
struct Window {
    /// The intervals, µs, the oldest first; as many as the policy allows at most.
    intervals: VecDeque<u64>,
    /// Their sums.
    sums: Sums,
    /// When the newest of them ended, ns.
    newest_ns: u64,
    /// How long intervals have been short without another between them, µs.
    short_us: u64,
    /// The outages since the last ordinary interval.
    outages: Outages,
    /// What ends with the next beat.
    gap: Gap,
}

impl Window {
    /// A beat at `now`, the one before `interval` ago.
    fn beat(&mut self, phi: &PhiAccrual, interval: Option<Duration>, now: Duration) {
        match (mem::take(&mut self.gap), interval.map(micros)) {
            (Gap::Foreign, _) | (_, None) => self.outages = Outages::default(),
            (Gap::Death, Some(us)) => {
                self.outages.add(us);
                if self.outages.count >= ALIKE_OUTAGES {
                    let Outages {
                        shortest, longest, ..
                    } = mem::take(&mut self.outages);
                    self.clear();
                    self.begin(phi, shortest.midpoint(longest), now);
                }
            }
            (Gap::Ordinary, Some(us)) => {
                self.outages = Outages::default();
                if !self.is_burst(phi, us) {
                    if self.intervals.is_empty() {
                        self.begin(phi, micros(phi.first_interval), now);
                    }
                    self.push(phi.window, us);
                    self.newest_ns = clock::nanos(now);
                }
            }
        }
    }

    /// Whether an interval of `us` is one of a burst.
    fn is_burst(&mut self, phi: &PhiAccrual, us: u64) -> bool {
        let (count, sum) = match self.sums.count {
            0 => (1, u128::from(micros(phi.first_interval))),
            count => (u128::from(count), self.sums.sum),
        };
        if u128::from(us) * count * SHORT >= sum {
            self.short_us = 0;
            return false;
        }
        self.short_us = self.short_us.saturating_add(us);
        u128::from(self.short_us) * count < sum
    }

    /// Begins with what is expected of a node whose intervals are about `us`.
    fn begin(&mut self, phi: &PhiAccrual, us: u64, now: Duration) {
        for first in around(us) {
            self.push(phi.window, first);
        }
        self.newest_ns = clock::nanos(now);
    }

    /// Forgets the intervals that lie, in part, between two times.
    fn unlearn(&mut self, last_alive: Duration, resumed: Duration) {
        let deaf_for = resumed.saturating_sub(last_alive);
        let (last_alive, resumed) = (clock::nanos(last_alive), clock::nanos(resumed));
        while let Some(&us) = self.intervals.back() {
            let began_ns = self.newest_ns.saturating_sub(us.saturating_mul(1_000));
            let is_over = self.newest_ns <= last_alive || began_ns >= resumed;
            if is_over || !History::is_spoiled(Duration::from_micros(us), deaf_for) {
                break;
            }
            self.intervals.pop_back();
            self.sums.remove(us);
            self.newest_ns = began_ns;
        }
        if self.intervals.len() <= 2 {
            // No more than what it began with, or a part of that.
            self.clear();
        }
    }

    /// Forgets all intervals.
    fn clear(&mut self) {
        self.intervals.clear();
        self.sums = Sums::default();
        self.short_us = 0;
    }

    /// Adds an interval of `us`, and lets go of the oldest beyond `most`.
    fn push(&mut self, most: u32, us: u64) {
        let most = (most as usize).max(1);
        while self.intervals.len() >= most {
            let Some(oldest) = self.intervals.pop_front() else {
                break;
            };
            self.sums.remove(oldest);
        }
        let len = self.intervals.len();
        if len == self.intervals.capacity() {
            // Doubled, as ever, but to no more than there can be.
            self.intervals.reserve_exact(len.max(4).min(most - len));
        }
        self.intervals.push_back(us);
        self.sums.add(us);
    }
}

/// The sums that mean and deviation follow from. Integers, so what was added can be taken off again without a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// How many intervals.
    count: u32,
    /// Their sum, µs.
    sum: u128,
    /// The sum of their squares, µs².
    squares: u128,
}

impl Sums {
    /// Adds an interval of `us`.
    fn add(&mut self, us: u64) {
        let us = u128::from(us);
        self.count += 1;
        self.sum += us;
        self.squares += us * us;
    }

    /// Takes off an interval of `us` that was added.
    fn remove(&mut self, us: u64) {
        let us = u128::from(us);
        self.count -= 1;
        self.sum -= us;
        self.squares -= us * us;
    }

    /// The mean and the deviation, µs; of the intervals themselves and not of what they were drawn from, as in the paper.
    /// There must be one at least.
    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = u128::from(self.count);
        let (whole, rest) = (self.sum / count, self.sum % count);
        // Σ(x - whole)², exactly: no digits cancel, however large the mean is compared to the deviation.
        let spread = self.squares - whole * (self.sum + rest);
        let count = f64::from(self.count);
        let rest = rest as f64 / count;
        let variance = (spread as f64 / count - rest * rest).max(0.0);
        (whole as f64 + rest, variance.sqrt())
    }
}

impl FromIterator<u64> for Sums {
    fn from_iter<I: IntoIterator<Item = u64>>(intervals: I) -> Self {
        let mut sums = Sums::default();
        intervals.into_iter().for_each(|us| sums.add(us));
        sums
    }
}

/// How silences are distributed, ns.
struct Normal {
    /// Their mean, the acceptable pause included.
    mean: f64,
    /// Their standard deviation, above zero.
    deviation: f64,
}

impl Normal {
    /// The first silence at which φ is the threshold whose score is `score`, ns. One that overflows never comes.
    #[expect(
        clippy::cast_sign_loss,
        reason = "what is below zero is zero, and then the floor"
    )]
    fn deadline(&self, score: f64) -> u64 {
        (self.mean + score * self.deviation).ceil() as u64
    }

    /// φ at a silence of `silence`.
    fn phi(&self, silence: Duration) -> f64 {
        let score = (clock::nanos(silence) as f64 - self.mean) / self.deviation;
        -normal::ln_tail(score) / LN_10
    }
}

/// `duration` in whole microseconds, as far as they are remembered.
fn micros(duration: Duration) -> u64 {
    duration.as_micros().min(LONGEST_US) as u64
}

/// The next timeout at or after `ns` that is one of the few that are used, ns. A watcher keeps a list for each timeout, so
/// beats that change it cost more, and lists that many share cost less.
fn round_up(ns: u64) -> u64 {
    let step = 1 << ns.ilog2().saturating_sub(STEPS_LOG2);
    ns.checked_next_multiple_of(step).unwrap_or(clock::NEVER)
}
