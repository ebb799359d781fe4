//! Sending to the connection from which a message is being received.

use super::super::codec::{Codec, Encode, EncodeError, Fault, Head, RequestId};
use super::super::limits::{Limits, Overflow};
use super::super::outbox::Outbox;
use super::super::wire::Wire;

/// Why a message is not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The session has ended, or has not begun.
    Closed,
    /// Too many bytes wait.
    Full,
    /// The message has no encoding.
    Encode(EncodeError),
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        SendError::Encode(error)
    }
}

/// Sends to the connection from which a message is being received.
#[derive(Debug)]
pub(crate) struct Outlet<'a, C> {
    /// How messages are written.
    pub(super) wire: Wire<C>,
    /// The limits.
    pub(super) limits: &'a Limits,
    /// What waits to be written.
    pub(super) outbox: &'a mut Outbox,
    /// Whether the limit was exceeded.
    pub(super) is_overflowing: &'a mut bool,
}

impl<C: Codec> Outlet<'_, C> {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Returns why it is not sent.
    pub(crate) fn send<B: Encode<C> + ?Sized>(
        &mut self,
        head: Head<'_>,
        body: &B,
    ) -> Result<(), SendError> {
        let wire = self.wire;
        self.append(|out| wire.encode(head, body, out))
    }

    /// Sends a message whose body is encoded already.
    ///
    /// # Errors
    ///
    /// Returns why it is not sent.
    pub(crate) fn send_raw(&mut self, head: Head<'_>, body: &[u8]) -> Result<(), SendError> {
        let wire = self.wire;
        self.append(|out| wire.encode_raw(head, body, out))
    }

    /// Sends a fault, as the answer to the request `re` if there is one.
    ///
    /// # Errors
    ///
    /// Returns why it is not sent.
    pub(crate) fn fault(&mut self, fault: &Fault, re: Option<RequestId>) -> Result<(), SendError> {
        let wire = self.wire;
        self.append(|out| wire.encode_fault(fault, re, out))
    }

    /// Appends a message and takes it back if it exceeds the limit.
    fn append(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), SendError> {
        if self.outbox.is_sealed() || *self.is_overflowing {
            return Err(SendError::Closed);
        }
        let before = self.outbox.queued();
        self.outbox.append(write)?;
        if self.outbox.queued() > self.limits.outbound {
            self.outbox.retract(self.outbox.queued() - before);
            *self.is_overflowing = self.limits.overflow == Overflow::Close;
            return Err(SendError::Full);
        }
        Ok(())
    }
}
