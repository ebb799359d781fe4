//! `MessagePack`: an array of the name and the encoded body.

use std::num::NonZeroU64;
use std::str;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Head, shift};

/// The type of the extension that holds a body. The npm package `msgpack-lite` uses it for a `Buffer`.
const BODY: u8 = 0x1B;

/// How deep values may be nested.
const MAX_DEPTH: usize = 128;

/// Messages in `MessagePack`: an array of the name and of the body, which is an extension of type 27 around a map with
/// the names of fields. Requests and answers have two more elements, `id` and `re`. A body is also accepted as bytes,
/// or as a value in its place.
///
/// ```
/// use liveness::server::{Codec, Head, MsgPack};
///
/// let mut message = Vec::new();
/// MsgPack.join(Head::new("Ping"), &mut message, |out| Ok(out.push(0x80)))?;
/// assert_eq!(message, b"\x92\xA4Ping\xD4\x1B\x80");
/// assert_eq!(MsgPack.split(b"\x92\xA4Ping\x80")?.body, b"\x80");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MsgPack;

/// Reads what is received from its front.
struct Reader<'a>(&'a [u8]);

/// A value, as far as it matters here.
enum Value<'a> {
    /// A number that is not negative, or nil, which counts as zero.
    Number(u64),
    /// A string.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An extension of this type.
    Extension(u8, &'a [u8]),
    /// The number of values that follow and belong to it.
    Values(u64),
    /// Any other value without parts.
    Other,
}

impl<'a> Reader<'a> {
    /// Takes `len` bytes.
    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes a number of `size` bytes.
    fn number(&mut self, size: u8) -> Option<u64> {
        let bytes = self.take(size.into())?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        )
    }

    /// Takes the type and the `len` bytes of an extension.
    fn extension(&mut self, len: u64) -> Option<Value<'a>> {
        let kind = self.number(1)? as u8;
        Some(Value::Extension(kind, self.take(len)?))
    }

    /// Takes a value, but not the values that belong to it.
    fn value(&mut self) -> Option<Value<'a>> {
        let marker = self.number(1)? as u8;
        // The width of what follows, for markers in rows of 1, 2, 4 and 8 bytes.
        let width = |first: u8| 1 << (marker - first);
        Some(match marker {
            0x00..=0x7F => Value::Number(marker.into()),
            0x80..=0x8F => Value::Values(2 * u64::from(marker & 0x0F)),
            0x90..=0x9F => Value::Values((marker & 0x0F).into()),
            0xA0..=0xBF => Value::Text(self.take((marker & 0x1F).into())?),
            0xC0 => Value::Number(0),
            0xC1 => return None,
            0xC4..=0xC6 => {
                let len = self.number(width(0xC4))?;
                Value::Bytes(self.take(len)?)
            }
            0xC7..=0xC9 => {
                let len = self.number(width(0xC7))?;
                self.extension(len)?
            }
            0xCC..=0xCF => Value::Number(self.number(width(0xCC))?),
            0xCA | 0xD2 => self.take(4).map(|_| Value::Other)?,
            0xCB | 0xD3 => self.take(8).map(|_| Value::Other)?,
            0xD0 => self.take(1).map(|_| Value::Other)?,
            0xD1 => self.take(2).map(|_| Value::Other)?,
            0xD4..=0xD8 => self.extension(1 << (marker - 0xD4))?,
            0xD9..=0xDB => {
                let len = self.number(width(0xD9))?;
                Value::Text(self.take(len)?)
            }
            0xDC | 0xDD => Value::Values(self.number(2 * width(0xDC))?),
            0xDE | 0xDF => Value::Values(2 * self.number(2 * width(0xDE))?),
            0xC2 | 0xC3 | 0xE0..=0xFF => Value::Other,
        })
    }

    /// Takes a value with all that belongs to it, and returns its bytes.
    fn whole(&mut self) -> Option<&'a [u8]> {
        let start = self.0;
        // How many values are missing on each level. Each takes a byte at least, so a claimed number costs nothing.
        let mut levels = vec![1u64];
        while let Some(missing) = levels.last_mut() {
            if *missing == 0 {
                levels.pop();
                continue;
            }
            *missing -= 1;
            if let Value::Values(count) = self.value()? {
                if levels.len() == MAX_DEPTH {
                    return None;
                }
                levels.push(count);
            }
        }
        Some(&start[..start.len() - self.0.len()])
    }

    /// Takes an envelope.
    fn envelope(&mut self) -> Option<Envelope<'a>> {
        let Value::Values(elements @ (2 | 4)) = self.value()? else {
            return None;
        };
        let Value::Text(name) = self.value()? else {
            return None;
        };
        let before = self.0;
        let body = match self.value()? {
            Value::Extension(BODY, body) | Value::Bytes(body) => body,
            _ => {
                self.0 = before;
                self.whole()?
            }
        };
        let mut numbers = [None; 2];
        for number in numbers.iter_mut().take(elements as usize - 2) {
            let Value::Number(value) = self.value()? else {
                return None;
            };
            *number = NonZeroU64::new(value);
        }
        let [id, re] = numbers;
        self.0.is_empty().then_some(Envelope {
            name: str::from_utf8(name).ok()?.into(),
            body,
            id,
            re,
        })
    }
}

/// Appends a string to `out`.
fn put_text(text: &str, out: &mut Vec<u8>) {
    match text.len() {
        len @ 0..32 => out.push(0xA0 | len as u8),
        len @ 32..256 => out.extend_from_slice(&[0xD9, len as u8]),
        len => {
            out.push(0xDB);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number to `out`.
fn put_number(number: u64, out: &mut Vec<u8>) {
    if number < 0x80 {
        out.push(number as u8);
    } else {
        out.push(0xCF);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Returns the header of an extension of `len` bytes that holds a body.
fn extension(len: u32) -> Vec<u8> {
    let mut header = match len {
        1 | 2 | 4 | 8 | 16 => vec![0xD4 + len.ilog2() as u8],
        0..256 => vec![0xC7, len as u8],
        _ => {
            let [a, b, c, d] = len.to_be_bytes();
            vec![0xC9, a, b, c, d]
        }
    };
    header.push(BODY);
    header
}

impl Codec for MsgPack {
    fn subprotocol(self) -> &'static str {
        "liveness.msgpack"
    }

    fn is_text(self) -> bool {
        false
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        let envelope = Reader(message).envelope();
        envelope.ok_or_else(|| DecodeError::new("it is no array of a name and a body"))
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        // Peers that know no requests take arrays of two elements only.
        let has_numbers = head.id.is_some() || head.re.is_some();
        out.push(if has_numbers { 0x94 } else { 0x92 });
        put_text(head.name, out);
        let start = out.len();
        body(out)?;
        let len = u32::try_from(out.len() - start).map_err(EncodeError::new)?;
        shift::insert(out, start, &extension(len));
        if has_numbers {
            put_number(head.id.map_or(0, NonZeroU64::get), out);
            put_number(head.re.map_or(0, NonZeroU64::get), out);
        }
        Ok(())
    }

    fn empty(self) -> &'static [u8] {
        b"\x80"
    }

    fn join_fault(
        self,
        fault: &Fault,
        re: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.join(Head::new(Fault::NAME).re(re), out, |out| {
            out.push(0x82);
            put_text("code", out);
            put_number(fault.code.into(), out);
            put_text("msg", out);
            put_text(&fault.message, out);
            Ok(())
        })
    }

    fn split_fault(self, body: &[u8]) -> Option<Fault> {
        let mut reader = Reader(body);
        let mut fault = Fault::default();
        let Value::Values(count) = reader.value()? else {
            return None;
        };
        for _ in 0..count / 2 {
            let Value::Text(key) = reader.value()? else {
                return None;
            };
            let before = reader.0;
            match (key, reader.value()?) {
                (b"code", Value::Number(code)) => fault.code = u32::try_from(code).ok()?,
                (b"msg" | b"message", Value::Text(text)) => {
                    fault.message = String::from_utf8(text.to_vec()).ok()?;
                }
                _ => {
                    reader.0 = before;
                    reader.whole()?;
                }
            }
        }
        Some(fault)
    }
}

impl<T: Serialize + ?Sized> Encode<MsgPack> for T {
    fn encode(&self, _: MsgPack, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        rmp_serde::encode::write_named(out, self).map_err(EncodeError::new)
    }
}

impl<T: DeserializeOwned> Decode<MsgPack> for T {
    fn decode(_: MsgPack, body: &[u8]) -> Result<Self, DecodeError> {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
        deserializer.set_max_depth(MAX_DEPTH);
        T::deserialize(&mut deserializer).map_err(DecodeError::new)
    }
}
