//! The index, which maps the tag of a key to its slot.
//!
//! Open addressing with linear probing. A bucket is 8 bytes: 32 bits of the key's hash (the tag) and the slot. The home
//! of a tag is `tag * buckets / 2^32` (Lemire, "A fast alternative to the modulo reduction", 2016). The number of
//! buckets is therefore arbitrary, and homes are ordered like tags: growing and shrinking visit both arrays nearly in
//! sequence and never read a key. Deletion shifts the rest of the run back (Knuth, TAOCP vol. 3, 6.4, algorithm R), so
//! there are no tombstones and the index does not slow down with age.

use std::collections::TryReserveError;

use super::ids::{SlotId, Tag};

/// One bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The tag of the key in `slot`.
    tag: Tag,
    /// The slot of the key, or [`SlotId::NIL`] if the bucket is empty.
    slot: SlotId,
}

const EMPTY: Bucket = Bucket {
    tag: Tag(0),
    slot: SlotId::NIL,
};

/// The smallest number of bytes per entry: at most three quarters of the buckets are taken.
pub(super) const BYTES_OF_ENTRY: usize = size_of::<Bucket>() * 4 / 3;

/// The smallest number of buckets.
const MIN_BUCKETS: usize = 16;

/// The index. It does not know keys; the caller compares them.
#[derive(Debug)]
pub(super) struct Index {
    /// The buckets. At least a quarter of them is empty, so that every probe ends.
    buckets: Vec<Bucket>,
    /// The number of buckets taken.
    len: usize,
}

/// The position of an entry. It is valid until the index is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position(usize);

impl Index {
    /// Creates an index with room for `capacity` entries.
    ///
    /// # Errors
    ///
    /// Returns an error if there is not enough memory.
    pub(super) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let mut buckets = Vec::new();
        buckets.try_reserve_exact(buckets_for(capacity))?;
        buckets.resize(buckets_for(capacity), EMPTY);
        Ok(Index { buckets, len: 0 })
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// Returns the position and slot of the entry of `tag` whose slot `is_it` accepts.
    #[inline]
    pub(super) fn find(
        &self,
        tag: Tag,
        mut is_it: impl FnMut(SlotId) -> bool,
    ) -> Option<(Position, SlotId)> {
        let mut at = self.home(tag);
        loop {
            let bucket = self.buckets[at];
            if bucket.slot == SlotId::NIL {
                return None;
            }
            if bucket.tag == tag && is_it(bucket.slot) {
                return Some((Position(at), bucket.slot));
            }
            at = self.after(at);
        }
    }

    /// Returns the slot of the first entry of `tag`, or [`SlotId::NIL`]. It is nearly always the one that
    /// [`find`](Index::find) finds.
    #[inline]
    pub(super) fn guess(&self, tag: Tag) -> SlotId {
        let mut at = self.home(tag);
        loop {
            let bucket = self.buckets[at];
            if bucket.tag == tag || bucket.slot == SlotId::NIL {
                return bucket.slot;
            }
            at = self.after(at);
        }
    }

    /// Reads the home of `tag` to load it into the cache.
    #[inline]
    pub(super) fn warm(&self, tag: Tag) -> u32 {
        self.buckets[self.home(tag)].slot.bits()
    }

    /// Adds an entry.
    pub(super) fn insert(&mut self, tag: Tag, slot: SlotId) {
        if (self.len + 1) * 4 > self.buckets.len() * 3 {
            self.resize(self.buckets.len() * 3 / 2);
        }
        self.place(Bucket { tag, slot });
        self.len += 1;
    }

    /// Changes the slot of the entry at `position`.
    pub(super) fn redirect(&mut self, position: Position, slot: SlotId) {
        self.buckets[position.0].slot = slot;
    }

    /// Removes the entry at `position`.
    pub(super) fn remove(&mut self, position: Position) {
        let mut vacated = position.0;
        let mut at = self.after(vacated);
        while self.buckets[at].slot != SlotId::NIL {
            let home = self.home(self.buckets[at].tag);
            if self.distance(home, at) >= self.distance(vacated, at) {
                self.buckets[vacated] = self.buckets[at];
                vacated = at;
            }
            at = self.after(at);
        }
        self.buckets[vacated] = EMPTY;
        self.len -= 1;
    }

    /// Returns all entries.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Tag, SlotId)> + '_ {
        self.buckets
            .iter()
            .filter(|bucket| bucket.slot != SlotId::NIL)
            .map(|bucket| (bucket.tag, bucket.slot))
    }

    /// Moves every entry to a new array of `buckets` buckets.
    #[cold]
    fn resize(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; buckets]);
        for bucket in old.into_iter().filter(|bucket| bucket.slot != SlotId::NIL) {
            self.place(bucket);
        }
    }

    /// Writes `new` to the first empty bucket at or after its home.
    fn place(&mut self, new: Bucket) {
        let mut at = self.home(new.tag);
        while self.buckets[at].slot != SlotId::NIL {
            at = self.after(at);
        }
        self.buckets[at] = new;
    }

    /// Returns the bucket at which the probe for `tag` begins.
    #[inline]
    fn home(&self, tag: Tag) -> usize {
        ((u64::from(tag.0) * self.buckets.len() as u64) >> 32) as usize
    }

    /// Returns the bucket after `at`.
    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() {
            0
        } else {
            at + 1
        }
    }

    /// Returns the number of steps from bucket `from` to bucket `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.buckets.len() - from
        }
    }
}

/// Returns the number of buckets for `capacity` entries, of which at most three quarters are taken.
fn buckets_for(capacity: usize) -> usize {
    (capacity.saturating_mul(4) / 3 + 1).max(MIN_BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A small generator (Marsaglia's xorshift64), so that every run performs the same operations.
    fn numbers(mut x: u64) -> impl FnMut() -> u64 {
        move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        }
    }

    fn id(number: u32) -> SlotId {
        SlotId::new(number as usize)
    }

    /// Inserts and removes at random, compared with a map. `tag` draws a tag from a slot number.
    fn check(tag: impl Fn(u32) -> Tag) {
        let mut index = Index::with_capacity(0).unwrap();
        let mut model: HashMap<u32, Tag> = HashMap::new();
        let mut next = numbers(7);
        for _ in 0..20_000 {
            let slot = (next() % 300) as u32;
            if model.remove(&slot).is_some() {
                let (position, found) = index
                    .find(tag(slot), |s| s == id(slot))
                    .expect("it was inserted");
                assert_eq!(found, id(slot));
                index.remove(position);
            } else {
                index.insert(tag(slot), id(slot));
                model.insert(slot, tag(slot));
            }
            assert_eq!(index.len(), model.len());
            let probe = (next() % 300) as u32;
            let found = index.find(tag(probe), |s| s == id(probe)).is_some();
            assert_eq!(found, model.contains_key(&probe));
        }
        assert_eq!(
            index
                .iter()
                .map(|(tag, slot)| (slot.bits(), tag))
                .collect::<HashMap<_, _>>(),
            model
        );
    }

    #[test]
    fn agrees_with_a_map_on_spread_tags() {
        check(|slot| Tag(slot.wrapping_mul(0x9E37_79B9)));
    }

    #[test]
    fn agrees_with_a_map_when_all_tags_are_the_last_one_and_runs_wrap() {
        check(|_| Tag(u32::MAX));
    }

    #[test]
    fn agrees_with_a_map_on_a_few_crowded_homes() {
        check(|slot| Tag((slot % 3).wrapping_mul(0x7FFF_FFFF)));
    }

    #[test]
    fn an_expected_number_of_entries_fits_without_growing() {
        let mut index = Index::with_capacity(1_000).unwrap();
        let bytes = index.bytes();
        for slot in 0..1_000 {
            index.insert(Tag(slot << 20), id(slot));
        }
        assert_eq!(index.bytes(), bytes);
        assert!(bytes <= 1_000 * 11);
    }

    #[test]
    fn an_entry_costs_11_to_16_bytes_however_the_index_grew() {
        let mut index = Index::with_capacity(0).unwrap();
        for slot in 0..100_000u32 {
            index.insert(Tag(slot.wrapping_mul(0x9E37_79B9)), id(slot));
            let each = index.bytes() / (slot as usize + 1);
            assert!(
                slot < 1_000 || (10..=16).contains(&each),
                "{each} bytes at {slot}"
            );
        }
    }
}
