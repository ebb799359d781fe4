//! Looking at the events of a topic, and changing what becomes of them.

use crossbeam_channel::unbounded;
use liveness::dispatch::{
    Cancelled, Cause, Context, Dispatch, Dispatcher, Emit, Failure, Notice, On, Topic,
};

use crate::kit::{HOUR, NS, PATIENCE, S, TOPIC, all, flush, get, manual, manual_with, recorder};

#[test]
fn a_paused_topic_accepts_events_and_starts_none_until_it_is_resumed() {
    let (sender, notices) = unbounded();
    let it = manual_with(|builder| {
        builder.on_notice(move |notice| {
            let _ = sender.send(notice);
        })
    });
    let (handle, calls) = recorder();
    assert!(!it.dispatcher.pause(&TOPIC), "it is not known yet");
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    assert!(it.dispatcher.pause(&TOPIC) && !it.dispatcher.pause(&TOPIC));
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.dispatcher.emit_with(&TOPIC, 2, Emit::after(S)).unwrap();
    it.dispatcher
        .emit_with(&TOPIC, 3, Emit::after(HOUR))
        .unwrap();
    it.advance(S);
    let counts = it.dispatcher.counts(&TOPIC);
    assert_eq!(
        (counts.ready, counts.scheduled, counts.is_paused),
        (2, 1, true)
    );
    assert!(calls.is_empty());
    assert!(it.dispatcher.resume(&TOPIC) && !it.dispatcher.resume(&TOPIC));
    it.flush();
    assert_eq!(all(&calls).len(), 2);
    let topic = || "topic".to_owned();
    assert_eq!(
        all(&notices),
        [
            Notice::Paused { topic: topic() },
            Notice::Resumed { topic: topic() }
        ]
    );
}

#[test]
fn peek_shows_what_waits_in_the_order_in_which_it_starts() {
    let it = manual();
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    it.dispatcher.pause(&TOPIC);
    let began = it.wall();
    for (event, delay) in [(1, 3), (2, 1), (3, 2), (4, 1)] {
        it.dispatcher
            .emit_with(&TOPIC, event, Emit::after(delay * S))
            .unwrap();
    }
    let seen = it.dispatcher.peek(&TOPIC, 3).into_iter();
    let seen: Vec<_> = seen.map(|waiting| (*waiting.event, waiting.due)).collect();
    assert_eq!(seen, [(2, began + S), (4, began + S), (3, began + 2 * S)]);
    assert!(it.dispatcher.peek(&TOPIC, 0).is_empty());
    let other: &dyn Dispatch<u64> = &it.dispatcher;
    assert_eq!(other.peek(&TOPIC, 9).unwrap().len(), 4);
}

#[test]
fn the_dead_list_is_bounded_inspected_replayed_and_purged() {
    let it = manual_with(|builder| builder.threads(1).max_dead(3).max_unfinished(2));
    it.dispatcher
        .on(&TOPIC, "fail", On::new(), |_, event| {
            Err(Failure::fatal(event.to_string()))
        })
        .unwrap();
    let mut ids = Vec::new();
    for event in 0..5 {
        ids.push(it.dispatcher.emit(&TOPIC, event).unwrap());
        it.flush();
        it.advance(S);
    }
    let dead = it.dispatcher.dead(&TOPIC, 9);
    let seen: Vec<_> = dead
        .iter()
        .map(|dead| (dead.id, *dead.event, &*dead.error))
        .collect();
    assert_eq!(seen, [(ids[2], 2, "2"), (ids[3], 3, "3"), (ids[4], 4, "4")]);
    assert!(
        dead.windows(2)
            .all(|two| two[1].died.duration_since(two[0].died).unwrap() == S)
    );
    assert_eq!(it.dispatcher.cancel(&TOPIC, ids[3]), Cancelled::Dead);
    assert_eq!(it.dispatcher.cancel(&TOPIC, ids[0]), Cancelled::Unknown);
    it.dispatcher.pause(&TOPIC);
    it.dispatcher.emit(&TOPIC, 9).unwrap();
    // There is room for one.
    assert_eq!(it.dispatcher.replay(&TOPIC, 9), 1);
    assert_eq!(it.dispatcher.replay(&TOPIC, 9), 0);
    assert_eq!(*it.dispatcher.dead(&TOPIC, 9)[0].event, 4);
    it.dispatcher.resume(&TOPIC);
    it.flush();
    assert_eq!(it.dispatcher.purge(&TOPIC), 3);
    assert_eq!(it.dispatcher.purge(&TOPIC), 0);
    let total = it.dispatcher.stats().total();
    assert_eq!(
        (total.died, total.replayed, total.purged, total.cancelled),
        (7, 1, 5, 1)
    );
}

#[test]
fn with_no_dead_list_what_fails_for_good_is_gone_and_reported() {
    let (sender, notices) = unbounded();
    let it = manual_with(|builder| {
        builder.max_dead(0).on_notice(move |notice| {
            let _ = sender.send(notice.to_string());
        })
    });
    it.dispatcher
        .on(&TOPIC, "fail", On::new(), |_, _| Err(Failure::fatal("no")))
        .unwrap();
    let id = it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert!(it.dispatcher.dead(&TOPIC, 9).is_empty());
    let expected = format!("event {id} of `topic` is dead after 1 attempt of fail: no");
    assert_eq!(all(&notices), [expected]);
    assert_eq!(it.dispatcher.stats().total().purged, 1);
}

#[test]
fn rescheduling_moves_what_waits_and_nothing_else() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let emit = |event, delay| {
        it.dispatcher
            .emit_with(&TOPIC, event, Emit::after(delay))
            .unwrap()
    };
    let (sooner, later, at) = (emit(1, HOUR), emit(2, S), emit(3, S));
    let moved = |id, how| it.dispatcher.reschedule(&TOPIC, id, &how);
    assert_eq!(moved(sooner, Emit::after(2 * S)), Ok(true));
    assert_eq!(moved(later, Emit::after(3 * S)), Ok(true));
    assert_eq!(moved(at, Emit::at(it.wall() + 4 * S)), Ok(true));
    for (by, expected) in [
        (2 * S - NS, vec![]),
        (NS, vec![1]),
        (S - NS, vec![]),
        (NS, vec![2]),
        (S - NS, vec![]),
        (NS, vec![3]),
    ] {
        it.advance(by);
        assert_eq!(all(&calls), expected);
    }
    assert_eq!(moved(at, Emit::now()), Ok(false), "it is done");
    let id = emit(4, HOUR);
    assert_eq!(moved(id, Emit::now()), Ok(true));
    it.flush();
    assert_eq!(all(&calls), [4]);
    const OTHER: Topic<u64> = Topic::new("other");
    assert_eq!(
        it.dispatcher.reschedule(&OTHER, id, &Emit::now()),
        Ok(false)
    );
}

#[test]
fn cancelling_ends_an_event_wherever_it_is_and_ignores_what_comes_later() {
    let it = manual();
    let (sender, seen) = unbounded();
    let handle = move |context: &Context, event: &u64| {
        if *event == 0 {
            sender.send(None)?;
            let is_cancelled = context.wait(HOUR);
            sender.send(Some((is_cancelled, context.cause())))?;
        }
        Err(Failure::fatal("no"))
    };
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let waiting = it.dispatcher.emit_with(&TOPIC, 1, Emit::after(S)).unwrap();
    let running = it.dispatcher.emit(&TOPIC, 0).unwrap();
    let dead = it.dispatcher.emit(&TOPIC, 1).unwrap();
    assert_eq!(get(&seen), None);
    while it.dispatcher.counts(&TOPIC).dead == 0 {
        std::thread::yield_now();
    }
    for (id, expected) in [
        (waiting, Cancelled::Waiting),
        (running, Cancelled::Running),
        (dead, Cancelled::Dead),
    ] {
        assert_eq!(it.dispatcher.cancel(&TOPIC, id), expected);
        assert_eq!(it.dispatcher.cancel(&TOPIC, id), Cancelled::Unknown);
    }
    assert_eq!(get(&seen), Some((true, Some(Cause::Cancelled))));
    it.flush();
    it.advance(HOUR);
    let total = it.dispatcher.stats().total();
    assert_eq!(
        (total.cancelled, total.stale, total.dead, total.died),
        (3, 1, 0, 1)
    );
    assert!(seen.is_empty());
}

#[test]
fn stats_name_each_topic_and_print_on_lines() {
    let it = manual();
    let topics = ["a", "b", "c"].map(|name| Topic::<u64>::named(name).unwrap());
    for topic in &topics {
        it.dispatcher
            .on(topic, "do", On::new(), |_, _| Ok(()))
            .unwrap();
        it.dispatcher.emit_with(topic, 1, Emit::after(S)).unwrap();
    }
    it.clock.advance(3 * S);
    it.flush();
    let stats = it.dispatcher.stats();
    let names: Vec<_> = stats.topics.iter().map(|topic| &*topic.topic).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        stats
            .topics
            .iter()
            .all(|topic| topic.done == 1 && topic.lateness.count() == 1)
    );
    assert!(stats.total().lateness.quantile(0.5) >= 2 * S);
    assert_eq!(stats.to_string().lines().count(), 4);
}

#[test]
fn a_channel_of_notices_never_holds_up_a_worker_and_what_it_does_not_take_is_counted() {
    let (dispatcher, notices) = Dispatcher::builder()
        .threads(1)
        .build_with_notices(2)
        .unwrap();
    let options = On::new().max_attempts(1);
    dispatcher
        .on(&TOPIC, "fail", options, |_, _| Err("no".into()))
        .unwrap();
    let ids = dispatcher.emit_many(&TOPIC, 0..5).unwrap();
    flush(&dispatcher);
    let dead: Vec<_> = notices.try_iter().collect();
    assert!(matches!(
        dead[..],
        [Notice::Dead { id: first, .. }, Notice::Dead { id: second, .. }] if [first, second] == ids[..2]
    ));
    while dispatcher.stats().lost_notices < 3 {
        std::thread::yield_now();
    }
    assert!(dispatcher.stats().to_string().ends_with("3 notices lost"));
    drop(notices);
    dispatcher.pause(&TOPIC);
    let stats = dispatcher.stats();
    assert_eq!((stats.lost_notices, stats.panics), (4, 0));
}

#[test]
fn a_channel_of_notices_ends_with_its_dispatcher() {
    let (dispatcher, notices) = Dispatcher::builder().build_with_notices(1).unwrap();
    drop(dispatcher);
    assert!(
        notices
            .recv_timeout(PATIENCE)
            .is_err_and(|error| error.is_disconnected())
    );
}

#[test]
fn a_channel_of_notices_has_a_capacity_and_no_callback_beside_it() {
    for capacity in [0, 65_537] {
        let error = Dispatcher::builder()
            .build_with_notices(capacity)
            .unwrap_err();
        assert_eq!(error.to_string(), "`capacity` must be from 1 to 65,536");
    }
    let builder = Dispatcher::builder().on_notice(drop);
    let error = builder.build_with_notices(1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`on_notice` must not be set beside a channel of notices"
    );
}
