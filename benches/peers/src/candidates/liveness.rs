//! Ours: a watcher with a callback on its delivery thread, as its README shows it.

use std::time::Duration;

use liveness::{Heart, Options, Watcher};

use crate::candidate::{BeatMany, Candidate, Config, Handles, OwnTimeouts, Report};
use crate::key::Name;

/// A watcher.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// All there is to it.
    watcher: Watcher<Name>,
}

impl Candidate for Liveness {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let watcher = Watcher::<Name>::builder()
            .workers(config.workers)
            .timeout(config.timeout)
            .expected_keys(config.keys)
            .on_event(move |event| {
                if let Some(key) = event.key() {
                    report.expired(key);
                }
            })
            .build()
            .expect("the options are in range");
        Liveness { watcher }
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

impl OwnTimeouts for Liveness {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.watcher
            .beat_with(*key, Options::new().timeout(timeout))
            .expect("the watcher is open");
    }
}

impl BeatMany for Liveness {}

impl Handles for Liveness {
    type Handle = Heart<Name>;

    fn handle(&self, key: &Name) -> Heart<Name> {
        self.watcher.watch(*key).expect("the watcher is open")
    }

    #[inline]
    fn beat_by(&self, heart: &Heart<Name>) {
        heart.beat().expect("the key is watched");
    }
}
