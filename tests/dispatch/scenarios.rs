//! The acceptance scenarios of the design, by their numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use liveness::dispatch::{
    Backoff, Cause, Dispatcher, Emit, EmitErrorKind, Failure, Notice, On, Topic, emit_to,
};

use crate::kit::{
    HOUR, MS, PATIENCE, Random, S, TOPIC, all, assert_balanced, flush, get, holder, manual,
    manual_with, recorder,
};

#[test]
fn s1_instant_and_delayed_events_reach_both_handlers_with_their_lateness() {
    let it = manual();
    let (sender, starts) = unbounded();
    for name in ["first", "second"] {
        let sender = sender.clone();
        let handle = move |context: &_, event: &u64| {
            let context: &liveness::dispatch::Context = context;
            sender.send((*event, context.handler().to_owned(), context.lateness()))?;
            Ok(())
        };
        it.dispatcher.on(&TOPIC, name, On::new(), handle).unwrap();
    }
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.dispatcher
        .emit_with(&TOPIC, 2, Emit::after(60 * S))
        .unwrap();
    it.flush();
    let names = |event, late| ["first", "second"].map(|name: &str| (event, name.to_owned(), late));
    assert_eq!(all(&starts), names(1, Duration::ZERO));
    it.advance(60 * S + 3 * MS);
    assert_eq!(all(&starts), names(2, 3 * MS));
    assert_eq!(it.dispatcher.stats().total().done, 2);
    let summary = it.dispatcher.stop(S);
    assert!(summary.undone.is_empty() && summary.still_running.is_empty());
}

#[test]
fn s2_no_event_starts_before_it_is_due_and_each_starts_by_the_next_move_of_the_clock() {
    const STEP: Duration = Duration::from_millis(50);
    let it = manual();
    let (sender, starts) = unbounded();
    let clock = it.clock.clone();
    let handle = move |_: &_, due: &u64| {
        sender.send((*due, clock.now().since_origin()))?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "note", On::new(), handle).unwrap();
    let mut random = Random(2);
    for _ in 0..10_000 {
        let due = random.below(2_000_000_000);
        let how = Emit::after(Duration::from_nanos(due));
        it.dispatcher.emit_with(&TOPIC, due, how).unwrap();
    }
    for _ in 0..40 {
        it.advance(STEP);
    }
    let starts = all(&starts);
    assert_eq!(starts.len(), 10_000);
    for (due, started) in starts {
        let due = Duration::from_nanos(due);
        assert!(
            started >= due && started <= due + STEP,
            "{due:?} {started:?}"
        );
    }
}

#[test]
fn s2_with_parallel_one_events_start_in_the_order_of_their_due_times() {
    let it = manual();
    let (handle, starts) = recorder();
    it.dispatcher
        .on(&TOPIC, "note", On::new().parallel(1), handle)
        .unwrap();
    let mut random = Random(3);
    let mut expected = Vec::new();
    for number in 0..10_000 {
        let due = random.below(2_000);
        let how = Emit::after(Duration::from_millis(due));
        it.dispatcher.emit_with(&TOPIC, number, how).unwrap();
        expected.push((due, number));
    }
    expected.sort_unstable();
    it.advance(S);
    it.advance(S);
    let expected: Vec<u64> = expected.into_iter().map(|(_, number)| number).collect();
    assert_eq!(all(&starts), expected);
}

#[test]
fn s2_on_a_running_clock_no_event_starts_early_either() {
    let dispatcher = Dispatcher::builder().threads(4).build().unwrap();
    let (sender, starts) = unbounded();
    const AT: Topic<Instant> = Topic::new("at");
    let handle = move |_: &_, due: &Instant| {
        sender.send(Instant::now().checked_duration_since(*due))?;
        Ok(())
    };
    dispatcher.on(&AT, "note", On::new(), handle).unwrap();
    let mut random = Random(4);
    for _ in 0..500 {
        let delay = Duration::from_micros(random.below(200_000));
        let due = Instant::now() + delay;
        dispatcher.emit_with(&AT, due, Emit::after(delay)).unwrap();
    }
    for _ in 0..500 {
        assert!(get(&starts).is_some(), "an event started early");
    }
    flush(&dispatcher);
}

#[test]
fn s3_an_event_above_the_maximum_comes_back_and_is_accepted_when_one_has_ended() {
    let it = manual_with(|builder| builder.threads(1).max_unfinished(2_000));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    for event in 0..2_000 {
        it.dispatcher.emit(&TOPIC, event).unwrap();
    }
    assert_eq!(get(&is_held), 0);
    let error = it.dispatcher.emit(&TOPIC, 2_000).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_event()),
        (EmitErrorKind::Full, 2_000)
    );
    gate.send(()).unwrap();
    assert_eq!(get(&is_held), 1);
    it.dispatcher.emit(&TOPIC, 2_000).unwrap();
    drop(gate);
    it.flush();
    assert_eq!(all(&is_held), (2..=2_000).collect::<Vec<_>>());
    let stats = it.dispatcher.stats();
    assert_eq!((stats.total().done, stats.refused), (2_001, 1));
}

#[test]
fn s4_a_slow_topic_at_its_limit_takes_no_thread_from_another() {
    const QUICK: Topic<u64> = Topic::new("quick");
    let dispatcher = Dispatcher::builder().threads(4).build().unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entered, is_held) = unbounded();
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let seen = most.clone();
    let slow = move |_: &_, _: &u64| {
        seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _ = entered.send(());
        let _ = opened.recv();
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    };
    dispatcher
        .on(&TOPIC, "slow", On::new().parallel(2), slow)
        .unwrap();
    let (quick, starts) = recorder();
    dispatcher.on(&QUICK, "quick", On::new(), quick).unwrap();
    dispatcher.emit_many(&TOPIC, 0..10_000).unwrap();
    for _ in 0..2 {
        get(&is_held);
    }
    for event in 0..1_000 {
        dispatcher.emit(&QUICK, event).unwrap();
        assert_eq!(get(&starts), event);
    }
    assert!(is_held.is_empty());
    drop(gate);
    flush(&dispatcher);
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(dispatcher.stats().total().done, 11_000);
}

#[test]
fn s5_a_retry_calls_only_the_handler_that_failed_after_a_gap_in_the_range_of_the_jitter() {
    let it = manual();
    let (first, firsts) = recorder();
    it.dispatcher.on(&TOPIC, "first", On::new(), first).unwrap();
    let (sender, seconds) = unbounded();
    let second = move |context: &liveness::dispatch::Context, _: &u64| {
        sender.send(context.attempt())?;
        if context.attempt() < 3 {
            return Err("not yet".into());
        }
        Ok(())
    };
    let backoff = Backoff::exponential(8 * S, HOUR).jitter(0.25);
    it.dispatcher
        .on(&TOPIC, "second", On::new().backoff(backoff), second)
        .unwrap();
    it.dispatcher.emit(&TOPIC, 5).unwrap();
    it.flush();
    for delay in [8 * S, 16 * S] {
        let waiting = &it.dispatcher.peek(&TOPIC, 9)[0];
        assert_eq!(waiting.error.as_deref(), Some("not yet"));
        let gap = waiting.due.duration_since(it.wall()).unwrap();
        assert!(
            gap >= delay.mul_f64(0.75) && gap <= delay.mul_f64(1.25),
            "{gap:?}"
        );
        it.advance(gap);
    }
    assert_eq!((all(&firsts), all(&seconds)), (vec![5], vec![1, 2, 3]));
    assert_eq!(it.dispatcher.stats().total().retried, 2);
}

#[test]
fn s6_what_panics_or_fails_for_good_is_dead_with_its_text_and_can_be_replayed() {
    let it = manual();
    let (sender, calls) = unbounded();
    let is_mended = Arc::new(AtomicUsize::new(0));
    let mended = is_mended.clone();
    let handle = move |_: &_, event: &u64| -> Result<(), Failure> {
        sender.send(*event)?;
        match event {
            _ if mended.load(Ordering::SeqCst) == 1 => Ok(()),
            0 => panic!("oh"),
            1 => Err("no".into()),
            _ => Err(Failure::fatal("never")),
        }
    };
    let options = On::new()
        .max_attempts(3)
        .backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher.on(&TOPIC, "fail", options, handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..3).unwrap();
    it.flush();
    it.advance(S);
    it.advance(S);
    it.advance(HOUR);
    let mut seen = all(&calls);
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2]);
    let mut dead: Vec<_> = it.dispatcher.dead(&TOPIC, 9).into_iter().collect();
    dead.sort_by_key(|dead| *dead.event);
    let seen: Vec<_> = dead
        .iter()
        .map(|dead| (dead.attempts, &*dead.error))
        .collect();
    assert_eq!(seen, [(3, "panicked: oh"), (3, "no"), (1, "never")]);
    assert_eq!(it.dispatcher.stats().total().panics, 3);
    is_mended.store(1, Ordering::SeqCst);
    assert_eq!(it.dispatcher.replay(&TOPIC, 9), 3);
    it.flush();
    let mut seen = all(&calls);
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(it.dispatcher.stats().total().done, 3);
}

#[test]
fn s7_a_call_over_its_time_that_looks_is_ended_and_one_that_does_not_is_replaced() {
    let (notices, noticed) = unbounded();
    let it = manual_with(|builder| {
        builder.threads(1).stuck_after(S).on_notice(move |notice| {
            let _ = notices.send(notice);
        })
    });
    let (sender, calls) = unbounded();
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let handle = move |context: &liveness::dispatch::Context, event: &u64| -> Result<(), Failure> {
        sender.send((*event, context.attempt(), context.remaining()))?;
        if *event == 1 || context.attempt() == 2 {
            let is_cancelled = *event == 1 && context.wait(60 * S);
            return if is_cancelled {
                Err(Failure::fatal(context.cause().unwrap().to_string()))
            } else {
                Ok(())
            };
        }
        while !context.is_cancelled() {
            thread::yield_now();
        }
        sender.send((*event, 0, context.remaining()))?;
        let _ = opened.recv();
        Ok(())
    };
    let options = On::new()
        .max_duration(200 * MS)
        .backoff(Backoff::constant(Duration::ZERO));
    it.dispatcher.on(&TOPIC, "slow", options, handle).unwrap();
    // It looks.
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&calls), (1, 1, Some(200 * MS)));
    it.advance(200 * MS);
    assert_eq!(
        it.dispatcher.dead(&TOPIC, 1)[0].error,
        Cause::TooLong.to_string()
    );
    assert!(matches!(get(&noticed), Notice::Dead { attempts: 1, .. }));
    // It does not.
    it.dispatcher.emit(&TOPIC, 2).unwrap();
    assert_eq!(get(&calls), (2, 1, Some(200 * MS)));
    it.clock.advance(200 * MS);
    assert_eq!(get(&calls), (2, 0, Some(Duration::ZERO)));
    assert!(noticed.is_empty());
    it.clock.advance(S);
    let Notice::Stuck {
        thread,
        is_replaced: true,
        handler,
        ..
    } = get(&noticed)
    else {
        panic!("the handler is stuck")
    };
    assert_eq!((&*thread, &*handler), ("dispatch-0", "slow"));
    // Another thread has made the second attempt.
    assert_eq!(get(&calls), (2, 2, Some(200 * MS)));
    it.flush();
    let stats = it.dispatcher.stats();
    assert_eq!(
        (stats.stuck, stats.total().done, stats.total().stale),
        (1, 1, 0)
    );
    drop(gate);
    let until = Instant::now() + PATIENCE;
    while it.dispatcher.stats().total().stale == 0 {
        assert!(Instant::now() < until, "the late outcome was not counted");
        thread::yield_now();
    }
    assert_eq!(it.dispatcher.stats().total().done, 1);
    assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
    assert_balanced(&it.dispatcher);
}

#[test]
fn s8_a_handler_that_is_removed_ends_its_call_gets_no_other_and_leaves_the_events() {
    let it = manual_with(|builder| builder.threads(1));
    let (handle, is_held, gate) = holder();
    it.dispatcher
        .on(&TOPIC, "hold", On::new(), handle.clone())
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..5).unwrap();
    assert_eq!(get(&is_held), 0);
    let dispatcher = it.dispatcher.clone();
    let (done, is_done) = unbounded();
    let removing = thread::spawn(move || done.send(dispatcher.remove(&TOPIC, "hold")));
    // It is removed before the call returns.
    while it.dispatcher.emit(&TOPIC, 9).is_ok() {
        thread::yield_now();
    }
    let kept = it.dispatcher.counts(&TOPIC).ready;
    assert!(is_done.is_empty());
    drop(gate);
    assert!(get(&is_done));
    removing.join().unwrap().unwrap();
    it.flush();
    assert!(is_held.is_empty());
    assert_eq!(it.dispatcher.counts(&TOPIC).ready, kept);
    it.dispatcher
        .on(&TOPIC, "other", On::new(), handle)
        .unwrap();
    it.flush();
    assert_eq!(is_held.len(), kept);
}

#[test]
fn s9_a_stop_with_producers_running_and_waiting_events_ends_in_time_and_loses_none() {
    const HELD: Topic<u64> = Topic::new("held");
    // The machine may be busy: one of three rounds is to be in time.
    let mut took = Vec::new();
    for _ in 0..3 {
        let dispatcher = Dispatcher::builder().threads(8).build().unwrap();
        let (sender, starts) = unbounded();
        let run = move |context: &liveness::dispatch::Context, _: &u64| -> Result<(), Failure> {
            sender.send(())?;
            if context.wait(HOUR) {
                return Err("interrupted".into());
            }
            Ok(())
        };
        dispatcher.on(&HELD, "run", On::new(), run).unwrap();
        let (handle, handled) = recorder();
        dispatcher.on(&TOPIC, "never", On::new(), handle).unwrap();
        dispatcher.emit_many(&HELD, 0..8).unwrap();
        for _ in 0..8 {
            get(&starts);
        }
        dispatcher.emit_many(&TOPIC, 0..1_000).unwrap();
        let (accepted, acceptances) = unbounded();
        let producers: Vec<_> = (0..64)
            .map(|_| {
                let (dispatcher, accepted) = (dispatcher.clone(), accepted.clone());
                thread::spawn(move || {
                    let mut count = 0;
                    loop {
                        match dispatcher.emit(&TOPIC, 7) {
                            Ok(_) => count += 1,
                            Err(error) => break accepted.send((count, error.kind())).unwrap(),
                        }
                        thread::sleep(MS);
                    }
                })
            })
            .collect();
        let began = Instant::now();
        let summary = dispatcher.stop(S);
        took.push(began.elapsed());
        for producer in producers {
            producer.join().unwrap();
        }
        let mut count = 1_000 + 8;
        for _ in 0..64 {
            let (more, why) = get(&acceptances);
            assert_eq!(why, EmitErrorKind::Stopped);
            count += more;
        }
        assert_eq!(summary.undone.len(), count);
        assert_eq!(summary.still_running, [""; 0]);
        assert!(handled.is_empty() && took.last() >= Some(&S));
        let total = dispatcher.stats().total();
        assert_eq!((total.discarded, total.put_off), (count as u64, 8));
        assert_balanced(&dispatcher);
        if took.last() <= Some(&(1_200 * MS)) {
            return;
        }
    }
    panic!("no stop was in time: {took:?}");
}

#[test]
fn s10_of_two_dispatchers_the_full_one_says_so_and_the_other_one_accepts() {
    let full = manual_with(|builder| builder.max_unfinished(1));
    let free = manual();
    for it in [&full, &free] {
        let handle = |_: &_, _: &u64| Ok(());
        it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    }
    let later = full.dispatcher.emit_with(&TOPIC, 0, Emit::after(S));
    for order in [[&full, &free], [&free, &full]] {
        let both = order.map(|it| &it.dispatcher as &dyn liveness::dispatch::Dispatch<u64>);
        let results = emit_to(&TOPIC, &7, &both).unwrap();
        let kinds = results
            .iter()
            .map(|it| it.as_ref().map_err(|error| (error.kind(), *error.event())));
        let kinds: Vec<_> = kinds.map(Result::err).collect();
        let refused = Some((EmitErrorKind::Full, 7));
        assert!(kinds == [refused, None] || kinds == [None, refused]);
    }
    full.dispatcher.cancel(&TOPIC, later.unwrap());
    for it in [&full, &free] {
        it.flush();
    }
    assert_eq!(free.dispatcher.stats().total().done, 2);
    assert_eq!(full.dispatcher.stats().refused, 2);
    assert!(emit_to::<u64>(&TOPIC, &7, &[]).is_err());
}
