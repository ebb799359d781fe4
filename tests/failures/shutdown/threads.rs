//! Threads are joined, or named.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use liveness::{BeatErrorKind, Event, HeartError, Watcher};

use super::{Dropped, with_callback};
use crate::in_time::{GENEROUS, in_time};

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
