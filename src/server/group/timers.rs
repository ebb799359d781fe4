//! Timers: what is due when, and what was cancelled meanwhile.

use std::collections::HashMap;

use crate::clock::NEVER;
use crate::due::DueQueue;

/// The code of a timer. Returns whether the timer goes on.
pub(super) type Tick<S> = Box<dyn FnMut(&mut S) -> bool + Send>;

/// The timers of a group.
pub(super) struct Timers<S> {
    /// The pending timers by their ids, which ascend.
    entries: HashMap<u64, Entry<S>, ahash::RandomState>,
    /// Their ids by due time, ns.
    queue: DueQueue<u64>,
    /// The last id.
    last: u64,
    /// The account.
    pub(super) counts: TimerCounts,
}

/// A pending timer.
pub(super) struct Entry<S> {
    /// When it is due, ns.
    due: u64,
    /// The time between calls, ns, if it repeats.
    interval: Option<u64>,
    /// Its code; `None` while it runs.
    tick: Option<Tick<S>>,
}

/// The account of timers: `set = pending + ended + cancelled + discarded`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimerCounts {
    /// Timers that were set.
    pub(super) set: u64,
    /// Timers that were called for the last time.
    pub(super) ended: u64,
    /// Timers that were cancelled.
    pub(super) cancelled: u64,
    /// Timers that were pending when the group stopped.
    pub(super) discarded: u64,
    /// Calls.
    pub(super) calls: u64,
    /// Ticks that were skipped, because the thread was late by more than an interval.
    pub(super) skipped: u64,
}

/// A timer that is due, taken out to be called.
pub(super) struct Due<S> {
    /// Its id.
    id: u64,
    /// When it was due, ns.
    pub(super) at: u64,
    /// Its code.
    pub(super) tick: Tick<S>,
}

impl<S> Timers<S> {
    /// No timers.
    pub(super) fn new() -> Self {
        Timers {
            entries: HashMap::default(),
            queue: DueQueue::new(),
            last: 0,
            counts: TimerCounts::default(),
        }
    }

    /// The number of pending timers.
    pub(super) fn pending(&self) -> usize {
        self.entries.len()
    }

    /// Sets a timer that is due at `due` ns and then each `interval` ns. Returns its id.
    pub(super) fn set(&mut self, due: u64, interval: Option<u64>, tick: Tick<S>) -> u64 {
        self.last += 1;
        self.counts.set += 1;
        let entry = Entry {
            due,
            interval,
            tick: Some(tick),
        };
        self.entries.insert(self.last, entry);
        self.look_at(self.last, due);
        self.last
    }

    /// Puts timer `id` into the queue.
    fn look_at(&mut self, id: u64, due: u64) {
        if due != NEVER {
            self.queue.push(due, id);
        }
        let entries = &self.entries;
        let is_live = |due, id: &u64| is_live(entries, due, *id);
        self.queue.sweep(entries.len(), is_live);
    }

    /// Returns when the first timer is due, ns.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let entries = &self.entries;
        let first = self.queue.peek(|due, id| is_live(entries, due, *id));
        first.map(|(due, _)| due)
    }

    /// Takes out the first timer that is due at `now`. Timers that are due at the same time come in the order in which
    /// they were set.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Due<S>> {
        let entries = &self.entries;
        let is_live = |due, id: &u64| is_live(entries, due, *id);
        let (due, id) = self.queue.pop_due(now, is_live)?;
        let tick = self.entries.get_mut(&id)?.tick.take()?;
        self.counts.calls += 1;
        Some(Due { id, at: due, tick })
    }

    /// Puts a timer back that was called, if it `goes_on` and was not cancelled meanwhile. Ticks that are past at `now`
    /// are skipped. Otherwise, its code is returned, to be dropped.
    pub(super) fn put_back(&mut self, called: Due<S>, goes_on: bool, now: u64) -> Option<Tick<S>> {
        let Due { id, at, tick } = called;
        // One that is absent was cancelled or discarded, and is counted as such.
        let interval = self.entries.get(&id).map(|entry| entry.interval);
        match interval {
            Some(Some(interval)) if goes_on => {
                let missed = now.saturating_sub(at) / interval;
                let next = at.saturating_add(interval.saturating_mul(missed + 1));
                self.counts.skipped += missed;
                if let Some(entry) = self.entries.get_mut(&id) {
                    (entry.due, entry.tick) = (next, Some(tick));
                }
                self.look_at(id, next);
                return None;
            }
            Some(_) => {
                self.counts.ended += 1;
                self.entries.remove(&id);
            }
            None => {}
        }
        Some(tick)
    }

    /// Returns whether timer `id` is pending.
    pub(super) fn is_pending(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    /// Cancels timer `id`. Returns what it was, or `None` if it is not pending.
    pub(super) fn cancel(&mut self, id: u64) -> Option<Entry<S>> {
        let entry = self.entries.remove(&id)?;
        self.counts.cancelled += 1;
        Some(entry)
    }

    /// Takes all timers out, because the group stops.
    pub(super) fn discard_all(&mut self) -> Vec<Tick<S>> {
        self.queue.clear();
        let entries = std::mem::take(&mut self.entries);
        self.counts.discarded += entries.len() as u64;
        entries
            .into_values()
            .filter_map(|entry| entry.tick)
            .collect()
    }
}

/// Whether the entry of timer `id` in the queue is the current one.
fn is_live<S>(entries: &HashMap<u64, Entry<S>, ahash::RandomState>, due: u64, id: u64) -> bool {
    let entry = entries.get(&id);
    entry.is_some_and(|entry| entry.due == due && entry.tick.is_some())
}
