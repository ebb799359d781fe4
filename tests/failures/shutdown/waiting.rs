//! Callers that wait are released.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use liveness::{BeatErrorKind, CallError, Event, Options, Watcher};

use super::applied;
use crate::held::held;
use crate::in_time::{GENEROUS, in_time};

#[test]
fn producers_that_wait_for_room_are_released_and_what_they_were_told_is_true() {
    for _ in 0..5 {
        let (accepted, applied) = in_time(|| {
            let (entered, is_held) = bounded(1);
            let (gate, opened) = bounded::<()>(0);
            let watcher = Watcher::<u64>::builder()
                .timeout(Duration::from_nanos(1))
                .workers(1)
                .inbox_capacity(16)
                .on_event_in_worker(move |event: Event<u64>| {
                    if event.key() == Some(&u64::MAX) {
                        entered.send(()).unwrap();
                        let _ = opened.recv();
                    } else {
                        // The last round takes its time, in which there is room in the inbox again.
                        thread::sleep(Duration::from_millis(2));
                    }
                })
                .build()
                .unwrap();
            let gate = gate; // goes before the watcher, also when an assertion fails
            watcher.beat(u64::MAX).unwrap();
            is_held.recv_timeout(GENEROUS).unwrap();

            let accepted = AtomicU64::new(1);
            thread::scope(|scope| {
                for producer in 0..4u64 {
                    let (watcher, accepted) = (&watcher, &accepted);
                    scope.spawn(move || {
                        for i in 0.. {
                            let key = producer << 32 | i;
                            if let Err(error) = watcher.beat(key) {
                                assert_eq!(error.kind(), BeatErrorKind::Closed);
                                return assert_eq!(error.into_key(), key);
                            }
                            accepted.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
                scope.spawn(|| watcher.close());
                // The worker is let go when the watcher is closing and the producers wait.
                loop {
                    match watcher.try_beat(0u64).map_err(|error| error.kind()) {
                        Ok(()) => drop(accepted.fetch_add(1, Ordering::SeqCst)),
                        Err(BeatErrorKind::Closed) => break,
                        Err(_) => thread::yield_now(),
                    }
                }
                drop(gate);
            });
            (accepted.into_inner(), applied(&watcher.close()))
        });
        assert_eq!(accepted, applied, "beats that were accepted and dropped");
    }
}

#[test]
fn a_beat_that_is_accepted_while_the_watcher_closes_is_applied() {
    for _ in 0..100 {
        let watcher = Watcher::<u64>::builder().workers(2).build().unwrap();
        let (accepted, start) = (AtomicU64::new(0), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    let times = (0..u64::MAX)
                        .take_while(|&key| watcher.beat(key).is_ok())
                        .count();
                    accepted.fetch_add(times as u64, Ordering::SeqCst);
                });
            }
            start.wait();
            while watcher.stats().applied_beats == 0 {
                let _ = watcher.flush();
            }
            watcher.close();
        });
        assert_eq!(accepted.into_inner(), applied(&watcher.close()));
    }
}

#[test]
fn every_kind_of_waiting_call_is_released_by_close() {
    in_time(|| {
        let (entered, is_held) = bounded(1);
        let (gate, opened) = bounded::<()>(0);
        let watcher = Watcher::<u64>::builder()
            .timeout(Duration::from_secs(3_600))
            .workers(1)
            .inbox_capacity(1)
            .on_event_in_worker(move |event: Event<u64>| {
                if event.key() == Some(&u64::MAX) {
                    entered.send(()).unwrap();
                    let _ = opened.recv();
                }
            })
            .build()
            .unwrap();
        let gate = gate; // goes before the watcher, also when an assertion fails
        let heart = watcher.watch(1u64).unwrap();
        watcher.flush().unwrap();
        let mortal = Options::new().timeout(Duration::from_nanos(1));
        watcher.beat_with(u64::MAX, mortal).unwrap();
        is_held.recv_timeout(GENEROUS).unwrap();
        watcher.try_beat(2u64).unwrap();
        thread::scope(|scope| {
            let watcher = &watcher;
            // Each ends with an error, or with success if the last round still took it: but it ends.
            scope.spawn(|| while watcher.beat(3u64).is_ok() {});
            scope.spawn(|| while watcher.beat_timeout(4u64, Duration::MAX).is_ok() {});
            scope.spawn(|| while watcher.beat_many(0..2_000u64).is_ok() {});
            scope.spawn(|| while watcher.remove(&5).is_ok() {});
            scope.spawn(|| while watcher.flush().is_ok() {});
            scope.spawn(|| while watcher.status(&6).is_ok() {});
            scope.spawn(|| while watcher.watch(7u64).is_ok() {});
            scope.spawn(move || drop(heart));
            scope.spawn(|| watcher.close());
            while watcher.try_beat(0u64).unwrap_err().kind() != BeatErrorKind::Closed {
                thread::yield_now();
            }
            drop(gate);
        });
    });
}

/// How many threads of this process sleep with a name that begins with `name`.
#[cfg(target_os = "linux")]
fn sleeping(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    // The name is in parentheses, the state follows.
    let begin = format!("({name}");
    stats
        .filter(|stat| stat.contains(&begin) && stat.contains(") S "))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn sixty_four_blocked_producers_are_released_by_close() {
    const PRODUCERS: u64 = 64;
    in_time(|| {
        let (watcher, gate) = held(Watcher::builder().inbox_capacity(1));
        watcher.try_beat(0u64).unwrap();
        thread::scope(|scope| {
            let producers: Vec<_> = (1..=PRODUCERS)
                .map(|key| {
                    let watcher = &watcher;
                    thread::Builder::new()
                        .name(format!("producer-{key}"))
                        .spawn_scoped(scope, move || watcher.beat(key))
                        .unwrap()
                })
                .collect();
            while sleeping("producer-") < PRODUCERS as usize {
                thread::yield_now();
            }
            let closer = scope.spawn(|| watcher.close());
            // The worker is still held, and nobody but close can let them go.
            for (producer, key) in producers.into_iter().zip(1..) {
                let refused = producer.join().unwrap().unwrap_err();
                assert_eq!(refused.kind(), BeatErrorKind::Closed);
                assert_eq!(refused.into_key(), key);
            }
            drop(gate);
            assert_eq!(closer.join().unwrap().applied_beats, 2);
        });
    });
}

#[test]
fn close_lets_go_of_a_flush_that_waits_for_a_callback() {
    in_time(|| {
        let (entered, is_held) = bounded(1);
        let (gate, opened) = bounded::<()>(0);
        let watcher = Watcher::<u64>::builder()
            .timeout(Duration::from_nanos(1))
            .workers(1)
            .on_event(move |_| {
                let _ = entered.try_send(());
                let _ = opened.recv();
                thread::sleep(Duration::from_millis(200));
            })
            .build()
            .unwrap();
        let gate = gate; // goes before the watcher, also when an assertion fails
        watcher.beat(0u64).unwrap();
        is_held.recv_timeout(GENEROUS).unwrap();
        watcher.beat_many(1..3_000u64).unwrap();
        thread::scope(|scope| {
            let flush = scope.spawn(|| watcher.flush());
            let close = scope.spawn(|| watcher.close());
            while watcher.try_beat(9u64).is_ok() {
                thread::yield_now();
            }
            drop(gate);
            assert_eq!(flush.join().unwrap(), Err(CallError::Closed));
            let stats = close.join().unwrap();
            assert!(stats.is_balanced() && stats.discarded > 1, "{stats:?}");
        });
    });
}
