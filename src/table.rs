//! The state of one worker: which keys it watches, when each is due, and what the sink has not taken yet.
//!
//! The table knows no thread, no channel, no clock and no sink. Time is an argument, in nanoseconds, and never goes
//! back here, whatever it is given. `docs/design.md` tells how its parts work together.

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
pub(crate) mod settings;
mod shrink;
mod slab;

use std::borrow::Borrow;
use std::collections::{HashMap, TryReserveError};
use std::sync::Arc;

use crate::clock::{self, Timestamp};
use crate::due::DueQueue;
use crate::event::{Event, EventKind, KeyEvent, Kinds};
use crate::options::Mode;
use crate::stats::{Counts, Histogram};
use crate::status::Status;
use crate::table::heart_cell::{HeartCell, HeartState, TableSide};
use crate::table::key_limit::Share;
use grace::Grace;
pub(crate) use ids::Tag;
use index::{Index, Position};
pub(crate) use input::Beat;
use lists::{Due, Lists, Policy};
use memory::map_bytes;
use queue::{Item, Queue};
use slab::{Slab, State};

/// What a table is told once.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The timeout of a key that was given none, ns, above zero.
    pub(crate) timeout: u64,
    /// The mode of a key that was given none.
    pub(crate) mode: Mode,
    /// The kinds of event to make.
    pub(crate) wanted: Kinds,
    /// The most slots that may be taken in this table, by live episodes and by expired ones that the sink has not taken.
    pub(crate) max_keys: usize,
    /// How many keys to have room for from the start.
    pub(crate) expected_keys: usize,
    /// How long a key may be down before it is forgotten, ns; [`NEVER`](clock::NEVER) to keep it.
    pub(crate) forget_after: u64,
    /// The most grace granted in a row after stalls, ns.
    pub(crate) grace_cap: u64,
}

/// There is no room for another key; here is the one that was refused.
#[derive(Debug)]
pub(crate) struct Refusal<K>(pub(crate) K);

/// What the sink did with the event it was offered.
#[derive(Debug)]
pub(crate) enum Offer<K, V> {
    /// It took it.
    Taken,
    /// It has no room now; here is the event back.
    Full(Event<K, V>),
    /// It will never take another one.
    Gone,
}

/// A key that is silent and stays watched: one of [`Mode::Repeat`] or [`Mode::Track`] that is down, or was until its report
/// is delivered.
#[derive(Clone, Copy, Debug)]
struct Down {
    /// The first deadline that was missed, ns.
    since: u64,
    /// The last beat before that, ns.
    last_beat: u64,
    /// When it was last found silent, ns; a `Repeat` key is due again a timeout later.
    reported: u64,
    /// How many reports were due so far.
    misses: u64,
    /// Whether a report waits for the sink; there is at most one, and it tells the misses of the moment it is taken.
    is_queued: bool,
    /// The mode of the key when the report was queued.
    mode: Mode,
    /// The deadline that the report tells, ns: the first that was missed since the last report or recovery.
    deadline: u64,
    /// When that was found out, ns.
    detected: u64,
    /// The beat that ended the silence while the report of it waits: the key is up, and its recovery is reported next.
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

/// A slot set aside from its list until it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deferred {
    /// Where it is.
    slot: u32,
    /// The number of this entry, which the slot remembers in `prev`: older entries for it are stale.
    ticket: u32,
}

/// How many looks at due keys to take at a time: few enough for them to stay in the cache until they are delivered, and
/// for beats to get their turn in between.
pub(crate) const EXPIRE_LIMIT: usize = 4_096;

/// The table.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    /// What it was told.
    config: Config,
    /// From a key's tag to the slot of its newest episode, live or pending.
    index: Index,
    /// The keys.
    slab: Slab<K, V>,
    /// The live keys by deadline.
    lists: Lists,
    /// The live keys that are not linked, by when to look at them.
    deferred: DueQueue<Deferred, Due>,
    /// The number of the next deferred entry.
    next_ticket: u32,
    /// The hearts, by slot; only as long as the last slot that has one.
    hearts: Vec<Option<TableSide>>,
    /// The keys that are down, by slot.
    downs: HashMap<u32, Down, ahash::RandomState>,
    /// The events that the sink has not taken, in order.
    queue: Queue<K, V>,
    /// How many deliveries are left until the index is read ahead again.
    read_ahead: usize,
    /// From the slot of a newer episode to that of the one before it, while that one waits for the sink. The latter
    /// knows the former by its `prev`.
    older: HashMap<u32, u32, ahash::RandomState>,
    /// What is held back after a stall.
    grace: Grace,
    /// The latest time seen, ns.
    now: u64,
    /// The number of the last episode.
    last_generation: u64,
    /// The accounting, and what else is counted.
    counts: Counts,
    /// From deadline to detection.
    detection: Histogram,
    /// The probable slot of each beat of a batch; see [`warm`](Table::warm).
    guesses: Vec<u32>,
    /// What the table shares with others, where all of them together have a maximum of keys.
    limit: Option<Share<K>>,
}

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Asks whether there is memory for `keys` keys in all tables together. Of several parts the system may grant each,
    /// although it has not what they come to.
    pub(crate) fn probe(keys: usize) -> Result<(), TryReserveError> {
        let each = slab::bytes_of_slot::<K, V>() + index::BYTES_OF_ENTRY;
        Vec::<u8>::new().try_reserve_exact(keys.saturating_mul(each))
    }

    /// An empty table, with a share in `limit` where there is one.
    ///
    /// # Errors
    ///
    /// There is no memory for as many keys as are expected.
    pub(crate) fn new(config: Config, limit: Option<Share<K>>) -> Result<Self, TryReserveError> {
        let default = Policy {
            timeout: config.timeout,
            mode: config.mode,
            hearts: false,
        };
        Ok(Table {
            // The slab first: it is the larger one, and costs nothing until it is used.
            slab: Slab::with_capacity(config.expected_keys)?,
            index: Index::with_capacity(config.expected_keys)?,
            lists: Lists::new(default),
            deferred: DueQueue::new(),
            next_ticket: 0,
            hearts: Vec::new(),
            downs: HashMap::default(),
            queue: Queue::new(),
            read_ahead: 0,
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

    /// Moves the time to `now`, never back.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The latest time seen, ns.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// As [`beat`](Table::beat), and ties the key to `table_side`'s heart; a heart that it had is told that it was replaced.
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
        if self.hearts.len() <= at as usize {
            self.hearts.resize_with(at as usize + 1, || None);
        }
        if let Some(old) = self.hearts[at as usize].replace(table_side) {
            old.set(HeartState::Replaced);
        }
        let policy = Policy {
            hearts: true,
            ..self.policy(at)
        };
        self.reschedule(at, policy);
        Ok(())
    }

    /// Applies the options of `beat` to its key if that is watched, and, where `cell` is given, still tied to it. It is no
    /// sign of life: the key's stamp stays. Returns whether they applied.
    pub(crate) fn set(&mut self, beat: Beat<K, V>, cell: Option<&Arc<HeartCell>>) -> bool {
        let is_tied = |at: u32| match cell {
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

    /// Unties the key from `cell` if it is still tied to it: the key is left to its beats, or removed. Returns whether
    /// it was removed.
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
        self.hearts[at as usize] = None;
        let policy = Policy {
            hearts: false,
            ..self.policy(at)
        };
        self.unlink(at);
        self.slab[at].stamp = stamp;
        self.reschedule(at, policy);
        false
    }

    /// Removes `key`: its episode ends without an expiry, and so do all that wait for the sink. Returns whether there was
    /// one; an unknown key is fine.
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

    /// What is known of `key`, if it is watched.
    pub(crate) fn status<Q>(&self, tag: Tag, key: &Q) -> Option<Status<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (_, at) = self.find(tag, key)?;
        self.is_live(at).then(|| self.full_status_of(at))
    }

    /// Every watched key and what is known of it, in no order.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        let live = self.slab.iter().filter(|(_, body)| is_live(body.state));
        live.map(|(at, body)| (body.key.clone(), self.full_status_of(at)))
    }

    /// Every key that is down and what is known of it, in no order. Costs nothing for the others.
    pub(crate) fn snapshot_down(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        let down = self.downs.keys().filter(|&&at| self.down(at).is_some());
        down.map(|&at| (self.slab.body(at).key.clone(), self.full_status_of(at)))
    }

    /// How many keys are watched.
    pub(crate) fn len(&self) -> usize {
        self.counts.live as usize
    }

    /// Whether a key is down and watched.
    pub(crate) fn has_down(&self) -> bool {
        self.counts.down > 0
    }

    /// The shortest timeout in use, ns; [`NEVER`](clock::NEVER) if none is.
    #[inline]
    pub(crate) fn shortest_timeout(&self) -> u64 {
        self.lists.shortest_timeout()
    }

    /// The accounting.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            bytes: self.bytes() as u64,
            ..self.counts
        }
    }

    /// From deadline to detection, of every expiry so far.
    pub(crate) fn detection(&self) -> &Histogram {
        &self.detection
    }

    /// Gives the table's share in a common maximum of keys back, of which it may hold more than it can use: a panic has
    /// ended it, and it is only to be dropped.
    pub(crate) fn give_up_places(&mut self) {
        if let Some(limit) = &mut self.limit {
            limit.give_up();
        }
    }

    /// The bytes that the table has allocated, the keys' own allocations not among them.
    fn bytes(&self) -> usize {
        self.slab.bytes()
            + self.index.bytes()
            + self.lists.bytes()
            + self.queue.bytes()
            + self.deferred.bytes()
            + self.hearts.capacity() * size_of::<Option<TableSide>>()
            + map_bytes::<(u32, Down)>(self.downs.capacity())
            + map_bytes::<(u32, u32)>(self.older.capacity())
            + self.guesses.capacity() * size_of::<u32>()
            + self.detection.bytes()
            + self.limit.as_ref().map_or(0, Share::bytes)
    }

    /// The newest episode of `key`.
    #[inline]
    fn find<Q>(&self, tag: Tag, key: &Q) -> Option<(Position, u32)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.index
            .find(tag, |at| self.slab.body(at).key.borrow() == key)
    }

    /// Whether slot `at` holds a watched key, and not one that waits for the sink.
    #[inline]
    fn is_live(&self, at: u32) -> bool {
        is_live(self.slab.body(at).state)
    }

    /// The timeout and mode of slot `at`.
    #[inline]
    fn policy(&self, at: u32) -> Policy {
        self.lists.policy(self.slab[at].list)
    }

    /// The heart of slot `at`.
    #[inline]
    fn table_side(&self, at: u32) -> Option<&TableSide> {
        self.hearts.get(at as usize)?.as_ref()
    }

    /// How `at` is down, if it is.
    #[inline]
    fn down(&self, at: u32) -> Option<Down> {
        if self.downs.is_empty() {
            return None;
        }
        let down = self.downs.get(&at).copied();
        down.filter(|down| down.recovery.is_none())
    }

    /// Forgets how slot `at`, whose episode ends, is down; what waits to be reported of it is not.
    fn clear_down(&mut self, at: u32) {
        if let Some(down) = self.downs.remove(&at) {
            let has_recovered = down.recovery.is_some();
            self.counts.folded += u64::from(has_recovered);
            self.counts.down -= u64::from(!has_recovered);
        }
    }

    /// The stamp of the last beat of slot `at`.
    #[inline]
    fn last_beat(&self, at: u32) -> u64 {
        if let Some(table_side) = self.table_side(at) {
            return table_side.cell.stamp();
        }
        self.down(at)
            .map_or(self.slab[at].stamp, |down| down.last_beat)
    }

    /// When the live slot `at` expires unless it beats, grace not counted.
    fn deadline(&self, at: u32) -> u64 {
        self.deadline_after(at, self.last_beat(at))
    }

    /// As [`deadline`](Table::deadline), where the last beat was at `last_beat`: a heart may beat at any moment, so what
    /// belongs together goes by one reading.
    fn deadline_after(&self, at: u32, last_beat: u64) -> u64 {
        let policy = self.policy(at);
        match self.down(at) {
            None => last_beat.saturating_add(policy.timeout),
            Some(down) => self.deadline_of_down(policy, &down),
        }
    }

    /// When a key of `policy` that is down is reported again, or forgotten.
    fn deadline_of_down(&self, policy: Policy, down: &Down) -> u64 {
        let again = match policy.mode {
            Mode::Track => clock::NEVER,
            Mode::Once | Mode::Repeat => down.reported.saturating_add(policy.timeout),
        };
        again.min(self.forgotten_at(down))
    }

    /// When a key that is down is forgotten: not before its report is delivered.
    fn forgotten_at(&self, down: &Down) -> u64 {
        if down.is_queued {
            clock::NEVER
        } else {
            down.since.saturating_add(self.config.forget_after)
        }
    }

    /// What is known of the live slot `at`, with a copy of its value.
    fn full_status_of(&self, at: u32) -> Status<V> {
        let extra = self.slab.body(at).extra.clone();
        self.status_of(at).with_extra(extra)
    }

    /// What is known of the live slot `at`, its value left out.
    fn status_of(&self, at: u32) -> Status {
        let body = self.slab.body(at);
        let last_beat = self.last_beat(at);
        let policy = self.policy(at);
        Status {
            extra: None,
            generation: body.generation.get(),
            mode: policy.mode,
            joined: Timestamp::from_nanos(body.joined),
            last_beat: Timestamp::from_nanos(last_beat),
            timeout: clock::duration(policy.timeout),
            deadline: clock::deadline(self.deadline_after(at, last_beat)),
            misses: self.down(at).map_or(0, |down| down.misses),
            // A stamp may be a little younger than the reading that the table goes by.
            as_of: Timestamp::from_nanos(self.now.max(last_beat)),
        }
    }

    /// An event about slot `at`, with copies of its key and value, detected now.
    fn event_about(&self, at: u32) -> KeyEvent<K, V> {
        let body = self.slab.body(at);
        event_of(
            &self.status_of(at),
            body.key.clone(),
            body.extra.clone(),
            self.now,
        )
    }

    /// Queues an event about the live slot `at`, if its kind is wanted.
    #[inline]
    fn notify(&mut self, kind: EventKind, at: u32) {
        if self.config.wanted.has(kind) {
            self.queue_notice(kind, at);
        }
    }

    /// Queues an event about the live slot `at`; a `Beat` only while the queue is short.
    #[cold]
    fn queue_notice(&mut self, kind: EventKind, at: u32) {
        if kind == EventKind::Beat && self.queue.is_pressed() {
            self.counts.beat_events_dropped += 1;
            return;
        }
        self.queue
            .push(Item::Notice(Event::of_key(kind, self.event_about(at))));
    }

    /// The key in the live slot `at` is not watched any more.
    fn leave(&mut self, at: u32) {
        self.counts.live -= 1;
        if let Some(limit) = &mut self.limit {
            limit.leave(at, self.slab[at].tag);
        }
    }

    /// Ends the episode in slot `at`, which waits for the sink, by removal; that is told in its place, so that the events
    /// of a key keep their order.
    fn cancel(&mut self, at: u32) {
        self.slab.body_mut(at).state = State::Cancelled;
        self.counts.pending -= 1;
        self.counts.removed += 1;
    }

    /// Ends the episode of the live slot `at`, which the index has at `position`, by removal; a heart finds `end`.
    fn remove_live(&mut self, at: u32, position: Position, end: HeartState) {
        let status = self.status_of(at);
        self.unlink(at);
        self.index.remove(position);
        if let Some(table_side) = self.hearts.get_mut(at as usize).and_then(Option::take) {
            table_side.set(end);
        }
        self.clear_down(at);
        self.leave(at);
        self.counts.removed += 1;
        let body = self.slab.lift(at);
        self.vacate(at, State::Cancelled);
        if self.config.wanted.has(EventKind::Removed) {
            let event = event_of(&status, body.key, body.extra, self.now);
            self.queue.push(Item::Notice(Event::Removed(event)));
        }
    }
}

/// Whether `state` is that of a watched key.
fn is_live(state: State) -> bool {
    matches!(state, State::Listed | State::Deferred)
}

/// An event about a key of `status`, without misses.
fn event_of<K, V>(status: &Status, key: K, extra: Option<V>, detected: u64) -> KeyEvent<K, V> {
    // A stamp may be a little younger than the reading that the table goes by.
    let detected = Timestamp::from_nanos(detected).max(status.last_beat);
    KeyEvent {
        key,
        extra,
        generation: status.generation,
        mode: status.mode,
        joined: status.joined,
        last_beat: status.last_beat,
        timeout: status.timeout,
        deadline: status.deadline,
        detected,
        delivered: detected,
        misses: 0,
        down_for: None,
    }
}

#[cfg(test)]
mod tests;
