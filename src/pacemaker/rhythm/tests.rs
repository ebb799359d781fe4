//! Ticks, retries and the start of work, with times passed in.

use fastrand::Rng;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

impl Rhythm {
    /// Makes the due call, which takes no time.
    fn call(&mut self, now: u64, is_ok: bool) -> Option<Connection> {
        self.called(now, now, is_ok)
    }
}

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
        rhythm.called(rhythm.due(), rhythm.due() + 999, true);
    }
    assert_eq!((rhythm.stats().beats, rhythm.stats().skipped), (1_000, 0));
}

#[test]
fn ticks_that_have_passed_are_skipped_and_counted() {
    for (late, skipped, next) in [(999, 0, 6_000), (1_000, 1, 7_000), (2_500, 2, 8_000)] {
        let mut rhythm = rhythm(pace());
        rhythm.called(5_000, 5_000 + late, true);
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
        rhythm.call(rhythm.due(), true);
        let early = (5_000 + nth * INTERVAL).checked_sub(rhythm.due());
        earliest = earliest.max(early.expect("it is not late"));
    }
    assert!((90..=100).contains(&earliest), "{earliest}");
}

#[test]
fn failures_are_tried_again_within_the_interval_ever_more_slowly() {
    for seed in 0..100 {
        let patient = Pace {
            offline_after: 5,
            ..pace()
        };
        let mut rhythm = Rhythm::new(patient, 5_000, Rng::with_seed(seed));
        for (least, most) in [(50, 100), (100, 200), (150, 300), (150, 300)] {
            let now = rhythm.due();
            rhythm.call(now, false);
            let wait = rhythm.due() - now;
            assert!(
                (least..=most).contains(&wait),
                "{wait} is not from {least} to {most}"
            );
        }
        // The tick is unchanged: a retry moves no later beat.
        rhythm.call(rhythm.due(), true);
        assert_eq!(rhythm.due(), 6_000);
    }
}

#[test]
fn a_retry_beyond_the_next_tick_is_left_to_it() {
    let mut rhythm = rhythm(pace());
    rhythm.call(5_990, false);
    assert_eq!(rhythm.due(), 6_000);
    rhythm.call(6_000, true);
    assert_eq!((rhythm.due(), rhythm.stats().skipped), (7_000, 0));
}

#[test]
fn offline_and_online_are_told_once_each() {
    let mut rhythm = rhythm(pace());
    let outcomes = [
        true, false, false, true, false, false, false, false, true, true,
    ];
    let told = outcomes.map(|is_ok| rhythm.call(rhythm.due(), is_ok));
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
        .filter_map(|_| rhythm.call(rhythm.due(), false))
        .collect();
    assert_eq!(told, [Connection::Offline]);
}

#[test]
fn work_that_begins_beats_at_once_or_an_interval_after_the_last_beat() {
    let mut rhythm = rhythm(pace());
    rhythm.withheld(5_000);
    assert_eq!((rhythm.due(), rhythm.stats().withheld), (6_000, 1));
    rhythm.restart(5_400);
    assert_eq!(rhythm.due(), 5_400);
    rhythm.call(5_400, true);
    assert_eq!(rhythm.due(), 6_000, "its tick stays where it was");
    rhythm.withheld(6_000);
    rhythm.restart(6_399);
    assert_eq!(rhythm.due(), 6_400);
    rhythm.withheld(6_400);
    rhythm.restart(6_401);
    assert_eq!(rhythm.due(), 6_401);
    assert_eq!(rhythm.stats().skipped, 0);
}

#[test]
fn work_that_begins_before_the_first_tick_does_not_wait_for_it_between_beats() {
    let late = Pace {
        phase: Some(20 * INTERVAL + 300),
        ..pace()
    };
    let mut rhythm = rhythm(late);
    rhythm.restart(7_200);
    assert_eq!(rhythm.due(), 7_200);
    rhythm.call(7_200, true);
    assert_eq!(rhythm.due(), 7_300);
}

#[test]
fn work_that_begins_waits_no_longer_than_an_interval_after_the_last_beat() {
    for (failed, retried) in [(true, 400), (false, 0)] {
        let mut rhythm = rhythm(pace());
        if failed {
            rhythm.call(5_000, false);
        }
        rhythm.call(5_000 + retried, true);
        rhythm.withheld(6_000);
        rhythm.restart(6_000 + retried.saturating_sub(1));
        assert!(rhythm.due() <= 6_000 + retried, "{}", rhythm.due());
    }
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
        rhythm.call(u64::MAX, is_ok);
        assert_eq!(rhythm.due(), u64::MAX);
    }
    rhythm.restart(u64::MAX);
}
#[test]
fn work_that_begins_at_the_moment_of_the_first_tick_leaves_the_second_where_it_is() {
    let mut rhythm = rhythm(pace());
    rhythm.call(5_000, true);
    rhythm.restart(5_000);
    assert_eq!((rhythm.due(), rhythm.next), (6_000, 6_000));
}

#[test]
fn a_peer_that_is_offline_is_called_once_an_interval() {
    let mut rhythm = rhythm(pace());
    for _ in 0..3 {
        rhythm.call(rhythm.due(), false);
    }
    assert_eq!(rhythm.connection(), Connection::Offline);
    for nth in 1..100 {
        assert_eq!(rhythm.due(), 5_000 + nth * INTERVAL);
        rhythm.call(rhythm.due(), false);
    }
    // Back online, failures are retried again as before.
    rhythm.call(rhythm.due(), true);
    rhythm.call(rhythm.due(), false);
    assert!(rhythm.due() <= 5_000 + 101 * INTERVAL + 100);
}

#[test]
fn work_that_begins_calls_a_peer_that_fails_no_sooner() {
    let mut rhythm = rhythm(pace());
    rhythm.call(5_000, false);
    let retry = rhythm.due();
    rhythm.restart(5_010);
    assert_eq!(rhythm.due(), retry);
    rhythm.call(retry, false);
    rhythm.call(rhythm.due(), false);
    rhythm.restart(5_900);
    assert_eq!(rhythm.due(), 6_000);
}

/// An operation on a rhythm.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It is called this late, for this long, with this outcome.
    Call(u64, u64, bool),
    /// Its call is withheld, this late.
    Withhold(u64),
    /// Work begins after this long, unless something is due before.
    Begin(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly in time; sometimes late or slow by up to a few intervals.
    let delay = || prop_oneof![4 => Just(0), 2 => 0..INTERVAL, 1 => 0..5 * INTERVAL];
    prop_oneof![
        6 => (delay(), delay(), any::<bool>()).prop_map(|(late, long, is_ok)| Step::Call(late, long, is_ok)),
        3 => delay().prop_map(Step::Withhold),
        3 => (0..2 * INTERVAL).prop_map(Step::Begin),
    ]
}

proptest! {
    #[test]
    fn a_rhythm_keeps_its_promises_whatever_happens(
        seed: u64,
        phase in prop::option::of(0..3 * INTERVAL),
        percent in prop_oneof![Just(0), 0..=50_u32],
        offline_after in 1..5_u32,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let jitter = f64::from(percent) / 100.0;
        let early = INTERVAL * u64::from(percent) / 100;
        let options = Pace { phase, jitter, offline_after, ..pace() };
        let mut rhythm = Rhythm::new(options, 5_000, Rng::with_seed(seed));
        let grid = rhythm.due() % INTERVAL;
        let mut now = 5_000;
        // The ticks at which it was called or withheld, successful calls, failures in a row, and calls.
        let (mut ticks, mut beats, mut failures, mut calls) = (0, 0, 0, 0);
        let mut last_beat: Option<u64> = None;
        for step in steps {
            let due = rhythm.due();
            match step {
                Step::Begin(after) => {
                    if now + after > due.max(now) {
                        continue;
                    }
                    now += after;
                    rhythm.restart(now);
                    prop_assert!(rhythm.due() <= due, "work makes no call later");
                    let young = last_beat.filter(|_| failures == 0);
                    let latest = young.map_or(now + INTERVAL, |beat| now.max(beat + INTERVAL));
                    prop_assert!(rhythm.due() <= latest);
                    if failures == 0 && last_beat.is_none() {
                        prop_assert_eq!(rhythm.due(), now);
                    }
                }
                Step::Withhold(late) => {
                    now = now.max(due) + late;
                    ticks += u64::from(rhythm.is_at_tick());
                    rhythm.withheld(now);
                    prop_assert!(rhythm.is_at_tick());
                }
                Step::Call(late, long, is_ok) => {
                    let began = now.max(due) + late;
                    now = began + long;
                    ticks += u64::from(rhythm.is_at_tick());
                    calls += 1;
                    rhythm.called(began, now, is_ok);
                    if is_ok {
                        (failures, last_beat) = (0, Some(began));
                        beats += 1;
                    } else {
                        failures += 1;
                    }
                    let is_online = is_ok || failures < offline_after;
                    prop_assert_eq!(rhythm.connection() == Connection::Offline, !is_online);
                    // Retries are for failures of a peer that is not offline.
                    prop_assert!(rhythm.is_at_tick() || (!is_ok && is_online));
                    prop_assert!(rhythm.is_at_tick() || (now + 50..=now + 300).contains(&rhythm.due()));
                }
            }
            // The ticks stay on their grid, and the next one is at most the interval plus the jitter away.
            let next = rhythm.next;
            let latest = now.max(5_000 + phase.unwrap_or(INTERVAL)) + INTERVAL + early;
            prop_assert!(next <= latest, "{} is after {}", next, latest);
            let is_on_grid = (next..=next + early).any(|time| time % INTERVAL == grid);
            prop_assert!(is_on_grid, "{} is off the grid", next);
            let stats = rhythm.stats();
            prop_assert_eq!((stats.beats, stats.beats + stats.failures), (beats, calls));
            prop_assert_eq!(ticks + stats.skipped, rhythm.tick, "each tick is accounted for");
        }
    }
}
