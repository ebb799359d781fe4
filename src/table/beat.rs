//! Applying beats: finding the slots of a batch ahead of time, prefetching them, and beginning episodes.

use std::cmp::Ordering;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::time::Duration;

use super::ids::SlotId;
use super::index::Position;
use super::lists::Policy;
use super::queue::Item;
use super::slab::{Body, PackedGeneration, State};
use super::{Beat, Down, Recovery, Refusal, Table, Tag};
use crate::clock::{self, Timestamp};
use crate::event::{Event, EventKind, Generation};
use crate::panic::{OneByOne, discard};
use crate::table::heart_cell::HeartState;

/// Up to this number of slots a table is assumed to fit in the second-level cache, 0.5 MB, where prefetching only costs
/// time. So few in tests that the model test exceeds it.
const CACHED_SLOTS: usize = if cfg!(test) { 16 } else { 8_192 };

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Applies one beat: it moves the deadline of a watched key, or begins an episode of an absent one. A stamp older
    /// than the last one changes nothing; options of such a beat apply.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the key is absent and the table is full.
    #[inline]
    pub(crate) fn beat(&mut self, beat: Beat<K, V>) -> Result<(), Refusal<K>> {
        match self.find(beat.tag, &beat.key) {
            Some((_, at)) if self.is_live(at) => self.touch(at, beat),
            _ if beat.known_only => self.counts.unknown += 1,
            newest => {
                self.join(newest, beat)?;
            }
        }
        Ok(())
    }

    /// Applies `beats` in order and empties them. New keys for which there is no room are added to `refused`.
    pub(crate) fn beat_all(&mut self, beats: &mut Vec<Beat<K, V>>, refused: impl FnMut(K)) {
        self.warm(beats.iter().map(|beat| beat.tag));
        self.beat_warm(OneByOne::new(beats.drain(..), Beat::dismantle), refused);
    }

    /// Applies plain beats of `keys` at `stamp`, in order and `batch` at a time, and empties them like
    /// [`beat_all`](Table::beat_all).
    pub(crate) fn beat_keys(
        &mut self,
        stamp: u64,
        keys: &mut Vec<(Tag, K)>,
        batch: usize,
        mut refused: impl FnMut(K),
    ) {
        let mut rest = OneByOne::new(keys.drain(..), |(_, key)| discard(key));
        while !rest.rest().as_slice().is_empty() {
            let next = rest.rest().as_slice().iter().take(batch);
            self.warm(next.map(|&(tag, _)| tag));
            let plain = |(tag, key)| Beat::plain(tag, key, stamp);
            self.beat_warm(rest.by_ref().take(batch).map(plain), &mut refused);
        }
    }

    /// Guesses the slots of `tags`, and reads what their beats will touch unless the table fits in the cache.
    ///
    /// A beat is a chain of cache misses: the index, the slot, its neighbours in the list. Reading those of a whole
    /// batch stage by stage before any beat is applied lets the misses of one stage overlap. The reads change nothing,
    /// and the guesses are checked when they are used.
    fn warm(&mut self, tags: impl Iterator<Item = Tag> + Clone) {
        // The sums only keep the reads from being optimized away.
        let sum = |read: u32, sum: u32| read ^ sum;
        let is_large = self.slab.extent() > CACHED_SLOTS;
        if is_large {
            let homes = tags.clone().map(|tag| self.index.warm(tag));
            black_box(homes.fold(0, sum));
        }
        self.guesses.clear();
        self.guesses.extend(tags.map(|tag| self.index.guess(tag)));
        if is_large {
            let slots = self.guesses.iter().map(|&at| self.slab.warm(at));
            black_box(slots.fold(0, sum));
            let neighbours = self.guesses.iter();
            let neighbours = neighbours.map(|&at| self.slab.warm_neighbours(at));
            black_box(neighbours.fold(0, sum));
        }
    }

    /// Applies beats whose slots have been guessed.
    fn beat_warm(&mut self, beats: impl Iterator<Item = Beat<K, V>>, mut refused: impl FnMut(K)) {
        for (nth, beat) in beats.enumerate() {
            let at = self.guesses[nth];
            if self.slab.is_live_key(at, &beat.key) {
                self.touch(at, beat);
                continue;
            }
            if let Err(Refusal(key)) = self.beat(beat) {
                refused(key);
            }
        }
    }

    /// Begins an episode. In the index it replaces `newest`, the pending episode of the same key, if there is one.
    pub(super) fn join(
        &mut self,
        newest: Option<(Position, SlotId)>,
        beat: Beat<K, V>,
    ) -> Result<SlotId, Refusal<K>> {
        let max_keys = self.config.max_keys;
        let is_full =
            self.slab.len() >= max_keys.min(SlotId::MAX_SLOTS) || self.queue.is_full(max_keys);
        let place = match &mut self.limit {
            Some(limit) if !is_full => limit.take(beat.tag, &beat.key),
            _ => None,
        };
        if is_full || self.limit.is_some() && place.is_none() {
            self.counts.refused += 1;
            return Err(Refusal(beat.key));
        }
        self.last_generation += 1;
        self.counts.beats += 1;
        self.counts.started += 1;
        self.counts.live += 1;
        let list = self.lists.obtain(Policy {
            timeout: beat.timeout.map_or(self.config.timeout, NonZeroU64::get),
            mode: beat.mode.unwrap_or(self.config.mode),
            hearts: false,
        });
        let body = Body {
            key: beat.key,
            joined: beat.stamp,
            generation: PackedGeneration::new(Generation(self.last_generation)),
            state: State::Listed,
            extra: beat.extra,
        };
        let at = self.slab.insert(beat.stamp, list, beat.tag, body);
        if let (Some(limit), Some(place)) = (&mut self.limit, place) {
            limit.settle(at, place);
        }
        match newest {
            Some((position, old)) => {
                self.slab.body_mut(old).state = State::Superseded;
                self.slab[old].prev = at;
                self.older.insert(at, old);
                self.index.redirect(position, at);
            }
            None => self.index.insert(beat.tag, at),
        }
        self.link(at);
        self.notify(EventKind::Joined, at);
        Ok(at)
    }

    /// Applies a beat to the live slot `at`: nearly always, this moves it to the tail of its list.
    #[inline]
    pub(super) fn touch(&mut self, at: SlotId, beat: Beat<K, V>) {
        let is_plain = beat.timeout.is_none() && beat.mode.is_none() && beat.extra.is_none();
        let is_simple = is_plain
            && self.slab.body(at).state == State::Listed
            && self.table_side(at).is_none()
            && self.down(at).is_none();
        if !is_simple {
            return self.touch_with_care(at, beat);
        }
        match beat.stamp.cmp(&self.slab[at].stamp) {
            Ordering::Less => {
                self.counts.late_beats += 1;
                return;
            }
            Ordering::Equal => {}
            Ordering::Greater if self.lists.move_up(&mut self.slab, at, beat.stamp) => {}
            Ordering::Greater => {
                self.unlink(at);
                self.slab[at].stamp = beat.stamp;
                self.link(at);
            }
        }
        self.counts.beats += 1;
        self.notify(EventKind::Beat, at);
    }

    /// Applies a beat like [`touch`](Table::touch), if the beat carries options, or the slot is deferred, has a heart
    /// or is down.
    ///
    /// Options apply even if the beat is late, because the caller was informed that they were accepted. A stamp only
    /// moves forward.
    fn touch_with_care(&mut self, at: SlotId, beat: Beat<K, V>) {
        let is_late = beat.stamp < self.last_beat(at);
        let stamp = beat.stamp;
        self.configure(at, beat);
        if is_late {
            self.counts.late_beats += 1;
            return;
        }
        if let Some(table_side) = self.table_side(at) {
            table_side.cell.raise(stamp);
        }
        let was_down = self.down(at).is_some();
        if was_down {
            self.recover(at, stamp);
        }
        let policy = self.policy(at);
        if policy.hearts {
            if was_down {
                self.reschedule(at, policy);
            }
        } else if stamp != self.slab[at].stamp || was_down {
            self.unlink(at);
            self.slab[at].stamp = stamp;
            self.link(at);
        }
        self.counts.beats += 1;
        self.notify(EventKind::Beat, at);
    }

    /// Applies only the options of `beat` to the live slot `at`.
    pub(super) fn configure(&mut self, at: SlotId, beat: Beat<K, V>) {
        if beat.extra.is_some() {
            self.slab.body_mut(at).extra = beat.extra;
        }
        let old = self.policy(at);
        let new = Policy {
            timeout: beat.timeout.map_or(old.timeout, NonZeroU64::get),
            mode: beat.mode.unwrap_or(old.mode),
            hearts: old.hearts,
        };
        if new != old {
            self.reschedule(at, new);
        }
    }

    /// Handles the beat at `stamp` of the key in slot `at`, which was down.
    #[cold]
    pub(super) fn recover(&mut self, at: SlotId, stamp: u64) {
        let Some(down) = self.downs.get_mut(&at) else {
            return;
        };
        self.counts.down -= 1;
        self.counts.recoveries += 1;
        let recovery = Recovery {
            stamp,
            detected: self.now.max(stamp),
        };
        let down = if down.is_queued {
            down.recovery = Some(recovery);
            None
        } else {
            self.downs.remove(&at)
        };
        if let Some(table_side) = self.table_side(at) {
            table_side.set(HeartState::Alive);
        }
        if let Some(down) = down
            && self.config.wanted.has(EventKind::Recovered)
        {
            let event = self.recovered_event(at, &down, recovery);
            self.queue.push(Item::Notice(event));
        }
    }

    /// Creates the event that `recovery` ended the silence of the live slot `at`.
    pub(super) fn recovered_event(
        &self,
        at: SlotId,
        down: &Down,
        recovery: Recovery,
    ) -> Event<K, V> {
        let Recovery { stamp, detected } = recovery;
        let mut event = self.event_about(at);
        event.last_beat = Timestamp::from_nanos(stamp);
        event.detected = Timestamp::from_nanos(detected);
        event.delivered = event.detected;
        event.deadline = clock::deadline(stamp.saturating_add(self.policy(at).timeout));
        event.misses = down.misses;
        event.down_for = Some(Duration::from_nanos(stamp.saturating_sub(down.since)));
        Event::Recovered(event)
    }
}
