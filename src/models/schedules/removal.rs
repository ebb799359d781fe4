//! A removal against the delivery of the expiry that it cancels, and against beats.

use std::sync::Arc;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::{TIMEOUT, builder, explore, quiet};
use crate::{Event, EventKind, HeartError, ManualClock};

/// Removes three keys just as they expire. Returns how many of them had been reported when the flush after the removals
/// returned, and how many in the end.
fn remove_the_expired(on_worker: bool) -> (usize, usize) {
    let clock = ManualClock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let callback = {
        let told = told.clone();
        move |event: Event<u64>| {
            let of = (event.kind(), *event.key().unwrap());
            told.lock().unwrap().push(of);
        }
    };
    let builder = builder(&clock, 1, 2).events([EventKind::Expired, EventKind::Removed]);
    let builder = if on_worker {
        builder.on_event_in_worker(callback)
    } else {
        builder.on_event(callback)
    };
    let watcher = Arc::new(builder.build().unwrap());
    watcher.beat_many(0..3u64).unwrap();
    let flushing = thread::spawn({
        let watcher = watcher.clone();
        move || watcher.flush().unwrap()
    });
    clock.advance(TIMEOUT);
    for key in 0..3u64 {
        watcher.remove(&key).unwrap();
    }
    watcher.flush().unwrap();
    let expiries = |told: &[(EventKind, u64)]| {
        let expired = told.iter().filter(|(kind, _)| *kind == EventKind::Expired);
        expired.count()
    };
    let at_flush = expiries(&told.lock().unwrap());
    flushing.join().unwrap();
    let stats = quiet(watcher.close());
    let told = told.lock().unwrap();
    let in_the_end = expiries(&told);
    assert_eq!(stats.started, 3);
    assert_eq!(stats.delivered, in_the_end as u64);
    assert_eq!(stats.removed, 3 - stats.delivered);
    for key in 0..3u64 {
        let of_key = told.iter().filter(|(_, whose)| *whose == key);
        assert!(of_key.count() <= 1, "an episode ends once: {told:?}");
    }
    (at_flush, in_the_end)
}

#[test]
fn nothing_of_a_removed_key_is_told_on_the_worker_after_a_flush() {
    explore(
        "nothing_of_a_removed_key_is_told_on_the_worker_after_a_flush",
        || {
            let (at_flush, in_the_end) = remove_the_expired(true);
            assert_eq!(at_flush, in_the_end);
        },
    );
}

#[test]
fn nothing_of_a_removed_key_is_told_after_a_flush_but_by_a_call_that_began() {
    explore(
        "nothing_of_a_removed_key_is_told_after_a_flush_but_by_a_call_that_began",
        || {
            let (at_flush, in_the_end) = remove_the_expired(false);
            assert!(in_the_end <= at_flush + 1);
        },
    );
}

#[test]
fn a_heart_learns_that_its_key_was_removed_or_taken_over() {
    explore(
        "a_heart_learns_that_its_key_was_removed_or_taken_over",
        || {
            let watcher = builder(&ManualClock::new(), 1, 1).build().unwrap();
            let watcher = Arc::new(watcher);
            let old = watcher.watch(1u64).unwrap();
            let removing = thread::spawn({
                let watcher = watcher.clone();
                move || watcher.remove(&1).unwrap()
            });
            let taking_over = thread::spawn({
                let watcher = watcher.clone();
                move || watcher.watch(1u64).unwrap()
            });
            let beaten = old.beat();
            removing.join().unwrap();
            let new = taking_over.join().unwrap();
            watcher.flush().unwrap();
            let ends = [Err(HeartError::Removed), Err(HeartError::Replaced)];
            assert!(beaten.is_ok() || ends.contains(&beaten));
            assert!(ends.contains(&old.beat()));
            // The removal came before the later heart, or after it.
            assert_eq!(new.beat().is_ok(), watcher.contains(&1).unwrap());
            drop(old);
            assert_eq!(new.is_watched(), watcher.contains(&1).unwrap());
            drop(new);
            watcher.flush().unwrap();
            assert_eq!(quiet(watcher.close()).live, 0);
        },
    );
}
