//! Emitting many events, waiting for room, and the limits.

use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use liveness::dispatch::{Cancelled, Dispatcher, Emit, EmitErrorKind, On, Topic};

use crate::kit::{
    HOUR, MS, PATIENCE, S, TOPIC, all, flush, get, holder, manual, manual_with, recorder,
};

#[test]
fn many_events_are_accepted_in_order_with_rising_ids() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher
        .on(&TOPIC, "do", On::new().parallel(1), handle)
        .unwrap();
    assert_eq!(it.dispatcher.emit_many(&TOPIC, []).unwrap(), []);
    for count in [1, 199, 200, 201, 1_000] {
        let ids = it.dispatcher.emit_many(&TOPIC, 0..count).unwrap();
        assert_eq!(ids.len() as u64, count);
        assert!(ids.is_sorted());
        it.flush();
        assert_eq!(all(&calls), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn each_chunk_of_many_events_is_accepted_as_a_whole_or_not_at_all() {
    let it = manual_with(|builder| builder.max_unfinished(450).max_per_topic(450));
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    it.dispatcher.pause(&TOPIC);
    let error = it.dispatcher.emit_many(&TOPIC, 0..500).unwrap_err();
    assert_eq!(
        (error.kind(), error.accepted().len()),
        (EmitErrorKind::Full, 400)
    );
    assert_eq!(
        error.to_string().split(':').next(),
        Some("100 of 500 events were refused")
    );
    assert_eq!(error.into_events(), (400..500).collect::<Vec<_>>());
    assert_eq!(it.dispatcher.emit_many(&TOPIC, 0..50).unwrap().len(), 50);
    assert!(it.dispatcher.emit_many(&TOPIC, [1]).is_err());
    it.dispatcher.resume(&TOPIC);
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 450);
}

#[test]
fn a_topic_at_its_own_limit_is_full_and_the_others_are_not() {
    const OTHER: Topic<u64> = Topic::new("other");
    let it = manual_with(|builder| builder.max_per_topic(3).max_unfinished(5));
    for topic in [TOPIC, OTHER] {
        it.dispatcher
            .on(&topic, "do", On::new(), |_, _| Ok(()))
            .unwrap();
    }
    let emit = |topic: &Topic<u64>| {
        let emitted = it.dispatcher.emit_with(topic, 1, Emit::after(S));
        emitted.map_err(|error| error.kind())
    };
    let ids: Vec<_> = (0..3).map(|_| emit(&TOPIC).unwrap()).collect();
    assert_eq!(emit(&TOPIC), Err(EmitErrorKind::Full));
    emit(&OTHER).unwrap();
    emit(&OTHER).unwrap();
    // The dispatcher's own limit, before the topic's.
    assert_eq!(emit(&OTHER), Err(EmitErrorKind::Full));
    assert_eq!(it.dispatcher.cancel(&TOPIC, ids[0]), Cancelled::Waiting);
    emit(&OTHER).unwrap();
    assert_eq!(emit(&TOPIC), Err(EmitErrorKind::Full));
    it.advance(S);
    assert_eq!(it.dispatcher.stats().total().done, 5);
}

#[test]
fn an_emit_that_waits_is_accepted_when_an_event_ends_is_cancelled_or_never() {
    let it = manual_with(|builder| builder.threads(1).max_unfinished(2));
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), handle).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    let waiting = it.dispatcher.emit(&TOPIC, 2).unwrap();
    assert_eq!(get(&is_held), 1);
    // Never: the time of the machine counts.
    for wait in [Duration::ZERO, MS, 20 * MS] {
        let began = std::time::Instant::now();
        let error = it.dispatcher.emit_within(&TOPIC, 9, wait).unwrap_err();
        assert_eq!((error.kind(), error.into_event()), (EmitErrorKind::Full, 9));
        assert!(began.elapsed() >= wait);
    }
    let (sender, results) = unbounded();
    thread::scope(|scope| {
        let emit = |event| {
            let (sender, dispatcher) = (sender.clone(), &it.dispatcher);
            scope.spawn(move || {
                let emitted = dispatcher.emit_within(&TOPIC, event, HOUR);
                sender.send(emitted.map(|_| event)).unwrap();
            })
        };
        emit(3).join_after(|| {
            assert!(results.is_empty());
            assert_eq!(it.dispatcher.cancel(&TOPIC, waiting), Cancelled::Waiting);
            assert_eq!(get(&results).unwrap(), 3);
        });
        emit(4).join_after(|| {
            gate.send(()).unwrap();
            assert_eq!(get(&results).unwrap(), 4);
        });
        // A stop ends the wait.
        emit(5).join_after(|| {
            drop(gate);
            let result = get(&results);
            assert!(result.is_ok());
        });
    });
    flush(&it.dispatcher);
    assert_eq!(it.dispatcher.stats().total().done, 4);
}

/// Does something while a thread runs, and then waits for the thread.
trait JoinAfter {
    fn join_after(self, act: impl FnOnce());
}

impl JoinAfter for thread::ScopedJoinHandle<'_, ()> {
    fn join_after(self, act: impl FnOnce()) {
        act();
        self.join().unwrap();
    }
}

#[test]
fn a_stop_ends_the_wait_for_room() {
    let dispatcher = Dispatcher::builder()
        .threads(1)
        .max_unfinished(1)
        .build()
        .unwrap();
    dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    dispatcher.emit_with(&TOPIC, 1, Emit::after(HOUR)).unwrap();
    let (sender, results) = unbounded();
    for _ in 0..4 {
        let (sender, dispatcher) = (sender.clone(), dispatcher.clone());
        thread::spawn(move || {
            let error = dispatcher.emit_within(&TOPIC, 2, HOUR).unwrap_err();
            sender.send((error.kind(), error.into_event())).unwrap();
        });
    }
    assert_eq!(dispatcher.stop(PATIENCE).undone.len(), 1);
    for _ in 0..4 {
        assert_eq!(get(&results), (EmitErrorKind::Stopped, 2));
    }
}

#[test]
fn many_producers_that_wait_for_a_little_room_lose_nothing() {
    let dispatcher = Dispatcher::builder()
        .threads(2)
        .max_unfinished(3)
        .build()
        .unwrap();
    let (handle, calls) = recorder();
    dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    thread::scope(|scope| {
        for producer in 0..8 {
            let dispatcher = &dispatcher;
            scope.spawn(move || {
                for event in 0..500 {
                    let event = producer * 500 + event;
                    dispatcher.emit_within(&TOPIC, event, PATIENCE).unwrap();
                }
            });
        }
    });
    flush(&dispatcher);
    let mut seen = all(&calls);
    seen.sort_unstable();
    assert_eq!(seen, (0..4_000).collect::<Vec<_>>());
}
