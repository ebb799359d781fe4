//! The roster of a capped watcher: which tags are in, so that a caller learns at once that there is no room for a new key.
//!
//! Whether a key is watched only its worker knows, and a beat does not wait for the worker. So where a maximum is set,
//! and only there, callers and workers share this set of tags. A caller *admits* the key before it sends the beat; the
//! worker *confirms* what it applies and says which keys *left*. Two keys of one worker with the same 32-bit tag count
//! once here; the table's own maximum bounds what slips through.

use std::collections::HashSet;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::table::Tag;

/// How many locks the set of one worker is spread over.
const SHARDS: usize = 16;

/// What a caller is told of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It was in already.
    Known,
    /// It is in now.
    New,
    /// There is no room for it.
    Full,
}

/// The roster.
#[derive(Debug)]
pub(crate) struct Roster {
    /// The most tags.
    max: usize,
    /// How many tags there are.
    len: AtomicUsize,
    /// The tags, [`SHARDS`] sets for each worker.
    shards: Box<[Mutex<HashSet<Tag, ahash::RandomState>>]>,
}

impl Roster {
    /// An empty roster of at most `max` keys of `workers` workers.
    pub(crate) fn new(max: usize, workers: usize) -> Self {
        let shards = (0..workers * SHARDS).map(|_| Mutex::default()).collect();
        Roster {
            max,
            len: AtomicUsize::new(0),
            shards,
        }
    }

    /// Lets a key of `worker` in if there is room.
    pub(crate) fn admit(&self, worker: usize, tag: Tag) -> Admission {
        let mut shard = self.shard(worker, tag).lock();
        if shard.contains(&tag) {
            return Admission::Known;
        }
        let grow = |len: usize| (len < self.max).then_some(len + 1);
        if self
            .len
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow)
            .is_err()
        {
            return Admission::Full;
        }
        shard.insert(tag);
        Admission::New
    }

    /// Makes sure a key that `worker` watches is in: it may have left between its admission and now.
    pub(crate) fn confirm(&self, worker: usize, tag: Tag) {
        if self.shard(worker, tag).lock().insert(tag) {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a key of `worker` out.
    pub(crate) fn leave(&self, worker: usize, tag: Tag) {
        if self.shard(worker, tag).lock().remove(&tag) {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The set that `tag` belongs into.
    fn shard(&self, worker: usize, tag: Tag) -> &Mutex<HashSet<Tag, ahash::RandomState>> {
        &self.shards[worker * SHARDS + tag.0 as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_roster_knows_who_is_in() {
        let roster = Roster::new(2, 1);
        assert_eq!(roster.admit(0, Tag(1)), Admission::New);
        assert_eq!(roster.admit(0, Tag(2)), Admission::New);
        assert_eq!(roster.admit(0, Tag(3)), Admission::Full);
        assert_eq!(roster.admit(0, Tag(1)), Admission::Known);
        roster.leave(0, Tag(1));
        roster.leave(0, Tag(1));
        assert_eq!(roster.admit(0, Tag(3)), Admission::New);
        assert_eq!(roster.admit(0, Tag(4)), Admission::Full);
    }

    #[test]
    fn a_tag_is_the_worker_s_own_and_confirming_counts_once() {
        let roster = Roster::new(2, 2);
        roster.confirm(0, Tag(1));
        roster.confirm(0, Tag(1));
        assert_eq!(roster.admit(1, Tag(1)), Admission::New);
        assert_eq!(roster.admit(1, Tag(2)), Admission::Full);
    }
}
