//! Operations drawn by a fuzzer, on a `LocalWatcher` and on a map side by side.
//!
//! `LocalWatcher` is the engine's thin public face: time is an argument, nothing runs by itself, so a map and a scan say
//! all there is to say about it. See `docs/design.md` of the library for how to run it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use liveness::{BeatErrorKind, Event, EventKind, LocalWatcher, Mode, Options, Timestamp};

/// The timeout of a key that was given none, ns.
const TIMEOUT: u64 = 100;

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

/// What may become of silent keys.
const MODES: [Mode; 3] = [Mode::Once, Mode::Repeat, Mode::Track];

/// What the watcher is made of.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    /// Which of the [`STARTS`], by the remainder.
    start: u8,
    /// What becomes of silent keys unless their beats say otherwise, by the remainder of [`MODES`]; the quotient says for
    /// how many tens of nanoseconds they may be down, zero for ever.
    mode: u8,
    /// The most keys; zero for no maximum.
    max_keys: u8,
}

/// One operation.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    /// A beat of a key, so many nanoseconds old.
    Beat {
        key: u8,
        age: u8,
    },
    /// A beat that says how its key is to be watched.
    BeatWith {
        key: u8,
        timeout: u16,
        mode: u8,
        extra: Option<u8>,
    },
    /// A beat with a timeout of any length.
    BeatLong {
        key: u8,
        timeout: u64,
    },
    /// Many keys beat at once.
    Crowd {
        first: u8,
        count: u8,
    },
    Remove {
        key: u8,
    },
    /// Time goes on a little.
    Advance {
        by: u8,
    },
    /// Time goes on by any amount.
    Leap {
        by: u64,
    },
    /// Time goes on until what the watcher says is due.
    Follow,
    /// Time goes back.
    Back {
        by: u8,
    },
    /// The callback panics at the event after so many.
    Panic {
        after: u8,
    },
}

/// A watched key.
#[derive(Clone, Copy, Debug)]
struct Life {
    joined: u64,
    last_beat: u64,
    timeout: u64,
    mode: Mode,
    extra: Option<u8>,
    down: Option<Down>,
    /// For how long it may be down.
    forget_after: u64,
}

/// A key that is silent and stays watched.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: u64,
    reported: u64,
    misses: u64,
}

impl Life {
    /// When it expires, is reported again or is forgotten unless it beats; `None` for never.
    fn deadline(&self) -> Option<u64> {
        let deadline = match self.down {
            None => self.last_beat.saturating_add(self.timeout),
            Some(_) if self.mode == Mode::Track => self.forgotten(),
            Some(down) => self
                .forgotten()
                .min(down.reported.saturating_add(self.timeout)),
        };
        (deadline != u64::MAX).then_some(deadline)
    }

    /// When it is forgotten.
    fn forgotten(&self) -> u64 {
        match self.down {
            Some(down) => down.since.saturating_add(self.forget_after),
            None => u64::MAX,
        }
    }
}

/// What is told of an event: its kind, key, last beat, deadline, misses, time down, and value.
type Told = (
    EventKind,
    u8,
    u64,
    Option<u64>,
    u64,
    Option<u64>,
    Option<u8>,
);

/// The watcher as a map.
#[derive(Debug)]
struct Model {
    now: u64,
    mode: Mode,
    forget_after: u64,
    max_keys: usize,
    lives: BTreeMap<u8, Life>,
    /// What the next poll is to tell.
    notices: Vec<Told>,
    started: u64,
    removed: u64,
    delivered: u64,
    beats: u64,
    late_beats: u64,
    refused: u64,
    expiries: u64,
}

impl Model {
    /// A beat; returns whether there was room.
    fn beat(
        &mut self,
        key: u8,
        stamp: u64,
        timeout: Option<u64>,
        mode: Option<Mode>,
        extra: Option<u8>,
    ) -> bool {
        if let Some(life) = self.lives.get_mut(&key) {
            life.extra = extra.or(life.extra);
            life.timeout = timeout.unwrap_or(life.timeout);
            life.mode = mode.unwrap_or(life.mode);
            if stamp < life.last_beat {
                self.late_beats += 1;
                return true;
            }
            self.beats += 1;
            life.last_beat = stamp;
            if let Some(down) = life.down.take() {
                let down_for = stamp.saturating_sub(down.since);
                let deadline = life.deadline();
                self.notices.push((
                    EventKind::Recovered,
                    key,
                    stamp,
                    deadline,
                    down.misses,
                    Some(down_for),
                    life.extra,
                ));
            }
            return true;
        }
        if self.lives.len() >= self.max_keys {
            self.refused += 1;
            return false;
        }
        self.beats += 1;
        self.started += 1;
        // A new key is watched from the time that stands still.
        let stamp = stamp.max(self.now);
        let life = Life {
            joined: stamp,
            last_beat: stamp,
            timeout: timeout.unwrap_or(TIMEOUT),
            mode: mode.unwrap_or(self.mode),
            extra,
            down: None,
            forget_after: self.forget_after,
        };
        self.notices.push((
            EventKind::Joined,
            key,
            stamp,
            life.deadline(),
            0,
            None,
            extra,
        ));
        self.lives.insert(key, life);
        true
    }

    /// Removes `key`; returns whether there was something to end.
    fn remove(&mut self, key: u8) -> bool {
        let Some(life) = self.lives.remove(&key) else {
            return false;
        };
        self.removed += 1;
        self.notices.push((
            EventKind::Removed,
            key,
            life.last_beat,
            life.deadline(),
            0,
            None,
            life.extra,
        ));
        true
    }

    /// Expires and forgets what is due: each as it is told, those of one deadline in no order.
    fn expire(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        // A key that is long overdue is reported first, and forgotten then.
        while self.next_deadline().is_some_and(|due| due <= self.now) {
            let lives = self.lives.iter();
            let due = lives.filter_map(|(&key, life)| Some((life.deadline()?, key)));
            let mut due: Vec<(u64, u8)> = due.filter(|&(due, _)| due <= self.now).collect();
            due.sort_unstable();
            told.extend(due.into_iter().map(|(due, key)| self.miss(key, due)));
        }
        told
    }

    /// The live `key` missed `deadline`; what is told of it.
    fn miss(&mut self, key: u8, deadline: u64) -> Told {
        let mut life = self.lives[&key];
        if life.forgotten() <= deadline {
            self.remove(key);
            return self.notices.pop().expect("a removed key makes a notice");
        }
        self.expiries += 1;
        let (mut missed, mut misses) = (deadline, 1);
        if life.mode == Mode::Once {
            // Of a key that was down when it became one to forget, the report tells the first deadline.
            missed = life.last_beat.saturating_add(life.timeout);
            self.delivered += 1;
            self.lives.remove(&key);
        } else {
            let down = life.down.get_or_insert(Down {
                since: deadline,
                reported: 0,
                misses: 0,
            });
            down.misses += 1;
            down.reported = self.now;
            misses = down.misses;
            self.lives.insert(key, life);
        }
        (
            EventKind::Expired,
            key,
            life.last_beat,
            Some(missed),
            misses,
            None,
            life.extra,
        )
    }

    fn next_deadline(&self) -> Option<u64> {
        self.lives.values().filter_map(Life::deadline).min()
    }
}

/// Runs the operations that `data` stands for; panics where the watcher and the map differ.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut bytes) else {
        return;
    };
    let mut pair = Pair::new(setup);
    while !bytes.is_empty() {
        let Ok(op) = Op::arbitrary(&mut bytes) else {
            return;
        };
        pair.step(op);
        pair.compare();
    }
}

/// A watcher and its model.
struct Pair {
    watcher: LocalWatcher<u8, u8>,
    model: Model,
    /// What the clock says; the watcher and the model never go back.
    clock: u64,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let start = STARTS[usize::from(setup.start) % STARTS.len()];
        let mode = MODES[usize::from(setup.mode) % MODES.len()];
        let tens = setup.mode / MODES.len() as u8;
        let builder = LocalWatcher::<u8, u8>::builder()
            .timeout(Duration::from_nanos(TIMEOUT))
            .mode(mode)
            .events([
                EventKind::Joined,
                EventKind::Expired,
                EventKind::Recovered,
                EventKind::Removed,
            ]);
        let (builder, max_keys) = match setup.max_keys {
            0 => (builder, usize::MAX),
            max => (builder.max_keys(usize::from(max)), usize::from(max)),
        };
        let (builder, forget_after) = match u64::from(tens) * 10 {
            0 => (builder, u64::MAX),
            down => (builder.forget_after(Duration::from_nanos(down)), down),
        };
        let mut watcher = builder.build().expect("the options are valid");
        watcher.poll(Duration::from_nanos(start), |event| {
            unreachable!("{event:?}")
        });
        Pair {
            watcher,
            model: Model {
                now: start,
                mode,
                forget_after,
                max_keys,
                lives: BTreeMap::new(),
                notices: Vec::new(),
                started: 0,
                removed: 0,
                delivered: 0,
                beats: 0,
                late_beats: 0,
                refused: 0,
                expiries: 0,
            },
            clock: start,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Beat { key, age } => {
                let stamp = self.clock.saturating_sub(u64::from(age));
                self.beat(key, stamp, None, None, None);
            }
            Op::BeatWith {
                key,
                timeout,
                mode,
                extra,
            } => {
                let mode = MODES[usize::from(mode) % MODES.len()];
                self.beat(key, self.clock, Some(u64::from(timeout)), Some(mode), extra);
            }
            Op::BeatLong { key, timeout } => self.beat(key, self.clock, Some(timeout), None, None),
            Op::Crowd { first, count } => {
                for nth in 0..count {
                    self.beat(first.wrapping_add(nth), self.clock, None, None, None);
                }
            }
            Op::Remove { key } => {
                let removed = self.watcher.remove(&key, Duration::from_nanos(self.clock));
                assert_eq!(removed, self.model.remove(key));
            }
            Op::Advance { by } => self.advance(u64::from(by)),
            Op::Leap { by } => self.advance(by),
            Op::Follow => {
                if let Some(due) = self.watcher.next_deadline() {
                    let due = due.since_origin().as_nanos() as u64;
                    self.advance(due.saturating_sub(self.clock));
                }
            }
            Op::Back { by } => self.clock = self.clock.saturating_sub(u64::from(by)),
            Op::Panic { after } => self.poll(Some(usize::from(after))),
        }
    }

    fn beat(
        &mut self,
        key: u8,
        stamp: u64,
        timeout: Option<u64>,
        mode: Option<Mode>,
        extra: Option<u8>,
    ) {
        let mut options = Options::new();
        if let Some(timeout) = timeout {
            options = options.timeout(Duration::from_nanos(timeout));
        }
        if let Some(mode) = mode {
            options = options.mode(mode);
        }
        if let Some(extra) = extra {
            options = options.extra(extra);
        }
        let result = self
            .watcher
            .beat_with(key, Duration::from_nanos(stamp), options);
        let error = result.map_err(|error| (error.kind(), error.into_key()));
        if timeout == Some(0) {
            return assert_eq!(error, Err((BeatErrorKind::ZeroTimeout, key)));
        }
        let has_room = self.model.beat(key, stamp, timeout, mode, extra);
        let expected = if has_room {
            Ok(())
        } else {
            Err((BeatErrorKind::Full, key))
        };
        assert_eq!(error, expected);
    }

    fn advance(&mut self, by: u64) {
        self.clock = self.clock.saturating_add(by);
        self.model.now = self.model.now.max(self.clock);
        self.poll(None);
    }

    /// Polls until nothing is left, with a callback that panics at the event number `panic_at`.
    fn poll(&mut self, panic_at: Option<usize>) {
        let now = Duration::from_nanos(self.clock);
        let mut events: Vec<Event<u8, u8>> = Vec::new();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            self.watcher.poll(now, |event| {
                events.push(event);
                if Some(events.len() - 1) == panic_at {
                    // Without the message, and without the fuzzer's taking it for a finding.
                    resume_unwind(Box::new("for the test"));
                }
            });
        }));
        assert_eq!(
            polled.is_err(),
            panic_at.is_some_and(|at| at < events.len())
        );
        // A panic costs its own event; the others wait for the next poll.
        self.watcher.poll(now, |event| events.push(event));

        let mut told: Vec<Told> = events.iter().map(told).collect();
        for event in events.iter().filter_map(Event::key_event) {
            assert!(event.detected <= event.delivered && event.last_beat <= event.detected);
            assert_eq!(event.delivered, at(self.model.now));
        }
        let mut expected = std::mem::take(&mut self.model.notices);
        expected.extend(self.model.expire());
        assert!(
            told.iter().map(place).eq(expected.iter().map(place)),
            "{told:?} instead of {expected:?}"
        );
        // Keys of one deadline come in any order, so what is found by deadline is compared in the order of the keys.
        let by_key =
            |told: &Told| is_by_deadline(told.0).then_some((told.0 == EventKind::Expired, told.1));
        told.sort_by_key(by_key);
        expected.sort_by_key(by_key);
        assert_eq!(told, expected);
    }

    /// Compares everything that can be asked.
    fn compare(&mut self) {
        let (watcher, model) = (&mut self.watcher, &self.model);
        let stats = watcher.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(
            (
                stats.started,
                stats.live,
                stats.pending,
                stats.delivered,
                stats.removed,
                stats.discarded
            ),
            (
                model.started,
                model.lives.len() as u64,
                0,
                model.delivered,
                model.removed,
                0
            )
        );
        assert_eq!(
            (
                stats.applied_beats,
                stats.late_beats,
                stats.refused_beats,
                stats.expiries
            ),
            (model.beats, model.late_beats, model.refused, model.expiries)
        );
        let down = model.lives.values().filter(|life| life.down.is_some());
        // A report never waits here, so that no recovery is folded into a silence.
        assert_eq!(
            (stats.down, stats.folded_recoveries),
            (down.count() as u64, 0)
        );
        assert_eq!(stats.detection.count(), model.expiries);
        assert_eq!(watcher.len(), model.lives.len());
        let expected = if model.notices.is_empty() {
            model.next_deadline()
        } else {
            Some(0)
        };
        assert_eq!(watcher.next_deadline(), expected.map(at));
        let mut snapshot: Vec<_> = watcher.snapshot().collect();
        snapshot.sort_unstable_by_key(|&(key, _)| key);
        assert!(snapshot.iter().map(|(key, _)| key).eq(model.lives.keys()));
        for (key, status) in snapshot {
            let life = model.lives[&key];
            let known = (
                at(life.joined),
                at(life.last_beat),
                life.mode,
                life.deadline().map(at),
            );
            assert_eq!(
                (
                    status.joined,
                    status.last_beat,
                    status.mode,
                    status.deadline
                ),
                known
            );
            assert_eq!(status.misses, life.down.map_or(0, |down| down.misses));
        }
    }
}

/// The point in time `ns` nanoseconds after the origin.
fn at(ns: u64) -> Timestamp {
    Duration::from_nanos(ns).into()
}

/// What `event` tells.
fn told(event: &Event<u8, u8>) -> Told {
    let kind = event.kind();
    let event = event.key_event().expect("nothing stalls without threads");
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    (
        kind,
        event.key,
        nanos(event.last_beat.since_origin()),
        event
            .deadline
            .map(|deadline| nanos(deadline.since_origin())),
        event.misses,
        event.down_for.map(nanos),
        event.extra,
    )
}

/// Whether events of `kind` come from the clock, or may: a key that is down for long enough is removed.
fn is_by_deadline(kind: EventKind) -> bool {
    matches!(kind, EventKind::Expired | EventKind::Removed)
}

/// What events are ordered by: those that come from the clock by their deadlines, others as they happened, key by key.
fn place(told: &Told) -> (Option<u64>, Option<(EventKind, u8)>) {
    let (kind, key, _, deadline, ..) = *told;
    (deadline, (!is_by_deadline(kind)).then_some((kind, key)))
}
