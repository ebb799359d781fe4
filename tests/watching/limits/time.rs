//! The shortest and longest timeouts, clocks old and backwards.

use std::time::Duration;

use crossbeam_channel::Receiver;
use liveness::{Event, LocalWatcher, ManualClock, Options, Timestamp, Watcher};

use super::{TICK, TIMEOUT};

/// The last point in time that a watcher can tell, 584 years after the origin of its clock.
const END: Duration = Duration::from_nanos(u64::MAX);

/// Points in time that have broken timers: about 2^31, 2^32, 2^36 and 2^42 ms, and the same powers of two in
/// nanoseconds.
fn awkward_times() -> impl Iterator<Item = Duration> {
    let about = |at: Duration| [at - TICK, at, at + TICK, at - TIMEOUT / 2];
    let powers = [31u32, 32, 36, 42].into_iter().flat_map(move |power| {
        [
            Duration::from_millis(1 << power),
            Duration::from_nanos(1 << power),
        ]
    });
    powers
        .chain([Duration::from_nanos(1 << 63)])
        .flat_map(move |at| if at > TIMEOUT { about(at) } else { [at; 4] })
}

/// Timeouts from the shortest to the longest.
fn awkward_timeouts() -> [Duration; 12] {
    [
        TICK,
        TICK * 2,
        TICK * 3,
        Duration::from_micros(1),
        Duration::from_millis(1),
        Duration::from_millis(1 << 31),
        Duration::from_millis((1 << 32) + 1),
        Duration::from_millis(1 << 36),
        Duration::from_millis(1 << 42),
        Duration::from_nanos(u64::MAX - 1),
        END,
        Duration::MAX,
    ]
}

#[test]
fn every_timeout_holds_exactly_or_never_ends_at_every_age_of_the_clock() {
    for timeout in awkward_timeouts() {
        for at in awkward_times().chain([END - TIMEOUT, END - TICK, END]) {
            let mut watcher = LocalWatcher::<u64>::builder()
                .timeout(timeout)
                .build()
                .unwrap();
            watcher.beat(1u64, at).unwrap();
            let deadline = at.checked_add(timeout).filter(|&deadline| deadline < END);
            assert_eq!(
                watcher.status(&1).unwrap().deadline,
                deadline.map(Timestamp::from)
            );
            assert_eq!(
                watcher.next_deadline(),
                deadline.map(Timestamp::from),
                "{timeout:?} at {at:?}"
            );
            let mut told = Vec::new();
            let Some(deadline) = deadline else {
                watcher.poll(END, |event| told.push(event));
                watcher.poll(Duration::MAX, |event| told.push(event));
                assert!(
                    told.is_empty(),
                    "{timeout:?} at {at:?}: overflow means never"
                );
                continue;
            };
            watcher.poll(deadline - TICK, |event| told.push(event));
            assert!(told.is_empty(), "{timeout:?} at {at:?} is early");
            watcher.poll(deadline, |event| told.push(event));
            assert_eq!(told.len(), 1, "{timeout:?} at {at:?}");
            assert_eq!(told[0].key_event().unwrap().deadline, Some(deadline.into()));
        }
    }
}

/// A watcher of one worker, stepped by hand from `at` on.
fn manual_at(
    at: Duration,
    timeout: Duration,
    capacity: usize,
) -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    clock.set(at);
    let (watcher, events) = Watcher::builder()
        .timeout(timeout)
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(capacity)
        .unwrap();
    (clock, watcher, events)
}

#[test]
fn beats_and_hearts_are_watched_across_every_awkward_age_of_the_clock() {
    for at in awkward_times() {
        let (clock, watcher, events) = manual_at(at, TIMEOUT, 16);
        watcher.beat(1u64).unwrap();
        let heart = watcher.watch(2u64).unwrap();
        watcher.flush().unwrap();
        for _ in 0..3 {
            clock.advance(TIMEOUT - TICK);
            watcher.beat(1u64).unwrap();
            heart.beat().unwrap();
            watcher.flush().unwrap();
        }
        clock.advance(TIMEOUT - TICK);
        watcher.flush().unwrap();
        assert!(events.is_empty(), "early at {at:?}");
        clock.advance(TICK);
        watcher.flush().unwrap();
        assert_eq!(events.len(), 2, "late at {at:?}");
    }
}

#[test]
fn in_real_time_the_longest_timeouts_wait_and_the_shortest_do_not() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::MAX)
        .workers(1)
        .build_with_channel(16)
        .unwrap();
    let with = |timeout| Options::new().timeout(timeout);
    for (key, timeout) in (0u64..).zip(awkward_timeouts()) {
        watcher.beat_with(key, with(timeout)).unwrap();
        watcher
            .watch_with(100 + key, with(timeout))
            .unwrap()
            .detach();
    }
    watcher.watch(1_000u64).unwrap().detach();
    let mut keys: Vec<u64> = (0..10)
        .map(|_| *events.recv_timeout(TIMEOUT * 2).unwrap().key().unwrap())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]);
    watcher.flush().unwrap();
    assert!(events.is_empty());
    let status = watcher.status(&1_000).unwrap().unwrap();
    assert_eq!((status.timeout, status.deadline), (Duration::MAX, None));
}

#[test]
fn a_watcher_at_the_end_of_time_neither_expires_nor_fails() {
    let (clock, watcher, events) = manual_at(END - TIMEOUT, TIMEOUT / 2, 1);
    watcher.beat_many(0..3u64).unwrap();
    watcher.flush().unwrap();
    // Two events find the channel full, with less than a moment left to try again.
    clock.set(END - TICK);
    watcher.flush().unwrap();
    watcher.flush().unwrap();
    watcher.beat(9u64).unwrap();
    let heart = watcher.watch(10u64).unwrap();
    clock.advance(TIMEOUT);
    assert_eq!(clock.now(), END.into(), "there is no later time");
    for _ in 0..3 {
        watcher.flush().unwrap();
        events.try_recv().unwrap();
    }
    watcher.flush().unwrap();
    assert!(events.is_empty());
    assert_eq!(heart.beat(), Ok(()));
    assert_eq!(watcher.status(&9).unwrap().unwrap().deadline, None);
    let stats = watcher.close();
    assert_eq!(
        (stats.live, stats.delivered, stats.failed_workers),
        (2, 3, 0)
    );
}

#[test]
fn of_two_keys_with_one_timeout_only_the_deadline_that_can_be_told_comes() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(TIMEOUT)
        .build()
        .unwrap();
    watcher.beat(1u64, END - TIMEOUT - TICK).unwrap();
    watcher.beat(2u64, END - TIMEOUT / 2).unwrap();
    assert_eq!(watcher.next_deadline(), Some((END - TICK).into()));
    let mut told = Vec::new();
    for now in [END - TICK * 2, END - TICK, END, Duration::MAX] {
        watcher.poll(now, |event| told.extend(event.key().copied()));
        assert_eq!(told.len(), usize::from(now >= END - TICK));
    }
    assert_eq!((told, watcher.next_deadline()), (vec![1], None));
    assert!(watcher.contains(&2));
}

#[test]
fn a_clock_that_goes_backwards_stands_still() {
    let (clock, watcher, events) = manual_at(Duration::from_secs(100), TIMEOUT, 16);
    watcher.beat_many([1u64, 2, 3]).unwrap();
    let heart = watcher.watch(4u64).unwrap();
    watcher.flush().unwrap();
    clock.set(Duration::from_secs(105));
    watcher.flush().unwrap();

    clock.set(Duration::from_secs(50));
    // Neither a beat nor a question brings the time back, and no key is reported because of it.
    watcher.beat(2u64).unwrap();
    heart.beat().unwrap();
    watcher.beat(5u64).unwrap();
    let young = watcher.watch(6u64).unwrap();
    watcher.flush().unwrap();
    watcher.flush().unwrap();
    assert!(events.is_empty(), "{:?}", events.try_recv());
    assert_eq!(watcher.len(), 6);

    // The time goes on from where it stood. No deadline is earlier than it was, and none has come.
    clock.set(Duration::from_secs(110) - TICK);
    watcher.flush().unwrap();
    assert!(events.is_empty(), "{:?}", events.try_recv());
    clock.set(Duration::from_secs(200));
    watcher.flush().unwrap();
    assert_eq!(events.len(), 6, "and all are reported in the end");
    assert!(!heart.is_watched() && !young.is_watched());
    for event in events.try_iter() {
        let event = event.into_key_event().unwrap();
        assert!(event.delivered >= event.detected);
        assert!(event.deadline.unwrap() >= Duration::from_secs(110).into());
    }
}
