//! One worker thread: drain the inbox, expire, deliver, sleep until the next deadline.

mod backpressure;
mod commands;
mod flush;
mod stall;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::outbox::{CLOSE_GRACE, Outlet};
use super::role::{self, Role, WatcherId};
use crate::clock::{Clock, NEVER};
use crate::event::{Event, EventKind, Kinds};
use crate::panic::{OneByOne, catch_panic, discard, drop_both};
use crate::stats::Histogram;
use crate::status::Status;
use crate::sync::Instant;
use crate::table::{Beat, EXPIRE_LIMIT, Table, Tag};
use crate::watcher::inbox::{COUNTERS_LAG, Command, Inbox, Message, Messages, Phase, Statuses};
use flush::Flushes;
use stall::StallDetector;

/// How long before a deadline the worker wakes, ns, or a quarter of the timeout if that is less. It wakes early to
/// drain the inbox, which moves most deadlines, and to record that it runs. It wakes a second time so that little is
/// left to drain at the deadline itself.
const LEADS: [u64; 2] = [100_000_000, 1_000_000];

/// How many beats are applied together: enough for their cache misses to overlap, and few enough for the messages to
/// stay in the first-level cache.
const BATCH: usize = 64;

/// The options and the connections of a worker.
#[derive(Debug)]
pub(crate) struct Setup<K, V> {
    /// The number of its watcher.
    pub(crate) id: WatcherId,
    /// Its index.
    pub(crate) index: usize,
    /// The senders' side of its inbox.
    pub(crate) inbox: Arc<Inbox<K, V>>,
    /// Its own side of its inbox.
    pub(crate) receiver: Receiver<Messages<K, V>>,
    /// Its table.
    pub(crate) table: Table<K, V>,
    /// The way out for events; `None` if there is no sink, or if it is gone.
    pub(crate) outlet: Option<Outlet<K, V>>,
    /// The watcher's clock.
    pub(crate) clock: Clock,
    /// How late a wake-up must be to count as a stall, ns; [`NEVER`] to disable stall detection.
    pub(crate) stall_threshold: u64,
    /// The kinds of event that are wanted.
    pub(crate) wanted: Kinds,
}

/// The result of a round of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// No event waits.
    Done,
    /// More events wait, and the sink has room.
    More,
    /// More events wait, and the sink has no room.
    Blocked,
}

/// The worker's state while it runs.
struct Worker<K, V> {
    /// The options and the connections.
    setup: Setup<K, V>,
    /// Chunks of messages taken from the inbox.
    taken: Vec<Messages<K, V>>,
    /// Chunks that were taken and emptied, to be returned to the inbox.
    emptied: Vec<Messages<K, V>>,
    /// Beats taken from a chunk and not applied.
    batch: Vec<Beat<K, V>>,
    /// Batches taken from a chunk and not applied, each with its stamp.
    batches: Vec<(u64, Vec<(Tag, K)>)>,
    /// A command that waits for the beats before it.
    command: Option<Box<Command<K, V>>>,
    /// A snapshot that is being made.
    copies: Statuses<K, V>,
    /// The keys of a batch for which there was no room.
    refused: Vec<K>,
    /// Events that are being moved to the outbox.
    events: VecDeque<Event<K, V>>,
    /// The flushes that are not answered.
    flushes: Flushes,
    /// Detects stalls.
    stall: StallDetector,
    /// Whether it has taken messages since it last slept.
    took_messages: bool,
    /// The time from the deadline to the delivery.
    delivery: Histogram,
    /// Panics of the sink.
    panics: u64,
    /// How often it slept and woke.
    wakeups: u64,
}

/// The body of the thread: runs the worker, and handles its panic.
pub(crate) fn main<K, V>(setup: Setup<K, V>)
where
    K: Eq + Clone + 'static,
    V: Clone + 'static,
{
    role::enter(setup.id, Role::Worker);
    setup.inbox.enter();
    let index = setup.index;
    let outbox = match &setup.outlet {
        Some(Outlet::Outbox(outbox)) => Some(outbox.clone()),
        _ => None,
    };
    let mut worker = Worker::new(setup);
    crate::log::debug!("worker {index} runs");
    if catch_panic(|| worker.run()).is_none() {
        worker.fail();
        crate::log::error!(
            "worker {index} has failed: `Eq`, `Clone` or `Drop` of a key panicked on it"
        );
    }
    worker.dismantle();
    if let Some(outbox) = outbox {
        outbox.leave();
    }
    crate::log::debug!("worker {index} ended");
}

impl<K: Eq + Clone + 'static, V: Clone + 'static> Worker<K, V> {
    /// Creates a worker that has not run yet.
    fn new(setup: Setup<K, V>) -> Self {
        let now = setup.clock.now_ns();
        Worker {
            taken: Vec::new(),
            emptied: Vec::new(),
            batch: Vec::with_capacity(BATCH),
            batches: Vec::new(),
            command: None,
            copies: Vec::new(),
            refused: Vec::new(),
            stall: StallDetector::new(setup.stall_threshold, now),
            setup,
            events: VecDeque::new(),
            flushes: Flushes::default(),
            took_messages: false,
            delivery: Histogram::default(),
            panics: 0,
            wakeups: 0,
        }
    }

    /// Runs rounds until the end. The clock is read before the messages are counted, and nothing expires by a later
    /// reading. Every beat that was accepted before its deadline is therefore applied before that deadline is judged.
    fn run(&mut self) {
        loop {
            let now = self.setup.clock.now_ns();
            self.flushes.begin(now);
            self.setup.table.advance(now);
            self.notice_stall(now);
            let took_some = self.drain();
            let more_due = self.setup.table.expire(now, EXPIRE_LIMIT);
            let next_due = more_due.then(|| self.setup.table.next_due());
            let unexpired = next_due.flatten().map(|(due, _)| due);
            self.flushes.mark(unexpired, self.setup.table.queued());
            self.record_progress();
            let delivery = self.deliver();
            if !more_due {
                // Once after the last of many expiries, not after each step.
                self.setup.table.shrink();
            }
            self.publish();
            if !self.flushes.is_empty() {
                let unexpired = self.setup.table.next_due().map(|(due, _)| due);
                self.flushes.answer(self.unqueued(delivery), unexpired);
            }
            if self.setup.inbox.phase() != Phase::Open {
                return self.finish();
            }
            let is_idle = !took_some && !more_due && delivery != Delivery::More;
            if self.record_progress() && is_idle {
                self.sleep(delivery);
            }
        }
    }

    /// Returns how many items of the queue flushes need not wait for after `delivery`: those that have left the queue,
    /// or all if a user's sink has no room.
    fn unqueued(&self, delivery: Delivery) -> u64 {
        match (&self.setup.outlet, delivery) {
            (Some(Outlet::Sink(_)), Delivery::Blocked) => self.setup.table.queued(),
            _ => self.setup.table.unqueued(),
        }
    }

    /// Records that the worker runs, so that work in small steps never counts as a stall. Returns `false` if the last
    /// step alone took as long as a stall. The next round handles that.
    fn record_progress(&mut self) -> bool {
        let now = self.setup.clock.now_ns();
        let shortest = self.setup.table.shortest_timeout();
        self.stall.record_progress(now, shortest)
    }

    /// Holds expiry back if the worker did not run for much longer than it should.
    fn notice_stall(&mut self, now: u64) {
        let shortest = self.setup.table.shortest_timeout();
        if let Some(last_alive) = self.stall.resume(now, shortest) {
            let stall = self.setup.table.stall(self.setup.index, last_alive, now);
            crate::log::warn!(
                "worker {} did not run for {:?}; expiry is held back for {:?}",
                self.setup.index,
                Duration::from_nanos(now.saturating_sub(last_alive)),
                stall.held_for
            );
        }
    }

    /// Applies the messages that are present now, and no others, so that a flood does not delay expiry. Returns whether
    /// there were any.
    fn drain(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        let Setup {
            inbox, receiver, ..
        } = &self.setup;
        inbox.take(receiver, &mut taken, &mut self.emptied);
        let took_some = !taken.is_empty();
        self.took_messages |= took_some;
        let dismantle = |chunk: Messages<K, V>| chunk.into_iter().for_each(Message::dismantle);
        for mut chunk in OneByOne::new(taken.drain(..), dismantle) {
            for message in OneByOne::new(chunk.drain(..), Message::dismantle) {
                match message {
                    Message::Beat(beat) if self.batches.is_empty() => self.collect(beat),
                    message => self.take(message),
                }
            }
            self.emptied.push(chunk);
        }
        self.taken = taken;
        self.apply_batch();
        self.apply_batches();
        took_some
    }

    /// Takes one message. It stays where it is put if an earlier one panics, so that keys are dropped one by one.
    #[inline(never)]
    fn take(&mut self, message: Message<K, V>) {
        match message {
            Message::Beat(beat) => {
                self.batch.push(beat);
                self.apply_batches();
                if self.batch.len() == BATCH {
                    self.apply_batch();
                }
            }
            Message::Batch { stamp, keys } => {
                self.batches.push((stamp, keys));
                self.apply_batch();
            }
            Message::Command(command) => {
                self.command = Some(command);
                self.apply_batch();
                self.apply_batches();
                if let Some(command) = self.command.take() {
                    self.execute(*command);
                }
                self.record_progress();
            }
        }
    }

    /// Adds a beat to those that are applied together.
    #[inline]
    fn collect(&mut self, beat: Beat<K, V>) {
        self.batch.push(beat);
        if self.batch.len() == BATCH {
            self.apply_batch();
        }
    }

    /// Applies the collected beats.
    #[inline(never)]
    fn apply_batch(&mut self) {
        let Setup { index, table, .. } = &mut self.setup;
        table.beat_all(&mut self.batch, |_| warn_of_refusal(*index));
        self.record_progress();
    }

    /// Applies the collected batches, the oldest first. Callers overtake each other between reading the clock and
    /// sending, and beats in order need no search for their place in the list.
    #[inline(never)]
    fn apply_batches(&mut self) {
        self.batches.sort_by_key(|&(stamp, _)| stamp);
        self.batches.reverse();
        while let Some((stamp, mut keys)) = self.batches.pop() {
            let Setup { index, table, .. } = &mut self.setup;
            table.beat_keys(stamp, &mut keys, BATCH, |_| warn_of_refusal(*index));
            self.setup.inbox.give_buffer(keys);
            self.record_progress();
        }
    }

    /// Publishes the counters.
    fn publish(&self) {
        let mut published = self.setup.inbox.published.lock();
        published.counts = self.setup.table.counts();
        published.wakeups = self.wakeups;
        published.panics = self.panics;
        let detection = self.setup.table.detection();
        if published.detection.count() != detection.count() {
            published.detection.clone_from(detection);
        }
        if published.delivery.count() != self.delivery.count() {
            published.delivery.clone_from(&self.delivery);
        }
    }

    /// Sleeps from now, when it last ran, until the table's next deadline, until a sender wakes it, or until a full
    /// sink must be offered an event again.
    fn sleep(&mut self, delivery: Delivery) {
        let (due, timeout) = self.setup.table.next_due().unwrap_or((NEVER, NEVER));
        let now = self.stall.last_alive();
        let Setup {
            inbox,
            receiver,
            clock,
            table,
            outlet,
            index,
            ..
        } = &self.setup;
        let leads = LEADS.map(|lead| lead.min(timeout / 4));
        let ahead = leads
            .into_iter()
            .map(|lead| due - lead)
            .find(|&ahead| ahead > now && self.stall.is_on());
        let mut until = match due {
            NEVER => NEVER,
            due => ahead.unwrap_or(due),
        };
        until = until.min(self.retry_at(delivery, now));
        let outbox = match outlet {
            Some(Outlet::Outbox(outbox)) if delivery == Delivery::Blocked => Some(outbox),
            _ => None,
        };
        // Further messages may come soon. They need not wake the worker only for the counters.
        if std::mem::take(&mut self.took_messages) && !clock.is_manual() {
            until = until.min(now.saturating_add(COUNTERS_LAG));
        }
        let wanted = self.setup.wanted;
        let reports_beats = wanted.has(EventKind::Joined)
            || wanted.has(EventKind::Beat)
            || (wanted.has(EventKind::Recovered) && table.has_down());
        self.stall.sleep_until(until);
        if until > now || until == NEVER {
            self.wakeups += 1;
            inbox.sleep(receiver, clock, until, reports_beats, || {
                outbox.is_some_and(|outbox| outbox.room(*index) > 0)
            });
        }
    }

    /// Runs the last round: messages are applied, due events are offered for a limited time, and the rest is discarded.
    fn finish(&mut self) {
        let now = self.setup.clock.now_ns();
        self.setup.table.advance(now);
        self.drain();
        while self.setup.table.expire(now, EXPIRE_LIMIT) {}
        self.flushes.begin(now);
        self.flushes.mark(None, self.setup.table.queued());
        let began = Instant::now();
        let mut delivery = self.deliver();
        while delivery == Delivery::More && began.elapsed() < CLOSE_GRACE {
            delivery = self.deliver();
        }
        let unqueued = self.unqueued(delivery);
        self.setup.table.discard_pending();
        self.publish();
        self.flushes.answer(unqueued, None);
    }

    /// Accounts for the remaining items after a panic, which may have left the table in any state, and refuses all
    /// further calls.
    fn fail(&mut self) {
        self.dismantle_messages();
        // The table has counted these as taken by the sink.
        if let (Some(Outlet::Outbox(outbox)), false) = (&self.setup.outlet, self.events.is_empty())
        {
            outbox.add(self.setup.index, &mut self.events);
        }
        self.setup.table.give_up();
        self.setup.table.give_up_places();
        self.publish();
        self.setup.inbox.fail(&self.setup.receiver);
    }

    /// Drops the messages that were taken and not applied, key by key, because each may panic.
    fn dismantle_messages(&mut self) {
        if let Some(command) = self.command.take() {
            command.dismantle();
        }
        self.batch.drain(..).for_each(Beat::dismantle);
        let batches = self.batches.drain(..).flat_map(|(_, keys)| keys);
        batches.for_each(|(_, key)| discard(key));
        let copies = self.copies.drain(..);
        copies.for_each(dismantle_copy);
        self.refused.drain(..).for_each(discard);
        self.flushes = Flushes::default();
    }

    /// Drops everything that the worker holds, key by key, because each may panic.
    fn dismantle(mut self) {
        self.dismantle_messages();
        self.setup.table.dismantle();
        // The sink is user code too.
        discard(self);
    }
}

/// Drops the key and the value of a copy, each of which may panic.
fn dismantle_copy<K, V>((key, status): (K, Status<V>)) {
    drop_both(key, status);
}

/// Logs that there was no room for a key whose sender does not wait for an answer.
fn warn_of_refusal(worker: usize) {
    crate::log::warn!(
        "worker {worker}: the maximum number of keys is reached; a beat of a new key was refused"
    );
}
