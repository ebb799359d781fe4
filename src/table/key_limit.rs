//! The limit that the tables of a watcher with a maximum number of keys share: the number of places taken, and the
//! marks of the watched keys.
//!
//! Only a table knows whether a key is watched and how many slots are taken, so the table decides which keys join. It
//! takes a place for each slot that it fills, and returns it with the slot. For callers it keeps the *marks* of the
//! watched keys. A caller whose key has a mark sends its beat as an ordinary message; other callers ask.
//! `docs/design.md` describes the steps and the races.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;

use super::memory::map_bytes;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::table::ids::{SlotId, Tag};

/// The number of locks over which the marks of one worker are spread.
const SHARDS: usize = 16;

/// A shard with room for fewer marks than this is not worth shrinking.
const SHRINK_FLOOR: usize = 64;

/// The whole hash of a key. Its lower half is the key's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(pub(crate) u64);

impl Mark {
    /// Returns the mark of a key whose hash has these halves.
    fn new(upper: u32, Tag(tag): Tag) -> Self {
        Mark(u64::from(upper) << 32 | u64::from(tag))
    }
}

/// The result of a lookup by a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The key is watched.
    Watched,
    /// The key is not watched, and there was room.
    Room,
    /// The key is not watched, and every place was taken.
    Full,
}

/// The limit.
#[derive(Debug)]
pub(crate) struct KeyLimit {
    /// The maximum number of places.
    max: usize,
    /// The number of places taken by the slots of all tables. Raised under the lock of the key's shard.
    taken: AtomicUsize,
    /// The marks of the watched keys, in [`SHARDS`] shards for each worker. Only the worker changes its own shards.
    shards: Box<[Mutex<Shard>]>,
}

/// A shard of the marks of one worker.
#[derive(Debug, Default)]
struct Shard {
    /// The marks.
    marks: HashSet<Mark, RandomState>,
    /// The number of further keys for each mark that several keys share.
    more: HashMap<Mark, usize, RandomState>,
}

impl KeyLimit {
    /// Creates a limit of `max` keys for `workers` workers.
    pub(crate) fn new(max: usize, workers: usize) -> Arc<Self> {
        let shards = (0..workers * SHARDS).map(|_| Mutex::default()).collect();
        let taken = AtomicUsize::new(0);
        Arc::new(KeyLimit { max, taken, shards })
    }

    /// Creates the share of worker `worker`; `upper_of` returns the upper half of a key's mark.
    pub(crate) fn share<K>(
        self: &Arc<Self>,
        worker: usize,
        upper_of: impl Fn(&K) -> u32 + Send + Sync + 'static,
    ) -> Share<K> {
        Share {
            limit: self.clone(),
            worker,
            upper_of: Box::new(upper_of),
            uppers: Vec::new(),
            taken: 0,
            shard_bytes: 0,
        }
    }

    /// Looks up a key of `worker`.
    pub(crate) fn look(&self, worker: usize, mark: Mark) -> Standing {
        self.standing(&self.shard(worker, mark).lock(), mark)
    }

    /// Looks up a key like [`look`](KeyLimit::look), or returns `None` if the lock is not available within `wait`.
    pub(crate) fn look_for(&self, worker: usize, mark: Mark, wait: Duration) -> Option<Standing> {
        let shard = self.shard(worker, mark).try_lock_for(wait)?;
        Some(self.standing(&shard, mark))
    }

    /// The number of places is read under the lock under which a key that joins takes its place.
    fn standing(&self, shard: &MutexGuard<'_, Shard>, mark: Mark) -> Standing {
        if shard.marks.contains(&mark) {
            Standing::Watched
        } else if self.taken.load(Ordering::Relaxed) < self.max {
            Standing::Room
        } else {
            Standing::Full
        }
    }

    /// Returns the shard of `mark`.
    fn shard(&self, worker: usize, mark: Mark) -> &Mutex<Shard> {
        &self.shards[worker * SHARDS + mark.0 as usize % SHARDS]
    }
}

impl Shard {
    /// Adds a key of `mark`.
    fn add(&mut self, mark: Mark) {
        if !self.marks.insert(mark) {
            *self.more.entry(mark).or_default() += 1;
        }
    }

    /// Removes a key of `mark`.
    fn remove(&mut self, mark: Mark) {
        match self.more.get_mut(&mark) {
            Some(1) => drop(self.more.remove(&mark)),
            Some(more) => *more -= 1,
            None => {
                let was_there = self.marks.remove(&mark);
                debug_assert!(was_there, "a key leaves once");
            }
        }
        let (len, capacity) = (self.marks.len(), self.marks.capacity());
        if capacity > SHRINK_FLOOR && len < capacity / 8 {
            self.marks.shrink_to(len * 2);
        }
    }

    /// Returns the number of bytes allocated.
    fn bytes(&self) -> usize {
        map_bytes::<Mark>(self.marks.capacity()) + map_bytes::<(Mark, usize)>(self.more.capacity())
    }
}

/// A table's share of the limit. When it is dropped, also by a panic, it returns everything that it took.
pub(crate) struct Share<K> {
    /// The limit.
    limit: Arc<KeyLimit>,
    /// The index of the worker.
    worker: usize,
    /// Returns the upper half of a key's mark. The table does not know it, which keeps beats small.
    upper_of: Box<dyn Fn(&K) -> u32 + Send + Sync>,
    /// The upper half of the mark of the key in each slot, up to the last slot that was taken.
    uppers: Vec<u32>,
    /// The number of places that the table has taken.
    taken: usize,
    /// The bytes allocated for the marks of this worker.
    shard_bytes: usize,
}

/// A place that was taken for a key which has no slot yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The upper half of the key's mark.
    upper: u32,
}

impl<K> Share<K> {
    /// Takes a place for `key` with `tag`, which is watched from now on, or returns `None` if every place is taken.
    pub(crate) fn take(&mut self, tag: Tag, key: &K) -> Option<Place> {
        let upper = (self.upper_of)(key);
        let mark = Mark::new(upper, tag);
        let limit = self.limit.clone();
        let mut shard = limit.shard(self.worker, mark).lock();
        let one_more = |taken: usize| (taken < limit.max).then_some(taken + 1);
        limit
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        self.taken += 1;
        self.change(&mut shard, |shard| shard.add(mark));
        Some(Place { upper })
    }

    /// Assigns `place` to slot `at`.
    pub(crate) fn settle(&mut self, at: SlotId, Place { upper }: Place) {
        let at = at.index();
        if self.uppers.len() <= at {
            self.uppers.resize(at + 1, 0);
        }
        self.uppers[at] = upper;
    }

    /// Removes the mark of the key with `tag` in slot `at`, which is no longer watched. Its slot, and so its place, may
    /// still wait for the sink.
    pub(crate) fn leave(&mut self, at: SlotId, tag: Tag) {
        let mark = Mark::new(self.uppers[at.index()], tag);
        let limit = self.limit.clone();
        let mut shard = limit.shard(self.worker, mark).lock();
        self.change(&mut shard, |shard| shard.remove(mark));
    }

    /// Returns the place of a slot.
    pub(crate) fn give_back(&mut self) {
        self.taken -= 1;
        self.limit.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns everything. The table takes no further places.
    pub(crate) fn give_up(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.limit.taken.fetch_sub(taken, Ordering::Relaxed);
        let mine = self.worker * SHARDS..(self.worker + 1) * SHARDS;
        for shard in &self.limit.shards[mine] {
            *shard.lock() = Shard::default();
        }
        self.shard_bytes = 0;
    }

    /// Takes the places of all slots, by their old numbers, because the slots move. Each must be
    /// [settled](Share::settle) again.
    pub(crate) fn unsettle(&mut self) -> Vec<Place> {
        let uppers = std::mem::take(&mut self.uppers).into_iter();
        uppers.map(|upper| Place { upper }).collect()
    }

    /// Returns the number of bytes allocated, without the directory of shards.
    pub(crate) fn bytes(&self) -> usize {
        self.uppers.capacity() * size_of::<u32>() + self.shard_bytes
    }

    /// Applies `change` to `shard` and to the count of bytes.
    fn change(&mut self, shard: &mut Shard, change: impl FnOnce(&mut Shard)) {
        let before = shard.bytes();
        change(shard);
        self.shard_bytes = self.shard_bytes + shard.bytes() - before;
    }

    /// Returns the number of places taken by all tables and by this one.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.limit.taken.load(Ordering::Relaxed), self.taken)
    }

    /// Looks up `key` with `tag`.
    #[cfg(test)]
    pub(crate) fn look(&self, tag: Tag, key: &K) -> Standing {
        let mark = Mark::new((self.upper_of)(key), tag);
        self.limit.look(self.worker, mark)
    }
}

impl<K> Drop for Share<K> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<K> fmt::Debug for Share<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("worker", &self.worker)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
