//! The state of one worker: the keys that it watches, their deadlines, and the events that the sink has not taken.
//!
//! The table has no thread, channel, clock or sink. Time is an argument, in nanoseconds. A time before the latest one
//! counts as the latest one. `docs/design.md` describes how the parts work together.

mod beat;
mod delivery;
mod expiry;
mod grace;
pub(crate) mod heart_cell;
mod ids;
mod index;
mod input;
pub(crate) mod key_limit;
mod lists;
mod memory;
mod queue;
mod report;
pub(crate) mod settings;
mod shrink;
mod slab;

use std::borrow::Borrow;
use std::collections::{HashMap, TryReserveError};
use std::sync::Arc;

use crate::clock;
use crate::due::DueQueue;
use crate::event::{Event, EventKind, Kinds};
use crate::options::Mode;
use crate::stats::{Counts, Histogram};
use crate::status::Status;
use crate::table::heart_cell::{HeartCell, HeartState, TableSide};
use crate::table::key_limit::Share;
use grace::Grace;
pub(crate) use ids::Tag;
use ids::{SlotId, Ticket};
use index::{Index, Position};
pub(crate) use input::Beat;
use lists::{Due, Lists, Policy};
use memory::map_bytes;
use queue::{Item, Queue};
use slab::{Slab, State};

/// The options of a table.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The timeout of a key for which none is set, ns, greater than zero.
    pub(crate) timeout: u64,
    /// The mode of a key for which none is set.
    pub(crate) mode: Mode,
    /// The kinds of event to create.
    pub(crate) wanted: Kinds,
    /// The maximum number of slots in this table, taken by live episodes and by expired ones that the sink has not
    /// taken.
    pub(crate) max_keys: usize,
    /// The number of keys for which memory is allocated ahead of time.
    pub(crate) expected_keys: usize,
    /// How long a key may be down before it is forgotten, ns; [`NEVER`](clock::NEVER) to keep it.
    pub(crate) forget_after: u64,
    /// The maximum grace, which is the size of its budget, ns.
    pub(crate) grace_cap: u64,
}

/// The error of a beat for which there is no room, with the key.
#[derive(Debug)]
pub(crate) struct Refusal<K>(pub(crate) K);

/// The state of a key that is silent and stays watched: one of [`Mode::Repeat`] or [`Mode::Track`] that is down, or was
/// down until its report is delivered.
#[derive(Clone, Copy, Debug)]
struct Down {
    /// The first missed deadline, ns.
    since: u64,
    /// The last beat before that, ns.
    last_beat: u64,
    /// When it was last found silent, ns. A `Repeat` key is due again a timeout later.
    reported: u64,
    /// The number of reports that have been due.
    misses: u64,
    /// Whether a report waits for the sink. There is at most one, and it contains the misses at the moment it is taken.
    is_queued: bool,
    /// The mode of the key when the report was queued.
    mode: Mode,
    /// The deadline in the report, ns: the first one missed since the last report or recovery.
    deadline: u64,
    /// When that was detected, ns.
    detected: u64,
    /// The beat that ended the silence while its report waits. The key is up, and its recovery is reported next.
    recovery: Option<Recovery>,
}

/// The beat that ended a silence.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Its stamp, ns.
    stamp: u64,
    /// When it was applied, ns.
    detected: u64,
}

/// A deferred slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deferred {
    /// Where it is.
    slot: SlotId,
    /// The number of this entry, which the slot stores in `prev`. Older entries of the slot are stale.
    ticket: Ticket,
}

/// How many due keys are checked at a time: few enough for their slots and index entries to stay in the cache until
/// they are delivered, and for beats to be applied in between.
pub(crate) const EXPIRE_LIMIT: usize = 512;

/// The table.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    /// The options.
    config: Config,
    /// Maps a key's tag to the slot of its newest episode, live or pending.
    index: Index,
    /// The slots of the keys.
    slab: Slab<K, V>,
    /// The live keys by deadline.
    lists: Lists,
    /// The live keys outside the lists, by the time of their next check.
    deferred: DueQueue<Deferred, Due>,
    /// The number of the next entry of a deferred slot.
    next_ticket: Ticket,
    /// The hearts by slot, up to the last slot that has one.
    hearts: Vec<Option<TableSide>>,
    /// The keys that are down, by slot.
    downs: HashMap<SlotId, Down, ahash::RandomState>,
    /// The events that the sink has not taken, in order.
    queue: Queue<K, V>,
    /// Maps the slot of a newer episode to that of the previous one, while that one waits for the sink. The older slot
    /// refers to the newer one by its `prev`.
    older: HashMap<SlotId, SlotId, ahash::RandomState>,
    /// The grace after a stall.
    grace: Grace,
    /// The latest time seen, ns.
    now: u64,
    /// The number of the last episode.
    last_generation: u64,
    /// The accounting and other counters.
    counts: Counts,
    /// The time from the deadline to the detection.
    detection: Histogram,
    /// The probable slot of each beat of a batch; see [`warm`](Table::warm).
    guesses: Vec<SlotId>,
    /// The table's share of the limit, if the tables have a common maximum number of keys.
    limit: Option<Share<K>>,
}

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Checks that there is memory for `keys` keys in all tables together. The system may grant each of several parts
    /// although it cannot provide their sum.
    pub(crate) fn probe(keys: usize) -> Result<(), TryReserveError> {
        let each = slab::bytes_of_slot::<K, V>() + index::BYTES_OF_ENTRY;
        Vec::<u8>::new().try_reserve_exact(keys.saturating_mul(each))
    }

    /// Creates an empty table, with a share of `limit` if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no memory for the expected number of keys.
    pub(crate) fn new(config: Config, limit: Option<Share<K>>) -> Result<Self, TryReserveError> {
        let default = Policy {
            timeout: config.timeout,
            mode: config.mode,
            hearts: false,
        };
        Ok(Table {
            // The slab first, because it is the larger one and costs nothing until it is used.
            slab: Slab::with_capacity(config.expected_keys)?,
            index: Index::with_capacity(config.expected_keys)?,
            lists: Lists::new(default),
            deferred: DueQueue::new(),
            next_ticket: Ticket::default(),
            hearts: Vec::new(),
            downs: HashMap::default(),
            queue: Queue::new(),
            older: HashMap::default(),
            grace: Grace::new(config.grace_cap),
            now: 0,
            last_generation: 0,
            counts: Counts::default(),
            detection: Histogram::default(),
            guesses: Vec::new(),
            limit,
            config,
        })
    }

    /// Advances the time to `now`; it never goes back.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Returns the latest time, ns.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Applies a beat like [`beat`](Table::beat), and ties the key to `table_side`'s heart. An earlier heart of the key
    /// is marked as replaced.
    pub(crate) fn watch(
        &mut self,
        beat: Beat<K, V>,
        table_side: TableSide,
    ) -> Result<(), Refusal<K>> {
        let at = match self.find(beat.tag, &beat.key) {
            Some((_, at)) if self.is_live(at) => {
                self.touch(at, beat);
                at
            }
            _ if beat.known_only => {
                self.counts.unknown += 1;
                table_side.set(HeartState::Removed);
                return Ok(());
            }
            newest => self.join(newest, beat)?,
        };
        table_side.cell.raise(self.last_beat(at));
        if self.down(at).is_some() {
            table_side.set(HeartState::Down);
        }
        if self.hearts.len() <= at.index() {
            self.hearts.resize_with(at.index() + 1, || None);
        }
        if let Some(old) = self.hearts[at.index()].replace(table_side) {
            old.set(HeartState::Replaced);
        }
        let policy = Policy {
            hearts: true,
            ..self.policy(at)
        };
        self.reschedule(at, policy);
        Ok(())
    }

    /// Applies the options of `beat` to its key if the key is watched and, if `cell` is given, still tied to it. This
    /// is not a beat: the key's stamp does not change. Returns whether the options were applied.
    pub(crate) fn set(&mut self, beat: Beat<K, V>, cell: Option<&Arc<HeartCell>>) -> bool {
        let is_tied = |at: SlotId| match cell {
            None => true,
            Some(cell) => self
                .table_side(at)
                .is_some_and(|table_side| Arc::ptr_eq(&table_side.cell, cell)),
        };
        match self.find(beat.tag, &beat.key) {
            Some((_, at)) if self.is_live(at) && is_tied(at) => {
                self.configure(at, beat);
                true
            }
            _ => {
                self.counts.unknown += 1;
                false
            }
        }
    }

    /// Unties the key from `cell` if it is still tied to it. The key is removed, or stays watched without a heart.
    /// Returns whether it was removed.
    pub(crate) fn release(
        &mut self,
        tag: Tag,
        key: &K,
        cell: &Arc<HeartCell>,
        leave: bool,
    ) -> bool {
        let Some((_, at)) = self.find(tag, key) else {
            return false;
        };
        if !self
            .table_side(at)
            .is_some_and(|table_side| Arc::ptr_eq(&table_side.cell, cell))
        {
            return false;
        }
        if !leave {
            return self.remove(tag, key);
        }
        let stamp = self
            .down(at)
            .map_or_else(|| self.last_beat(at), |down| down.reported);
        self.hearts[at.index()] = None;
        let policy = Policy {
            hearts: false,
            ..self.policy(at)
        };
        self.unlink(at);
        self.slab[at].stamp = stamp;
        self.reschedule(at, policy);
        false
    }

    /// Removes `key`. Its live episode and those that wait for the sink end without an expiry. Returns whether there
    /// was one.
    pub(crate) fn remove<Q>(&mut self, tag: Tag, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Some((position, newest)) = self.find(tag, key) else {
            return false;
        };
        let mut older = self.older.remove(&newest);
        if self.is_live(newest) {
            self.remove_live(newest, position, HeartState::Removed);
        } else {
            self.index.remove(position);
            self.cancel(newest);
        }
        while let Some(at) = older {
            older = self.older.remove(&at);
            self.cancel(at);
        }
        true
    }

    /// Returns the status of `key`, or `None` if it is not watched.
    pub(crate) fn status<Q>(&self, tag: Tag, key: &Q) -> Option<Status<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (_, at) = self.find(tag, key)?;
        self.is_live(at).then(|| self.full_status_of(at))
    }

    /// Returns all watched keys and their statuses, in no particular order.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        let live = self.slab.iter().filter(|(_, body)| is_live(body.state));
        live.map(|(at, body)| (body.key.clone(), self.full_status_of(at)))
    }

    /// Returns the keys that are down and their statuses, in no particular order. Costs nothing for the other keys.
    pub(crate) fn snapshot_down(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        let down = self.downs.keys().filter(|&&at| self.down(at).is_some());
        down.map(|&at| (self.slab.body(at).key.clone(), self.full_status_of(at)))
    }

    /// Returns the number of watched keys.
    pub(crate) fn len(&self) -> usize {
        self.counts.live as usize
    }

    /// Returns whether any watched key is down.
    pub(crate) fn has_down(&self) -> bool {
        self.counts.down > 0
    }

    /// Returns the shortest timeout in use, ns, or [`NEVER`](clock::NEVER) if there is none.
    #[inline]
    pub(crate) fn shortest_timeout(&self) -> u64 {
        self.lists.shortest_timeout()
    }

    /// Returns the counters.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            bytes: self.bytes() as u64,
            ..self.counts
        }
    }

    /// Returns the times from the deadline to the detection of all expiries so far.
    pub(crate) fn detection(&self) -> &Histogram {
        &self.detection
    }

    /// Returns the table's places in the common limit, because a panic has ended the table and it can only be dropped.
    pub(crate) fn give_up_places(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.give_up();
        }
    }

    /// Returns the bytes that the table has allocated, without the keys' own allocations.
    fn bytes(&self) -> usize {
        self.slab.bytes()
            + self.index.bytes()
            + self.lists.bytes()
            + self.queue.bytes()
            + self.deferred.bytes()
            + self.hearts.capacity() * size_of::<Option<TableSide>>()
            + map_bytes::<(SlotId, Down)>(self.downs.capacity())
            + map_bytes::<(SlotId, SlotId)>(self.older.capacity())
            + self.guesses.capacity() * size_of::<SlotId>()
            + self.detection.bytes()
            + self.limit.as_ref().map_or(0, Share::bytes)
    }

    /// Returns the slot of the newest episode of `key`.
    #[inline]
    fn find<Q>(&self, tag: Tag, key: &Q) -> Option<(Position, SlotId)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.index
            .find(tag, |at| self.slab.body(at).key.borrow() == key)
    }

    /// Returns whether slot `at` holds a watched key, not one that waits for the sink.
    #[inline]
    fn is_live(&self, at: SlotId) -> bool {
        is_live(self.slab.body(at).state)
    }

    /// Returns the timeout and mode of slot `at`.
    #[inline]
    fn policy(&self, at: SlotId) -> Policy {
        self.lists.policy(self.slab[at].list)
    }

    /// Returns the heart of slot `at`.
    #[inline]
    fn table_side(&self, at: SlotId) -> Option<&TableSide> {
        self.hearts.get(at.index())?.as_ref()
    }

    /// Returns the `Down` state of slot `at`, if it is down.
    #[inline]
    fn down(&self, at: SlotId) -> Option<Down> {
        if self.downs.is_empty() {
            return None;
        }
        let down = self.downs.get(&at).copied();
        down.filter(|down| down.recovery.is_none())
    }

    /// Removes the `Down` state of slot `at`, whose episode ends, unless a report of it waits.
    fn clear_down(&mut self, at: SlotId) {
        if let Some(down) = self.downs.remove(&at) {
            let has_recovered = down.recovery.is_some();
            self.counts.folded += u64::from(has_recovered);
            self.counts.down -= u64::from(!has_recovered);
        }
    }

    /// Returns the stamp of the last beat of slot `at`.
    #[inline]
    fn last_beat(&self, at: SlotId) -> u64 {
        if let Some(table_side) = self.table_side(at) {
            return table_side.cell.stamp();
        }
        self.down(at)
            .map_or(self.slab[at].stamp, |down| down.last_beat)
    }

    /// Returns when the live slot `at` expires unless it beats, without grace.
    fn deadline(&self, at: SlotId) -> u64 {
        self.deadline_after(at, self.last_beat(at))
    }

    /// Returns the deadline like [`deadline`](Table::deadline), if the last beat was at `last_beat`. A heart may beat
    /// at any moment, so values that belong together use one reading.
    fn deadline_after(&self, at: SlotId, last_beat: u64) -> u64 {
        let policy = self.policy(at);
        match self.down(at) {
            None => last_beat.saturating_add(policy.timeout),
            Some(down) => self.deadline_of_down(policy, &down),
        }
    }

    /// Returns when a key of `policy` that is down is reported again or forgotten.
    fn deadline_of_down(&self, policy: Policy, down: &Down) -> u64 {
        let again = match policy.mode {
            Mode::Track => clock::NEVER,
            Mode::Once | Mode::Repeat => down.reported.saturating_add(policy.timeout),
        };
        again.min(self.forgotten_at(down))
    }

    /// Returns when a key that is down is forgotten, which is not before its report is delivered.
    fn forgotten_at(&self, down: &Down) -> u64 {
        if down.is_queued {
            clock::NEVER
        } else {
            down.since.saturating_add(self.config.forget_after)
        }
    }

    /// Records that the key in the live slot `at` is no longer watched.
    fn leave(&mut self, at: SlotId) {
        self.counts.live -= 1;
        if let Some(limit) = &mut self.limit {
            limit.leave(at, self.slab[at].tag);
        }
    }

    /// Ends the episode in slot `at`, which waits for the sink, by removal. The removal is reported in its place, so
    /// that the events of a key keep their order.
    fn cancel(&mut self, at: SlotId) {
        self.slab.body_mut(at).state = State::Cancelled;
        self.counts.pending -= 1;
        self.counts.removed += 1;
    }

    /// Ends the episode of the live slot `at`, which the index has at `position`, by removal. A heart finds the state
    /// `end`.
    fn remove_live(&mut self, at: SlotId, position: Position, end: HeartState) {
        let status = self.status_of(at);
        self.unlink(at);
        self.index.remove(position);
        if let Some(table_side) = self.hearts.get_mut(at.index()).and_then(Option::take) {
            table_side.set(end);
        }
        self.clear_down(at);
        self.leave(at);
        self.counts.removed += 1;
        let body = self.slab.lift(at);
        self.vacate(at, State::Cancelled);
        if self.config.wanted.has(EventKind::Removed) {
            let event = Self::event_of(&status, body.key, body.extra, self.now);
            self.queue.push(Item::Notice(Event::Removed(event)));
        }
    }
}

/// Returns whether `state` is that of a watched key.
fn is_live(state: State) -> bool {
    matches!(state, State::Listed | State::Deferred)
}

#[cfg(test)]
mod tests;
