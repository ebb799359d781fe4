//! The watcher at a glance: beats in, deaths out, and what its threads and hashes look like from outside.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::error::Error;
use std::hash::Hash;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use compact_str::CompactString;
use crossbeam_channel::unbounded;
use liveness::{
    BeatError, BeatManyError, BuildError, CallError, Event, EventKind, Heart, HeartError,
    LocalWatcher, Options, Watcher,
};

use crate::GENEROUS;

#[test]
fn a_silent_key_is_reported_once_and_a_beating_one_is_not() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .build_with_channel(16)
        .unwrap();
    watcher.beat(1u64).unwrap();
    let short = liveness::Options::new().timeout(Duration::from_millis(20));
    watcher.beat_with(2u64, short).unwrap();
    let event = events.recv_timeout(GENEROUS).unwrap();
    assert_eq!((event.kind(), event.key()), (EventKind::Expired, Some(&2)));
    watcher.flush().unwrap();
    assert!(watcher.contains(&1).unwrap());
    assert!(!watcher.contains(&2).unwrap());
    watcher.close();
    assert!(events.recv().is_err(), "one event, and then the end");
}

#[test]
fn handles_and_events_cross_threads_and_errors_are_errors() {
    fn crosses<T: Send + Sync + 'static>() {}
    fn is_error<T: Error + Send + Sync + 'static>() {}
    crosses::<Watcher<String, Vec<u8>>>();
    crosses::<Heart<String, Vec<u8>>>();
    crosses::<Event<String, Vec<u8>>>();
    crosses::<LocalWatcher<String, Vec<u8>>>();
    is_error::<BeatError<String>>();
    is_error::<BeatManyError<String>>();
    is_error::<BuildError>();
    is_error::<CallError>();
    is_error::<HeartError>();
}

#[test]
fn errors_do_not_ask_the_key_to_be_debug() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Opaque(u64);

    let watcher = Watcher::<Opaque>::builder().build().unwrap();
    watcher.close();
    let error = watcher.beat(Opaque(7)).unwrap_err();
    assert!(format!("{error:?} {watcher:?}").contains("Closed"));
    assert!(error.into_key() == Opaque(7));
}

#[test]
fn a_literal_is_a_key_whatever_the_type_of_integer() {
    let watcher = Watcher::<u64>::builder().build().unwrap();
    watcher.beat(1).unwrap();
    watcher.try_beat(2).unwrap();
    watcher.beat_timeout(3, Duration::ZERO).unwrap();
    watcher.beat_with(4, Options::new()).unwrap();
    watcher.beat_many([5, 6]).unwrap();
    let hearts = [
        watcher.watch(7).unwrap(),
        watcher.watch_with(8, Options::new()).unwrap(),
    ];
    watcher.remove(&1).unwrap();
    assert!(!watcher.contains(&1).unwrap() && watcher.contains(&2).unwrap());
    assert!(watcher.status(&6).unwrap().is_some());
    // The other worker may not have published its number.
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 7);
    drop(hearts);

    let mut local = LocalWatcher::<u8>::builder().build().unwrap();
    local.beat(1, Duration::ZERO).unwrap();
    local.beat_with(2, Duration::ZERO, Options::new()).unwrap();
    assert!(local.remove(&1, Duration::ZERO));
    assert!(!local.contains(&1) && local.status(&2).is_some());
}

/// Asserts that a key made from `name` is found and removed by the `str`, by the threads and without.
fn assert_found_by_str<K>(name: &str)
where
    K: Eq + Hash + Clone + Send + Borrow<str> + From<String> + 'static,
{
    let watcher = Watcher::<K>::builder().build().unwrap();
    watcher.beat(K::from(name.to_owned())).unwrap();
    assert!(watcher.contains(name).unwrap());
    assert!(watcher.status(name).unwrap().is_some());
    assert!(!watcher.contains("another").unwrap());
    watcher.remove("another").unwrap();
    watcher.remove(name).unwrap();
    assert!(!watcher.contains(name).unwrap());
    watcher.flush().unwrap();
    assert_eq!(watcher.stats().removed, 1);

    let mut local = LocalWatcher::<K>::builder().build().unwrap();
    let key = K::from(name.to_owned());
    local.beat(key, Duration::ZERO).unwrap();
    assert!(local.contains(name) && local.status(name).is_some());
    assert!(!local.remove("another", Duration::ZERO));
    assert!(local.remove(name, Duration::ZERO));
    assert!(!local.contains(name));
}

#[test]
fn a_key_is_found_and_removed_by_its_borrowed_form() {
    assert_found_by_str::<String>("db-1");
    assert_found_by_str::<Box<str>>("db-1");
    assert_found_by_str::<Arc<str>>("db-1");
    assert_found_by_str::<CompactString>("db-1");

    // A key without another form is found by a reference to itself.
    let watcher = Watcher::<&str>::builder().build().unwrap();
    watcher.beat("db-1").unwrap();
    assert!(watcher.contains(&"db-1").unwrap());
    let mut local = LocalWatcher::<&str>::builder().build().unwrap();
    local.beat("db-1", Duration::ZERO).unwrap();
    assert!(local.contains(&"db-1") && local.contains("db-1"));
}

/// What holds a watcher and a heart of any type of key, without a bound.
struct Connection<K> {
    watcher: Arc<Watcher<K>>,
    heart: Heart<K>,
}

impl<K> Connection<K> {
    fn count(&self) -> u64 {
        assert!(self.heart.is_watched());
        self.watcher.flush().unwrap();
        self.watcher.stats().live
    }
}

#[test]
fn what_holds_a_watcher_needs_no_bound_on_its_key() {
    let watcher = Arc::new(Watcher::<u64>::builder().build().unwrap());
    let heart = watcher.watch(1).unwrap();
    let connection = Connection { watcher, heart };
    assert_eq!(connection.count(), 1);
}

#[test]
fn a_watcher_without_a_listener_can_be_asked() {
    let clock = liveness::ManualClock::new();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(1))
        .clock(clock.clone())
        .build()
        .unwrap();
    assert!(watcher.is_empty());
    watcher.beat_many(0..10u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 10);
    clock.advance(Duration::from_secs(1));
    watcher.flush().unwrap();
    assert!(watcher.is_empty());
    assert_eq!(watcher.stats().discarded, 10);
    assert_eq!(watcher.now(), Duration::from_secs(1).into());
}

#[test]
fn threads_bear_the_name_that_the_builder_was_given() {
    let (names, seen) = unbounded();
    let name = || thread::current().name().unwrap().to_owned();
    let on_delivery_thread = names.clone();
    let queued = Watcher::<u64>::builder()
        .timeout(Duration::from_nanos(1))
        .thread_name("pulse")
        .workers(1)
        .on_event(move |_| on_delivery_thread.send(name()).unwrap())
        .build()
        .unwrap();
    queued.beat(1u64).unwrap();
    assert_eq!(seen.recv_timeout(GENEROUS).unwrap(), "pulse-delivery");

    let direct = Watcher::<u64>::builder()
        .timeout(Duration::from_nanos(1))
        .workers(1)
        .on_event_in_worker(move |_| names.send(name()).unwrap())
        .build()
        .unwrap();
    direct.beat(1u64).unwrap();
    assert_eq!(seen.recv_timeout(GENEROUS).unwrap(), "liveness-0");
}

/// The thread on which each of 64 keys is looked after.
fn workers_of_keys(seed: Option<u64>) -> BTreeMap<u64, String> {
    let (joined, placed) = unbounded();
    let mut builder = Watcher::<u64>::builder()
        .workers(2)
        .events([EventKind::Joined])
        .on_event_in_worker(move |event| {
            let worker = thread::current().name().unwrap().to_owned();
            joined.send((*event.key().unwrap(), worker)).unwrap();
        });
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    let watcher = builder.build().unwrap();
    watcher.beat_many(0..64u64).unwrap();
    watcher.close();
    placed.try_iter().collect()
}

#[test]
fn keys_spread_alike_under_one_seed_and_differently_without() {
    let seeded = workers_of_keys(Some(5));
    assert_eq!(seeded.len(), 64);
    assert_eq!(seeded, workers_of_keys(Some(5)));
    assert_ne!(seeded, workers_of_keys(Some(6)));
    assert_ne!(workers_of_keys(None), workers_of_keys(None));
}
