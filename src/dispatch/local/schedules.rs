//! The schedules and the times of their checks.

use std::fmt;
use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::dispatch::schedule::Schedule;
use crate::due::DueQueue;

/// Emits the event of a tick that was due at the given time, ns. Returns whether it was emitted.
pub(super) type Emit = dyn Fn(u64) -> bool + Send + Sync;

/// A schedule of a topic.
pub(super) struct Entry {
    /// The topic and the name of the schedule.
    pub(super) name: (Arc<str>, Arc<str>),
    /// When it ticks.
    pub(super) schedule: Schedule,
    /// When it is checked next, ns.
    pub(super) due: u64,
    /// Emits the event.
    pub(super) emit: Arc<Emit>,
}

/// The schedules.
#[derive(Default)]
pub(super) struct Schedules {
    /// All schedules that were ever added; `None` if removed.
    pub(super) entries: Vec<Option<Entry>>,
    /// The times of their checks.
    pub(super) looks: DueQueue<usize>,
    /// Ticks that emitted nothing.
    pub(super) skipped: u64,
    /// Whether the last job of a worker was a tick.
    pub(super) had_turn: bool,
}

/// A tick that is due.
pub(super) struct Tick {
    /// When it was due, ns.
    pub(super) due: u64,
    /// Emits the event.
    pub(super) emit: Arc<Emit>,
}

impl Schedules {
    /// The time of the next check, ns.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let entries = &self.entries;
        self.looks
            .peek(|due, at| is_live(entries, *at, due))
            .map(|(due, _)| due)
    }

    /// The schedule `at` is looked at next at `due` ns.
    pub(super) fn look_at(&mut self, at: usize, due: u64) {
        self.looks.push(due, at);
        let entries = &self.entries;
        self.looks
            .sweep(entries.len(), |due, at| is_live(entries, *at, due));
    }

    /// Takes a tick that is due, and plans the next look at its schedule.
    pub(super) fn next(&mut self, now: u64, clock: &Clock) -> Option<Tick> {
        loop {
            let entries = &self.entries;
            let (due, at) = self
                .looks
                .pop_due(now, |due, at| is_live(entries, *at, due))?;
            let entry = self.entries[at].as_mut().expect("it is live");
            let wall = clock.system_time(Timestamp::from_nanos(now));
            let look = entry.schedule.look(due, now, wall);
            entry.due = look.next;
            let emit = &entry.emit;
            let tick = look.tick.map(|due| Tick {
                due,
                emit: emit.clone(),
            });
            // None follows a tick at the end of the time that the clock has.
            if look.next > now {
                self.look_at(at, look.next);
            }
            self.skipped = self.skipped.saturating_add(look.skipped);
            if tick.is_some() {
                return tick;
            }
        }
    }
}

/// Whether the next check of the schedule `at` is at `due`.
fn is_live(entries: &[Option<Entry>], at: usize, due: u64) -> bool {
    entries[at].as_ref().is_some_and(|entry| entry.due == due)
}

impl fmt::Debug for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedules").finish_non_exhaustive()
    }
}
