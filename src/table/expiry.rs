//! Finding due keys: the fronts of the lists, the deferred slots, and second chances for hearts.

use std::hint::black_box;
use std::time::Duration;

use super::ids::SlotId;
use super::lists::{Due, Policy};
use super::queue::Item;
use super::slab::{Slab, State};
use super::{Deferred, Down, Table};
use crate::clock::{NEVER, Timestamp};
use crate::event::{Event, EventKind, Stall};
use crate::options::Mode;
use crate::table::heart_cell::HeartState;

impl Deferred {
    /// Returns whether this is the current entry of its slot.
    pub(super) fn is_current<K, V>(self, slab: &Slab<K, V>) -> bool {
        slab.is_deferred_slot(self.slot) && slab[self.slot].prev == self.ticket.as_link()
    }
}

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Moves the keys that are due at `now` to the queue, with at most `limit` checks. Returns whether more keys are
    /// due.
    pub(crate) fn expire(&mut self, now: u64, limit: usize) -> bool {
        self.advance(now);
        let now = self.now;
        for _ in 0..limit {
            let listed = self.lists.first(&self.slab, &self.grace);
            let deferred = self.first_deferred();
            let (due, at, is_deferred) = match (listed, deferred) {
                (Some((due, at)), None) => (due, at, false),
                (Some((due, at)), Some((deferred, _))) if due <= deferred => (due, at, false),
                (_, Some((due, at))) => (due, at, true),
                (None, None) => return false,
            };
            if due.at > now {
                return false;
            }
            if is_deferred {
                let slab = &self.slab;
                self.deferred.pop_due(due, |_, it| it.is_current(slab));
            }
            self.look_at(at, due);
        }
        true
    }

    /// Returns when the table must be called next, and the timeout of the key concerned, both in ns. The time is exact
    /// for a key without a heart, and the next check for a key with one. For a key that was deferred before a stall it
    /// may be the deadline without grace.
    pub(crate) fn next_due(&mut self) -> Option<(u64, u64)> {
        let listed = self.lists.first(&self.slab, &self.grace);
        let deferred = self.first_deferred();
        let (due, at) = listed.into_iter().chain(deferred).min()?;
        Some((due.at, self.policy(at).timeout))
    }

    /// Holds expiry back after worker `worker` did not run between `last_alive` and `now`, all ns.
    pub(crate) fn stall(&mut self, worker: usize, last_alive: u64, now: u64) -> Stall {
        self.advance(now);
        let gap = now.saturating_sub(last_alive);
        let held = self.grace.grant(now, gap, self.lists.longest_timeout());
        self.counts.stalls += 1;
        let stall = Stall {
            worker,
            last_alive: Timestamp::from_nanos(last_alive),
            resumed: Timestamp::from_nanos(now),
            held_for: Duration::from_nanos(held),
        };
        if self.config.wanted.has(EventKind::Stalled) && !self.queue.is_pressed() {
            self.queue.push(Item::Notice(Event::Stalled(stall)));
        }
        stall
    }

    /// Links slot `at` into the list that it names, or defers it if its stamp came too late for that.
    #[inline]
    pub(super) fn link(&mut self, at: SlotId) {
        self.slab.body_mut(at).state = State::Listed;
        if !self.lists.link(&mut self.slab, at) {
            self.defer(at);
        }
    }

    /// Unlinks slot `at` from its list, if it is linked.
    #[inline]
    pub(super) fn unlink(&mut self, at: SlotId) {
        if self.slab.body(at).state == State::Listed {
            self.lists.unlink(&mut self.slab, at);
            self.slab.body_mut(at).state = State::Deferred;
            self.slab[at].prev = SlotId::NIL;
        }
    }

    /// Assigns slot `at`, which is not linked, to the list of `policy`.
    #[inline]
    pub(super) fn relist(&mut self, at: SlotId, policy: Policy) {
        let old = self.slab[at].list;
        if self.lists.policy(old) != policy {
            self.slab[at].list = self.lists.obtain(policy);
            self.lists.release(old);
        }
    }

    /// Places the live slot `at` according to `policy` and its deadline: into its list if that has the same deadline,
    /// otherwise into the heap of deferred slots. A slot with a heart waits in a list for its next check if it cannot
    /// expire earlier. A tracked key that is down needs no checks, because its heart sends the next beat as a message.
    pub(super) fn reschedule(&mut self, at: SlotId, policy: Policy) {
        self.unlink(at);
        self.relist(at, policy);
        let is_tracked_down = policy.mode == Mode::Track && self.down(at).is_some();
        if policy.hearts && !is_tracked_down {
            if self.due(at).at > self.now.saturating_add(policy.interval()) {
                self.slab[at].stamp = self.now;
                self.link(at);
            } else {
                self.defer(at);
            }
        } else if !is_tracked_down && self.listed_until(at) == self.deadline(at) {
            self.link(at);
        } else {
            self.defer(at);
        }
    }

    /// Returns the deadline that the list of slot `at`, which has no heart, would use.
    fn listed_until(&self, at: SlotId) -> u64 {
        self.slab[at].stamp.saturating_add(self.policy(at).timeout)
    }

    /// Defers slot `at`, which is not linked, until it is due.
    fn defer(&mut self, at: SlotId) {
        self.next_ticket = self.next_ticket.next();
        self.slab.body_mut(at).state = State::Deferred;
        self.slab[at].prev = self.next_ticket.as_link();
        let (live, slab) = (self.counts.live as usize, &self.slab);
        self.deferred.sweep(live, |_, it| it.is_current(slab));
        let due = self.due(at);
        if due.at != NEVER {
            let ticket = self.next_ticket;
            self.deferred.push(due, Deferred { slot: at, ticket });
        }
    }

    /// Returns when the live slot `at` expires unless it beats.
    fn due(&self, at: SlotId) -> Due {
        let deadline = self.deadline(at);
        let timeout = self.policy(at).timeout;
        Due {
            at: self.grace.adjust(deadline, timeout),
            deadline,
        }
    }

    /// Returns the deferred slot that is due first, and when.
    fn first_deferred(&mut self) -> Option<(Due, SlotId)> {
        let slab = &self.slab;
        let first = self.deferred.peek(|_, it| it.is_current(slab));
        first.map(|(due, it)| (due, it.slot))
    }

    /// Handles the live slot `at`, which is due at `due`: it expires, or waits again. A slot that is checked before its
    /// deadline waits even if the deadline has passed by now, so that keys expire in the order of deadlines.
    fn look_at(&mut self, at: SlotId, due: Due) {
        let policy = self.policy(at);
        if let (Some(table_side), Some(down)) = (self.table_side(at), self.down(at)) {
            let stamp = table_side.cell.stamp();
            if stamp > down.last_beat {
                self.recover(at, stamp);
            }
        }
        let down = self.down(at);
        let is_silent = |last_beat: u64| {
            let deadline = match &down {
                None => last_beat.saturating_add(policy.timeout),
                Some(down) => self.deadline_of_down(policy, down),
            };
            let at = self.grace.adjust(deadline, policy.timeout);
            Due { at, deadline } <= due
        };
        let is_forgotten = down.is_some_and(|down| self.forgotten_at(&down) <= due.deadline);
        let end = match policy.mode {
            Mode::Repeat | Mode::Track if !is_forgotten => HeartState::Down,
            _ => HeartState::Expired,
        };
        let last_beat = self.last_beat(at);
        let judged = match self.table_side(at) {
            _ if !is_silent(last_beat) => None,
            None => Some(last_beat),
            Some(table_side) => table_side.end_if(end, is_silent),
        };
        match judged {
            Some(_) if is_forgotten => self.forget_down(at),
            Some(last_beat) => self.expire_slot(at, policy, last_beat),
            None => self.reschedule(at, policy),
        }
    }

    /// Handles the missed deadline of the live slot `at` after the beat at `last_beat`. A heart may have stored a later
    /// stamp since that decision, which the report must not contain.
    fn expire_slot(&mut self, at: SlotId, policy: Policy, last_beat: u64) {
        let deadline = self.deadline_after(at, last_beat);
        self.detection.record(self.now.saturating_sub(deadline));
        self.counts.expiries += 1;
        if policy.mode != Mode::Once {
            return self.miss(at, policy, last_beat, deadline);
        }
        self.unlink(at);
        self.slab[at].stamp = last_beat;
        if let Some(table_side) = self.hearts.get_mut(at.index()) {
            *table_side = None;
        }
        self.clear_down(at);
        self.leave(at);
        self.slab.body_mut(at).state = State::Pending;
        if self.config.wanted.has(EventKind::Expired) {
            self.counts.pending += 1;
            // The delivery needs the index entry, and the cache miss of this read overlaps with that of the next slot.
            black_box(self.index.warm(self.slab[at].tag));
            self.queue.push_expired(&mut self.slab, at, self.now);
        } else {
            self.counts.discarded += 1;
            self.free(at);
        }
    }

    /// Ends the episode of slot `at`, which has been down long enough to be forgotten.
    fn forget_down(&mut self, at: SlotId) {
        if let Some((position, _)) = self.index.find(self.slab[at].tag, |slot| slot == at) {
            self.remove_live(at, position, HeartState::Expired);
        }
    }

    /// Records that slot `at`, which stays watched, missed `deadline` after the beat at `last_beat`: it is down, and
    /// reported.
    ///
    /// While its last report waits for the sink, no other is added. The waiting report will contain the number of
    /// misses at that time. If the key had recovered meanwhile, that recovery is folded into the silence.
    fn miss(&mut self, at: SlotId, policy: Policy, last_beat: u64, deadline: u64) {
        let was_down = self.down(at).is_some();
        let down = self.downs.entry(at).or_insert(Down {
            since: deadline,
            last_beat,
            reported: self.now,
            misses: 0,
            is_queued: false,
            mode: policy.mode,
            deadline,
            detected: self.now,
            recovery: None,
        });
        let is_folded = down.recovery.take().is_some();
        let is_reported = self.config.wanted.has(EventKind::Expired) && !down.is_queued;
        if is_folded || is_reported {
            (down.mode, down.deadline, down.detected) = (policy.mode, deadline, self.now);
        }
        down.misses += 1;
        down.last_beat = last_beat;
        down.reported = self.now;
        down.is_queued |= is_reported;
        self.counts.down += u64::from(!was_down);
        self.counts.folded += u64::from(is_folded);
        self.unlink(at);
        self.slab[at].stamp = self.now;
        self.reschedule(at, policy);
        if is_reported {
            let generation = self.slab.body(at).generation.get();
            self.queue.push(Item::Report {
                slot: at,
                generation,
            });
        }
    }
}
