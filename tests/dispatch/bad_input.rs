//! Bad input gets a clear error, and loses nothing.

use std::fmt;
use std::panic;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::unbounded;
use liveness::dispatch::{
    Backoff, Cancelled, Context, Dispatcher, Emit, EmitErrorKind, Failure, On, RegisterError,
    Schedule, Topic, TopicError,
};

use crate::kit::{
    Fixture, HOUR, NS, S, TOPIC, all, assert_balanced, get, holder, manual, manual_with, recorder,
};

/// The same name as [`TOPIC`], another type.
const OTHER: Topic<String> = Topic::new("topic");

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::unnecessary_wraps,
    reason = "it is a handler"
)]
fn fine(_: &Context, _: &u64) -> Result<(), Failure> {
    Ok(())
}

#[test]
fn an_empty_long_or_odd_name_is_refused_for_topics_handlers_and_schedules() {
    let long = "x".repeat(129);
    let odd = [
        ("", TopicError::Empty),
        (&*long, TopicError::TooLong { len: 129 }),
        ("two words", TopicError::Character { at: 3 }),
        ("tab\t", TopicError::Character { at: 3 }),
        ("übel", TopicError::Character { at: 0 }),
        ("nul\0", TopicError::Character { at: 3 }),
    ];
    let it = manual();
    for (name, expected) in odd {
        assert_eq!(Topic::<u64>::named(name).unwrap_err(), expected);
        let errors = [
            it.dispatcher.on(&TOPIC, name, On::new(), fine),
            it.dispatcher
                .schedule(&TOPIC, name, Schedule::every(S), || 0),
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert!(matches!(error, RegisterError::Name(why) if why == expected));
        }
        assert!(panic::catch_unwind(|| Topic::<u64>::new(name.to_owned().leak())).is_err());
    }
    let longest = "x".repeat(128);
    let topic = Topic::<u64>::named(&*longest).unwrap();
    it.dispatcher.on(&topic, &longest, On::new(), fine).unwrap();
    it.dispatcher.emit(&topic, 1).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

#[test]
fn a_second_handler_or_schedule_of_a_name_is_refused_and_the_first_one_stays() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let owned = Arc::new(());
    let second = owned.clone();
    let error = it.dispatcher.on(&TOPIC, "do", On::new(), move |_, _| {
        panic!("{second:?} is never called")
    });
    assert!(matches!(
        error.unwrap_err(),
        RegisterError::Duplicate { topic, name } if (&*topic, &*name) == ("topic", "do")
    ));
    assert_eq!(Arc::strong_count(&owned), 1, "it is dropped");
    let schedule = |owned: Arc<()>| {
        it.dispatcher
            .schedule(&TOPIC, "tick", Schedule::every(S), move || {
                Arc::strong_count(&owned) as u64
            })
    };
    schedule(owned.clone()).unwrap();
    assert!(matches!(
        schedule(owned.clone()).unwrap_err(),
        RegisterError::Duplicate { .. }
    ));
    assert_eq!(Arc::strong_count(&owned), 2);
    it.dispatcher.emit(&TOPIC, 7).unwrap();
    it.flush();
    assert_eq!(all(&calls), [7]);
}

#[test]
fn without_a_handler_every_kind_of_emit_gives_the_event_back() {
    let it = manual();
    let no = EmitErrorKind::NoHandler;
    let check = |expected| {
        let error = it.dispatcher.emit(&TOPIC, 1).unwrap_err();
        assert_eq!((error.kind(), error.into_event()), (no, 1));
        let error = it.dispatcher.emit_with(&TOPIC, 2, Emit::after(S));
        assert_eq!(error.unwrap_err().into_event(), 2);
        let error = it.dispatcher.emit_within(&TOPIC, 3, HOUR).unwrap_err();
        assert_eq!((error.kind(), error.into_event()), (no, 3));
        let error = it.dispatcher.emit_many(&TOPIC, [4, 5]).unwrap_err();
        assert_eq!((error.kind(), error.into_events()), (no, vec![4, 5]));
        assert_eq!(it.dispatcher.stats().refused, expected);
    };
    check(5);
    it.dispatcher.on(&TOPIC, "do", On::new(), fine).unwrap();
    assert!(it.dispatcher.remove(&TOPIC, "do"));
    assert!(!it.dispatcher.remove(&TOPIC, "do"));
    check(10);
}

#[test]
fn what_is_zero_or_out_of_range_is_refused_by_its_name() {
    let it = manual();
    let zero = Duration::ZERO;
    let options = [
        ("parallel", On::new().parallel(0)),
        ("parallel_everywhere", On::new().parallel_everywhere(0)),
        ("max_attempts", On::new().max_attempts(0)),
        ("max_duration", On::new().max_duration(zero)),
        ("progress_within", On::new().progress_within(zero)),
        ("rate", On::new().rate(0, S)),
        ("rate", On::new().rate(1, zero)),
        (
            "jitter",
            On::new().backoff(Backoff::constant(S).jitter(1.5)),
        ),
        (
            "jitter",
            On::new().backoff(Backoff::constant(S).jitter(f64::NAN)),
        ),
        ("base", On::new().backoff(Backoff::exponential(2 * S, S))),
    ];
    for (name, options) in options {
        let error = it.dispatcher.on(&TOPIC, "do", options, fine).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(
        it.dispatcher.emit(&TOPIC, 1).unwrap_err().kind(),
        EmitErrorKind::NoHandler
    );
    let error = it
        .dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(zero), || 0)
        .unwrap_err();
    assert!(error.to_string().contains("every"), "{error}");
    let builders = [
        ("threads", Dispatcher::builder().threads(0)),
        ("threads", Dispatcher::builder().threads(1_025)),
        ("max_unfinished", Dispatcher::builder().max_unfinished(0)),
        (
            "max_unfinished",
            Dispatcher::builder().max_unfinished(10_000_001),
        ),
        ("max_per_topic", Dispatcher::builder().max_per_topic(0)),
        ("max_dead", Dispatcher::builder().max_dead(100_001)),
        ("thread_name", Dispatcher::builder().thread_name("a\0b")),
        ("stuck_after", Dispatcher::builder().stuck_after(zero)),
    ];
    for (name, builder) in builders {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_delay_that_overflows_is_refused_and_the_longest_one_is_not() {
    let it = manual();
    it.dispatcher.on(&TOPIC, "do", On::new(), fine).unwrap();
    let longest = 500 * 365 * 24 * HOUR;
    for delay in [longest + NS, Duration::MAX, Duration::from_secs(u64::MAX)] {
        let error = it.dispatcher.emit_with(&TOPIC, 1, Emit::after(delay));
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.into_event()),
            (EmitErrorKind::TooLate, 1)
        );
    }
    if let Some(far) = SystemTime::now().checked_add(longest * 2) {
        let error = it.dispatcher.emit_with(&TOPIC, 1, Emit::at(far));
        assert_eq!(error.unwrap_err().kind(), EmitErrorKind::TooLate);
    }
    let id = it
        .dispatcher
        .emit_with(&TOPIC, 1, Emit::after(longest))
        .unwrap();
    let far = Emit::after(Duration::MAX);
    assert_eq!(
        it.dispatcher.reschedule(&TOPIC, id, &far),
        Err(EmitErrorKind::TooLate)
    );
    // A time in the past is now.
    it.dispatcher
        .emit_with(&TOPIC, 2, Emit::at(SystemTime::UNIX_EPOCH))
        .unwrap();
    it.flush();
    let stats = it.dispatcher.stats().total();
    assert_eq!((stats.done, stats.waiting), (1, 1));
    // Near the end of the clock's time even a short delay overflows.
    it.clock.advance(Duration::from_nanos(u64::MAX) - HOUR);
    it.flush();
    let error = it.dispatcher.emit_with(&TOPIC, 3, Emit::after(2 * HOUR));
    assert_eq!(error.unwrap_err().kind(), EmitErrorKind::TooLate);
    it.dispatcher.emit(&TOPIC, 4).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 3);
}

#[test]
fn a_failure_that_asks_for_an_endless_delay_waits_and_can_be_rescheduled() {
    let it = manual();
    let (sender, calls) = unbounded();
    let handle = move |context: &Context, event: &u64| -> Result<(), Failure> {
        sender.send(*event)?;
        match (context.attempt(), event) {
            (1, 0) => Err(Failure::retry_in(Duration::MAX, "later")),
            (1, _) => Err(Failure::snooze(Duration::MAX)),
            _ => Ok(()),
        }
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let retried = it.dispatcher.emit(&TOPIC, 0).unwrap();
    let snoozed = it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.advance(1_000 * HOUR);
    assert_eq!(calls.len(), 2);
    assert_eq!(it.dispatcher.counts(&TOPIC).scheduled, 2);
    assert_eq!(
        it.dispatcher.reschedule(&TOPIC, retried, &Emit::now()),
        Ok(true)
    );
    it.flush();
    assert_eq!(it.dispatcher.cancel(&TOPIC, snoozed), Cancelled::Waiting);
    assert_eq!(it.dispatcher.stats().total().done, 1);
    assert_balanced(&it.dispatcher);
}

#[test]
fn every_call_on_a_stopped_dispatcher_says_so_and_changes_nothing() {
    let it = manual();
    let (handle, _calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher.emit_with(&TOPIC, 1, Emit::after(S)).unwrap();
    let summary = it.dispatcher.stop(S);
    let undone = summary.undone.into_iter().next().unwrap();
    let id = undone.id;
    assert_eq!((&*undone.topic, undone.attempts), ("topic", 0));
    assert_eq!(undone.into_event::<u64>().unwrap(), 1);
    for _ in 0..2 {
        let stopped = EmitErrorKind::Stopped;
        assert_eq!(it.dispatcher.emit(&TOPIC, 2).unwrap_err().kind(), stopped);
        let error = it
            .dispatcher
            .emit_with(&TOPIC, 2, Emit::after(S))
            .unwrap_err();
        assert_eq!((error.kind(), error.into_event()), (stopped, 2));
        let error = it.dispatcher.emit_within(&TOPIC, 2, HOUR).unwrap_err();
        assert_eq!(error.kind(), stopped);
        let error = it.dispatcher.emit_many(&TOPIC, [2, 3]).unwrap_err();
        assert_eq!((error.kind(), error.into_events()), (stopped, vec![2, 3]));
        for options in [On::new(), On::new().max_duration(S)] {
            let error = it.dispatcher.on(&TOPIC, "new", options, fine).unwrap_err();
            assert!(matches!(error, RegisterError::Stopped));
        }
        let error = it
            .dispatcher
            .schedule(&TOPIC, "tick", Schedule::every(S), || 0)
            .unwrap_err();
        assert!(matches!(error, RegisterError::Stopped));
        assert_eq!(
            it.dispatcher.reschedule(&TOPIC, id, &Emit::now()),
            Err(stopped)
        );
        assert_eq!(it.dispatcher.cancel(&TOPIC, id), Cancelled::Unknown);
        assert!(!it.dispatcher.remove(&TOPIC, "do"));
        assert!(!it.dispatcher.unschedule(&TOPIC, "tick"));
        assert_eq!(it.dispatcher.replay(&TOPIC, 9), 0);
        assert_eq!(it.dispatcher.purge(&TOPIC), 0);
        assert!(it.dispatcher.peek(&TOPIC, 9).is_empty());
        assert!(it.dispatcher.dead(&TOPIC, 9).is_empty());
        let summary = it.dispatcher.stop(HOUR);
        assert!(summary.undone.is_empty() && summary.still_running.is_empty());
        assert!(it.dispatcher.flush(S));
        assert_balanced(&it.dispatcher);
        it.clock.advance(HOUR);
    }
    assert_eq!(it.dispatcher.stats().total().discarded, 1);
}

#[test]
fn a_topic_of_the_same_name_and_another_type_is_refused_by_every_call() {
    let it = manual();
    it.dispatcher.on(&TOPIC, "do", On::new(), fine).unwrap();
    let id = it.dispatcher.emit_with(&TOPIC, 1, Emit::after(S)).unwrap();
    let text = || "text".to_owned();
    let other = EmitErrorKind::OtherType;
    let error = it.dispatcher.emit(&OTHER, text()).unwrap_err();
    assert_eq!((error.kind(), error.into_event()), (other, text()));
    let error = it.dispatcher.emit_many(&OTHER, [text()]).unwrap_err();
    assert_eq!((error.kind(), error.into_events()), (other, vec![text()]));
    let error = it.dispatcher.on(&OTHER, "x", On::new(), |_, _| Ok(()));
    assert!(matches!(
        error.unwrap_err(),
        RegisterError::OtherType {
            registered: "u64",
            ..
        }
    ));
    let error = it
        .dispatcher
        .schedule(&OTHER, "x", Schedule::every(S), text)
        .unwrap_err();
    assert!(matches!(error, RegisterError::OtherType { .. }));
    assert_eq!(it.dispatcher.cancel(&OTHER, id), Cancelled::Unknown);
    assert_eq!(
        it.dispatcher.reschedule(&OTHER, id, &Emit::now()),
        Ok(false)
    );
    assert!(!it.dispatcher.pause(&OTHER) && !it.dispatcher.resume(&OTHER));
    assert!(it.dispatcher.peek(&OTHER, 9).is_empty());
    assert!(it.dispatcher.dead(&OTHER, 9).is_empty());
    assert_eq!(it.dispatcher.counts(&OTHER).scheduled, 0);
    assert_eq!(
        it.dispatcher.purge(&OTHER) + it.dispatcher.replay(&OTHER, 9),
        0
    );
    assert!(
        !it.dispatcher.remove(&OTHER, "do"),
        "a handler of another type"
    );
    it.advance(S);
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

/// Panics when it is dropped.
#[derive(Debug)]
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "{}", self.0);
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_is_a_failed_attempt() {
    let it = manual();
    let handle = |_: &Context, _: &u64| -> Result<(), Failure> {
        panic::panic_any(Bomb("the payload of a panic"))
    };
    it.dispatcher
        .on(&TOPIC, "do", On::new().max_attempts(1), handle)
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..9).unwrap();
    it.flush();
    let total = it.dispatcher.stats().total();
    assert_eq!((total.dead, total.panics), (9, 9));
    assert_eq!(
        it.dispatcher.dead(&TOPIC, 1)[0].error,
        "panicked: a panic without text"
    );
}

/// Nine events that panic when they are dropped, of which `threads` workers are rid by `end`.
fn events_that_panic_on_drop(handler: Result<(), ()>, end: impl FnOnce(&Fixture)) {
    const BOMBS: Topic<Bomb> = Topic::new("bombs");
    let it = manual_with(|builder| builder.threads(2));
    let handle = move |_: &Context, _: &Bomb| handler.map_err(|()| Failure::fatal("no"));
    it.dispatcher.on(&BOMBS, "do", On::new(), handle).unwrap();
    let keep = it
        .dispatcher
        .emit_many(&BOMBS, (0..9).map(|_| Bomb("an event")));
    assert_eq!(keep.unwrap().len(), 9);
    it.flush();
    end(&it);
    it.dispatcher.on(&TOPIC, "do", On::new(), fine).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..9).unwrap();
    it.flush();
    let later = Emit::after(S).unique("key");
    for _ in 0..9 {
        it.dispatcher
            .emit_with(&BOMBS, Bomb("one that waits"), Emit::after(S))
            .unwrap();
        let how = later
            .clone()
            .on_duplicate(liveness::dispatch::OnDuplicate::Replace);
        it.dispatcher
            .emit_with(&BOMBS, Bomb("one replaced"), how)
            .unwrap();
    }
    // The last handle goes with events that wait and that are dead.
    assert_balanced(&it.dispatcher);
    drop(it);
}

#[test]
fn events_that_panic_when_they_are_dropped_end_no_worker() {
    events_that_panic_on_drop(Ok(()), |it| {
        assert_eq!(it.dispatcher.stats().total().done, 9);
    });
    events_that_panic_on_drop(Err(()), |it| {
        assert_eq!(it.dispatcher.stats().total().dead, 9);
    });
    events_that_panic_on_drop(Err(()), |it| {
        assert_eq!(it.dispatcher.purge(&Topic::<Bomb>::new("bombs")), 9);
    });
}

#[test]
fn handlers_that_panic_when_they_are_dropped_end_nothing() {
    let it = manual();
    for name in ["one", "two", "three", "four"] {
        let bomb = Bomb("a handler");
        let handle = move |_: &Context, _: &u64| {
            let _ = &bomb;
            Ok(())
        };
        it.dispatcher.on(&TOPIC, name, On::new(), handle).unwrap();
    }
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert!(it.dispatcher.remove(&TOPIC, "one"));
    assert!(it.dispatcher.remove_now(&TOPIC, "two"));
    it.dispatcher.emit(&TOPIC, 2).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 2);
    assert!(it.dispatcher.stop(S).undone.is_empty());
}

#[test]
fn an_error_that_panics_when_it_is_displayed_is_a_failed_attempt() {
    #[derive(Debug)]
    struct Odd(#[expect(dead_code, reason = "it panics when it is dropped")] Bomb);
    impl fmt::Display for Odd {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no text")
        }
    }
    impl std::error::Error for Odd {}
    let it = manual();
    let handle = |_: &Context, _: &u64| Err(Odd(Bomb("an error")).into());
    it.dispatcher
        .on(&TOPIC, "do", On::new().max_attempts(1), handle)
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..9).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.dead(&TOPIC, 99).len(), 9);
    assert_eq!(it.dispatcher.dead(&TOPIC, 1)[0].error, "no text");
}

#[test]
fn a_notice_callback_or_schedule_that_panics_is_counted() {
    let it = manual_with(|builder| builder.on_notice(|_| panic!("a notice")));
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Err(Failure::fatal("no")))
        .unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.dispatcher.pause(&TOPIC);
    it.dispatcher.resume(&TOPIC);
    let make = || -> u64 { panic!("a tick") };
    it.dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), make)
        .unwrap();
    it.advance(S);
    it.advance(S);
    let stats = it.dispatcher.stats();
    assert_eq!((stats.panics, stats.total().dead), (5, 1));
}

#[test]
fn a_full_dispatcher_gives_a_whole_chunk_back_and_keeps_what_it_has() {
    let it = manual_with(|builder| builder.threads(1).max_unfinished(500));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    let error = it.dispatcher.emit_many(&TOPIC, 0..1_000).unwrap_err();
    assert_eq!(
        (error.kind(), error.accepted().len()),
        (EmitErrorKind::Full, 400)
    );
    assert_eq!(error.into_events(), (400..1_000).collect::<Vec<_>>());
    get(&is_held);
    drop(gate);
    it.flush();
    let stats = it.dispatcher.stats();
    assert_eq!((stats.total().done, stats.refused), (400, 600));
}
