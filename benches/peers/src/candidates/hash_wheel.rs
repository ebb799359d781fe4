//! The four-level wheel of `hierarchical_hash_wheel_timer` on a thread of its own, fed by a bounded channel.
//!
//! The crate's own `TimerWithThread` would cost two messages and a boxed closure for each beat (cancel, schedule
//! again), and its cancellable wheel an `Rc` and an entry that stays in the wheel until it comes round. So each key has
//! *one* timer in the plain wheel, and a beat only stores the time in a hash map: when the timer fires for a key that
//! beat since, it is set anew for the rest. That is the cheapest use of a wheel for this purpose.
//!
//! The wheel ticks in milliseconds. The thread sleeps over the ticks that the wheel says can be skipped. `beat_many` is
//! one message with all the keys. There is no handle.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ahash::RandomState;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::quad_wheel::QuadWheelWithOverflow;

use crate::candidate::{BeatMany, Candidate, Clock, Config, OwnTimeouts, Patience, Report, nanos};
use crate::candidates::CHANNEL;
use crate::key::Name;

/// How many messages are applied before the wheel gets its turn.
const BATCH: usize = 256;

/// The nanoseconds of a tick.
const TICK_NS: u64 = 1_000_000;

/// What is sent to the thread.
enum Message<P> {
    /// A key beat.
    Beat(Name),
    /// A key beat, and this is its timeout from now on.
    BeatWith(Name, P),
    /// Keys beat.
    BeatMany(Box<[Name]>),
    /// Somebody waits until everything before this is applied.
    Settle(Sender<()>),
}

/// A channel, and the thread behind it.
pub(crate) struct HashWheel<P: Patience> {
    /// The channel; gone only while this is dropped.
    channel: Option<Sender<Message<P>>>,
    /// The thread; gone only while this is dropped.
    thread: Option<JoinHandle<()>>,
}

impl<P: Patience> HashWheel<P> {
    /// Sends a message, waiting for room.
    #[inline]
    fn send(&self, message: Message<P>) {
        let channel = self.channel.as_ref().expect("this is not being dropped");
        channel
            .send(message)
            .unwrap_or_else(|_| unreachable!("the thread runs"));
    }
}

impl<P: Patience> Candidate for HashWheel<P> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let (sender, messages) = bounded(CHANNEL);
        let mut table = Table::<P> {
            wheel: QuadWheelWithOverflow::default(),
            ticks: 0,
            beats: HashMap::with_capacity_and_hasher(config.keys, RandomState::new()),
            default_ns: nanos(config.timeout),
            clock: Clock::new(),
            report,
        };
        HashWheel {
            channel: Some(sender),
            thread: Some(thread::spawn(move || table.run(&messages))),
        }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        self.send(Message::Beat(*key));
    }

    fn beat_many(&self, keys: &[Name]) {
        self.send(Message::BeatMany(keys.into()));
    }

    fn settle(&self) {
        let (done, settled) = bounded(0);
        self.send(Message::Settle(done));
        settled.recv().expect("the thread answers");
    }
}

/// What the thread works on.
struct Table<P> {
    /// A timer for each key.
    wheel: QuadWheelWithOverflow<Name>,
    /// How far the wheel has been turned.
    ticks: u64,
    /// When each key beat in nanoseconds, and how long it may be silent.
    beats: HashMap<Name, (u64, P), RandomState>,
    /// The timeout of a key that is given none of its own.
    default_ns: u64,
    /// The time.
    clock: Clock,
    /// Where expired keys are reported.
    report: Report,
}

impl<P: Patience> Table<P> {
    /// Takes messages and turns the wheel until the channel is closed.
    fn run(&mut self, messages: &Receiver<Message<P>>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.turn();
            let wake_ns = match self.wheel.can_skip() {
                Skip::None => (self.ticks + 1) * TICK_NS,
                Skip::Millis(ticks) => (self.ticks + u64::from(ticks) + 1) * TICK_NS,
                // As good as never: there is nobody, and a beat wakes the thread.
                Skip::Empty => self.ticks * TICK_NS + nanos(Duration::from_hours(1)),
            };
            match messages.recv_deadline(self.clock.at(wake_ns)) {
                Ok(first) => {
                    batch.push(first);
                    batch.extend(messages.try_iter().take(BATCH - 1));
                    // One clock reading for the batch. It comes after all of its beats, so nobody dies early.
                    let now_ns = self.clock.now_ns();
                    batch
                        .drain(..)
                        .for_each(|message| self.apply(message, now_ns));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Turns the wheel to the current time.
    fn turn(&mut self) {
        let now_ns = self.clock.now_ns();
        while self.ticks < now_ns / TICK_NS {
            let behind = now_ns / TICK_NS - self.ticks;
            let skip = match self.wheel.can_skip() {
                Skip::None => 0,
                Skip::Millis(ticks) => u64::from(ticks).min(behind),
                Skip::Empty => behind,
            };
            self.wheel.skip(u32::try_from(skip).unwrap_or(u32::MAX));
            self.ticks += skip;
            if skip < behind {
                self.ticks += 1;
                for key in self.wheel.tick() {
                    self.fire(key);
                }
            }
        }
    }

    /// Applies a message that was taken at `now_ns`.
    fn apply(&mut self, message: Message<P>, now_ns: u64) {
        match message {
            Message::Beat(key) => self.beat(key, None, now_ns),
            Message::BeatWith(key, patience) => self.beat(key, Some(patience), now_ns),
            Message::BeatMany(keys) => keys.iter().for_each(|key| self.beat(*key, None, now_ns)),
            Message::Settle(done) => done.send(()).expect("somebody waits"),
        }
    }

    /// `key` beat at `now_ns`. A new key gets its timer; that of a known one finds the beat when it fires. (A timeout
    /// that is shortened would have to be set anew here; the scenarios only set them once.)
    #[inline]
    fn beat(&mut self, key: Name, patience: Option<P>, now_ns: u64) {
        match self.beats.entry(key) {
            Entry::Occupied(mut known) => {
                let (beat_ns, its) = known.get_mut();
                *beat_ns = now_ns;
                *its = patience.unwrap_or(*its);
            }
            Entry::Vacant(new) => {
                let default = P::of(Duration::from_nanos(self.default_ns));
                let its = patience.unwrap_or(default);
                new.insert((now_ns, its));
                self.set(key, now_ns + its.ns(self.default_ns));
            }
        }
    }

    /// Sets the timer of `key` to the first tick at which `deadline_ns` has passed.
    fn set(&mut self, key: Name, deadline_ns: u64) {
        let ticks = deadline_ns
            .div_ceil(TICK_NS)
            .saturating_sub(self.ticks)
            .max(1);
        self.wheel
            .insert_with_delay(key, Duration::from_millis(ticks))
            .expect("the delay is not zero");
    }

    /// The timer of `key` fired: reports it, or sets the timer anew if the key beat since.
    fn fire(&mut self, key: Name) {
        let Entry::Occupied(known) = self.beats.entry(key) else {
            unreachable!("a key is watched as long as it has a timer");
        };
        let &(beat_ns, its) = known.get();
        let deadline_ns = beat_ns + its.ns(self.default_ns);
        if deadline_ns <= self.ticks * TICK_NS {
            known.remove();
            self.report.expired(&key);
        } else {
            self.set(key, deadline_ns);
        }
    }
}

impl<P: Patience> OwnTimeouts for HashWheel<P> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.send(Message::BeatWith(*key, P::of(timeout)));
    }
}

impl<P: Patience> BeatMany for HashWheel<P> {}

impl<P: Patience> Drop for HashWheel<P> {
    fn drop(&mut self) {
        self.channel = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}
