//! JSON: `{"type":"Echo","data":…}`.

use std::borrow::Cow;
use std::num::NonZeroU64;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Head};

/// Messages in JSON: an object with the fields `type` and `data`, and `id` or `re` for requests and answers. Their
/// order is free, other fields are ignored, and a missing `data` is `null`.
///
/// ```
/// use liveness::server::{Codec, Head, Json};
///
/// let mut message = Vec::new();
/// Json.join(Head::new("Echo"), &mut message, |out| Ok(out.extend(b"[1,2]")))?;
/// assert_eq!(message, br#"{"type":"Echo","data":[1,2]}"#);
/// let envelope = Json.split(br#"{"data":[1,2],"type":"Echo","id":7}"#)?;
/// assert_eq!((&*envelope.name, envelope.body), ("Echo", &b"[1,2]"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json;

/// An envelope as it is received.
#[derive(Deserialize)]
struct Received<'a> {
    /// The name.
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
    /// The body.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// The number of the request; zero is none.
    id: Option<u64>,
    /// The number of the request that this answers; zero is none.
    re: Option<u64>,
}

/// A fault as it is received.
#[derive(Deserialize)]
struct ReceivedFault {
    /// The number.
    #[serde(default)]
    code: u32,
    /// The text.
    #[serde(default, alias = "message")]
    msg: String,
}

impl Codec for Json {
    fn subprotocol(self) -> &'static str {
        "liveness.json"
    }

    fn is_text(self) -> bool {
        true
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        let Received { name, data, id, re } =
            serde_json::from_slice(message).map_err(DecodeError::new)?;
        let body = match data {
            Some(data) => data.get().as_bytes(),
            // The fields of an error are beside its type.
            None if name == Fault::NAME => message,
            None => b"null",
        };
        Ok(Envelope {
            name,
            body,
            id: id.and_then(NonZeroU64::new),
            re: re.and_then(NonZeroU64::new),
        })
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(br#"{"type":"#);
        text(head.name, out)?;
        number(br#","id":"#, head.id, out)?;
        number(br#","re":"#, head.re, out)?;
        out.extend_from_slice(br#","data":"#);
        body(out)?;
        out.push(b'}');
        Ok(())
    }

    fn empty(self) -> &'static [u8] {
        b"{}"
    }

    fn join_fault(
        self,
        fault: &Fault,
        re: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        out.extend_from_slice(br#"{"type":"Error""#);
        number(br#","re":"#, re, out)?;
        out.extend_from_slice(br#","code":"#);
        serde_json::to_writer(&mut *out, &fault.code).map_err(EncodeError::new)?;
        out.extend_from_slice(br#","msg":"#);
        text(&fault.message, out)?;
        out.push(b'}');
        Ok(())
    }

    fn split_fault(self, body: &[u8]) -> Option<Fault> {
        let ReceivedFault { code, msg } = serde_json::from_slice(body).ok()?;
        Some(Fault::new(code, msg))
    }
}

/// Appends a string to `out`.
fn text(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    serde_json::to_writer(out, text).map_err(EncodeError::new)
}

/// Appends the field `key` to `out` if there is a number.
fn number(key: &[u8], number: Option<NonZeroU64>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Some(number) = number else {
        return Ok(());
    };
    out.extend_from_slice(key);
    serde_json::to_writer(out, &number).map_err(EncodeError::new)
}

impl<T: Serialize + ?Sized> Encode<Json> for T {
    fn encode(&self, _: Json, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        serde_json::to_writer(out, self).map_err(EncodeError::new)
    }
}

impl<T: DeserializeOwned> Decode<Json> for T {
    fn decode(_: Json, body: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(body).map_err(DecodeError::new)
    }
}
