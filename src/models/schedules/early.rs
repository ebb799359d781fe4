//! No key expires if a beat of it was accepted in time, whichever thread moves the clock meanwhile.

use std::sync::Arc;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::{TIMEOUT, builder, explore, quiet};
use crate::{Event, Heart, KeyEvent, ManualClock, Mode, Timestamp, Watcher};

/// An accepted beat: the earliest time of its stamp, and the latest time at which it was accepted.
type Accepted = (Timestamp, Timestamp);

/// Beats four times while two other threads move the clock and flush, each time by `beat`, and checks the expiries.
fn race(workers: usize, mode: Mode, beat: fn(&Watcher<u64>, &Heart<u64>) -> bool) {
    let clock = ManualClock::new();
    let expired = Arc::new(Mutex::new(Vec::new()));
    let watcher = builder(&clock, workers, 2)
        .mode(mode)
        .on_event_in_worker({
            let expired = expired.clone();
            move |event: Event<u64>| expired.lock().unwrap().extend(event.into_key_event())
        })
        .build()
        .unwrap();
    let watcher = Arc::new(watcher);
    let heart = watcher.watch(1u64).unwrap();
    let beating = thread::spawn({
        let (watcher, clock, heart) = (watcher.clone(), clock.clone(), heart.clone());
        move || {
            let mut accepted: Vec<Accepted> = Vec::new();
            for _ in 0..4 {
                let before = clock.now();
                if beat(&watcher, &heart) {
                    accepted.push((before, clock.now()));
                }
                thread::yield_now();
            }
            accepted
        }
    });
    let moving = thread::spawn(move || {
        for _ in 0..4 {
            clock.advance(TIMEOUT * 2 / 5);
        }
    });
    let flushing = thread::spawn({
        let watcher = watcher.clone();
        move || {
            for _ in 0..3 {
                watcher.flush().unwrap();
            }
        }
    });
    let accepted = beating.join().unwrap();
    moving.join().unwrap();
    flushing.join().unwrap();
    watcher.flush().unwrap();
    quiet(watcher.close());
    for event in expired.lock().unwrap().iter() {
        check(event, &accepted);
    }
    drop(heart);
}

/// Beats by `beat` at the last moment, with the value that `begin` returned, while one thread moves the clock to the
/// deadline and another flushes. There are few steps, so that each thread is delayed at each place.
fn race_at_the_last_moment<T: Send + 'static>(
    begin: fn(&Watcher<u64>) -> T,
    beat: fn(&Watcher<u64>, &T) -> bool,
) {
    let clock = ManualClock::new();
    let expired = Arc::new(Mutex::new(Vec::new()));
    let watcher = builder(&clock, 1, 8)
        .on_event_in_worker({
            let expired = expired.clone();
            move |event: Event<u64>| expired.lock().unwrap().extend(event.into_key_event())
        })
        .build()
        .unwrap();
    let watcher = Arc::new(watcher);
    let begun = begin(&watcher);
    watcher.flush().unwrap();
    clock.advance(TIMEOUT * 9 / 10);
    let flushing = thread::spawn({
        let watcher = watcher.clone();
        move || watcher.flush().unwrap()
    });
    let beating = thread::spawn({
        let (watcher, clock) = (watcher.clone(), clock.clone());
        move || {
            let before = clock.now();
            let is_accepted = beat(&watcher, &begun);
            (is_accepted.then(|| (before, clock.now())), begun)
        }
    });
    clock.advance(TIMEOUT / 10);
    let (accepted, begun) = beating.join().unwrap();
    let accepted: Vec<Accepted> = accepted.into_iter().collect();
    flushing.join().unwrap();
    quiet(watcher.close());
    drop(begun);
    for event in expired.lock().unwrap().iter() {
        check(event, &accepted);
    }
}

/// Asserts that no beat which was certainly made after the last one in `event` was accepted before its deadline.
fn check(event: &KeyEvent<u64>, accepted: &[Accepted]) {
    let deadline = event.last_beat + TIMEOUT;
    // Later misses of one silence have their own deadlines.
    assert!(
        event.deadline == Some(deadline) || event.mode == Mode::Repeat,
        "{event:?}"
    );
    assert!(event.detected >= deadline, "{event:?}");
    assert!(event.delivered >= event.detected, "{event:?}");
    for &(before, after) in accepted {
        assert!(
            !(before > event.last_beat && after < deadline),
            "{event:?} in spite of {accepted:?}"
        );
    }
}

#[test]
fn a_beat_in_time_is_never_too_late() {
    explore("a_beat_in_time_is_never_too_late", || {
        race(1, Mode::Once, |watcher, _| watcher.beat(1u64).is_ok());
    });
}

#[test]
fn a_try_beat_that_is_taken_in_time_is_never_too_late() {
    explore("a_try_beat_that_is_taken_in_time_is_never_too_late", || {
        race(1, Mode::Once, |watcher, _| watcher.try_beat(1u64).is_ok());
    });
}

#[test]
fn a_beat_of_many_in_time_is_never_too_late() {
    explore("a_beat_of_many_in_time_is_never_too_late", || {
        race(2, Mode::Once, |watcher, _| {
            watcher.beat_many([2u64, 1]).is_ok()
        });
    });
}

#[test]
fn a_heart_s_beat_in_time_is_never_too_late() {
    explore("a_heart_s_beat_in_time_is_never_too_late", || {
        race(1, Mode::Once, |_, heart| heart.beat().is_ok());
    });
}

#[test]
fn a_heart_s_beat_in_time_is_never_a_miss() {
    explore("a_heart_s_beat_in_time_is_never_a_miss", || {
        race(1, Mode::Repeat, |_, heart| heart.beat().is_ok());
    });
}

#[test]
fn a_beat_at_the_last_moment_is_never_too_late() {
    explore("a_beat_at_the_last_moment_is_never_too_late", || {
        race_at_the_last_moment(
            |watcher| watcher.beat(1u64).unwrap(),
            |watcher, ()| watcher.beat(1u64).is_ok(),
        );
    });
}

#[test]
fn a_heart_s_beat_at_the_last_moment_is_judged_and_told_by_one_stamp() {
    explore(
        "a_heart_s_beat_at_the_last_moment_is_judged_and_told_by_one_stamp",
        || {
            race_at_the_last_moment(
                |watcher| watcher.watch(1u64).unwrap(),
                |_, heart| heart.beat().is_ok(),
            );
        },
    );
}
