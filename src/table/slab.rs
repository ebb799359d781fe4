//! The slab: every key's state in one array of slots, which lists are threaded through.

use std::collections::TryReserveError;
use std::mem::needs_drop;

use super::ids::{ListId, SlotId, Tag};
use crate::event::Generation;
use crate::panic::drop_both;

/// The state of a taken slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Watched, and linked into the list `Slot::list`.
    Listed,
    /// Watched and not linked; the heap of deferred slots contains its next check.
    Deferred,
    /// Expired and waiting for the sink, linked into the pending queue; the newest episode of its key.
    Pending,
    /// Like `Pending`, but the key has begun a newer episode, to which the index refers.
    Superseded,
    /// Like `Pending`, but removed by the user. A removal is reported in its place, if that is wanted.
    Cancelled,
}

/// One slot. With a `u64` key and no extra it is 48 bytes, with a key of up to 24 bytes 64.
#[derive(Debug)]
#[repr(align(16))]
pub(super) struct Slot<K, V> {
    /// Listed: the sort key of its list, ns. It is the last beat, or for a heart the last check, or for a key that is
    /// down the last report. Pending: the last beat.
    pub(super) stamp: u64,
    /// The previous slot in its list, or [`SlotId::NIL`]. Deferred: the number of its entry in the heap. Superseded:
    /// the slot of the newer episode.
    pub(super) prev: SlotId,
    /// The next slot in its list, in the pending queue, or in the chain of vacant slots; or [`SlotId::NIL`].
    pub(super) next: SlotId,
    /// The list of the key's timeout and mode, even while it is not linked.
    pub(super) list: ListId,
    /// The tag of the key.
    pub(super) tag: Tag,
    /// The contents, if the slot is taken.
    pub(super) body: Option<Body<K, V>>,
}

/// The contents of a taken slot.
#[derive(Debug)]
pub(super) struct Body<K, V> {
    /// The key.
    pub(super) key: K,
    /// When the episode began, ns.
    pub(super) joined: u64,
    /// The number of the episode.
    pub(super) generation: PackedGeneration,
    /// The state.
    pub(super) state: State,
    /// The user's value.
    pub(super) extra: Option<V>,
}

/// A generation of 48 bits, which suffice for 8.9 years of a million episodes a second. It shares 8 bytes with the
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedGeneration([u16; 3]);

impl PackedGeneration {
    /// Packs `generation`, which must be below 2^48.
    pub(super) fn new(Generation(number): Generation) -> Self {
        debug_assert!(number < 1 << 48);
        PackedGeneration([number as u16, (number >> 16) as u16, (number >> 32) as u16])
    }

    /// Returns the number.
    pub(super) fn get(self) -> Generation {
        let [low, middle, high] = self.0.map(u64::from);
        Generation(low | middle << 16 | high << 32)
    }
}

impl<K, V> Slot<K, V> {
    /// Creates a slot that has never been taken.
    fn new() -> Self {
        Slot {
            stamp: 0,
            prev: SlotId::NIL,
            next: SlotId::NIL,
            list: ListId::DEFAULT,
            tag: Tag(0),
            body: None,
        }
    }
}

/// The size of a cache line in bytes.
const LINE: usize = 64;

/// The number of slots in a block.
const BLOCK: usize = 4;

/// Slots that begin at a cache line, so that a slot of 64 bytes is one line and never lies across two.
#[derive(Debug)]
#[repr(align(64))]
struct Block<K, V>([Slot<K, V>; BLOCK]);

/// The size of a slot in bytes.
pub(super) fn bytes_of_slot<K, V>() -> usize {
    size_of::<Slot<K, V>>()
}

/// The slots. Vacant ones are chained through `next`.
#[derive(Debug)]
pub(super) struct Slab<K, V> {
    /// All slots, taken, vacant, and never taken.
    blocks: Vec<Block<K, V>>,
    /// The number of slots that were ever taken, which are the first ones.
    extent: usize,
    /// The first vacant slot, or [`SlotId::NIL`].
    vacant: SlotId,
    /// The number of slots that are taken.
    len: usize,
}

impl<K, V> Slab<K, V> {
    /// Creates a slab with room for `capacity` slots.
    ///
    /// # Errors
    ///
    /// Returns an error if there is not enough memory.
    pub(super) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(capacity.div_ceil(BLOCK))?;
        Ok(Slab {
            blocks,
            extent: 0,
            vacant: SlotId::NIL,
            len: 0,
        })
    }

    /// Returns the number of slots that are taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of slots, taken or vacant.
    pub(super) fn extent(&self) -> usize {
        self.extent
    }

    /// Drops every key and value, one by one. The slab cannot be used afterwards.
    pub(super) fn dismantle(&mut self) {
        if needs_drop::<Body<K, V>>() {
            let slots = self.blocks.iter_mut().flat_map(|block| &mut block.0);
            for body in slots.filter_map(|slot| slot.body.take()) {
                drop_both(body.key, body.extra);
            }
        }
    }

    /// Returns the number of bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block<K, V>>()
    }

    /// Returns the slot `at`, if it was ever taken or shares a block with one that was.
    #[inline]
    fn get(&self, at: SlotId) -> Option<&Slot<K, V>> {
        let block = self.blocks.get(at.index() / BLOCK)?;
        Some(&block.0[at.index() % BLOCK])
    }

    /// Takes a slot, which is not linked. Fewer than [`SlotId::MAX_SLOTS`] must be taken.
    pub(super) fn insert(
        &mut self,
        stamp: u64,
        list: ListId,
        tag: Tag,
        body: Body<K, V>,
    ) -> SlotId {
        let slot = Slot {
            stamp,
            prev: SlotId::NIL,
            next: SlotId::NIL,
            list,
            tag,
            body: Some(body),
        };
        self.len += 1;
        let at = if self.vacant == SlotId::NIL {
            debug_assert!(self.extent < SlotId::MAX_SLOTS);
            if self.extent.is_multiple_of(BLOCK) {
                let vacant = std::array::from_fn(|_| Slot::new());
                self.blocks.push(Block(vacant));
            }
            self.extent += 1;
            SlotId::new(self.extent - 1)
        } else {
            let at = self.vacant;
            self.vacant = self[at].next;
            at
        };
        self[at] = slot;
        at
    }

    /// Takes the contents out of slot `at`. The slot stays taken until it is [vacated](Slab::vacate) or
    /// [refilled](Slab::put_back).
    pub(super) fn lift(&mut self, at: SlotId) -> Body<K, V> {
        match self[at].body.take() {
            Some(body) => body,
            None => unreachable!("slot {at} is vacant"),
        }
    }

    /// Puts the contents that were taken out of slot `at` back.
    pub(super) fn put_back(&mut self, at: SlotId, body: Body<K, V>) {
        self[at].body = Some(body);
    }

    /// Vacates slot `at`, whose contents have been taken out.
    pub(super) fn vacate(&mut self, at: SlotId) {
        debug_assert!(self[at].body.is_none(), "slot {at} is taken");
        self[at].next = self.vacant;
        self.vacant = at;
        self.len -= 1;
    }

    /// Returns the contents of the taken slot `at`.
    #[inline]
    pub(super) fn body(&self, at: SlotId) -> &Body<K, V> {
        match &self[at].body {
            Some(body) => body,
            None => unreachable!("slot {at} is vacant"),
        }
    }

    /// Returns the contents like [`body`](Slab::body), for changes.
    #[inline]
    pub(super) fn body_mut(&mut self, at: SlotId) -> &mut Body<K, V> {
        match &mut self[at].body {
            Some(body) => body,
            None => unreachable!("slot {at} is vacant"),
        }
    }

    /// Reads both ends of slot `at`, which may be [`SlotId::NIL`], to load it into the cache; one end if the slot is a
    /// single line.
    #[inline]
    pub(super) fn warm(&self, at: SlotId) -> u32 {
        self.get(at).map_or(0, |slot| {
            let state = match &slot.body {
                Some(body) if size_of::<Slot<K, V>>() != LINE => body.state as u32,
                _ => 0,
            };
            slot.prev.bits() ^ state
        })
    }

    /// Reads the neighbours of slot `at`, which may be [`SlotId::NIL`], to load them into the cache.
    #[inline]
    pub(super) fn warm_neighbours(&self, at: SlotId) -> u32 {
        let link = |at: SlotId| self.get(at).map_or(0, |slot| slot.prev.bits());
        self.get(at)
            .map_or(0, |slot| link(slot.prev) ^ link(slot.next))
    }

    /// Returns whether slot `at`, which may be [`SlotId::NIL`], holds `key`, watched.
    #[inline]
    pub(super) fn is_live_key(&self, at: SlotId, key: &K) -> bool
    where
        K: Eq,
    {
        let body = self.get(at).and_then(|slot| slot.body.as_ref());
        body.is_some_and(|body| {
            matches!(body.state, State::Listed | State::Deferred) && body.key == *key
        })
    }

    /// Returns whether slot `at` still holds the episode `generation`.
    pub(super) fn holds(&self, at: SlotId, generation: Generation) -> bool {
        let body = self.get(at).and_then(|slot| slot.body.as_ref());
        body.is_some_and(|body| body.generation.get() == generation)
    }

    /// Returns whether slot `at` holds a deferred key.
    pub(super) fn is_deferred_slot(&self, at: SlotId) -> bool {
        let body = self.get(at).and_then(|slot| slot.body.as_ref());
        body.is_some_and(|body| body.state == State::Deferred)
    }

    /// Changes the list of each taken slot, which must have contents, to the one that its list `moved` to.
    pub(super) fn renumber_lists(&mut self, moved: impl Fn(ListId) -> ListId) {
        let slots = self.blocks.iter_mut().flat_map(|block| &mut block.0);
        for slot in slots.filter(|slot| slot.body.is_some()) {
            slot.list = moved(slot.list);
        }
    }

    /// Returns the taken slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Body<K, V>)> {
        (0..)
            .map(SlotId::new)
            .zip(self.blocks.iter().flat_map(|block| &block.0))
            .filter_map(|(at, slot)| Some((at, slot.body.as_ref()?)))
    }
}

impl<K, V> std::ops::Index<SlotId> for Slab<K, V> {
    type Output = Slot<K, V>;

    #[inline]
    fn index(&self, at: SlotId) -> &Slot<K, V> {
        &self.blocks[at.index() / BLOCK].0[at.index() % BLOCK]
    }
}

impl<K, V> std::ops::IndexMut<SlotId> for Slab<K, V> {
    #[inline]
    fn index_mut(&mut self, at: SlotId) -> &mut Slot<K, V> {
        &mut self.blocks[at.index() / BLOCK].0[at.index() % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(key: u64) -> Body<u64, ()> {
        Body {
            key,
            joined: 0,
            generation: PackedGeneration::new(Generation(key)),
            state: State::Listed,
            extra: None,
        }
    }

    #[test]
    fn a_slot_is_as_small_as_it_was_made() {
        assert_eq!(size_of::<Slot<u64, ()>>(), 48);
        assert_eq!(size_of::<Slot<[u64; 3], ()>>(), 64);
        assert_eq!(size_of::<Block<u64, ()>>(), 4 * 48);
    }

    #[test]
    fn vacant_slots_are_taken_again_and_stale_generations_do_not_match() {
        let mut slab = Slab::with_capacity(0).unwrap();
        let a = slab.insert(1, ListId::DEFAULT, Tag(1), body(1));
        let b = slab.insert(2, ListId::DEFAULT, Tag(2), body(2));
        assert_eq!(slab.lift(a).key, 1);
        slab.vacate(a);
        assert!(!slab.holds(a, Generation(1)));
        let c = slab.insert(3, ListId::DEFAULT, Tag(3), body(3));
        assert_eq!((c, slab.len(), slab.extent()), (a, 2, 2));
        assert!(
            slab.holds(c, Generation(3))
                && !slab.holds(c, Generation(1))
                && slab.holds(b, Generation(2))
        );
        assert!(!slab.holds(SlotId::new(99), Generation(3)));
    }

    #[test]
    fn a_generation_survives_packing() {
        for number in [
            0,
            1,
            u64::from(u32::MAX),
            u64::from(u32::MAX) + 1,
            (1 << 48) - 1,
        ] {
            assert_eq!(
                PackedGeneration::new(Generation(number)).get(),
                Generation(number)
            );
        }
    }
}
