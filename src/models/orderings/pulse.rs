//! A heart's beat against its worker's verdict.

use std::sync::Arc;

use loom::thread;

use super::explore;
use crate::sync::atomic::{Ordering, fence};
use crate::table::heart_cell::{Beater, Listener, Vital, pair};

/// More interruptions than any of these models can have use of.
const ALL: usize = 4;

/// The two sides of a pulse that beat at 1, of which the heart's has found it alive at least once.
fn living() -> (Beater, Listener) {
    let (beater, listener) = pair(1, &Arc::default());
    assert_eq!(beater.beat(1), Vital::Alive);
    (beater, listener)
}

/// The worker judges at 5: whoever has not beaten by then is silent.
fn judge(listener: &Listener, end: Vital) -> Option<u64> {
    listener.end_if(end, |stamp| stamp < 5)
}

#[test]
fn of_two_beats_with_a_fence_between_them_the_first_counts_if_the_second_finds_life() {
    // The race that is documented at `Heart::beat` is the one without the fence: tens of nanoseconds, after which a
    // store has left its core anyway.
    explore(ALL, || {
        let (beater, listener) = living();
        let worker = thread::spawn(move || (judge(&listener, Vital::Expired), listener));
        let first = beater.beat(5);
        fence(Ordering::SeqCst);
        let second = beater.beat(6);
        let (ended, _listener) = worker.join().unwrap();
        if first == Vital::Alive && second == Vital::Alive {
            assert_eq!(ended, None, "a beat that counted was overlooked");
        }
        if ended.is_none() {
            assert_eq!((first, second), (Vital::Alive, Vital::Alive));
        }
    });
}

#[test]
fn a_beat_never_returns_before_the_decision_it_has_seen() {
    explore(ALL, || {
        let (beater, listener) = living();
        let worker = thread::spawn(move || (judge(&listener, Vital::Expired), listener));
        let found = beater.beat(5);
        assert!(matches!(found, Vital::Alive | Vital::Expired));
        let (ended, _listener) = worker.join().unwrap();
        if found == Vital::Expired {
            assert_eq!(ended, Some(1), "it ended, and by the beat before");
        }
    });
}

#[test]
fn a_beat_after_the_verdict_is_told_of_it() {
    explore(ALL, || {
        let (beater, listener) = living();
        let worker = thread::spawn(move || (judge(&listener, Vital::Expired), listener));
        let first = beater.beat(5);
        let (ended, _listener) = worker.join().unwrap();
        let last = beater.beat(6);
        if ended.is_some() {
            assert_eq!(last, Vital::Expired);
            assert_eq!(beater.clone().beat(7), Vital::Expired);
        } else {
            assert_eq!((first, last), (Vital::Alive, Vital::Alive));
        }
    });
}

#[test]
fn what_a_heart_was_told_stays_told() {
    for end in [Vital::Removed, Vital::Replaced, Vital::Expired] {
        explore(ALL, move || {
            let (beater, listener) = living();
            let worker = thread::spawn(move || {
                listener.set(end);
                // The worker lets the key go, and with it the share.
                drop(listener);
            });
            let found = [beater.beat(5), beater.beat(6)];
            assert!(
                found == [Vital::Alive; 2] || found == [Vital::Alive, end] || found == [end; 2]
            );
            worker.join().unwrap();
            assert_eq!(beater.beat(7), end);
        });
    }
}

#[test]
fn a_worker_that_goes_without_a_word_closes_its_hearts() {
    explore(ALL, || {
        let (beater, listener) = living();
        let worker = thread::spawn(move || drop(listener));
        let found = beater.beat(5);
        assert!(matches!(found, Vital::Alive | Vital::Closed));
        worker.join().unwrap();
        assert_eq!(beater.beat(6), Vital::Closed);
    });
}

#[test]
fn a_verdict_on_another_s_pulse_ends_nobody_else_s_life() {
    explore(ALL, || {
        let common = Arc::default();
        let (beater, mine) = pair(1, &common);
        let (_, other) = pair(1, &common);
        let worker = thread::spawn(move || {
            other.set(Vital::Removed);
            mine.set(Vital::Down);
            (mine, other)
        });
        let found = [beater.beat(5), beater.beat(6)];
        assert!(found.is_sorted_by_key(|&vital| vital as u8));
        assert!(
            found
                .iter()
                .all(|vital| matches!(vital, Vital::Alive | Vital::Down))
        );
        let _sides = worker.join().unwrap();
        assert_eq!(beater.beat(7), Vital::Down);
    });
}

#[test]
fn two_shares_are_told_the_same_in_the_end() {
    explore(2, || {
        let (beater, listener) = living();
        let clone = beater.clone();
        let worker = thread::spawn(move || (judge(&listener, Vital::Down), listener));
        let other = thread::spawn(move || (clone.beat(5), clone));
        let mine = beater.beat(5);
        let (its, clone) = other.join().unwrap();
        let (ended, _listener) = worker.join().unwrap();
        for found in [mine, its] {
            assert!(found == Vital::Alive || (found == Vital::Down && ended.is_some()));
        }
        let found = [beater.beat(6), clone.beat(6)];
        assert_eq!(found, [ended.map_or(Vital::Alive, |_| Vital::Down); 2]);
    });
}

#[test]
fn of_beats_on_two_threads_the_later_stamp_stays() {
    explore(ALL, || {
        let (beater, listener) = pair(1, &Arc::default());
        let clone = beater.clone();
        let other = thread::spawn(move || clone.beat(7));
        assert_eq!(beater.beat(5), Vital::Alive);
        assert_eq!(other.join().unwrap(), Vital::Alive);
        assert_eq!(listener.pulse.stamp(), 7);
    });
}
