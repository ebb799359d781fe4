//! Handlers, events, schedules and callbacks that call the dispatcher they belong to.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use liveness::dispatch::{
    Cancelled, Context, Dispatcher, EmitErrorKind, Failure, Notice, On, Schedule, Topic,
};
use parking_lot::Mutex;

#[path = "../support/in_time.rs"]
mod in_time;

use self::in_time::in_time;
use crate::kit::{
    HOUR, MS, PATIENCE, S, TOPIC, all, assert_balanced, flush, get, holder, manual, manual_with,
    recorder,
};

#[test]
fn a_handler_may_emit_to_its_own_topic() {
    let it = manual();
    let dispatcher = it.dispatcher.clone();
    let handle = move |_: &Context, event: &u64| {
        if *event > 0 {
            dispatcher.emit(&TOPIC, event - 1)?;
        }
        Ok(())
    };
    it.dispatcher
        .on(&TOPIC, "count", On::new(), handle)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1_000).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 1_001);
    assert!(it.dispatcher.stop(S).undone.is_empty());
}

#[test]
fn a_handler_that_would_wait_for_room_or_for_itself_is_refused_at_once() {
    in_time(|| {
        let it = manual_with(|builder| builder.threads(1).max_unfinished(1));
        let (sender, results) = unbounded();
        let dispatcher = it.dispatcher.clone();
        let handle = move |_: &Context, _: &u64| {
            let error = dispatcher.emit_within(&TOPIC, 7, HOUR).unwrap_err();
            sender.send((error.kind(), dispatcher.flush(HOUR)))?;
            Ok(())
        };
        it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
        it.dispatcher.emit(&TOPIC, 1).unwrap();
        assert_eq!(get(&results), (EmitErrorKind::Full, false));
        it.flush();
        assert!(it.dispatcher.stop(S).undone.is_empty());
    });
}

#[test]
fn a_handler_that_removes_itself_is_called_once_and_the_events_stay() {
    for is_parallel in [false, true] {
        in_time(move || {
            let it = manual();
            let (sender, removals) = unbounded();
            let dispatcher = it.dispatcher.clone();
            let (met, meets) = crossbeam_channel::bounded(0);
            let handle = move |_: &Context, _: &u64| {
                if is_parallel {
                    // Two calls run when each removes the handler.
                    crossbeam_channel::select! {
                        send(met, ()) -> _ => {}
                        recv(meets) -> _ => {}
                        default(PATIENCE) => {}
                    }
                }
                sender.send(dispatcher.remove(&TOPIC, "do"))?;
                Ok(())
            };
            let parallel = 1 + usize::from(is_parallel);
            it.dispatcher
                .on(&TOPIC, "do", On::new().parallel(parallel), handle)
                .unwrap();
            let accepted = it.dispatcher.emit_many(&TOPIC, 0..9);
            let accepted = accepted.map_or_else(|error| error.accepted().len(), |ids| ids.len());
            assert_eq!(accepted, 9);
            it.flush();
            let mut expected = vec![false; parallel];
            expected[0] = true;
            let mut seen = all(&removals);
            seen.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(seen, expected);
            let total = it.dispatcher.stats().total();
            assert_eq!(
                (total.done as usize, total.waiting as usize),
                (parallel, 9 - parallel)
            );
            assert_eq!(it.dispatcher.stop(S).undone.len(), 9 - parallel);
        });
    }
}

#[test]
fn two_handlers_that_remove_each_other_do_not_wait_for_each_other() {
    in_time(|| {
        const OTHER: Topic<u64> = Topic::new("other");
        let it = manual();
        let barrier = Arc::new(std::sync::Barrier::new(2));
        for (own, other) in [(TOPIC, OTHER), (OTHER, TOPIC)] {
            let (dispatcher, barrier) = (it.dispatcher.clone(), barrier.clone());
            let handle = move |_: &Context, _: &u64| {
                barrier.wait();
                assert!(dispatcher.remove(&other, "do"));
                Ok(())
            };
            it.dispatcher.on(&own, "do", On::new(), handle).unwrap();
        }
        it.dispatcher.pause(&TOPIC);
        it.dispatcher.pause(&OTHER);
        it.dispatcher.emit(&TOPIC, 1).unwrap();
        it.dispatcher.emit(&OTHER, 1).unwrap();
        it.dispatcher.resume(&TOPIC);
        it.dispatcher.resume(&OTHER);
        it.flush();
        assert_eq!(it.dispatcher.stats().total().done, 2);
        assert!(it.dispatcher.stop(S).undone.is_empty());
    });
}

#[test]
fn a_handler_that_stops_the_dispatcher_is_not_waited_for_and_ends_well() {
    in_time(|| {
        let it = manual_with(|builder| builder.threads(1));
        let (sender, summaries) = unbounded();
        let dispatcher = it.dispatcher.clone();
        let handle = move |_: &Context, _: &u64| {
            sender.send(dispatcher.stop(HOUR))?;
            Ok(())
        };
        it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
        it.dispatcher.pause(&TOPIC);
        it.dispatcher.emit_many(&TOPIC, 0..9).unwrap();
        it.dispatcher.resume(&TOPIC);
        let summary = get(&summaries);
        assert_eq!((summary.undone.len(), summary.still_running.len()), (8, 0));
        let summary = it.dispatcher.stop(HOUR);
        assert!(summary.undone.is_empty() && summary.still_running.is_empty());
        let total = it.dispatcher.stats().total();
        assert_eq!((total.done, total.discarded), (1, 8));
    });
}

#[test]
fn an_event_whose_handler_stops_the_dispatcher_and_fails_is_counted_as_discarded() {
    in_time(|| {
        let it = manual_with(|builder| builder.threads(1));
        let owned = Arc::new(());
        let dispatcher = it.dispatcher.clone();
        const OWNERS: Topic<Arc<()>> = Topic::new("owners");
        let handle = move |_: &Context, _: &Arc<()>| -> Result<(), Failure> {
            assert!(dispatcher.stop(HOUR).undone.is_empty());
            Err("and it fails".into())
        };
        it.dispatcher.on(&OWNERS, "do", On::new(), handle).unwrap();
        it.dispatcher.emit(&OWNERS, owned.clone()).unwrap();
        while it.dispatcher.stats().total().running + it.dispatcher.stats().total().waiting > 0 {
            std::thread::yield_now();
        }
        assert!(it.dispatcher.stop(HOUR).still_running.is_empty());
        let total = it.dispatcher.stats().total();
        assert_eq!((total.discarded, total.waiting), (1, 0));
        assert_balanced(&it.dispatcher);
        assert_eq!(Arc::strong_count(&owned), 1);
    });
}

#[test]
fn a_handler_that_cancels_its_own_event_ends_it_and_its_outcome_is_stale() {
    let it = manual();
    let (sender, seen) = unbounded();
    let dispatcher = it.dispatcher.clone();
    let handle = move |context: &Context, _: &u64| {
        let cancelled = dispatcher.cancel(&TOPIC, context.id());
        sender.send((cancelled, context.wait(HOUR), context.cause()))?;
        Err("not tried again".into())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let (second, seconds) = recorder();
    it.dispatcher
        .on(&TOPIC, "second", On::new(), second)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.advance(HOUR);
    let expected = (
        Cancelled::Running,
        true,
        Some(liveness::dispatch::Cause::Cancelled),
    );
    assert_eq!(all(&seen), [expected]);
    assert!(seconds.is_empty());
    let total = it.dispatcher.stats().total();
    assert_eq!((total.cancelled, total.stale, total.retried), (1, 1, 0));
    assert!(it.dispatcher.stop(S).undone.is_empty());
}

#[test]
fn the_last_handle_may_be_dropped_by_a_handler() {
    in_time(|| {
        let dispatcher = Dispatcher::builder().threads(2).build().unwrap();
        let own = Arc::new(Mutex::new(Some(dispatcher.clone())));
        let (sender, dropped) = unbounded();
        let (gone, is_gone) = crossbeam_channel::bounded::<()>(0);
        let (go, may_go) = unbounded::<()>();
        let handle = move |_: &Context, _: &u64| {
            let _ = &gone;
            may_go.recv()?;
            drop(own.lock().take());
            sender.send(())?;
            Ok(())
        };
        dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
        dispatcher.emit(&TOPIC, 1).unwrap();
        drop(dispatcher);
        go.send(()).unwrap();
        get(&dropped);
        // The handler goes with the dispatcher.
        assert!(
            is_gone
                .recv_timeout(PATIENCE)
                .unwrap_err()
                .is_disconnected()
        );
    });
}

#[test]
fn the_last_handle_may_be_dropped_by_an_event_that_is_dropped() {
    /// Owns the last handle.
    struct Owner(Option<Dispatcher>, crossbeam_channel::Sender<()>);
    impl Drop for Owner {
        fn drop(&mut self) {
            drop(self.0.take());
            let _ = self.1.send(());
        }
    }
    const OWNERS: Topic<Owner> = Topic::new("owners");
    for _ in 0..50 {
        in_time(|| {
            let (sender, dropped) = unbounded();
            let dispatcher = Dispatcher::builder().threads(2).build().unwrap();
            let (held, holds) = crossbeam_channel::bounded::<()>(0);
            let handle = move |_: &Context, _: &Owner| {
                let _ = holds.recv();
                Ok(())
            };
            dispatcher.on(&OWNERS, "do", On::new(), handle).unwrap();
            let owner = Owner(Some(dispatcher.clone()), sender);
            dispatcher.emit(&OWNERS, owner).unwrap();
            drop(dispatcher);
            drop(held);
            get(&dropped);
        });
    }
}

#[test]
fn an_event_may_stop_the_dispatcher_when_it_is_dropped_after_a_stop() {
    /// Stops the dispatcher.
    struct Stopper(Dispatcher);
    impl Drop for Stopper {
        fn drop(&mut self) {
            let summary = self.0.stop(HOUR);
            assert!(summary.undone.is_empty());
        }
    }
    const STOPPERS: Topic<Stopper> = Topic::new("stoppers");
    in_time(|| {
        let it = manual_with(|builder| builder.threads(1));
        let (entered, is_held) = unbounded();
        let (gate, opened) = crossbeam_channel::bounded::<()>(0);
        let handle = move |_: &Context, _: &Stopper| {
            entered.send(())?;
            let _ = opened.recv();
            Ok(())
        };
        it.dispatcher
            .on(&STOPPERS, "do", On::new(), handle)
            .unwrap();
        it.dispatcher
            .emit(&STOPPERS, Stopper(it.dispatcher.clone()))
            .unwrap();
        get(&is_held);
        let stopped = it.dispatcher.stop(Duration::ZERO);
        assert_eq!(stopped.still_running, ["dispatch-0"]);
        drop(gate);
        assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
        assert_eq!(it.dispatcher.stats().total().done, 1);
    });
}

#[test]
fn a_handler_that_is_dropped_while_it_is_called_is_dropped_without_a_lock() {
    /// Emits when it is dropped.
    struct Emitter(Dispatcher, crossbeam_channel::Sender<EmitErrorKind>);
    impl Drop for Emitter {
        fn drop(&mut self) {
            let error = self.0.emit(&TOPIC, 1).unwrap_err();
            let _ = self.1.send(error.kind());
        }
    }
    for stops in [false, true] {
        in_time(move || {
            let it = manual_with(|builder| builder.threads(1));
            let (sender, dropped) = unbounded();
            let emitter = Emitter(it.dispatcher.clone(), sender);
            let (hold, is_held, gate) = holder();
            let handle = move |context: &Context, event: &u64| {
                let _ = &emitter;
                hold(context, event)
            };
            it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
            it.dispatcher.emit(&TOPIC, 1).unwrap();
            get(&is_held);
            if stops {
                assert_eq!(it.dispatcher.stop(Duration::ZERO).still_running.len(), 1);
            } else {
                assert!(it.dispatcher.remove_now(&TOPIC, "do"));
            }
            assert!(dropped.is_empty());
            drop(gate);
            let expected = if stops {
                EmitErrorKind::Stopped
            } else {
                EmitErrorKind::NoHandler
            };
            assert_eq!(get(&dropped), expected);
            assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
            assert_eq!(it.dispatcher.stats().total().done, 1);
        });
    }
}

#[test]
fn a_notice_callback_may_replay_stop_and_look() {
    in_time(|| {
        let own: Arc<OnceLock<Dispatcher>> = Arc::default();
        let callers = own.clone();
        let (sender, notices) = unbounded();
        let it = manual_with(|builder| {
            builder.stuck_after(S).on_notice(move |notice| {
                let dispatcher = callers.get().unwrap();
                match &notice {
                    Notice::Dead { attempts: 1, .. }
                        if dispatcher.stats().total().replayed == 0 =>
                    {
                        assert_eq!(dispatcher.replay(&TOPIC, 1), 1);
                    }
                    Notice::Stuck { .. } => {
                        let summary = dispatcher.stop(Duration::ZERO);
                        assert_eq!(summary.still_running.len(), 1);
                    }
                    _ => {}
                }
                let _ = sender.send(notice);
            })
        });
        own.set(it.dispatcher.clone()).unwrap();
        it.dispatcher
            .on(&TOPIC, "fail", On::new(), |_, _| Err(Failure::fatal("no")))
            .unwrap();
        it.dispatcher.emit(&TOPIC, 1).unwrap();
        for _ in 0..2 {
            assert!(matches!(get(&notices), Notice::Dead { .. }));
        }
        const STUCK: Topic<u64> = Topic::new("stuck");
        let (entered, is_held) = unbounded();
        let (gate, opened) = crossbeam_channel::bounded::<()>(0);
        let handle = move |context: &Context, _: &u64| {
            entered.send(())?;
            assert!(context.wait(HOUR));
            entered.send(())?;
            let _ = opened.recv();
            Ok(())
        };
        it.dispatcher
            .on(&STUCK, "stuck", On::new().max_duration(S), handle)
            .unwrap();
        it.dispatcher.emit(&STUCK, 1).unwrap();
        get(&is_held);
        it.clock.advance(S);
        get(&is_held);
        it.clock.advance(S);
        assert!(matches!(get(&notices), Notice::Stuck { .. }));
        assert_eq!(
            it.dispatcher.emit(&TOPIC, 1).unwrap_err().kind(),
            EmitErrorKind::Stopped
        );
        drop(gate);
        assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
        assert_balanced(&it.dispatcher);
    });
}

#[test]
fn a_schedule_may_remove_itself_and_stop_the_dispatcher() {
    in_time(|| {
        let it = manual();
        let (handle, calls) = recorder();
        it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
        let dispatcher = it.dispatcher.clone();
        let make = move || {
            assert!(dispatcher.unschedule(&TOPIC, "once"));
            7
        };
        it.dispatcher
            .schedule(&TOPIC, "once", Schedule::every(S), make)
            .unwrap();
        it.advance(3 * S);
        it.advance(S);
        assert_eq!(all(&calls), [7]);
        let dispatcher = it.dispatcher.clone();
        let make = move || {
            assert!(dispatcher.stop(HOUR).undone.is_empty());
            8
        };
        it.dispatcher
            .schedule(&TOPIC, "end", Schedule::every(S), make)
            .unwrap();
        it.clock.advance(S);
        while it.dispatcher.emit(&TOPIC, 9).is_ok() {
            std::thread::yield_now();
        }
        assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
        assert_balanced(&it.dispatcher);
    });
}

#[test]
fn a_handler_may_pause_its_topic_and_register_another_handler() {
    let it = manual_with(|builder| builder.threads(1));
    let dispatcher = it.dispatcher.clone();
    let (late, lates) = recorder();
    let handle = move |_: &Context, event: &u64| {
        if *event == 0 {
            dispatcher.on(&TOPIC, "late", On::new(), late.clone())?;
            assert!(dispatcher.pause(&TOPIC));
        }
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..3).unwrap();
    it.flush();
    assert!(lates.is_empty());
    assert!(it.dispatcher.resume(&TOPIC));
    it.flush();
    assert_eq!(all(&lates), [1, 2]);
    flush(&it.dispatcher);
    assert!(it.dispatcher.stop(S).undone.is_empty());
}

/// An event whose drop waits until it is let go.
struct Slow(u64, Receiver<()>);

impl Drop for Slow {
    fn drop(&mut self) {
        if self.0 == 1 {
            let _ = self.1.recv_timeout(PATIENCE);
        }
    }
}

#[test]
fn an_event_that_its_rate_puts_off_starts_while_the_one_before_is_dropped() {
    const SLOW: Topic<Slow> = Topic::new("slow");
    let dispatcher = Dispatcher::builder().threads(2).build().unwrap();
    let (sender, handled) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let options = On::new().parallel(1).rate(1, 300 * MS);
    dispatcher
        .on(&SLOW, "do", options, move |_, event| {
            Ok(sender.send(event.0)?)
        })
        .unwrap();
    let _ = dispatcher.emit_many(&SLOW, [Slow(1, opened.clone()), Slow(2, opened)]);
    assert_eq!(get(&handled), 1);
    let second = handled.recv_timeout(5 * S);
    drop(gate);
    assert_eq!(second, Ok(2));
}
