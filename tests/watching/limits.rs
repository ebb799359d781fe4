//! Extremes: options out of range, a maximum of keys, the shortest and longest timeouts, clocks old and backwards.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::Receiver;
use liveness::{
    BeatErrorKind, BuildError, Builder, CallError, Event, EventKind, LocalBuilder, LocalWatcher,
    ManualClock, Options, Timestamp, Watcher,
};

use crate::held::held;

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// The last point in time that a watcher can tell, 584 years after the origin of its clock.
const END: Duration = Duration::from_nanos(u64::MAX);

/// Points in time that have broken timers: about 2^31, 2^32, 2^36 and 2^42 ms, and the same powers of two in nanoseconds.
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
fn options_out_of_range_are_refused_and_named() {
    type Setter = fn(Builder<u64>) -> Builder<u64>;
    type SetLocal = fn(LocalBuilder<u64>) -> LocalBuilder<u64>;
    let refused: [(&str, Setter); 12] = [
        ("timeout", |builder| builder.timeout(Duration::ZERO)),
        ("workers", |builder| builder.workers(0)),
        ("workers", |builder| builder.workers(1_025)),
        ("inbox_capacity", |builder| builder.inbox_capacity(0)),
        ("inbox_capacity", |builder| {
            builder.inbox_capacity((1 << 20) + 1)
        }),
        ("batch", |builder| builder.batch(0)),
        ("batch", |builder| builder.batch(4_097)),
        ("max_keys", |builder| builder.max_keys(0)),
        ("max_keys", |builder| builder.max_keys((1 << 32) - 1)),
        ("expected_keys", |builder| {
            builder.expected_keys((1 << 32) - 1)
        }),
        ("expected_keys", |builder| builder.expected_keys(usize::MAX)),
        ("thread_name", |builder| builder.thread_name("a\0b")),
    ];
    for (option, set) in refused {
        let error = set(Watcher::builder()).build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("`{option}`")),
            "{error}"
        );
    }
    let refused: [(&str, SetLocal); 3] = [
        ("timeout", |builder| builder.timeout(Duration::ZERO)),
        ("max_keys", |builder| builder.max_keys(0)),
        ("expected_keys", |builder| {
            builder.expected_keys((1 << 32) - 1)
        }),
    ];
    for (option, set) in refused {
        let error = set(LocalWatcher::builder()).build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("`{option}`")),
            "{error}"
        );
    }
    for capacity in [0, (1 << 20) + 1] {
        let error = Watcher::<u64>::builder()
            .build_with_channel(capacity)
            .unwrap_err();
        let must = match capacity {
            0 => "greater than zero".to_owned(),
            _ => format!("at most {}, not {capacity}", 1 << 20),
        };
        assert_eq!(error.to_string(), format!("`capacity` must be {must}"));
        assert!(matches!(error, BuildError::Option(error) if error.option() == "capacity"));
    }
}

#[test]
fn two_places_for_events_are_refused_by_the_names_of_their_options() {
    let (sender, events) = crossbeam_channel::unbounded();
    let builder = || Watcher::<u64>::builder();
    let refused = [
        (
            builder().on_event(drop).sink(sender.clone()).build(),
            "`on_event` and `sink` are both given; a watcher has one sink",
        ),
        (
            builder().on_event(drop).on_event(drop).build(),
            "`on_event` is given twice; a watcher has one sink",
        ),
        (
            builder().sink(sender).on_event_in_worker(drop).build(),
            "`sink` and `on_event_in_worker` are both given; a watcher has one sink",
        ),
        (
            builder()
                .on_event(drop)
                .build_with_channel(1)
                .map(|(watcher, _)| watcher),
            "`on_event` and `build_with_channel` are both given; a watcher has one sink",
        ),
    ];
    for (built, message) in refused {
        assert_eq!(built.unwrap_err().to_string(), message);
    }
    drop(events);
}

#[test]
fn options_at_the_edge_of_their_range_work() {
    let watcher = Watcher::<u64>::builder()
        .timeout(TICK)
        .workers(1)
        .inbox_capacity(1)
        .batch(1)
        .max_keys(1)
        .expected_keys(0)
        .thread_name("")
        .build()
        .unwrap();
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::MAX)
        .workers(64)
        .batch(4_096)
        .max_keys((1 << 32) - 2)
        .stall_threshold(Duration::MAX)
        .stall_cap(Duration::MAX)
        .build()
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 1_000);
}

#[test]
fn a_timeout_of_zero_is_refused_with_the_key() {
    let zero = || Options::new().timeout(Duration::ZERO);
    let watcher = Watcher::<u64>::builder().build().unwrap();
    let error = watcher.beat_with(7u64, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 7)
    );
    let error = watcher.watch_with(8u64, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 8)
    );
    let mut local = LocalWatcher::<u64>::builder().build().unwrap();
    let error = local.beat_with(9u64, TIMEOUT, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 9)
    );
    watcher.flush().unwrap();
    assert!(watcher.is_empty() && local.is_empty());
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
    // Neither a beat nor a question brings the time back, and nobody is told to be dead because of it.
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

/// A watcher of at most `max` keys on `workers` workers, stepped by hand.
fn capped(max: usize, workers: usize) -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .max_keys(max)
        .workers(workers)
        .seed(1)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    (clock, watcher, events)
}

#[test]
fn a_new_key_beyond_the_maximum_is_refused_by_every_call_and_handed_back() {
    let (clock, watcher, events) = capped(10, 2);
    watcher.beat_many(0..10u64).unwrap();
    let refused = [
        watcher.beat(10u64).unwrap_err(),
        watcher.try_beat(11u64).unwrap_err(),
        watcher.beat_timeout(12u64, TIMEOUT).unwrap_err(),
        watcher.beat_with(13u64, Options::new()).unwrap_err(),
        watcher.watch(14u64).unwrap_err(),
    ];
    for (error, key) in refused.into_iter().zip(10..) {
        assert_eq!((error.kind(), error.into_key()), (BeatErrorKind::Full, key));
    }
    let error = watcher.beat_many(5..15u64).unwrap_err();
    assert_eq!(error.kind(), BeatErrorKind::Full);
    let mut keys = error.into_keys();
    keys.sort_unstable();
    assert_eq!(keys, [10, 11, 12, 13, 14]);
    // Watched keys are not evicted, and beat on.
    clock.advance(TIMEOUT / 2);
    assert_eq!(watcher.beat_many(0..10u64), Ok(10));
    watcher.watch(3u64).unwrap().detach();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT - TICK);
    watcher.flush().unwrap();
    assert_eq!((watcher.len(), events.len()), (10, 0));
}

#[test]
fn a_key_that_went_makes_room_for_another() {
    let (clock, watcher, events) = capped(2, 2);
    watcher.beat_many([1u64, 2]).unwrap();
    watcher.remove(&1).unwrap();
    watcher.flush().unwrap();
    watcher.beat(3u64).unwrap();
    assert_eq!(watcher.beat(4u64).unwrap_err().kind(), BeatErrorKind::Full);
    drop(watcher.watch(3u64).unwrap());
    watcher.flush().unwrap();
    watcher.beat(4u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    // One of the two is in the channel, the other waits and still counts.
    assert_eq!((events.len(), watcher.stats().pending), (1, 1));
    watcher.beat(5u64).unwrap();
    assert_eq!(watcher.beat(6u64).unwrap_err().kind(), BeatErrorKind::Full);
    events.try_recv().unwrap();
    watcher.flush().unwrap();
    watcher.beat(6u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 2);
    assert!(watcher.stats().is_balanced());
}

#[test]
fn a_second_episode_keeps_its_place_when_the_first_is_delivered() {
    let (clock, watcher, events) = capped(10, 4);
    watcher.beat_many(0..10u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    // Nine wait for the sink, and begin anew. Their hearts send nothing that could remind the watcher of them.
    assert_eq!((watcher.len(), watcher.stats().pending), (0, 9));
    let hearts: Vec<_> = (0..10u64)
        .filter_map(|key| watcher.watch(key).ok())
        .collect();
    while watcher.stats().pending > 0 {
        events.try_iter().for_each(drop);
        watcher.flush().unwrap();
    }
    events.try_iter().for_each(drop);
    let live = watcher.len();
    let admitted = (100..200u64)
        .filter(|&key| watcher.beat(key).is_ok())
        .count();
    watcher.flush().unwrap();
    assert_eq!(
        watcher.len(),
        live + admitted,
        "what is accepted is watched"
    );
    assert_eq!(watcher.len(), 10);
    drop(hearts);
}

#[test]
fn keys_that_a_full_inbox_refused_take_no_room() {
    let (watcher, gate) = held(Watcher::builder().max_keys(4).inbox_capacity(1));
    watcher.try_beat(1u64).unwrap();
    for key in 2..100u64 {
        let kind = watcher.try_beat(key).unwrap_err().kind();
        assert_eq!(kind, BeatErrorKind::InboxFull, "key {key}");
    }
    drop(gate);
    watcher.flush().unwrap();
    watcher.beat_many(2..5u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 4);
}

#[test]
fn a_maximum_holds_without_threads_too() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(TIMEOUT)
        .max_keys(2)
        .build()
        .unwrap();
    watcher.beat(1u64, Duration::ZERO).unwrap();
    watcher.beat(2u64, TIMEOUT / 2).unwrap();
    let error = watcher.beat(3u64, TIMEOUT / 2).unwrap_err();
    assert_eq!((error.kind(), error.into_key()), (BeatErrorKind::Full, 3));
    watcher.beat(2u64, TIMEOUT / 2).unwrap();
    watcher.poll(TIMEOUT, drop);
    watcher.beat(3u64, TIMEOUT).unwrap();
    assert_eq!((watcher.len(), watcher.stats().refused_beats), (2, 1));
}

#[test]
fn the_maximum_holds_over_all_workers_while_keys_leave_and_come_back() {
    const MAX: usize = 64;
    let (clock, watcher, events) = capped(MAX, 4);
    let mut strangers = 1_000u64..;
    for _ in 0..50 {
        let _ = watcher.beat_many(0..MAX as u64);
        for key in 0..MAX as u64 {
            watcher.remove(&key).unwrap();
            let _ = watcher.try_beat(key);
        }
        let _ = watcher.beat_many(strangers.by_ref().take(2 * MAX));
        watcher.flush().unwrap();
        let stats = watcher.stats();
        assert!(stats.live + stats.pending <= MAX as u64, "{stats:?}");
        clock.advance(TIMEOUT / 3);
        events.try_iter().for_each(drop);
    }
}

#[test]
fn a_panic_among_the_keys_of_beat_many_takes_no_room() {
    /// A key that may panic as it is hashed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Key(u64, bool);
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(!self.1, "for the test");
            self.0.hash(state);
        }
    }
    let watcher = Watcher::<Key>::builder()
        .max_keys(10)
        .workers(2)
        .build()
        .unwrap();
    for round in 0..10u64 {
        let keys = |last: bool| {
            (0..10u64).map(move |key| {
                assert!(key < 9 || last, "for the test");
                Key(round * 10 + key, key == 9)
            })
        };
        // Once the iterator panics, once the hash of the last key.
        for last in [false, true] {
            let beaten = catch_unwind(AssertUnwindSafe(|| watcher.beat_many(keys(last))));
            assert!(beaten.is_err());
        }
    }
    watcher.flush().unwrap();
    let live = watcher.len() as u64;
    let more = (500..).map(|key| Key(key, false)).take(10 - watcher.len());
    assert_eq!(watcher.beat_many(more), Ok(10 - live as usize));
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 10);
}

/// A key that may panic as it is compared, on a worker.
#[derive(Clone, Debug)]
struct Brittle(u64, bool);

impl PartialEq for Brittle {
    fn eq(&self, other: &Self) -> bool {
        if self.1 || other.1 {
            std::panic::resume_unwind(Box::new("for the test"));
        }
        self.0 == other.0
    }
}

impl Eq for Brittle {}

impl Hash for Brittle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn the_room_of_a_worker_that_fails_comes_back() {
    const MAX: u64 = 40;
    let watcher = Watcher::<Brittle>::builder()
        .max_keys(MAX as usize)
        .workers(2)
        .build()
        .unwrap();
    let key = |key| Brittle(key, false);
    watcher.beat_many((0..MAX).map(key)).unwrap();
    watcher.flush().unwrap();
    watcher.beat(Brittle(0, true)).unwrap();
    assert_eq!(watcher.flush(), Err(CallError::WorkerFailed));
    let failed = |&it: &u64| watcher.contains(&key(it)) == Err(CallError::WorkerFailed);
    let residents = (0..MAX).filter(|key| !failed(key)).count() as u64;
    assert!(residents < MAX);
    // What the failed worker refuses takes no room, and what it had is there for others.
    for _ in 0..5 {
        let error = watcher
            .beat_many((1_000..1_100).filter(failed).map(key))
            .unwrap_err();
        assert_eq!(error.kind(), BeatErrorKind::WorkerFailed);
        let _ = watcher.beat(key(0)).unwrap_err();
        let _ = watcher.watch(key(0)).unwrap_err();
    }
    let healthy: Vec<u64> = (2_000..3_000).filter(|key| !failed(key)).collect();
    let admitted = healthy
        .iter()
        .filter(|&&it| watcher.beat(key(it)).is_ok())
        .count() as u64;
    assert_eq!(admitted, MAX - residents);
}

#[test]
fn a_key_that_flaps_behind_a_full_channel_is_refused_beyond_the_maximum() {
    let (clock, watcher, events) = capped(2, 1);
    let mut accepted = 0;
    for _ in 0..2_000 {
        match watcher.beat(1u64) {
            Ok(()) => accepted += 1,
            Err(error) => assert_eq!(error.kind(), BeatErrorKind::Full),
        }
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        let stats = watcher.stats();
        assert!(stats.live + stats.pending <= 2, "{stats:?}");
    }
    // One expiry is in the channel, two wait; none is lost.
    assert_eq!(accepted, 3);
    assert!(watcher.stats().bytes < 100_000, "{:?}", watcher.stats());
    for taken in 1..=3 {
        let event = events.try_recv().unwrap().into_key_event().unwrap();
        assert_eq!((event.key, event.generation.get()), (1, taken));
        watcher.flush().unwrap();
    }
    watcher.beat(1u64).unwrap();
    assert!(watcher.contains(&1).unwrap());
}

#[test]
fn room_for_more_keys_than_there_is_memory_is_refused_and_not_tried() {
    // So large that the expected keys need more than any address space has.
    type Large = [u64; 1 << 14];
    const MOST: usize = (1 << 32) - 2;
    let refused = [
        Watcher::<Large>::builder()
            .expected_keys(MOST)
            .build()
            .map(drop),
        Watcher::<Large>::builder()
            .workers(64)
            .expected_keys(MOST)
            .build()
            .map(drop),
        LocalWatcher::<Large>::builder()
            .expected_keys(MOST)
            .build()
            .map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`expected_keys` is 4294967294, for which there is not enough memory"
        );
    }
    let error = Watcher::<u64, [[u64; 1 << 20]; 1 << 7]>::builder()
        .build_with_channel(1 << 20)
        .map(drop)
        .unwrap_err();
    assert!(matches!(
        error,
        BuildError::OutOfMemory {
            option: "capacity",
            ..
        }
    ));
}

#[test]
fn notices_behind_a_full_channel_are_bounded_by_the_maximum() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .max_keys(1)
        .add_events([EventKind::Joined, EventKind::Removed])
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    let mut settled = 0;
    for round in 0..20_000 {
        if let Err(error) = watcher.beat(7) {
            assert_eq!(error.kind(), BeatErrorKind::Full);
        }
        watcher.remove(&7).unwrap();
        if round == 5_000 {
            watcher.flush().unwrap();
            settled = watcher.stats().bytes;
        }
    }
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!(stats.bytes, settled, "it grows no further");
    assert!((500..5_000).contains(&stats.started), "{stats:?}");
    assert_eq!(stats.applied_beats + stats.refused_beats, 20_000);
    // Nothing that began is lost, and there is room again.
    let mut told = 0;
    while events.try_recv().is_ok() {
        told += 1;
        watcher.flush().unwrap();
    }
    assert_eq!(told, 2 * stats.started);
    watcher.beat(7).unwrap();
}

#[test]
fn a_beat_for_known_keys_only_needs_no_room() {
    let (_clock, watcher, _events) = capped(1, 2);
    watcher.beat(1).unwrap();
    let known_only = || Options::new().known_only();
    for key in 1..20u64 {
        watcher.beat_with(key, known_only()).unwrap();
        watcher.try_beat_with(key, known_only()).unwrap();
        assert_eq!(watcher.beat_many_with([key], &known_only()), Ok(1));
        watcher.watch_with(key, known_only()).unwrap().detach();
    }
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!((stats.live, stats.refused_beats), (1, 0));
    assert_eq!(stats.unknown, 18 * 4);
}
