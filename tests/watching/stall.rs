//! Stalls: a watcher that did not run for a while holds expiry back, tells so, and still reports the dead.
//!
//! Stopping a whole process is tested with the other faults of earlier systems. Here a callback on the worker keeps it
//! from running.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use liveness::{Builder, Event, EventKind, KeyEvent, ManualClock, Mode, Options, Stall, Watcher};

use crate::GENEROUS;

/// The key whose expiry keeps the worker busy.
const HOG: u64 = u64::MAX;

/// A watcher with one worker that every expiry of the hog keeps for `busy`, and all it tells.
fn hogged(builder: Builder<u64>, busy: Duration) -> (Watcher<u64>, Receiver<Event<u64>>) {
    let (tell, told) = unbounded();
    let watcher = builder
        .workers(1)
        .events([EventKind::Expired, EventKind::Stalled])
        .on_event_in_worker(move |event: Event<u64>| {
            let is_hog = event.key() == Some(&HOG);
            tell.send(event).unwrap();
            if is_hog {
                thread::sleep(busy);
            }
        })
        .build()
        .unwrap();
    (watcher, told)
}

/// What is reported next of a key. A busy machine may add stalls of its own between, which hold back for longer.
fn next_key_event(told: &Receiver<Event<u64>>) -> KeyEvent<u64> {
    std::iter::from_fn(|| told.recv_timeout(GENEROUS).ok())
        .find_map(Event::into_key_event)
        .expect("a key is told of")
}

/// The next stall of at least this length that is reported.
fn next_stall(told: &Receiver<Event<u64>>, length: Duration) -> Stall {
    std::iter::from_fn(|| told.recv_timeout(GENEROUS).ok())
        .find_map(|event| match event {
            Event::Stalled(stall) if stall.resumed - stall.last_alive >= length => Some(stall),
            _ => None,
        })
        .expect("a stall is told")
}

#[test]
fn after_a_stall_no_key_expires_before_it_had_time_to_be_heard() {
    let busy = Duration::from_millis(400);
    let timeout = Duration::from_millis(150);
    // Once the hog is due while its beat has just been taken, once while the worker wakes for nothing else.
    for hog_timeout in [Duration::from_nanos(1), Duration::from_millis(50)] {
        let builder = Watcher::builder().timeout(timeout);
        let (watcher, told) = hogged(builder, busy);
        watcher.beat_many(0..50u64).unwrap();
        let hearts: Vec<_> = (50..100u64)
            .map(|key| watcher.watch(key).unwrap())
            .collect();
        watcher
            .beat_with(HOG, Options::new().timeout(hog_timeout))
            .unwrap();

        let stall = next_stall(&told, busy);
        assert_eq!((stall.worker, stall.held_for), (0, timeout));
        for _ in 0..100 {
            let event = next_key_event(&told);
            assert!(
                event.detected >= stall.resumed + timeout,
                "{event:?} after {stall:?}"
            );
            // Nor is anybody held back for much longer.
            assert!(event.detected < stall.resumed + timeout + GENEROUS);
        }
        drop(hearts);
        assert!(watcher.stats().stalls >= 1);
    }
}

#[test]
fn a_stall_that_is_long_only_for_short_timeouts_is_noticed() {
    for hog_timeout in [Duration::from_nanos(1), Duration::from_millis(10)] {
        // Less than the threshold of 100 ms, more than a quarter of the timeout.
        let busy = Duration::from_millis(80);
        let (watcher, told) = hogged(Watcher::builder(), busy);
        let timeout = Duration::from_millis(60);
        watcher
            .beat_with(1u64, Options::new().timeout(timeout))
            .unwrap();
        watcher
            .beat_with(HOG, Options::new().timeout(hog_timeout))
            .unwrap();
        let stall = next_stall(&told, busy);
        assert!(stall.held_for >= timeout, "{stall:?}");
        let event = next_key_event(&told);
        assert_eq!(event.key, 1);
        assert!(
            event.detected >= stall.resumed + timeout,
            "{event:?} after {stall:?}"
        );
    }
}

#[test]
fn keys_that_beat_on_after_a_stall_are_not_reported() {
    let timeout = Duration::from_secs(1);
    let busy = timeout + timeout / 4;
    let builder = Watcher::builder()
        .timeout(timeout)
        .stall_threshold(Duration::from_millis(50));
    let (watcher, told) = hogged(builder, busy);
    watcher.beat_many(0..100u64).unwrap();
    let heart = watcher.watch(100u64).unwrap();
    watcher
        .beat_with(HOG, Options::new().timeout(Duration::from_nanos(1)))
        .unwrap();
    // Every sender was as deaf as the worker, and all deadlines have passed.
    let stall = next_stall(&told, busy);
    watcher.beat_many(0..50u64).unwrap();
    heart.beat().unwrap();
    watcher.flush().unwrap();
    let beaten = watcher
        .status(&0)
        .unwrap()
        .expect("it was in time")
        .last_beat;
    assert!(beaten >= stall.resumed);
    let mut dead = Vec::new();
    while dead.len() < 50 {
        let event = next_key_event(&told);
        assert!(
            event.key >= 50 || event.last_beat >= beaten,
            "{event:?} after {stall:?}"
        );
        dead.extend((50..100).contains(&event.key).then_some(event.key));
    }
    dead.sort_unstable();
    assert!(dead.into_iter().eq(50..100));
}

#[test]
fn a_key_gets_no_more_grace_than_its_own_timeout() {
    let busy = Duration::from_millis(500);
    let builder = Watcher::builder().timeout(Duration::from_secs(3_600));
    let (watcher, told) = hogged(builder, busy);
    let mortal = |ms| Options::new().timeout(Duration::from_millis(ms));
    for key in 1..=4u64 {
        watcher.beat_with(key, mortal(100 * key)).unwrap();
    }
    watcher.beat_with(HOG, mortal(1)).unwrap();
    let stall = next_stall(&told, busy);
    let events: Vec<_> = (0..4).map(|_| next_key_event(&told)).collect();
    // All deadlines lay in the stall. They keep their order, and each waits as long as it would have waited anew.
    for (event, key) in events.iter().zip(1..) {
        assert_eq!(event.key, key);
        assert!(event.detected >= stall.resumed + event.timeout);
        assert_eq!(event.deadline, Some(event.last_beat + event.timeout));
    }
}

#[test]
fn a_cap_of_zero_tells_stalls_and_holds_nothing_back() {
    let busy = Duration::from_millis(400);
    let builder = Watcher::builder()
        .timeout(Duration::from_millis(200))
        .stall_cap(Duration::ZERO);
    let (watcher, told) = hogged(builder, busy);
    watcher.beat(1u64).unwrap();
    watcher
        .beat_with(HOG, Options::new().timeout(Duration::from_nanos(1)))
        .unwrap();
    let stall = next_stall(&told, busy);
    assert_eq!(stall.held_for, Duration::ZERO);
    let event = next_key_event(&told);
    assert_eq!((event.key, event.detected), (1, stall.resumed));
}

#[test]
fn a_threshold_of_zero_looks_for_no_stalls() {
    let builder = Watcher::builder()
        .timeout(Duration::from_millis(200))
        .stall_threshold(Duration::ZERO);
    let (watcher, told) = hogged(builder, Duration::from_millis(400));
    watcher.beat(1u64).unwrap();
    watcher
        .beat_with(HOG, Options::new().timeout(Duration::from_nanos(1)))
        .unwrap();
    let keys: Vec<_> = (0..2)
        .map(|_| *told.recv_timeout(GENEROUS).unwrap().key().unwrap())
        .collect();
    assert_eq!(keys, [HOG, 1]);
    assert_eq!(watcher.close().stalls, 0);
}

#[test]
fn a_stall_below_the_threshold_is_none() {
    let builder = Watcher::builder()
        .timeout(Duration::from_secs(3_600))
        .stall_threshold(GENEROUS);
    let (watcher, told) = hogged(builder, Duration::from_millis(150));
    watcher
        .beat_with(HOG, Options::new().timeout(Duration::from_nanos(1)))
        .unwrap();
    told.recv_timeout(GENEROUS).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.close().stalls, 0);
}

/// A key that takes its time to be compared.
#[expect(
    clippy::derived_hash_with_manual_eq,
    reason = "equal as derived, only slower"
)]
#[derive(Clone, Debug, Hash)]
struct Slow(u64);

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(100) {}
        self.0 == other.0
    }
}

impl Eq for Slow {}

#[test]
fn a_worker_that_has_much_to_do_is_not_taken_for_stalled() {
    let stalls = |threshold: Duration| {
        let watcher = Watcher::<Slow>::builder()
            .timeout(Duration::from_secs(3_600))
            .workers(1)
            .stall_threshold(threshold)
            .build()
            .unwrap();
        // The worker finds all but the first message of keys at once, and is busy with them for twice the threshold.
        let keys = threshold.as_micros() as u64 / 100 * 5 / 2;
        let began = Instant::now();
        for _ in 0..2 {
            watcher.beat_many((0..keys).map(Slow)).unwrap();
            watcher.flush().unwrap();
        }
        assert!(began.elapsed() > threshold * 5 / 2);
        watcher.stats().stalls
    };
    // A machine that lets the worker wait for so long is given other chances.
    let mut thresholds = [200, 400, 800, 1_600]
        .map(Duration::from_millis)
        .into_iter();
    assert!(thresholds.any(|threshold| stalls(threshold) == 0));
}

#[test]
fn time_moved_by_hand_is_never_a_stall() {
    let timeout = Duration::from_secs(1);
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(timeout)
        .events([EventKind::Expired, EventKind::Stalled])
        .clock(clock.clone())
        .build_with_channel(64)
        .unwrap();
    for _ in 0..10 {
        watcher.beat(1u64).unwrap();
        let heart = watcher.watch(2u64).unwrap();
        // The workers have time to fall asleep before the time jumps.
        watcher.flush().unwrap();
        watcher.flush().unwrap();
        clock.advance(Duration::from_secs(3_600));
        watcher.flush().unwrap();
        let mut keys: Vec<_> = events
            .try_iter()
            .map(|event| event.key().copied())
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, [Some(1), Some(2)]);
        drop(heart);
    }
    assert_eq!(watcher.stats().stalls, 0);
}

#[test]
fn a_watcher_that_stalls_for_ever_still_reports_the_dead() {
    // The hog misses a millisecond, is reported, and keeps the worker for fifty: it stalls all the time.
    let builder = Watcher::builder()
        .timeout(Duration::from_millis(300))
        .stall_threshold(Duration::from_millis(10))
        .stall_cap(Duration::from_millis(500));
    let (watcher, told) = hogged(builder, Duration::from_millis(50));
    let hog = Options::new()
        .timeout(Duration::from_millis(1))
        .mode(Mode::Repeat);
    watcher.beat_with(HOG, hog).unwrap();
    next_stall(&told, Duration::from_millis(50));
    watcher.beat(1u64).unwrap();
    let dead = std::iter::from_fn(|| told.recv_timeout(GENEROUS).ok())
        .find(|event| event.key() == Some(&1));
    let dead = dead.unwrap().into_key_event().unwrap();
    assert!(dead.lateness() < GENEROUS, "{dead:?}");
    assert!(watcher.stats().stalls > 1);
}

#[test]
fn a_long_snapshot_is_work_and_no_stall() {
    /// A key whose copy takes a millisecond.
    #[derive(PartialEq, Eq, Hash)]
    struct Slow(u32);

    impl Clone for Slow {
        fn clone(&self) -> Self {
            thread::sleep(Duration::from_millis(1));
            Slow(self.0)
        }
    }

    let threshold = Duration::from_millis(400);
    let watcher = Watcher::<Slow>::builder()
        .workers(1)
        .stall_threshold(threshold)
        .build()
        .unwrap();
    watcher.beat_many((0..1_000).map(Slow)).unwrap();
    watcher.flush().unwrap();
    let began = Instant::now();
    assert_eq!(watcher.snapshot().unwrap().len(), 1_000);
    watcher.flush().unwrap();
    assert!(began.elapsed() > threshold);
    assert_eq!(watcher.stats().stalls, 0);
}
