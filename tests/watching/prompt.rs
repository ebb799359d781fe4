//! Events that a beat causes come at once, although a beat as such wakes no worker that sleeps.

use std::thread;
use std::time::{Duration, Instant};

use liveness::{Event, EventKind, ManualClock, Mode, Options, Watcher};

/// Longer than any machine is busy; a worker that is not woken sleeps for an hour.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_join_is_told_although_no_deadline_is_near() -> Result<(), Box<dyn std::error::Error>> {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .events([EventKind::Joined])
        .workers(1)
        .build_with_channel(16)?;
    for key in 0..8u64 {
        watcher.beat(key)?;
        let event = events.recv_timeout(PATIENCE)?;
        assert_eq!((event.kind(), event.key()), (EventKind::Joined, Some(&key)));
    }
    Ok(())
}

#[test]
fn a_recovery_is_told_before_the_next_timeout() -> Result<(), Box<dyn std::error::Error>> {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .events([EventKind::Expired, EventKind::Recovered])
        .workers(1)
        .build_with_channel(16)?;
    let short = Options::new()
        .timeout(Duration::from_millis(1))
        .mode(Mode::Repeat);
    watcher.beat_with(7u64, short)?;
    assert_eq!(events.recv_timeout(PATIENCE)?.kind(), EventKind::Expired);
    watcher.beat_with(7u64, Options::new().timeout(Duration::from_secs(3_600)))?;
    let is_recovery = |event: &Event<u64>| event.kind() == EventKind::Recovered;
    while !is_recovery(&events.recv_timeout(PATIENCE)?) {}
    Ok(())
}

#[test]
fn the_counters_of_a_quiet_watcher_follow_without_a_flush() {
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .build()
        .unwrap();
    // From the second beat on nothing but the counters wants the worker to wake: its deadline is an hour away.
    for key in 1..=3u64 {
        let began = Instant::now();
        watcher.beat(key).unwrap();
        while watcher.len() < key as usize {
            assert!(began.elapsed() < PATIENCE, "key {key} does not show");
            thread::yield_now();
        }
        assert_eq!(watcher.stats().applied_beats, key);
    }
}

#[test]
fn a_beat_after_the_next_deadline_of_a_manual_clock_wakes_the_worker() {
    let clock = ManualClock::new();
    let timeout = Duration::from_secs(10);
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(timeout)
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    for key in 2..10u64 {
        clock.advance(timeout);
        watcher.beat(key).unwrap();
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.key(), Some(&(key - 1)));
    }
}

#[test]
fn an_idle_watcher_does_not_wake() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .build_with_channel(1)
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    let before = watcher.stats().wakeups;
    // The time in which a worker that woke for its counters would wake ten times.
    assert!(events.recv_timeout(Duration::from_secs(1)).is_err());
    watcher.flush().unwrap();
    let woke = watcher.stats().wakeups - before;
    assert!(woke <= 4, "woke {woke} times");
}

#[test]
fn moving_a_manual_clock_reports_what_is_due_without_a_flush() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(10))
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    for round in 1..100 {
        watcher.beat(7).unwrap();
        if round % 2 == 0 {
            clock.advance(Duration::from_secs(10));
        } else {
            clock.set(clock.now() + Duration::from_secs(10));
        }
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.key(), Some(&7));
        let Event::Expired(expired) = event else {
            panic!("{event}");
        };
        assert_eq!(expired.lateness(), Duration::ZERO);
    }
}

#[test]
fn moving_a_manual_clock_offers_a_refused_event_again() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(10))
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    watcher.beat_many([1, 2]).unwrap();
    clock.advance(Duration::from_secs(10));
    watcher.flush().unwrap(); // One is in the channel, which has no room for the other.
    events.recv_timeout(PATIENCE).unwrap();
    clock.advance(Duration::from_millis(1));
    events.recv_timeout(PATIENCE).unwrap();
}
