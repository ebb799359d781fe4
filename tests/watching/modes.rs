//! What becomes of a key that expires, and what options a beat can carry.

use std::time::Duration;

use crossbeam_channel::Receiver;
use liveness::{
    BeatErrorKind, Event, EventKind, HeartError, KeyEvent, LocalWatcher, ManualClock, Mode,
    Options, Watcher,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

const ALL: [EventKind; 6] = [
    EventKind::Joined,
    EventKind::Beat,
    EventKind::Expired,
    EventKind::Recovered,
    EventKind::Removed,
    EventKind::Stalled,
];

type Fixture = (ManualClock, Watcher<u64, char>, Receiver<Event<u64, char>>);

/// A watcher of `mode` that is stepped by hand and tells of `kinds` over a channel for `capacity` events.
fn fixture(mode: Mode, kinds: impl IntoIterator<Item = EventKind>, capacity: usize) -> Fixture {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .mode(mode)
        .events(kinds)
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(capacity)
        .unwrap();
    (clock, watcher, events)
}

/// Moves the time on by `by`, and returns what is reported by then.
fn step(fixture: &Fixture, by: Duration) -> Vec<Event<u64, char>> {
    fixture.0.advance(by);
    fixture.1.flush().unwrap();
    fixture.2.try_iter().collect()
}

/// The only one of `events`.
fn only(events: Vec<Event<u64, char>>, kind: EventKind) -> KeyEvent<u64, char> {
    let [event] = <[_; 1]>::try_from(events).unwrap();
    assert_eq!(event.kind(), kind);
    event.into_key_event().unwrap()
}

#[test]
fn an_expired_once_key_is_forgotten_and_its_next_beat_begins_a_new_episode() {
    let fixture = fixture(Mode::Once, [EventKind::Expired], 16);
    let watcher = &fixture.1;
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    let first = only(step(&fixture, TIMEOUT), EventKind::Expired);
    assert!(step(&fixture, TIMEOUT * 5).is_empty());
    assert_eq!(watcher.status(&1).unwrap(), None);
    watcher.beat(1u64).unwrap();
    let status = watcher.status(&1).unwrap().unwrap();
    assert!(status.generation > first.generation);
    assert_eq!(status.joined, (TIMEOUT * 6).into());
    let second = only(step(&fixture, TIMEOUT), EventKind::Expired);
    assert_eq!(second.generation, status.generation);
    assert_eq!(second.misses, 1);
}

#[test]
fn a_repeat_key_is_reported_after_each_further_timeout_of_silence() {
    let fixture = fixture(Mode::Repeat, [EventKind::Expired], 16);
    fixture.1.beat(1u64).unwrap();
    fixture.1.flush().unwrap();
    for misses in 1..=4 {
        assert!(step(&fixture, TIMEOUT - TICK).is_empty());
        let event = only(step(&fixture, TICK), EventKind::Expired);
        assert_eq!((event.misses, event.mode), (misses, Mode::Repeat));
        assert_eq!(event.generation.get(), 1);
        assert_eq!(event.last_beat, Duration::ZERO.into());
        assert_eq!(event.lateness(), Duration::ZERO);
        let status = fixture.1.status(&1).unwrap().unwrap();
        assert_eq!(status.misses, misses);
        assert_eq!(status.last_beat, Duration::ZERO.into());
        assert_eq!(status.deadline, Some(fixture.0.now() + TIMEOUT));
    }
    let stats = fixture.1.stats();
    assert_eq!((stats.started, stats.live, stats.expiries), (1, 1, 4));
}

#[test]
fn a_beat_of_a_key_that_is_down_is_a_recovery() {
    let kinds = [EventKind::Expired, EventKind::Recovered];
    let fixture = fixture(Mode::Repeat, kinds, 16);
    fixture.1.beat(1u64).unwrap();
    fixture.1.flush().unwrap();
    step(&fixture, TIMEOUT);
    step(&fixture, TIMEOUT);
    step(&fixture, Duration::from_secs(3));
    fixture.1.beat(1u64).unwrap();
    let event = only(step(&fixture, Duration::ZERO), EventKind::Recovered);
    assert_eq!(event.misses, 2);
    assert_eq!(event.down_for, Some(Duration::from_secs(13)));
    assert_eq!(event.last_beat, Duration::from_secs(23).into());
    assert_eq!(event.deadline, Some(Duration::from_secs(33).into()));
    assert_eq!(event.lateness(), Duration::ZERO);
    assert_eq!(fixture.1.status(&1).unwrap().unwrap().misses, 0);

    fixture.1.beat(1u64).unwrap();
    assert!(step(&fixture, TIMEOUT - TICK).is_empty(), "up already");
    let event = only(step(&fixture, TICK), EventKind::Expired);
    assert_eq!(event.misses, 1, "the count begins anew");
}

#[test]
fn a_repeat_report_that_waits_for_the_sink_tells_the_misses_of_the_moment_it_is_taken() {
    let kinds = [EventKind::Expired];
    let fixture = fixture(Mode::Repeat, kinds, 1);
    let (clock, watcher, events) = &fixture;
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    // The first report fills the channel, the next three are due while it is full.
    for _ in 0..4 {
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
    }
    assert_eq!(events.try_recv().unwrap().key_event().unwrap().misses, 1);
    let event = only(step(&fixture, Duration::ZERO), EventKind::Expired);
    assert_eq!(event.misses, 4);
    assert!(step(&fixture, Duration::ZERO).is_empty());
}

#[test]
fn options_hold_for_the_episode_and_plain_beats_keep_them() {
    let fixture = fixture(Mode::Once, [EventKind::Expired], 16);
    let watcher = &fixture.1;
    let options = Options::new()
        .timeout(Duration::from_secs(2))
        .mode(Mode::Repeat)
        .extra('a');
    watcher.beat_with(1u64, options).unwrap();
    watcher.beat(1u64).unwrap();
    watcher.beat_many([1u64]).unwrap();
    watcher.flush().unwrap();
    let event = only(step(&fixture, Duration::from_secs(2)), EventKind::Expired);
    assert_eq!((event.extra, event.mode), (Some('a'), Mode::Repeat));
    assert_eq!(event.timeout, Duration::from_secs(2));

    // What is not given anew stays.
    watcher.beat_with(1u64, Options::new().extra('b')).unwrap();
    let status = watcher.status(&1).unwrap().unwrap();
    assert_eq!(
        (status.timeout, status.mode),
        (Duration::from_secs(2), Mode::Repeat)
    );
    let event = only(step(&fixture, Duration::from_secs(2)), EventKind::Expired);
    assert_eq!(event.extra, Some('b'));

    // A key that is made `Once` while it is down is up by that beat, and expires once more.
    watcher
        .beat_with(1u64, Options::new().mode(Mode::Once))
        .unwrap();
    let event = only(step(&fixture, Duration::from_secs(2)), EventKind::Expired);
    assert_eq!((event.misses, event.mode), (1, Mode::Once));
    assert!(!watcher.contains(&1).unwrap());
}

#[test]
fn a_new_episode_begins_with_the_watchers_defaults() {
    let fixture = fixture(Mode::Once, [EventKind::Expired], 16);
    let watcher = &fixture.1;
    let options = Options::new().timeout(Duration::from_secs(2)).extra('a');
    watcher.beat_with(1u64, options).unwrap();
    watcher.flush().unwrap();
    only(step(&fixture, Duration::from_secs(2)), EventKind::Expired);
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    assert!(step(&fixture, TIMEOUT - TICK).is_empty());
    let event = only(step(&fixture, TICK), EventKind::Expired);
    assert_eq!((event.extra, event.timeout), (None, TIMEOUT));
}

#[test]
fn only_wanted_kinds_are_told() {
    let script = |kinds: &[EventKind]| {
        let fixture = fixture(Mode::Once, kinds.iter().copied(), 64);
        let watcher = &fixture.1;
        let mut told = Vec::new();
        watcher
            .beat_with(1u64, Options::new().mode(Mode::Repeat))
            .unwrap();
        told.extend(step(&fixture, Duration::ZERO));
        watcher.beat(1u64).unwrap();
        told.extend(step(&fixture, Duration::ZERO));
        told.extend(step(&fixture, TIMEOUT));
        watcher.beat(1u64).unwrap();
        told.extend(step(&fixture, Duration::ZERO));
        watcher.remove(&1).unwrap();
        told.extend(step(&fixture, Duration::ZERO));
        told.iter().map(Event::kind).collect::<Vec<_>>()
    };
    let story = [
        EventKind::Joined,
        EventKind::Beat,
        EventKind::Expired,
        EventKind::Recovered,
        EventKind::Beat,
        EventKind::Removed,
    ];
    assert_eq!(script(&ALL), story);
    assert_eq!(script(&[]), []);
    for kind in ALL {
        let expected: Vec<_> = story.iter().copied().filter(|&of| of == kind).collect();
        assert_eq!(script(&[kind]), expected);
    }
}

#[test]
fn removing_a_key_that_is_down_ends_its_reports() {
    let kinds = [EventKind::Expired, EventKind::Removed];
    let fixture = fixture(Mode::Repeat, kinds, 16);
    fixture.1.beat(1u64).unwrap();
    fixture.1.flush().unwrap();
    only(step(&fixture, TIMEOUT), EventKind::Expired);
    fixture.1.remove(&1).unwrap();
    only(step(&fixture, Duration::ZERO), EventKind::Removed);
    assert!(step(&fixture, TIMEOUT * 3).is_empty());
    // Its next beat has nothing to recover from.
    fixture.1.beat(1u64).unwrap();
    assert_eq!(fixture.1.status(&1).unwrap().unwrap().misses, 0);
    assert!(step(&fixture, Duration::ZERO).is_empty());
}

#[test]
fn beat_events_are_dropped_under_pressure_and_counted_while_expiries_are_kept() {
    let kinds = [EventKind::Beat, EventKind::Expired];
    let fixture = fixture(Mode::Once, kinds, 1);
    let (clock, watcher, events) = &fixture;
    watcher.beat(1u64).unwrap();
    for _ in 0..10_000 {
        watcher.beat(1u64).unwrap();
    }
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    let mut told = Vec::new();
    while watcher.stats().pending > 0 || !events.is_empty() {
        told.extend(events.try_iter());
        watcher.flush().unwrap();
    }
    let stats = watcher.stats();
    assert!(stats.beat_events_dropped > 0);
    let beats = told
        .iter()
        .filter(|event| event.kind() == EventKind::Beat)
        .count() as u64;
    assert_eq!(beats + stats.beat_events_dropped, 10_000);
    assert_eq!(told.last().unwrap().kind(), EventKind::Expired);
    assert_eq!(told.len() as u64, beats + 1);
}

#[test]
fn tracked_keys_that_stay_silent_are_reported_once_each() {
    const DEVICES: u64 = 50_000;
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(TIMEOUT)
        .mode(Mode::Track)
        .build()
        .unwrap();
    for key in 0..DEVICES {
        watcher.beat(key, Duration::ZERO).unwrap();
    }
    let mut kinds = Vec::new();
    for timeouts in 1..=11 {
        watcher.poll(TIMEOUT * timeouts, |event| kinds.push(event.kind()));
    }
    assert_eq!(kinds, vec![EventKind::Expired; DEVICES as usize]);
    assert_eq!(
        watcher.next_deadline(),
        None,
        "nothing is due while all are down"
    );
    let stats = watcher.stats();
    assert_eq!((stats.live, stats.down), (DEVICES, DEVICES));
    assert!(stats.is_balanced());

    let mut recovered = Vec::new();
    watcher.beat(7u64, TIMEOUT * 12).unwrap();
    watcher.poll(TIMEOUT * 12, |event| recovered.push(event));
    assert_eq!(recovered.len(), 1);
    assert_eq!(
        (recovered[0].kind(), recovered[0].key()),
        (EventKind::Recovered, Some(&7))
    );
    assert_eq!(watcher.stats().down, DEVICES - 1);
    // It is watched as before, and reported again.
    watcher.poll(TIMEOUT * 13, |event| recovered.push(event));
    assert_eq!(recovered[1].kind(), EventKind::Expired);
}

#[test]
fn a_key_that_is_down_for_long_enough_is_forgotten_after_it_was_reported() {
    for mode in [Mode::Track, Mode::Repeat] {
        let clock = ManualClock::new();
        let (watcher, events) = Watcher::<u64>::builder()
            .timeout(TIMEOUT)
            .mode(mode)
            .forget_after(TIMEOUT * 3 / 2)
            .add_events([EventKind::Removed])
            .clock(clock.clone())
            .build_with_channel(1)
            .unwrap();
        let heart = watcher.watch(1u64).unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        // Another key's event fills the channel, so the next report of this one waits.
        clock.advance(TIMEOUT * 2);
        watcher.flush().unwrap();
        let mut told = Vec::new();
        while watcher.contains(&1).unwrap() {
            told.extend(events.try_recv().map(|event| event.kind()));
            watcher.flush().unwrap();
        }
        told.extend(events.try_iter().map(|event| event.kind()));
        watcher.flush().unwrap();
        told.extend(events.try_iter().map(|event| event.kind()));
        assert_eq!(told.first(), Some(&EventKind::Expired));
        assert_eq!(told.last(), Some(&EventKind::Removed));
        assert_eq!(heart.beat(), Err(HeartError::Expired));
        let stats = watcher.stats();
        assert_eq!((stats.live, stats.down, stats.removed), (0, 0, 1));
        assert!(stats.is_balanced());
        watcher.beat(1u64).unwrap();
        assert!(watcher.contains(&1).unwrap(), "it begins anew");
    }
}

#[test]
fn a_heart_of_a_tracked_key_reports_its_recovery_at_once() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .mode(Mode::Track)
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    let heart = watcher.watch(1u64).unwrap();
    for _ in 0..3 {
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        clock.advance(TIMEOUT * 5);
        watcher.flush().unwrap();
        heart.beat().unwrap();
        watcher.flush().unwrap();
        let told: Vec<_> = events.try_iter().map(|event| event.kind()).collect();
        assert_eq!(told, [EventKind::Expired, EventKind::Recovered]);
        assert!(heart.is_watched());
    }
}

#[test]
fn a_key_that_flaps_behind_a_full_sink_has_one_report_that_says_what_holds() {
    for mode in [Mode::Track, Mode::Repeat] {
        let clock = ManualClock::new();
        let (watcher, events) = Watcher::<u64>::builder()
            .timeout(TIMEOUT)
            .mode(mode)
            .workers(1)
            .clock(clock.clone())
            .build_with_channel(1)
            .unwrap();
        watcher.beat(0u64).unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap(); // fills the channel
        watcher.beat(1u64).unwrap();
        watcher.flush().unwrap();
        let before = watcher.stats().bytes;
        for _ in 0..2_000 {
            clock.advance(TIMEOUT);
            watcher.flush().unwrap();
            watcher.beat(1u64).unwrap();
            watcher.flush().unwrap();
        }
        let stats = watcher.stats();
        assert!(
            stats.bytes < before + 1_000,
            "{} from {before}",
            stats.bytes
        );
        assert_eq!(stats.folded_recoveries, 1_999);
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.extend(event.into_key_event());
            watcher.flush().unwrap();
        }
        told.retain(|event| event.key == 1);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!((told[0].misses, told[0].down_for), (2_000, None));
        assert!(told[1].down_for.is_some(), "at last it recovered");
    }
}

#[test]
fn options_without_a_beat_apply_and_are_no_sign_of_life() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64, char>::builder()
        .timeout(TIMEOUT)
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    let heart = watcher.watch(1).unwrap();
    watcher.beat(2).unwrap();
    clock.advance(TIMEOUT - TICK);
    let longer = || Options::new().timeout(TIMEOUT * 2).extra('x');
    heart.set(longer()).unwrap();
    watcher.set(2, longer()).unwrap();
    watcher.set(3, longer()).unwrap();
    for (key, status) in watcher.snapshot().unwrap() {
        assert_eq!(status.last_beat, Duration::ZERO.into(), "key {key}");
        assert_eq!((status.timeout, status.extra), (TIMEOUT * 2, Some('x')));
        assert_eq!(status.remaining(), Some(TIMEOUT + TICK));
    }
    assert_eq!(watcher.stats().unknown, 1);
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    assert!(events.is_empty());
    // A timeout that has passed by now is due at once.
    watcher.set(2, Options::new().timeout(TIMEOUT)).unwrap();
    watcher.flush().unwrap();
    assert_eq!(events.try_recv().unwrap().key(), Some(&2));
    clock.advance(TICK);
    watcher.flush().unwrap();
    assert_eq!(events.try_recv().unwrap().key(), Some(&1));
    assert_eq!(heart.set(longer()), Err(HeartError::Expired));
    let zero = Options::new().timeout(Duration::ZERO);
    let error = watcher.set(2, zero.clone()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 2)
    );
    assert_eq!(
        watcher.watch(1).unwrap().set(zero),
        Err(HeartError::ZeroTimeout)
    );
}

#[test]
fn options_of_a_stale_heart_never_reach_a_later_episode() {
    let clock = ManualClock::new();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .clock(clock.clone())
        .build()
        .unwrap();
    let replaced = watcher.watch(1).unwrap();
    let current = watcher.watch(1).unwrap();
    // It may not know yet, so the worker decides.
    let _ = replaced.set(Options::new().timeout(TIMEOUT * 9));
    watcher.flush().unwrap();
    assert_eq!(replaced.set(Options::new()), Err(HeartError::Replaced));
    let status = watcher.status(&1).unwrap().unwrap();
    assert_eq!(status.timeout, TIMEOUT);
    assert!(current.is_watched());
}

#[test]
fn beats_for_known_keys_only_bring_nothing_back() {
    let watcher = Watcher::<u64>::builder().workers(2).build().unwrap();
    let known = || Options::new().known_only();
    watcher.beat_many(0..10).unwrap();
    watcher.remove(&3).unwrap();
    assert_eq!(watcher.beat_many_with(0..12, &known()).unwrap(), 12);
    watcher.try_beat_with(3, known()).unwrap();
    let gone = watcher.watch_with(3, known()).unwrap();
    watcher.flush().unwrap();
    assert_eq!(gone.beat(), Err(HeartError::Removed));
    let stats = watcher.stats();
    assert_eq!((stats.live, stats.unknown, stats.applied_beats), (9, 5, 19));
    assert!(stats.is_balanced());
}
