//! When keys expire: exactly at their timeout by the clock, never early, and soon after in real time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use liveness::{Builder, Event, EventKind, ManualClock, Mode, Options, Watcher};

use crate::GENEROUS;

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// A watcher that is stepped by hand.
fn manual() -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(1_024)
        .unwrap();
    (clock, watcher, events)
}

/// The keys that have expired by now, sorted.
fn expired(watcher: &Watcher<u64>, events: &Receiver<Event<u64>>) -> Vec<u64> {
    watcher.flush().unwrap();
    let mut keys: Vec<u64> = events
        .try_iter()
        .map(|event| *event.key().unwrap())
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_key_expires_at_its_timeout_and_not_a_nanosecond_before() {
    let (clock, watcher, events) = manual();
    clock.set(Duration::from_nanos(123_456_789));
    watcher.beat(1u64).unwrap();
    watcher.try_beat(2u64).unwrap();
    watcher.beat_timeout(3u64, GENEROUS).unwrap();
    watcher.beat_many([4u64, 5]).unwrap();
    let heart = watcher.watch(6u64).unwrap();
    let twice = Options::new().timeout(TIMEOUT * 2);
    watcher.beat_with(7u64, twice.clone()).unwrap();
    let slow_heart = watcher.watch_with(8u64, twice).unwrap();

    clock.advance(TIMEOUT - TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TICK);
    assert_eq!(expired(&watcher, &events), [1, 2, 3, 4, 5, 6]);
    clock.advance(TIMEOUT - TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TICK);
    assert_eq!(expired(&watcher, &events), [7, 8]);
    assert!(!heart.is_watched() && !slow_heart.is_watched());
}

#[test]
fn a_beat_begins_the_whole_timeout_anew() {
    let (clock, watcher, events) = manual();
    watcher.beat_many(1..=4u64).unwrap();
    let heart = watcher.watch(5u64).unwrap();
    watcher.flush().unwrap();
    // A tick before the deadline, so that the beat is the only thing that saves the keys.
    clock.advance(TIMEOUT - TICK);
    watcher.beat(1u64).unwrap();
    watcher.try_beat(2u64).unwrap();
    watcher.beat_many([3u64]).unwrap();
    watcher.beat_with(4u64, Options::new()).unwrap();
    heart.beat().unwrap();

    clock.advance(TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TIMEOUT - TICK - TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TICK);
    assert_eq!(expired(&watcher, &events), [1, 2, 3, 4, 5]);
}

#[test]
fn a_timeout_given_later_counts_from_the_last_beat() {
    let (clock, watcher, events) = manual();
    watcher.beat_many([1u64, 2]).unwrap();
    clock.advance(Duration::from_secs(5));
    watcher
        .beat_with(1u64, Options::new().timeout(Duration::from_secs(1)))
        .unwrap();
    watcher
        .beat_with(2u64, Options::new().timeout(Duration::from_secs(60)))
        .unwrap();
    clock.advance(Duration::from_secs(1) - TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TICK);
    assert_eq!(expired(&watcher, &events), [1]);
    clock.advance(Duration::from_secs(59) - TICK);
    assert!(expired(&watcher, &events).is_empty());
    clock.advance(TICK);
    assert_eq!(expired(&watcher, &events), [2]);
}

#[test]
fn an_expiry_tells_all_that_is_known_of_the_episode() {
    let (clock, watcher, events) = manual();
    clock.set(Duration::from_secs(100));
    watcher.beat(1u64).unwrap();
    clock.advance(Duration::from_secs(4));
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT + Duration::from_millis(7));
    watcher.flush().unwrap();
    let event = events.try_recv().unwrap();
    assert_eq!(event.kind(), EventKind::Expired);
    let event = event.into_key_event().unwrap();
    assert_eq!((event.key, event.extra, event.mode), (1, None, Mode::Once));
    assert_eq!(event.generation.get(), 1);
    assert_eq!(event.joined, Duration::from_secs(100).into());
    assert_eq!(event.last_beat, Duration::from_secs(104).into());
    assert_eq!(event.timeout, TIMEOUT);
    assert_eq!(event.deadline, Some(Duration::from_secs(114).into()));
    assert_eq!(event.detected, Duration::from_millis(114_007).into());
    assert_eq!(event.delivered, Duration::from_millis(114_007).into());
    assert_eq!((event.misses, event.down_for), (1, None));
}

#[test]
fn lateness_and_silence_are_told_by_the_event_and_the_stats() {
    let (clock, watcher, events) = manual();
    watcher.beat_many(0..100u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT + Duration::from_millis(7));
    watcher.flush().unwrap();
    for event in events.try_iter() {
        let event = event.into_key_event().unwrap();
        assert_eq!(event.lateness(), Duration::from_millis(7));
        assert_eq!(event.silence(), TIMEOUT + Duration::from_millis(7));
    }
    let stats = watcher.stats();
    assert_eq!(
        (stats.detection.count(), stats.delivery.count()),
        (100, 100)
    );
    assert_eq!(stats.detection.max(), Duration::from_millis(7));
    assert_eq!(stats.delivery.max(), Duration::from_millis(7));
    assert_eq!(stats.expiries, 100);
}

#[test]
fn in_real_time_no_key_is_reported_early_and_none_is_forgotten() {
    let (watcher, events) = Watcher::<u64>::builder()
        .workers(2)
        .build_with_channel(1_024)
        .unwrap();
    let mut began = HashMap::new();
    for key in 0..400u64 {
        let timeout = Duration::from_micros(500 + key * 250);
        began.insert(key, (Instant::now(), timeout));
        if key % 2 == 0 {
            watcher
                .beat_with(key, Options::new().timeout(timeout))
                .unwrap();
        } else {
            watcher
                .watch_with(key, Options::new().timeout(timeout))
                .unwrap()
                .detach();
        }
    }
    while !began.is_empty() {
        let event = events
            .recv_timeout(GENEROUS)
            .unwrap()
            .into_key_event()
            .unwrap();
        let (since, timeout) = began.remove(&event.key).expect("each key once");
        assert!(since.elapsed() >= timeout, "key {} came early", event.key);
        let deadline = event.deadline.unwrap();
        assert_eq!(deadline, event.last_beat + timeout);
        assert!(deadline <= event.detected && event.detected <= event.delivered);
        assert!(event.lateness() < GENEROUS);
    }
}

/// Floods the worker of a watcher of `builder` with beats, and returns how late the deaths of three keys with `timeout`
/// were delivered meanwhile.
fn lateness_in_a_flood(builder: Builder<u64>, timeout: Duration) -> Vec<Duration> {
    let (watcher, events) = builder
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .build_with_channel(64)
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    watcher.beat_many(0..1_000u64).unwrap();
                }
            });
        }
        let deaths = (5_000..5_003u64).map_while(|key| {
            let options = Options::new().timeout(timeout);
            watcher.beat_with(key, options).unwrap();
            // The senders stop only after the last: each event has to come while they go on.
            let event = events.recv_timeout(GENEROUS).ok()?.into_key_event()?;
            (event.key == key).then(|| event.lateness())
        });
        let lateness = deaths.collect();
        stop.store(true, Ordering::Relaxed);
        lateness
    })
}

#[test]
fn a_flood_of_beats_does_not_keep_the_dead_from_being_reported() {
    let builder = Watcher::builder().stall_threshold(Duration::ZERO);
    let lateness = lateness_in_a_flood(builder, Duration::from_millis(20));
    let late = GENEROUS / 4;
    assert_eq!(lateness.len(), 3);
    assert!(lateness.iter().all(|&by| by < late), "{lateness:?}");
}

#[test]
fn a_worker_that_is_busy_with_a_flood_is_not_taken_for_stalled() {
    for timeout in [20, 400].map(Duration::from_millis) {
        let lateness = lateness_in_a_flood(Watcher::builder(), timeout);
        let late = GENEROUS / 4;
        assert_eq!(lateness.len(), 3);
        assert!(lateness.iter().all(|&by| by < late), "{lateness:?}");
    }
}

#[test]
fn beats_of_watched_keys_do_not_wake_a_sleeping_worker() {
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .build()
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    let before = watcher.stats().wakeups;
    // Fewer than the mark at which a filling inbox wakes its worker.
    for key in 0..1_000u64 {
        watcher.beat(key).unwrap();
    }
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!(stats.applied_beats, 2_000);
    assert!(
        stats.wakeups - before < 20,
        "woke {} times",
        stats.wakeups - before
    );
}
