//! Judging the deadlines that were missed.

use super::super::codec::Codec;
use super::super::session::Kind;
use super::connections::Stage;
use super::deadlines::Watch;
use super::{MAX_ENDS, Reactor};

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Judges the deadlines that were missed.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let Watch { watcher, overdue } = &mut self.watch;
        let slab = &mut self.slab;
        watcher.poll(now, |event| {
            let Some(event) = event.into_key_event() else {
                return;
            };
            let (slot, kind) = event.key;
            // A connection that has ended has no keys.
            if let Some(connection) = slab.get_mut(slot) {
                connection.session.fired(kind);
                let place = connection.agent.place();
                overdue.push_back((place, kind, event.deadline.unwrap_or(now)));
            }
        });
        let mut ends = 0;
        while ends < MAX_ENDS
            && let Some((place, kind, deadline)) = self.watch.overdue.pop_front()
        {
            let Some(slot) = self.find(place) else {
                continue;
            };
            if kind == Kind::Silence && self.slab[slot].session.wants_read() {
                // The last look.
                self.read(slot);
            }
            let connection = &mut self.slab[slot];
            if kind == Kind::Drain {
                // Room is announced when a third of the socket's buffer is free, which takes a slow reader long.
                connection.is_writable = true;
                connection.flush(now, &mut self.traffic);
            }
            connection.session.expired(kind, now, now - deadline);
            let has_ended = connection.session.cause().is_some();
            ends += usize::from(has_ended && connection.stage != Stage::Closing);
            self.mark_dirty(slot);
        }
    }
}
