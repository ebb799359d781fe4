//! The watcher without threads: the same engine, with time as an argument.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use liveness::{Event, EventKind, LocalWatcher, Mode, Options, Timestamp};

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// A watcher that tells of `kinds`.
fn local(kinds: impl IntoIterator<Item = EventKind>) -> LocalWatcher<u64, char> {
    LocalWatcher::builder()
        .timeout(TIMEOUT)
        .events(kinds)
        .build()
        .unwrap()
}

/// What is reported at `now`, as kind and key.
fn told(watcher: &mut LocalWatcher<u64, char>, now: impl Into<Timestamp>) -> Vec<(EventKind, u64)> {
    let mut told = Vec::new();
    watcher.poll(now, |event| {
        told.push((event.kind(), *event.key().unwrap()));
    });
    told
}

#[test]
fn a_key_expires_at_its_timeout_and_not_a_nanosecond_before() {
    let mut watcher = local([EventKind::Expired]);
    let start = Duration::from_secs(5);
    watcher.beat(1u64, start).unwrap();
    assert_eq!(told(&mut watcher, start + TIMEOUT - TICK), []);
    watcher.beat(1u64, start + TIMEOUT - TICK).unwrap();
    assert_eq!(told(&mut watcher, start + TIMEOUT * 2 - TICK * 2), []);
    assert!(watcher.contains(&1));
    assert_eq!(
        told(&mut watcher, start + TIMEOUT * 2 - TICK),
        [(EventKind::Expired, 1)]
    );
    assert!(!watcher.contains(&1) && watcher.is_empty());
}

#[test]
fn the_next_deadline_is_the_earliest_and_a_time_that_has_passed_while_events_wait() {
    let mut watcher = local([EventKind::Expired, EventKind::Joined]);
    assert_eq!(watcher.next_deadline(), None);
    watcher.beat(1u64, TIMEOUT).unwrap();
    assert_eq!(
        watcher.next_deadline(),
        Some(Timestamp::ORIGIN),
        "it has joined"
    );
    assert_eq!(told(&mut watcher, TIMEOUT), [(EventKind::Joined, 1)]);
    assert_eq!(watcher.next_deadline(), Some((TIMEOUT * 2).into()));
    let soon = Options::new().timeout(TIMEOUT / 10);
    watcher.beat_with(2u64, TIMEOUT, soon).unwrap();
    told(&mut watcher, TIMEOUT);
    assert_eq!(
        watcher.next_deadline(),
        Some((TIMEOUT + TIMEOUT / 10).into())
    );
    watcher.beat(2u64, TIMEOUT + TIMEOUT / 20).unwrap();
    assert_eq!(
        watcher.next_deadline(),
        Some((TIMEOUT + TIMEOUT / 10 + TIMEOUT / 20).into())
    );
    assert!(watcher.remove(&2, TIMEOUT + TIMEOUT / 20));
    assert_eq!(watcher.next_deadline(), Some((TIMEOUT * 2).into()));
    told(&mut watcher, TIMEOUT * 2);
    assert_eq!(watcher.next_deadline(), None);
}

#[test]
fn following_the_deadlines_misses_none_and_wakes_for_nothing() {
    let mut watcher = local([EventKind::Expired]);
    for key in 0..500u64 {
        let timeout = Duration::from_nanos(1 + key * 7_919 % 1_000);
        watcher
            .beat_with(key, Duration::ZERO, Options::new().timeout(timeout))
            .unwrap();
    }
    let mut count = 0;
    while let Some(deadline) = watcher.next_deadline() {
        let expired = told(&mut watcher, deadline);
        assert!(!expired.is_empty(), "woken for nothing at {deadline:?}");
        count += expired.len();
    }
    assert_eq!(count, 500);
}

#[test]
fn removal_says_whether_there_was_something_to_end() {
    let mut watcher = local([EventKind::Expired, EventKind::Removed]);
    assert!(!watcher.remove(&1, Duration::ZERO));
    watcher.beat(1u64, Duration::ZERO).unwrap();
    assert!(watcher.remove(&1, TICK));
    assert!(!watcher.remove(&1, TICK));
    assert_eq!(told(&mut watcher, TIMEOUT * 2), [(EventKind::Removed, 1)]);
}

#[test]
fn options_modes_and_recovery_work_as_with_threads() {
    let mut watcher = local([EventKind::Expired, EventKind::Recovered]);
    let options = Options::new()
        .mode(Mode::Repeat)
        .timeout(TIMEOUT / 2)
        .extra('x');
    watcher.beat_with(1u64, Duration::ZERO, options).unwrap();
    assert_eq!(told(&mut watcher, TIMEOUT / 2), [(EventKind::Expired, 1)]);
    assert_eq!(told(&mut watcher, TIMEOUT), [(EventKind::Expired, 1)]);
    assert_eq!(watcher.status(&1).unwrap().misses, 2);
    watcher.beat(1u64, TIMEOUT + TICK).unwrap();
    let mut events = Vec::new();
    watcher.poll(TIMEOUT + TICK, |event| events.push(event));
    let [Event::Recovered(event)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((event.misses, event.extra), (2, Some('x')));
    assert_eq!(event.down_for, Some(TIMEOUT / 2 + TICK));
}

#[test]
fn a_snapshot_shows_every_watched_key_and_no_other() {
    let mut watcher = local([EventKind::Expired]);
    for key in 0..20u64 {
        watcher.beat(key, Duration::from_secs(key)).unwrap();
    }
    watcher.remove(&15, Duration::from_secs(15));
    told(&mut watcher, TIMEOUT + Duration::from_secs(9));
    let mut keys: Vec<_> = watcher.snapshot().collect();
    keys.sort_by_key(|&(key, _)| key);
    let expected = [10, 11, 12, 13, 14, 16, 17, 18, 19];
    assert!(keys.iter().map(|&(key, _)| key).eq(expected));
    for (key, status) in keys {
        assert_eq!(status.last_beat, Duration::from_secs(key).into());
        assert_eq!(watcher.status(&key), Some(status));
    }
    assert_eq!(watcher.len(), 9);
}

#[test]
fn a_panic_in_the_callback_costs_that_event_only() {
    let mut watcher = local([EventKind::Expired]);
    for key in 0..5u64 {
        watcher.beat(key, Duration::from_nanos(key)).unwrap();
    }
    let poll = || watcher.poll(TIMEOUT * 2, |event| assert_ne!(event.key(), Some(&2)));
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    assert_eq!(watcher.stats().pending, 2);
    assert_eq!(watcher.next_deadline(), Some(Timestamp::ORIGIN));
    let rest = told(&mut watcher, TIMEOUT * 2);
    assert_eq!(rest, [(EventKind::Expired, 3), (EventKind::Expired, 4)]);
    let stats = watcher.stats();
    assert_eq!((stats.delivered, stats.pending), (5, 0));
    assert!(stats.is_balanced());
}

#[test]
fn an_older_beat_moves_no_deadline_back_and_its_options_apply() {
    let mut watcher = local([EventKind::Expired]);
    watcher.beat(1u64, Duration::from_secs(5)).unwrap();
    let options = Options::new().timeout(TIMEOUT * 2).mode(Mode::Repeat);
    watcher
        .beat_with(1u64, Duration::from_secs(4), options)
        .unwrap();
    let status = watcher.status(&1).unwrap();
    assert_eq!(status.last_beat, Duration::from_secs(5).into());
    assert_eq!((status.timeout, status.mode), (TIMEOUT * 2, Mode::Repeat));
    assert_eq!(watcher.stats().late_beats, 1);
    assert_eq!(
        watcher.next_deadline(),
        Some(Duration::from_secs(25).into())
    );
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut watcher = local([EventKind::Expired]);
    let late = Duration::from_secs(100);
    watcher.beat(1u64, late).unwrap();
    assert_eq!(told(&mut watcher, late), []);
    // A new key is watched from the time that stands still, and does not die of the difference.
    watcher.beat(2u64, Duration::from_secs(50)).unwrap();
    assert_eq!(told(&mut watcher, Duration::from_secs(50)), []);
    assert_eq!(told(&mut watcher, late), []);
    assert_eq!(told(&mut watcher, late + TIMEOUT - TICK), []);
    watcher.poll(late + TIMEOUT, drop);
    watcher.beat(3u64, late + TIMEOUT).unwrap();
    watcher.poll(late + TIMEOUT * 2, drop);
    assert!(watcher.is_empty());
}

#[test]
fn events_are_never_delivered_before_they_are_detected() {
    let mut watcher = local([EventKind::Expired, EventKind::Removed]);
    watcher.beat(1u64, Duration::from_secs(100)).unwrap();
    watcher.remove(&1, Duration::from_secs(101));
    let mut events = Vec::new();
    // Time went backwards before anybody asked.
    watcher.poll(Duration::from_secs(50), |event| {
        events.extend(event.into_key_event());
    });
    assert_eq!(events[0].detected, Duration::from_secs(101).into());
    assert!(events[0].delivered >= events[0].detected, "{:?}", events[0]);
}

#[test]
fn the_accounting_balances() {
    let mut watcher = local([EventKind::Expired]);
    for key in 0..100u64 {
        watcher.beat(key, Duration::from_nanos(key)).unwrap();
        watcher.beat(key, Duration::from_nanos(key)).unwrap();
    }
    for key in 0..10 {
        watcher.remove(&key, TIMEOUT / 2);
    }
    told(&mut watcher, TIMEOUT + Duration::from_nanos(49));
    let stats = watcher.stats();
    assert_eq!((stats.applied_beats, stats.started), (200, 100));
    assert_eq!((stats.live, stats.pending, stats.delivered), (50, 0, 40));
    assert_eq!((stats.removed, stats.discarded), (10, 0));
    assert!(stats.is_balanced());
    assert_eq!(stats.detection.count(), 40);
    assert!(stats.bytes > 0);
}

#[test]
fn one_poll_after_a_long_pause_reports_a_key_and_forgets_it() {
    let s = Duration::from_secs;
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(s(10))
        .mode(Mode::Track)
        .forget_after(s(60))
        .add_events([EventKind::Removed])
        .build()
        .unwrap();
    watcher.beat(7, s(0)).unwrap();
    let mut kinds = Vec::new();
    watcher.poll(s(3_600), |event| kinds.push(event.kind()));
    assert_eq!(kinds, [EventKind::Expired, EventKind::Removed]);
    assert_eq!(watcher.next_deadline(), None);
}

#[test]
fn after_a_stall_of_the_loop_no_key_expires_before_the_length_of_the_gap_has_passed_again() {
    let mut watcher = local([EventKind::Expired]);
    watcher.beat(1u64, Duration::ZERO).unwrap();
    let gap = TIMEOUT / 4;
    let resumed = TIMEOUT + gap;
    assert_eq!(watcher.stalled(TIMEOUT, resumed), gap);
    assert_eq!(told(&mut watcher, resumed + gap - TICK), []);
    let expired = [(EventKind::Expired, 1)];
    assert_eq!(told(&mut watcher, resumed + gap), expired);
}

#[test]
fn grace_after_stalls_of_the_loop_is_capped() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(TIMEOUT)
        .stall_cap(Duration::from_secs(1))
        .build()
        .unwrap();
    watcher.beat(1u64, Duration::ZERO).unwrap();
    let held = watcher.stalled(Duration::ZERO, TIMEOUT);
    assert_eq!(held, Duration::from_secs(1));
}
