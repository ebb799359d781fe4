//! When `flush` returns, everything accepted before it is applied, everything due by then has expired and is reported,
//! and the accounting is exact.

use std::sync::{Arc, OnceLock, Weak};

use shuttle::sync::Mutex;
use shuttle::thread;

use super::{TIMEOUT, builder, explore, quiet};
use crate::{Event, ManualClock, Options, Watcher};

#[test]
fn what_a_thread_sent_before_its_flush_is_applied() {
    explore("what_a_thread_sent_before_its_flush_is_applied", || {
        let watcher = builder(&ManualClock::new(), 2, 2).build().unwrap();
        let watcher = Arc::new(watcher);
        let threads = [0u64, 10].map(|first| {
            let watcher = watcher.clone();
            thread::spawn(move || {
                watcher.beat_many(first..first + 4).unwrap();
                watcher.remove(&first).unwrap();
                watcher.flush().unwrap();
                for key in first..first + 4 {
                    assert_eq!(watcher.contains(&key).unwrap(), key != first);
                }
                let stats = watcher.stats();
                assert!(stats.applied_beats >= 4 && stats.removed >= 1, "{stats:?}");
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let stats = quiet(watcher.stats());
        assert_eq!((stats.started, stats.live, stats.removed), (8, 6, 2));
        watcher.close();
    });
}

#[test]
fn what_is_due_before_a_flush_is_expired_and_told() {
    explore("what_is_due_before_a_flush_is_expired_and_told", || {
        let clock = ManualClock::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let watcher = builder(&clock, 2, 2)
            .on_event_in_worker({
                let told = told.clone();
                move |event: Event<u64>| told.lock().unwrap().extend(event.key().copied())
            })
            .build()
            .unwrap();
        let watcher = Arc::new(watcher);
        let others = thread::spawn({
            let watcher = watcher.clone();
            move || {
                for key in 10..13u64 {
                    let later = Options::new().timeout(TIMEOUT * 9);
                    watcher.beat_with(key, later).unwrap();
                }
                watcher.flush().unwrap();
            }
        });
        watcher.beat_many(0..3u64).unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        let mut keys = told.lock().unwrap().clone();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1, 2]);
        others.join().unwrap();
        let stats = quiet(watcher.stats());
        assert_eq!((stats.started, stats.live, stats.delivered), (6, 3, 3));
        watcher.close();
    });
}

#[test]
fn the_accounting_is_exact_at_every_quiet_point() {
    explore("the_accounting_is_exact_at_every_quiet_point", || {
        let clock = ManualClock::new();
        let watcher = builder(&clock, 2, 2).on_event(drop).build().unwrap();
        let watcher = Arc::new(watcher);
        let mut beats = 0;
        for round in 0..2 {
            let first = thread::spawn({
                let watcher = watcher.clone();
                move || {
                    watcher.beat_many(0..3u64).unwrap();
                    watcher.remove(&1).unwrap();
                }
            });
            let second = thread::spawn({
                let (watcher, clock) = (watcher.clone(), clock.clone());
                move || {
                    let heart = watcher.watch(7u64).unwrap();
                    clock.advance(TIMEOUT / 2);
                    // It may have expired, because of the half timeout that the first round may take.
                    let _ = heart.beat();
                    clock.advance(TIMEOUT * round);
                    watcher.beat(2u64).unwrap();
                }
            });
            first.join().unwrap();
            second.join().unwrap();
            watcher.flush().unwrap();
            beats += 5;
            let stats = quiet(watcher.stats());
            assert_eq!(stats.pending, 0);
            assert_eq!(stats.applied_beats + stats.late_beats, beats);
        }
        quiet(watcher.close());
    });
}

#[test]
fn a_flush_goes_by_a_time_that_is_not_before_its_call() {
    // Few steps, so that the call comes at each place of the worker's first rounds.
    explore("a_flush_goes_by_a_time_that_is_not_before_its_call", || {
        let clock = ManualClock::new();
        let watcher = builder(&clock, 1, 8).build().unwrap();
        watcher.beat(1u64).unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        assert_eq!(quiet(watcher.stats()).expiries, 1);
    });
}

#[test]
fn a_flush_waits_for_the_calls_for_all_that_came_before() {
    explore(
        "a_flush_waits_for_the_calls_for_all_that_came_before",
        || {
            let clock = ManualClock::new();
            let told = Arc::new(Mutex::new(Vec::new()));
            let itself = Arc::new(OnceLock::<Weak<Watcher<u64>>>::new());
            let watcher = builder(&clock, 2, 2)
                .on_event({
                    let (told, itself) = (told.clone(), itself.clone());
                    move |event: Event<u64>| {
                        let key = *event.key().unwrap();
                        if key == 1 {
                            // Waits for no call, because it would wait for itself.
                            let watcher = itself.get().and_then(Weak::upgrade).unwrap();
                            watcher.flush().unwrap();
                        }
                        told.lock().unwrap().push(key);
                    }
                })
                .build()
                .unwrap();
            let watcher = Arc::new(watcher);
            itself.set(Arc::downgrade(&watcher)).unwrap();
            let others = thread::spawn({
                let (watcher, clock) = (watcher.clone(), clock.clone());
                move || {
                    // Takes events out of the outbox to search them.
                    watcher.remove(&5).unwrap();
                    watcher.beat(10u64).unwrap();
                    clock.advance(TIMEOUT);
                    watcher.remove(&10).unwrap();
                    watcher.flush().unwrap();
                }
            });
            // More events than the outbox has room for in models.
            watcher.beat_many(0..6u64).unwrap();
            clock.advance(TIMEOUT);
            watcher.flush().unwrap();
            let mut keys = told.lock().unwrap().clone();
            keys.sort_unstable();
            keys.retain(|&key| key < 5);
            assert_eq!(keys, [0, 1, 2, 3, 4]);
            others.join().unwrap();
            watcher.flush().unwrap();
            assert_eq!(quiet(watcher.stats()).pending, 0);
            quiet(watcher.close());
        },
    );
}
