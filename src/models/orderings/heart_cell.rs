//! A heart's beat against its worker's decision.

use std::sync::Arc;

use loom::thread;

use super::explore;
use crate::sync::atomic::{Ordering, fence};
use crate::table::heart_cell::{HeartSide, HeartState, TableSide, pair};

/// More preemptions than any of these models needs.
const ALL: usize = 4;

/// Returns the two sides of a cell that beat at 1. The heart's side has found it alive at least once.
fn living() -> (HeartSide, TableSide) {
    let (heart_side, table_side) = pair(1, &Arc::default());
    assert_eq!(heart_side.beat(1), HeartState::Alive);
    (heart_side, table_side)
}

/// The worker decides at 5: a heart that has not beaten by then is silent.
fn judge(table_side: &TableSide, end: HeartState) -> Option<u64> {
    table_side.end_if(end, |stamp| stamp < 5)
}

#[test]
fn of_two_beats_with_a_fence_between_them_the_first_counts_if_the_second_finds_life() {
    // The race documented at `Heart::beat` is the one without the fence. It lasts tens of nanoseconds, after which a
    // store has left its core.
    explore(ALL, || {
        let (heart_side, table_side) = living();
        let worker = thread::spawn(move || (judge(&table_side, HeartState::Expired), table_side));
        let first = heart_side.beat(5);
        fence(Ordering::SeqCst);
        let second = heart_side.beat(6);
        let (ended, _listener) = worker.join().unwrap();
        if first == HeartState::Alive && second == HeartState::Alive {
            assert_eq!(ended, None, "a beat that counted was overlooked");
        }
        if ended.is_none() {
            assert_eq!((first, second), (HeartState::Alive, HeartState::Alive));
        }
    });
}

#[test]
fn a_beat_never_returns_before_the_decision_it_has_seen() {
    explore(ALL, || {
        let (heart_side, table_side) = living();
        let worker = thread::spawn(move || (judge(&table_side, HeartState::Expired), table_side));
        let found = heart_side.beat(5);
        assert!(matches!(found, HeartState::Alive | HeartState::Expired));
        let (ended, _listener) = worker.join().unwrap();
        if found == HeartState::Expired {
            assert_eq!(ended, Some(1), "it ended, and by the beat before");
        }
    });
}

#[test]
fn a_beat_after_the_verdict_is_told_of_it() {
    explore(ALL, || {
        let (heart_side, table_side) = living();
        let worker = thread::spawn(move || (judge(&table_side, HeartState::Expired), table_side));
        let first = heart_side.beat(5);
        let (ended, _listener) = worker.join().unwrap();
        let last = heart_side.beat(6);
        if ended.is_some() {
            assert_eq!(last, HeartState::Expired);
            assert_eq!(heart_side.clone().beat(7), HeartState::Expired);
        } else {
            assert_eq!((first, last), (HeartState::Alive, HeartState::Alive));
        }
    });
}

#[test]
fn what_a_heart_was_told_stays_told() {
    for end in [
        HeartState::Removed,
        HeartState::Replaced,
        HeartState::Expired,
    ] {
        explore(ALL, move || {
            let (heart_side, table_side) = living();
            let worker = thread::spawn(move || {
                table_side.set(end);
                // The worker removes the key, and with it its side.
                drop(table_side);
            });
            let found = [heart_side.beat(5), heart_side.beat(6)];
            assert!(
                found == [HeartState::Alive; 2]
                    || found == [HeartState::Alive, end]
                    || found == [end; 2]
            );
            worker.join().unwrap();
            assert_eq!(heart_side.beat(7), end);
        });
    }
}

#[test]
fn a_worker_that_goes_without_a_word_closes_its_hearts() {
    explore(ALL, || {
        let (heart_side, table_side) = living();
        let worker = thread::spawn(move || drop(table_side));
        let found = heart_side.beat(5);
        assert!(matches!(found, HeartState::Alive | HeartState::Closed));
        worker.join().unwrap();
        assert_eq!(heart_side.beat(6), HeartState::Closed);
    });
}

#[test]
fn a_verdict_on_another_s_pulse_ends_nobody_else_s_life() {
    explore(ALL, || {
        let common = Arc::default();
        let (heart_side, mine) = pair(1, &common);
        let (_, other) = pair(1, &common);
        let worker = thread::spawn(move || {
            other.set(HeartState::Removed);
            mine.set(HeartState::Down);
            (mine, other)
        });
        let found = [heart_side.beat(5), heart_side.beat(6)];
        assert!(found.is_sorted_by_key(|&state| state as u8));
        assert!(
            found
                .iter()
                .all(|state| matches!(state, HeartState::Alive | HeartState::Down))
        );
        let _sides = worker.join().unwrap();
        assert_eq!(heart_side.beat(7), HeartState::Down);
    });
}

#[test]
fn two_shares_are_told_the_same_in_the_end() {
    explore(2, || {
        let (heart_side, table_side) = living();
        let clone = heart_side.clone();
        let worker = thread::spawn(move || (judge(&table_side, HeartState::Down), table_side));
        let other = thread::spawn(move || (clone.beat(5), clone));
        let mine = heart_side.beat(5);
        let (its, clone) = other.join().unwrap();
        let (ended, _listener) = worker.join().unwrap();
        for found in [mine, its] {
            assert!(found == HeartState::Alive || (found == HeartState::Down && ended.is_some()));
        }
        let found = [heart_side.beat(6), clone.beat(6)];
        assert_eq!(
            found,
            [ended.map_or(HeartState::Alive, |_| HeartState::Down); 2]
        );
    });
}

#[test]
fn of_beats_on_two_threads_the_later_stamp_stays() {
    explore(ALL, || {
        let (heart_side, table_side) = pair(1, &Arc::default());
        let clone = heart_side.clone();
        let other = thread::spawn(move || clone.beat(7));
        assert_eq!(heart_side.beat(5), HeartState::Alive);
        assert_eq!(other.join().unwrap(), HeartState::Alive);
        assert_eq!(table_side.cell.stamp(), 7);
    });
}
