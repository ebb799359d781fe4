//! Full inboxes and full sinks: who waits, for how long, and that nothing is lost meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use liveness::{
    BeatErrorKind, Event, EventKind, KeyEvent, ManualClock, Mode, Options, Refused, Sink, Watcher,
};
use parking_lot::Mutex;

use crate::held::held;
use crate::in_time::GENEROUS;
use crate::round::go_round;

const TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn try_beat_hands_the_key_back_when_the_inbox_is_full() {
    let (watcher, gate) = held(Watcher::builder().inbox_capacity(4));
    for key in 0..4u64 {
        watcher.try_beat(key).unwrap();
    }
    for key in 4..100u64 {
        let error = watcher.try_beat(key).unwrap_err();
        assert_eq!(error.kind(), BeatErrorKind::InboxFull);
        assert_eq!(error.into_key(), key);
    }
    drop(gate);
    watcher.flush().unwrap();
    watcher.try_beat(100u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(
        watcher.len(),
        5,
        "what was accepted is watched, and no more"
    );
}

#[test]
fn beat_timeout_waits_for_room_as_long_as_it_was_told_and_no_longer() {
    let (watcher, gate) = held(Watcher::builder().inbox_capacity(1));
    watcher.try_beat(1u64).unwrap();
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let began = Instant::now();
        let error = watcher.beat_timeout(2u64, wait).unwrap_err();
        let waited = began.elapsed();
        assert_eq!(error.kind(), BeatErrorKind::TimedOut);
        assert_eq!(error.into_key(), 2);
        assert!(waited >= wait && waited < GENEROUS, "{waited:?}");
    }
    drop(gate);
    watcher.beat_timeout(2u64, GENEROUS).unwrap();
    watcher.beat_timeout(3u64, Duration::MAX).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 3);
}

#[test]
fn every_waiting_call_is_served_when_there_is_room() {
    let (watcher, gate) = held(Watcher::builder().inbox_capacity(1));
    watcher.try_beat(0u64).unwrap();
    let ready = Barrier::new(7);
    let served = AtomicU64::new(0);
    thread::scope(|scope| {
        let call = |call: &(dyn Fn(&Watcher<u64>) + Sync)| {
            ready.wait();
            call(&watcher);
            served.fetch_add(1, Ordering::SeqCst);
        };
        scope.spawn(move || call(&|watcher| watcher.beat(1u64).unwrap()));
        scope.spawn(move || call(&|watcher| watcher.beat_with(2u64, Options::new()).unwrap()));
        scope.spawn(move || call(&|watcher| assert_eq!(watcher.beat_many(3..1_003u64), Ok(1_000))));
        scope.spawn(move || call(&|watcher| watcher.watch(5_000u64).unwrap().detach()));
        scope.spawn(move || call(&|watcher| watcher.remove(&6_000).unwrap()));
        scope.spawn(move || call(&|watcher| watcher.beat_timeout(7u64, GENEROUS).unwrap()));
        ready.wait();
        // A quick sender waits by now; nobody can have been served, for there is no room.
        assert_eq!(served.load(Ordering::SeqCst), 0);
        drop(gate);
    });
    watcher.flush().unwrap();
    assert_eq!(served.load(Ordering::SeqCst), 6);
    assert_eq!(watcher.len(), 1 + 1 + 1 + 1_000 + 1);
    // Key 7 beats twice, and its older beat may come last.
    let stats = watcher.stats();
    assert_eq!(
        stats.applied_beats + stats.late_beats,
        1 + 1 + 1 + 1 + 1_000 + 1 + 1
    );
}

#[test]
fn no_beat_is_lost_between_many_senders_and_small_inboxes() {
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(2)
        .inbox_capacity(2)
        .build()
        .unwrap();
    let tried = AtomicU64::new(0);
    thread::scope(|scope| {
        for sender in 0..4u64 {
            let (watcher, tried) = (&watcher, &tried);
            scope.spawn(move || {
                for i in 0..5_000 {
                    let key = sender * 5_000 + i;
                    match i % 3 {
                        0 => watcher.beat(key).unwrap(),
                        1 => drop(watcher.beat_many([key, key]).unwrap()),
                        _ => drop(tried.fetch_add(
                            u64::from(watcher.try_beat(key).is_ok()),
                            Ordering::Relaxed,
                        )),
                    }
                }
            });
        }
    });
    watcher.flush().unwrap();
    let tried = tried.into_inner();
    let certain = 4 * 1_667;
    assert_eq!(watcher.stats().applied_beats, certain + 2 * certain + tried);
    assert_eq!(watcher.len() as u64, 2 * certain + tried);
}

#[test]
fn while_the_sink_is_full_the_worker_goes_on_taking_beats_and_nothing_is_lost() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .inbox_capacity(8)
        .clock(clock.clone())
        .build_with_channel(3)
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    assert_eq!((events.len(), watcher.stats().pending), (3, 997));

    watcher.beat_many(1_000..2_000u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 1_000);
    assert!(watcher.contains(&1_500).unwrap());

    let mut keys = Vec::new();
    while keys.len() < 1_000 {
        watcher.flush().unwrap();
        let before = keys.len();
        keys.extend(events.try_iter().map(|event| *event.key().unwrap()));
        assert!(keys.len() > before, "a flush offers what waits");
    }
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..1_000));
    assert_eq!(watcher.stats().pending, 0);
}

#[test]
fn a_full_channel_is_tried_again_without_another_call() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_nanos(1))
        .workers(1)
        .build_with_channel(1)
        .unwrap();
    watcher.beat_many(0..20u64).unwrap();
    let mut keys: Vec<u64> = (0..20)
        .map(|_| *events.recv_timeout(GENEROUS).unwrap().key().unwrap())
        .collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..20));
}

/// Lets `keys` keys die at once beside a channel for one event whose reader takes its time, and takes `read` of them.
fn die_before_a_slow_reader(keys: u64, read: u64) {
    const LIVING: u64 = 1_000;
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    watcher.beat_many(0..keys).unwrap();
    watcher.flush().unwrap();
    let full = watcher.stats().bytes;
    clock.advance(TIMEOUT / 2);
    watcher.beat_many(keys..keys + LIVING).unwrap();
    clock.advance(TIMEOUT / 2);
    let mut is_dead = vec![false; keys as usize];
    let mut hear = |event: &Event<u64>| {
        let key = *event.key().unwrap();
        assert!(key < keys, "{key} lives");
        assert!(
            !std::mem::replace(&mut is_dead[key as usize], true),
            "{key} died twice"
        );
    };
    for taken in 0..read {
        // The channel stays full until the next event is taken; meanwhile beats are taken as ever.
        watcher.beat(keys + taken % LIVING).unwrap();
        watcher.flush().unwrap();
        hear(&events.recv_timeout(GENEROUS).unwrap());
    }
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!((stats.expiries, stats.live), (keys, LIVING));
    assert_eq!(stats.pending + stats.delivered, keys);
    assert!((read..=read + 1).contains(&stats.delivered));
    assert!(stats.is_balanced());
    // What waits does so in the place that its key had.
    assert!(
        stats.bytes <= full + full / 8,
        "{full} bytes, then {}",
        stats.bytes
    );

    // Nobody reads now: close is not held up, and what was not reported is counted.
    let stats = watcher.close();
    assert_eq!(stats.delivered + stats.discarded, keys);
    assert!(stats.is_balanced());
    events.try_iter().for_each(|event| hear(&event));
    let told = is_dead.into_iter().filter(|&dead| dead).count();
    assert_eq!(told as u64, stats.delivered);
}

#[test]
fn a_hundred_thousand_die_before_a_slow_reader_with_room_for_one() {
    die_before_a_slow_reader(100_000, 2_000);
}

#[test]
#[ignore = "takes a while: cargo test --release --test failures -- --ignored"]
fn a_million_die_before_a_slow_reader_with_room_for_one() {
    die_before_a_slow_reader(1_000_000, 100_000);
}

/// Refuses every event twice, and keeps what it was offered.
#[derive(Clone, Default)]
struct Reluctant {
    /// Every offer, refused or not.
    offers: Arc<Mutex<Vec<KeyEvent<u64>>>>,
}

impl Sink<u64, ()> for Reluctant {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        let mut offers = self.offers.lock();
        offers.push(event.key_event().unwrap().clone());
        if offers.len().is_multiple_of(3) {
            Ok(())
        } else {
            Err(Refused::Full(event))
        }
    }
}

#[test]
fn a_refused_event_is_offered_again_before_any_other() {
    let clock = ManualClock::new();
    let sink = Reluctant::default();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .mode(Mode::Repeat)
        .events([EventKind::Joined, EventKind::Expired, EventKind::Removed])
        .workers(1)
        .clock(clock.clone())
        .sink(sink.clone())
        .build()
        .unwrap();
    watcher.beat(1u64).unwrap();
    watcher
        .beat_with(2u64, Options::new().mode(Mode::Once))
        .unwrap();
    watcher.remove(&3).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    for _ in 0..20 {
        watcher.flush().unwrap();
    }
    let offers = std::mem::take(&mut *sink.offers.lock());
    let keys: Vec<u64> = offers.iter().map(|event| event.key).collect();
    assert_eq!(keys, [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
    for of_one in offers.chunks(3) {
        let mut first = of_one[0].clone();
        assert!(of_one.iter().all(|event| event.delivered >= first.detected));
        // Only the moment of the offer changes.
        for event in of_one {
            first.delivered = event.delivered;
            assert_eq!(event, &first);
        }
    }
    let stats = watcher.stats();
    assert_eq!((stats.pending, stats.delivered, stats.live), (0, 1, 1));
}

#[test]
fn a_channel_without_a_receiver_discards_and_counts() {
    let clock = ManualClock::new();
    let (watcher, events): (_, Receiver<Event<u64>>) = Watcher::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    watcher.beat_many(0..100u64).unwrap();
    watcher.flush().unwrap();
    drop(events);
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    watcher.beat(7u64).unwrap();
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!((stats.discarded, stats.pending, stats.live), (100, 0, 1));
    assert!(stats.is_balanced());
}

#[test]
fn a_slow_callback_delays_no_beat_and_loses_no_event() {
    let clock = ManualClock::new();
    let (gate, opened) = bounded::<()>(0);
    let (told, keys) = bounded(10_000);
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .on_event(move |event| {
            let _ = opened.recv();
            told.send(*event.key().unwrap()).unwrap();
        })
        .build()
        .unwrap();
    let gate = gate; // goes before the watcher, also when an assertion fails
    // More than the delivery thread takes over at once.
    watcher.beat_many(0..5_000u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    go_round(&watcher);
    let stats = watcher.stats();
    assert!(stats.is_balanced() && stats.delivered <= 1, "{stats:?}");
    assert_eq!(stats.pending + stats.delivered, 5_000);
    watcher.beat_many(5_000..10_000u64).unwrap();
    go_round(&watcher);
    assert_eq!(watcher.len(), 5_000);
    drop(gate);
    let mut all: Vec<u64> = (0..5_000)
        .map(|_| keys.recv_timeout(GENEROUS).unwrap())
        .collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..5_000));
    watcher.flush().unwrap(); // workers count a round at its end
    assert_eq!(watcher.stats().pending, 0);
}

#[test]
fn a_flush_returns_while_a_slow_callback_on_the_worker_is_given_ever_more_to_do() {
    let clock = ManualClock::new();
    let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
        let (itself, clock) = (itself.clone(), clock.clone());
        Watcher::builder()
            .timeout(TIMEOUT)
            .workers(1)
            .clock(clock.clone())
            .events([EventKind::Beat])
            .on_event_in_worker(move |_| {
                // By the watcher's clock a call takes longer than a round of delivery may.
                clock.advance(Duration::from_millis(2));
                // One event leaves the queue, and one comes.
                let _ = itself.upgrade().map(|watcher| watcher.beat(7u64));
            })
            .build()
            .unwrap()
    });
    watcher.beat_many([7u64; 20]).unwrap();
    let (done, is_done) = bounded(1);
    let flushing = thread::spawn({
        let watcher = watcher.clone();
        move || done.send(watcher.flush())
    });
    let flushed = is_done.recv_timeout(GENEROUS);
    watcher.close();
    flushing.join().unwrap().unwrap();
    assert_eq!(flushed, Ok(Ok(())));
}

#[test]
fn a_flush_waits_for_more_events_than_the_outbox_has_room_for() {
    let clock = ManualClock::new();
    let called = Arc::new(AtomicU64::new(0));
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .on_event({
            let called = called.clone();
            move |_| {
                thread::yield_now();
                called.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    watcher.beat_many(0..10_000u64).unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 10_000);
    let stats = watcher.stats();
    assert_eq!((stats.pending, stats.delivered), (0, 10_000));
}
