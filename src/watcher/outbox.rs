//! The events between the workers and the delivery thread. `docs/design.md` describes the protocol.
//!
//! Nothing of the user's runs or is dropped under the lock: a key's `Eq`, a value's `Drop` and the callback may all call
//! the watcher, which locks the outbox to read its counters.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::clock::Clock;
use crate::event::{Event, EventKind, Kinds};
use crate::panic::catch_panic;
use crate::stats::Histogram;
use crate::sync::{Condvar, Instant, Mutex, sized};

/// A callback that runs on the delivery thread.
pub(crate) type Callback<K, V> = Box<dyn FnMut(Event<K, V>) + Send>;

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
    /// Notified when there is an event, or the end.
    filled: Condvar,
    /// Notified when the oldest portion is finished.
    finished: Condvar,
}

/// Events that a worker added together.
#[derive(Debug)]
struct Portion<K, V> {
    /// Its number, one more than that of the portion before it.
    number: u64,
    /// Which worker.
    worker: usize,
    /// Whether the worker has taken the events out to look through them.
    is_out: bool,
    /// Its events, the oldest first.
    events: VecDeque<Event<K, V>>,
}

/// The part of the outbox under the lock.
#[derive(Debug)]
struct Inner<K, V> {
    /// The events, the oldest first, in the portions in which workers added them. No portion is empty unless it is out.
    portions: VecDeque<Portion<K, V>>,
    /// Emptied portions, on their way back to the workers.
    spares: Vec<VecDeque<Event<K, V>>>,
    /// The number of the next portion.
    next: u64,
    /// The portion of the event whose call runs.
    calling: Option<u64>,
    /// How many events are of each worker.
    held: Vec<usize>,
    /// The workers that found their quota used up and want to be woken.
    waiting: Vec<bool>,
    /// Whether the watcher is closing.
    is_closing: bool,
    /// When the last worker ended, if the watcher was closing by then; else when it began to close.
    closing_since: Option<Instant>,
    /// Whether events were given up.
    has_given_up: bool,
    /// How many workers have not ended, and may add more.
    workers: usize,
    /// What is counted.
    counts: OutboxCounts,
}

impl<K, V> Outbox<K, V> {
    /// An empty outbox for `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        let inner = Inner {
            portions: VecDeque::new(),
            spares: Vec::new(),
            next: 0,
            calling: None,
            held: vec![0; workers],
            waiting: vec![false; workers],
            is_closing: false,
            closing_since: None,
            has_given_up: false,
            workers,
            counts: OutboxCounts::default(),
        };
        Outbox {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
            finished: Condvar::new(),
        }
    }

    /// How many events `worker` may add. If none, it is woken when there is room.
    pub(crate) fn room(&self, worker: usize) -> usize {
        let mut inner = self.inner.lock();
        let room = OUTBOX_QUOTA.saturating_sub(inner.held[worker]);
        inner.waiting[worker] = room == 0;
        room
    }

    /// Adds `events` of `worker`, some, and no more than there was [room](Outbox::room) for; leaves an empty buffer.
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

    /// Takes back what `worker` added about the expiry of `key`; reports it as a removal instead if `wanted` says so.
    ///
    /// The worker's portions are taken out, looked through without the lock, and put back. The delivery thread does not
    /// pass over a portion that is out, so the order of a worker's events stays.
    ///
    /// # Panics
    ///
    /// If a key does as it is compared or dropped. The events are put back before.
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
        // From the back, so that the places of those before stay what they are.
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

    /// Puts back the portions of `worker`, without `gone` of its events, of which some were the ends of `removed` episodes.
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

    /// Waits until the calls for all events that are here now have returned. Returns whether no event was given up.
    pub(crate) fn flush(&self) -> bool {
        let mut inner = self.inner.lock();
        let mark = inner.next;
        while inner.oldest() < mark {
            self.finished.wait(&mut inner);
        }
        !inner.has_given_up
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> OutboxCounts {
        self.inner.lock().counts.clone()
    }

    /// Gives the delivery thread [`CLOSE_GRACE`] for what waits, from the moment on at which no worker adds any more.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.is_closing = true;
        inner.begin_grace();
    }

    /// Says that a worker has ended. After the last of them the delivery thread ends too.
    pub(crate) fn leave(&self) {
        let mut inner = self.inner.lock();
        inner.workers -= 1;
        inner.begin_grace();
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
            if catch_panic(|| callback(event)).is_none() {
                self.inner.lock().counts.panics += 1;
                crate::log::error!("a callback panicked; delivery goes on");
            }
        }
        if catch_panic(|| drop(callback)).is_none() {
            crate::log::error!("a callback panicked as it was dropped");
        }
    }

    /// The next event, stamped as delivered; `None` at the end. The call for the one before has returned.
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

impl<K, V> Inner<K, V> {
    /// The number of the oldest portion that is not finished: every call for the ones before has returned.
    fn oldest(&self) -> u64 {
        let waiting = || self.portions.front().map(|portion| portion.number);
        self.calling.or_else(waiting).unwrap_or(self.next)
    }

    /// Takes the oldest event, and says whose it is; `None` too if a worker has taken it out.
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

    /// Begins the grace of a watcher that closes if no worker adds events any more.
    fn begin_grace(&mut self) {
        if self.is_closing && self.workers == 0 {
            self.closing_since.get_or_insert_with(Instant::now);
        }
    }

    /// Gives up everything that waits after the grace; returns it, to be dropped without the lock. What a worker has taken
    /// out is left for the next call.
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

/// How many of `events` end an episode.
fn terminal<K, V>(events: &VecDeque<Event<K, V>>) -> u64 {
    events.iter().filter(|event| event.is_terminal()).count() as u64
}
