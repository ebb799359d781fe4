//! The events between the workers and the delivery thread. `docs/design.md` describes the protocol.
//!
//! No user code runs and no user value is dropped under the lock. A key's `Eq`, a value's `Drop` and the callback may
//! all call the watcher, which locks the outbox to read its counters.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::clock::Clock;
use crate::event::{Event, EventKind, Kinds};
use crate::panic::catch_panic;
use crate::sink::Sink;
use crate::stats::Histogram;
use crate::sync::{Condvar, Instant, Mutex, sized};

/// A callback that runs on the delivery thread.
pub(crate) type Callback<K, V> = Box<dyn FnMut(Event<K, V>) + Send>;

/// The way out of a worker.
pub(crate) enum Outlet<K, V> {
    /// The worker offers each event to a sink.
    Sink(Arc<dyn Sink<K, V>>),
    /// The worker adds events to the outbox, and the delivery thread passes them to the callback.
    Outbox(Arc<Outbox<K, V>>),
}

/// The maximum number of events of one worker in the outbox. All others wait in the worker's slab.
pub(crate) const OUTBOX_QUOTA: usize = sized(1_024, 2);

/// How long delivery continues after the watcher is closed.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(100);

/// The counters of the outbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutboxCounts {
    /// Expired episodes whose event is in the outbox.
    pub(crate) pending: u64,
    /// Expired episodes whose event was passed to the callback.
    pub(crate) delivered: u64,
    /// Expired episodes that were removed while their event was in the outbox.
    pub(crate) removed: u64,
    /// Expired episodes whose event was discarded at the close.
    pub(crate) discarded: u64,
    /// Calls that panicked.
    pub(crate) panics: u64,
    /// The time from the deadline to the delivery.
    pub(crate) delivery: Histogram,
}

/// Events between the workers and the delivery thread. Events leave it one at a time, just before the call of the
/// callback, so that a removal can cancel all others.
pub(crate) struct Outbox<K, V> {
    /// The callback, until the delivery thread takes it.
    callback: Mutex<Option<Callback<K, V>>>,
    /// The state under the lock.
    inner: Mutex<Inner<K, V>>,
    /// Notified when there is an event, and at the end.
    filled: Condvar,
    /// Notified when the oldest portion is finished.
    finished: Condvar,
}

/// Events that a worker added together.
#[derive(Debug)]
struct Portion<K, V> {
    /// Its number, one more than that of the portion before it.
    number: u64,
    /// The index of the worker.
    worker: usize,
    /// Whether the worker has taken the events out to search them.
    is_out: bool,
    /// Its events, the oldest first.
    events: VecDeque<Event<K, V>>,
}

/// The part of the outbox under the lock.
#[derive(Debug)]
struct Inner<K, V> {
    /// The events, the oldest first, in portions as the workers added them. A portion is empty only while its events
    /// are taken out.
    portions: VecDeque<Portion<K, V>>,
    /// Emptied portions, to be reused by the workers.
    spares: Vec<VecDeque<Event<K, V>>>,
    /// The number of the next portion.
    next: u64,
    /// The number of the portion whose event is being delivered.
    calling: Option<u64>,
    /// The number of events of each worker.
    held: Vec<usize>,
    /// The workers that found no room and must be woken.
    waiting: Vec<bool>,
    /// Whether the watcher is closing.
    is_closing: bool,
    /// When the last worker ended, if the watcher was closing by then; otherwise when it began to close.
    closing_since: Option<Instant>,
    /// Whether events were discarded.
    has_given_up: bool,
    /// The number of workers that have not ended and may add events.
    workers: usize,
    /// The counters.
    counts: OutboxCounts,
}

impl<K, V> Outbox<K, V> {
    /// Creates an empty outbox without workers, whose events are for `callback`.
    pub(crate) fn new(callback: Callback<K, V>) -> Self {
        let inner = Inner {
            portions: VecDeque::new(),
            spares: Vec::new(),
            next: 0,
            calling: None,
            held: Vec::new(),
            waiting: Vec::new(),
            is_closing: false,
            closing_since: None,
            has_given_up: false,
            workers: 0,
            counts: OutboxCounts::default(),
        };
        Outbox {
            callback: Mutex::new(Some(callback)),
            inner: Mutex::new(inner),
            filled: Condvar::new(),
            finished: Condvar::new(),
        }
    }

    /// Prepares the outbox for `workers` workers. Must be called before any of them runs.
    pub(crate) fn open(&self, workers: usize) {
        let mut inner = self.inner.lock();
        inner.held = vec![0; workers];
        inner.waiting = vec![false; workers];
        inner.workers = workers;
    }

    /// Returns how many events `worker` may add. If none, the worker is woken when there is room.
    pub(crate) fn room(&self, worker: usize) -> usize {
        let mut inner = self.inner.lock();
        let room = OUTBOX_QUOTA.saturating_sub(inner.held[worker]);
        inner.waiting[worker] = room == 0;
        room
    }

    /// Adds `events` of `worker`, at least one and at most as many as there was [room](Outbox::room) for. Leaves an
    /// empty buffer.
    pub(crate) fn add(&self, worker: usize, events: &mut VecDeque<Event<K, V>>) {
        let terminal = terminal(events);
        let mut inner = self.inner.lock();
        let was_empty = inner.portions.is_empty();
        inner.held[worker] += events.len();
        inner.counts.pending += terminal;
        let number = inner.next;
        inner.next += 1;
        let events = std::mem::replace(events, inner.spares.pop().unwrap_or_default());
        inner.portions.push_back(Portion {
            number,
            worker,
            is_out: false,
            events,
        });
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Cancels the expiry of `key` that `worker` added. Replaces it by a removal if `wanted` says so.
    ///
    /// The worker's portions are taken out, searched without the lock, and put back. The delivery thread does not
    /// overtake a portion that is taken out, so the order of a worker's events is kept.
    ///
    /// # Panics
    ///
    /// Panics if the key does when it is compared or dropped. The events are put back first.
    pub(crate) fn cancel(&self, worker: usize, key: &K, wanted: Kinds)
    where
        K: PartialEq,
    {
        let mut taken = self.check_out(worker);
        if taken.is_empty() {
            return;
        }
        let mut doomed = Vec::new();
        let mut removed = 0;
        let look = || {
            for (nth, events) in taken.iter_mut().enumerate() {
                for (at, event) in events.iter_mut().enumerate() {
                    if event.kind() != EventKind::Expired || event.key() != Some(key) {
                        continue;
                    }
                    let is_terminal = event.is_terminal();
                    removed += u64::from(is_terminal);
                    if is_terminal && wanted.has(EventKind::Removed) {
                        event.expired_to_removed();
                    } else {
                        doomed.push((nth, at));
                    }
                }
            }
        };
        let looked = catch_unwind(AssertUnwindSafe(look));
        // From the back, so that earlier indices stay valid.
        let doomed = doomed.into_iter().rev();
        let doomed: Vec<_> = doomed
            .filter_map(|(nth, at)| taken[nth].remove(at))
            .collect();
        self.check_in(worker, taken, removed, doomed.len());
        let dropped = doomed.into_iter().map(Event::dismantle);
        let is_well = dropped.fold(true, |is_well, dropped| is_well & dropped);
        if let Err(panic) = looked {
            resume_unwind(panic);
        }
        assert!(is_well, "a key or a value panicked as it was dropped");
    }

    /// Takes out the portions of `worker`, the oldest first.
    fn check_out(&self, worker: usize) -> Vec<VecDeque<Event<K, V>>> {
        let mut inner = self.inner.lock();
        if inner.held[worker] == 0 {
            return Vec::new();
        }
        let portions = inner.portions.iter_mut();
        let portions = portions.filter(|portion| portion.worker == worker);
        let taken = portions.map(|portion| {
            portion.is_out = true;
            std::mem::take(&mut portion.events)
        });
        taken.collect()
    }

    /// Puts back the portions of `worker`, without `gone` of its events, which included the ends of `removed` episodes.
    fn check_in(
        &self,
        worker: usize,
        taken: Vec<VecDeque<Event<K, V>>>,
        removed: u64,
        gone: usize,
    ) {
        let mut taken = taken.into_iter();
        let mut inner = self.inner.lock();
        inner.portions.retain_mut(|portion| {
            if portion.worker == worker && portion.is_out {
                portion.is_out = false;
                portion.events = taken.next().unwrap_or_default();
            }
            portion.is_out || !portion.events.is_empty()
        });
        inner.held[worker] -= gone;
        inner.counts.pending -= removed;
        inner.counts.removed += removed;
        drop(inner);
        self.filled.notify_one();
        self.finished.notify_all();
    }

    /// Waits until the calls for all events that are in the outbox now have returned. Returns whether no event was
    /// discarded.
    pub(crate) fn flush(&self) -> bool {
        let mut inner = self.inner.lock();
        let mark = inner.next;
        while inner.oldest() < mark {
            self.finished.wait(&mut inner);
        }
        !inner.has_given_up
    }

    /// Returns the counters.
    pub(crate) fn counts(&self) -> OutboxCounts {
        self.inner.lock().counts.clone()
    }

    /// Gives the delivery thread [`CLOSE_GRACE`] to deliver the remaining events, from the moment at which no worker
    /// adds further events.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_closing = true;
        inner.begin_grace();
    }

    /// Records that a worker has ended. After the last worker the delivery thread ends too.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.workers -= 1;
        inner.begin_grace();
        if inner.workers == 0 {
            self.filled.notify_all();
        }
    }

    /// The loop of the delivery thread: passes one event after another to the callback until the end.
    pub(crate) fn run(&self, clock: &Clock, inboxes: &[Arc<Inbox<K, V>>]) {
        let Some(mut callback) = self.callback.lock().take() else {
            return;
        };
        while let Some(event) = self.next(clock, inboxes) {
            if catch_panic(|| callback(event)).is_none() {
                self.inner.lock().counts.panics += 1;
                crate::log::error!("a callback panicked; delivery continues");
            }
        }
        if catch_panic(|| drop(callback)).is_none() {
            crate::log::error!("a callback panicked while it was dropped");
        }
    }

    /// Returns the next event, stamped as delivered, or `None` at the end. The call for the previous event has
    /// returned.
    fn next(&self, clock: &Clock, inboxes: &[Arc<Inbox<K, V>>]) -> Option<Event<K, V>> {
        let mut inner = self.inner.lock();
        let called = inner.calling.take();
        if called.is_some_and(|portion| portion < inner.oldest()) {
            self.finished.notify_all();
        }
        let (worker, mut event) = loop {
            let given_up = inner.give_up_late();
            if !given_up.is_empty() {
                self.finished.notify_all();
                drop(inner);
                for event in given_up.into_iter().flatten() {
                    event.dismantle();
                }
                inner = self.inner.lock();
            }
            match inner.pop() {
                Some(next) => break next,
                None if inner.workers == 0 && inner.portions.is_empty() => return None,
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

impl<K, V> Clone for Outlet<K, V> {
    fn clone(&self) -> Self {
        match self {
            Outlet::Sink(sink) => Outlet::Sink(sink.clone()),
            Outlet::Outbox(outbox) => Outlet::Outbox(outbox.clone()),
        }
    }
}

impl<K, V> fmt::Debug for Outlet<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outlet::Sink(_) => "Sink",
            Outlet::Outbox(_) => "Outbox",
        })
    }
}

impl<K, V> fmt::Debug for Outbox<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl<K, V> Inner<K, V> {
    /// Returns the number of the oldest unfinished portion. Every call for the portions before it has returned.
    fn oldest(&self) -> u64 {
        let waiting = || self.portions.front().map(|portion| portion.number);
        self.calling.or_else(waiting).unwrap_or(self.next)
    }

    /// Takes the oldest event and the index of its worker. Returns `None` if there is none or a worker has taken it
    /// out.
    fn pop(&mut self) -> Option<(usize, Event<K, V>)> {
        let portion = self.portions.front_mut()?;
        let next = (portion.worker, portion.events.pop_front()?);
        self.calling = Some(portion.number);
        if portion.events.is_empty() {
            let emptied = self.portions.pop_front();
            self.spares.extend(emptied.map(|portion| portion.events));
        }
        Some(next)
    }

    /// Begins the grace of a closing watcher if no worker adds further events.
    fn begin_grace(&mut self) {
        if self.is_closing && self.workers == 0 {
            self.closing_since.get_or_insert_with(Instant::now);
        }
    }

    /// Discards all events after the grace and returns them, so that they are dropped without the lock. Portions that a
    /// worker has taken out are left for the next call.
    fn give_up_late(&mut self) -> Vec<VecDeque<Event<K, V>>> {
        let mut given_up = Vec::new();
        let is_late = self
            .closing_since
            .is_some_and(|since| since.elapsed() > CLOSE_GRACE);
        if !is_late {
            return given_up;
        }
        self.portions.retain_mut(|portion| {
            if !portion.is_out {
                let terminal = terminal(&portion.events);
                self.held[portion.worker] -= portion.events.len();
                self.counts.pending -= terminal;
                self.counts.discarded += terminal;
                given_up.push(std::mem::take(&mut portion.events));
            }
            portion.is_out
        });
        self.has_given_up |= !given_up.is_empty();
        given_up
    }
}

/// Returns how many of `events` end an episode.
fn terminal<K, V>(events: &VecDeque<Event<K, V>>) -> u64 {
    events.iter().filter(|event| event.is_terminal()).count() as u64
}
