//! What other threads ask of a reactor.

use std::sync::atomic::Ordering;

use super::super::codec::Codec;
use super::super::hub::Command;
use super::super::shortcut;
use super::Reactor;

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Does what other threads ask for.
    pub(super) fn obey(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        shortcut::begin_to_obey();
        self.core.hub.inboxes[self.index].take(&mut commands);
        for command in commands.drain(..) {
            self.obey_one(command);
        }
        shortcut::has_obeyed();
        if commands.capacity() > 4_096 {
            commands = Vec::new();
        }
        self.commands = commands;
    }

    /// Does what another thread asks for.
    fn obey_one(&mut self, command: Command<C>) {
        let now = self.now;
        match command {
            Command::Adopt(channel, peer, port) => self.adopt(channel, peer, port),
            Command::Send(place, frame) => {
                let len = frame.len();
                if let Some(slot) = self.find(place) {
                    let connection = &mut self.slab[slot];
                    // It was counted when it was sent, and is until it is written or discarded.
                    connection.charged += len;
                    // The report has what is refused as not sent.
                    if connection.session.send(frame, now).is_err() {
                        connection.rare().refused += len as u64;
                    }
                    self.mark_dirty(slot);
                } else {
                    // The connection has ended.
                    self.core.hub.give_back(len);
                    self.has_room = true;
                }
            }
            Command::Close(place, cause, code, reason) => {
                if let Some(slot) = self.find(place) {
                    self.slab[slot].session.close(cause, code, reason, now);
                    self.mark_dirty(slot);
                }
            }
            Command::Decide(place, request, decided) => {
                if let Some(slot) = self.find(place) {
                    self.decide(slot, &request, decided);
                }
            }
            Command::Resume(place) => {
                // The strand may have become full again since; another command follows then.
                if let Some(slot) = self.find(place)
                    && !self.slab[slot].agent.jobs().is_full()
                {
                    self.slab[slot].session.resume();
                    self.mark_dirty(slot);
                }
            }
            Command::Handled(place) => {
                if let Some(slot) = self.find(place) {
                    self.slab[slot].session.handled();
                    self.mark_dirty(slot);
                }
            }
            Command::ResumeAll => {
                for slot in self.slab.slots() {
                    if self.core.pool.relent(self.slab[slot].agent.jobs()) {
                        self.slab[slot].session.resume();
                        self.mark_dirty(slot);
                    }
                }
            }
            Command::Join(place, room, is_joining) => {
                if let Some(slot) = self.find(place) {
                    self.slab.join(slot, room, is_joining);
                }
            }
            Command::Publish(room, frames) => {
                // From now on they count where they wait.
                self.core.hub.took(&frames);
                for slot in self.slab.members(room.as_ref()) {
                    let connection = &mut self.slab[slot];
                    let wire = connection.session.wire();
                    let frame = frames.iter().find(|(it, _)| *it == wire);
                    let Some((_, frame)) = frame.filter(|_| connection.session.is_open()) else {
                        continue;
                    };
                    let hub = &self.core.hub;
                    let buffered = hub.buffered.load(Ordering::Acquire);
                    let is_over = buffered + frame.len() > hub.max_buffered && {
                        // A peer that takes what it is sent does not suffer from the others.
                        connection.flush(now, &mut self.traffic);
                        connection.session.queued() > 0
                    };
                    let sent = if is_over {
                        Err(connection.session.refuse_message(now))
                    } else {
                        connection.session.send(frame.clone(), now)
                    };
                    if sent.is_err() {
                        connection.rare().refused += frame.len() as u64;
                    }
                    connection.recount();
                    self.mark_dirty(slot);
                }
            }
            Command::StopListening(done) => {
                self.listeners.close(self.poll.registry());
                // The caller may have given up.
                let _ = done.send(());
            }
            Command::Shutdown(spread, cut) => self.begin_end(spread, cut),
        }
    }
}
