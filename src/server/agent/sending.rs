//! Sending: what is queued is counted before it is.

use std::cell::Cell;

use bytes::Bytes;

use super::super::close::Cause;
use super::super::codec::{Codec, Encode, EncodeError, Fault, Head, RequestId};
use super::super::error::SendError;
use super::super::hub::{Command, Frames, Hub};
use super::super::limits::Overflow;
use super::super::shortcut::Draft;
use super::super::wire::Wire;
use super::{Agent, Inner};
use crate::sync::atomic::Ordering;

/// How much room a frame is given before it is encoded, bytes: enough for a short message.
const FRAME: usize = 128;

/// Whose room is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The connection's.
    Connection,
    /// That of all connections together.
    Server,
}

impl<C: Codec, T> Agent<C, T> {
    /// Sends a message named `name`. `Ok` means that it is queued.
    ///
    /// If too many bytes wait, the [`Overflow`] of the server applies. With [`Overflow::Block`] this waits, but not on
    /// threads of the server itself, which would wait for themselves.
    ///
    /// # Errors
    ///
    /// Returns a [`SendError`] if the connection is closed, if too many bytes wait, or if the body has no encoding.
    pub fn send<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        self.send_head(Head::new(name), body, true)
    }

    /// Sends a message like [`send`](Agent::send), but never waits.
    ///
    /// # Errors
    ///
    /// Returns the errors of `send`.
    pub fn try_send<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        self.send_head(Head::new(name), body, false)
    }

    /// Sends a message to all members of a room of this agent's server, like
    /// [`Server::publish`](super::super::Server::publish).
    ///
    /// # Errors
    ///
    /// Returns the errors of that method.
    pub fn publish<B: Encode<C> + ?Sized>(
        &self,
        room: &str,
        name: &str,
        body: &B,
    ) -> Result<(), SendError> {
        publish(&self.inner.hub, Some(room), name, body)
    }

    /// Sends a message to all connections of this agent's server, like
    /// [`Server::broadcast`](super::super::Server::broadcast).
    ///
    /// # Errors
    ///
    /// Returns the errors of that method.
    pub fn broadcast<B: Encode<C> + ?Sized>(&self, name: &str, body: &B) -> Result<(), SendError> {
        publish(&self.inner.hub, None, name, body)
    }

    /// Sends a message.
    pub(crate) fn send_head<B: Encode<C> + ?Sized>(
        &self,
        head: Head<'_>,
        body: &B,
        may_wait: bool,
    ) -> Result<(), SendError> {
        self.send_frame(may_wait, |wire, out| wire.encode(head, body, out))
    }

    /// Answers the request `re` with a fault.
    pub(crate) fn send_fault(&self, fault: &Fault, re: Option<RequestId>) -> Result<(), SendError> {
        self.send_frame(true, |wire, out| wire.encode_fault(fault, re, out))
    }

    /// Sends the frame that `encode` appends to the session.
    fn send_frame(
        &self,
        may_wait: bool,
        encode: impl FnOnce(Wire<C>, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), SendError> {
        let wire = self.wire().ok_or(SendError::Closed)?;
        if let Some(mut draft) = Draft::begin(self.address()) {
            encode(wire, draft.buffer())?;
            self.admit(draft.len(), may_wait)?;
            draft.keep();
            return Ok(());
        }
        let Inner { hub, place, .. } = &*self.inner;
        let mut frame = Vec::with_capacity(FRAME);
        encode(wire, &mut frame)?;
        let len = frame.len();
        self.admit(len, may_wait)?;
        if hub.ask(*place, Command::Send(*place, frame)) {
            Ok(())
        } else {
            self.inner.queued.fetch_sub(len, Ordering::AcqRel);
            hub.give_back(len);
            hub.announce_room();
            Err(SendError::Closed)
        }
    }

    /// Reserves room for a frame of `len` bytes.
    fn admit(&self, len: usize, may_wait: bool) -> Result<(), SendError> {
        let hub = &self.inner.hub;
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        if len > hub.outbound {
            return Err(SendError::TooBig);
        }
        if let Err(full) = self.reserve(len) {
            match hub.overflow {
                Overflow::Close if full == Full::Connection => {
                    // Before the refusal returns, so that no later message is accepted.
                    let why = "too many bytes wait to be read".to_owned();
                    self.end(Cause::SlowConsumer, None, why);
                    return Err(SendError::Full);
                }
                Overflow::Block(within) if may_wait && !hub.is_own_thread() => {
                    let is_reserved = Cell::new(false);
                    hub.wait_for_room(within, || {
                        is_reserved.set(self.is_open() && self.reserve(len).is_ok());
                        is_reserved.get() || !self.is_open()
                    });
                    if !is_reserved.get() {
                        let is_open = self.is_open();
                        return Err(if is_open {
                            SendError::Full
                        } else {
                            SendError::Closed
                        });
                    }
                }
                _ => return Err(SendError::Full),
            }
        }
        Ok(())
    }

    /// Reserves `len` bytes, if there is room. A failure leaves no trace that could make another sender fail.
    fn reserve(&self, len: usize) -> Result<(), Full> {
        let Inner { hub, queued, .. } = &*self.inner;
        let take = |mine: usize| {
            let sum = mine.checked_add(len)?;
            (sum <= hub.outbound).then_some(sum)
        };
        if take(self.queued()).is_none() {
            return Err(Full::Connection);
        }
        if !hub.take(len) {
            return Err(Full::Server);
        }
        let taken = queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        if taken.is_err() {
            // Another sender took the room in between.
            hub.give_back(len);
            return Err(Full::Connection);
        }
        Ok(())
    }

    /// Counts that `before` bytes of what is queued, which were in the session or came to it, have become `after`.
    pub(crate) fn recount(&self, before: usize, after: usize) {
        let Inner { hub, queued, .. } = &*self.inner;
        if after > before {
            queued.fetch_add(after - before, Ordering::AcqRel);
            hub.buffered.fetch_add(after - before, Ordering::AcqRel);
        } else if after < before {
            queued.fetch_sub(before - after, Ordering::AcqRel);
            hub.give_back(before - after);
        }
    }
}

/// Sends a message to the members of a room or to all connections, encoded in each form that connections need.
pub(crate) fn publish<C: Codec, B: Encode<C> + ?Sized>(
    hub: &Hub<C>,
    room: Option<&str>,
    name: &str,
    body: &B,
) -> Result<(), SendError> {
    let encode = |wire: Wire<C>| {
        let mut frame = Vec::new();
        wire.encode(Head::new(name), body, &mut frame)?;
        Ok((wire, Bytes::from(frame)))
    };
    let frames: Result<Frames<C>, EncodeError> = hub.wires().into_iter().map(encode).collect();
    hub.publish(room, &frames?)
}
