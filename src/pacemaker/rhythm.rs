//! When one pacemaker calls next: ticks without drift, retries between them, and who counts as online.
//!
//! It knows no thread and no clock: time is an argument, in nanoseconds.

use fastrand::Rng;

use super::{Connection, PacemakerStats};

/// What a pacemaker is told once; times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// From tick to tick, above zero.
    pub(super) interval: u64,
    /// How long after its start the first tick comes; at random within the interval where it is not given.
    pub(super) phase: Option<u64>,
    /// By how much of the interval a tick may come early, 0 to 0.5.
    pub(super) jitter: f64,
    /// How long after a first failure it is tried again, above zero; doubled with each further one.
    pub(super) first_retry: u64,
    /// The longest wait for a retry.
    pub(super) longest_retry: u64,
    /// So many failures in a row make it offline, above zero.
    pub(super) offline_after: u32,
}

/// Where a pacemaker stands.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// What it was told.
    pace: Pace,
    /// When tick zero is due, ns, but for jitter.
    origin: u64,
    /// The number of the tick after the one that is due, or while a retry is due of the next one.
    tick: u64,
    /// When to call next, ns: for a tick or a retry.
    due: u64,
    /// When the last call that succeeded ended, ns.
    last_beat: Option<u64>,
    /// Failures in a row.
    failures: u32,
    /// The last that was seen of the peer.
    connection: Connection,
    /// What was counted.
    stats: PacemakerStats,
    /// Draws phase and jitter.
    rng: Rng,
}

impl Rhythm {
    /// A rhythm that begins at `now`.
    pub(super) fn new(pace: Pace, now: u64, mut rng: Rng) -> Self {
        let phase = pace.phase.unwrap_or_else(|| rng.u64(0..pace.interval));
        let origin = now.saturating_add(phase);
        Rhythm {
            pace,
            origin,
            tick: 1,
            due: origin,
            last_beat: None,
            failures: 0,
            connection: Connection::Unknown,
            stats: PacemakerStats::default(),
            rng,
        }
    }

    /// When to call next, ns.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// What was counted.
    pub(super) fn stats(&self) -> PacemakerStats {
        self.stats
    }

    /// The last that was seen of the peer.
    pub(super) fn connection(&self) -> Connection {
        self.connection
    }

    /// There is something to beat for from `now` on: begins anew with a tick at once, unless the last beat is less than an
    /// interval ago; then the next tick is soon enough.
    pub(super) fn restart(&mut self, now: u64) {
        let is_fresh = |beat: u64| now.saturating_sub(beat) < self.pace.interval;
        if !self.last_beat.is_some_and(is_fresh) {
            (self.origin, self.tick, self.due) = (now, 1, now);
        }
    }

    /// The call that was due was not made at `now`, because there was nothing to beat for.
    pub(super) fn withheld(&mut self, now: u64) {
        self.stats.withheld += 1;
        self.due = self.next_tick(now);
        self.tick += 1;
    }

    /// The call that was due was made and ended at `now`, well or not. Returns what that changed.
    pub(super) fn called(&mut self, now: u64, is_ok: bool) -> Option<Connection> {
        let next = self.next_tick(now);
        if is_ok {
            self.stats.beats += 1;
            self.failures = 0;
            self.last_beat = Some(now);
            self.due = next;
            self.tick += 1;
            return self.turn(Connection::Online);
        }
        self.stats.failures += 1;
        self.failures = self.failures.saturating_add(1);
        let retry = now.saturating_add(self.backoff());
        self.due = retry.min(next);
        self.tick += u64::from(next <= retry);
        if self.failures >= self.pace.offline_after {
            return self.turn(Connection::Offline);
        }
        None
    }

    /// How long to wait after so many failures: doubled with each, up to a cap, the upper half of it at random, so that
    /// those who failed together do not try again together.
    fn backoff(&mut self) -> u64 {
        let doublings = (self.failures - 1).min(63);
        let longest = self.pace.first_retry.saturating_mul(1 << doublings);
        let longest = longest.min(self.pace.longest_retry);
        longest - self.rng.u64(0..=longest / 2)
    }

    /// When the next tick after `now` is due. Ticks that have passed are skipped, and counted: no burst makes up for them.
    /// Each is a multiple of the interval after the origin, so that nothing adds up; jitter only makes it earlier, so that
    /// two are never further apart than the interval and the jitter.
    fn next_tick(&mut self, now: u64) -> u64 {
        let passed = now
            .checked_sub(self.origin)
            .map_or(0, |age| age / self.pace.interval + 1);
        if passed > self.tick {
            self.stats.skipped += passed - self.tick;
            self.tick = passed;
        }
        #[expect(clippy::cast_sign_loss, reason = "no factor is below zero")]
        let early = (self.pace.interval as f64 * self.pace.jitter * self.rng.f64()) as u64;
        self.origin
            .saturating_add(self.tick.saturating_mul(self.pace.interval))
            .saturating_sub(early)
            .max(now)
    }

    /// Takes note of what was seen of the peer, and returns it if it is new.
    fn turn(&mut self, seen: Connection) -> Option<Connection> {
        (std::mem::replace(&mut self.connection, seen) != seen).then_some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 1_000;

    fn pace() -> Pace {
        Pace {
            interval: INTERVAL,
            phase: Some(0),
            jitter: 0.0,
            first_retry: 100,
            longest_retry: 300,
            offline_after: 3,
        }
    }

    fn rhythm(pace: Pace) -> Rhythm {
        Rhythm::new(pace, 5_000, Rng::with_seed(7))
    }

    #[test]
    fn calls_that_take_their_time_add_up_to_no_drift() {
        let mut rhythm = rhythm(pace());
        for nth in 0..1_000 {
            assert_eq!(rhythm.due(), 5_000 + nth * INTERVAL);
            rhythm.called(rhythm.due() + 999, true);
        }
        assert_eq!((rhythm.stats().beats, rhythm.stats().skipped), (1_000, 0));
    }

    #[test]
    fn ticks_that_have_passed_are_skipped_and_counted() {
        for (late, skipped, next) in [(999, 0, 6_000), (1_000, 1, 7_000), (2_500, 2, 8_000)] {
            let mut rhythm = rhythm(pace());
            rhythm.called(5_000 + late, true);
            assert_eq!((rhythm.stats().skipped, rhythm.due()), (skipped, next));
        }
    }

    #[test]
    fn the_first_tick_falls_into_the_first_interval_wherever_chance_puts_it() {
        let random = Pace {
            phase: None,
            ..pace()
        };
        let dues = (0..1_000).map(|seed| {
            let rhythm = Rhythm::new(random.clone(), 5_000, Rng::with_seed(seed));
            rhythm.due()
        });
        let (early, late): (Vec<u64>, Vec<u64>) = dues.partition(|&due| due < 5_500);
        assert!(late.iter().all(|&due| due < 6_000) && early.iter().all(|&due| due >= 5_000));
        assert!(early.len() > 400 && late.len() > 400);
    }

    #[test]
    fn jitter_makes_ticks_earlier_and_never_later() {
        let mut rhythm = rhythm(Pace {
            jitter: 0.1,
            ..pace()
        });
        let mut earliest = 0;
        for nth in 1..1_000 {
            rhythm.called(rhythm.due(), true);
            let early = (5_000 + nth * INTERVAL).checked_sub(rhythm.due());
            earliest = earliest.max(early.expect("it is not late"));
        }
        assert!((90..=100).contains(&earliest), "{earliest}");
    }

    #[test]
    fn failures_are_tried_again_within_the_interval_ever_more_slowly() {
        for seed in 0..100 {
            let mut rhythm = Rhythm::new(pace(), 5_000, Rng::with_seed(seed));
            for (least, most) in [(50, 100), (100, 200), (150, 300), (150, 300)] {
                let now = rhythm.due();
                rhythm.called(now, false);
                let wait = rhythm.due() - now;
                assert!(
                    (least..=most).contains(&wait),
                    "{wait} is not from {least} to {most}"
                );
            }
            // The tick is kept: a retry moves no later beat.
            rhythm.called(rhythm.due(), true);
            assert_eq!(rhythm.due(), 6_000);
        }
    }

    #[test]
    fn a_retry_beyond_the_next_tick_is_left_to_it() {
        let mut rhythm = rhythm(pace());
        rhythm.called(5_990, false);
        assert_eq!(rhythm.due(), 6_000);
        rhythm.called(6_000, true);
        assert_eq!((rhythm.due(), rhythm.stats().skipped), (7_000, 0));
    }

    #[test]
    fn offline_and_online_are_told_once_each() {
        let mut rhythm = rhythm(pace());
        let outcomes = [
            true, false, false, true, false, false, false, false, true, true,
        ];
        let told = outcomes.map(|is_ok| rhythm.called(rhythm.due(), is_ok));
        let mut expected = [None; 10];
        expected[0] = Some(Connection::Online);
        expected[6] = Some(Connection::Offline);
        expected[8] = Some(Connection::Online);
        assert_eq!(told, expected);
        assert_eq!((rhythm.stats().beats, rhythm.stats().failures), (4, 6));
    }

    #[test]
    fn who_never_succeeds_is_offline_too() {
        let mut rhythm = rhythm(pace());
        assert_eq!(rhythm.connection(), Connection::Unknown);
        let told: Vec<_> = (0..5)
            .filter_map(|_| rhythm.called(rhythm.due(), false))
            .collect();
        assert_eq!(told, [Connection::Offline]);
    }

    #[test]
    fn work_that_begins_beats_at_once_but_no_more_than_once_an_interval() {
        let mut rhythm = rhythm(pace());
        rhythm.withheld(5_000);
        assert_eq!((rhythm.due(), rhythm.stats().withheld), (6_000, 1));
        rhythm.restart(5_400);
        assert_eq!(rhythm.due(), 5_400);
        rhythm.called(5_400, true);
        rhythm.restart(6_399);
        assert_eq!(rhythm.due(), 6_400);
        rhythm.restart(6_401);
        assert_eq!(rhythm.due(), 6_401);
    }

    #[test]
    fn the_longest_intervals_and_the_end_of_time_do_no_harm() {
        let longest = Pace {
            interval: u64::MAX,
            phase: Some(u64::MAX),
            jitter: 0.5,
            first_retry: u64::MAX,
            longest_retry: u64::MAX,
            offline_after: 1,
        };
        let mut rhythm = rhythm(longest);
        for is_ok in [true, false, false, true] {
            rhythm.called(u64::MAX, is_ok);
            assert_eq!(rhythm.due(), u64::MAX);
        }
        rhythm.restart(u64::MAX);
    }
}
