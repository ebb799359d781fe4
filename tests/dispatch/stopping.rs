//! The end of a dispatcher.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use liveness::dispatch::{Cause, Context, Dispatcher, Emit, Failure, Notice, On, Topic};

use crate::kit::{HOUR, PATIENCE, S, TOPIC, assert_balanced, get, holder, manual, manual_with};

#[test]
fn a_stop_returns_what_waits_in_the_order_of_due_times_with_its_attempts() {
    let it = manual();
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| {
            Err(Failure::retry_in(9 * S, "no"))
        })
        .unwrap();
    it.dispatcher.emit(&TOPIC, 0).unwrap();
    it.flush();
    for (event, delay) in [(1, 10), (2, 2), (3, 5)] {
        it.dispatcher
            .emit_with(&TOPIC, event, Emit::after(delay * S))
            .unwrap();
    }
    let undone = it.dispatcher.stop(S).undone.into_iter();
    let undone: Vec<_> = undone
        .map(|undone| (undone.attempts, undone.into_event::<u64>().unwrap()))
        .collect();
    assert_eq!(undone, [(0, 2), (0, 3), (1, 0), (0, 1)]);
}

#[test]
fn what_is_undone_is_given_back_only_as_its_type_and_when_no_handler_has_it() {
    let it = manual_with(|builder| builder.threads(1));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.dispatcher.emit(&TOPIC, 2).unwrap();
    get(&is_held);
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert_eq!(summary.still_running, ["dispatch-0"]);
    let undone = summary.undone.into_iter().next().unwrap();
    let undone = undone.into_event::<String>().unwrap_err();
    assert_eq!(undone.into_event::<u64>().unwrap(), 2);
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

#[test]
fn a_stop_ends_waits_by_a_clock_that_stands_still() {
    let it = manual();
    let (sender, causes) = unbounded();
    let handle = move |context: &Context, _: &u64| {
        sender.send(None)?;
        assert!(context.wait(HOUR));
        sender.send(context.cause())?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&causes), None);
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert_eq!(get(&causes), Some(Cause::Interrupted));
    assert!(summary.still_running.is_empty() && summary.undone.is_empty());
    // It was interrupted, and done nevertheless.
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

#[test]
fn an_event_of_which_some_handlers_were_called_is_returned_when_a_stop_interrupts_it() {
    let it = manual();
    let (sender, calls) = unbounded();
    for name in ["one", "two", "three"] {
        let sender = sender.clone();
        let handle = move |context: &Context, _: &u64| {
            sender.send(name)?;
            if name == "two" && context.wait(HOUR) {
                return Err("interrupted".into());
            }
            Ok(())
        };
        it.dispatcher.on(&TOPIC, name, On::new(), handle).unwrap();
    }
    it.dispatcher.emit(&TOPIC, 7).unwrap();
    assert_eq!([get(&calls), get(&calls)], ["one", "two"]);
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert_eq!(summary.undone.len(), 1);
    assert!(calls.is_empty());
    assert_balanced(&it.dispatcher);
}

#[test]
fn a_stop_waits_no_longer_than_it_may_for_a_handler_that_does_not_look() {
    let it = manual_with(|builder| builder.threads(2));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..5).unwrap();
    get(&is_held);
    get(&is_held);
    let began = Instant::now();
    let mut summary = it.dispatcher.stop(Duration::ZERO);
    assert!(began.elapsed() < PATIENCE);
    summary.still_running.sort_unstable();
    assert_eq!(summary.still_running, ["dispatch-0", "dispatch-1"]);
    assert_eq!(summary.undone.len(), 3);
    // What they come to still counts.
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    let total = it.dispatcher.stats().total();
    assert_eq!((total.done, total.discarded, total.running), (2, 3, 0));
}

#[test]
fn an_event_that_fails_after_a_stop_has_returned_is_discarded() {
    let it = manual_with(|builder| builder.threads(1));
    const OWNERS: Topic<Arc<()>> = Topic::new("owners");
    let owned = Arc::new(());
    let (entered, is_held) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let handle = move |_: &Context, _: &Arc<()>| -> Result<(), Failure> {
        entered.send(())?;
        let _ = opened.recv();
        Err("late".into())
    };
    it.dispatcher.on(&OWNERS, "do", On::new(), handle).unwrap();
    it.dispatcher.emit(&OWNERS, owned.clone()).unwrap();
    get(&is_held);
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert_eq!((summary.still_running.len(), summary.undone.len()), (1, 0));
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    let total = it.dispatcher.stats().total();
    assert_eq!((total.waiting, total.discarded), (0, 1));
    assert_balanced(&it.dispatcher);
    assert_eq!(Arc::strong_count(&owned), 1);
}

#[test]
fn a_stop_ends_a_flush_though_a_handler_does_not_return() {
    let it = manual_with(|builder| builder.threads(1));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    get(&is_held);
    let (sender, flushed) = unbounded();
    let dispatcher = it.dispatcher.clone();
    let began = bounded(1);
    let flushing = thread::spawn(move || {
        began.0.send(()).unwrap();
        sender.send(dispatcher.flush(HOUR)).unwrap();
    });
    get(&began.1);
    assert_eq!(it.dispatcher.stop(Duration::ZERO).still_running.len(), 1);
    assert!(!get(&flushed));
    flushing.join().unwrap();
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
}

#[test]
fn several_stops_at_once_return_each_event_once() {
    for _ in 0..50 {
        let dispatcher = Dispatcher::builder().threads(2).build().unwrap();
        dispatcher
            .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
            .unwrap();
        for event in 0..100 {
            dispatcher
                .emit_with(&TOPIC, event, Emit::after(HOUR))
                .unwrap();
        }
        let stops: Vec<_> = (0..4)
            .map(|_| {
                let dispatcher = dispatcher.clone();
                thread::spawn(move || dispatcher.stop(PATIENCE).undone.len())
            })
            .collect();
        let total: usize = stops.into_iter().map(|stop| stop.join().unwrap()).sum();
        assert_eq!(total, 100);
        assert_balanced(&dispatcher);
    }
}

#[test]
fn a_stop_does_not_wait_for_a_notice_callback_that_does_not_return() {
    let (entered, is_held) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let it = manual_with(|builder| {
        builder.threads(1).stuck_after(S).on_notice(move |notice| {
            if let Notice::Stuck { .. } = notice {
                let _ = entered.send(());
                let _ = opened.recv();
            }
        })
    });
    let (sender, calls) = unbounded();
    let (release, released) = bounded::<()>(0);
    let handle = move |context: &Context, _: &u64| {
        while !context.is_cancelled() {
            thread::yield_now();
        }
        sender.send(())?;
        let _ = released.recv();
        Ok(())
    };
    it.dispatcher
        .on(
            &TOPIC,
            "stuck",
            On::new().max_duration(S).max_attempts(1),
            handle,
        )
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    while calls.is_empty() {
        it.clock.advance(S);
    }
    while is_held.is_empty() {
        it.clock.advance(S);
    }
    drop(release);
    let (done, is_done) = unbounded();
    let dispatcher = it.dispatcher.clone();
    let stopping = thread::spawn(move || {
        let _ = done.send(dispatcher.stop(PATIENCE).undone.len());
    });
    assert_eq!(get(&is_done), 0);
    stopping.join().unwrap();
    drop(gate);
    assert_balanced(&it.dispatcher);
}

#[test]
fn dropping_the_last_handle_drops_what_waits_what_is_dead_and_what_is_registered() {
    const OWNERS: Topic<Arc<()>> = Topic::new("owners");
    let owned = Arc::new(());
    let it = manual();
    let (handler, notices) = (owned.clone(), owned.clone());
    let handle = move |_: &Context, _: &Arc<()>| {
        let _ = &handler;
        Err(Failure::fatal("no"))
    };
    let dispatcher = Dispatcher::builder()
        .threads(2)
        .on_notice(move |_| drop(notices.clone()))
        .build()
        .unwrap();
    dispatcher.on(&OWNERS, "do", On::new(), handle).unwrap();
    dispatcher.emit(&OWNERS, owned.clone()).unwrap();
    crate::kit::flush(&dispatcher);
    dispatcher
        .emit_with(&OWNERS, owned.clone(), Emit::after(HOUR))
        .unwrap();
    let clone = dispatcher.clone();
    drop(dispatcher);
    assert_eq!(Arc::strong_count(&owned), 5);
    drop(clone);
    // The threads are joined, so nothing is left.
    assert_eq!(Arc::strong_count(&owned), 1);
    it.flush();
}
