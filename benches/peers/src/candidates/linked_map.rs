//! A mutex around a linked hash map: a beat moves its key to the back, a thread takes the silent from the front.
//!
//! Where all keys have the same timeout nobody is due before the front, so the thread sleeps until exactly then. With
//! timeouts of their own it has to scan everybody under the lock, and rests as the scanner says.
//!
//! `beat_many` takes the lock and reads the clock once for all its keys. There is no handle: a beat has to move its key
//! in the list, and for that to find it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::candidate::{BeatMany, Candidate, Clock, Config, OwnTimeouts, Patience, Report, nanos};
use crate::candidates::lru::Lru;
use crate::candidates::scanner::{Scanner, rest_after};
use crate::key::Name;

/// How many keys are taken from the front while the lock is held once.
const TAKEN_AT_ONCE: usize = 256;

/// The map and its thread.
pub(crate) struct LinkedMap<P: Patience> {
    /// The thread.
    _scanner: Scanner,
    /// The map.
    lru: Arc<Mutex<Lru<Name, P>>>,
    /// The time.
    clock: Clock,
}

impl<P: Patience> Candidate for LinkedMap<P> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let (clock, timeout) = (Clock::new(), config.timeout);
        let lru = Arc::new(Mutex::new(Lru::new(config.keys, nanos(timeout))));
        let looked_at = lru.clone();
        let mut silent = Vec::new();
        let scanner = Scanner::spawn(move || {
            if P::UNIFORM {
                take_due(&looked_at, clock, &mut silent, &report)
            } else {
                rest_after(timeout, || {
                    looked_at
                        .lock()
                        .take_silent(clock.now_ns(), usize::MAX, &mut silent);
                    silent.drain(..).for_each(|key| report.expired(&key));
                })
            }
        });
        LinkedMap {
            _scanner: scanner,
            lru,
            clock,
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        let now_ns = self.clock.now_ns();
        self.lru.lock().touch(key, now_ns, None);
    }

    fn beat_many(&self, keys: &[Name]) {
        let now_ns = self.clock.now_ns();
        let mut lru = self.lru.lock();
        for key in keys {
            lru.touch(key, now_ns, None);
        }
    }

    fn settle(&self) {}
}

/// Reports who is due, and returns how long nobody will be.
fn take_due<P: Patience>(
    lru: &Mutex<Lru<Name, P>>,
    clock: Clock,
    silent: &mut Vec<Name>,
    report: &Report,
) -> Duration {
    loop {
        let now_ns = clock.now_ns();
        let next_ns = {
            let mut lru = lru.lock();
            lru.take_silent(now_ns, TAKEN_AT_ONCE, silent);
            lru.next_ns(now_ns)
        };
        if silent.is_empty() {
            return Duration::from_nanos(next_ns.saturating_sub(clock.now_ns()));
        }
        silent.drain(..).for_each(|key| report.expired(&key));
    }
}

impl<P: Patience> OwnTimeouts for LinkedMap<P> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        let now_ns = self.clock.now_ns();
        self.lru.lock().touch(key, now_ns, Some(P::of(timeout)));
    }
}

impl<P: Patience> BeatMany for LinkedMap<P> {}
