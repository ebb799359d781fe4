//! Determines when one pacemaker is called next: at its ticks, and between them for retries and when work begins.
//!
//! It knows no thread and no clock: time is an argument, in nanoseconds.
//!
//! The *ticks* form a fixed grid: tick *n* is *n* intervals after the origin, apart from jitter. A call *between* ticks
//! is made before the next tick and does not move it. Pacemakers with different phases therefore stay apart, whatever
//! made them call together once.

use fastrand::Rng;

use super::stats::{Connection, PacemakerStats};

/// The options of one pacemaker; times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// The time from one tick to the next, greater than zero.
    pub(super) interval: u64,
    /// The time from the start to the first tick; random within the interval if `None`.
    pub(super) phase: Option<u64>,
    /// The fraction of the interval by which a tick may come early, 0 to 0.5.
    pub(super) jitter: f64,
    /// The wait between a first failure and its retry, greater than zero; doubled with each further failure.
    pub(super) first_retry: u64,
    /// The longest wait for a retry.
    pub(super) longest_retry: u64,
    /// The number of failures in a row after which the peer is offline, greater than zero.
    pub(super) offline_after: u32,
}

/// The state of a pacemaker.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// Its options.
    pace: Pace,
    /// When tick zero is due, ns.
    origin: u64,
    /// The number of the next tick.
    tick: u64,
    /// When the next tick is due, ns, including its jitter.
    next: u64,
    /// When a call before the next tick is due, ns, if there is one.
    between: Option<u64>,
    /// Work that begins before this time, ns, needs no call at once: the last beat is recent enough, or the last
    /// failure is too recent to try again.
    settled_until: u64,
    /// The number of failures in a row.
    failures: u32,
    /// The state of the peer, judged by the calls so far.
    connection: Connection,
    /// The counters.
    stats: PacemakerStats,
    /// The source of phase and jitter.
    rng: Rng,
}

impl Rhythm {
    /// Creates a rhythm that begins at `now`.
    pub(super) fn new(pace: Pace, now: u64, mut rng: Rng) -> Self {
        let phase = pace.phase.unwrap_or_else(|| rng.u64(0..pace.interval));
        let origin = now.saturating_add(phase);
        Rhythm {
            pace,
            origin,
            tick: 0,
            next: origin,
            between: None,
            settled_until: 0,
            failures: 0,
            connection: Connection::Unknown,
            stats: PacemakerStats::default(),
            rng,
        }
    }

    /// Returns when to call next, ns.
    pub(super) fn due(&self) -> u64 {
        self.between.unwrap_or(self.next)
    }

    /// Returns whether the due call is a tick, not a call between two ticks.
    pub(super) fn is_at_tick(&self) -> bool {
        self.between.is_none()
    }

    /// Returns the counters.
    pub(super) fn stats(&self) -> PacemakerStats {
        self.stats
    }

    /// Returns the state of the peer, judged by the calls so far.
    pub(super) fn connection(&self) -> Connection {
        self.connection
    }

    /// Begins work at `now`. A call is due at once, or an interval after the last beat, or when a failed call is
    /// retried. If a tick comes sooner, no other call is needed.
    pub(super) fn restart(&mut self, now: u64) {
        let ahead = self.origin.saturating_sub(now);
        if ahead > 0 {
            // The work must not wait longer for the first tick than for any other.
            self.origin = now.saturating_add(ahead % self.pace.interval);
            self.next = self.origin;
        }
        let wanted = now.max(self.settled_until);
        if wanted < self.due() {
            self.between = Some(wanted);
        }
    }

    /// Records that the due call was not made at `now`, because no work was alive.
    pub(super) fn withheld(&mut self, now: u64) {
        self.stats.withheld += 1;
        self.advance(now);
    }

    /// Records that the due call was made from `began` to `ended`. Returns the state of the peer if it has changed.
    pub(super) fn called(&mut self, began: u64, ended: u64, is_ok: bool) -> Option<Connection> {
        self.advance(ended);
        // The peer may have received the beat as early as the call began.
        self.settled_until = began.saturating_add(self.pace.interval);
        if is_ok {
            self.stats.beats += 1;
            self.failures = 0;
            return self.turn(Connection::Online);
        }
        self.stats.failures += 1;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.pace.offline_after {
            // Retries are for a beat that was lost. The ticks suffice to notice that an offline peer is back.
            return self.turn(Connection::Offline);
        }
        let retry = ended.saturating_add(self.backoff());
        self.settled_until = retry;
        self.between = (retry < self.next).then_some(retry);
        None
    }

    /// Returns the wait before the next retry. It doubles with each failure up to a maximum. The upper half of it is
    /// random, so that pacemakers that failed together do not retry together.
    fn backoff(&mut self) -> u64 {
        let doublings = (self.failures - 1).min(63);
        let longest = self.pace.first_retry.saturating_mul(1 << doublings);
        let longest = longest.min(self.pace.longest_retry);
        longest - self.rng.u64(0..=longest / 2)
    }

    /// Advances to the next call after the present one, which ended at `now`. Ticks that have passed are skipped and
    /// counted; they are not made up for. Jitter only makes a tick earlier, so two ticks are at most the interval plus
    /// the jitter apart.
    fn advance(&mut self, now: u64) {
        let was_tick = self.between.take().is_none();
        let following = self.tick + u64::from(was_tick);
        let passed = now
            .checked_sub(self.origin)
            .map_or(0, |age| age / self.pace.interval + 1);
        let tick = following.max(passed);
        self.stats.skipped += tick - following;
        if tick == self.tick {
            return;
        }
        self.tick = tick;
        #[expect(clippy::cast_sign_loss, reason = "no factor is below zero")]
        let early = (self.pace.interval as f64 * self.pace.jitter * self.rng.f64()) as u64;
        self.next = self
            .origin
            .saturating_add(tick.saturating_mul(self.pace.interval))
            .saturating_sub(early)
            .max(now);
    }

    /// Records the state of the peer, and returns it if it has changed.
    fn turn(&mut self, seen: Connection) -> Option<Connection> {
        (std::mem::replace(&mut self.connection, seen) != seen).then_some(seen)
    }
}

#[cfg(test)]
mod tests;
