//! Offering events to the sink, and restoring them if it has no room.

use super::Table;
use super::ids::SlotId;
use super::queue::Item;
use super::slab::{Body, State};
use crate::clock::{self, NEVER, Timestamp};
use crate::event::{Event, EventKind, Generation};
use crate::sink::Refused;

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Returns whether an event waits for the sink.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns how many items were ever queued for the sink.
    pub(crate) fn queued(&self) -> u64 {
        self.queue.pushed()
    }

    /// Returns how many of them have left the queue for good.
    pub(crate) fn unqueued(&self) -> u64 {
        self.queue.popped()
    }

    /// Passes the event at the head of the queue to `offer`. Returns `None` if there is none, otherwise whether the
    /// sink had no room. An event that no sink will ever take is dropped and counted as discarded.
    pub(crate) fn deliver(
        &mut self,
        offer: &mut impl FnMut(Event<K, V>) -> Result<(), Refused<K, V>>,
    ) -> Option<bool> {
        let full = match self.queue.pop(&mut self.slab)? {
            Item::Expired { slot, detected } => self.deliver_expired(slot, detected, offer),
            Item::Report { slot, generation } => self.deliver_report(slot, generation, offer),
            Item::Notice(event) => match offer(event) {
                Err(Refused::Full(event)) => {
                    self.queue.put_back(&mut self.slab, Item::Notice(event));
                    true
                }
                offered => {
                    was_taken(offered);
                    false
                }
            },
        };
        Some(full)
    }

    /// Discards the events that the sink has not taken.
    pub(crate) fn discard_pending(&mut self) {
        while self
            .deliver(&mut |event| Err(Refused::Gone(event)))
            .is_some()
        {}
    }

    /// Counts the events that the sink has not taken as discarded, and touches nothing else, because a panic may have
    /// left the table in any state.
    pub(crate) fn give_up(&mut self) {
        self.counts.discarded += std::mem::take(&mut self.counts.pending);
    }

    /// Drops every key and value one by one, because each may panic, and closes the hearts. The table cannot be used
    /// afterwards.
    pub(crate) fn dismantle(&mut self) {
        self.hearts.clear();
        self.queue.dismantle();
        self.slab.dismantle();
    }

    /// Offers the expiry of the pending slot `at`, or its removal if it was cancelled. Returns whether the sink had no
    /// room.
    fn deliver_expired(
        &mut self,
        at: SlotId,
        detected: u64,
        offer: &mut impl FnMut(Event<K, V>) -> Result<(), Refused<K, V>>,
    ) -> bool {
        let is_removal = self.slab.body(at).state == State::Cancelled;
        if is_removal && !self.config.wanted.has(EventKind::Removed) {
            self.free(at);
            return false;
        }
        let status = self.status_of(at);
        let body = self.slab.lift(at);
        let mut event = Self::event_of(&status, body.key, body.extra, detected);
        let event = if is_removal {
            Event::Removed(event)
        } else {
            event.misses = 1;
            Event::Expired(event)
        };
        let is_taken = match offer(event) {
            Err(Refused::Full(event)) => {
                let Some(event) = event.into_key_event() else {
                    unreachable!("a sink hands back what it was offered")
                };
                self.slab.put_back(
                    at,
                    Body {
                        key: event.key,
                        extra: event.extra,
                        ..body
                    },
                );
                self.queue
                    .put_back(&mut self.slab, Item::Expired { slot: at, detected });
                return true;
            }
            offered => was_taken(offered),
        };
        let state = body.state;
        self.vacate(at, state);
        if state == State::Superseded || state == State::Pending {
            self.counts.pending -= 1;
            *(if is_taken {
                &mut self.counts.delivered
            } else {
                &mut self.counts.discarded
            }) += 1;
        }
        false
    }

    /// Offers the report that the key of `generation` in slot `at` is down. Returns whether the sink had no room. The
    /// report of an episode that has ended meanwhile is dropped.
    fn deliver_report(
        &mut self,
        at: SlotId,
        generation: Generation,
        offer: &mut impl FnMut(Event<K, V>) -> Result<(), Refused<K, V>>,
    ) -> bool {
        let is_over = !self.slab.holds(at, generation) || !self.is_live(at);
        let (false, Some(down)) = (is_over, self.downs.get(&at).copied()) else {
            return false;
        };
        let mut event = self.event_about(at);
        event.mode = down.mode;
        event.misses = down.misses;
        event.last_beat = Timestamp::from_nanos(down.last_beat);
        event.deadline = clock::deadline(down.deadline);
        event.detected = Timestamp::from_nanos(down.detected).max(event.last_beat);
        event.delivered = event.detected;
        let offered = offer(Event::Expired(event));
        if let Err(Refused::Full(_)) = offered {
            let report = Item::Report {
                slot: at,
                generation,
            };
            self.queue.put_back(&mut self.slab, report);
            return true;
        }
        was_taken(offered);
        if let Some(recovery) = down.recovery {
            self.downs.remove(&at);
            if self.config.wanted.has(EventKind::Recovered) {
                let event = self.recovered_event(at, &down, recovery);
                self.queue.push_front(Item::Notice(event));
            }
        } else if let Some(down) = self.downs.get_mut(&at) {
            down.is_queued = false;
            if self.config.forget_after != NEVER {
                self.reschedule(at, self.policy(at));
            }
        }
        false
    }

    /// Vacates slot `at`, whose event no longer waits, and drops its contents.
    pub(super) fn free(&mut self, at: SlotId) {
        let state = self.slab.lift(at).state;
        self.vacate(at, state);
    }

    /// Vacates slot `at`, whose body with `state` has been taken out.
    pub(super) fn vacate(&mut self, at: SlotId, state: State) {
        let (tag, list) = (self.slab[at].tag, self.slab[at].list);
        if state == State::Pending
            && let Some((position, _)) = self.index.find(tag, |slot| slot == at)
        {
            self.index.remove(position);
        }
        if state == State::Superseded {
            self.older.remove(&self.slab[at].prev);
        }
        self.slab.vacate(at);
        self.lists.release(list);
        if let Some(limit) = &mut self.limit {
            limit.give_back();
        }
    }
}

/// Returns whether the sink took the offered event. An event that it returns is dropped.
fn was_taken<K, V>(offered: Result<(), Refused<K, V>>) -> bool {
    match offered {
        Ok(()) => true,
        Err(Refused::Full(event) | Refused::Gone(event)) => {
            event.dismantle();
            false
        }
    }
}
