//! Which event of which topic starts next: order, parallelism, rates, turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::unbounded;
use liveness::dispatch::{Context, Emit, On, Topic};

use crate::kit::{HOUR, MS, NS, S, TOPIC, all, get, holder, manual, manual_with, recorder};

#[test]
fn with_parallel_one_events_start_by_due_time_then_in_the_order_they_were_emitted() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher
        .on(&TOPIC, "do", On::new().parallel(1), handle)
        .unwrap();
    it.dispatcher.pause(&TOPIC);
    for (event, delay) in [(1, 2), (2, 0), (3, 1), (4, 0), (5, 1), (6, 2)] {
        it.dispatcher
            .emit_with(&TOPIC, event, Emit::after(delay * S))
            .unwrap();
    }
    it.advance(2 * S);
    it.dispatcher.emit(&TOPIC, 7).unwrap();
    it.dispatcher.resume(&TOPIC);
    it.flush();
    assert_eq!(all(&calls), [2, 4, 3, 5, 1, 6, 7]);
}

#[test]
fn at_most_so_many_events_of_a_topic_run_and_the_smallest_limit_of_its_handlers_counts() {
    let it = manual_with(|builder| builder.threads(8));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (hold, is_held, gate) = holder();
    let seen = most.clone();
    let handle = move |context: &Context, event: &u64| {
        seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let result = hold(context, event);
        running.fetch_sub(1, Ordering::SeqCst);
        result
    };
    it.dispatcher
        .on(&TOPIC, "hold", On::new().parallel(5), handle)
        .unwrap();
    it.dispatcher
        .on(&TOPIC, "other", On::new().parallel(3), |_, _| Ok(()))
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..100).unwrap();
    for _ in 0..3 {
        get(&is_held);
    }
    assert_eq!(it.dispatcher.counts(&TOPIC).running, 3);
    // Without the smaller limit two more start at once.
    assert!(it.dispatcher.remove_now(&TOPIC, "other"));
    for _ in 0..2 {
        get(&is_held);
    }
    assert_eq!(it.dispatcher.counts(&TOPIC).running, 5);
    drop(gate);
    it.flush();
    assert_eq!(most.load(Ordering::SeqCst), 5);
}

#[test]
fn a_limit_for_all_processes_applies_to_the_one_process_of_a_local_dispatcher() {
    let it = manual();
    let (hold, is_held, gate) = holder();
    let options = On::new().parallel(3).parallel_everywhere(2);
    it.dispatcher.on(&TOPIC, "hold", options, hold).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..10).unwrap();
    for _ in 0..2 {
        get(&is_held);
    }
    let counts = it.dispatcher.counts(&TOPIC);
    assert_eq!((counts.running, counts.ready), (2, 8));
    drop(gate);
    it.flush();
}

#[test]
fn a_rate_spaces_the_starts_of_a_topic_to_the_nanosecond() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher
        .on(&TOPIC, "do", On::new().rate(10, S), handle)
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..5).unwrap();
    it.flush();
    assert_eq!(all(&calls), [0]);
    for expected in 1..4 {
        it.advance(100 * MS - NS);
        assert!(calls.is_empty());
        it.advance(NS);
        assert_eq!(all(&calls), [expected]);
    }
    // Time that passes without events is not saved up.
    it.advance(HOUR);
    it.dispatcher.emit_many(&TOPIC, 5..7).unwrap();
    it.flush();
    assert_eq!(all(&calls), [4]);
    it.advance(100 * MS);
    assert_eq!(all(&calls), [5]);
}

#[test]
fn a_topic_whose_rate_is_taken_away_goes_on_at_once() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher
        .on(&TOPIC, "slow", On::new().rate(1, HOUR), |_, _| Ok(()))
        .unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..3).unwrap();
    it.flush();
    assert_eq!(all(&calls), [0]);
    assert!(it.dispatcher.remove(&TOPIC, "slow"));
    assert_eq!([get(&calls), get(&calls)].iter().sum::<u64>(), 3);
    it.flush();
}

#[test]
fn topics_take_turns_however_many_events_one_has() {
    let it = manual_with(|builder| builder.threads(1));
    let (sender, calls) = unbounded();
    let topics = ["a", "b", "c"].map(|name| Topic::<u64>::named(name).unwrap());
    for topic in &topics {
        let sender = sender.clone();
        let handle = move |context: &Context, _: &u64| {
            sender.send(context.topic().to_owned())?;
            Ok(())
        };
        it.dispatcher.on(topic, "do", On::new(), handle).unwrap();
    }
    // The only worker is busy until all are there.
    let (hold, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "hold", On::new(), hold).unwrap();
    it.dispatcher.emit(&TOPIC, 0).unwrap();
    get(&is_held);
    it.dispatcher.emit_many(&topics[0], 0..1_000).unwrap();
    for topic in &topics[1..] {
        it.dispatcher.emit_many(topic, 0..5).unwrap();
    }
    drop(gate);
    it.flush();
    let seen = all(&calls);
    assert_eq!(seen.len(), 1_010);
    for turn in seen[..15].chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, ["a", "b", "c"]);
    }
}

#[test]
fn a_handler_of_one_topic_that_holds_all_its_threads_leaves_others_only_what_is_left() {
    const OTHER: Topic<u64> = Topic::new("other");
    let it = manual_with(|builder| builder.threads(3));
    let (hold, is_held, gate) = holder();
    it.dispatcher
        .on(&TOPIC, "hold", On::new().parallel(2), hold)
        .unwrap();
    let (handle, calls) = recorder();
    it.dispatcher.on(&OTHER, "do", On::new(), handle).unwrap();
    it.dispatcher.emit_many(&TOPIC, 0..50).unwrap();
    for _ in 0..2 {
        get(&is_held);
    }
    // Delayed events need a leader, which is the thread that is left.
    for event in 0..50 {
        it.dispatcher
            .emit_with(&OTHER, event, Emit::after(S))
            .unwrap();
        it.clock.advance(S);
        assert_eq!(get(&calls), event);
    }
    drop(gate);
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 100);
}
