//! Keys that beat and fall silent, and nodes with a rise, a fall and a drain.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use liveness::observe::Observer;
use liveness::pacemaker::{BoxError, Pacemaker};
use liveness::registry::{Policy, Registry};
use liveness::{Mode, Watcher};

use crate::Failure;

/// The time between beats of a key.
const INTERVAL: Duration = Duration::from_millis(200);

/// The kinds of keys.
const KINDS: [&str; 4] = ["web", "db", "cache", "queue"];

/// A thread that is asked to end, and joined, when this is dropped.
pub(crate) struct Worker {
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Calls `work` with the number of the call, and waits for `pause` after each.
    pub(crate) fn spawn(pause: Duration, mut work: impl FnMut(u64) + Send + 'static) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let asked = stops.clone();
        let thread = std::thread::spawn(move || {
            let mut calls = 0;
            while !asked.load(Ordering::Relaxed) {
                work(calls);
                calls += 1;
                std::thread::sleep(pause);
            }
        });
        Worker {
            stops,
            thread: Some(thread),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed already.
            let _ = thread.join();
        }
    }
}

/// A watcher and what beats its keys.
pub(crate) struct Fleet {
    silent: Arc<Mutex<HashSet<Arc<str>>>>,
    _beats: Worker,
    _watcher: Arc<Watcher<Arc<str>>>,
}

impl Fleet {
    /// Starts `count` keys, which die and come back by themselves unless `is_quiet`.
    pub(crate) fn start(
        observer: &Observer,
        count: usize,
        is_quiet: bool,
    ) -> Result<Self, Failure> {
        let show = observer.events("services");
        let watcher = Watcher::<Arc<str>>::builder()
            .timeout(INTERVAL * 5 / 2)
            .mode(Mode::Track)
            .on_event(move |event| show(&event))
            .build()?;
        let watcher = Arc::new(watcher);
        observer.watcher("services", &watcher);
        let keys: Vec<Arc<str>> = (0..count)
            .map(|number| format!("{}-{:03}", KINDS[number % 4], number / 4).into())
            .collect();
        let silent = Arc::new(Mutex::new(HashSet::new()));
        let (beaten, quiet) = (watcher.clone(), silent.clone());
        let mut dice = fastrand::Rng::with_seed(7);
        // Those that died by themselves, and the call in which they come back.
        let mut dead: Vec<(Arc<str>, u64)> = Vec::new();
        let beats = Worker::spawn(INTERVAL, move |call| {
            let mut silent = quiet.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_quiet && call > 5 {
                // One in 8,000 each time, and now and then a rack.
                let rack = dice.u64(..200) == 0;
                let mut deaths = if rack { count / 40 } else { 0 };
                deaths += usize::from(dice.usize(..8_000) < count);
                let first = dice.usize(..count.max(1));
                for key in keys.iter().skip(first).step_by(4).take(deaths) {
                    if silent.insert(key.clone()) {
                        dead.push((key.clone(), call + dice.u64(10..60)));
                    }
                }
                dead.retain(|(key, until)| {
                    let stays = call < *until;
                    if !stays {
                        silent.remove(key);
                    }
                    stays
                });
            }
            let alive = keys.iter().filter(|key| !silent.contains(*key));
            // The watcher is not closed while this thread runs.
            let _ = beaten.beat_many(alive.cloned());
        });
        Ok(Fleet {
            silent,
            _beats: beats,
            _watcher: watcher,
        })
    }

    /// Lets a key fall silent, or beat again.
    pub(crate) fn set(&self, key: &str, is_silent: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if is_silent {
            silent.insert(key.into());
        } else {
            silent.remove(key);
        }
    }
}

/// A registry and what beats its nodes.
pub(crate) struct Nodes {
    _work: Worker,
    _pacemaker: Pacemaker,
    _registry: Arc<Registry<String, u16>>,
}

impl Nodes {
    /// Starts twenty-four nodes. One flaps, one is drained from time to time, one leaves, unless `is_quiet`.
    pub(crate) fn start(observer: &Observer, is_quiet: bool) -> Result<Self, Failure> {
        let registry = Registry::<String, u16>::builder()
            .policy(Policy::Fixed(INTERVAL * 3))
            .rise(3)
            .fall(3)
            .build()?;
        let registry = Arc::new(registry);
        observer.registry("backends", &registry);
        for number in 0..24 {
            registry.register(format!("backend-{number:02}"), 8000 + number)?;
        }
        let beaten = registry.clone();
        let work = Worker::spawn(INTERVAL, move |call| {
            let phase = call % 150;
            for number in 0..24 {
                let node = format!("backend-{number:02}");
                let is_silent = !is_quiet
                    && match number {
                        3 => phase > 20 && phase < 60,
                        7 => phase > 70 && phase < 76,
                        12..15 => phase > 100 && phase < 140,
                        _ => false,
                    };
                // A registry that is full or closed has no use for the beat.
                let _ = match (number, phase) {
                    _ if is_silent => Ok(()),
                    (20, 30) if !is_quiet => beaten.drain(&node),
                    (20, 90) if !is_quiet => beaten.undrain(&node),
                    _ => beaten.beat_or_register(&node, || 8000 + number),
                };
            }
        });
        let pacemaker = Pacemaker::every(INTERVAL).start(move || -> Result<(), BoxError> {
            match fastrand::u8(..) {
                0..8 => Err("no route to host".into()),
                _ => Ok(()),
            }
        })?;
        observer.pacemaker("to head office", &pacemaker);
        Ok(Nodes {
            _work: work,
            _pacemaker: pacemaker,
            _registry: registry,
        })
    }
}
