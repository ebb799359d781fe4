//! How an event is written: one byte for the encoding, the headers if it has any, and the event.
//!
//! `j` or `m` is followed by the event, in JSON or `MessagePack`. `J` or `M` is followed by the length of the headers
//! as 4 bytes, the highest first, the headers as a JSON array of pairs, and the event.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How the events of a dispatcher are encoded. Every dispatcher reads both encodings, so a topic may hold both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// JSON, which people and every language can read. A `f64` that is infinite or not a number becomes `null`, which
    /// then cannot be decoded as a number. A `Vec<u8>` becomes an array of numbers.
    #[default]
    Json,
    /// `MessagePack` with the names of fields, which is about a third smaller. Fields can be added and reordered as in
    /// JSON.
    #[cfg(feature = "msgpack")]
    #[cfg_attr(docsrs, doc(cfg(feature = "msgpack")))]
    MessagePack,
}

/// An event as it is stored, for the worker that decodes it.
pub(crate) struct Encoded(pub(crate) Vec<u8>);

/// Any error of a codec.
type Cause = Box<dyn Error + Send + Sync>;

/// The headers of an event.
type Headers = [(String, String)];

impl Codec {
    /// Encodes an event.
    ///
    /// # Errors
    ///
    /// Returns the error of the event's `Serialize`.
    pub(crate) fn encode<T: Serialize>(
        self,
        event: &T,
        headers: &Headers,
    ) -> Result<Vec<u8>, Cause> {
        let letter = match self {
            Codec::Json => b'j',
            #[cfg(feature = "msgpack")]
            Codec::MessagePack => b'm',
        };
        let mut envelope = Vec::with_capacity(128);
        if headers.is_empty() {
            envelope.push(letter);
        } else {
            let headers = serde_json::to_vec(headers)?;
            envelope.push(letter.to_ascii_uppercase());
            envelope.extend(u32::try_from(headers.len())?.to_be_bytes());
            envelope.extend(headers);
        }
        match self {
            Codec::Json => serde_json::to_writer(&mut envelope, event)?,
            #[cfg(feature = "msgpack")]
            Codec::MessagePack => rmp_serde::encode::write_named(&mut envelope, event)?,
        }
        Ok(envelope)
    }
}

/// The parts of an envelope.
struct Parts<'a> {
    /// The encoding, `j` or `m`.
    letter: u8,
    /// The headers, if there are any.
    headers: Option<&'a [u8]>,
    /// The event.
    body: &'a [u8],
}

/// Parts an envelope, or returns `None` if it is cut short.
fn part(envelope: &[u8]) -> Option<Parts<'_>> {
    let (&letter, rest) = envelope.split_first()?;
    if letter.is_ascii_lowercase() {
        let (headers, body) = (None, rest);
        return Some(Parts {
            letter,
            headers,
            body,
        });
    }
    let (len, rest) = rest.split_first_chunk()?;
    let (headers, body) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some(Parts {
        letter: letter.to_ascii_lowercase(),
        headers: Some(headers),
        body,
    })
}

/// Returns the headers of an envelope; none if they cannot be read, which [`decode`] then reports.
pub(crate) fn headers(envelope: &[u8]) -> Option<Arc<Headers>> {
    let headers: Vec<_> = serde_json::from_slice(part(envelope)?.headers?).ok()?;
    Some(headers.into())
}

/// Decodes the event of an envelope.
///
/// # Errors
///
/// Returns what could not be read.
pub(crate) fn decode<T: DeserializeOwned>(envelope: &[u8]) -> Result<T, DecodeError> {
    let parts = part(envelope).ok_or_else(|| DecodeError("it is cut short".into()))?;
    match parts.letter {
        b'j' => serde_json::from_slice(parts.body).map_err(|error| DecodeError(error.into())),
        #[cfg(feature = "msgpack")]
        b'm' => rmp_serde::from_slice(parts.body).map_err(|error| DecodeError(error.into())),
        #[cfg(not(feature = "msgpack"))]
        b'm' => Err(DecodeError(
            "it is MessagePack; enable the feature `msgpack`".into(),
        )),
        other => {
            let other = char::from(other);
            Err(DecodeError(
                format!("its encoding is `{other}`; known are `j` and `m`").into(),
            ))
        }
    }
}

/// Why an event cannot be decoded.
#[derive(Debug)]
pub(crate) struct DecodeError(Cause);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event cannot be decoded: {}", self.0)
    }
}

impl Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_its_headers_come_back() {
        let headers = [("trace".to_owned(), "4bf9".to_owned())];
        let codecs = [
            Codec::Json,
            #[cfg(feature = "msgpack")]
            Codec::MessagePack,
        ];
        for codec in codecs {
            let event = (17_u64, "ada".to_owned());
            let plain = codec.encode(&event, &[]).unwrap();
            assert_eq!(decode::<(u64, String)>(&plain).unwrap(), event);
            assert!(super::headers(&plain).is_none());
            let full = codec.encode(&event, &headers).unwrap();
            assert_eq!(decode::<(u64, String)>(&full).unwrap(), event);
            assert_eq!(super::headers(&full).unwrap()[..], headers);
        }
    }

    #[test]
    fn every_cut_of_an_envelope_is_an_error_and_no_panic() {
        let headers = [("trace".to_owned(), "4bf9".to_owned())];
        let full = Codec::Json.encode(&"ada", &headers).unwrap();
        for len in 0..full.len() {
            assert!(decode::<String>(&full[..len]).is_err());
            let _ = super::headers(&full[..len]);
        }
        let odd = decode::<String>(b"xyz").unwrap_err().to_string();
        assert_eq!(
            odd,
            "the event cannot be decoded: its encoding is `x`; known are `j` and `m`"
        );
    }
}
