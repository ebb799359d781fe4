//! tokio-util's `DelayQueue` in a current-thread runtime on a thread of its own, fed by a bounded tokio channel.
//!
//! The thread takes beats by the batch (`recv_many`), and finds what it knows of a key by a hash map, as the example in
//! the documentation of `DelayQueue` does. There are two of them:
//!
//! * `delay_queue` moves the key's entry in the queue with each beat, by `reset`, which is what the documentation has
//!   for that purpose;
//! * `delay_queue_lazy` only notes the time of a beat, and when the entry is due for a key that beat since, inserts it
//!   anew. That is a trick of the user's and not of the queue's; it is here because it is several times as fast.
//!
//! `beat_many` is one message with all the keys. There is no handle.

use std::collections::HashMap;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ahash::RandomState;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key as Entry;

use crate::candidate::{BeatMany, Candidate, Config, OwnTimeouts, Patience, Report, nanos};
use crate::candidates::CHANNEL;
use crate::key::Name;

/// How many messages are applied, and expired keys reported, before the other of the two gets its turn.
const BATCH: usize = 256;

/// What is sent to the thread.
enum Message<P> {
    /// A key beat.
    Beat(Name),
    /// A key beat, and this is its timeout from now on.
    BeatWith(Name, P),
    /// Keys beat.
    BeatMany(Box<[Name]>),
    /// Somebody waits until everything before this is applied.
    Settle(mpsc::Sender<()>),
}

/// How a beat is passed to the queue.
pub(crate) trait Renewal: Send + 'static {
    /// What is kept of each key.
    type Mark: Send;

    /// The mark of a key that beat at `now` and was inserted as `entry`.
    fn mark(entry: Entry, now: Instant) -> Self::Mark;

    /// The key of `mark` beat at `now`, and is due at `deadline`.
    fn renew(queue: &mut DelayQueue<Name>, mark: &mut Self::Mark, now: Instant, deadline: Instant);

    /// When the key of `mark` last beat, if the queue does not know.
    fn untold_beat(mark: &Self::Mark) -> Option<Instant>;
}

/// Moves the entry with each beat.
pub(crate) struct Reset;

impl Renewal for Reset {
    type Mark = Entry;

    fn mark(entry: Entry, _: Instant) -> Entry {
        entry
    }

    fn renew(queue: &mut DelayQueue<Name>, mark: &mut Entry, _: Instant, deadline: Instant) {
        queue.reset_at(mark, deadline);
    }

    fn untold_beat(_: &Entry) -> Option<Instant> {
        None
    }
}

/// Looks at the time of the last beat when the entry is due.
pub(crate) struct Lazy;

impl Renewal for Lazy {
    type Mark = Instant;

    fn mark(_: Entry, now: Instant) -> Instant {
        now
    }

    fn renew(_: &mut DelayQueue<Name>, mark: &mut Instant, now: Instant, _: Instant) {
        *mark = now;
    }

    fn untold_beat(mark: &Instant) -> Option<Instant> {
        Some(*mark)
    }
}

/// A channel, and the thread behind it.
pub(crate) struct DelayQueueThread<P: Patience, R: Renewal> {
    /// How beats are passed to the queue, which only the thread has to know.
    renewal: PhantomData<fn(R)>,
    /// The channel; gone only while this is dropped.
    channel: Option<Sender<Message<P>>>,
    /// The thread; gone only while this is dropped.
    thread: Option<JoinHandle<()>>,
}

impl<P: Patience, R: Renewal> DelayQueueThread<P, R> {
    /// Sends a message, waiting for room.
    #[inline]
    fn send(&self, message: Message<P>) {
        let channel = self.channel.as_ref().expect("this is not being dropped");
        channel
            .blocking_send(message)
            .unwrap_or_else(|_| unreachable!("the thread runs"));
    }
}

impl<P: Patience, R: Renewal> Candidate for DelayQueueThread<P, R> {
    type Key = Name;

    fn key(name: Name) -> Name {
        name
    }

    fn start(config: &Config, report: Report) -> Self {
        let (sender, messages) = channel(CHANNEL);
        let (keys, timeout_ns) = (config.keys, nanos(config.timeout));
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime can be made");
            let mut table = Table::<P, R> {
                queue: DelayQueue::with_capacity(keys),
                marks: HashMap::with_capacity_and_hasher(keys, RandomState::new()),
                timeout_ns,
                report,
            };
            runtime.block_on(table.run(messages));
        };
        DelayQueueThread {
            renewal: PhantomData,
            channel: Some(sender),
            thread: Some(thread::spawn(body)),
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
        let (done, settled) = mpsc::channel();
        self.send(Message::Settle(done));
        settled.recv().expect("the thread answers");
    }
}

/// What the thread works on.
struct Table<P, R: Renewal> {
    /// The keys by deadline.
    queue: DelayQueue<Name>,
    /// What the renewal keeps of each key, and how long it may be silent.
    marks: HashMap<Name, (R::Mark, P), RandomState>,
    /// The timeout of a key that is given none of its own.
    timeout_ns: u64,
    /// Where expired keys are reported.
    report: Report,
}

impl<P: Patience, R: Renewal> Table<P, R> {
    /// Takes messages and reports expired keys until the channel is closed.
    async fn run(&mut self, mut messages: Receiver<Message<P>>) {
        let mut batch = Vec::with_capacity(BATCH);
        tokio::task::coop::unconstrained(poll_fn(|cx| {
            loop {
                let taken = match messages.poll_recv_many(cx, &mut batch, BATCH) {
                    Poll::Ready(0) => return Poll::Ready(()),
                    Poll::Ready(_) => true,
                    Poll::Pending => false,
                };
                // One clock reading for the batch. It comes after all of its beats, so nobody dies early.
                let now = Instant::now();
                batch.drain(..).for_each(|message| self.apply(message, now));
                if !self.expire(cx) && !taken {
                    return Poll::Pending;
                }
            }
        }))
        .await;
    }

    /// Applies a message that was taken at `now`.
    fn apply(&mut self, message: Message<P>, now: Instant) {
        match message {
            Message::Beat(key) => self.beat(key, None, now),
            Message::BeatWith(key, patience) => self.beat(key, Some(patience), now),
            Message::BeatMany(keys) => keys.iter().for_each(|key| self.beat(*key, None, now)),
            Message::Settle(done) => done.send(()).expect("somebody waits"),
        }
    }

    /// `key` beat at `now`.
    #[inline]
    fn beat(&mut self, key: Name, patience: Option<P>, now: Instant) {
        if let Some((mark, its)) = self.marks.get_mut(&key) {
            *its = patience.unwrap_or(*its);
            let deadline = now + Duration::from_nanos(its.ns(self.timeout_ns));
            R::renew(&mut self.queue, mark, now, deadline);
        } else {
            let default = P::of(Duration::from_nanos(self.timeout_ns));
            let its = patience.unwrap_or(default);
            let deadline = now + Duration::from_nanos(its.ns(self.timeout_ns));
            let entry = self.queue.insert_at(key, deadline);
            self.marks.insert(key, (R::mark(entry, now), its));
        }
    }

    /// Reports expired keys; returns whether there may be more.
    fn expire(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            match self.queue.poll_expired(cx) {
                Poll::Ready(Some(expired)) => self.due(expired.into_inner()),
                // Nobody is due yet, or there is nobody.
                Poll::Pending | Poll::Ready(None) => return false,
            }
        }
        true
    }

    /// The entry of `key` was due and is gone.
    fn due(&mut self, key: Name) {
        if let Some((mark, its)) = self.marks.get(&key)
            && let Some(beat) = R::untold_beat(mark)
        {
            let deadline = beat + Duration::from_nanos(its.ns(self.timeout_ns));
            if deadline > Instant::now() {
                self.queue.insert_at(key, deadline);
                return;
            }
        }
        self.marks.remove(&key);
        self.report.expired(&key);
    }
}

impl<P: Patience, R: Renewal> OwnTimeouts for DelayQueueThread<P, R> {
    fn beat_with(&self, key: &Name, timeout: Duration) {
        self.send(Message::BeatWith(*key, P::of(timeout)));
    }
}

impl<P: Patience, R: Renewal> BeatMany for DelayQueueThread<P, R> {}

impl<P: Patience, R: Renewal> Drop for DelayQueueThread<P, R> {
    fn drop(&mut self) {
        self.channel = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}
