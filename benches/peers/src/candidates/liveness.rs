//! Ours: a watcher with a callback on its delivery thread, as its README shows it.

use std::marker::PhantomData;
use std::time::Duration;

use liveness::{Clock, Heart, Options, Watcher};

use crate::candidate::{BeatMany, Candidate, Config, Handles, OwnTimeouts, Report};
use crate::key::Name;

/// Where a watcher's time comes from.
pub(crate) trait Source: Send + Sync + 'static {
    /// A clock.
    fn clock() -> Clock;
}

/// The standard library, which is the default.
#[derive(Debug)]
pub(crate) struct Monotonic;

impl Source for Monotonic {
    fn clock() -> Clock {
        Clock::monotonic()
    }
}

/// The processor's time-stamp counter, with the feature `tsc`.
#[derive(Debug)]
pub(crate) struct Tsc;

impl Source for Tsc {
    fn clock() -> Clock {
        Clock::tsc()
    }
}

/// A watcher.
#[derive(Debug)]
pub(crate) struct Liveness<C> {
    /// All there is to it.
    watcher: Watcher<Name>,
    /// Its clock.
    clock: PhantomData<C>,
}

impl<C: Source> Candidate for Liveness<C> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let watcher = Watcher::<Name>::builder()
            .workers(config.workers)
            .timeout(config.timeout)
            .expected_keys(config.keys)
            .clock(C::clock())
            .on_event(move |event| {
                if let Some(key) = event.key() {
                    report.expired(key);
                }
            })
            .build()
            .expect("the options are in range");
        Liveness {
            watcher,
            clock: PhantomData,
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        self.watcher.beat(*key).expect("the watcher is open");
    }

    fn beat_many(&self, keys: &[Name]) {
        self.watcher
            .beat_many(keys.iter().copied())
            .expect("the watcher is open");
    }

    fn settle(&self) {
        self.watcher.flush().expect("the watcher is open");
    }
}

impl<C: Source> OwnTimeouts for Liveness<C> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.watcher
            .beat_with(*key, Options::new().timeout(timeout))
            .expect("the watcher is open");
    }
}

impl<C: Source> BeatMany for Liveness<C> {}

impl<C: Source> Handles for Liveness<C> {
    type Handle = Heart<Name>;

    fn handle(&self, key: &Name) -> Heart<Name> {
        self.watcher.watch(*key).expect("the watcher is open")
    }

    #[inline]
    fn beat_by(&self, heart: &Heart<Name>) {
        heart.beat().expect("the key is watched");
    }
}
