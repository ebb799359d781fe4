//! Random operations on a whole watcher, threads and all, against a map: what was told of each key, the accounting, and
//! who is watched, compared after each step.
//!
//! The clock is a `ManualClock`, and every step ends with a `flush`. `PROPTEST_CASES=10000 cargo test --test model` makes
//! a long run of it. Seeds that failed are kept in `proptest-regressions/watcher.txt` and tried first.

use std::collections::{BTreeMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveness::{
    BeatErrorKind, Event, EventKind, Heart, HeartError, ManualClock, Mode, Options, Refused, Sink,
    Stats, Timestamp, Watcher,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

/// The timeout of a key that was given none.
const TIMEOUT: u64 = 100;

/// How many keys there are to draw from.
const KEYS: u64 = 12;

/// How many cases where `PROPTEST_CASES` does not say it.
const CASES: u32 = 48;

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
    told: Vec<Event<u64>>,
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
    fn take(&self, event: Event<u64>) {
        let mut receiver = self.lock();
        receiver.told.push(event);
        if receiver.mood == Mood::Panics {
            receiver.panics += 1;
            drop(receiver);
            resume_unwind(Box::new("for the test"));
        }
    }
}

impl Sink<u64, ()> for Shared {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        if self.lock().mood == Mood::Refuses {
            return Err(Refused::Full(event));
        }
        self.take(event);
        Ok(())
    }
}

/// A watched key.
#[derive(Clone, Copy, Debug)]
struct Life {
    last_beat: u64,
    timeout: u64,
    mode: Mode,
    down: Option<Down>,
}

/// A `Repeat` key that missed.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: u64,
    reported: u64,
    misses: u64,
}

impl Life {
    fn deadline(&self) -> u64 {
        let from = self.down.map_or(self.last_beat, |down| down.reported);
        from.saturating_add(self.timeout)
    }
}

/// What is to be told of a key: the kind, the misses, and whether it ends an episode.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    kind: EventKind,
    last_beat: u64,
    misses: u64,
    is_terminal: bool,
    /// Of a report of a `Repeat` key: its first missed deadline, and its misses when it was found.
    report: Option<(u64, u64)>,
}

/// The watcher as a map, and what it was told so far.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    lives: BTreeMap<u64, Life>,
    /// What the sink has not been given, by key.
    waiting: BTreeMap<u64, VecDeque<Expected>>,
    stats: Stats,
}

impl Model {
    fn expect(&mut self, key: u64, kind: EventKind, life: Life, misses: u64) {
        self.waiting.entry(key).or_default().push_back(Expected {
            kind,
            last_beat: life.last_beat,
            misses,
            is_terminal: kind == EventKind::Expired && life.mode == Mode::Once,
            report: None,
        });
    }

    fn beat(&mut self, key: u64, timeout: Option<u64>, mode: Option<Mode>) {
        self.stats.beats += 1;
        let Some(mut life) = self.lives.get(&key).copied() else {
            self.stats.started += 1;
            let life = Life {
                last_beat: self.now,
                timeout: timeout.unwrap_or(TIMEOUT),
                mode: mode.unwrap_or(Mode::Once),
                down: None,
            };
            self.expect(key, EventKind::Joined, life, 0);
            self.lives.insert(key, life);
            return;
        };
        life.last_beat = self.now;
        if let Some(down) = life.down.take() {
            self.expect(key, EventKind::Recovered, life, down.misses);
        }
        life.timeout = timeout.unwrap_or(life.timeout);
        life.mode = mode.unwrap_or(life.mode);
        self.lives.insert(key, life);
    }

    /// Expires what is due; returns the keys that are gone.
    fn expire(&mut self) -> Vec<u64> {
        let mut gone = Vec::new();
        let keys: Vec<u64> = self.lives.keys().copied().collect();
        for key in keys {
            let mut life = self.lives[&key];
            let deadline = life.deadline();
            if deadline > self.now || deadline == u64::MAX {
                continue;
            }
            self.stats.expiries += 1;
            if life.mode == Mode::Once {
                self.expect(key, EventKind::Expired, life, 1);
                self.lives.remove(&key);
                gone.push(key);
                continue;
            }
            let mut down = life.down.unwrap_or(Down {
                since: deadline,
                reported: 0,
                misses: 0,
            });
            down.misses += 1;
            down.reported = self.now;
            life.down = Some(down);
            self.lives.insert(key, life);
            // A report that waits already tells the misses of the moment it is taken.
            let queue = self.waiting.entry(key).or_default();
            match queue.back_mut() {
                Some(expected)
                    if expected
                        .report
                        .is_some_and(|(since, _)| since == down.since) =>
                {
                    expected.misses = down.misses;
                }
                _ => queue.push_back(Expected {
                    kind: EventKind::Expired,
                    last_beat: life.last_beat,
                    misses: down.misses,
                    is_terminal: false,
                    report: Some((down.since, down.misses)),
                }),
            }
        }
        gone
    }

    fn remove(&mut self, key: u64) {
        let queue = self.waiting.entry(key).or_default();
        for pending in queue.iter_mut().filter(|expected| expected.is_terminal) {
            (pending.kind, pending.misses) = (EventKind::Removed, 0);
            pending.is_terminal = false;
            self.stats.removed += 1;
        }
        // Reports of what is removed go, whichever episode they are of: every one that waits ends here.
        queue.retain(|expected| expected.report.is_none());
        if let Some(life) = self.lives.remove(&key) {
            self.stats.removed += 1;
            self.expect(key, EventKind::Removed, life, 0);
        }
    }

    /// Checks that `event` is the next one of its key.
    fn check(&mut self, event: &Event<u64>) {
        let event_of_key = event.key_event().expect("a manual clock never stalls");
        let key = event_of_key.key;
        let Some(expected) = self.waiting.get_mut(&key).and_then(VecDeque::pop_front) else {
            panic!("unexpected {event:?}")
        };
        let nanos = event_of_key.last_beat.since_origin().as_nanos();
        assert_eq!(
            (event.kind(), nanos),
            (expected.kind, u128::from(expected.last_beat)),
            "{event:?}"
        );
        let down = self.lives.get(&key).and_then(|life| life.down);
        let least = match expected.report {
            // What came after is told by the recovery, unless the sink was offered the report again before that.
            Some((since, found)) if down.is_none_or(|down| down.since != since) => found,
            _ => expected.misses,
        };
        assert!(
            (least..=expected.misses).contains(&event_of_key.misses),
            "{event:?} instead of {expected:?}"
        );
        if event.kind() == EventKind::Expired {
            let deadline = event_of_key.deadline.expect("it has expired");
            assert!(deadline <= event_of_key.detected && event_of_key.detected <= self.now());
        }
        self.stats.delivered += u64::from(expected.is_terminal);
    }

    fn now(&self) -> Timestamp {
        Duration::from_nanos(self.now).into()
    }

    fn pending(&self) -> u64 {
        let waiting = self.waiting.values().flatten();
        waiting.filter(|expected| expected.is_terminal).count() as u64
    }

    fn is_all_told(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
    }
}

/// A watcher and its model.
struct Pair {
    watcher: Watcher<u64>,
    clock: ManualClock,
    way: Way,
    receiver: Shared,
    /// How much of what was told has been checked.
    checked: usize,
    hearts: BTreeMap<u64, Heart<u64>>,
    model: Model,
}

impl Pair {
    fn new(start: u64, way: Way) -> Self {
        let clock = ManualClock::new();
        clock.set(Duration::from_nanos(start));
        let receiver = Shared(Arc::new(Mutex::new(Receiver {
            mood: Mood::Takes,
            told: Vec::new(),
            panics: 0,
        })));
        let builder = Watcher::<u64>::builder()
            .timeout(Duration::from_nanos(TIMEOUT))
            .clock(clock.clone())
            .workers(2)
            .events([
                EventKind::Joined,
                EventKind::Expired,
                EventKind::Recovered,
                EventKind::Removed,
            ]);
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
            model: Model {
                now: start,
                ..Model::default()
            },
        }
    }

    fn step(&mut self, op: &Op) {
        let (watcher, model) = (&self.watcher, &mut self.model);
        match *op {
            Op::Beat(key) => {
                watcher.beat(key).unwrap();
                model.beat(key, None, None);
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
                model.beat(key, timeout, mode);
            }
            Op::BeatMany(ref keys) => {
                let accepted = watcher.beat_many(keys.iter().copied()).unwrap();
                assert_eq!(accepted, keys.len());
                for &key in keys {
                    model.beat(key, None, None);
                }
            }
            Op::Watch(key) => {
                let heart = watcher.watch(key).unwrap();
                model.beat(key, None, None);
                watcher.flush().unwrap();
                if let Some(old) = self.hearts.insert(key, heart) {
                    assert_eq!(old.beat(), Err(HeartError::Replaced));
                }
            }
            Op::HeartBeat(key) => {
                let Some(heart) = self.hearts.get(&key) else {
                    return;
                };
                assert_eq!(heart.beat(), Ok(()));
                if model.lives[&key].down.is_some() {
                    model.beat(key, None, None);
                } else if let Some(life) = model.lives.get_mut(&key) {
                    life.last_beat = model.now;
                }
            }
            Op::LetGo { key, leave } => match self.hearts.remove(&key) {
                None => {}
                Some(heart) if leave => heart.detach(),
                Some(heart) => {
                    drop(heart);
                    model.remove(key);
                }
            },
            Op::Remove(key) => {
                watcher.remove(&key).unwrap();
                model.remove(key);
                watcher.flush().unwrap();
                if let Some(heart) = self.hearts.remove(&key) {
                    assert_eq!(heart.beat(), Err(HeartError::Removed));
                }
            }
            Op::Advance(by) => {
                self.clock.advance(Duration::from_nanos(by));
                model.now = model
                    .now
                    .max(self.clock.now().since_origin().as_nanos() as u64);
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

    /// Flushes, and compares everything that can be seen from outside.
    fn compare(&mut self) {
        self.watcher.flush().unwrap();
        for key in self.model.expire() {
            if let Some(heart) = self.hearts.remove(&key) {
                assert_eq!(heart.beat(), Err(HeartError::Expired));
            }
        }
        self.check_told();
        assert!(
            self.refuses() || self.model.is_all_told(),
            "lost: {:?}",
            self.model.waiting
        );
        self.compare_stats(&self.watcher.stats(), self.model.pending(), 0);
        assert_eq!(self.watcher.len(), self.model.lives.len());
        let snapshot: BTreeMap<_, _> = self.watcher.snapshot().unwrap().into_iter().collect();
        assert!(snapshot.keys().eq(self.model.lives.keys()));
        for (key, life) in &self.model.lives {
            let (status, nanos) = (snapshot[key], Duration::from_nanos);
            let misses = life.down.map_or(0, |down| down.misses);
            assert_eq!(
                (status.last_beat, status.timeout, status.misses),
                (nanos(life.last_beat).into(), nanos(life.timeout), misses),
                "key {key}"
            );
        }
        assert_eq!(
            self.watcher.status(&0).unwrap().as_ref(),
            snapshot.get(&0),
            "asked for alone"
        );
    }

    /// Checks what was told since the last time. Callbacks run on a thread of their own, so they are waited for.
    fn check_told(&mut self) {
        let began = Instant::now();
        loop {
            let told = self.receiver.lock().told[self.checked..].to_vec();
            self.checked += told.len();
            for event in &told {
                self.model.check(event);
            }
            // A panic is counted after it was caught.
            let panics = self.receiver.lock().panics;
            let is_done = self.way == Way::Sink
                || self.model.is_all_told() && self.watcher.stats().panics == panics;
            if is_done || began.elapsed() > GENEROUS {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Compares the accounting; `pending` and `discarded` episodes are those that were not told.
    fn compare_stats(&self, actual: &Stats, pending: u64, discarded: u64) {
        let mut expected = self.model.stats.clone();
        expected.live = self.model.lives.len() as u64;
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

    /// Closes: what the sink refuses is discarded, and nothing is taken any more.
    fn close(mut self) {
        let stats = self.watcher.close();
        let given_up = self.model.pending();
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
    let mode = option::of(select(&[Mode::Once, Mode::Repeat][..]));
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

/// The uptimes, in ns, at which earlier systems broke, the beginning, and the end.
const STARTS: [u64; 7] = [
    0,
    (1 << 31) * 1_000_000,
    (1 << 32) * 1_000_000,
    (1 << 36) * 1_000_000,
    (1 << 42) * 1_000_000,
    u64::MAX - 1_000_000,
    u64::MAX - 500,
];

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
        ops in vec(op(), 1..60),
    ) {
        let mut pair = Pair::new(start, way);
        for op in &ops {
            pair.step(op);
            pair.compare();
        }
        pair.close();
    }
}
