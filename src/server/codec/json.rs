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
        self.split_text(str::from_utf8(message).map_err(DecodeError::new)?)
    }

    fn split_text(self, message: &str) -> Result<Envelope<'_>, DecodeError> {
        split_usual(message).map_or_else(|| split_any(message), Ok)
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

/// Takes a message apart.
fn split_any(message: &str) -> Result<Envelope<'_>, DecodeError> {
    let Received { name, data, id, re } =
        serde_json::from_str(message).map_err(DecodeError::new)?;
    let body = match data {
        Some(data) => data.get().as_bytes(),
        // The fields of an error are beside its type.
        None if name == Fault::NAME => message.as_bytes(),
        None => b"null",
    };
    Ok(Envelope {
        name,
        body,
        id: id.and_then(NonZeroU64::new),
        re: re.and_then(NonZeroU64::new),
    })
}

/// Takes a message apart like [`split_any`] in a third of the time, if it is written as [`Json`] writes one that is
/// neither a request, an answer nor an error. Returns `None` for others, also for those that are no messages.
fn split_usual(message: &str) -> Option<Envelope<'_>> {
    let rest = message.strip_prefix(r#"{"type":""#)?;
    let (name, rest) = rest.split_at(rest.bytes().position(|byte| !is_plain(byte))?);
    let body = rest.strip_prefix(r#"","data":"#)?.strip_suffix('}')?;
    if name == Fault::NAME {
        return None;
    }
    // One value, and nothing that follows it.
    let body: &RawValue = serde_json::from_str(body).ok()?;
    Some(Envelope {
        name: Cow::Borrowed(name),
        body: body.get().as_bytes(),
        id: None,
        re: None,
    })
}

/// Returns whether a character stands for itself in a string. Those beyond ASCII do as well, but not in most names.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends a string to `out`.
fn text(text: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if text.bytes().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of messages, also of wrong ones.
    const PIECES: [&str; 24] = [
        r#"{"type":""#,
        r#"","data":"#,
        "}",
        "Echo",
        "Error",
        "null",
        "-1.5e3",
        "[1,{}]",
        r#"{"a":[]}"#,
        r#""text""#,
        "\"",
        "\\",
        "\\u0041",
        "\u{7f}",
        "\n",
        "é",
        " ",
        ",",
        ":",
        "{",
        "[",
        r#","id":7"#,
        r#","data":1"#,
        r#","type":"X""#,
    ];

    #[test]
    fn a_usual_message_is_taken_apart_as_any_other() {
        let mut state = 1_u64;
        let mut below = |limit: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % limit
        };
        let mut usual = 0;
        for _ in 0..50_000 {
            // A message with some pieces in place of others, or further ones.
            let mut message = vec![
                PIECES[0],
                "Echo",
                PIECES[1],
                PIECES[below(PIECES.len())],
                "}",
            ];
            for _ in 0..below(3) {
                let (at, piece) = (below(message.len()), PIECES[below(PIECES.len())]);
                if below(2) == 0 {
                    message[at] = piece;
                } else {
                    message.insert(at, piece);
                }
            }
            let message = message.concat();
            if let Some(envelope) = split_usual(&message) {
                assert_eq!(split_any(&message).ok(), Some(envelope), "{message}");
                usual += 1;
            }
        }
        assert!((2_500..47_500).contains(&usual), "{usual}");
    }
}
