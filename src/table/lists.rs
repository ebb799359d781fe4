//! One LRU list for each distinct timeout and mode, all threaded through the slab, and a heap over their fronts.
//!
//! Within a list the time allowed is constant, so a list sorted by stamp is sorted by deadline, and the next expiry
//! of all keys is the least of the fronts. The heap is lazy: an entry is a lower bound for its list, which is put right
//! when it comes to the top. A beat moves a slot within its list and never touches the heap, so a per-key timeout costs
//! what a fixed one does.

use std::collections::{BTreeMap, HashMap};

use super::grace::Grace;
use super::ids::{ListId, SlotId};
use super::memory::map_bytes;
use super::slab::Slab;
use crate::clock::NEVER;
use crate::due::DueQueue;
use crate::options::Mode;

/// The policy that the keys of one list have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Policy {
    /// The longest silence allowed, ns.
    pub(super) timeout: u64,
    /// What happens to a key that expires.
    pub(super) mode: Mode,
    /// Whether the keys have hearts. The list is then sorted by the last check and not by the last beat.
    pub(super) hearts: bool,
}

impl Policy {
    /// How long after its stamp a slot is checked, ns. A heart is checked twice per timeout: a key that beat within the
    /// last half cannot expire before the next check.
    pub(super) fn interval(&self) -> u64 {
        match self.timeout {
            NEVER => NEVER,
            timeout if self.hearts => (timeout / 2).max(1),
            timeout => timeout,
        }
    }
}

/// When a slot must be checked. If grace holds several keys back to the same time, they keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    /// With grace, ns.
    pub(super) at: u64,
    /// Without grace, ns.
    pub(super) deadline: u64,
}

impl Due {
    /// Never.
    const NEVER: Due = Due {
        at: NEVER,
        deadline: NEVER,
    };
}

/// One list.
#[derive(Debug)]
struct List {
    /// The policy of its keys.
    policy: Policy,
    /// The slot with the oldest stamp, or [`SlotId::NIL`].
    head: SlotId,
    /// The slot with the newest stamp, or [`SlotId::NIL`].
    tail: SlotId,
    /// The slot that was last linked in front of another one, or a neighbour of its place; or [`SlotId::NIL`].
    finger: SlotId,
    /// The number of slots that name this list, linked or not.
    users: u32,
    /// The bound of its entry in the heap, at or below the due time of its front; [`Due::NEVER`] if it has none.
    bound: Due,
}

/// How many slots a late stamp may walk over on average. The cost of a burst of late beats must not be the product of
/// its length and the number of beats that overtook it. So few in tests that the two dozen keys of the model test
/// exceed it.
const WALK: u32 = if cfg!(test) { 2 } else { 64 };

/// How many slots a late stamp may walk over at once, after shorter walks.
const MOST_CREDIT: u32 = if cfg!(test) { 16 } else { 4_096 };

/// The number of lists below which shrinking is not worthwhile; few in tests, as above.
const SHRINK_FLOOR: usize = if cfg!(test) { 4 } else { 1_024 };

/// The lists are shrunk when less than one in this many is in use; more often in tests.
const SHRINK_DIVISOR: usize = if cfg!(test) { 2 } else { 8 };

/// All lists.
#[derive(Debug)]
pub(super) struct Lists {
    /// The lists, including those in `vacant`. The first one, [`ListId::DEFAULT`], is that of the default policy.
    all: Vec<List>,
    /// Maps a policy to its list.
    by_policy: HashMap<Policy, ListId, ahash::RandomState>,
    /// The number of lists in use for each timeout, ns.
    timeouts: BTreeMap<u64, u32>,
    /// Lists that no slot names, for reuse.
    vacant: Vec<ListId>,
    /// A lower bound of the due time of each list with a linked slot, the least on top. An entry that differs from the
    /// bound stored in its list is stale.
    fronts: DueQueue<ListId, Due>,
    /// The number of slots over which the next late stamp may walk.
    credit: u32,
}

impl Lists {
    /// Creates the list of `default`, empty.
    pub(super) fn new(default: Policy) -> Self {
        let mut lists = Lists {
            all: Vec::new(),
            by_policy: HashMap::default(),
            timeouts: BTreeMap::new(),
            vacant: Vec::new(),
            fronts: DueQueue::new(),
            credit: 0,
        };
        lists.add(default);
        lists
    }

    /// Returns the policy of the keys of `list`.
    #[inline]
    pub(super) fn policy(&self, list: ListId) -> Policy {
        self.all[list.index()].policy
    }

    /// Returns the longest timeout in use, ns, or zero if there is none.
    pub(super) fn longest_timeout(&self) -> u64 {
        self.timeouts.last_key_value().map_or(0, |(&ns, _)| ns)
    }

    /// Returns the shortest timeout in use, ns, or [`NEVER`] if there is none.
    #[inline]
    pub(super) fn shortest_timeout(&self) -> u64 {
        self.timeouts.first_key_value().map_or(NEVER, |(&ns, _)| ns)
    }

    /// Returns the list of `policy`, created if there is none, with one more user.
    pub(super) fn obtain(&mut self, policy: Policy) -> ListId {
        let list = match self.by_policy.get(&policy) {
            Some(&list) => list,
            None => self.add(policy),
        };
        let entry = &mut self.all[list.index()];
        entry.users += 1;
        if entry.users == 1 {
            *self.timeouts.entry(policy.timeout).or_default() += 1;
        }
        list
    }

    /// Creates a list for `policy`.
    fn add(&mut self, policy: Policy) -> ListId {
        let new = List {
            policy,
            head: SlotId::NIL,
            tail: SlotId::NIL,
            finger: SlotId::NIL,
            users: 0,
            bound: Due::NEVER,
        };
        let list = self.vacant.pop().unwrap_or(ListId::new(self.all.len()));
        match self.all.get_mut(list.index()) {
            Some(vacant) => *vacant = new,
            None => self.all.push(new),
        }
        self.by_policy.insert(policy, list);
        list
    }

    /// Removes one user from `list`. A list without users is vacated, unless it is the default one.
    pub(super) fn release(&mut self, list: ListId) {
        let entry = &mut self.all[list.index()];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        debug_assert_eq!(entry.head, SlotId::NIL);
        let timeout = entry.policy.timeout;
        if let Some(lists) = self.timeouts.get_mut(&timeout) {
            *lists -= 1;
            if *lists == 0 {
                self.timeouts.remove(&timeout);
            }
        }
        if list != ListId::DEFAULT {
            entry.bound = Due::NEVER;
            self.by_policy.remove(&entry.policy);
            self.vacant.push(list);
        }
    }

    /// Links slot `at` into the list that it names, at the place of its stamp. Returns `false` and does nothing if that
    /// place is too far from the tail and from the place that was found last.
    #[inline]
    #[must_use]
    pub(super) fn link<K, V>(&mut self, slab: &mut Slab<K, V>, at: SlotId) -> bool {
        let stamp = slab[at].stamp;
        let list = slab[at].list;
        let tail = self.all[list.index()].tail;
        let before = if tail == SlotId::NIL || slab[tail].stamp <= stamp {
            tail
        } else {
            match self.find_place(slab, list, stamp) {
                Some(before) => before,
                None => return false,
            }
        };
        let entry = &mut self.all[list.index()];
        let after = if before == SlotId::NIL {
            entry.head
        } else {
            slab[before].next
        };
        slab[at].prev = before;
        slab[at].next = after;
        if after == SlotId::NIL {
            entry.tail = at;
        } else {
            slab[after].prev = at;
            entry.finger = at;
        }
        if before == SlotId::NIL {
            entry.head = at;
            let deadline = stamp.saturating_add(entry.policy.interval());
            let due = Due {
                at: deadline,
                deadline,
            };
            if due < entry.bound {
                entry.bound = due;
                self.push_front(due, list);
            }
        } else {
            slab[before].next = at;
        }
        true
    }

    /// Adds a heap entry. Stale entries of lists that were vacated earlier are removed when they outnumber the others.
    fn push_front(&mut self, due: Due, list: ListId) {
        let (in_use, all) = (self.by_policy.len(), &self.all);
        self.fronts
            .sweep(in_use, |bound, list| all[list.index()].bound == bound);
        self.fronts.push(due, list);
    }

    /// Sets the newer `stamp` of slot `at`, which is linked, and moves the slot to the tail of its list. Returns
    /// `false` and does nothing if it does not belong there.
    #[inline]
    #[must_use]
    pub(super) fn move_up<K, V>(&mut self, slab: &mut Slab<K, V>, at: SlotId, stamp: u64) -> bool {
        let (prev, next, list) = (slab[at].prev, slab[at].next, slab[at].list);
        let entry = &mut self.all[list.index()];
        if next == SlotId::NIL {
            slab[at].stamp = stamp;
            return true;
        }
        let tail = entry.tail;
        if slab[tail].stamp > stamp {
            return false;
        }
        if entry.finger == at {
            entry.finger = if prev == SlotId::NIL { next } else { prev };
        }
        if prev == SlotId::NIL {
            entry.head = next;
        } else {
            slab[prev].next = next;
        }
        slab[next].prev = prev;
        slab[tail].next = at;
        entry.tail = at;
        let slot = &mut slab[at];
        (slot.stamp, slot.prev, slot.next) = (stamp, tail, SlotId::NIL);
        true
    }

    /// Returns the slot after which `stamp`, which is older than the tail of `list`, belongs, or [`SlotId::NIL`] for
    /// the head. Returns `None` if the walk exhausts its budget.
    ///
    /// Late beats tend to arrive in runs, such as a chunk of `beat_many` that another producer overtook. The walk
    /// therefore begins where the last one ended, and may continue as long as the walks before it were short.
    fn find_place<K, V>(&mut self, slab: &Slab<K, V>, list: ListId, stamp: u64) -> Option<SlotId> {
        let entry = &self.all[list.index()];
        let mut before = if entry.finger == SlotId::NIL {
            entry.tail
        } else {
            entry.finger
        };
        self.credit = (self.credit + WALK).min(MOST_CREDIT);
        while before != SlotId::NIL && slab[before].stamp > stamp {
            self.credit = self.credit.checked_sub(1)?;
            before = slab[before].prev;
        }
        loop {
            let after = if before == SlotId::NIL {
                entry.head
            } else {
                slab[before].next
            };
            if after == SlotId::NIL || slab[after].stamp > stamp {
                return Some(before);
            }
            self.credit = self.credit.checked_sub(1)?;
            before = after;
        }
    }

    /// Unlinks slot `at` from the list that it names.
    #[inline]
    pub(super) fn unlink<K, V>(&mut self, slab: &mut Slab<K, V>, at: SlotId) {
        let (prev, next, list) = (slab[at].prev, slab[at].next, slab[at].list);
        let entry = &mut self.all[list.index()];
        if entry.finger == at {
            entry.finger = if prev == SlotId::NIL { next } else { prev };
        }
        if prev == SlotId::NIL {
            entry.head = next;
        } else {
            slab[prev].next = next;
        }
        if next == SlotId::NIL {
            entry.tail = prev;
        } else {
            slab[next].prev = prev;
        }
    }

    /// Returns the linked slot that is due first, and when.
    pub(super) fn first<K, V>(
        &mut self,
        slab: &Slab<K, V>,
        grace: &Grace,
    ) -> Option<(Due, SlotId)> {
        let all = &mut self.all;
        let first = self.fronts.settle(|bound, list| {
            let entry = &mut all[list.index()];
            if entry.bound != bound {
                return None;
            }
            entry.bound = match entry.head {
                SlotId::NIL => Due::NEVER,
                head => due(&entry.policy, slab[head].stamp, grace),
            };
            (entry.bound != Due::NEVER).then_some(entry.bound)
        });
        first.map(|(due, &list)| (due, self.all[list.index()].head))
    }

    /// Returns the slots linked into `list`, the oldest stamp first.
    pub(super) fn iter<'a, K, V>(
        &self,
        slab: &'a Slab<K, V>,
        list: ListId,
    ) -> impl Iterator<Item = SlotId> + use<'a, K, V> {
        let mut at = self.all[list.index()].head;
        std::iter::from_fn(move || {
            let this = (at != SlotId::NIL).then_some(at)?;
            at = slab[this].next;
            Some(this)
        })
    }

    /// Returns the numbers of the lists in use.
    pub(super) fn numbers(&self) -> impl Iterator<Item = ListId> + '_ {
        self.by_policy.values().copied()
    }

    /// Unlinks all slots, so that they can be linked again after they have moved.
    pub(super) fn unlink_all(&mut self) {
        self.fronts.clear();
        for list in &mut self.all {
            (list.head, list.tail, list.finger, list.bound) =
                (SlotId::NIL, SlotId::NIL, SlotId::NIL, Due::NEVER);
        }
    }

    /// Returns memory if few of many lists are in use, which get new numbers. If there is nothing to do, this costs a
    /// few comparisons. Otherwise it visits all slots, so it waits until there are many lists compared to the slots.
    pub(super) fn shrink<K, V>(&mut self, slab: &mut Slab<K, V>) {
        let all = self.all.len();
        let is_sparse = self.by_policy.len() * SHRINK_DIVISOR < all;
        if is_sparse && all >= SHRINK_FLOOR && all * SHRINK_DIVISOR >= slab.extent() {
            self.renumber(slab);
        }
    }

    /// Renumbers the lists in use from the first number on, and removes the others.
    #[cold]
    fn renumber<K, V>(&mut self, slab: &mut Slab<K, V>) {
        let before = &self.all;
        self.fronts
            .filter_map(|bound, list| (before[list.index()].bound == bound).then_some(list));
        let mut moved_to = vec![ListId::DEFAULT; self.all.len()];
        let mut all = Vec::with_capacity(self.by_policy.len() * 2);
        let in_use = (0..)
            .map(ListId::new)
            .zip(self.all.drain(..))
            .filter(|&(number, ref list)| number == ListId::DEFAULT || list.users > 0);
        for (number, list) in in_use {
            moved_to[number.index()] = ListId::new(all.len());
            all.push(list);
        }
        let moved = |list: ListId| moved_to[list.index()];
        self.fronts.filter_map(|_, list| Some(moved(list)));
        self.by_policy = all
            .iter()
            .zip((0..).map(ListId::new))
            .map(|(list, number)| (list.policy, number))
            .collect();
        self.vacant = Vec::new();
        self.all = all;
        slab.renumber_lists(moved);
    }

    /// Returns the number of bytes allocated; the directories are estimated.
    pub(super) fn bytes(&self) -> usize {
        self.timeouts.len() * 2 * size_of::<(u64, u32)>()
            + self.all.capacity() * size_of::<List>()
            + map_bytes::<(Policy, ListId)>(self.by_policy.capacity())
            + self.vacant.capacity() * size_of::<ListId>()
            + self.fronts.bytes()
    }

    /// Panics unless every list is a valid chain, sorted, not below its bound, and named by `users` slots.
    #[cfg(test)]
    pub(super) fn validate<K, V>(&self, slab: &Slab<K, V>, grace: &Grace) {
        let mut users: HashMap<ListId, u32> = HashMap::new();
        let mut timeouts: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, _) in slab.iter() {
            *users.entry(slab[at].list).or_default() += 1;
        }
        for list in self.numbers() {
            let entry = &self.all[list.index()];
            assert_eq!(
                users.remove(&list).unwrap_or(0),
                entry.users,
                "users of list {list:?}"
            );
            if entry.users > 0 {
                *timeouts.entry(entry.policy.timeout).or_default() += 1;
            }
            let (mut prev, mut stamp) = (SlotId::NIL, 0);
            for at in self.iter(slab, list) {
                assert_eq!(
                    (slab[at].list, slab[at].prev),
                    (list, prev),
                    "links of slot {at}"
                );
                assert!(slab[at].stamp >= stamp, "order of list {list:?}");
                (prev, stamp) = (at, slab[at].stamp);
            }
            assert_eq!(entry.tail, prev, "tail of list {list:?}");
            let is_linked = self.iter(slab, list).any(|at| at == entry.finger);
            assert!(
                entry.finger == SlotId::NIL || is_linked,
                "finger of list {list:?}"
            );
            if entry.head != SlotId::NIL {
                let due = due(&entry.policy, slab[entry.head].stamp, grace);
                assert!(entry.bound <= due, "bound of list {list:?}");
            }
            if entry.bound != Due::NEVER {
                let held = self
                    .fronts
                    .iter()
                    .any(|(bound, &of)| (bound, of) == (entry.bound, list));
                assert!(held, "heap entry of list {list:?}");
            }
        }
        assert_eq!(timeouts, self.timeouts, "timeouts in use");
        assert!(
            users.is_empty(),
            "slots name lists that are not in use: {users:?}"
        );
    }
}

/// Returns when a slot stamped `stamp` must be checked.
#[inline]
fn due(policy: &Policy, stamp: u64, grace: &Grace) -> Due {
    let deadline = stamp.saturating_add(policy.interval());
    let at = if policy.hearts {
        deadline
    } else {
        grace.adjust(deadline, policy.timeout)
    };
    Due { at, deadline }
}
