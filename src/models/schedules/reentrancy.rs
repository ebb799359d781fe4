//! Calls from callbacks return, whatever is full and whichever thread closes.

use std::sync::{Arc, OnceLock, Weak};

use shuttle::sync::mpsc;
use shuttle::thread;

use super::{TIMEOUT, builder, explore, quiet};
use crate::{CallError, EventKind, ManualClock, Watcher};

/// The watcher as its callback finds it: absent before it is built.
type Itself = Arc<OnceLock<Weak<Watcher<u64>>>>;

/// Returns the watcher, if it exists.
fn find(itself: &Itself) -> Option<Arc<Watcher<u64>>> {
    itself.get().and_then(Weak::upgrade)
}

/// Makes `watcher` available to the callback.
fn show(itself: &Itself, watcher: Watcher<u64>) -> Arc<Watcher<u64>> {
    let watcher = Arc::new(watcher);
    assert!(itself.set(Arc::downgrade(&watcher)).is_ok());
    watcher
}

#[test]
fn workers_beat_each_other_s_keys_with_every_inbox_full() {
    explore(
        "workers_beat_each_other_s_keys_with_every_inbox_full",
        || {
            let itself = Itself::default();
            let watcher = builder(&ManualClock::new(), 2, 1)
                .events([EventKind::Joined])
                .on_event_in_worker({
                    let itself = itself.clone();
                    move |event| {
                        let watcher = find(&itself).unwrap();
                        let key = *event.key().unwrap();
                        if key < 10 {
                            watcher.beat_many([key + 10, key + 20]).unwrap();
                            watcher.beat(key + 30).unwrap();
                            watcher.try_beat(key + 40).unwrap();
                            assert_eq!(watcher.flush(), Err(CallError::OnWorker));
                            watcher.remove(&(key + 50)).unwrap();
                        }
                    }
                })
                .build()
                .unwrap();
            let watcher = show(&itself, watcher);
            let producers = [0u64, 4].map(|first| {
                let watcher = watcher.clone();
                thread::spawn(move || {
                    for key in first..first + 2 {
                        watcher.beat(key).unwrap();
                    }
                })
            });
            for producer in producers {
                producer.join().unwrap();
            }
            // The first two flushes wait for the beats of producers, the last one for those of callbacks.
            for _ in 0..3 {
                watcher.flush().unwrap();
            }
            let stats = quiet(watcher.close());
            assert_eq!(
                (stats.started, stats.live, stats.applied_beats),
                (20, 20, 20)
            );
            assert!(stats.live_by_worker.iter().all(|&live| live > 0));
        },
    );
}

#[test]
fn the_delivery_thread_calls_everything_with_every_inbox_full() {
    explore(
        "the_delivery_thread_calls_everything_with_every_inbox_full",
        || {
            let (done, is_done) = mpsc::channel();
            let clock = ManualClock::new();
            let itself = Itself::default();
            let watcher = builder(&clock, 2, 1)
                .on_event({
                    let itself = itself.clone();
                    move |event| {
                        let watcher = find(&itself).unwrap();
                        let key = *event.key().unwrap();
                        watcher.beat_many([key + 10, key + 20]).unwrap();
                        watcher.remove(&(key + 10)).unwrap();
                        let heart = watcher.watch(key + 30).unwrap();
                        watcher.flush().unwrap();
                        assert!(heart.beat().is_ok());
                        assert!(!watcher.contains(&(key + 10)).unwrap());
                        drop(heart);
                        done.send(()).unwrap();
                    }
                })
                .build()
                .unwrap();
            let watcher = show(&itself, watcher);
            watcher.beat_many([1u64, 2]).unwrap();
            clock.advance(TIMEOUT);
            let producer = thread::spawn({
                let watcher = watcher.clone();
                move || watcher.beat_many(40..43u64).unwrap()
            });
            watcher.flush().unwrap();
            is_done.recv().unwrap();
            is_done.recv().unwrap();
            producer.join().unwrap();
            watcher.flush().unwrap();
            let stats = quiet(watcher.close());
            // A heart that is dropped removes its key too.
            assert_eq!((stats.delivered, stats.removed, stats.live), (2, 4, 5));
        },
    );
}

/// Closes the watcher from its own callbacks while its owner closes it too.
fn close_from_callbacks(on_worker: bool) {
    let clock = ManualClock::new();
    let itself = Itself::default();
    let callback = {
        let itself = itself.clone();
        move |_| {
            if let Some(watcher) = find(&itself) {
                watcher.close();
                assert!(watcher.beat(9u64).is_err());
            }
        }
    };
    let builder = builder(&clock, 2, 1);
    let builder = if on_worker {
        builder.on_event_in_worker(callback)
    } else {
        builder.on_event(callback)
    };
    let watcher = show(&itself, builder.build().unwrap());
    watcher.beat_many(0..4u64).unwrap();
    clock.advance(TIMEOUT);
    let flushing = thread::spawn({
        let watcher = watcher.clone();
        move || watcher.flush().is_ok()
    });
    let beating = thread::spawn({
        let watcher = watcher.clone();
        move || (10..13u64).all(|key| watcher.beat(key).is_ok())
    });
    flushing.join().unwrap();
    let stats = quiet(watcher.close());
    beating.join().unwrap();
    assert_eq!(stats.started, stats.applied_beats);
    assert_eq!(stats.pending, 0);
}

#[test]
fn a_callback_on_a_worker_closes_its_own_watcher() {
    explore("a_callback_on_a_worker_closes_its_own_watcher", || {
        close_from_callbacks(true);
    });
}

#[test]
fn a_callback_on_the_delivery_thread_closes_its_own_watcher() {
    explore(
        "a_callback_on_the_delivery_thread_closes_its_own_watcher",
        || close_from_callbacks(false),
    );
}

#[test]
fn the_last_share_may_go_within_a_callback() {
    explore("the_last_share_may_go_within_a_callback", || {
        let clock = ManualClock::new();
        let (handed, share) = mpsc::channel::<Arc<Watcher<u64>>>();
        let (done, is_done) = mpsc::channel();
        let watcher = builder(&clock, 1, 1)
            .on_event(move |_| {
                drop(share.recv().unwrap());
                done.send(()).unwrap();
            })
            .build()
            .unwrap();
        let watcher = Arc::new(watcher);
        watcher.beat(1u64).unwrap();
        clock.advance(TIMEOUT);
        // Wakes the worker, and does not wait for the callback.
        watcher.contains(&1).unwrap();
        handed.send(watcher).unwrap();
        is_done.recv().unwrap();
    });
}
