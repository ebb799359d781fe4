//! The first messages of a connection.

use std::fmt;

use bytes::Bytes;

use crate::server::EncodeError;
use crate::server::codec::{Codec, Encode, Head};
use crate::server::wire::Wire;

/// The first messages of a connection, passed to [`greet`](super::ClientBuilder::greet).
pub struct Greeting<C> {
    /// How messages are written.
    wire: Wire<C>,
    /// The frames.
    frames: Vec<Bytes>,
    /// The first error.
    error: Option<EncodeError>,
}

impl<C: Codec> Greeting<C> {
    /// Creates an empty greeting.
    pub(super) fn new(wire: Wire<C>) -> Self {
        Greeting {
            wire,
            frames: Vec::new(),
            error: None,
        }
    }

    /// Adds a message. If it has no encoding, the connection is closed.
    pub fn send<B: Encode<C> + ?Sized>(&mut self, name: &str, body: &B) -> &mut Self {
        let mut frame = Vec::new();
        match self.wire.encode(Head::new(name), body, &mut frame) {
            Ok(()) => self.frames.push(frame.into()),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Returns the frames, or the first error.
    pub(super) fn into_frames(self) -> Result<Vec<Bytes>, EncodeError> {
        match self.error {
            None => Ok(self.frames),
            Some(error) => Err(error),
        }
    }
}

impl<C> fmt::Debug for Greeting<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeting")
            .field("messages", &self.frames.len())
            .finish_non_exhaustive()
    }
}
