//! What a durable dispatcher does beyond the suite that all dispatchers pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use liveness::dispatch::{
    Backoff, Cancelled, Cause, Context, Emit, EmitErrorKind, Failure, Notice, On, Topic,
};
use liveness::redis::{Builder, Dispatcher};

use crate::redis_server::{RedisServer, for_test};

const MAIL: Topic<String> = Topic::new("mail");
const MS: Duration = Duration::from_millis(1);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn builder(server: &RedisServer) -> Builder {
    Dispatcher::builder(&server.url()).threads(2)
}

/// Registers a handler that reports each event, the attempt and the lateness.
fn record(dispatcher: &Dispatcher) -> Receiver<(String, u32, Duration)> {
    let (sender, calls) = unbounded();
    let handle = move |context: &Context, event: &String| {
        sender.send((event.clone(), context.attempt(), context.lateness()))?;
        Ok(())
    };
    dispatcher.on(&MAIL, "record", On::new(), handle).unwrap();
    calls
}

/// Waits until `condition` holds.
#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it did not come to that");
        thread::sleep(2 * MS);
    }
}

#[test]
fn an_event_of_one_process_is_handled_by_another() {
    let Some(server) = for_test(&[]) else { return };
    let producer = builder(&server).build().unwrap();
    let worker = builder(&server).build().unwrap();
    let calls = record(&worker);
    producer.emit(&MAIL, "now".to_owned()).unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE).unwrap().0, "now");
    let start = Instant::now();
    let later = Emit::after(50 * MS);
    producer
        .emit_with(&MAIL, "later".to_owned(), later)
        .unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE).unwrap().0, "later");
    assert!(start.elapsed() >= 50 * MS);
    assert!(producer.flush(PATIENCE).unwrap());
    let stats = producer.stats().unwrap();
    assert!(stats.is_balanced(), "{stats}");
    assert_eq!((stats.total().emitted, stats.total().done), (2, 2));
}

#[test]
fn an_event_waits_for_a_process_that_handles_it_and_is_late_by_that() {
    let Some(server) = for_test(&[]) else { return };
    let producer = builder(&server).build().unwrap();
    producer.emit(&MAIL, "early".to_owned()).unwrap();
    thread::sleep(30 * MS);
    let worker = builder(&server).build().unwrap();
    let (event, attempt, lateness) = record(&worker).recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*event, attempt), ("early", 1));
    assert!(lateness >= 30 * MS, "{lateness:?}");
}

#[test]
fn what_was_claimed_and_has_not_started_is_given_back_by_a_stop() {
    let Some(server) = for_test(&[]) else { return };
    let worker = builder(&server).threads(1).build().unwrap();
    let (sender, begun) = unbounded();
    let (gate, opened) = bounded::<()>(0);
    worker
        .on(&MAIL, "hold", On::new(), move |_, event| {
            if event == "hold" {
                sender.send(())?;
                let _ = opened.recv();
            }
            Ok(())
        })
        .unwrap();
    // Quick attempts let the process claim ahead.
    worker
        .emit_many(&MAIL, (0..200).map(|n| n.to_string()))
        .unwrap();
    assert!(worker.flush(PATIENCE).unwrap());
    let events = ["hold", "a", "b", "c"].map(str::to_owned);
    worker.emit_many(&MAIL, events).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let stopping = worker.clone();
    let stop = thread::spawn(move || stopping.stop(PATIENCE));
    let other = Topic::new("other");
    until(|| worker.emit(&other, String::new()).is_err());
    drop(gate);
    assert!(stop.join().unwrap().still_running.is_empty());
    let counts = worker.counts(&MAIL).unwrap();
    assert_eq!((counts.ready, counts.running), (3, 0));
    let waiting = worker.peek(&MAIL, 9).unwrap();
    let waiting: Vec<_> = waiting
        .iter()
        .map(|event| (&**event.event, event.attempts))
        .collect();
    assert_eq!(waiting, [("a", 0), ("b", 0), ("c", 0)]);
    let next = builder(&server).threads(1).build().unwrap();
    let calls = record(&next);
    for expected in ["a", "b", "c"] {
        let (event, attempt, _) = calls.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&*event, attempt), (expected, 1));
    }
}

#[test]
fn a_handler_may_stop_its_own_dispatcher_and_its_outcome_counts() {
    let Some(server) = for_test(&[]) else { return };
    let worker = builder(&server).build().unwrap();
    let (sender, stopped) = unbounded();
    let own = worker.clone();
    worker
        .on(&MAIL, "stop", On::new(), move |_, _| {
            let _ = own.stop(PATIENCE);
            sender.send(())?;
            Ok(())
        })
        .unwrap();
    worker.emit(&MAIL, "last".to_owned()).unwrap();
    stopped.recv_timeout(PATIENCE).unwrap();
    until(|| worker.stats().unwrap().total().done == 1);
    assert_eq!(worker.counts(&MAIL).unwrap().running, 0);
}

#[test]
fn an_event_that_does_not_decode_is_retried_then_dead_and_blocks_no_other() {
    let Some(server) = for_test(&[]) else { return };
    let names = builder(&server).build().unwrap();
    let (numbers, notices) = builder(&server).build_with_notices(9).unwrap();
    const AS_NUMBER: Topic<u64> = Topic::new("mail");
    let (sender, calls) = unbounded();
    let options = On::new().max_attempts(2).backoff(Backoff::constant(MS));
    numbers
        .on(&AS_NUMBER, "number", options, move |_, number| {
            Ok(sender.send(*number)?)
        })
        .unwrap();
    names.emit(&MAIL, "a word".to_owned()).unwrap();
    numbers.emit(&AS_NUMBER, 17).unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE), Ok(17));
    let Notice::Dead {
        attempts, error, ..
    } = notices.recv_timeout(PATIENCE).unwrap()
    else {
        panic!("another notice")
    };
    assert_eq!(attempts, 2);
    assert!(
        error.starts_with("the event cannot be decoded: "),
        "{error}"
    );
    // Its bytes are kept: who knows its type can read it.
    assert_eq!(*names.dead(&MAIL, 9).unwrap()[0].event, "a word");
    assert!(numbers.dead(&AS_NUMBER, 9).unwrap().is_empty());
}

#[cfg(feature = "msgpack")]
#[test]
fn a_topic_may_hold_both_encodings_and_headers_arrive() {
    use liveness::redis::Codec;

    let Some(server) = for_test(&[]) else { return };
    let json = builder(&server).build().unwrap();
    let packed = builder(&server).codec(Codec::MessagePack).build().unwrap();
    let (sender, calls) = unbounded();
    json.on(
        &MAIL,
        "record",
        On::new(),
        move |context, event: &String| {
            let header = context.header("trace").map(ToOwned::to_owned);
            Ok(sender.send((event.clone(), header))?)
        },
    )
    .unwrap();
    let header = || Emit::now().header("trace", "4bf9");
    packed.emit_with(&MAIL, "ä".to_owned(), header()).unwrap();
    let header = Some("4bf9".to_owned());
    assert_eq!(calls.recv_timeout(PATIENCE), Ok(("ä".to_owned(), header)));
    packed.emit(&MAIL, "b".to_owned()).unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE), Ok(("b".to_owned(), None)));
}

#[test]
fn an_event_that_is_too_large_or_cannot_be_encoded_comes_back() {
    let Some(server) = for_test(&[]) else { return };
    let dispatcher = builder(&server).max_event_bytes(100).build().unwrap();
    dispatcher.emit(&MAIL, "x".repeat(97)).unwrap();
    let error = dispatcher.emit(&MAIL, "x".repeat(98)).unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::TooLarge { len: 101, max: 100 });
    assert_eq!(error.into_event().len(), 98);
    const MAPS: Topic<HashMap<Vec<u8>, u8>> = Topic::new("maps");
    let error = dispatcher
        .emit(&MAPS, HashMap::from([(vec![1], 2)]))
        .unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Encode);
    assert!(
        error.to_string().contains("key must be a string"),
        "{error}"
    );
    let many = [97, 98, 97].map(|len| "x".repeat(len));
    let error = dispatcher.emit_many(&MAIL, many).unwrap_err();
    assert_eq!((error.accepted().len(), error.into_events().len()), (0, 3));
    assert_eq!(dispatcher.stats().unwrap().refused, 5);
}

#[test]
fn a_server_without_memory_refuses_events_and_hands_out_those_that_it_has() {
    let Some(server) = for_test(&[]) else { return };
    let dispatcher = builder(&server).build().unwrap();
    dispatcher
        .emit_many(&MAIL, (0..500).map(|n| n.to_string()))
        .unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = dispatcher.emit(&MAIL, "more".to_owned()).unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Refused);
    assert!(error.to_string().contains("OOM"), "{error}");
    let calls = record(&dispatcher);
    for _ in 0..500 {
        calls.recv_timeout(PATIENCE).unwrap();
    }
    assert!(dispatcher.flush(PATIENCE).unwrap());
    assert!(dispatcher.stats().unwrap().is_balanced());
}

#[test]
fn a_limit_for_all_processes_holds_for_all_of_them_together() {
    let Some(server) = for_test(&[]) else { return };
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (sender, calls) = unbounded();
    let dispatchers: Vec<_> = (0..3)
        .map(|_| {
            let dispatcher = builder(&server).build().unwrap();
            let (running, most, sender) = (running.clone(), most.clone(), sender.clone());
            let options = On::new().parallel_everywhere(2);
            dispatcher
                .on(&MAIL, "count", options, move |_, _| {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::sleep(5 * MS);
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(sender.send(())?)
                })
                .unwrap();
            dispatcher
        })
        .collect();
    dispatchers[0]
        .emit_many(&MAIL, (0..40).map(|n| n.to_string()))
        .unwrap();
    for _ in 0..40 {
        calls.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[test]
fn the_call_of_an_event_that_another_process_cancels_is_to_end() {
    let Some(server) = for_test(&[]) else { return };
    let worker = builder(&server).lease(300 * MS).build().unwrap();
    let other = builder(&server).build().unwrap();
    let (sender, calls) = unbounded();
    worker
        .on(&MAIL, "wait", On::new(), move |context, _| {
            sender.send(None)?;
            let _ = context.wait(PATIENCE);
            Ok(sender.send(context.cause())?)
        })
        .unwrap();
    let id = other.emit(&MAIL, "long".to_owned()).unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE), Ok(None));
    assert_eq!(other.cancel(&MAIL, id).unwrap(), Cancelled::Running);
    assert_eq!(calls.recv_timeout(PATIENCE), Ok(Some(Cause::Cancelled)));
    let stats = other.stats().unwrap();
    assert!(
        stats.is_balanced() && stats.total().cancelled == 1,
        "{stats}"
    );
}

#[test]
fn a_handler_that_runs_for_longer_than_its_lease_keeps_it() {
    let Some(server) = for_test(&[]) else { return };
    let lease = 200 * MS;
    let worker = builder(&server).lease(lease).build().unwrap();
    let other = builder(&server).lease(lease).build().unwrap();
    let (sender, calls) = unbounded();
    for dispatcher in [&worker, &other] {
        let sender = sender.clone();
        dispatcher
            .on(&MAIL, "work", On::new(), move |_, _| {
                sender.send(())?;
                thread::sleep(3 * lease);
                Ok(())
            })
            .unwrap();
    }
    worker.emit(&MAIL, "long".to_owned()).unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
    until(|| worker.stats().unwrap().total().done == 1);
    assert!(calls.try_recv().is_err());
    assert_eq!(worker.stats().unwrap().total().lapsed, 0);
}

#[test]
fn while_the_server_is_away_calls_say_so_in_time_and_afterwards_all_goes_on() {
    let Some(mut server) = for_test(&["--appendonly", "yes", "--appendfsync", "always"]) else {
        return;
    };
    let impatient = builder(&server).emit_timeout(100 * MS);
    let (dispatcher, notices) = impatient.build_with_notices(99).unwrap();
    let calls = record(&dispatcher);
    let later = Emit::after(300 * MS);
    dispatcher
        .emit_with(&MAIL, "later".to_owned(), later)
        .unwrap();
    server.kill();
    let start = Instant::now();
    let error = dispatcher.emit(&MAIL, "lost".to_owned()).unwrap_err();
    // The first call finds the connection closed, and cannot know when it was closed.
    assert!(matches!(
        error.kind(),
        EmitErrorKind::Uncertain | EmitErrorKind::Unavailable
    ));
    let error = dispatcher.emit(&MAIL, "lost".to_owned()).unwrap_err();
    assert_eq!(
        (error.kind(), error.event().as_str()),
        (EmitErrorKind::Unavailable, "lost")
    );
    assert!(dispatcher.counts(&MAIL).is_err());
    assert!(dispatcher.pause(&MAIL).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    until(|| matches!(notices.try_recv(), Ok(Notice::Disconnected { .. })));
    server.restart().unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE).unwrap().0, "later");
    until(|| matches!(notices.try_recv(), Ok(Notice::Reconnected { .. })));
    dispatcher.emit(&MAIL, "again".to_owned()).unwrap();
    assert_eq!(calls.recv_timeout(PATIENCE).unwrap().0, "again");
    assert!(dispatcher.flush(PATIENCE).unwrap());
    assert!(dispatcher.stats().unwrap().is_balanced());
}

#[test]
fn a_stop_ends_in_time_while_the_server_does_not_answer() {
    let Some(mut server) = for_test(&[]) else {
        return;
    };
    let dispatcher = builder(&server).response_timeout(100 * MS).build().unwrap();
    let calls = record(&dispatcher);
    dispatcher.emit(&MAIL, "one".to_owned()).unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
    server.kill();
    let start = Instant::now();
    let _ = dispatcher.stop(Duration::ZERO);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    let error = dispatcher.emit(&MAIL, "late".to_owned()).unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Stopped);
}

#[test]
fn a_topic_with_another_type_is_refused_in_one_dispatcher() {
    let Some(server) = for_test(&[]) else { return };
    const OTHER: Topic<u64> = Topic::new("mail");
    let dispatcher = builder(&server).build().unwrap();
    dispatcher.emit(&MAIL, "text".to_owned()).unwrap();
    let error = dispatcher.emit(&OTHER, 7).unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::OtherType);
    let refused = dispatcher.on(&OTHER, "count", On::new(), |_, _| Err(Failure::fatal("no")));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("alloc::string::String")
    );
}

#[test]
fn a_topic_is_inspected_whatever_the_type_is_and_also_after_a_stop() {
    let Some(server) = for_test(&[]) else { return };
    const OTHER: Topic<u64> = Topic::new("mail");
    const ANY: Topic<serde_json::Value> = Topic::new("mail");
    let dispatcher = builder(&server).build().unwrap();
    let id = dispatcher.emit(&MAIL, "text".to_owned()).unwrap();
    assert_eq!(dispatcher.counts(&OTHER).unwrap().ready, 1);
    assert!(dispatcher.peek(&OTHER, 9).unwrap().is_empty());
    assert_eq!(*dispatcher.peek(&ANY, 9).unwrap()[0].event, "text");
    assert!(dispatcher.pause(&OTHER).unwrap());
    let _ = dispatcher.stop(Duration::ZERO);
    let counts = dispatcher.counts(&OTHER).unwrap();
    assert_eq!((counts.ready, counts.is_paused), (1, true));
    let error = dispatcher.resume(&MAIL).unwrap_err().to_string();
    assert!(error.ends_with("the dispatcher is stopped"), "{error}");
    assert!(dispatcher.cancel(&MAIL, id).is_err());
}

#[test]
fn what_waiting_does_not_mend_fails_at_once_and_says_what() {
    let Some(server) = for_test(&[]) else { return };
    let error = |url: &str| {
        let start = Instant::now();
        let error = Dispatcher::builder(url).build().unwrap_err().to_string();
        assert!(start.elapsed() < 3 * Duration::from_secs(1), "{error}");
        error
    };
    let wrong = error(&format!("{}?user=nobody&pass=wrong", server.url()));
    assert!(
        wrong.contains("lacks a permission") && !wrong.contains('\n'),
        "{wrong}"
    );
    let wrong = error(&format!("{}?db=99", server.url()));
    assert!(wrong.contains("out of range"), "{wrong}");
    let wrong = error("rediss://127.0.0.1/");
    assert!(wrong.contains("TLS"), "{wrong}");
}

#[test]
fn large_events_are_inspected_in_several_calls() {
    let Some(server) = for_test(&[]) else { return };
    let dispatcher = builder(&server).max_event_bytes(2 << 20).build().unwrap();
    let large = |n: usize| format!("{n}{}", "x".repeat(1_500_000));
    for n in 0..7 {
        dispatcher.emit(&MAIL, large(n)).unwrap();
    }
    let waiting = dispatcher.peek(&MAIL, 100).unwrap();
    assert_eq!(waiting.len(), 7);
    assert!(
        waiting
            .iter()
            .enumerate()
            .all(|(n, event)| *event.event == large(n))
    );
    assert_eq!(dispatcher.peek(&MAIL, 5).unwrap().len(), 5);
}
