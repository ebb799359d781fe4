//! Our own shape done naively: a hash, a channel, a thread with a table of its own; one message and a cloned `String`
//! for each beat, and the thread takes and applies one message at a time.
//!
//! What it does not do is what the difference to ours consists of: no inline keys, no tag to spare the second hash, no
//! batches, and a waiting thread is woken by each message. It has neither `beat_many` nor handles.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ahash::RandomState;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::candidate::{Candidate, Clock, Config, OwnTimeouts, Patience, Report, nanos};
use crate::candidates::CHANNEL;
use crate::candidates::lru::Lru;
use crate::candidates::scanner::rest_after;
use crate::key::Name;

/// What is sent to a worker.
enum Message<P> {
    /// A key beat at a time in nanoseconds; its timeout, if the beat says so.
    Beat(String, u64, Option<P>),
    /// Somebody waits until everything before this is applied.
    Settle(Sender<()>),
}

/// Channels, and the workers behind them.
pub(crate) struct Naive<P: Patience> {
    /// A channel to each worker.
    channels: Vec<Sender<Message<P>>>,
    /// The workers.
    workers: Vec<JoinHandle<()>>,
    /// Chooses the worker.
    hasher: RandomState,
    /// The time.
    clock: Clock,
}

impl<P: Patience> Naive<P> {
    /// Sends a beat.
    fn send(&self, key: &str, patience: Option<P>) {
        let worker = self.hasher.hash_one(key) % self.channels.len() as u64;
        let message = Message::Beat(key.to_owned(), self.clock.now_ns(), patience);
        self.channels[worker as usize]
            .send(message)
            .expect("the worker runs");
    }
}

impl<P: Patience> Candidate for Naive<P> {
    type Key = String;

    fn key(name: Name) -> String {
        name.iter().copied().map(char::from).collect()
    }

    fn start(config: &Config, report: Report) -> Self {
        let clock = Clock::new();
        let keys = config.keys.div_ceil(config.workers);
        let timeout = config.timeout;
        let (channels, workers) = (0..config.workers)
            .map(|_| {
                let (sender, receiver) = bounded(CHANNEL);
                let report = report.clone();
                let body = move || work::<P>(&receiver, keys, timeout, clock, &report);
                (sender, thread::spawn(body))
            })
            .unzip();
        Naive {
            channels,
            workers,
            hasher: RandomState::new(),
            clock,
        }
    }

    #[inline]
    fn beat(&self, key: &String) {
        self.send(key, None);
    }

    fn settle(&self) {
        for channel in &self.channels {
            let (done, settled) = bounded(0);
            channel
                .send(Message::Settle(done))
                .expect("the worker runs");
            settled.recv().expect("the worker answers");
        }
    }
}

/// A worker: one message after the other, and what is due by the stamp of the last one.
fn work<P: Patience>(
    receiver: &Receiver<Message<P>>,
    keys: usize,
    timeout: Duration,
    clock: Clock,
    report: &Report,
) {
    let mut lru = Lru::<String, P>::new(keys, nanos(timeout));
    let mut silent = Vec::new();
    let (mut next_ns, mut next) = (0, Instant::now());
    loop {
        let now_ns = match receiver.recv_deadline(next) {
            Ok(Message::Beat(key, stamp_ns, patience)) => {
                lru.touch_owned(key, stamp_ns, patience);
                stamp_ns
            }
            Ok(Message::Settle(done)) => {
                done.send(()).expect("somebody waits");
                0
            }
            Err(RecvTimeoutError::Timeout) => clock.now_ns(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if now_ns >= next_ns {
            let rest = rest_after(timeout, || lru.take_silent(now_ns, usize::MAX, &mut silent));
            silent
                .drain(..)
                .for_each(|key| report.expired(key.as_bytes()));
            let now_ns = clock.now_ns();
            next_ns = if P::UNIFORM {
                lru.next_ns(now_ns)
            } else {
                now_ns + nanos(rest)
            };
            next = clock.at(next_ns);
        }
    }
}

impl<P: Patience> OwnTimeouts for Naive<P> {
    fn beat_with(&self, key: &String, timeout: Duration) {
        self.send(key, Some(P::of(timeout)));
    }
}

impl<P: Patience> Drop for Naive<P> {
    fn drop(&mut self) {
        self.channels.clear();
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
    }
}
