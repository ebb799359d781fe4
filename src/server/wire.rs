//! How a message becomes the bytes of a connection: the codec within the framing.

use super::codec::{Codec, Encode, EncodeError, Fault, Head, RequestId};
use super::framing::Framing;
use super::websocket::{self, Opcode, Role};
use crate::panic::catch_panic;

/// What is between the peer and this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// A stream of messages that are delimited in this way.
    Tcp(Framing),
    /// WebSocket.
    WebSocket,
}

/// How the messages of a connection are written. Connections whose wires are equal can share a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wire<C> {
    /// What delimits them.
    pub(crate) link: Link,
    /// What encodes them.
    pub(crate) codec: C,
    /// The side that writes them.
    pub(crate) role: Role,
}

impl<C: Codec> Wire<C> {
    /// Appends a whole frame with a message to `out`.
    ///
    /// # Errors
    ///
    /// Returns the error of the body's encoding, or that the message is too long for its framing. `out` is then as it
    /// was.
    pub(crate) fn encode<B: Encode<C> + ?Sized>(
        self,
        head: Head<'_>,
        body: &B,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.frame(head.name, out, |codec, out| {
            codec.join(head, out, |out| body.encode(codec, out))
        })
    }

    /// Appends a whole frame with a message whose body is encoded already to `out`. A panic of the codec is an error.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`encode`](Wire::encode).
    pub(crate) fn encode_raw(
        self,
        head: Head<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        guarded(out, |out| {
            self.frame(head.name, out, |codec, out| {
                codec.join(head, out, |out| {
                    out.extend_from_slice(body);
                    Ok(())
                })
            })
        })
    }

    /// Appends a whole frame with a fault, which answers the request `re` if there is one, to `out`. A panic of the
    /// codec is an error.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`encode`](Wire::encode).
    pub(crate) fn encode_fault(
        self,
        fault: &Fault,
        re: Option<RequestId>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        guarded(out, |out| {
            self.frame(Fault::NAME, out, |codec, out| {
                codec.join_fault(fault, re, out)
            })
        })
    }

    /// Appends a frame around the message `name`, which `payload` appends.
    fn frame(
        self,
        name: &str,
        out: &mut Vec<u8>,
        payload: impl FnOnce(C, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let framed = self.try_frame(name, start, out, payload);
        if framed.is_err() {
            out.truncate(start);
        }
        framed
    }

    /// Appends a frame like [`frame`](Wire::frame), but may leave a part of it.
    fn try_frame(
        self,
        name: &str,
        start: usize,
        out: &mut Vec<u8>,
        payload: impl FnOnce(C, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let prefix = match self.link {
            Link::Tcp(framing) => framing.prefix(),
            Link::WebSocket => self.role.header(),
        };
        out.extend_from_slice(&[0; 6][..prefix]);
        payload(self.codec, out)?;
        let len = out.len() - start - prefix;
        if len == 0 && self.link != Link::WebSocket {
            // Peers take a length of zero for an error.
            return Err(EncodeError::new("the message is empty"));
        }
        match self.link {
            Link::WebSocket => {
                let opcode = if self.codec.sends_text(name) {
                    Opcode::Text
                } else {
                    Opcode::Binary
                };
                websocket::seal(out, start, opcode, self.role);
            }
            Link::Tcp(Framing::Lines) => {
                if out[start..].contains(&b'\n') {
                    return Err(EncodeError::new("a line must not contain a line feed"));
                }
                out.push(b'\n');
            }
            Link::Tcp(framing) => {
                if len > framing.longest() {
                    return Err(EncodeError::new("the message is too long for its framing"));
                }
                let bytes = (len as u64).to_be_bytes();
                out[start..start + prefix].copy_from_slice(&bytes[8 - prefix..]);
            }
        }
        Ok(())
    }
}

/// Calls `code`, which appends to `out` by a codec that may panic.
fn guarded(
    out: &mut Vec<u8>,
    code: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    catch_panic(|| code(out)).unwrap_or_else(|| {
        out.truncate(start);
        Err(EncodeError::new("the codec panicked"))
    })
}
