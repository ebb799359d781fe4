//! The intervals between the beats of one node, and the timeout that follows from them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::f64::consts::LN_10;
use std::mem;
use std::time::Duration;

use super::{PhiAccrual, Policy, normal};
use crate::clock;

/// The shortest timeout that is derived from a history, in ns: 1 ms, about the accuracy with which silence is detected.
const FLOOR_NS: u64 = 1_000_000;

/// The longest interval that is remembered, in µs: 557 years. The sums of 2^32 squares then fit in 128 bits.
const LONGEST_US: u128 = 1 << 44;

/// The base-2 logarithm of the number of timeouts between two powers of two.
const STEPS_LOG2: u32 = 6;

/// The history of one node. Empty, and a null pointer, for every policy except [`Policy::Adaptive`].
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct History {
    /// The most recent intervals, from the first beat on.
    window: Option<Box<Window>>,
}

impl Policy {
    /// Returns the timeout of a node that has no history yet. Unless the policy is adaptive, this is the timeout of
    /// every node.
    #[must_use]
    pub fn initial_timeout(&self) -> Duration {
        History::new().timeout(self)
    }
}

impl History {
    /// Creates a history without beats.
    pub(in crate::registry) fn new() -> Self {
        History::default()
    }

    /// Records a beat at `now`; the previous one was at `before`. Returns the timeout that starts at `now`.
    ///
    /// The interval is remembered except in three cases: it is not an interval of the node (there is no previous beat,
    /// or the silence must be [forgotten](Self::forget)), `before` is later than `now`, or the interval belongs to a
    /// burst. Costs two additions, three divisions and a square root, some tens of nanoseconds. If the policy is not
    /// adaptive, the cost is negligible.
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

    /// Returns the present timeout without recording a beat.
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

    /// Returns φ at a silence of `silence`, from zero to infinity, or `None` if the policy is not adaptive.
    pub(in crate::registry) fn phi(&self, policy: &Policy, silence: Duration) -> Option<f64> {
        match policy {
            Policy::Fixed(_) | Policy::Missed { .. } => None,
            Policy::Adaptive(phi) => Some(self.distribution(phi).phi(silence)),
        }
    }

    /// Marks the silence until the next beat as no ordinary interval. A gap that is [foreign](Gap::Foreign) stays
    /// foreign.
    pub(in crate::registry) fn forget(&mut self, gap: Gap) {
        if let Some(window) = &mut self.window {
            window.gap = window.gap.max(gap);
        }
    }

    /// Returns whether an interval, during `deaf_for` of which the registry did not run, says too little about the
    /// node. A small part does no harm. If every short stall cost an interval, a registry that is always a little late
    /// would learn nothing.
    pub(in crate::registry) fn is_spoiled(interval: Duration, deaf_for: Duration) -> bool {
        deaf_for > interval / 4
    }

    /// Forgets the intervals that are [spoiled](Self::is_spoiled) by a stall. These are intervals that ended after
    /// `last_alive`, the last time at which the registry certainly ran, and began before `resumed`. Other intervals
    /// stay, except those that had to leave the window.
    pub(in crate::registry) fn unlearn(&mut self, last_alive: Duration, resumed: Duration) {
        if let Some(window) = &mut self.window {
            window.unlearn(last_alive, resumed);
        }
    }

    /// Returns the distribution of the observed intervals, or the expected one if none was observed.
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

/// Returns two intervals with a mean of `us` and a deviation of a quarter of that, with which a history begins.
fn around(us: u64) -> [u64; 2] {
    [us - us / 4, us + us / 4]
}

/// The meaning of the silence until the next beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::registry) enum Gap {
    /// An interval, as far as is known.
    #[default]
    Ordinary,
    /// The node went down during it, or would have. It is an outage, or the interval of a node that has become slow.
    Death,
    /// Not an interval of the node, because it lies between two incarnations.
    Foreign,
}

/// The number of similar outages in a row that are taken for the pace of the node. One or two occur by chance; a larger
/// number would only add deaths of a node that is alive.
const ALIKE_OUTAGES: u8 = 3;

/// An interval below 1/`SHORT` of the mean belongs to a burst of delayed beats, unless such short intervals continue
/// for as long as a mean interval.
const SHORT: u128 = 10;

/// Outages in a row, with no ordinary interval between them.
#[derive(Clone, Copy, Debug, Default)]
struct Outages {
    /// The number of outages that are alike.
    count: u8,
    /// The shortest of them, µs.
    shortest: u64,
    /// The longest of them, µs; at most twice the shortest.
    longest: u64,
}

impl Outages {
    /// Adds an outage of `us`. If it is unlike the previous ones, it starts a new row.
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

/// The most recent intervals between the beats of a node.
#[derive(Clone, Debug, Default)]
struct Window {
    /// The intervals in µs, the oldest first; at most as many as the policy allows.
    intervals: VecDeque<u64>,
    /// Their sums.
    sums: Sums,
    /// When the newest interval ended, ns.
    newest_ns: u64,
    /// How long a row of short intervals has continued, µs.
    short_us: u64,
    /// The outages since the last ordinary interval.
    outages: Outages,
    /// The meaning of the gap that ends with the next beat.
    gap: Gap,
}

impl Window {
    /// Records a beat at `now`, `interval` after the previous one.
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

    /// Returns whether an interval of `us` belongs to a burst.
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

    /// Starts with the values expected of a node whose intervals are about `us`.
    fn begin(&mut self, phi: &PhiAccrual, us: u64, now: Duration) {
        for first in around(us) {
            self.push(phi.window, first);
        }
        self.newest_ns = clock::nanos(now);
    }

    /// Forgets the intervals that overlap the time from `last_alive` to `resumed`.
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
            // Only the two initial intervals, or a part of them, are left.
            self.clear();
        }
    }

    /// Forgets all intervals.
    fn clear(&mut self) {
        self.intervals.clear();
        self.sums = Sums::default();
        self.short_us = 0;
    }

    /// Adds an interval of `us`, and removes the oldest intervals beyond `most`.
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
            // Doubled as by default, but limited to the size that can be used.
            self.intervals.reserve_exact(len.max(4).min(most - len));
        }
        self.intervals.push_back(us);
        self.sums.add(us);
    }
}

/// The sums from which mean and deviation are computed. They are integers, so removing an interval leaves no rounding
/// error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    /// The number of intervals.
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

    /// Removes an interval of `us` that was added before.
    fn remove(&mut self, us: u64) {
        let us = u128::from(us);
        self.count -= 1;
        self.sum -= us;
        self.squares -= us * us;
    }

    /// Returns the mean and the deviation in µs: the deviation of the intervals themselves, not an estimate for the
    /// distribution that they were drawn from, as in the paper. There must be at least one interval.
    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = u128::from(self.count);
        let (whole, rest) = (self.sum / count, self.sum % count);
        // Σ(x - whole)², computed exactly: no digits cancel, however large the mean is compared to the deviation.
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

/// A normal distribution of silences, in ns.
struct Normal {
    /// The mean, including the acceptable pause.
    mean: f64,
    /// The standard deviation, greater than zero.
    deviation: f64,
}

impl Normal {
    /// Returns the first silence, in ns, at which φ is the threshold whose score is `score`. A silence that overflows
    /// never comes.
    #[expect(
        clippy::cast_sign_loss,
        reason = "what is below zero is zero, and then the floor"
    )]
    fn deadline(&self, score: f64) -> u64 {
        (self.mean + score * self.deviation).ceil() as u64
    }

    /// Returns φ at a silence of `silence`.
    fn phi(&self, silence: Duration) -> f64 {
        let score = (clock::nanos(silence) as f64 - self.mean) / self.deviation;
        -normal::ln_tail(score) / LN_10
    }
}

/// Returns `duration` in whole microseconds, limited to the longest interval that is remembered.
fn micros(duration: Duration) -> u64 {
    duration.as_micros().min(LONGEST_US) as u64
}

/// Returns the next permitted timeout at or after `ns`, in ns. A watcher keeps one list for each timeout. The fewer
/// different timeouts there are, the fewer beats change the list of their node, and the fewer lists there are.
fn round_up(ns: u64) -> u64 {
    let step = 1 << ns.ilog2().saturating_sub(STEPS_LOG2);
    ns.checked_next_multiple_of(step).unwrap_or(clock::NEVER)
}
