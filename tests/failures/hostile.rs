//! Keys chosen to do harm: against a seed that is known, with a common prefix, with a hash that is always the same.
//! Each is watched and expires once, in order; some are only slower, and the stats show it.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use liveness::{
    BeatErrorKind, Builder, Event, EventKind, LocalWatcher, ManualClock, Timestamp, Watcher,
};

use crate::in_time::GENEROUS;

const TIMEOUT: Duration = Duration::from_secs(10);

const WORKERS: usize = 8;

const SEED: u64 = 42;

/// Of `candidates` keys those that the seed leads to the first worker, found as an attacker would who can run the
/// library.
fn crafted(candidates: u64) -> Vec<u64> {
    let (tell, told) = unbounded();
    let watcher = Watcher::<u64>::builder()
        .workers(WORKERS)
        .seed(SEED)
        .events([EventKind::Joined])
        .on_event_in_worker(move |event: Event<u64>| {
            if thread::current().name() == Some("liveness-0") {
                tell.send(*event.key().unwrap()).unwrap();
            }
        })
        .build()
        .unwrap();
    watcher.beat_many(0..candidates).unwrap();
    // A close gives events only a moment.
    watcher.flush().unwrap();
    told.try_iter().collect()
}

/// Beats `keys` twice, a moment between each, lets all expire, and checks that each did so once and in order. Returns
/// how unevenly they were spread.
fn live_and_die<K>(builder: Builder<K>, keys: &[K]) -> f64
where
    K: Hash + Ord + Clone + Send + std::fmt::Debug + 'static,
{
    let clock = ManualClock::new();
    let (watcher, events) = builder
        .timeout(TIMEOUT)
        .clock(clock.clone())
        .build_with_channel(keys.len())
        .unwrap();
    for _ in 0..2 {
        for chunk in keys.chunks(100) {
            watcher.beat_many(chunk.iter().cloned()).unwrap();
            clock.advance(Duration::from_nanos(1));
        }
    }
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert_eq!(
        (stats.started, stats.live),
        (keys.len() as u64, keys.len() as u64)
    );
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    assert!(watcher.close().is_balanced());

    let events = events
        .try_iter()
        .map(|event| event.into_key_event().unwrap());
    let events: Vec<_> = events.collect();
    let mut latest = Timestamp::ORIGIN;
    let mut expired = BTreeSet::new();
    for event in events {
        assert!(expired.insert(event.key.clone()), "{event:?} once more");
        // Which worker it was the event does not say; where one has them all, there is one order.
        if stats.live_by_worker.contains(&stats.live) {
            assert!(event.deadline.unwrap() >= latest, "{event:?} too late");
            latest = event.deadline.unwrap();
        }
    }
    assert!(
        expired
            .iter()
            .eq(keys.iter().cloned().collect::<BTreeSet<_>>().iter())
    );
    stats.imbalance()
}

fn builder<K: Hash + Eq + Clone + Send + 'static>() -> Builder<K> {
    Watcher::builder().workers(WORKERS)
}

#[test]
fn keys_crafted_against_a_known_seed_are_watched_by_one_worker_and_show_in_the_stats() {
    let keys = crafted(80_000);
    assert!(keys.len() > 8_000);
    let imbalance = live_and_die(builder().seed(SEED), &keys);
    assert!((imbalance - WORKERS as f64).abs() < 1e-9, "{imbalance}");
    // Without a seed that is known there is nothing to craft against: each watcher has another.
    for _ in 0..3 {
        let imbalance = live_and_die(builder(), &keys);
        assert!(imbalance < 1.25, "{imbalance}");
    }
}

#[test]
fn keys_with_a_common_prefix_or_a_pattern_spread_evenly() {
    let prefixed = (0..20_000u32).map(|i| format!("https://example.org/tenants/7/devices/{i}"));
    let prefixed: Vec<String> = prefixed.collect();
    assert!(live_and_die(builder(), &prefixed) < 1.15);
    // Aligned addresses, and keys that differ in their upper half only.
    for shift in [12, 32, 44] {
        let keys: Vec<u64> = (0..20_000).map(|key| key << shift).collect();
        assert!(live_and_die(builder(), &keys) < 1.15);
    }
}

/// A key whose hash is always the same, and which counts how often two are compared.
#[derive(Clone, Debug, PartialOrd, Ord)]
struct Same(u64);

/// How often two of them were compared.
static COMPARED: AtomicU64 = AtomicU64::new(0);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.fetch_add(1, Ordering::Relaxed);
        self.0 == other.0
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(7);
    }
}

#[test]
fn keys_with_a_constant_hash_are_correct_and_only_slower() {
    const KEYS: u64 = 4_000;
    let began = Instant::now();
    let keys: Vec<Same> = (0..KEYS).map(Same).collect();
    let imbalance = live_and_die(builder(), &keys);
    assert!((imbalance - WORKERS as f64).abs() < 1e-9, "{imbalance}");
    // A beat compares its key with those that have the same hash, at the most; expiry compares none at all. So two
    // beats each make at most 2 n^2: for 4,000 keys half a second, on an idle machine.
    let compared = COMPARED.load(Ordering::Relaxed);
    assert!(compared <= 2 * KEYS * KEYS, "{compared} comparisons");
    assert!(began.elapsed() < GENEROUS, "{:?}", began.elapsed());
}

#[test]
fn keys_with_a_constant_hash_can_be_asked_for_and_removed_one_by_one() {
    let at = Duration::from_secs;
    let mut watcher = LocalWatcher::<Same>::builder()
        .timeout(TIMEOUT)
        .build()
        .unwrap();
    for key in 0..500 {
        watcher.beat(Same(key), at(key)).unwrap();
        watcher.poll(at(key), drop);
    }
    // The last ten live; each beat found its own key among the many.
    assert_eq!(watcher.len(), 10);
    for key in 0..500 {
        assert_eq!(watcher.contains(&Same(key)), key >= 490);
    }
    for key in (490..500).rev().step_by(2) {
        assert!(watcher.remove(&Same(key), at(499)));
        assert!(!watcher.contains(&Same(key)) && watcher.contains(&Same(key - 1)));
    }
    let mut told = Vec::new();
    watcher.poll(at(600), |event| told.push(event.key().unwrap().0));
    assert_eq!(told, [490, 492, 494, 496, 498]);
}

#[test]
fn a_cap_on_keys_refuses_the_many_and_evicts_nobody() {
    let clock = ManualClock::new();
    let (watcher, events) = builder::<u64>()
        .timeout(TIMEOUT)
        .clock(clock.clone())
        .max_keys(1_000)
        .seed(SEED)
        .build_with_channel(2_000)
        .unwrap();
    watcher.beat_many(1_000_000..1_001_000u64).unwrap();
    // A flood of new keys, all on one worker, whose share is long full.
    let flood = crafted(40_000);
    let refused = watcher.beat_many(flood.iter().copied()).unwrap_err();
    assert_eq!(refused.kind(), BeatErrorKind::Full);
    assert_eq!(refused.into_keys().len(), flood.len());
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 1_000);
    watcher.beat_many(1_000_000..1_001_000u64).unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    let mut keys: Vec<u64> = events
        .try_iter()
        .map(|event| *event.key().unwrap())
        .collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(1_000_000..1_001_000));
}
