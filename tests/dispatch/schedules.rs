//! Periodic events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use liveness::dispatch::{Context, EmitErrorKind, On, Schedule};

use crate::kit::{HOUR, NS, S, TOPIC, all, get, manual, manual_with, recorder};

/// A function that returns 0, 1, 2, ...
fn count() -> impl Fn() -> u64 + Send + Sync + 'static {
    let next = AtomicU64::new(0);
    move || next.fetch_add(1, Ordering::SeqCst)
}

#[test]
fn a_schedule_ticks_at_each_interval_to_the_nanosecond() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.clock.advance(S / 3);
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), count())
        .unwrap();
    for tick in 0..5 {
        it.advance(S - NS);
        assert!(calls.is_empty());
        it.advance(NS);
        assert_eq!(all(&calls), [tick]);
    }
    assert_eq!(it.dispatcher.stats().skipped_ticks, 0);
}

#[test]
fn ticks_that_are_taken_late_do_not_drift() {
    let it = manual();
    let (sender, lates) = unbounded();
    let handle = move |context: &Context, event: &u64| {
        sender.send((*event, context.lateness()))?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), count())
        .unwrap();
    let late = S / 4;
    it.advance(S + late);
    for _ in 1..20 {
        it.advance(S);
    }
    assert_eq!(
        all(&lates),
        (0..20).map(|tick| (tick, late)).collect::<Vec<_>>()
    );
}

#[test]
fn ticks_that_are_missed_are_skipped_and_counted_but_for_the_earliest() {
    let it = manual();
    let (sender, lates) = unbounded();
    let handle = move |context: &Context, event: &u64| {
        sender.send((*event, context.lateness()))?;
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), count())
        .unwrap();
    it.advance(10 * S + S / 2);
    assert_eq!(all(&lates), [(0, 9 * S + S / 2)]);
    assert_eq!(it.dispatcher.stats().skipped_ticks, 9);
    it.advance(S / 2);
    assert_eq!(all(&lates), [(1, Duration::ZERO)]);
}

#[test]
fn a_tick_whose_earlier_event_is_unfinished_is_skipped_and_counted() {
    let it = manual();
    let (entered, is_held) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    let handle = move |_: &Context, event: &u64| {
        entered.send(*event)?;
        let _ = opened.recv();
        Ok(())
    };
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), count())
        .unwrap();
    it.clock.advance(S);
    assert_eq!(get(&is_held), 0);
    for skipped in 1..4 {
        it.clock.advance(S);
        while it.dispatcher.stats().skipped_ticks < skipped {
            std::thread::yield_now();
        }
    }
    drop(gate);
    it.flush();
    it.advance(S);
    assert_eq!(all(&is_held).len(), 1);
    let stats = it.dispatcher.stats();
    assert_eq!((stats.total().emitted, stats.skipped_ticks), (2, 3));
}

#[test]
fn a_tick_without_a_handler_or_room_or_on_a_paused_topic_is_counted_or_waits() {
    let it = manual_with(|builder| builder.max_unfinished(1));
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), count())
        .unwrap();
    it.advance(S);
    assert_eq!(it.dispatcher.stats().skipped_ticks, 1);
    assert_eq!(
        it.dispatcher.emit(&TOPIC, 9).unwrap_err().kind(),
        EmitErrorKind::NoHandler
    );
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher.pause(&TOPIC);
    it.advance(S);
    it.advance(S);
    assert_eq!(it.dispatcher.stats().skipped_ticks, 2);
    assert_eq!(it.dispatcher.counts(&TOPIC).ready, 1);
    it.dispatcher.resume(&TOPIC);
    it.flush();
    assert_eq!(all(&calls), [1]);
}

#[test]
fn a_schedule_that_is_removed_ticks_no_more_and_its_name_is_free() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let owned = Arc::new(());
    let make = |number: u64| {
        let owned = owned.clone();
        move || number + Arc::strong_count(&owned) as u64 - 2
    };
    it.dispatcher
        .schedule(&TOPIC, "one", Schedule::every(S), make(1))
        .unwrap();
    assert!(it.dispatcher.unschedule(&TOPIC, "one"));
    assert!(!it.dispatcher.unschedule(&TOPIC, "one"));
    assert_eq!(Arc::strong_count(&owned), 1);
    it.dispatcher
        .schedule(&TOPIC, "one", Schedule::every(2 * S), make(2))
        .unwrap();
    it.advance(S);
    assert!(calls.is_empty());
    it.advance(S);
    assert_eq!(all(&calls), [2]);
    it.advance(HOUR);
}

#[test]
fn several_schedules_of_several_intervals_keep_their_own_time() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    for every in [2, 3, 5] {
        let name = format!("every-{every}");
        let schedule = Schedule::every(u32::try_from(every).unwrap() * S);
        it.dispatcher
            .schedule(&TOPIC, &name, schedule, move || every)
            .unwrap();
    }
    let mut counts = [0; 6];
    for _ in 0..30 {
        it.advance(S);
        for every in all(&calls) {
            counts[every as usize] += 1;
        }
    }
    assert_eq!(counts, [0, 0, 15, 10, 0, 6]);
}

#[test]
fn a_schedule_that_is_always_due_leaves_the_workers_to_events() {
    // A tick takes longer than its interval.
    let dispatcher = liveness::dispatch::Dispatcher::builder()
        .threads(1)
        .build()
        .unwrap();
    let (handle, calls) = recorder();
    dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(NS), || 0)
        .unwrap();
    for _ in 0..20 {
        assert_eq!(get(&calls), 0);
    }
    dispatcher.emit_many(&TOPIC, 1..100).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 99 {
        let event = get(&calls);
        seen.extend((event > 0).then_some(event));
    }
    assert_eq!(seen, (1..100).collect::<Vec<_>>());
    assert!(dispatcher.unschedule(&TOPIC, "tick"));
    crate::kit::flush(&dispatcher);
}

#[test]
fn a_schedule_whose_next_tick_is_after_the_end_of_time_ticks_once_more() {
    let it = manual();
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    it.dispatcher
        .schedule(&TOPIC, "hourly", Schedule::every(HOUR), count())
        .unwrap();
    it.clock.advance(Duration::MAX);
    it.flush();
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 1);
}
