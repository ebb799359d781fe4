//! A `moka` cache: a beat is a `get`, which renews the time-to-idle; an eviction listener tells who expired.
//!
//! moka does its housekeeping when somebody calls it, so without traffic nothing is reported. A pump thread calls
//! `run_pending_tasks`, as its documentation says one should who needs evictions in time. A call that finds nothing to
//! do is cheap, so the pump runs a thousand times per timeout: every millisecond where that is a second.
//!
//! Timeouts of their own are an `Expiry` policy, whose timer wheel ticks about once a second; only the speed of beats
//! is measured with it.
//!
//! There is no handle on an entry whose use would count as a sign of life, and no call for many keys at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::moka::Expiry;
use ::moka::notification::RemovalCause;
use ::moka::sync::Cache;
use ahash::RandomState;

use crate::candidate::{Candidate, Config, OwnTimeouts, Patience, Report};
use crate::candidates::scanner::{Scanner, rest_after_look};
use crate::key::Name;

/// A cache and its pump.
#[derive(Debug)]
pub(crate) struct Moka<P: Patience> {
    /// The pump; ends before the cache does.
    _pump: Scanner,
    /// The keys.
    cache: Cache<Name, P, RandomState>,
    /// The timeout of a key that is given none of its own.
    timeout: Duration,
}

/// Renews an entry's own timeout when it is made and whenever it is read.
struct TimeToIdle;

impl<P: Patience> Expiry<Name, P> for TimeToIdle {
    fn expire_after_create(&self, _: &Name, patience: &P, _: Instant) -> Option<Duration> {
        Some(Duration::from_nanos(patience.ns(0)))
    }

    fn expire_after_read(
        &self,
        _: &Name,
        patience: &P,
        _: Instant,
        _: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        Some(Duration::from_nanos(patience.ns(0)))
    }

    fn expire_after_update(
        &self,
        _: &Name,
        patience: &P,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Duration::from_nanos(patience.ns(0)))
    }
}

impl<P: Patience> Candidate for Moka<P> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let builder = Cache::builder()
            .initial_capacity(config.keys)
            .eviction_listener(move |key: Arc<Name>, _, cause| {
                if cause == RemovalCause::Expired {
                    report.expired(&*key);
                }
            });
        let builder = if P::UNIFORM {
            builder.time_to_idle(config.timeout)
        } else {
            builder.expire_after(TimeToIdle)
        };
        let cache = builder.build_with_hasher(RandomState::new());
        let (pumped, rest) = (cache.clone(), rest_after_look(config.timeout));
        let pump = Scanner::spawn(move || {
            pumped.run_pending_tasks();
            rest
        });
        Moka {
            _pump: pump,
            cache,
            timeout: config.timeout,
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        if self.cache.get(key).is_none() {
            self.cache.insert(*key, P::of(self.timeout));
        }
    }

    /// Applies what the cache has recorded of reads and writes.
    fn settle(&self) {
        self.cache.run_pending_tasks();
    }
}

impl<P: Patience> OwnTimeouts for Moka<P> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.cache.insert(*key, P::of(timeout));
    }
}
