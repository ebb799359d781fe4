//! What lies between the callers and one worker: the bounded channel, and the protocol of sleep and wake-up.
//!
//! A beat for a watched key can wait in the channel until the next deadline, so sending it wakes nobody. The worker
//! publishes until when it sleeps; a sender wakes it only if its message matters before that, or if the channel fills
//! up. No wake-up is lost, because each side writes first and looks second, with a sequentially consistent fence
//! between (Dekker's pattern):
//!
//! | sender | worker |
//! |---|---|
//! | 1. puts the message | 1. publishes `asleep_until` |
//! | 2. fence | 2. fence |
//! | 3. reads `asleep_until`; wakes if its message is due before it | 3. looks for messages; does not park if there are any |
//!
//! Whichever fence comes second in the single order of all such fences, the side that ran it sees what the other wrote.
//!
//! The end of a worker is a sleep without end. A crossbeam channel keeps what is in it as long as a sender lives, and
//! senders live in hearts; so whoever sends to a worker that has ended sweeps the channel, and no question waits there
//! for ever.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::error::BeatErrorKind;
use crate::event::Status;
use crate::panic::survive;
use crate::pulse::{Listener, Pulse};
use crate::stats::{Counts, Histogram};
use crate::table::{Beat, Tag};

/// Keys of one worker that beat at the same time, with their tags.
pub(crate) type Chunk<K> = Vec<(Tag, K)>;

/// What a caller tells a worker.
#[derive(Debug)]
pub(crate) enum Message<K, V> {
    /// One beat.
    Beat(Beat<K, V>),
    /// Plain beats made at one time, ns.
    Batch {
        /// When the caller made them, ns.
        stamp: u64,
        /// Whose they are.
        keys: Chunk<K>,
    },
    /// Anything rarer.
    Command(Box<Command<K, V>>),
}

/// What is rare enough to be boxed.
#[derive(Debug)]
pub(crate) enum Command<K, V> {
    /// A beat that ties its key to a heart.
    Watch(Beat<K, V>, Listener),
    /// The last clone of a heart is gone.
    Release {
        /// The key's tag.
        tag: Tag,
        /// The key.
        key: K,
        /// The heart.
        pulse: Arc<Pulse>,
        /// Whether the key is left to its beats instead of removed.
        leave: bool,
    },
    /// The key is to be forgotten.
    Remove(Tag, K),
    /// What is known of the key?
    Status(Tag, K, Sender<Option<Status>>),
    /// What is known of all keys?
    Snapshot(Sender<Vec<(K, Status)>>),
    /// Say when everything before this is applied.
    Flush(Sender<()>),
}

/// What a worker shows of itself, replaced as a whole after each round.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The table's counters.
    pub(crate) counts: Counts,
    /// From deadline to detection.
    pub(crate) detection: Histogram,
    /// From deadline to delivery, where the worker itself delivers.
    pub(crate) delivery: Histogram,
    /// Panics of the sink, where the worker itself delivers.
    pub(crate) panics: u64,
    /// Times the worker slept and woke.
    pub(crate) wakeups: u64,
}

/// Whether a worker still takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It does.
    Open,
    /// It is to finish, or has.
    Closing,
    /// A panic ended it.
    Failed,
}

/// How long a sender is ready to wait for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    Never,
    /// Until then.
    Until(Instant),
    /// As long as it takes.
    Forever,
}

/// [`Inbox::asleep_until`] while the worker is awake: earlier than any deadline, so that nobody wakes it.
const AWAKE: u64 = 0;

/// [`Inbox::asleep_until`] once the worker has ended: later than any deadline, so that every sender notices.
const ENDED: u64 = u64::MAX;

/// [`Inbox::asleep_until`] where there is no deadline; a message that is never due is due then all the same.
const NO_DEADLINE: u64 = u64::MAX - 1;

/// How many emptied buffers of `beat_many` wait to be used again.
const SPARE_BUFFERS: usize = 64;

/// A word on a cache line of its own: senders read it with every message, the worker seldom writes it.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<T>(T);

/// The senders' side.
#[derive(Debug)]
pub(crate) struct Inbox<K, V> {
    /// Until when the worker sleeps, ns, or [`AWAKE`].
    asleep_until: Alone<AtomicU64>,
    /// A [`Phase`] by its number.
    phase: AtomicU8,
    /// The bounded channel.
    sender: Sender<Message<K, V>>,
    /// From this many messages on a sleeping worker is woken.
    high_water: usize,
    /// How many senders wait for room.
    waiting: Mutex<usize>,
    /// Whether any do; said before the last try, so that the worker that made room sees it.
    has_waiting: AtomicBool,
    /// Told after a drain.
    drained: Condvar,
    /// The worker's thread, once it runs.
    thread: OnceLock<Thread>,
    /// The worker's end of the channel, once it has ended.
    leftover: Mutex<Option<Receiver<Message<K, V>>>>,
    /// What worker threads sent, who must never wait for each other. Drained before the channel.
    overflow: Mutex<Vec<Message<K, V>>>,
    /// Emptied buffers on their way back to the callers of `beat_many`.
    spares: Mutex<Vec<Chunk<K>>>,
    /// What the worker shows of itself.
    pub(crate) published: Mutex<Published>,
}

impl<K, V> Inbox<K, V> {
    /// An inbox for `capacity` messages, and the worker's end of it.
    pub(crate) fn new(capacity: usize) -> (Self, Receiver<Message<K, V>>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        let inbox = Inbox {
            asleep_until: Alone(AtomicU64::new(AWAKE)),
            phase: AtomicU8::new(Phase::Open as u8),
            sender,
            high_water: capacity.div_ceil(2),
            waiting: Mutex::new(0),
            has_waiting: AtomicBool::new(false),
            drained: Condvar::new(),
            thread: OnceLock::new(),
            leftover: Mutex::new(None),
            overflow: Mutex::new(Vec::new()),
            spares: Mutex::new(Vec::with_capacity(SPARE_BUFFERS)),
            published: Mutex::new(Published::default()),
        };
        (inbox, receiver)
    }

    /// Sends `message`, which matters from `due` ns on, waiting for room as long as `patience` says.
    ///
    /// # Errors
    ///
    /// The message back, and why it was not accepted.
    #[inline]
    pub(crate) fn send(
        &self,
        message: Message<K, V>,
        due: u64,
        patience: Patience,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        match self.sender.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(message)) => self.send_to_full(message, patience)?,
            Err(TrySendError::Disconnected(message)) => return Err((self.why_gone(), message)),
        }
        self.wake_if_due(due);
        Ok(())
    }

    /// Sends `message` from a worker thread: never waits, whatever is full.
    pub(crate) fn send_from_worker(
        &self,
        message: Message<K, V>,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        let mut overflow = self.overflow.lock();
        if self.phase() != Phase::Open {
            return Err((self.why_gone(), message));
        }
        overflow.push(message);
        drop(overflow);
        fence(Ordering::SeqCst);
        self.wake();
        Ok(())
    }

    /// The rest of [`send`](Inbox::send) where the channel was found full.
    ///
    /// Waiting senders are let go on after a whole drain and not one by one as places come free: else every message
    /// would cost a thread switch. The last try is made under the lock that the worker takes to say that it drained, so
    /// that it cannot say so between the try and the wait.
    #[cold]
    fn send_to_full(
        &self,
        mut message: Message<K, V>,
        patience: Patience,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        if let Patience::Never = patience {
            self.wake();
            return Err((BeatErrorKind::InboxFull, message));
        }
        let mut waiting = self.waiting.lock();
        loop {
            if self.phase() != Phase::Open {
                return Err((self.why_gone(), message));
            }
            *waiting += 1;
            self.has_waiting.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let tried = self.sender.try_send(message);
            let mut is_in_time = true;
            if let Err(TrySendError::Full(_)) = tried {
                self.wake();
                match patience {
                    Patience::Until(deadline) => {
                        is_in_time = !self.drained.wait_until(&mut waiting, deadline).timed_out();
                    }
                    Patience::Never | Patience::Forever => self.drained.wait(&mut waiting),
                }
            }
            *waiting -= 1;
            message = match tried {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(message)) => return Err((self.why_gone(), message)),
                Err(TrySendError::Full(message)) if is_in_time => message,
                Err(TrySendError::Full(message)) => return Err((BeatErrorKind::TimedOut, message)),
            };
        }
    }

    /// Lets the senders that wait for room go on. Called by the worker after each drain, and at its end.
    #[inline]
    pub(crate) fn let_go_on(&self) {
        fence(Ordering::SeqCst);
        if self.has_waiting.load(Ordering::SeqCst) {
            let waiting = self.waiting.lock();
            self.has_waiting.store(*waiting > 0, Ordering::SeqCst);
            self.drained.notify_all();
        }
    }

    /// Wakes the worker if it sleeps beyond `due`, or if the channel fills up.
    #[inline]
    fn wake_if_due(&self, due: u64) {
        fence(Ordering::SeqCst);
        let asleep_until = self.asleep_until.0.load(Ordering::SeqCst);
        if due < asleep_until || (asleep_until != AWAKE && self.sender.len() >= self.high_water) {
            self.wake();
        }
    }

    /// Wakes the worker if it sleeps.
    #[cold]
    pub(crate) fn wake(&self) {
        match self.asleep_until.0.swap(AWAKE, Ordering::SeqCst) {
            AWAKE => {}
            ENDED => self.sweep(),
            _ => self.unpark(),
        }
    }

    /// Takes the worker's end of the channel when the worker has ended, and drops what is in it.
    pub(crate) fn end(&self, receiver: Receiver<Message<K, V>>) {
        debug_assert_ne!(self.phase(), Phase::Open);
        *self.leftover.lock() = Some(receiver);
        self.sweep();
        self.let_go_on();
    }

    /// Drops what was sent to a worker that has ended. Keys may panic as they go.
    fn sweep(&self) {
        self.asleep_until.0.store(ENDED, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let receiver = self.leftover.lock().clone();
        let messages = receiver.iter().flat_map(Receiver::try_iter);
        for message in messages {
            let _ = survive(|| drop(message));
        }
        let overflow = self.take_overflow();
        let _ = survive(|| drop(overflow));
    }

    /// Tells the worker to finish, once.
    pub(crate) fn close(&self) {
        let (open, closing) = (Phase::Open as u8, Phase::Closing as u8);
        let _ = self
            .phase
            .compare_exchange(open, closing, Ordering::SeqCst, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.wake();
        self.let_go_on();
    }

    /// Says that a panic ended the worker.
    pub(crate) fn fail(&self) {
        self.phase.store(Phase::Failed as u8, Ordering::SeqCst);
    }

    /// Whether the worker takes messages.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Closing,
            _ => Phase::Failed,
        }
    }

    /// Why a question was dropped without an answer. A worker that unwinds from a panic drops questions before it says
    /// that it failed; this waits for it to say so.
    pub(crate) fn verdict(&self) -> BeatErrorKind {
        while self.phase() == Phase::Open {
            thread::yield_now();
        }
        self.why_gone()
    }

    /// Why a message was not accepted.
    pub(crate) fn why_gone(&self) -> BeatErrorKind {
        if self.phase() == Phase::Failed {
            BeatErrorKind::WorkerFailed
        } else {
            BeatErrorKind::Closed
        }
    }

    /// A buffer for `beat_many`, used before if there is one.
    pub(crate) fn take_buffer(&self) -> Chunk<K> {
        self.spares.lock().pop().unwrap_or_default()
    }

    /// Gives an emptied buffer back; beyond [`SPARE_BUFFERS`] they are freed.
    pub(crate) fn give_buffer(&self, buffer: Chunk<K>) {
        debug_assert!(buffer.is_empty());
        let mut spares = self.spares.lock();
        if spares.len() < SPARE_BUFFERS {
            spares.push(buffer);
        }
    }

    /// Says which thread is to be woken. Called by the worker before anything else.
    pub(crate) fn enter(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// What worker threads sent since the last call.
    pub(crate) fn take_overflow(&self) -> Vec<Message<K, V>> {
        std::mem::take(&mut *self.overflow.lock())
    }

    /// Parks the worker until `until` by `clock`, or until somebody wakes it; under a manual clock, only that. Returns
    /// at once if there is a message in `receiver`, if the worker is to finish, or if `has_work` finds something else.
    pub(crate) fn sleep(
        &self,
        receiver: &Receiver<Message<K, V>>,
        clock: &Clock,
        until: u64,
        has_work: impl FnOnce() -> bool,
    ) {
        let until = until.min(NO_DEADLINE);
        self.asleep_until.0.store(until, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_idle = receiver.is_empty()
            && self.overflow.lock().is_empty()
            && self.phase() == Phase::Open
            && !has_work();
        while is_idle && self.asleep_until.0.load(Ordering::SeqCst) != AWAKE {
            let now = clock.now_ns();
            if clock.is_manual() || until == NO_DEADLINE {
                thread::park();
            } else if now < until {
                thread::park_timeout(Duration::from_nanos(until - now));
            } else {
                break;
            }
        }
        self.asleep_until.0.store(AWAKE, Ordering::SeqCst);
    }

    /// Unparks the worker's thread, if it runs.
    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_a_key_of_up_to_16_bytes_is_40_bytes() {
        assert_eq!(size_of::<Message<[u8; 16], ()>>(), 40);
        assert_eq!(size_of::<Message<u64, ()>>(), 40);
    }
}
