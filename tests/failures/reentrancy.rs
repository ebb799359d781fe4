//! Calls from inside callbacks and sinks: each returns, also with every inbox full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use liveness::{
    BeatErrorKind, CallError, Event, EventKind, ManualClock, Mode, Options, Refused, Sink,
    Timestamp, Watcher,
};

use crate::in_time::{GENEROUS, in_time};

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn every_call_works_on_the_delivery_thread_with_every_inbox_full() {
    in_time(|| {
        let stop = AtomicBool::new(false);
        let (done, is_done) = bounded(1);
        let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
            let itself = itself.clone();
            Watcher::builder()
                .workers(2)
                .inbox_capacity(1)
                .on_event(move |event: Event<u64>| {
                    if event.key() != Some(&u64::MAX) {
                        return;
                    }
                    let watcher = itself.upgrade().unwrap();
                    for key in 10_000..10_100u64 {
                        watcher.beat(key).unwrap();
                        watcher.beat_timeout(key, GENEROUS).unwrap();
                        watcher
                            .beat_with(key, Options::new().mode(Mode::Repeat))
                            .unwrap();
                        let _ = watcher.try_beat(key);
                        let heart = watcher.watch(key + 1_000).unwrap();
                        heart.beat().unwrap();
                        drop(heart);
                    }
                    watcher.beat_many(20_000..22_000u64).unwrap();
                    watcher.remove(&20_000).unwrap();
                    watcher.flush().unwrap();
                    assert!(watcher.contains(&10_000).unwrap());
                    assert!(watcher.status(&20_000).unwrap().is_none());
                    assert!(watcher.snapshot().unwrap().len() >= 2_000);
                    assert!(watcher.len() >= 2_000 && !watcher.is_empty());
                    assert!(watcher.stats().applied_beats > 0 && watcher.now() > Timestamp::ORIGIN);
                    done.send(()).unwrap();
                })
                .build()
                .unwrap()
        });
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        watcher.beat_many(0..600u64).unwrap();
                    }
                });
            }
            let mortal = Options::new().timeout(Duration::from_nanos(1));
            watcher.beat_with(u64::MAX, mortal).unwrap();
            let result = is_done.recv_timeout(GENEROUS);
            stop.store(true, Ordering::Relaxed);
            result.expect("the callback got through");
        });
        assert_eq!(watcher.close().panics, 0);
    });
}

#[test]
fn on_a_worker_beats_never_wait_and_questions_are_refused() {
    in_time(|| {
        let clock = ManualClock::new();
        let (done, is_done) = bounded(1);
        let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
            let itself = itself.clone();
            Watcher::builder()
                .timeout(TIMEOUT)
                .workers(2)
                .inbox_capacity(1)
                .clock(clock.clone())
                .on_event_in_worker(move |event: Event<u64>| {
                    if event.key() != Some(&0) {
                        return;
                    }
                    let watcher = itself.upgrade().unwrap();
                    // Far more than the inboxes hold, and this worker takes none meanwhile.
                    for key in 100..200u64 {
                        watcher.beat(key).unwrap();
                        watcher.try_beat(key).unwrap();
                        watcher.beat_timeout(key, GENEROUS).unwrap();
                        watcher.watch(key).unwrap().detach();
                        drop(watcher.watch(key + 10_000).unwrap());
                    }
                    watcher.beat_many(200..1_200u64).unwrap();
                    watcher.remove(&150).unwrap();
                    assert_eq!(watcher.flush(), Err(CallError::OnWorker));
                    assert_eq!(watcher.status(&1), Err(CallError::OnWorker));
                    assert_eq!(watcher.contains(&1), Err(CallError::OnWorker));
                    assert_eq!(watcher.snapshot(), Err(CallError::OnWorker));
                    assert!(watcher.stats().started >= 1 && watcher.len() < 2_000);
                    done.send(()).unwrap();
                })
                .build()
                .unwrap()
        });
        watcher.beat(0u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        is_done.recv_timeout(GENEROUS).unwrap();
        watcher.flush().unwrap();
        // Keys 100 to 1199 but the one that was removed; none whose heart was dropped.
        assert_eq!(watcher.len(), 1_100 - 1);
        assert!(!watcher.contains(&150).unwrap());
    });
}

#[test]
fn two_workers_that_beat_each_others_keys_do_not_wait_for_each_other() {
    in_time(|| {
        let clock = ManualClock::new();
        let both_in = Arc::new(Barrier::new(2));
        let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
            let itself = itself.clone();
            let first = [const { AtomicBool::new(true) }; 2];
            Watcher::builder()
                .timeout(TIMEOUT)
                .workers(2)
                .inbox_capacity(1)
                .clock(clock.clone())
                .on_event_in_worker(move |_| {
                    let index = usize::from(thread::current().name() == Some("liveness-1"));
                    if first[index].swap(false, Ordering::SeqCst) {
                        // Each worker is now in a callback, and neither drains its inbox.
                        both_in.wait();
                        let watcher = itself.upgrade().unwrap();
                        for key in 1_000..1_500u64 {
                            watcher.beat(key).unwrap();
                        }
                        watcher.beat_many(2_000..3_000u64).unwrap();
                    }
                })
                .build()
                .unwrap()
        });
        // Enough for each worker to have some.
        watcher.beat_many(0..200u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        watcher.flush().unwrap();
        assert_eq!(watcher.len(), 1_500);
        assert_eq!(watcher.stats().applied_beats, 200 + 2 * 1_500);
    });
}

#[test]
fn the_workers_of_two_watchers_that_beat_into_each_other_do_not_wait_for_each_other() {
    in_time(|| {
        let clock = ManualClock::new();
        let both_in = Arc::new(Barrier::new(2));
        let watchers: Arc<[OnceLock<Watcher<u64>>; 2]> = Arc::default();
        let (done, is_done) = unbounded();
        for index in 0..2 {
            let (all, both_in, done) = (Arc::downgrade(&watchers), both_in.clone(), done.clone());
            let watcher = Watcher::builder()
                .timeout(TIMEOUT)
                .workers(1)
                .inbox_capacity(1)
                .clock(clock.clone())
                .on_event_in_worker(move |_| {
                    both_in.wait();
                    let all = all.upgrade().unwrap();
                    for key in 10..100u64 {
                        all[1 - index].wait().beat(key).unwrap();
                    }
                    done.send(()).unwrap();
                })
                .build()
                .unwrap();
            watcher.beat(0u64).unwrap();
            watcher.flush().unwrap();
            assert!(watchers[index].set(watcher).is_ok());
        }
        clock.advance(TIMEOUT);
        thread::scope(|scope| {
            let watchers = &watchers;
            (0..2).for_each(|index| drop(scope.spawn(move || watchers[index].wait().flush())));
        });
        for _ in 0..2 {
            is_done.recv_timeout(GENEROUS).unwrap();
        }
        for watcher in watchers.iter().filter_map(OnceLock::get) {
            watcher.flush().unwrap();
            assert_eq!(watcher.len(), 90);
        }
    });
}

#[test]
fn the_callbacks_of_two_watchers_that_close_each_other_do_not_wait_for_each_other() {
    in_time(|| {
        let both_in = Arc::new(Barrier::new(2));
        let watchers: Arc<[OnceLock<Watcher<u64>>; 2]> = Arc::default();
        let (done, is_done) = unbounded();
        for index in 0..2 {
            let (all, both_in, done) = (watchers.clone(), both_in.clone(), done.clone());
            let watcher = Watcher::builder()
                .timeout(Duration::from_nanos(1))
                .workers(1)
                .on_event(move |_| {
                    both_in.wait();
                    all[1 - index].wait().close();
                    done.send(()).unwrap();
                })
                .build()
                .unwrap();
            watcher.beat(0u64).unwrap();
            assert!(watchers[index].set(watcher).is_ok());
        }
        for _ in 0..2 {
            is_done.recv_timeout(GENEROUS).expect("both calls return");
        }
        for watcher in watchers.iter() {
            assert!(watcher.wait().close().is_balanced());
        }
    });
}

#[test]
fn when_a_flush_returns_so_has_the_callback_for_all_that_came_before() {
    for _ in 0..300 {
        let clock = ManualClock::new();
        let dead = Arc::new(Mutex::new(Vec::new()));
        let watcher = Watcher::<u64>::builder()
            .timeout(TIMEOUT)
            .workers(2)
            .clock(clock.clone())
            .on_event({
                let dead = dead.clone();
                move |event| dead.lock().unwrap().extend(event.key().copied())
            })
            .build()
            .unwrap();
        watcher.beat_many([1u64, 2]).unwrap();
        clock.advance(TIMEOUT);
        watcher.beat(3u64).unwrap();
        watcher.flush().unwrap();
        let mut keys = dead.lock().unwrap().clone();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
    }
}

#[test]
fn the_callbacks_of_two_watchers_that_flush_each_other_do_not_wait_for_each_other() {
    in_time(|| {
        let both_in = Arc::new(Barrier::new(2));
        let watchers: Arc<[OnceLock<Watcher<u64>>; 2]> = Arc::default();
        let (done, is_done) = unbounded();
        for index in 0..2 {
            let (all, both_in, done) = (Arc::downgrade(&watchers), both_in.clone(), done.clone());
            let mut is_first = true;
            let watcher = Watcher::builder()
                .timeout(Duration::from_nanos(1))
                .workers(1)
                .on_event(move |_| {
                    if std::mem::take(&mut is_first) {
                        both_in.wait();
                        let all = all.upgrade().unwrap();
                        // Each outbox is full by now, and neither callback goes on before these return.
                        for watcher in [index, 1 - index] {
                            all[watcher].wait().beat_many(10..5_000u64).unwrap();
                            all[watcher].wait().flush().unwrap();
                        }
                        done.send(()).unwrap();
                    }
                })
                .build()
                .unwrap();
            watcher.beat(0u64).unwrap();
            assert!(watchers[index].set(watcher).is_ok());
        }
        for _ in 0..2 {
            is_done.recv_timeout(GENEROUS).expect("both calls return");
        }
        for watcher in watchers.iter() {
            watcher.wait().flush().unwrap();
            assert!(watcher.wait().close().is_balanced());
        }
    });
}

#[test]
fn callbacks_that_sleep_panic_and_call_back_all_at_once_lose_nothing() {
    const KEYS: u64 = 250;
    for in_worker in [false, true] {
        in_time(move || {
            let (tell, told) = unbounded();
            let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
                let itself = itself.clone();
                let callback = move |event: Event<u64>| {
                    let key = *event.key().unwrap();
                    tell.send(key).unwrap();
                    let watcher = itself.upgrade().unwrap();
                    let for_long = || Options::new().timeout(Duration::from_secs(3_600));
                    match key % 5 {
                        0 => thread::sleep(Duration::from_millis(1)),
                        1 => panic!("in the callback"),
                        2 => watcher.beat_with(key, for_long()).unwrap(),
                        3 => watcher.beat_with(key + KEYS, for_long()).unwrap(),
                        _ => {
                            watcher.remove(&key).unwrap();
                            assert_eq!(watcher.flush().is_err(), in_worker);
                        }
                    }
                };
                let builder = Watcher::builder()
                    .timeout(Duration::from_millis(2))
                    .workers(2)
                    .inbox_capacity(2);
                if in_worker {
                    builder.on_event_in_worker(callback).build().unwrap()
                } else {
                    builder.on_event(callback).build().unwrap()
                }
            });
            watcher.beat_many(0..KEYS).unwrap();
            let mut dead: Vec<u64> = (0..KEYS)
                .map(|_| told.recv_timeout(GENEROUS).unwrap())
                .collect();
            dead.sort_unstable();
            assert!(dead.into_iter().eq(0..KEYS), "each dies once");
            // The last call, perhaps a beat, may not have returned.
            while watcher.flush().is_ok() && watcher.len() as u64 != 2 * KEYS / 5 {
                thread::yield_now();
            }
            let stats = watcher.close();
            assert!(stats.is_balanced(), "{stats:?}");
            assert_eq!((stats.panics, stats.delivered), (KEYS / 5, KEYS));
            assert!(told.is_empty());
        });
    }
}

/// Asks and beats its own watcher with every event.
struct Meddler {
    /// The watcher that offers.
    watcher: Arc<OnceLock<Weak<Watcher<u64>>>>,
    /// Called with every event.
    told: Sender<u64>,
}

impl Sink<u64, ()> for Meddler {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        let key = *event.key().unwrap();
        if let Some(watcher) = self.watcher.get().and_then(Weak::upgrade) {
            assert_eq!(watcher.flush(), Err(CallError::OnWorker));
            watcher.beat(key + 1).unwrap();
        }
        self.told.send(key).unwrap();
        Ok(())
    }
}

#[test]
fn a_nearer_deadline_set_by_a_sink_wakes_the_sleeping_worker_of_its_key() {
    let (told, keys) = unbounded();
    let itself: Arc<OnceLock<Weak<Watcher<u64>>>> = Arc::default();
    let sink = Meddler {
        watcher: itself.clone(),
        told,
    };
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_millis(1))
        .workers(2)
        .sink(sink)
        .build()
        .unwrap();
    let watcher = Arc::new(watcher);
    itself.set(Arc::downgrade(&watcher)).unwrap();
    watcher.beat(0u64).unwrap();
    // Each death begins the next life, on this worker or the other, with nobody else to wake it.
    for key in 0..50 {
        assert_eq!(keys.recv_timeout(GENEROUS), Ok(key));
    }
    drop(watcher);
}

#[test]
fn a_recovery_from_inside_a_callback_is_seen() {
    for in_worker in [false, true] {
        let (told, kinds) = unbounded();
        let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
            let itself = itself.clone();
            let callback = move |event: Event<u64>| {
                told.send(event.kind()).unwrap();
                if let (Event::Expired(expired), Some(watcher)) = (&event, itself.upgrade()) {
                    // A fresh heart in place of the beat, to cover both ways.
                    watcher.watch(expired.key).unwrap().detach();
                }
            };
            let builder = Watcher::builder()
                .timeout(Duration::from_millis(5))
                .mode(Mode::Repeat)
                .events([EventKind::Expired, EventKind::Recovered]);
            if in_worker {
                builder.on_event_in_worker(callback).build().unwrap()
            } else {
                builder.on_event(callback).build().unwrap()
            }
        });
        watcher.beat(1u64).unwrap();
        for _ in 0..5 {
            assert_eq!(kinds.recv_timeout(GENEROUS), Ok(EventKind::Expired));
            let next = std::iter::from_fn(|| kinds.recv_timeout(GENEROUS).ok())
                .find(|&kind| kind == EventKind::Recovered);
            assert!(next.is_some());
        }
    }
}

#[test]
fn a_callback_on_a_worker_that_closes_is_told_that_beats_are_refused() {
    let clock = ManualClock::new();
    let (told, kinds) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
        let itself = itself.clone();
        Watcher::builder()
            .timeout(TIMEOUT)
            .workers(1)
            .clock(clock.clone())
            .on_event_in_worker(move |_| {
                let _ = opened.recv();
                let refused = itself.upgrade().map(|watcher| watcher.beat(7u64));
                told.send(refused.unwrap().map_err(|error| error.kind()))
                    .unwrap();
            })
            .build()
            .unwrap()
    });
    let gate = gate; // goes before the watcher, also when an assertion fails
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    thread::scope(|scope| {
        scope.spawn(|| watcher.close());
        while watcher.try_beat(2u64).is_ok() {
            thread::yield_now();
        }
        drop(gate);
    });
    assert_eq!(kinds.recv_timeout(GENEROUS), Ok(Err(BeatErrorKind::Closed)));
    assert!(watcher.close().is_balanced());
}
