//! A codec without envelopes: the body is the whole message. Text comes back as text, and bytes as bytes.

use std::num::NonZeroU64;

use liveness::server::{Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Head};

/// The name of messages that are text.
pub(crate) const TEXT: &str = "text";

/// The name of messages of bytes.
pub(crate) const BYTES: &str = "bytes";

/// Messages that are their bodies. Their names say what kind of frame they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Raw;

impl Raw {
    /// Returns the message `name` that is `body`.
    fn envelope<'a>(name: &'static str, body: &'a [u8]) -> Envelope<'a> {
        Envelope {
            name: name.into(),
            body,
            id: None,
            re: None,
        }
    }
}

impl Codec for Raw {
    fn subprotocol(self) -> &'static str {
        "raw"
    }

    fn is_text(self) -> bool {
        true
    }

    fn sends_text(self, name: &str) -> bool {
        name == TEXT
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        Ok(Self::envelope(BYTES, message))
    }

    fn split_text(self, message: &str) -> Result<Envelope<'_>, DecodeError> {
        Ok(Self::envelope(TEXT, message.as_bytes()))
    }

    fn join(
        self,
        _: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        body(out)
    }

    fn empty(self) -> &'static [u8] {
        b""
    }

    fn join_fault(
        self,
        fault: &Fault,
        _: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(fault.message.as_bytes());
        Ok(())
    }

    fn split_fault(self, _: &[u8]) -> Option<Fault> {
        None
    }
}

/// A body as it is, in any encoding.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Vec<u8>);

/// Lets [`Bytes`] be a body of these codecs.
macro_rules! pass_bytes_on {
    ($($codec:ty),*) => {$(
        impl Encode<$codec> for Bytes {
            fn encode(&self, _: $codec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&self.0);
                Ok(())
            }
        }

        impl Decode<$codec> for Bytes {
            fn decode(_: $codec, body: &[u8]) -> Result<Self, DecodeError> {
                Ok(Bytes(body.to_vec()))
            }
        }
    )*};
}

pass_bytes_on!(
    Raw,
    liveness::server::Json,
    liveness::server::MsgPack,
    liveness::server::Protobuf
);
