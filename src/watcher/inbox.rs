//! The path from the callers to one worker: a chunk that is filled under a lock, the bounded channel for full chunks,
//! and the protocol of sleep and wake-up.
//!
//! A message through a crossbeam channel costs its sender and its receiver some 30 ns each, so messages cross it in
//! chunks of 64. A caller puts its message into the open chunk. A caller that finds the chunk full sends it through the
//! channel and begins another. The worker takes the chunks in the channel and then the open one, full or not. This is
//! the order in which the messages were accepted.
//!
//! Everything on which callers and the worker must agree is under one lock: the open chunk, until when the worker
//! sleeps, and whether it accepts messages. No wake-up is lost, because the worker checks for messages and publishes
//! its sleep in one step. No message is accepted that the worker's last check does not find.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::clock::{Clock, NEVER};
use crate::error::BeatErrorKind;
use crate::panic::discard;
use crate::stats::{Counts, Histogram};
use crate::status::Status;
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, answer, sized};
use crate::table::heart_cell::{HeartCell, TableSide};
use crate::table::{Beat, Tag};
use crate::wakeup::Ring;

/// Keys of one worker that beat at the same time, with their tags.
pub(crate) type Chunk<K> = Vec<(Tag, K)>;

/// Keys and their statuses.
pub(crate) type Statuses<K, V> = Vec<(K, Status<V>)>;

/// A message from a caller to a worker.
#[derive(Debug)]
pub(crate) enum Message<K, V> {
    /// One beat.
    Beat(Beat<K, V>),
    /// Plain beats made at the same time.
    Batch {
        /// When the caller made them, ns.
        stamp: u64,
        /// Their keys and tags.
        keys: Chunk<K>,
    },
    /// A rarer message.
    Command(Box<Command<K, V>>),
}

impl<K, V> Message<K, V> {
    /// Returns how many beats it counts as in an inbox.
    #[inline]
    fn weight(&self) -> usize {
        match self {
            Message::Beat(_) => 1,
            Message::Batch { keys, .. } => keys.len(),
            Message::Command(command) => match &**command {
                Command::JoinMany { keys, .. } => keys.len(),
                _ => 1,
            },
        }
    }

    /// Drops every key and value, one by one, each of which may panic.
    pub(crate) fn dismantle(self) {
        match self {
            Message::Beat(beat) => beat.dismantle(),
            Message::Batch { keys, .. } => keys.into_iter().for_each(|(_, key)| discard(key)),
            Message::Command(command) => command.dismantle(),
        }
    }
}

/// Messages that are rare enough to be boxed.
#[derive(Debug)]
pub(crate) enum Command<K, V> {
    /// A beat of a key that was not watched. The answer is the key if there is no room for it.
    Join(Beat<K, V>, answer::Sender<Option<K>>),
    /// Plain beats of keys that were not watched.
    JoinMany {
        /// When the caller made them, ns.
        stamp: u64,
        /// Their keys and tags.
        keys: Chunk<K>,
        /// The channel of the answer: the keys for which there is no room.
        reply: answer::Sender<Vec<K>>,
    },
    /// A beat that ties its key to a heart. The answer states whether there was room. No answer is required about a key
    /// that was watched.
    Watch(Beat<K, V>, TableSide, Option<answer::Sender<bool>>),
    /// The last clone of a heart was dropped.
    Release {
        /// The key's tag.
        tag: Tag,
        /// The key.
        key: K,
        /// The heart.
        cell: Arc<HeartCell>,
        /// Whether the key stays watched instead of being removed.
        leave: bool,
    },
    /// Applies the options of this beat to its key. If a heart is given, they apply only while the key is tied to it.
    Set(Beat<K, V>, Option<Arc<HeartCell>>),
    /// Removes the key.
    Remove(Tag, K),
    /// Returns the status of a key.
    Status(Tag, K, answer::Sender<Option<Status<V>>>),
    /// Returns all keys and their statuses.
    Snapshot(answer::Sender<Statuses<K, V>>),
    /// Returns the keys that are down and their statuses.
    SnapshotDown(answer::Sender<Statuses<K, V>>),
    /// Answers when everything before it is applied and the resulting events have been delivered.
    Flush {
        /// The channel of the answer.
        reply: answer::Sender<()>,
        /// Whether to wait for the delivery thread to make room in the outbox. Not if the caller is a delivery thread.
        waits: bool,
    },
}

impl<K, V> Command<K, V> {
    /// Drops the key and the value, each of which may panic.
    pub(crate) fn dismantle(self) {
        match self {
            Command::Join(beat, _) | Command::Watch(beat, _, _) | Command::Set(beat, _) => {
                beat.dismantle();
            }
            Command::JoinMany { keys, .. } => keys.into_iter().for_each(|(_, key)| discard(key)),
            other => discard(other),
        }
    }
}

/// The counters that a worker publishes after each round.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// The table's counters.
    pub(crate) counts: Counts,
    /// The time from the deadline to the detection.
    pub(crate) detection: Histogram,
    /// The time from the deadline to the delivery, if the worker itself delivers.
    pub(crate) delivery: Histogram,
    /// Panics of the sink, if the worker itself delivers.
    pub(crate) panics: u64,
    /// How often the worker slept and woke.
    pub(crate) wakeups: u64,
}

/// Whether a worker accepts messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It accepts messages.
    Open,
    /// It finishes, or has finished.
    Closing,
    /// It has ended by a panic.
    Failed,
}

/// How long a sender waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    Never,
    /// Until this time.
    Until(Instant),
    /// Without a limit.
    Forever,
}

impl Patience {
    /// Returns why a message is refused when the wait is over.
    pub(crate) fn end(self) -> BeatErrorKind {
        match self {
            Patience::Never => BeatErrorKind::InboxFull,
            Patience::Until(_) | Patience::Forever => BeatErrorKind::TimedOut,
        }
    }
}

/// How long a sender that must not wait tries to take a lock: a thousand times as long as a running thread holds it.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(1);

/// The value of [`Front::asleep_until`] while the worker is awake: earlier than any deadline, so that no sender wakes
/// it.
const AWAKE: u64 = 0;

/// How far the counters that a worker publishes may lag behind the accepted beats, ns. A beat wakes a worker that
/// sleeps for longer. A worker that took beats sleeps at most this long, once, so that only the first of many beats
/// wakes it.
pub(crate) const COUNTERS_LAG: u64 = 100_000_000;

/// The number of messages in a chunk.
const CHUNK: usize = sized(64, 2);

/// How many emptied buffers of `beat_many` are kept for reuse.
const SPARE_BUFFERS: usize = 64;

/// Messages in the order in which they were accepted.
pub(crate) type Messages<K, V> = Vec<Message<K, V>>;

/// The state that callers and the worker share, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Front<K, V> {
    /// The chunk that is being filled.
    open: Messages<K, V>,
    /// The number of beats that wait in the channel and in the open chunk.
    weight: usize,
    /// The number of waiting beats at which callers wait; zero once the worker accepts no messages.
    limit: usize,
    /// Until when the worker sleeps, ns, or [`AWAKE`].
    asleep_until: u64,
    /// Whether a beat can produce a wanted event, so that it must wake the worker.
    reports_beats: bool,
    /// Whether senders wait for room.
    has_waiting: bool,
    /// Emptied chunks, for reuse.
    spares: Vec<Messages<K, V>>,
}

/// The senders' side.
#[derive(Debug)]
pub(crate) struct Inbox<K, V> {
    /// The state that callers and the worker share.
    front: Mutex<Front<K, V>>,
    /// A [`Phase`] by its number, changed under the lock.
    phase: AtomicU8,
    /// The bounded channel of full chunks. Messages are sent to it under the lock.
    sender: Sender<Messages<K, V>>,
    /// The number of waiting beats that wakes a sleeping worker.
    high_water: usize,
    /// Notified under the lock when there is room.
    drained: Condvar,
    /// The worker's thread, once it runs.
    thread: OnceLock<Thread>,
    /// Emptied buffers for the callers of `beat_many`.
    spares: Mutex<Vec<Chunk<K>>>,
    /// The counters that the worker publishes.
    pub(crate) published: Mutex<Published>,
}

impl<K, V> Inbox<K, V> {
    /// Creates an inbox for `capacity` beats, and the worker's end of it.
    pub(crate) fn new(capacity: usize) -> (Self, Receiver<Messages<K, V>>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity / CHUNK + 1);
        let inbox = Inbox {
            front: Mutex::new(Front {
                open: Vec::new(),
                weight: 0,
                limit: capacity,
                asleep_until: AWAKE,
                reports_beats: false,
                has_waiting: false,
                spares: Vec::new(),
            }),
            phase: AtomicU8::new(Phase::Open as u8),
            sender,
            high_water: capacity.div_ceil(2),
            drained: Condvar::new(),
            thread: OnceLock::new(),
            spares: Mutex::new(Vec::with_capacity(SPARE_BUFFERS)),
            published: Mutex::new(Published::default()),
        };
        (inbox, receiver)
    }

    /// Sends `message`, which must be applied by `due` ns, and waits for room as long as `patience` allows.
    ///
    /// # Errors
    ///
    /// Returns the message and the reason why it was refused.
    #[inline]
    pub(crate) fn send(
        &self,
        message: Message<K, V>,
        due: u64,
        patience: Patience,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        let mut front = match self.lock(patience) {
            Ok(front) => front,
            Err(kind) => return Err((kind, message)),
        };
        if front.weight >= front.limit
            && let Err(kind) = self.wait_for_room(&mut front, patience)
        {
            drop(front);
            return Err((kind, message));
        }
        self.put(&mut front, message);
        if front.asleep_until != AWAKE
            && (due < front.asleep_until || front.reports_beats || front.weight >= self.high_water)
        {
            self.wake_with(front);
        }
        Ok(())
    }

    /// Locks the front, for at most `patience` and a moment. The holder of the lock may have been preempted, and for
    /// long if its priority is low.
    #[inline]
    fn lock(&self, patience: Patience) -> Result<MutexGuard<'_, Front<K, V>>, BeatErrorKind> {
        let locked = match patience {
            Patience::Forever => return Ok(self.front.lock()),
            Patience::Never => self.front.try_lock_for(LOCK_WAIT),
            Patience::Until(deadline) => {
                let in_time = self.front.try_lock_until(deadline);
                in_time.or_else(|| self.front.try_lock_for(LOCK_WAIT))
            }
        };
        locked.ok_or(patience.end())
    }

    /// Sends `message` from a worker thread. Never waits, even if everything is full.
    pub(crate) fn send_from_worker(
        &self,
        message: Message<K, V>,
    ) -> Result<(), (BeatErrorKind, Message<K, V>)> {
        let mut front = self.front.lock();
        if self.phase() != Phase::Open {
            drop(front);
            return Err((self.why_gone(), message));
        }
        self.put(&mut front, message);
        self.wake_with(front);
        Ok(())
    }

    /// Puts `message` into the open chunk. A full chunk is sent first.
    #[inline]
    fn put(&self, front: &mut Front<K, V>, message: Message<K, V>) {
        if front.open.len() >= CHUNK {
            self.seal(front);
        }
        front.weight += message.weight();
        front.open.push(message);
    }

    /// Sends the open chunk through the channel and begins another. Only messages from worker threads, which have no
    /// limit, can fill the channel. The open chunk then grows.
    #[cold]
    fn seal(&self, front: &mut Front<K, V>) {
        if self.sender.is_full() {
            return;
        }
        let next = front.spares.pop();
        let next = next.unwrap_or_else(|| Vec::with_capacity(CHUNK));
        let full = std::mem::replace(&mut front.open, next);
        let sent = self.sender.try_send(full);
        debug_assert!(sent.is_ok(), "only who holds the lock fills the channel");
    }

    /// Waits until there is room, or the worker accepts no messages.
    ///
    /// The worker wakes all waiting senders together after it has taken everything. Waking one sender per free place
    /// would cost a thread switch for every message.
    #[cold]
    fn wait_for_room(
        &self,
        front: &mut MutexGuard<'_, Front<K, V>>,
        patience: Patience,
    ) -> Result<(), BeatErrorKind> {
        let mut is_in_time = true;
        while front.weight >= front.limit {
            if self.phase() != Phase::Open {
                return Err(self.why_gone());
            }
            if std::mem::replace(&mut front.asleep_until, AWAKE) != AWAKE {
                self.unpark();
            }
            if !is_in_time {
                return Err(patience.end());
            }
            front.has_waiting = true;
            match patience {
                Patience::Never => return Err(patience.end()),
                Patience::Until(deadline) => {
                    is_in_time = !self.drained.wait_until(front, deadline).timed_out();
                }
                Patience::Forever => self.drained.wait(front),
            }
        }
        Ok(())
    }

    /// Takes all messages accepted so far, in order, and wakes waiting senders. `emptied` are chunks that were taken
    /// before.
    pub(crate) fn take(
        &self,
        receiver: &Receiver<Messages<K, V>>,
        taken: &mut Vec<Messages<K, V>>,
        emptied: &mut Vec<Messages<K, V>>,
    ) {
        // Most chunks are taken before the senders are locked out, but no more chunks than there were at the start.
        taken.extend(receiver.try_iter().take(receiver.len()));
        let mut front = self.front.lock();
        taken.extend(receiver.try_iter());
        front.spares.append(emptied);
        front.weight = 0;
        if !front.open.is_empty() {
            let next = front.spares.pop().unwrap_or_default();
            taken.push(std::mem::replace(&mut front.open, next));
        }
        if front.has_waiting {
            front.has_waiting = false;
            self.drained.notify_all();
        }
    }

    /// Wakes the worker if it sleeps.
    #[cold]
    pub(crate) fn wake(&self) {
        self.wake_with(self.front.lock());
    }

    /// Wakes the worker like [`wake`](Inbox::wake); the caller holds the lock.
    fn wake_with(&self, mut front: MutexGuard<'_, Front<K, V>>) {
        let was_asleep = std::mem::replace(&mut front.asleep_until, AWAKE) != AWAKE;
        drop(front);
        if was_asleep {
            self.unpark();
        }
    }

    /// Asks the worker to finish. Later calls return that it accepts no messages.
    pub(crate) fn close(&self) {
        self.leave(Phase::Closing);
    }

    /// Records that a panic ended the worker, and drops the messages that it has not taken, so that no caller waits for
    /// their answers forever.
    pub(crate) fn fail(&self, receiver: &Receiver<Messages<K, V>>) {
        self.leave(Phase::Failed);
        let mut taken = Vec::new();
        self.take(receiver, &mut taken, &mut Vec::new());
        taken.into_iter().flatten().for_each(Message::dismantle);
    }

    /// Refuses further messages, because of `phase`.
    fn leave(&self, phase: Phase) {
        let mut front = self.front.lock();
        if self.phase() != Phase::Failed {
            self.phase.store(phase as u8, Ordering::Release);
        }
        front.limit = 0;
        self.drained.notify_all();
        self.wake_with(front);
    }

    /// Returns whether the worker accepts messages.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Closing,
            _ => Phase::Failed,
        }
    }

    /// Returns why a question was dropped without an answer. A worker that unwinds drops questions before it records
    /// its failure; this method waits for that record.
    pub(crate) fn verdict(&self) -> BeatErrorKind {
        while self.phase() == Phase::Open {
            thread::yield_now();
        }
        self.why_gone()
    }

    /// Returns why a message was refused.
    fn why_gone(&self) -> BeatErrorKind {
        if self.phase() == Phase::Failed {
            BeatErrorKind::WorkerFailed
        } else {
            BeatErrorKind::Closed
        }
    }

    /// Returns an empty buffer for `beat_many`, reused if possible.
    pub(crate) fn take_buffer(&self) -> Chunk<K> {
        self.spares.lock().pop().unwrap_or_default()
    }

    /// Returns an emptied buffer for reuse. Beyond [`SPARE_BUFFERS`], buffers are freed.
    pub(crate) fn give_buffer(&self, buffer: Chunk<K>) {
        debug_assert!(buffer.is_empty());
        let mut spares = self.spares.lock();
        if spares.len() < SPARE_BUFFERS {
            spares.push(buffer);
        }
    }

    /// Records which thread must be woken. The worker calls it before anything else.
    pub(crate) fn enter(&self) {
        let _ = self.thread.set(thread::current());
    }

    /// Parks the worker until `until` by `clock`, or until it is woken; moving a manual clock wakes it. If
    /// `reports_beats` is set, every beat wakes it. Returns at once if there is a message, if the worker must finish,
    /// or if `has_work` returns `true`.
    pub(crate) fn sleep(
        &self,
        receiver: &Receiver<Messages<K, V>>,
        clock: &Clock,
        until: u64,
        reports_beats: bool,
        has_work: impl FnOnce() -> bool,
    ) {
        let mut front = self.front.lock();
        if !(front.open.is_empty() && receiver.is_empty() && self.phase() == Phase::Open) {
            return;
        }
        front.asleep_until = until;
        front.reports_beats = reports_beats;
        drop(front);
        let mut is_asleep = !has_work();
        while is_asleep {
            // After `asleep_until` is published: a thread that moves a manual clock later reads it and unparks the
            // worker.
            let now = clock.now_ns();
            if until == NEVER {
                thread::park();
            } else if now >= until {
                break;
            } else if clock.is_manual() {
                thread::park();
            } else {
                thread::park_timeout(Duration::from_nanos(until - now));
            }
            is_asleep = self.front.lock().asleep_until != AWAKE;
        }
        self.front.lock().asleep_until = AWAKE;
    }

    /// Unparks the worker's thread, if it runs.
    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl<K: Send, V: Send> Ring for Inbox<K, V> {
    fn ring(&self, now: u64) {
        let front = self.front.lock();
        if front.asleep_until <= now {
            self.wake_with(front);
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

    #[test]
    fn an_inbox_takes_as_many_messages_as_it_should_and_gives_them_in_order() {
        for capacity in [1, 2, 63, 64, 65, 127, 128, 200, 4_096] {
            let (inbox, receiver) = Inbox::<u64, ()>::new(capacity);
            let beat = |key| Message::Beat(Beat::plain(Tag(0), key, 0));
            let (mut taken, mut emptied) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let accepted = (0..10_000)
                    .take_while(|&key| inbox.send(beat(key), 0, Patience::Never).is_ok())
                    .count();
                assert_eq!(accepted, capacity);
                // A worker is never refused.
                inbox.send_from_worker(beat(accepted as u64)).unwrap();
                inbox.take(&receiver, &mut taken, &mut emptied);
                let mut next = 0;
                for mut chunk in taken.drain(..) {
                    for message in chunk.drain(..) {
                        assert!(matches!(message, Message::Beat(beat) if beat.key == next));
                        next += 1;
                    }
                    emptied.push(chunk);
                }
                assert_eq!(next, accepted as u64 + 1);
            }
        }
    }

    #[test]
    fn who_must_not_wait_does_not_wait_for_a_preempted_sender_either() {
        let (inbox, _receiver) = Inbox::<u64, ()>::new(8);
        let inbox = Arc::new(inbox);
        let held = inbox.front.lock();
        let (tell, told) = crossbeam_channel::unbounded();
        let soon = Instant::now()
            .checked_add(Duration::from_millis(20))
            .unwrap();
        for patience in [Patience::Never, Patience::Until(soon)] {
            let (inbox, tell) = (inbox.clone(), tell.clone());
            thread::Builder::new()
                .spawn(move || {
                    let beat = Message::Beat(Beat::plain(Tag(0), 7, 0));
                    let (kind, message) = inbox.send(beat, 0, patience).unwrap_err();
                    assert!(matches!(message, Message::Beat(beat) if beat.key == 7));
                    tell.send((kind, Instant::now())).unwrap();
                })
                .unwrap();
        }
        let patient = Duration::from_secs(20);
        let mut kinds: Vec<_> = (0..2)
            .map(|_| told.recv_timeout(patient).expect("it waits for the lock"))
            .collect();
        drop(held);
        kinds.sort_by_key(|&(kind, _)| kind == BeatErrorKind::TimedOut);
        assert_eq!(kinds[0].0, BeatErrorKind::InboxFull);
        assert_eq!(kinds[1].0, BeatErrorKind::TimedOut);
        assert!(kinds[1].1 >= soon);
    }
}
