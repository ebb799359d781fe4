//! A close, or the last handle of a watcher, on a thread of a watcher.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use liveness::{BeatErrorKind, Event, Options, Watcher};

use super::{Dropped, with_callback};
use crate::in_time::{GENEROUS, in_time};

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
