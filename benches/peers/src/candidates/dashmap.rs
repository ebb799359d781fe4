//! A `dashmap` of atomic stamps: a beat is a look-up under a shard's read lock and a store, a thread scans for silence.
//!
//! The scan reads, which does not hold up beats, and then removes those that are still silent. It rests as the scanner
//! says: a hundredth of the timeout, or longer where a scan is long.
//!
//! A beat by a handle is a store into a stamp that map and handle share, `Arc<AtomicU64>`; only the `handle` scenario
//! uses such a map. Unlike a heart, a handle does not learn that its key expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::dashmap::DashMap;
use ahash::RandomState;

use crate::candidate::{Candidate, Clock, Config, Handles, OwnTimeouts, Patience, Report, nanos};
use crate::candidates::scanner::{Scanner, rest_after};
use crate::key::Name;

/// Where the time of the last beat is kept.
pub(crate) trait Stamp: Send + Sync + 'static {
    /// A stamp of `now_ns`.
    fn new(now_ns: u64) -> Self;

    /// The word itself.
    fn word(&self) -> &AtomicU64;
}

impl Stamp for AtomicU64 {
    fn new(now_ns: u64) -> Self {
        AtomicU64::new(now_ns)
    }

    fn word(&self) -> &AtomicU64 {
        self
    }
}

impl Stamp for Arc<AtomicU64> {
    fn new(now_ns: u64) -> Self {
        Arc::new(AtomicU64::new(now_ns))
    }

    fn word(&self) -> &AtomicU64 {
        self
    }
}

/// A map and its scanning thread.
#[derive(Debug)]
pub(crate) struct Dashmap<S: Stamp, P: Patience> {
    /// The scanning thread.
    _scanner: Scanner,
    /// When each key beat, and how long it may be silent.
    map: Arc<DashMap<Name, (S, P), RandomState>>,
    /// The time.
    clock: Clock,
    /// The timeout of a key that is given none of its own.
    timeout: Duration,
}

impl<S: Stamp, P: Patience> Dashmap<S, P> {
    /// Begins to watch `key`.
    #[cold]
    fn insert(&self, key: Name, patience: P) {
        self.map
            .insert(key, (S::new(self.clock.now_ns()), patience));
    }
}

impl<S: Stamp, P: Patience> Candidate for Dashmap<S, P> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let map = Arc::new(DashMap::with_capacity_and_hasher(
            config.keys,
            RandomState::new(),
        ));
        let (clock, timeout, looked_at) = (Clock::new(), config.timeout, map.clone());
        let default_ns = nanos(timeout);
        let scanner = Scanner::spawn(move || {
            rest_after(timeout, || scan(&looked_at, clock, default_ns, &report))
        });
        Dashmap {
            _scanner: scanner,
            map,
            clock,
            timeout: config.timeout,
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        match self.map.get(key) {
            Some(entry) => entry.0.word().store(self.clock.now_ns(), Ordering::Release),
            None => self.insert(*key, P::of(self.timeout)),
        }
    }

    fn settle(&self) {}
}

/// Reports and removes who is silent.
fn scan<S: Stamp, P: Patience>(
    map: &DashMap<Name, (S, P), RandomState>,
    clock: Clock,
    default_ns: u64,
    report: &Report,
) {
    let is_silent = |(stamp, patience): &(S, P), now_ns: u64| {
        now_ns.saturating_sub(stamp.word().load(Ordering::Acquire)) >= patience.ns(default_ns)
    };
    let now_ns = clock.now_ns();
    let silent: Vec<Name> = map
        .iter()
        .filter(|entry| is_silent(entry.value(), now_ns))
        .map(|entry| *entry.key())
        .collect();
    for key in silent {
        if map
            .remove_if(&key, |_, entry| is_silent(entry, now_ns))
            .is_some()
        {
            report.expired(&key);
        }
    }
}

impl<S: Stamp, P: Patience> OwnTimeouts for Dashmap<S, P> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.insert(*key, P::of(timeout));
    }
}

impl<P: Patience> Handles for Dashmap<Arc<AtomicU64>, P> {
    type Handle = Arc<AtomicU64>;

    fn handle(&self, key: &Name) -> Arc<AtomicU64> {
        self.beat(key);
        let entry = self.map.get(key).expect("it was beaten just now");
        entry.0.clone()
    }

    #[inline]
    fn beat_by(&self, stamp: &Arc<AtomicU64>) {
        stamp.store(self.clock.now_ns(), Ordering::Release);
    }
}
