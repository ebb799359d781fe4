//! When one pacemaker calls next: at its ticks, and between them for retries and for work that begins.
//!
//! It knows no thread and no clock: time is an argument, in nanoseconds.
//!
//! The *ticks* are a grid: tick *n* is *n* intervals after the origin, but for jitter, and nothing moves it. A call *between*
//! ticks comes before the next one and leaves it where it is. So pacemakers whose phases differ stay apart, whatever makes
//! them call together once.

use fastrand::Rng;

use super::stats::{Connection, PacemakerStats};

/// The options of one pacemaker; times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// From tick to tick, above zero.
    pub(super) interval: u64,
    /// How long after its start the first tick comes; at random within the interval where it is not given.
    pub(super) phase: Option<u64>,
    /// By how much of the interval a tick may come early, 0 to 0.5.
    pub(super) jitter: f64,
    /// The wait between a first failure and its retry, above zero; doubled with each further one.
    pub(super) first_retry: u64,
    /// The longest wait for a retry.
    pub(super) longest_retry: u64,
    /// The number of failures in a row from which on the peer is offline, above zero.
    pub(super) offline_after: u32,
}

/// Where a pacemaker stands.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// Its options.
    pace: Pace,
    /// When tick zero is due, ns.
    origin: u64,
    /// The number of the next tick.
    tick: u64,
    /// When the next tick is due, ns, its jitter included.
    next: u64,
    /// When a call is due before the next tick, ns, if one is.
    between: Option<u64>,
    /// The time before which work that begins needs no call, ns: the last beat is young enough, or the last failure too
    /// young to try again.
    settled_until: u64,
    /// Failures in a row.
    failures: u32,
    /// The state of the peer by the calls so far.
    connection: Connection,
    /// The counters.
    stats: PacemakerStats,
    /// Draws phase and jitter.
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

    /// Returns whether what is due is a tick, and not a call between two.
    pub(super) fn is_at_tick(&self) -> bool {
        self.between.is_none()
    }

    /// Returns the counters.
    pub(super) fn stats(&self) -> PacemakerStats {
        self.stats
    }

    /// Returns the state of the peer by the calls so far.
    pub(super) fn connection(&self) -> Connection {
        self.connection
    }

    /// Work begins at `now`: a call is due at once, or an interval after the last beat, or when a failed call is tried again.
    /// A tick that comes sooner is soon enough.
    pub(super) fn restart(&mut self, now: u64) {
        let ahead = self.origin.saturating_sub(now);
        if ahead > 0 {
            // The first tick must not keep the work waiting for longer than any other.
            self.origin = now.saturating_add(ahead % self.pace.interval);
            self.next = self.origin;
        }
        let wanted = now.max(self.settled_until);
        if wanted < self.due() {
            self.between = Some(wanted);
        }
    }

    /// The call that was due was not made at `now`, because there was nothing to beat for.
    pub(super) fn withheld(&mut self, now: u64) {
        self.stats.withheld += 1;
        self.advance(now);
    }

    /// The call that was due was made from `began` to `ended`. Returns the state of the peer if that has changed.
    pub(super) fn called(&mut self, began: u64, ended: u64, is_ok: bool) -> Option<Connection> {
        self.advance(ended);
        // The peer may have heard it as early as the call began.
        self.settled_until = began.saturating_add(self.pace.interval);
        if is_ok {
            self.stats.beats += 1;
            self.failures = 0;
            return self.turn(Connection::Online);
        }
        self.stats.failures += 1;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.pace.offline_after {
            // Retries are for a beat that was lost. A peer that is down is noticed soon enough by the ticks.
            return self.turn(Connection::Offline);
        }
        let retry = ended.saturating_add(self.backoff());
        self.settled_until = retry;
        self.between = (retry < self.next).then_some(retry);
        None
    }

    /// Draws the wait before the next retry: doubled with each failure, up to a maximum, the upper half of it at random, so
    /// that pacemakers that failed together do not try again together.
    fn backoff(&mut self) -> u64 {
        let doublings = (self.failures - 1).min(63);
        let longest = self.pace.first_retry.saturating_mul(1 << doublings);
        let longest = longest.min(self.pace.longest_retry);
        longest - self.rng.u64(0..=longest / 2)
    }

    /// Goes on to what is due after the present call, which ended at `now`. Ticks that have passed are skipped and counted:
    /// no burst makes up for them. Jitter only makes a tick earlier, so that two are never further apart than the interval
    /// and the jitter.
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
