//! Returning memory after many keys have gone.

use std::collections::HashMap;

use super::ids::{ListId, SlotId};
use super::index::Index;
use super::memory::is_sparse;
use super::slab::{Slab, State};
use super::{Deferred, Table};
use crate::table::key_limit::Share;

/// Returns the memory of a map by slot that was once large.
fn shrink_map<T>(map: &mut HashMap<SlotId, T, ahash::RandomState>) {
    if is_sparse(map.len(), map.capacity()) {
        map.shrink_to(map.len() * 2);
    }
}

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Returns memory if few of many slots are taken and nothing is queued. The slots move together, in the order of
    /// their lists. Other collections that grew with the keys shrink by themselves. If there is nothing to do, this
    /// costs a dozen comparisons.
    pub(crate) fn shrink(&mut self) {
        if is_sparse(self.slab.len(), self.slab.extent()) && self.queue.is_empty() {
            self.rebuild();
        }
        self.lists.shrink(&mut self.slab);
        self.queue.shrink();
        if is_sparse(self.deferred.len(), self.deferred.capacity()) {
            self.deferred.shrink();
        }
        shrink_map(&mut self.downs);
        shrink_map(&mut self.older);
    }

    /// Moves every slot to a new slab with room for twice as many slots as are taken. No slot may be pending.
    #[cold]
    pub(super) fn rebuild(&mut self) {
        let capacity = self.slab.len() * 2;
        let (Ok(slab), Ok(index)) = (
            Slab::with_capacity(capacity),
            Index::with_capacity(capacity),
        ) else {
            // The memory is returned at another time.
            return;
        };
        let lists: Vec<ListId> = self.lists.numbers().collect();
        let listed: Vec<SlotId> = lists
            .into_iter()
            .flat_map(|list| self.lists.iter(&self.slab, list))
            .collect();
        let aside = self
            .slab
            .iter()
            .filter(|(_, body)| body.state == State::Deferred);
        let aside: Vec<SlotId> = aside.map(|(at, _)| at).collect();

        let mut old = std::mem::replace(&mut self.slab, slab);
        self.deferred
            .filter_map(|_, it| it.is_current(&old).then_some(it));
        let mut moved_to = vec![SlotId::NIL; old.extent()];
        self.index = index;
        let places = self.limit.as_mut().map(Share::unsettle);
        self.lists.unlink_all();
        for at in listed.into_iter().chain(aside) {
            let body = old.lift(at);
            let (stamp, list, tag, prev) = (old[at].stamp, old[at].list, old[at].tag, old[at].prev);
            let is_listed = body.state == State::Listed;
            let to = self.slab.insert(stamp, list, tag, body);
            moved_to[at.index()] = to;
            if let (Some(limit), Some(places)) = (&mut self.limit, &places) {
                limit.settle(to, places[at.index()]);
            }
            self.index.insert(tag, to);
            if is_listed {
                let linked = self.lists.link(&mut self.slab, to);
                debug_assert!(linked, "a sorted list links at its tail");
            } else {
                self.slab[to].prev = prev;
            }
        }

        let moved = |at: SlotId| moved_to[at.index()];
        self.deferred.filter_map(|_, it| {
            let slot = moved(it.slot);
            Some(Deferred { slot, ..it })
        });
        self.downs = self
            .downs
            .drain()
            .map(|(at, down)| (moved(at), down))
            .collect();
        let hearts = std::mem::take(&mut self.hearts);
        for (at, table_side) in (0..)
            .map(SlotId::new)
            .zip(hearts)
            .filter(|(_, table_side)| table_side.is_some())
        {
            let to = moved(at).index();
            self.hearts
                .resize_with(self.hearts.len().max(to + 1), || None);
            self.hearts[to] = table_side;
        }
    }
}
