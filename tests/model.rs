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
    /// What the report that waits for the sink will say; there is at most one.
    reporting: Option<Silence>,
    /// How long it may be down.
    forget_after: u64,
}

/// A key that is silent and stays watched.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: u64,
    /// The last beat before it.
    last_beat: u64,
    reported: u64,
    misses: u64,
    /// What its report says: the mode and the deadline of the miss that it was queued for.
    mode: Mode,
    deadline: u64,
}

/// A silence whose report waits.
#[derive(Clone, Copy, Debug)]
struct Silence {
    down: Down,
    /// The beat that ended it.
    recovery: Option<u64>,
}

impl Life {
    fn deadline(&self) -> u64 {
        let Some(down) = self.down else {
            return self.last_beat.saturating_add(self.timeout);
        };
        let again = match self.mode {
            Mode::Track => u64::MAX,
            _ => down.reported.saturating_add(self.timeout),
        };
        again.min(self.forgotten())
    }

    /// When it is forgotten, not before its report is delivered.
    fn forgotten(&self) -> u64 {
        match self.down {
            Some(down) if self.reporting.is_none() => down.since.saturating_add(self.forget_after),
            _ => u64::MAX,
        }
    }
}

/// What the sink is to be given about a key.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    kind: EventKind,
    last_beat: u64,
    misses: u64,
    mode: Mode,
    /// Of an expiry or a recovery, unless it never comes.
    deadline: Option<u64>,
    /// Of a recovery.
    down_for: Option<u64>,
    /// Whether it ends an episode by expiry.
    is_terminal: bool,
    /// Whether it reports that a key which stays watched is down: what it says is up to [`Life::reporting`].
    is_report: bool,
}

/// The watcher as a map, and what the sink is still to be given.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    forget_after: Option<u64>,
    lives: BTreeMap<u64, Life>,
    /// What the sink has not been given, by key.
    waiting: BTreeMap<u64, VecDeque<Expected>>,
    stats: Stats,
}

impl Model {
    /// What `kind` of event says about `life`.
    fn expected(kind: EventKind, life: Life) -> Expected {
        Expected {
            kind,
            last_beat: life.last_beat,
            misses: 0,
            mode: life.mode,
            deadline: None,
            down_for: None,
            is_terminal: false,
            is_report: false,
        }
    }

    fn expect(&mut self, key: u64, expected: Expected) {
        self.waiting.entry(key).or_default().push_back(expected);
    }

    fn recovered(life: Life, down: Down, stamp: u64) -> Expected {
        Expected {
            last_beat: stamp,
            misses: down.misses,
            deadline: time(stamp.saturating_add(life.timeout)),
            down_for: Some(stamp.saturating_sub(down.since)),
            ..Model::expected(EventKind::Recovered, life)
        }
    }

    fn beat(&mut self, key: u64, timeout: Option<u64>, mode: Option<Mode>) {
        self.stats.applied_beats += 1;
        let Some(mut life) = self.lives.get(&key).copied() else {
            self.stats.started += 1;
            let life = Life {
                last_beat: self.now,
                timeout: timeout.unwrap_or(TIMEOUT),
                mode: mode.unwrap_or(Mode::Once),
                down: None,
                reporting: None,
                forget_after: self.forget_after.unwrap_or(u64::MAX),
            };
            self.expect(key, Model::expected(EventKind::Joined, life));
            self.lives.insert(key, life);
            return;
        };
        life.last_beat = self.now;
        life.timeout = timeout.unwrap_or(life.timeout);
        life.mode = mode.unwrap_or(life.mode);
        if let Some(down) = life.down.take() {
            self.stats.recoveries += 1;
            match &mut life.reporting {
                // The silence is reported first, and then its end.
                Some(silence) => silence.recovery = Some(self.now),
                None => self.expect(key, Model::recovered(life, down, self.now)),
            }
        }
        self.lives.insert(key, life);
    }

    /// Expires and forgets what is due; returns the keys that are gone.
    fn expire(&mut self) -> Vec<u64> {
        let due = |life: &Life| life.deadline() <= self.now && life.deadline() != u64::MAX;
        let lives = self.lives.iter().filter(|(_, life)| due(life));
        let keys: Vec<u64> = lives.map(|(&key, _)| key).collect();
        keys.into_iter().filter(|&key| self.miss(key)).collect()
    }

    /// The live `key` missed its deadline; returns whether it is gone.
    fn miss(&mut self, key: u64) -> bool {
        let mut life = self.lives[&key];
        let deadline = life.deadline();
        if life.forgotten() <= deadline {
            self.lives.remove(&key);
            self.stats.removed += 1;
            self.expect(key, Model::expected(EventKind::Removed, life));
            return true;
        }
        self.stats.expiries += 1;
        let expected = Expected {
            misses: 1,
            deadline: time(deadline),
            is_terminal: life.mode == Mode::Once,
            is_report: life.mode != Mode::Once,
            ..Model::expected(EventKind::Expired, life)
        };
        let reporting = life.reporting.take();
        let folded = reporting.filter(|silence| silence.recovery.is_some());
        self.stats.folded_recoveries += u64::from(folded.is_some());
        if life.mode == Mode::Once {
            self.lives.remove(&key);
            self.drop_report(key);
            self.expect(key, expected);
            return true;
        }
        let fresh = Down {
            since: deadline,
            last_beat: life.last_beat,
            reported: self.now,
            misses: 0,
            mode: life.mode,
            deadline,
        };
        let mut down = life
            .down
            .or(folded.map(|silence| silence.down))
            .unwrap_or(fresh);
        if folded.is_some() || reporting.is_none() {
            (down.mode, down.deadline) = (life.mode, deadline);
        }
        down.misses += 1;
        (down.last_beat, down.reported) = (life.last_beat, self.now);
        life.down = Some(down);
        life.reporting = Some(Silence {
            down,
            recovery: None,
        });
        self.lives.insert(key, life);
        if reporting.is_none() {
            self.expect(key, expected);
        }
        false
    }

    /// Drops the waiting report that `key` is down.
    fn drop_report(&mut self, key: u64) {
        let queue = self.waiting.entry(key).or_default();
        queue.retain(|expected| !expected.is_report);
    }

    fn remove(&mut self, key: u64) {
        self.drop_report(key);
        let queue = self.waiting.entry(key).or_default();
        for pending in queue.iter_mut().filter(|expected| expected.is_terminal) {
            (pending.kind, pending.misses) = (EventKind::Removed, 0);
            pending.is_terminal = false;
            pending.deadline = None;
            self.stats.removed += 1;
        }
        if let Some(life) = self.lives.remove(&key) {
            let recovery = life.reporting.and_then(|silence| silence.recovery);
            self.stats.folded_recoveries += u64::from(recovery.is_some());
            self.stats.removed += 1;
            self.expect(key, Model::expected(EventKind::Removed, life));
        }
    }

    /// Checks that `event` is the next one of its key; returns the key if it is forgotten from now on.
    fn check(&mut self, event: &Event<u64>) -> Option<u64> {
        let event_of_key = event.key_event().expect("a manual clock never stalls");
        let key = event_of_key.key;
        let Some(mut expected) = self.waiting.get_mut(&key).and_then(VecDeque::pop_front) else {
            panic!("unexpected {event:?}")
        };
        let mut is_forgotten = false;
        if expected.is_report {
            is_forgotten = self.settle_report(key, &mut expected);
        }
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let ns = |at: Timestamp| nanos(at.since_origin());
        let deadline = match event.kind() {
            EventKind::Expired | EventKind::Recovered => event_of_key.deadline.map(ns),
            _ => None,
        };
        let actual = Expected {
            kind: event.kind(),
            last_beat: ns(event_of_key.last_beat),
            misses: event_of_key.misses,
            mode: event_of_key.mode,
            deadline,
            down_for: event_of_key.down_for.map(nanos),
            ..expected
        };
        assert_eq!(actual, expected, "{event:?}");
        if event.kind() == EventKind::Expired {
            let deadline = event_of_key.deadline.expect("it has expired");
            assert!(deadline <= event_of_key.detected && event_of_key.detected <= self.now());
        }
        self.stats.delivered += u64::from(expected.is_terminal);
        (is_forgotten && self.miss(key)).then_some(key)
    }

    /// The report that `key` is down, which is `expected`, is taken; returns whether the key is forgotten from now on.
    fn settle_report(&mut self, key: u64, expected: &mut Expected) -> bool {
        let Some(life) = self.lives.get_mut(&key) else {
            panic!("{key} is not watched, and reported as {expected:?}")
        };
        let Some(Silence { down, recovery }) = life.reporting.take() else {
            panic!("{life:?} is reported as {expected:?}")
        };
        (expected.last_beat, expected.misses) = (down.last_beat, down.misses);
        (expected.mode, expected.deadline) = (down.mode, time(down.deadline));
        if let Some(stamp) = recovery {
            let recovered = Model::recovered(*life, down, stamp);
            self.waiting.entry(key).or_default().push_front(recovered);
            return false;
        }
        life.forgotten() <= self.now && life.forgotten() != u64::MAX
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

/// The deadline `ns`, unless it never comes.
fn time(ns: u64) -> Option<u64> {
    (ns != u64::MAX).then_some(ns)
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
    fn new(start: u64, way: Way, forget_after: Option<u64>) -> Self {
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
            model: Model {
                now: start,
                forget_after,
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
        let mut gone = self.model.expire();
        gone.extend(self.check_told());
        // A key is forgotten once its report is delivered, which may be what the first flush ended with.
        self.watcher.flush().unwrap();
        gone.extend(self.check_told());
        for key in gone {
            if let Some(heart) = self.hearts.remove(&key) {
                assert_eq!(heart.beat(), Err(HeartError::Expired));
            }
        }
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

    /// Checks what was told since the last time; returns the keys that are forgotten since. Callbacks run on a thread of
    /// their own, so they are waited for.
    fn check_told(&mut self) -> Vec<u64> {
        let began = Instant::now();
        let mut forgotten = Vec::new();
        loop {
            let told = self.receiver.lock().told[self.checked..].to_vec();
            self.checked += told.len();
            for event in &told {
                forgotten.extend(self.model.check(event));
            }
            // A panic is counted after it was caught.
            let panics = self.receiver.lock().panics;
            let is_done = self.way == Way::Sink
                || self.model.is_all_told() && self.watcher.stats().panics == panics;
            if is_done || began.elapsed() > GENEROUS {
                return forgotten;
            }
            std::thread::yield_now();
        }
    }

    /// Compares the accounting; `pending` and `discarded` episodes are those that were not told.
    fn compare_stats(&self, actual: &Stats, pending: u64, discarded: u64) {
        let mut expected = self.model.stats.clone();
        expected.live = self.model.lives.len() as u64;
        let down = self.model.lives.values().filter(|life| life.down.is_some());
        expected.down = down.count() as u64;
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
