//! A maximum of keys.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::Receiver;
use liveness::{
    BeatErrorKind, BuildError, CallError, Event, EventKind, LocalWatcher, ManualClock, Options,
    Watcher,
};

use super::{TICK, TIMEOUT};
use crate::held::held;

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
