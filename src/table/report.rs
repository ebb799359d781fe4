//! The status of a key, and events about it.

use super::Table;
use super::ids::SlotId;
use super::queue::Item;
use crate::clock::{self, Timestamp};
use crate::event::{Event, EventKind, KeyEvent};
use crate::status::Status;

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Returns the status of the live slot `at`, with a copy of its value.
    pub(super) fn full_status_of(&self, at: SlotId) -> Status<V> {
        let extra = self.slab.body(at).extra.clone();
        self.status_of(at).with_extra(extra)
    }

    /// Returns the status of the live slot `at`, without its value.
    pub(super) fn status_of(&self, at: SlotId) -> Status {
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
            // A stamp may be slightly later than the reading that the table uses.
            as_of: Timestamp::from_nanos(self.now.max(last_beat)),
        }
    }

    /// Creates an event about slot `at`, detected now, with copies of its key and value.
    pub(super) fn event_about(&self, at: SlotId) -> KeyEvent<K, V> {
        let body = self.slab.body(at);
        Self::event_of(
            &self.status_of(at),
            body.key.clone(),
            body.extra.clone(),
            self.now,
        )
    }

    /// Queues an event about the live slot `at`, if its kind is wanted.
    #[inline]
    pub(super) fn notify(&mut self, kind: EventKind, at: SlotId) {
        if self.config.wanted.has(kind) {
            self.queue_notice(kind, at);
        }
    }

    /// Queues an event about the live slot `at`; a `Beat` only while the queue is short.
    #[cold]
    pub(super) fn queue_notice(&mut self, kind: EventKind, at: SlotId) {
        if kind == EventKind::Beat && self.queue.is_pressed() {
            self.counts.beat_events_dropped += 1;
            return;
        }
        self.queue
            .push(Item::Notice(Event::of_key(kind, self.event_about(at))));
    }

    /// Creates an event about a key with `status`, without misses.
    pub(super) fn event_of(
        status: &Status,
        key: K,
        extra: Option<V>,
        detected: u64,
    ) -> KeyEvent<K, V> {
        // A stamp may be slightly later than the reading that the table uses.
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
}
