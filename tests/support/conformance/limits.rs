//! Limits of topics and calls, and handlers that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::unbounded;
use liveness::dispatch::{Cause, On, RegisterError};

use super::kit::{Fixture, MS, Make, PATIENCE, WHILE, assert_silent, attempts, get};

pub(crate) fn at_most_so_many_events_of_a_topic_run(make: &dyn Make) {
    let it = Fixture::new(make);
    let (running, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    it.on("do", On::new().parallel(2), move |_, _| {
        seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(3 * MS);
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    it.on("other", On::new().parallel(3), |_, _| Ok(()));
    let events = (0..30).map(|number| number.to_string());
    it.dispatcher
        .emit_many(&it.topic, events.collect())
        .unwrap();
    it.until_ended();
    assert_eq!(most.load(Ordering::SeqCst), 2);
    it.end(30, 0, 0);
}

pub(crate) fn starts_are_spaced_by_the_rate(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new().rate(20, 1_000 * MS), |_, _| Ok(()));
    let events = (0..5).map(|number| number.to_string());
    let began = Instant::now();
    it.dispatcher
        .emit_many(&it.topic, events.collect())
        .unwrap();
    for started in 0..5 {
        // Calls begin at any time after their starts, so only the time from the first start counts.
        let took = get(&calls).at - began;
        assert!(
            took >= started * 50 * MS,
            "{started} intervals took {took:?}"
        );
    }
    it.end(5, 0, 0);
}

pub(crate) fn a_call_over_its_time_is_to_end_and_may_still_succeed(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", On::new().max_duration(50 * MS), move |context, _| {
        let (began, remaining) = (Instant::now(), context.remaining());
        let is_over = context.wait(PATIENCE);
        sender.send((began.elapsed(), remaining, is_over, context.cause()))?;
        Ok(())
    });
    it.emit("event");
    let (took, remaining, is_over, cause) = get(&seen);
    let remaining = remaining.unwrap();
    assert!(remaining <= 50 * MS && took >= remaining, "after {took:?}");
    assert_eq!((is_over, cause), (true, Some(Cause::TooLong)));
    it.end(1, 0, 0);
}

pub(crate) fn a_call_over_its_time_that_fails_is_a_failed_attempt(make: &dyn Make) {
    let it = Fixture::new(make);
    let options = attempts(2, MS).max_duration(20 * MS);
    let calls = it.record("do", options, |context, _| {
        let _ = context.wait(PATIENCE);
        Err(context.cause().map_or("no cause", |_| "too long").into())
    });
    it.emit("event");
    it.until_dead(1);
    assert_eq!(calls.try_iter().count(), 2);
    let dead = it.dispatcher.dead(&it.topic, 1).unwrap();
    assert_eq!((&*dead[0].error, dead[0].attempts), ("too long", 2));
    it.end(0, 0, 0);
}

pub(crate) fn a_handler_that_is_removed_is_not_called_again_and_leaves_the_events(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.emit("first");
    get(&calls);
    it.pause();
    it.emit("second");
    assert!(it.dispatcher.remove(&it.topic, "do"));
    assert!(!it.dispatcher.remove(&it.topic, "do"));
    it.resume();
    // Its sender is dropped.
    assert!(calls.recv().is_err());
    thread::sleep(WHILE);
    assert_eq!(it.counts().ready, 1);
    let calls = it.record("next", On::new(), |_, _| Ok(()));
    assert_eq!(get(&calls).event, "second");
    it.end(2, 0, 0);
}

pub(crate) fn remove_waits_for_the_running_call(make: &dyn Make) {
    let it = Fixture::new(make);
    let ended = Arc::new(AtomicUsize::new(0));
    let (sender, begun) = unbounded();
    let count = ended.clone();
    it.on("do", On::new(), move |_, _| {
        sender.send(())?;
        thread::sleep(50 * MS);
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    it.emit("event");
    get(&begun);
    assert!(it.dispatcher.remove(&it.topic, "do"));
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    it.end(1, 0, 0);
}

pub(crate) fn a_handler_that_is_registered_later_is_called_for_events_that_wait(make: &dyn Make) {
    let it = Fixture::new(make);
    let first = it.record("first", On::new(), |_, _| Ok(()));
    it.pause();
    it.emit("event");
    let second = it.record("second", On::new(), |_, _| Ok(()));
    it.resume();
    assert_eq!(
        (get(&first).event, get(&second).event),
        ("event".into(), "event".into())
    );
    assert_silent(&first);
    it.end(1, 0, 0);
}

pub(crate) fn a_second_handler_of_the_same_name_is_refused(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    let handler = |_: &_, _: &String| panic!("it is refused");
    let on = |name, options| {
        it.dispatcher
            .on_handler(&it.topic, name, options, Box::new(handler))
    };
    let error = on("do", On::new()).unwrap_err();
    assert!(matches!(error, RegisterError::Duplicate { name, .. } if name == "do"));
    let error = on("other", On::new().parallel(0)).unwrap_err();
    assert!(matches!(error, RegisterError::Option(_)), "{error}");
    let error = on("a name", On::new()).unwrap_err();
    assert!(matches!(error, RegisterError::Name(_)), "{error}");
    it.emit("event");
    get(&calls);
    it.end(1, 0, 0);
}
