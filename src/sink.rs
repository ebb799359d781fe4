//! Where events go: a callback on a thread of its own, a callback on the workers, a channel, or a sink of the user's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};

use crate::clock::Clock;
use crate::event::{Event, EventKind, Kinds};
use crate::inbox::Inbox;
use crate::panic::survive;
use crate::stats::Histogram;
use crate::sync::{Condvar, Instant, Mutex, sized};

/// An event that a [`Sink`] did not take.
///
/// ```
/// use std::time::Duration;
/// use liveness::{LocalWatcher, Refused, Sink};
///
/// let mut watcher = LocalWatcher::<u64>::builder().build_local()?;
/// (1..=2u64).try_for_each(|key| watcher.beat(key, Duration::ZERO))?;
/// let mut events = Vec::new();
/// watcher.poll(Duration::from_secs(60), |event| events.push(event));
///
/// let (sender, receiver) = crossbeam_channel::bounded(1);
/// assert_eq!(sender.offer(events[0].clone()), Ok(()));
/// assert_eq!(sender.offer(events[1].clone()), Err(Refused::Full(events[1].clone())));
/// drop(receiver);
/// assert_eq!(sender.offer(events[1].clone()), Err(Refused::Gone(events[1].clone())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<K, V> {
    /// There is no room for it now; the key waits in the worker, and the same event is offered again a millisecond later
    /// (under a manual clock, when the worker is next woken, by a flush for example).
    Full(Event<K, V>),
    /// There will never be room for any: this event and all later ones are discarded, and counted.
    Gone(Event<K, V>),
}

/// A destination for events.
///
/// `offer` runs on the worker threads, several at a time if there are several workers, and keeps its worker from taking
/// beats while it runs: it must not block. Each worker offers its events in order.
///
/// ```
/// use std::sync::Mutex;
/// use std::time::Duration;
/// use liveness::{Event, ManualClock, Refused, Sink, Watcher};
///
/// /// Keeps the last ten keys that died.
/// #[derive(Default)]
/// struct LastTen(Mutex<Vec<u64>>);
///
/// impl Sink<u64, ()> for &'static LastTen {
///     fn offer(&self, event: Event<u64, ()>) -> Result<(), Refused<u64, ()>> {
///         let mut keys = self.0.lock().unwrap();
///         keys.extend(event.key());
///         let excess = keys.len().saturating_sub(10);
///         keys.drain(..excess);
///         Ok(())
///     }
/// }
///
/// let last: &'static LastTen = Box::leak(Box::default());
/// let clock = ManualClock::new();
/// let watcher = Watcher::<u64>::builder().clock(clock.clone()).workers(1).sink(last).build()?;
/// watcher.beat_many(0..20u64)?;
/// clock.advance(Duration::from_secs(60));
/// watcher.flush()?;
/// assert_eq!(last.0.lock().unwrap().len(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Sink<K, V>: Send + Sync + 'static {
    /// Takes `event`, or hands it back.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] to be offered it again, [`Refused::Gone`] to be offered none any more.
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>>;
}

/// Never blocks: a full channel refuses, a channel without a receiver is gone.
impl<K, V> Sink<K, V> for Sender<Event<K, V>>
where
    K: Send + 'static,
    V: Send + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        self.try_send(event).map_err(|error| match error {
            TrySendError::Full(event) => Refused::Full(event),
            TrySendError::Disconnected(event) => Refused::Gone(event),
        })
    }
}

/// A callback that runs on the workers.
pub(crate) struct OnWorker<F>(pub(crate) F);

impl<K, V, F> Sink<K, V> for OnWorker<F>
where
    F: Fn(Event<K, V>) + Send + Sync + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        (self.0)(event);
        Ok(())
    }
}

/// A callback that runs on the delivery thread.
pub(crate) type Callback<K, V> = Box<dyn FnMut(Event<K, V>) + Send>;

/// The way out of a worker.
pub(crate) enum Outlet<K, V> {
    /// Nobody listens.
    Nowhere,
    /// The worker itself offers.
    Direct(Arc<dyn Sink<K, V>>),
    /// The delivery thread calls back.
    Queued(Arc<Outbox<K, V>>),
}

impl<K, V> Clone for Outlet<K, V> {
    fn clone(&self) -> Self {
        match self {
            Outlet::Nowhere => Outlet::Nowhere,
            Outlet::Direct(sink) => Outlet::Direct(sink.clone()),
            Outlet::Queued(outbox) => Outlet::Queued(outbox.clone()),
        }
    }
}

impl<K, V> fmt::Debug for Outlet<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outlet::Nowhere => "Nowhere",
            Outlet::Direct(_) => "Direct",
            Outlet::Queued(_) => "Queued",
        })
    }
}

/// How many events of one worker wait in the outbox at the most; all others wait in the worker's slab.
pub(crate) const OUTBOX_QUOTA: usize = sized(1_024, 2);

/// How long delivery goes on with what waits when the watcher closes.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// What the outbox counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutboxCounts {
    /// Expired episodes whose event waits here.
    pub(crate) pending: u64,
    /// Expired episodes whose event the callback was given.
    pub(crate) delivered: u64,
    /// Expired episodes that were removed while their event waited here.
    pub(crate) removed: u64,
    /// Expired episodes whose event was given up at close.
    pub(crate) discarded: u64,
    /// Calls that panicked.
    pub(crate) panics: u64,
    /// From deadline to delivery.
    pub(crate) delivery: Histogram,
}

/// Events between the workers and the delivery thread. One event at a time leaves it, just before its call, so that a
/// removal can still take back all others.
#[derive(Debug)]
pub(crate) struct Outbox<K, V> {
    /// What the threads share.
    inner: Mutex<Inner<K, V>>,
    /// Told when there is an event, or the end.
    filled: Condvar,
}

/// Events that a worker added together.
#[derive(Debug)]
struct Portion<K, V> {
    /// Which worker.
    worker: usize,
    /// Its events, the oldest first.
    events: VecDeque<Event<K, V>>,
}

/// The part of the outbox under the lock.
#[derive(Debug)]
struct Inner<K, V> {
    /// The events, the oldest first, in the portions in which workers added them. No portion is empty.
    events: VecDeque<Portion<K, V>>,
    /// Emptied portions, on their way back to the workers.
    spares: Vec<VecDeque<Event<K, V>>>,
    /// How many of them are of each worker.
    held: Vec<usize>,
    /// The workers that found their quota used up and want to be woken.
    waiting: Vec<bool>,
    /// When the watcher began to close.
    closing_since: Option<Instant>,
    /// How many workers have not ended, and may add more.
    workers: usize,
    /// What is counted.
    counts: OutboxCounts,
}

impl<K, V> Outbox<K, V> {
    /// An empty outbox for `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        let inner = Inner {
            events: VecDeque::new(),
            spares: Vec::new(),
            held: vec![0; workers],
            waiting: vec![false; workers],
            closing_since: None,
            workers,
            counts: OutboxCounts::default(),
        };
        Outbox {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
        }
    }

    /// How many events `worker` may add. If none, it is woken when there is room.
    pub(crate) fn room(&self, worker: usize) -> usize {
        let mut inner = self.inner.lock();
        let room = OUTBOX_QUOTA - inner.held[worker];
        inner.waiting[worker] = room == 0;
        room
    }

    /// Adds `events` of `worker`, some, and no more than there was [room](Outbox::room) for; leaves an empty buffer.
    pub(crate) fn add(&self, worker: usize, events: &mut VecDeque<Event<K, V>>) {
        let terminal = events.iter().filter(|event| event.is_terminal()).count();
        let mut inner = self.inner.lock();
        let was_empty = inner.events.is_empty();
        inner.held[worker] += events.len();
        inner.counts.pending += terminal as u64;
        let events = std::mem::replace(events, inner.spares.pop().unwrap_or_default());
        inner.events.push_back(Portion { worker, events });
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Takes back what `worker` added about the expiry of `key`; tells it as a removal instead if `wanted` says so.
    pub(crate) fn cancel(&self, worker: usize, key: &K, wanted: Kinds)
    where
        K: PartialEq + Clone,
        V: Clone,
    {
        let mut inner = self.inner.lock();
        let Inner {
            events,
            held,
            counts,
            ..
        } = &mut *inner;
        if held[worker] == 0 {
            return;
        }
        let mut keep = |event: &mut Event<K, V>| {
            if event.kind() != EventKind::Expired || event.key() != Some(key) {
                return true;
            }
            if !event.is_terminal() {
                held[worker] -= 1;
                return false;
            }
            counts.pending -= 1;
            counts.removed += 1;
            let keep = wanted.has(EventKind::Removed);
            if keep {
                event.expired_to_removed();
            } else {
                held[worker] -= 1;
            }
            keep
        };
        events.retain_mut(|portion| {
            if portion.worker == worker {
                portion.events.retain_mut(&mut keep);
            }
            !portion.events.is_empty()
        });
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> OutboxCounts {
        self.inner.lock().counts.clone()
    }

    /// Gives the delivery thread [`CLOSE_GRACE`] from now on for what waits.
    pub(crate) fn close(&self) {
        self.inner
            .lock()
            .closing_since
            .get_or_insert_with(Instant::now);
    }

    /// Says that a worker has ended. After the last of them the delivery thread ends too, whoever waits for it or not.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.workers -= 1;
        if inner.workers == 0 {
            self.filled.notify_all();
        }
    }

    /// The delivery thread: calls back with one event after the other until the end.
    pub(crate) fn run(
        &self,
        mut callback: Callback<K, V>,
        clock: &Clock,
        inboxes: &[Arc<Inbox<K, V>>],
    ) {
        while let Some(event) = self.next(clock, inboxes) {
            if survive(|| callback(event)).is_none() {
                self.inner.lock().counts.panics += 1;
                crate::log::error!("a callback panicked; delivery goes on");
            }
        }
    }

    /// The next event, stamped as delivered; `None` at the end.
    fn next(&self, clock: &Clock, inboxes: &[Arc<Inbox<K, V>>]) -> Option<Event<K, V>> {
        let mut inner = self.inner.lock();
        let (worker, mut event) = loop {
            if inner
                .closing_since
                .is_some_and(|since| since.elapsed() > CLOSE_GRACE)
            {
                inner.discard_all();
            }
            match inner.pop() {
                Some(next) => break next,
                None if inner.workers == 0 => return None,
                None => self.filled.wait(&mut inner),
            }
        };
        inner.held[worker] -= 1;
        let wants_room = inner.waiting[worker] && inner.held[worker] <= OUTBOX_QUOTA / 2;
        inner.waiting[worker] &= !wants_room;
        event.set_delivered(clock.now());
        if let Event::Expired(expired) = &event {
            let late = expired.lateness();
            inner.counts.delivery.record(crate::clock::nanos(late));
        }
        if event.is_terminal() {
            inner.counts.pending -= 1;
            inner.counts.delivered += 1;
        }
        drop(inner);
        if wants_room {
            inboxes[worker].wake();
        }
        Some(event)
    }
}

impl<K, V> Inner<K, V> {
    /// Takes the oldest event, and tells whose it is.
    fn pop(&mut self) -> Option<(usize, Event<K, V>)> {
        let portion = self.events.front_mut()?;
        let next = (portion.worker, portion.events.pop_front()?);
        if portion.events.is_empty() {
            let emptied = self.events.pop_front();
            self.spares.extend(emptied.map(|portion| portion.events));
        }
        Some(next)
    }

    /// Gives up everything that waits.
    fn discard_all(&mut self) {
        self.events.clear();
        self.held.fill(0);
        self.counts.discarded += self.counts.pending;
        self.counts.pending = 0;
    }
}
