//! What a handler gets to know of its event and of the end of its time.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use liveness::dispatch::{
    Backoff, Cancelled, Cause, Context, Dispatcher, Emit, Failure, Handler, Notice, On,
};

use crate::kit::{
    Fixture, HOUR, MS, NS, PATIENCE, S, TOPIC, all, assert_balanced, get, holder, manual,
    manual_with,
};

#[test]
fn a_context_names_the_event_its_attempt_and_its_headers() {
    let it = manual();
    let began = it.wall();
    let (sender, seen) = unbounded();
    let handle = move |context: &Context, _: &u64| {
        sender.send((
            (
                context.id(),
                context.topic().to_owned(),
                context.handler().to_owned(),
            ),
            (
                context.attempt(),
                context.max_attempts(),
                context.due(),
                context.lateness(),
            ),
            (
                context.header("a").map(str::to_owned),
                context.header("c").map(str::to_owned),
            ),
            (
                context.headers().len(),
                context.remaining(),
                context.cause(),
            ),
        ))?;
        Err("again".into())
    };
    let options = On::new()
        .max_attempts(2)
        .backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher.on(&TOPIC, "do", options, handle).unwrap();
    let how = Emit::after(S)
        .header("a", "1")
        .header("b", "2")
        .header("a", "3");
    let id = it.dispatcher.emit_with(&TOPIC, 1, how).unwrap();
    it.advance(3 * S);
    it.advance(S);
    let expected = |attempt, due: Duration, late| {
        (
            (id, "topic".to_owned(), "do".to_owned()),
            (attempt, 2, began + due, late),
            (Some("3".to_owned()), None),
            (3, None, None),
        )
    };
    assert_eq!(
        all(&seen),
        [expected(1, S, 2 * S), expected(2, 4 * S, Duration::ZERO)]
    );
}

#[test]
fn an_event_without_headers_does_not_see_those_of_the_one_before() {
    let it = manual_with(|builder| builder.threads(1));
    let (sender, seen) = unbounded();
    let handle = move |context: &Context, _: &u64| {
        sender.send(context.headers().len())?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher
        .emit_with(&TOPIC, 1, Emit::now().header("a", "1"))
        .unwrap();
    it.dispatcher.emit(&TOPIC, 2).unwrap();
    it.flush();
    assert_eq!(all(&seen), [1, 0]);
}

#[test]
fn fences_rise_with_each_start_and_so_with_each_attempt_at_an_event() {
    let it = manual();
    let (sender, seen) = unbounded();
    let handle = move |context: &Context, event: &u64| {
        sender.send((*event, context.attempt(), context.fence()))?;
        Err("again".into())
    };
    let options = On::new()
        .max_attempts(5)
        .backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher.on(&TOPIC, "do", options, handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..20).unwrap();
    it.flush();
    for _ in 0..4 {
        it.advance(S);
    }
    let mut seen = all(&seen);
    assert_eq!(seen.len(), 100);
    seen.sort_unstable();
    assert!(
        seen.windows(2)
            .all(|two| two[0].0 != two[1].0 || two[0].2 < two[1].2)
    );
    let mut fences: Vec<_> = seen.into_iter().map(|(_, _, fence)| fence).collect();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 100);
}

#[test]
fn a_wait_ends_by_itself_at_its_time_and_early_by_each_cause() {
    let it = manual();
    let (sender, seen) = unbounded();
    let handle = move |context: &Context, event: &u64| {
        sender.send((*event, None))?;
        let ended = context.wait(if *event == 0 { S } else { HOUR });
        sender.send((*event, Some((ended, context.cause(), context.remaining()))))?;
        if ended {
            return Err("early".into());
        }
        Ok(())
    };
    let options = On::new().max_duration(2 * S).max_attempts(1);
    it.dispatcher.on(&TOPIC, "do", options, handle).unwrap();
    // By itself.
    it.dispatcher.emit(&TOPIC, 0).unwrap();
    assert_eq!(get(&seen), (0, None));
    it.clock.advance(S - NS);
    assert!(seen.is_empty());
    it.clock.advance(NS);
    assert_eq!(get(&seen), (0, Some((false, None, Some(S)))));
    it.flush();
    // Because it is cancelled.
    let id = it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&seen), (1, None));
    it.dispatcher.cancel(&TOPIC, id);
    assert_eq!(
        get(&seen),
        (1, Some((true, Some(Cause::Cancelled), Some(2 * S))))
    );
    it.flush();
    // Because its time is over.
    it.dispatcher.emit(&TOPIC, 2).unwrap();
    assert_eq!(get(&seen), (2, None));
    it.clock.advance(2 * S);
    assert_eq!(
        get(&seen),
        (2, Some((true, Some(Cause::TooLong), Some(Duration::ZERO))))
    );
    it.flush();
    // Because the dispatcher stops.
    it.dispatcher.emit(&TOPIC, 3).unwrap();
    assert_eq!(get(&seen), (3, None));
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert_eq!(
        get(&seen),
        (3, Some((true, Some(Cause::Interrupted), Some(2 * S))))
    );
    assert_eq!(summary.undone.len(), 1);
    assert_eq!(summary.undone[0].attempts, 0);
    let total = it.dispatcher.stats().total();
    assert_eq!(
        (total.done, total.dead, total.cancelled, total.put_off),
        (1, 1, 1, 1)
    );
}

#[test]
fn a_call_over_its_time_does_not_cancel_the_next_handler_of_the_event() {
    let it = manual();
    let (sender, seen) = unbounded();
    for (name, options) in [
        ("slow", On::new().max_duration(S).max_attempts(1)),
        ("next", On::new().max_duration(HOUR)),
        ("last", On::new()),
    ] {
        let sender = sender.clone();
        let handle = move |context: &Context, _: &u64| {
            sender.send(None)?;
            let ended = context.handler() == "slow" && context.wait(HOUR);
            sender.send(Some((ended, context.cause())))?;
            if ended {
                return Err(Failure::fatal("too long"));
            }
            Ok(())
        };
        it.dispatcher.on(&TOPIC, name, options, handle).unwrap();
    }
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&seen), None);
    it.advance(S);
    let late = Some((true, Some(Cause::TooLong)));
    let fine = Some((false, None));
    assert_eq!(all(&seen), [late, None, fine, None, fine]);
    assert_eq!(it.dispatcher.dead(&TOPIC, 1)[0].handlers, ["slow"]);
}

#[test]
fn a_call_that_makes_progress_goes_on_and_one_that_stops_to_is_cancelled() {
    let it = manual();
    let (sender, seen) = unbounded();
    let (step, steps) = bounded::<bool>(0);
    let handle = move |context: &Context, _: &u64| {
        sender.send(None)?;
        while steps.recv()? {
            context.progress();
            sender.send(Some(context.cause()))?;
        }
        assert!(context.wait(HOUR));
        sender.send(Some(context.cause()))?;
        Err(Failure::fatal("silent"))
    };
    it.dispatcher
        .on(&TOPIC, "do", On::new().progress_within(S), handle)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&seen), None);
    for _ in 0..20 {
        it.clock.advance(S - MS);
        step.send(true).unwrap();
        assert_eq!(get(&seen), Some(None));
    }
    step.send(false).unwrap();
    it.clock.advance(S);
    assert_eq!(get(&seen), Some(Some(Cause::TooLong)));
    it.flush();
    assert_eq!(it.dispatcher.stats().total().dead, 1);
}

#[test]
fn stuck_threads_are_replaced_up_to_a_limit_and_all_outcomes_come_too_late() {
    let (notices, noticed) = unbounded();
    let it = manual_with(|builder| {
        let builder = builder.threads(3).max_stuck(2).stuck_after(S);
        builder.on_notice(move |notice| {
            if let Notice::Stuck { is_replaced, .. } = notice {
                let _ = notices.send(is_replaced);
            }
        })
    });
    let (sender, cancelled) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let handle = move |context: &Context, _: &u64| {
        while !context.is_cancelled() {
            thread::yield_now();
        }
        sender.send(())?;
        let _ = opened.recv();
        Ok(())
    };
    let options = On::new().max_duration(S).max_attempts(1);
    it.dispatcher.on(&TOPIC, "stuck", options, handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..3).unwrap();
    while it.dispatcher.counts(&TOPIC).running < 3 {
        thread::yield_now();
    }
    // All three have begun their calls once they are cancelled by the clock.
    let began = std::time::Instant::now();
    let mut count = 0;
    while count < 3 {
        it.clock.advance(S);
        count += usize::from(cancelled.recv_timeout(10 * MS).is_ok());
        assert!(began.elapsed() < PATIENCE);
    }
    it.clock.advance(S);
    let mut replaced: Vec<_> = (0..3).map(|_| get(&noticed)).collect();
    replaced.sort_unstable();
    assert_eq!(replaced, [false, true, true]);
    let dead = it.dispatcher.dead(&TOPIC, 9);
    assert_eq!(dead.len(), 3);
    assert!(dead.iter().all(|dead| dead.error.contains("took too long")));
    // Two threads are there for other topics.
    let other = liveness::dispatch::Topic::<u64>::new("other");
    it.dispatcher
        .on(&other, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    it.dispatcher.emit_many(&other, 0..9).unwrap();
    it.flush();
    drop(gate);
    while it.dispatcher.stats().total().stale < 3 {
        assert!(began.elapsed() < PATIENCE);
        thread::yield_now();
    }
    let stats = it.dispatcher.stats();
    assert_eq!(
        (stats.stuck, stats.total().done, stats.total().dead),
        (3, 9, 3)
    );
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
}

#[test]
fn a_call_is_stuck_so_long_after_the_first_limit_that_it_passes() {
    let (notices, noticed) = unbounded();
    let it = manual_with(|builder| {
        builder.stuck_after(5 * S).on_notice(move |notice| {
            if let Notice::Stuck { .. } = notice {
                let _ = notices.send(());
            }
        })
    });
    let (sender, cancelled) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let handle = move |context: &Context, _: &u64| {
        sender.send(())?;
        while !context.is_cancelled() {
            thread::yield_now();
        }
        sender.send(())?;
        let _ = opened.recv();
        Ok(())
    };
    let options = On::new().progress_within(S).max_duration(3 * S);
    it.dispatcher
        .on(&TOPIC, "stuck", options.max_attempts(1), handle)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    get(&cancelled);
    it.clock.advance(S);
    get(&cancelled);
    for _ in 0..5 {
        assert!(noticed.is_empty());
        it.clock.advance(S);
    }
    get(&noticed);
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    assert_balanced(&it.dispatcher);
}

#[test]
fn a_handler_that_comes_back_from_a_stuck_call_does_not_call_the_next_one() {
    let it = manual_with(|builder| builder.threads(1).stuck_after(S));
    let (sender, seen) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let cancelled = sender.clone();
    let stuck = move |context: &Context, _: &u64| {
        if context.attempt() > 1 {
            return Ok(());
        }
        while !context.is_cancelled() {
            thread::yield_now();
        }
        cancelled.send("cancelled")?;
        let _ = opened.recv();
        Ok(())
    };
    let options = On::new()
        .max_duration(S)
        .backoff(Backoff::constant(HOUR).jitter(0.0));
    it.dispatcher.on(&TOPIC, "stuck", options, stuck).unwrap();
    let next = move |_: &Context, _: &u64| {
        sender.send("next")?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "next", On::new(), next).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    while seen.is_empty() {
        it.clock.advance(S);
        thread::yield_now();
    }
    assert_eq!(get(&seen), "cancelled");
    while it.dispatcher.stats().stuck == 0 {
        it.clock.advance(S);
        thread::yield_now();
    }
    it.flush();
    drop(gate);
    while it.dispatcher.stats().total().stale == 0 {
        thread::yield_now();
    }
    assert!(seen.is_empty());
    it.advance(HOUR);
    assert_eq!(all(&seen), ["next"]);
    let total = it.dispatcher.stats().total();
    assert_eq!((total.done, total.retried), (1, 1));
}

#[test]
fn a_type_can_be_a_handler_by_itself_in_a_box_and_in_an_arc() {
    struct Add(crossbeam_channel::Sender<u64>, u64);
    impl Handler<u64> for Add {
        fn handle(&self, _: &Context, event: &u64) -> Result<(), Failure> {
            Ok(self.0.send(event + self.1)?)
        }
    }
    let it = manual_with(|builder| builder.threads(1));
    let (sender, sums) = unbounded();
    let add = |number| Add(sender.clone(), number);
    let on = |name, number| {
        it.dispatcher
            .on_handler(&TOPIC, name, On::new(), add(number))
    };
    on("plain", 10).unwrap();
    let boxed: Box<dyn Handler<u64>> = Box::new(add(20));
    it.dispatcher
        .on_handler(&TOPIC, "box", On::new(), boxed)
        .unwrap();
    let shared = std::sync::Arc::new(add(30));
    it.dispatcher
        .on_handler(&TOPIC, "arc", On::new(), shared)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert_eq!(all(&sums), [11, 21, 31]);
}

/// `handle`, which is called as late as when the call is cancelled.
fn after_cancel(
    handle: impl Fn(&Context, &u64) -> Result<(), Failure> + Send + Sync + 'static,
) -> impl Fn(&Context, &u64) -> Result<(), Failure> + Send + Sync + 'static {
    move |context, event| {
        while !context.is_cancelled() {
            thread::yield_now();
        }
        handle(context, event)
    }
}

/// Moves the clock until the only call has passed its limit of a second, and ignores it.
fn pass_limit(it: &Fixture, ignored: &Receiver<u64>) {
    while ignored.is_empty() {
        it.clock.advance(S);
        thread::sleep(MS);
    }
    get(ignored);
}

#[test]
fn an_event_that_is_cancelled_and_then_given_up_has_one_stale_outcome() {
    let it = manual_with(|builder| builder.threads(1).stuck_after(HOUR));
    let (handle, ignored, gate) = holder();
    let options = On::new().max_duration(S);
    it.dispatcher
        .on(&TOPIC, "deaf", options, after_cancel(handle))
        .unwrap();
    let id = it.dispatcher.emit(&TOPIC, 1).unwrap();
    pass_limit(&it, &ignored);
    assert_eq!(it.dispatcher.cancel(&TOPIC, id), Cancelled::Running);
    while it.dispatcher.stats().stuck == 0 {
        it.clock.advance(HOUR);
        thread::sleep(MS);
    }
    it.flush();
    drop(gate);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    assert_eq!(it.dispatcher.stats().total().stale, 1);
}

#[test]
fn a_notice_of_a_death_can_remove_the_handler_that_is_stuck() {
    let (pass, held) = bounded::<Dispatcher>(1);
    let (sender, removed) = unbounded();
    let it = manual_with(|builder| {
        builder.threads(1).stuck_after(S).on_notice(move |notice| {
            if let Notice::Dead { .. } = notice {
                let _ = sender.send(get(&held).remove(&TOPIC, "deaf"));
            }
        })
    });
    pass.send(it.dispatcher.clone()).unwrap();
    let (handle, ignored, gate) = holder();
    let options = On::new().max_duration(S).max_attempts(1);
    it.dispatcher
        .on(&TOPIC, "deaf", options, after_cancel(handle))
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    pass_limit(&it, &ignored);
    it.clock.advance(HOUR);
    let is_removed = removed.recv_timeout(5 * S);
    drop(gate);
    assert_eq!(is_removed, Ok(true));
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
}

#[test]
fn the_place_of_a_stuck_thread_is_taken_again_after_its_end() {
    let (sender, threads) = unbounded();
    let it = manual_with(|builder| {
        let builder = builder.threads(1).max_stuck(1).stuck_after(S);
        builder.thread_name("place").on_notice(move |notice| {
            if let Notice::Stuck { thread, .. } = notice {
                let _ = sender.send(thread);
            }
        })
    });
    let (handle, ignored, gate) = holder();
    let options = On::new().max_duration(S).max_attempts(1);
    it.dispatcher
        .on(&TOPIC, "deaf", options, after_cancel(handle))
        .unwrap();
    let mut names = Vec::new();
    for round in 1..=4 {
        it.dispatcher.emit(&TOPIC, round).unwrap();
        pass_limit(&it, &ignored);
        it.clock.advance(S);
        names.push(get(&threads));
        gate.send(()).unwrap();
        while it.dispatcher.stats().total().stale < round {
            thread::sleep(MS);
        }
    }
    assert_eq!(names, ["place-0", "place-1", "place-0", "place-1"]);
}
