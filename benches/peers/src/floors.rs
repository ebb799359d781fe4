//! The floors: what the machine takes for the parts that no watcher can do without, with nothing else around them.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::candidate::{BeatMany, Candidate, Clock, Config, Handles, Report};
use crate::candidates::CHANNEL;
use crate::key::Name;

/// A clock reading and an atomic store: all that a beat by a handle has to do.
pub(crate) struct ClockStore(Clock);

impl Candidate for ClockStore {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(_: &Config, _: Report) -> Self {
        ClockStore(Clock::new())
    }

    fn beat(&self, _: &Name) {}

    fn settle(&self) {}
}

impl Handles for ClockStore {
    type Handle = Arc<AtomicU64>;

    fn handle(&self, _: &Name) -> Arc<AtomicU64> {
        Arc::default()
    }

    #[inline]
    fn beat_by(&self, word: &Arc<AtomicU64>) {
        word.store(self.0.now_ns(), Ordering::Release);
    }
}

/// Bounded channels that are only emptied: what a beat that is sent has to do. A message is as large as one of ours: a
/// hash, a time, a key. Nothing is hashed and no clock is read.
///
/// A receiver that finds nothing yields. That is the quickest way to empty a channel while it is full of messages; it
/// would be a bad neighbour at any other time.
pub(crate) struct Channels {
    /// The channels.
    senders: Vec<Sender<Message>>,
    /// Empty buffers come back here from each channel.
    buffers: Vec<Receiver<Vec<Name>>>,
}

/// What is sent.
enum Message {
    /// A hash, a time, a key.
    Beat(u32, u64, Name),
    /// Keys, and nothing else.
    BeatMany(Vec<Name>),
    /// Somebody waits for everything before this.
    Settle(Sender<()>),
}

impl Candidate for Channels {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, _: Report) -> Self {
        let (senders, buffers) = (0..config.workers)
            .map(|_| {
                let (sender, receiver) = bounded(CHANNEL);
                let (give, take) = bounded(CHANNEL);
                thread::spawn(move || empty(&receiver, &give));
                (sender, take)
            })
            .unzip();
        Channels { senders, buffers }
    }

    #[inline]
    fn beat(&self, key: &Name) {
        // The last digit chooses the channel: evenly, and for next to nothing.
        let channel = usize::from(key[15]) % self.senders.len();
        let message = Message::Beat(u32::from(key[15]), 0, *key);
        self.senders[channel].send(message).expect("it is emptied");
    }

    fn beat_many(&self, keys: &[Name]) {
        let channel = usize::from(keys[0][15]) % self.senders.len();
        let mut buffer = self.buffers[channel].try_recv().unwrap_or_default();
        buffer.extend_from_slice(keys);
        let message = Message::BeatMany(buffer);
        self.senders[channel].send(message).expect("it is emptied");
    }

    fn settle(&self) {
        for sender in &self.senders {
            let (done, settled) = bounded(0);
            sender.send(Message::Settle(done)).expect("it is emptied");
            settled.recv().expect("it is emptied");
        }
    }
}

impl BeatMany for Channels {}

/// Empties a channel until it is closed.
fn empty(messages: &Receiver<Message>, buffers: &Sender<Vec<Name>>) {
    loop {
        match messages.try_recv() {
            Ok(Message::Beat(tag, stamp, key)) => drop(black_box((tag, stamp, key))),
            Ok(Message::BeatMany(mut keys)) => {
                black_box(&mut keys).clear();
                // A buffer that finds no room is freed.
                drop(buffers.try_send(keys));
            }
            Ok(Message::Settle(done)) => done.send(()).expect("somebody waits"),
            Err(TryRecvError::Empty) => thread::yield_now(),
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

/// How late a thread is that sleeps until a deadline, `count` times, about `apart` from one to the next.
pub(crate) fn sleeps(count: usize, apart: Duration) -> Vec<u64> {
    let clock = Clock::new();
    (1..=count as u64)
        .map(|i| {
            let deadline_ns = i * crate::candidate::nanos(apart);
            let ahead_ns = deadline_ns.saturating_sub(clock.now_ns());
            thread::sleep(Duration::from_nanos(ahead_ns));
            clock.now_ns().saturating_sub(deadline_ns)
        })
        .collect()
}
