//! Envelopes and bodies: what a message says, without how it is delimited.

#[cfg(feature = "json")]
pub(crate) mod json;
#[cfg(feature = "msgpack")]
pub(crate) mod msgpack;
#[cfg(feature = "protobuf")]
pub(crate) mod protobuf;
#[cfg(any(feature = "msgpack", feature = "protobuf"))]
mod shift;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;

/// The number by which an answer is matched with its request. Zero on the wire means none.
pub(crate) type RequestId = NonZeroU64;

/// What a message says besides its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The name of the message, by which it is routed.
    pub name: &'a str,
    /// The number of the request, if this is one.
    pub id: Option<NonZeroU64>,
    /// The number of the request that this answers, if it is an answer.
    pub re: Option<NonZeroU64>,
}

impl<'a> Head<'a> {
    /// Creates the head of a message that is neither a request nor an answer.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        Head {
            name,
            id: None,
            re: None,
        }
    }

    /// Makes the message a request with this number.
    #[must_use]
    pub fn id(mut self, id: Option<NonZeroU64>) -> Self {
        self.id = id;
        self
    }

    /// Makes the message the answer to the request with this number.
    #[must_use]
    pub fn re(mut self, re: Option<NonZeroU64>) -> Self {
        self.re = re;
        self
    }
}

/// A message that was received, with its body still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The name of the message, by which it is routed.
    pub name: Cow<'a, str>,
    /// The body, in the encoding of the codec.
    pub body: &'a [u8],
    /// The number of the request, if this is one.
    pub id: Option<NonZeroU64>,
    /// The number of the request that this answers, if it is an answer.
    pub re: Option<NonZeroU64>,
}

/// An error that is sent to a peer, or was received from one: the message named `Error`.
///
/// ```
/// use liveness::server::Fault;
///
/// assert_eq!(Fault::new(17, "no such room").to_string(), "error 17: no such room");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// A number for programs.
    pub code: u32,
    /// A text for people.
    pub message: String,
}

impl Fault {
    /// The name of the message.
    pub(crate) const NAME: &'static str = "Error";

    /// Creates a fault.
    #[must_use]
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Fault {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    /// Writes the code and the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.message)
    }
}

impl Error for Fault {}

/// The encoding of messages: how an envelope is put together and taken apart. Bodies are encoded by [`Encode`] and
/// [`Decode`].
///
/// The default value is the codec of a connection that negotiates none.
pub trait Codec: Copy + Default + Eq + fmt::Debug + Send + Sync + 'static {
    /// Returns the subprotocol of WebSocket that stands for this codec, such as `liveness.json`.
    fn subprotocol(self) -> &'static str;

    /// Returns whether messages are sent as text on WebSocket. Such a codec accepts text and bytes, any other one only
    /// bytes.
    fn is_text(self) -> bool;

    /// Returns whether messages named `name` are sent as text on WebSocket, for a codec that uses text and bytes.
    /// Default: [`is_text`](Codec::is_text).
    fn sends_text(self, name: &str) -> bool {
        let _ = name;
        self.is_text()
    }

    /// Returns the codec for a subprotocol that a peer offers, or `None` if there is none.
    #[must_use]
    fn pick(subprotocol: &str) -> Option<Self> {
        let codec = Self::default();
        (codec.subprotocol() == subprotocol).then_some(codec)
    }

    /// Takes a message apart, without decoding its body.
    ///
    /// # Errors
    ///
    /// Returns why `message` is no envelope.
    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError>;

    /// Takes a message apart that came as text on WebSocket, for a codec that makes a difference. Is only called if
    /// [`is_text`](Codec::is_text). Default: [`split`](Codec::split).
    ///
    /// # Errors
    ///
    /// Returns why `message` is no envelope.
    fn split_text(self, message: &str) -> Result<Envelope<'_>, DecodeError> {
        self.split(message.as_bytes())
    }

    /// Appends a message to `out`, whose body `body` appends.
    ///
    /// # Errors
    ///
    /// Returns the error of `body`. `out` may then end with a part of the message.
    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError>;

    /// Returns the body of a message without fields.
    fn empty(self) -> &'static [u8];

    /// Appends the message `Error` to `out`, as the answer to the request `re` if there is one.
    ///
    /// # Errors
    ///
    /// Returns that the fault cannot be encoded. `out` may then end with a part of the message.
    fn join_fault(
        self,
        fault: &Fault,
        re: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;

    /// Returns the fault in the body of a message `Error`, as [`split`](Codec::split) returned it.
    fn split_fault(self, body: &[u8]) -> Option<Fault>;
}

/// Types that can be sent as the body of a message with the codec `C`: with [`Json`](super::Json) and
/// [`MsgPack`](super::MsgPack) all types of `serde`, with [`Protobuf`](super::Protobuf) those of `prost`.
pub trait Encode<C> {
    /// Appends the body to `out`.
    ///
    /// # Errors
    ///
    /// Returns why the value has no encoding. `out` may then end with a part of it.
    fn encode(&self, codec: C, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Types that can be received as the body of a message with the codec `C`; see [`Encode`].
pub trait Decode<C>: Sized {
    /// Decodes a body.
    ///
    /// # Errors
    ///
    /// Returns why `body` is no value of this type.
    fn decode(codec: C, body: &[u8]) -> Result<Self, DecodeError>;
}

/// The codec `A`, or `B` if a peer asks for it by its subprotocol. Bodies must have both encodings. More than two
/// codecs are nested: `Either<Json, Either<MsgPack, Protobuf>>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Either<A, B> {
    /// The first codec, which is the default.
    First(A),
    /// The second codec.
    Second(B),
}

impl<A: Default, B> Default for Either<A, B> {
    fn default() -> Self {
        Either::First(A::default())
    }
}

impl<A: Codec, B: Codec> Codec for Either<A, B> {
    fn subprotocol(self) -> &'static str {
        match self {
            Either::First(codec) => codec.subprotocol(),
            Either::Second(codec) => codec.subprotocol(),
        }
    }

    fn is_text(self) -> bool {
        match self {
            Either::First(codec) => codec.is_text(),
            Either::Second(codec) => codec.is_text(),
        }
    }

    fn sends_text(self, name: &str) -> bool {
        match self {
            Either::First(codec) => codec.sends_text(name),
            Either::Second(codec) => codec.sends_text(name),
        }
    }

    fn pick(subprotocol: &str) -> Option<Self> {
        let first = A::pick(subprotocol).map(Either::First);
        first.or_else(|| B::pick(subprotocol).map(Either::Second))
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        match self {
            Either::First(codec) => codec.split(message),
            Either::Second(codec) => codec.split(message),
        }
    }

    fn split_text(self, message: &str) -> Result<Envelope<'_>, DecodeError> {
        match self {
            Either::First(codec) => codec.split_text(message),
            Either::Second(codec) => codec.split_text(message),
        }
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match self {
            Either::First(codec) => codec.join(head, out, body),
            Either::Second(codec) => codec.join(head, out, body),
        }
    }

    fn empty(self) -> &'static [u8] {
        match self {
            Either::First(codec) => codec.empty(),
            Either::Second(codec) => codec.empty(),
        }
    }

    fn join_fault(
        self,
        fault: &Fault,
        re: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Either::First(codec) => codec.join_fault(fault, re, out),
            Either::Second(codec) => codec.join_fault(fault, re, out),
        }
    }

    fn split_fault(self, body: &[u8]) -> Option<Fault> {
        match self {
            Either::First(codec) => codec.split_fault(body),
            Either::Second(codec) => codec.split_fault(body),
        }
    }
}

impl<A, B, T: Encode<A> + Encode<B> + ?Sized> Encode<Either<A, B>> for T {
    fn encode(&self, codec: Either<A, B>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match codec {
            Either::First(codec) => self.encode(codec, out),
            Either::Second(codec) => self.encode(codec, out),
        }
    }
}

impl<A, B, T: Decode<A> + Decode<B>> Decode<Either<A, B>> for T {
    fn decode(codec: Either<A, B>, body: &[u8]) -> Result<Self, DecodeError> {
        match codec {
            Either::First(codec) => T::decode(codec, body),
            Either::Second(codec) => T::decode(codec, body),
        }
    }
}

/// Any error of a codec's library.
type Source = Box<dyn Error + Send + Sync>;

/// The error of a value that has no encoding.
///
/// ```
/// use liveness::server::EncodeError;
///
/// let error = EncodeError::new("a key is no text");
/// assert_eq!(error.to_string(), "the message cannot be encoded: a key is no text");
/// ```
#[derive(Debug)]
pub struct EncodeError(Source);

impl EncodeError {
    /// Creates the error for the reason `why`.
    #[must_use]
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        EncodeError(why.into())
    }
}

impl fmt::Display for EncodeError {
    /// Writes the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message cannot be encoded: {}", self.0)
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The error of bytes that are no message, or no body of the type that is asked for.
///
/// ```
/// use liveness::server::DecodeError;
///
/// assert_eq!(DecodeError::new("empty").to_string(), "the message cannot be decoded: empty");
/// ```
#[derive(Debug)]
pub struct DecodeError(Source);

impl DecodeError {
    /// Creates the error for the reason `why`.
    #[must_use]
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        DecodeError(why.into())
    }
}

impl fmt::Display for DecodeError {
    /// Writes the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message cannot be decoded: {}", self.0)
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests;
