//! Removing handlers that are called, and what becomes of their events.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::unbounded;
use liveness::dispatch::{Backoff, Context, EmitErrorKind, On};

use crate::kit::{S, TOPIC, all, get, holder, manual, manual_with, recorder};

#[test]
fn remove_waits_for_the_running_calls_and_remove_now_does_not() {
    for waits in [true, false] {
        let it = manual_with(|builder| builder.threads(3));
        let (handle, is_held, gate) = holder();
        it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
        it.dispatcher.emit_many(&TOPIC, 0..3).unwrap();
        for _ in 0..3 {
            get(&is_held);
        }
        let (sender, removals) = unbounded();
        let dispatcher = it.dispatcher.clone();
        let removing = thread::spawn(move || {
            let was_there = if waits {
                dispatcher.remove(&TOPIC, "hold")
            } else {
                dispatcher.remove_now(&TOPIC, "hold")
            };
            sender.send(was_there).unwrap();
        });
        while it.dispatcher.emit(&TOPIC, 9).is_ok() {
            thread::yield_now();
        }
        if waits {
            gate.send(()).unwrap();
            gate.send(()).unwrap();
            assert!(removals.is_empty(), "one call still runs");
        } else {
            assert!(get(&removals));
        }
        drop(gate);
        removing.join().unwrap();
        it.flush();
        assert_eq!(it.dispatcher.stats().total().done, 3);
    }
}

#[test]
fn what_a_handler_owns_is_dropped_when_it_is_removed() {
    let it = manual();
    let owned = Arc::new(());
    for name in ["one", "two"] {
        let owned = owned.clone();
        let handle = move |_: &Context, _: &u64| {
            let _ = &owned;
            Ok(())
        };
        it.dispatcher.on(&TOPIC, name, On::new(), handle).unwrap();
    }
    it.dispatcher.emit_many(&TOPIC, 0..99).unwrap();
    it.flush();
    assert!(it.dispatcher.remove(&TOPIC, "one"));
    assert_eq!(Arc::strong_count(&owned), 2);
    assert!(it.dispatcher.stop(S).undone.is_empty());
    assert_eq!(Arc::strong_count(&owned), 1);
}

#[test]
fn an_event_whose_last_handler_is_removed_waits_for_the_next_one() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher
        .on(&TOPIC, "do", On::new(), handle.clone())
        .unwrap();
    it.dispatcher.pause(&TOPIC);
    it.dispatcher.emit_many(&TOPIC, 0..9).unwrap();
    assert!(it.dispatcher.remove(&TOPIC, "do"));
    it.dispatcher.resume(&TOPIC);
    it.flush();
    assert_eq!(
        it.dispatcher.emit(&TOPIC, 9).unwrap_err().kind(),
        EmitErrorKind::NoHandler
    );
    it.advance(S);
    assert_eq!((calls.len(), it.dispatcher.counts(&TOPIC).ready), (0, 9));
    it.dispatcher
        .on(&TOPIC, "again", On::new(), handle)
        .unwrap();
    it.flush();
    assert_eq!(calls.len(), 9);
}

#[test]
fn an_event_is_dead_if_the_handler_that_is_to_be_called_again_is_gone() {
    let it = manual();
    let (fine, calls) = recorder();
    it.dispatcher.on(&TOPIC, "fine", On::new(), fine).unwrap();
    let options = On::new().backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher
        .on(&TOPIC, "fail", options.clone(), |_, _| Err("no".into()))
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.dispatcher.remove(&TOPIC, "fail");
    it.advance(S);
    let dead = &it.dispatcher.dead(&TOPIC, 1)[0];
    assert_eq!(dead.error, "handler `fail` is no longer registered");
    assert_eq!(dead.handlers, ["fail"]);
    // With the handler back, a replay calls that one alone.
    let (back, backs) = recorder();
    it.dispatcher.on(&TOPIC, "fail", options, back).unwrap();
    assert_eq!(it.dispatcher.replay(&TOPIC, 1), 1);
    it.flush();
    assert_eq!((all(&calls), all(&backs)), (vec![1], vec![1]));
}

#[test]
fn a_handler_removed_before_its_turn_in_a_running_attempt_is_not_called_and_no_other_one_again() {
    let it = manual_with(|builder| builder.threads(1));
    let (hold, is_held, gate) = holder();
    let fails_once = {
        let hold = hold.clone();
        move |context: &Context, event: &u64| {
            if context.attempt() == 1 {
                return Err("once".into());
            }
            hold(context, event)
        }
    };
    let options = On::new().backoff(Backoff::constant(S).jitter(0.0));
    let (done, dones) = recorder();
    it.dispatcher.on(&TOPIC, "done", On::new(), done).unwrap();
    it.dispatcher
        .on(&TOPIC, "first", options.clone(), fails_once)
        .unwrap();
    let (sender, lasts) = unbounded();
    let last = move |context: &Context, _: &u64| {
        sender.send(context.attempt())?;
        Err("always".into())
    };
    it.dispatcher.on(&TOPIC, "last", options, last).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.clock.advance(S);
    // The second attempt, which calls the two that failed, is in the first of them.
    get(&is_held);
    assert!(it.dispatcher.remove_now(&TOPIC, "last"));
    drop(gate);
    it.flush();
    assert_eq!((all(&dones), all(&lasts)), (vec![1], vec![1]));
    assert_eq!(it.dispatcher.dead(&TOPIC, 9)[0].handlers, ["last"]);
    // In a first attempt, a handler that is gone is not missed.
    let it = manual_with(|builder| builder.threads(1));
    let (hold, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "first", On::new(), hold).unwrap();
    let (last, lasts) = recorder();
    it.dispatcher.on(&TOPIC, "last", On::new(), last).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    get(&is_held);
    assert!(it.dispatcher.remove_now(&TOPIC, "last"));
    drop(gate);
    it.flush();
    assert!(lasts.is_empty());
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

#[test]
fn handlers_that_come_and_go_while_events_run_lose_none_of_them() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher
        .on(&TOPIC, "stays", On::new(), handle)
        .unwrap();
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let dispatcher = &it.dispatcher;
            scope.spawn(move || {
                for _ in 0..500 {
                    dispatcher
                        .on(&TOPIC, name, On::new(), |_, _| Ok(()))
                        .unwrap();
                    assert!(dispatcher.remove(&TOPIC, name));
                }
            });
        }
        for event in 0..5_000 {
            it.dispatcher.emit(&TOPIC, event).unwrap();
        }
    });
    it.flush();
    let mut seen = all(&calls);
    seen.sort_unstable();
    assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
    assert_eq!(it.dispatcher.stats().total().done, 5_000);
}
