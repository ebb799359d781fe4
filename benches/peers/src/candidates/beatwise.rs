//! `beatwise`: a registry of tasks whose `Heartbeat` handles beat, and a cursor that tells whose state changed.
//!
//! It starts no thread and calls nobody back: its own way to notice silence is to poll a `TransitionCursor`. A thread
//! does that here, as a user would have to; that is the same help as the other maps get. A poll collects and sorts the
//! status of every task, so it rests as the scanner says, which makes for long pauses where there are many keys; the
//! crate is meant for tens of long-running tasks, and reads best at such sizes.
//!
//! It knows handles only, so a beat of a key finds its handle in a `dashmap`. A key whose transition is to `Late` is
//! reported and forgotten: its handle is dropped, and the stopped task purged.

use std::sync::Arc;
use std::time::Duration;

use ::beatwise::{FixedTiming, HealthState, Heartbeat, Monitor, TaskConfig, Timing};
use ahash::RandomState;
use dashmap::DashMap;

use crate::candidate::{Candidate, Config, Handles, OwnTimeouts, Report};
use crate::candidates::scanner::{Scanner, rest_after};
use crate::key::{self, Name};

/// The handle of each key.
type Hearts = DashMap<Name, Heartbeat, RandomState>;

/// A monitor, its handles, and the polling thread.
pub(crate) struct Beatwise {
    /// The polling thread.
    _scanner: Scanner,
    /// The registry.
    monitor: Monitor,
    /// The handles.
    hearts: Arc<Hearts>,
    /// The timeout of a key that is given none of its own.
    timeout: Duration,
}

impl Beatwise {
    /// Registers `key`, whose first beat this is.
    fn register(&self, key: &Name, timeout: Duration) -> Heartbeat {
        let timing = FixedTiming::new(timeout).with_grace(Duration::ZERO);
        let name = String::from_utf8_lossy(key);
        let heart = self
            .monitor
            .register(TaskConfig::new(&*name, Timing::Fixed(timing)))
            .expect("the timing is valid");
        heart.beat().expect("it was registered just now");
        heart
    }
}

impl Candidate for Beatwise {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let monitor = Monitor::new();
        let hearts = Arc::new(Hearts::with_capacity_and_hasher(
            config.keys,
            RandomState::new(),
        ));
        let (polled, handles) = (monitor.clone(), hearts.clone());
        let mut cursor = monitor.transition_cursor();
        let is_late = move |heart: &Heartbeat| {
            let status = polled.status(heart.id());
            status.is_some_and(|status| status.health.state() == HealthState::Late)
        };
        let (purged, timeout) = (monitor.clone(), config.timeout);
        let scanner = Scanner::spawn(move || {
            rest_after(timeout, || {
                let changes = cursor.poll();
                let late = changes
                    .iter()
                    .filter(|change| change.current == HealthState::Late);
                let mut has_stopped = false;
                for change in late {
                    let name = key::name(key::index_of(change.status.name.as_bytes()));
                    // It may have beaten since.
                    if handles
                        .remove_if(&name, |_, heart| is_late(heart))
                        .is_some()
                    {
                        has_stopped = true;
                        report.expired(&name);
                    }
                }
                if has_stopped {
                    purged.purge_stopped();
                }
            })
        });
        Beatwise {
            _scanner: scanner,
            monitor,
            hearts,
            timeout: config.timeout,
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        if let Some(heart) = self.hearts.get(key) {
            heart.beat().expect("its handle is not dropped");
            return;
        }
        self.hearts
            .entry(*key)
            .or_insert_with(|| self.register(key, self.timeout));
    }

    fn settle(&self) {}
}

impl OwnTimeouts for Beatwise {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.hearts.insert(*key, self.register(key, timeout));
    }
}

impl Handles for Beatwise {
    type Handle = Heartbeat;

    fn handle(&self, key: &Name) -> Heartbeat {
        self.beat(key);
        let heart = self.hearts.get(key).expect("it was beaten just now");
        heart.clone()
    }

    #[inline]
    fn beat_by(&self, heart: &Heartbeat) {
        heart.beat().expect("its handle is not dropped");
    }
}
