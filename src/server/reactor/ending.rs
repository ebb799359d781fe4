//! The end of a reactor.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::close::Cause;
use super::super::codec::Codec;
use super::super::hub::{Command, later};
use super::connections::Stage;
use super::{Ending, Reactor};

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Removes what is left and ends.
    pub(super) fn finish(&mut self) {
        let rest = self.core.hub.inboxes[self.index].close();
        for command in rest {
            match command {
                Command::Send(_, frame) => self.core.hub.give_back(frame.len()),
                Command::Publish(_, frames) => self.core.hub.took(&frames),
                Command::Adopt(..) => {
                    let mut stats = self.core.hub.stats.lock();
                    stats.handshaking -= 1;
                    stats.refused += 1;
                }
                _ => {}
            }
        }
        self.core.hub.announce_room();
    }

    /// Begins to close all connections.
    pub(super) fn begin_end(&mut self, spread: Duration, cut: Instant) {
        let slots = self.slab.slots();
        let began = Instant::now();
        let mut order = VecDeque::new();
        let count = slots.len().max(1) as u32;
        for (index, slot) in slots.into_iter().enumerate() {
            let connection = &self.slab[slot];
            // A handshake need not wait for its turn.
            let wait = if connection.stage == Stage::Open {
                spread / count * index as u32
            } else {
                Duration::ZERO
            };
            order.push_back((later(began, wait), connection.agent.place()));
        }
        order.make_contiguous().sort_by_key(|(at, _)| *at);
        self.ending = Some(Ending { order, cut });
    }

    /// Closes the connections whose turn it is.
    pub(super) fn end_in_turn(&mut self) {
        let Some(Ending { mut order, cut }) = self.ending.take() else {
            return;
        };
        let (instant, now) = (Instant::now(), self.now);
        while let Some(&(at, place)) = order.front()
            && at <= instant
        {
            order.pop_front();
            if let Some(slot) = self.find(place) {
                let why = "the server shuts down".to_owned();
                self.slab[slot]
                    .session
                    .close(Cause::Shutdown, None, why, now);
                self.mark_dirty(slot);
            }
        }
        if instant >= cut {
            for slot in self.slab.slots() {
                let connection = &mut self.slab[slot];
                if connection.was_reported {
                    self.core.hub.cut.lock().push(connection.agent.id().get());
                }
                let session = &mut connection.session;
                session.close(Cause::Shutdown, None, "cut".to_owned(), now);
                session.failed(now);
                self.mark_dirty(slot);
            }
        }
        self.ending = Some(Ending { order, cut });
    }

    /// Returns whether the reactor has nothing more to do.
    pub(super) fn has_ended(&self) -> bool {
        self.ending.is_some() && self.slab.is_empty()
    }
}
