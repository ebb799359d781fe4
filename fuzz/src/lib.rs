//! Operations drawn by a fuzzer, on a `LocalWatcher` and on a map side by side.
//!
//! `LocalWatcher` is the engine's thin public face: time is an argument, nothing runs by itself, so a map and a scan say
//! all there is to say about it. See `docs/design.md` of the library for how to run it.

#[path = "../../tests/support/model.rs"]
#[expect(dead_code, reason = "what only other tests of the model use")]
mod model;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use liveness::{BeatErrorKind, EventKind, LocalWatcher, Mode, Options};
use model::{Beat, Config, Model, NEVER, STARTS};

/// The timeout of a key that was given none, ns.
const TIMEOUT: u64 = 100;

/// What may become of silent keys.
const MODES: [Mode; 3] = [Mode::Once, Mode::Repeat, Mode::Track];

/// The kinds of event that are asked for.
const KINDS: [EventKind; 4] = [
    EventKind::Joined,
    EventKind::Expired,
    EventKind::Recovered,
    EventKind::Removed,
];

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

/// Runs the operations that `data` stands for, and returns how many; panics where the watcher and the model differ.
pub fn run(data: &[u8]) -> usize {
    let mut bytes = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut bytes) else {
        return 0;
    };
    let mut pair = Pair::new(setup);
    let mut count = 0;
    while let Some(op) = next_op(&mut bytes) {
        pair.step(op);
        pair.compare();
        count += 1;
    }
    count
}

/// The next operation, while there are bytes for one.
fn next_op(bytes: &mut Unstructured<'_>) -> Option<Op> {
    (!bytes.is_empty()).then(|| Op::arbitrary(bytes).ok())?
}

/// A watcher and its model.
struct Pair {
    watcher: LocalWatcher<u64, u64>,
    model: Model,
    /// What the clock says; the watcher and the model never go back.
    clock: u64,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let start = STARTS[usize::from(setup.start) % STARTS.len()];
        let mode = MODES[usize::from(setup.mode) % MODES.len()];
        let tens = setup.mode / MODES.len() as u8;
        let builder = LocalWatcher::<u64, u64>::builder()
            .timeout(Duration::from_nanos(TIMEOUT))
            .mode(mode)
            .events(KINDS);
        let (builder, max_keys) = match setup.max_keys {
            0 => (builder, usize::MAX),
            max => (builder.max_keys(usize::from(max)), usize::from(max)),
        };
        let (builder, forget_after) = match u64::from(tens) * 10 {
            0 => (builder, NEVER),
            down => (builder.forget_after(Duration::from_nanos(down)), down),
        };
        let mut watcher = builder.build().expect("the options are valid");
        watcher.poll(Duration::from_nanos(start), |event| {
            unreachable!("{event:?}")
        });
        Pair {
            watcher,
            model: Model::new(
                Config {
                    timeout: TIMEOUT,
                    mode,
                    wanted: KINDS.to_vec(),
                    max_keys,
                    forget_after,
                    grace_cap: 0,
                    one_table: true,
                },
                start,
            ),
            clock: start,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Beat { key, age } => {
                let stamp = self.clock.saturating_sub(u64::from(age));
                self.beat(Beat {
                    stamp,
                    ..self.plain(key)
                });
            }
            Op::BeatWith {
                key,
                timeout,
                mode,
                extra,
            } => self.beat(Beat {
                timeout: Some(u64::from(timeout)),
                mode: Some(MODES[usize::from(mode) % MODES.len()]),
                extra: extra.map(u64::from),
                ..self.plain(key)
            }),
            Op::BeatLong { key, timeout } => self.beat(Beat {
                timeout: Some(timeout),
                ..self.plain(key)
            }),
            Op::Crowd { first, count } => {
                for nth in 0..count {
                    self.beat(self.plain(first.wrapping_add(nth)));
                }
            }
            Op::Remove { key } => {
                let key = u64::from(key);
                let removed = self.watcher.remove(&key, Duration::from_nanos(self.clock));
                assert_eq!(removed, self.model.remove(key));
            }
            Op::Advance { by } => self.advance(u64::from(by)),
            Op::Leap { by } => self.advance(by),
            Op::Follow => {
                if let Some(due) = self.watcher.next_deadline() {
                    let due = model::nanos(due.since_origin());
                    self.advance(due.saturating_sub(self.clock));
                }
            }
            Op::Back { by } => self.clock = self.clock.saturating_sub(u64::from(by)),
            Op::Panic { after } => self.poll(Some(usize::from(after))),
        }
    }

    /// A plain beat of `key` now.
    fn plain(&self, key: u8) -> Beat {
        Beat {
            key: u64::from(key),
            stamp: self.clock,
            ..Beat::default()
        }
    }

    fn beat(&mut self, mut beat: Beat) {
        let mut options = Options::new();
        if let Some(timeout) = beat.timeout {
            options = options.timeout(Duration::from_nanos(timeout));
        }
        if let Some(mode) = beat.mode {
            options = options.mode(mode);
        }
        if let Some(extra) = beat.extra {
            options = options.extra(extra);
        }
        let result = self
            .watcher
            .beat_with(beat.key, Duration::from_nanos(beat.stamp), options);
        let error = result.map_err(|error| (error.kind(), error.into_key()));
        if beat.timeout == Some(0) {
            return assert_eq!(error, Err((BeatErrorKind::ZeroTimeout, beat.key)));
        }
        if self.model.due_of(beat.key).is_none() {
            // A new key is watched from the time that stands still.
            beat.stamp = beat.stamp.max(self.model.now);
        }
        // Nothing that expired waits here, so that only live keys take places.
        self.model.taken = self.model.keys().count();
        let expected = if self.model.beat(&beat) {
            Ok(())
        } else {
            Err((BeatErrorKind::Full, beat.key))
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
        let mut events = Vec::new();
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

        self.model.expire(self.model.now);
        for event in &events {
            if self.model.is_queue_empty() {
                // What was just delivered may be due to be forgotten.
                self.model.expire(self.model.now);
            }
            self.model.check_offer(event);
            self.model.settle(event, true);
            let event = event.key_event().expect("nothing stalls without threads");
            assert_eq!(event.delivered, model::at(self.model.now));
        }
        self.model.expire(self.model.now);
        assert!(self.model.is_queue_empty(), "lost: {:?}", self.model);
    }

    /// Compares everything that can be asked.
    fn compare(&mut self) {
        let (watcher, model) = (&mut self.watcher, &self.model);
        let stats = watcher.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(stats.detection.count(), stats.expiries);
        let mut expected = model.stats();
        // Of these only the watcher knows.
        expected.bytes = stats.bytes;
        expected.live_by_worker.clone_from(&stats.live_by_worker);
        expected.detection = stats.detection.clone();
        assert_eq!(stats, expected);
        assert_eq!(watcher.len() as u64, stats.live);
        let expected = if model.is_queue_empty() {
            model::deadline(model.next_due())
        } else {
            Some(model::at(0))
        };
        assert_eq!(watcher.next_deadline(), expected);
        let mut keys = Vec::new();
        for (key, status) in watcher.snapshot() {
            model.check_status(key, Some(&status));
            keys.push(key);
        }
        keys.sort_unstable();
        assert!(model.keys().eq(keys));
    }
}
