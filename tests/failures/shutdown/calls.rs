//! What calls say after a close, and what becomes of what was accepted and is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use liveness::{BeatErrorKind, CallError, HeartError, ManualClock, Options, Watcher};

use super::TIMEOUT;
use crate::in_time::{GENEROUS, in_time};

#[test]
fn every_call_after_close_says_so_and_hands_the_key_back() {
    let watcher = Watcher::<String>::builder().build().unwrap();
    let heart = watcher.watch("heart".to_owned()).unwrap();
    watcher.close();
    let key = || "key".to_owned();
    let refused = [
        watcher.beat(key()).unwrap_err(),
        watcher.try_beat(key()).unwrap_err(),
        watcher.beat_timeout(key(), GENEROUS).unwrap_err(),
        watcher.beat_with(key(), Options::new()).unwrap_err(),
        watcher.watch(key()).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), BeatErrorKind::Closed);
        assert_eq!(error.into_key(), "key");
    }
    let error = watcher
        .beat_many(["a".to_owned(), "b".to_owned()])
        .unwrap_err();
    assert_eq!(error.kind(), BeatErrorKind::Closed);
    let mut keys = error.into_keys();
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(watcher.flush(), Err(CallError::Closed));
    assert_eq!(watcher.remove("key"), Err(CallError::Closed));
    assert_eq!(watcher.contains("key"), Err(CallError::Closed));
    assert_eq!(watcher.snapshot(), Err(CallError::Closed));
    assert_eq!(heart.beat(), Err(HeartError::Closed));
    assert!(!heart.is_watched());
    assert_eq!(watcher.stats().live, 1, "the accounting can still be read");
}

#[test]
fn closing_twice_and_from_several_threads_is_fine() {
    in_time(|| {
        let watcher = Watcher::<u64>::builder()
            .workers(3)
            .on_event(drop)
            .build()
            .unwrap();
        watcher.beat_many(0..100u64).unwrap();
        let together = Barrier::new(4);
        let finals: Vec<_> = thread::scope(|scope| {
            let closers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        watcher.close()
                    })
                })
                .collect();
            closers
                .into_iter()
                .map(|closer| closer.join().unwrap())
                .collect()
        });
        for stats in finals {
            assert_eq!(
                (stats.started, stats.applied_beats, stats.live),
                (100, 100, 100)
            );
        }
        assert_eq!(watcher.close(), watcher.stats());
    });
}

#[test]
fn what_was_accepted_before_close_is_applied_and_what_is_due_is_offered() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(1_000)
        .unwrap();
    watcher.beat_many(0..500u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT / 2);
    watcher.beat_many(500..700u64).unwrap();
    watcher.remove(&3).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT / 2);
    watcher.beat_many(700..800u64).unwrap();
    // No flush: closing itself sees to it.
    let stats = watcher.close();
    assert_eq!(stats.started, 800);
    assert_eq!((stats.delivered, stats.removed, stats.live), (499, 1, 300));
    assert!(stats.is_balanced());
    assert_eq!(events.iter().count(), 499);
}

#[test]
fn close_offers_all_that_is_due_however_long_the_sink_takes_for_it() {
    let clock = ManualClock::new();
    let slow_motion = clock.clone();
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone())
        .on_event_in_worker(move |_| {
            // By the watcher's clock a call takes longer than a round of delivery may.
            slow_motion.advance(Duration::from_millis(2));
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    watcher.beat_many(0..20u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    let stats = watcher.close();
    assert_eq!((stats.delivered, stats.discarded), (20, 0));
    assert_eq!(told.load(Ordering::SeqCst), 20);
}

#[test]
fn a_full_sink_that_nobody_reads_does_not_hold_up_close() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(5)
        .unwrap();
    watcher.beat_many(0..100u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    let stats = in_time(move || watcher.close());
    assert_eq!(
        (stats.delivered, stats.discarded, stats.pending),
        (5, 95, 0)
    );
    assert!(stats.is_balanced());
    assert_eq!(events.iter().count(), 5);
}

#[test]
fn a_slow_callback_gets_a_moment_at_close_and_the_rest_is_counted() {
    let clock = ManualClock::new();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone())
        // All of them would take more than eight minutes.
        .on_event(|_| thread::sleep(Duration::from_millis(500)))
        .build()
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    let stats = in_time(move || watcher.close());
    assert!(stats.delivered >= 1 && stats.discarded > 900, "{stats:?}");
    assert_eq!((stats.pending, stats.live), (0, 0));
    assert!(stats.is_balanced());
}
