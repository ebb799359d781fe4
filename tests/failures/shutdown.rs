//! Close and drop: everybody is released, every thread is joined, everything is accounted for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use liveness::{BeatErrorKind, CallError, Event, HeartError, ManualClock, Options, Stats, Watcher};

use crate::held::held;
use crate::in_time::{GENEROUS, in_time};

const TIMEOUT: Duration = Duration::from_secs(10);

/// How many beats reached a table: of two threads that beat for one key, one may come late.
fn applied(stats: &Stats) -> u64 {
    stats.applied_beats + stats.late_beats
}

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
fn a_watcher_that_is_dropped_by_a_panic_releases_and_joins() {
    in_time(|| {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let (told, deaths) = unbounded();
        let watcher = Watcher::<u64>::builder()
            .timeout(Duration::from_nanos(1))
            .workers(2)
            .on_event(move |event| {
                let _ = &callback_state;
                told.send(*event.key().unwrap()).unwrap();
                // The callback, too, panics all the while.
                panic!("in the callback");
            })
            .build()
            .unwrap();
        let thread = thread::spawn(move || {
            watcher.beat_many(0..100u64).unwrap();
            let _heart = watcher.watch(100u64).unwrap();
            deaths.recv_timeout(GENEROUS).unwrap();
            panic!("with a watcher in hand");
        });
        let payload = thread.join().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"with a watcher in hand"));
        assert_eq!(is_dropped.len(), 1, "its threads are joined");
    });
}

/// Tells when it is dropped.
struct Dropped(crossbeam_channel::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn dropping_the_watcher_joins_its_threads() {
    for in_worker in [false, true] {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let callback = move |_: Event<u64>| {
            let _ = &callback_state;
        };
        let builder = Watcher::<u64>::builder().workers(2);
        let builder = if in_worker {
            builder.on_event_in_worker(callback)
        } else {
            builder.on_event(callback)
        };
        let watcher = builder.build().unwrap();
        let heart = watcher.watch(1u64).unwrap();
        assert!(is_dropped.is_empty());
        drop(watcher);
        // A thread that still ran would still have the callback.
        assert_eq!(is_dropped.len(), 1);
        assert_eq!(heart.beat(), Err(HeartError::Closed));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_of_a_closed_watcher_is_left() {
    let named = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("counted-")).count()
    };
    let watcher = Watcher::<u64>::builder()
        .workers(3)
        .thread_name("counted")
        .on_event(drop)
        .build()
        .unwrap();
    // A thread that has answered has its name.
    watcher.flush().unwrap();
    assert!((3..=4).contains(&named()));
    watcher.close();
    // A thread that is joined takes a moment to leave the list.
    let began = Instant::now();
    while named() > 0 {
        assert!(began.elapsed() < GENEROUS);
        thread::yield_now();
    }
}

/// A place where a callback finds its own watcher.
type Cell = Arc<OnceLock<Mutex<Option<Arc<Watcher<u64>>>>>>;

/// A watcher that one event is due in at once, whose callback runs `body` with the cell that it is in.
fn with_callback(
    in_worker: bool,
    body: impl Fn(&Cell) + Send + Sync + 'static,
) -> (Arc<Watcher<u64>>, Cell) {
    let cell = Cell::default();
    let inner = cell.clone();
    let callback = move |_: Event<u64>| body(&inner);
    let builder = Watcher::<u64>::builder()
        .workers(2)
        .timeout(Duration::from_nanos(1));
    let builder = if in_worker {
        builder.on_event_in_worker(callback)
    } else {
        builder.on_event(callback)
    };
    let watcher = Arc::new(builder.build().unwrap());
    (watcher, cell)
}

#[test]
fn a_callback_may_close_its_own_watcher() {
    for in_worker in [false, true] {
        in_time(move || {
            let (closed, is_closed) = unbounded();
            let (watcher, cell) = with_callback(in_worker, move |cell| {
                let watcher = cell.wait().lock().unwrap().clone().unwrap();
                watcher.close();
                closed.send(watcher.beat(9u64).unwrap_err().kind()).unwrap();
            });
            cell.set(Mutex::new(Some(watcher.clone()))).unwrap();
            watcher.beat(1u64).unwrap();
            assert_eq!(is_closed.recv_timeout(GENEROUS), Ok(BeatErrorKind::Closed));
            assert!(watcher.close().is_balanced());
            cell.get().unwrap().lock().unwrap().take();
        });
    }
}

#[test]
fn a_callback_may_drop_the_last_handle_of_its_own_watcher() {
    for in_worker in [false, true] {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let (watcher, cell) = with_callback(in_worker, move |cell| {
            let _ = &callback_state;
            let last = cell.wait().lock().unwrap().take();
            drop(last);
        });
        watcher.beat(1u64).unwrap();
        cell.set(Mutex::new(Some(watcher))).unwrap();
        // The thread that dropped it ends by itself, and its callback with it.
        assert_eq!(is_dropped.recv_timeout(GENEROUS), Ok(()));
    }
}

#[test]
fn a_callback_may_drop_the_last_handle_of_another_watcher() {
    for in_worker in [false, true] {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let other = Watcher::<u64>::builder()
            .workers(2)
            .on_event(move |_| {
                let _ = &callback_state;
            })
            .build()
            .unwrap();
        let (watcher, cell) = with_callback(in_worker, move |cell| {
            let last = cell.wait().lock().unwrap().take();
            drop(last);
        });
        cell.set(Mutex::new(Some(Arc::new(other)))).unwrap();
        watcher.beat(1u64).unwrap();
        // Its threads end, whether the callback waits for them or not.
        assert_eq!(is_dropped.recv_timeout(GENEROUS), Ok(()));
        watcher.close();
    }
}

/// Drops what it holds as it is dropped itself, and says so.
#[derive(Clone)]
struct Holds(Arc<Mutex<Option<Arc<Held>>>>, crossbeam_channel::Sender<()>);

/// A watcher whose values may hold it.
type Held = Watcher<u64, Holds>;

impl Drop for Holds {
    fn drop(&mut self) {
        let last = self.0.lock().unwrap().take();
        drop(last);
        let _ = self.1.send(());
    }
}

#[test]
fn the_last_handle_may_go_with_a_value_on_a_worker_of_its_own() {
    for with_callback in [false, true] {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let callback = move |_: Event<u64, Holds>| {
            let _ = &callback_state;
        };
        let builder = Held::builder().workers(2);
        let builder = if with_callback {
            builder.on_event(callback)
        } else {
            builder.on_event_in_worker(callback)
        };
        let watcher = Arc::new(builder.build().unwrap());
        let (gone, is_gone) = unbounded();
        let cell = Arc::new(Mutex::new(None));
        let value = Holds(cell.clone(), gone);
        watcher
            .beat_with(1u64, Options::new().extra(value))
            .unwrap();
        watcher.flush().unwrap();
        *cell.lock().unwrap() = Some(watcher.clone());
        let weak = Arc::downgrade(&watcher);
        watcher.remove(&1).unwrap();
        drop(watcher);
        assert_eq!(is_gone.recv_timeout(GENEROUS), Ok(()));
        assert!(weak.upgrade().is_none());
        // The other threads end by themselves, and the callback with them.
        assert_eq!(is_dropped.recv_timeout(GENEROUS), Ok(()));
    }
}

#[test]
fn the_last_handle_may_go_with_a_value_on_a_worker_of_another_watcher() {
    let (dropped, is_dropped) = unbounded();
    let callback_state = Dropped(dropped);
    let one = Held::builder()
        .workers(2)
        .on_event(move |_| {
            let _ = &callback_state;
        })
        .build()
        .unwrap();
    let other = Held::builder().workers(1).on_event(drop).build().unwrap();
    let (gone, is_gone) = unbounded();
    let value = Holds(Arc::new(Mutex::new(Some(Arc::new(one)))), gone);
    other.beat_with(1u64, Options::new().extra(value)).unwrap();
    other.remove(&1).unwrap();
    assert_eq!(is_gone.recv_timeout(GENEROUS), Ok(()));
    assert_eq!(is_dropped.recv_timeout(GENEROUS), Ok(()));
    in_time(move || other.close());
}

#[test]
fn the_last_handle_may_go_with_a_value_that_is_discarded_in_the_outbox() {
    let (inner, outer) = in_time(|| {
        let (dropped, is_dropped) = unbounded();
        let callback_state = Dropped(dropped);
        let one = Held::builder()
            .workers(2)
            .on_event(move |_| {
                let _ = &callback_state;
            })
            .build()
            .unwrap();
        let (entered, is_held) = bounded(1);
        let other = Held::builder()
            .timeout(Duration::from_nanos(1))
            .workers(1)
            .on_event(move |_| {
                let _ = entered.try_send(());
                thread::sleep(Duration::from_millis(500));
            })
            .build()
            .unwrap();
        other.beat(0u64).unwrap();
        is_held.recv_timeout(GENEROUS).unwrap();
        let (gone, is_gone) = unbounded();
        let value = Holds(Arc::new(Mutex::new(Some(Arc::new(one)))), gone);
        other.beat_with(1u64, Options::new().extra(value)).unwrap();
        other.beat(2u64).unwrap();
        // The first call outlasts the grace for the others.
        let stats = other.close();
        assert!(stats.is_balanced() && stats.discarded >= 1, "{stats:?}");
        let inner = is_gone.recv_timeout(GENEROUS);
        (inner, is_dropped.recv_timeout(GENEROUS))
    });
    assert_eq!((inner, outer), (Ok(()), Ok(())));
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

#[test]
fn close_timeout_names_the_threads_that_still_run_and_a_later_close_waits_for_them() {
    for in_worker in [false, true] {
        in_time(move || {
            let (entered, is_held) = bounded(1);
            let (gate, opened) = bounded::<()>(0);
            let (dropped, is_dropped) = unbounded();
            let callback_state = Dropped(dropped);
            let callback = move |_: Event<u64>| {
                let _ = (&callback_state, entered.try_send(()), opened.recv());
            };
            let builder = Watcher::<u64>::builder()
                .workers(1)
                .timeout(Duration::from_nanos(1))
                .thread_name("held");
            let watcher = if in_worker {
                builder.on_event_in_worker(callback).build().unwrap()
            } else {
                builder.on_event(callback).build().unwrap()
            };
            let gate = gate; // goes before the watcher, also when an assertion fails
            watcher.beat(1).unwrap();
            is_held.recv_timeout(GENEROUS).unwrap();
            let name = if in_worker { "held-0" } else { "held-delivery" };
            // The other threads may take a moment to end.
            let began = Instant::now();
            loop {
                let wait = Duration::from_millis(5);
                let error = watcher.close_timeout(wait).unwrap_err();
                assert!(error.stats().is_balanced());
                if error.threads() == [name] {
                    break;
                }
                assert!(began.elapsed() < GENEROUS, "{error}");
            }
            assert_eq!(watcher.beat(2).unwrap_err().kind(), BeatErrorKind::Closed);
            assert!(is_dropped.is_empty());
            drop(gate);
            let stats = watcher.close_timeout(GENEROUS).unwrap();
            assert_eq!((stats.delivered, stats.pending), (1, 0));
            assert_eq!(watcher.close(), stats);
            drop(watcher);
            assert_eq!(is_dropped.len(), 1, "its threads are joined");
        });
    }
}

#[test]
fn close_timeout_in_a_callback_waits_for_no_thread_that_waits_for_it() {
    for in_worker in [false, true] {
        in_time(move || {
            let (closed, is_closed) = unbounded();
            let (watcher, cell) = with_callback(in_worker, move |cell| {
                let watcher = cell.wait().lock().unwrap().clone().unwrap();
                closed.send(watcher.close_timeout(GENEROUS)).unwrap();
            });
            cell.set(Mutex::new(Some(watcher.clone()))).unwrap();
            watcher.beat(1).unwrap();
            is_closed.recv_timeout(GENEROUS).unwrap().unwrap();
            assert!(watcher.close().is_balanced());
            cell.get().unwrap().lock().unwrap().take();
        });
    }
}
