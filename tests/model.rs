//! Random operations on a whole watcher, threads and all, against a map: what was reported of each key, the accounting,
//! and who is watched, compared after each step.
//!
//! The clock is a `ManualClock`, and every step ends with a `flush`. `PROPTEST_CASES=10000 cargo test --test model`
//! makes a long run of it; it is a binary of its own so that no other test takes its processors. Seeds that failed are
//! kept in `proptest-regressions/watcher.txt` and tried first.

#[path = "support/model.rs"]
#[expect(dead_code, reason = "what only other tests of the model use")]
mod model;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveness::{
    BeatErrorKind, Event, EventKind, Heart, HeartError, ManualClock, Mode, Options, Refused, Sink,
    Stats, Watcher,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use model::{Beat, Config, Model, NEVER, STARTS};

/// The timeout of a key that was given none.
const TIMEOUT: u64 = 100;

/// How many keys there are to draw from.
const KEYS: u64 = 12;

/// How many cases where `PROPTEST_CASES` does not say it.
const CASES: u32 = 48;

/// The kinds of event that are asked for.
const KINDS: [EventKind; 4] = [
    EventKind::Joined,
    EventKind::Expired,
    EventKind::Recovered,
    EventKind::Removed,
];

/// Long enough for any machine to do anything that is done at once.
const GENEROUS: Duration = Duration::from_secs(20);

/// What the sink, or the callback, does with the next event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Takes,
    Panics,
    /// A callback cannot refuse, it takes.
    Refuses,
}

/// How events leave the watcher.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Through a sink that is called on the workers.
    Sink,
    /// Through a callback on the delivery thread.
    Callback,
}

/// One operation. Each can be left out of a run, so that a run shrinks.
#[derive(Clone, Debug)]
enum Op {
    Beat(u64),
    /// A beat with a timeout or a mode.
    BeatWith(u64, Option<u64>, Option<Mode>),
    BeatMany(Vec<u64>),
    /// A new heart, which replaces the key's older one.
    Watch(u64),
    HeartBeat(u64),
    /// The key's heart goes, and takes the key along or leaves it.
    LetGo {
        key: u64,
        leave: bool,
    },
    Remove(u64),
    Advance(u64),
    Back(u64),
    Mood(Mood),
}

/// What the sink was given, and what it does.
#[derive(Debug)]
struct Receiver {
    mood: Mood,
    told: Vec<Event<u64, u64>>,
    panics: u64,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Receiver>>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Receiver> {
        // No guard is held while the sink panics.
        self.0.lock().unwrap()
    }

    /// Takes `event`, and perhaps panics, without the message of a panic that is meant.
    fn take(&self, event: Event<u64, u64>) {
        let mut receiver = self.lock();
        receiver.told.push(event);
        if receiver.mood == Mood::Panics {
            receiver.panics += 1;
            drop(receiver);
            resume_unwind(Box::new("for the test"));
        }
    }
}

impl Sink<u64, u64> for Shared {
    fn offer(&self, event: Event<u64, u64>) -> Result<(), Refused<u64, u64>> {
        if self.lock().mood == Mood::Refuses {
            return Err(Refused::Full(event));
        }
        self.take(event);
        Ok(())
    }
}

/// A watcher and its model.
struct Pair {
    watcher: Watcher<u64, u64>,
    clock: ManualClock,
    way: Way,
    receiver: Shared,
    /// How many of the reported events have been checked.
    checked: usize,
    /// The hearts that are held, by number.
    hearts: BTreeMap<usize, Heart<u64, u64>>,
    /// How many hearts there were.
    hearts_made: usize,
    model: Model,
}

impl Pair {
    fn new(start: u64, way: Way, forget_after: Option<u64>) -> Self {
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(start));
        let receiver = Shared(Arc::new(Mutex::new(Receiver {
            mood: Mood::Takes,
            told: Vec::new(),
            panics: 0,
        })));
        let builder = Watcher::<u64, u64>::builder()
            .timeout(Duration::from_nanos(TIMEOUT))
            .clock(clock.clone())
            .workers(2)
            .events(KINDS);
        let builder = match forget_after {
            Some(down) => builder.forget_after(Duration::from_nanos(down)),
            None => builder,
        };
        let clone = receiver.clone();
        let builder = match way {
            Way::Sink => builder.sink(clone),
            Way::Callback => builder.on_event(move |event| clone.take(event)),
        };
        let watcher = builder.build().unwrap();
        // From now on the watcher has seen the clock at `start`, so that going back is standing still.
        watcher.flush().unwrap();
        Pair {
            watcher,
            clock,
            way,
            receiver,
            checked: 0,
            hearts: BTreeMap::new(),
            hearts_made: 0,
            model: Model::new(
                Config {
                    timeout: TIMEOUT,
                    mode: Mode::Once,
                    wanted: KINDS.to_vec(),
                    max_keys: usize::MAX,
                    forget_after: forget_after.unwrap_or(NEVER),
                    grace_cap: 0,
                    one_table: false,
                },
                start,
            ),
        }
    }

    /// A plain beat of `key` now.
    fn beat(&self, key: u64) -> Beat {
        Beat {
            key,
            stamp: self.model.now,
            ..Beat::default()
        }
    }

    fn step(&mut self, op: &Op) {
        let watcher = &self.watcher;
        match *op {
            Op::Beat(key) => {
                watcher.beat(key).unwrap();
                self.model.beat(&self.beat(key));
            }
            Op::BeatWith(key, timeout, mode) => {
                let mut options = Options::new();
                if let Some(timeout) = timeout {
                    options = options.timeout(Duration::from_nanos(timeout));
                }
                if let Some(mode) = mode {
                    options = options.mode(mode);
                }
                watcher.beat_with(key, options).unwrap();
                self.model.beat(&Beat {
                    timeout,
                    mode,
                    ..self.beat(key)
                });
            }
            Op::BeatMany(ref keys) => {
                let accepted = watcher.beat_many(keys.iter().copied()).unwrap();
                assert_eq!(accepted, keys.len());
                for &key in keys {
                    self.model.beat(&self.beat(key));
                }
            }
            Op::Watch(key) => {
                let heart = watcher.watch(key).unwrap();
                self.model.watch(&self.beat(key), self.hearts_made);
                self.hearts.insert(self.hearts_made, heart);
                self.hearts_made += 1;
                self.check_hearts();
            }
            Op::HeartBeat(key) => {
                if let Some(beat) = self.model.heart_beat(key) {
                    assert_eq!(self.hearts[&beat.heart].beat(), Ok(()));
                }
            }
            Op::LetGo { key, leave } => {
                if let Some(heart) = self.model.heart(key) {
                    let heart = self.hearts.remove(&heart).unwrap();
                    if leave {
                        heart.detach();
                    } else {
                        drop(heart);
                    }
                    self.model.release(key, leave);
                }
            }
            Op::Remove(key) => {
                watcher.remove(&key).unwrap();
                self.model.remove(key);
                self.check_hearts();
            }
            Op::Advance(by) => {
                self.clock.advance(Duration::from_nanos(by));
                let now = model::nanos(self.clock.now().since_origin());
                self.model.now = self.model.now.max(now);
            }
            // The watcher takes it as standing still.
            Op::Back(by) => {
                let back = self.clock.now() - Duration::from_nanos(by);
                self.clock.set(back);
            }
            Op::Mood(mood) => self.receiver.lock().mood = mood,
        }
    }

    /// Whether the sink refuses what it is offered.
    fn refuses(&self) -> bool {
        self.way == Way::Sink && self.receiver.lock().mood == Mood::Refuses
    }

    /// Checks that the hearts which ended since the last time say so.
    fn check_hearts(&mut self) {
        self.watcher.flush().unwrap();
        for (heart, end) in self.model.ended.drain(..) {
            if let Some(heart) = self.hearts.remove(&heart) {
                assert_eq!(heart.beat(), Err(end));
            }
        }
    }

    /// Flushes, and compares everything that can be seen from outside.
    fn compare(&mut self) {
        self.watcher.flush().unwrap();
        self.model.expire(self.model.now);
        self.check_told();
        self.check_hearts();
        assert!(
            self.refuses() || self.model.is_queue_empty(),
            "lost: {:?}",
            self.model
        );
        let stats = self.model.stats();
        self.compare_stats(&self.watcher.stats(), stats.pending, 0);
        assert_eq!(self.watcher.len() as u64, stats.live);
        let snapshot: BTreeMap<_, _> = self.watcher.snapshot().unwrap().into_iter().collect();
        assert!(self.model.keys().eq(snapshot.keys().copied()));
        for (&key, status) in &snapshot {
            self.model.check_status(key, Some(status));
        }
        let alone = self.watcher.status(&0).unwrap();
        assert_eq!(alone.as_ref(), snapshot.get(&0), "asked for alone");
    }

    /// Checks what was reported since the last time. Callbacks run on a thread of their own, so they are waited for.
    fn check_told(&mut self) {
        let began = Instant::now();
        loop {
            let told = self.receiver.lock().told[self.checked..].to_vec();
            self.checked += told.len();
            for event in &told {
                self.model.check_offer(event);
                self.model.settle(event, true);
                self.model.expire(self.model.now);
            }
            // A panic is counted after it was caught.
            let panics = self.receiver.lock().panics;
            let is_done = self.way == Way::Sink
                || self.model.is_queue_empty() && self.watcher.stats().panics == panics;
            if is_done || began.elapsed() > GENEROUS {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Compares the accounting; `pending` and `discarded` episodes are those that were not reported.
    fn compare_stats(&self, actual: &Stats, pending: u64, discarded: u64) {
        let mut expected = self.model.stats();
        (expected.pending, expected.discarded) = (pending, discarded);
        expected.panics = self.receiver.lock().panics;
        // Of these only the watcher knows, or they depend on the pace of its threads.
        expected.wakeups = actual.wakeups;
        expected.bytes = actual.bytes;
        expected.live_by_worker.clone_from(&actual.live_by_worker);
        expected.detection = actual.detection.clone();
        expected.delivery = actual.delivery.clone();
        assert_eq!(*actual, expected);
        assert!(actual.is_balanced());
        assert_eq!(actual.live_by_worker.iter().sum::<u64>(), actual.live);
        assert_eq!(actual.detection.count(), actual.expiries);
    }

    /// Closes: what the sink refuses is discarded, and nothing is accepted after that.
    fn close(mut self) {
        let stats = self.watcher.close();
        let given_up = self.model.stats().pending;
        self.check_told();
        self.compare_stats(&stats, 0, given_up);
        assert_eq!(self.watcher.close(), stats, "closing twice changes nothing");
        let error = self.watcher.beat(0u64).unwrap_err();
        assert_eq!(error.kind(), BeatErrorKind::Closed);
        for heart in self.hearts.values() {
            assert_eq!(heart.beat(), Err(HeartError::Closed));
        }
    }
}

fn key() -> impl Strategy<Value = u64> {
    0..KEYS
}

fn op() -> impl Strategy<Value = Op> {
    let timeout = option::of(select(&[1, 7, 50, 101, u64::MAX - 1][..]));
    let mode = option::of(select(&[Mode::Once, Mode::Repeat, Mode::Track][..]));
    let by = prop_oneof![
        8 => select(&[1, 6, 49, 50, 99, 100, 101, 250][..]),
        1 => (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift),
    ];
    prop_oneof![
        6 => key().prop_map(Op::Beat),
        6 => (key(), timeout, mode).prop_map(|(key, timeout, mode)| Op::BeatWith(key, timeout, mode)),
        3 => vec(key(), 0..8).prop_map(Op::BeatMany),
        4 => key().prop_map(Op::Watch),
        5 => key().prop_map(Op::HeartBeat),
        2 => (key(), any::<bool>()).prop_map(|(key, leave)| Op::LetGo { key, leave }),
        3 => key().prop_map(Op::Remove),
        9 => by.prop_map(Op::Advance),
        1 => (0..300u64).prop_map(Op::Back),
        4 => select(&[Mood::Takes, Mood::Panics, Mood::Refuses][..]).prop_map(Op::Mood),
    ]
}

fn cases() -> ProptestConfig {
    let given = ProptestConfig::default();
    let is_said = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if is_said { given.cases } else { CASES },
        max_shrink_iters: 4_096,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "proptest-regressions/watcher.txt",
        ))),
        ..given
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_watcher_agrees_with_a_map(
        start in select(&STARTS[..]),
        way in select(&[Way::Sink, Way::Callback][..]),
        forget_after in option::of(select(&[0, 50, 99, 100, 300][..])),
        ops in vec(op(), 1..60),
    ) {
        let mut pair = Pair::new(start, way, forget_after);
        for op in &ops {
            pair.step(op);
            pair.compare();
        }
        pair.close();
    }
}
