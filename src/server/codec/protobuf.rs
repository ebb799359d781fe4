//! Protocol Buffers: `Envelope { string name = 1; bytes data = 2; uint64 id = 3; uint64 re = 4 }`.

use std::num::NonZeroU64;
use std::str;

use prost::Message;

use super::{Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Head, shift};

/// Messages in Protocol Buffers: `string name = 1; bytes data = 2; uint64 id = 3; uint64 re = 4`, where `data` is the
/// encoding of the body. Other fields are ignored.
///
/// ```
/// use liveness::server::{Codec, Head, Protobuf};
///
/// let mut message = Vec::new();
/// Protobuf.join(Head::new("Ping"), &mut message, |_| Ok(()))?;
/// assert_eq!(message, b"\x0a\x04Ping");
/// assert_eq!(Protobuf.split(b"\x12\x01x\x0a\x04Ping")?.body, b"x");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Protobuf;

/// A field of a message.
enum Field<'a> {
    /// A number.
    Number(u64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A number of fixed width, which no known field has.
    Fixed,
}

/// Reads the number at the front of `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        // The tenth byte has one bit.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads the field at the front of `bytes`, with its number.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = varint(bytes)?;
    let mut take = |len: u64| {
        let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
        *bytes = rest;
        Some(taken)
    };
    let field = match key & 7 {
        1 => take(8).map(|_| Field::Fixed),
        5 => take(4).map(|_| Field::Fixed),
        0 => varint(bytes).map(Field::Number),
        2 => {
            let len = varint(bytes)?;
            let (taken, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
            *bytes = rest;
            Some(Field::Bytes(taken))
        }
        _ => None,
    };
    Some((key >> 3, field?))
}

/// Appends a number to `out`.
fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the field `number` with a number that is not zero to `out`.
fn put_number(number: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(number << 3);
        put_varint(value, out);
    }
}

/// Appends the field `number` with bytes to `out`, unless it is empty.
fn put_bytes(number: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        out.push(number << 3 | 2);
        put_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

impl Codec for Protobuf {
    fn subprotocol(self) -> &'static str {
        "liveness.protobuf"
    }

    fn is_text(self) -> bool {
        false
    }

    fn split(self, mut message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        let mut envelope = Envelope {
            name: "".into(),
            body: &[],
            id: None,
            re: None,
        };
        while !message.is_empty() {
            let field = field(&mut message)
                .ok_or_else(|| DecodeError::new("a field is malformed or cut short"))?;
            match field {
                (1, Field::Bytes(name)) => {
                    envelope.name = str::from_utf8(name).map_err(DecodeError::new)?.into();
                }
                (2, Field::Bytes(body)) => envelope.body = body,
                (3, Field::Number(id)) => envelope.id = NonZeroU64::new(id),
                (4, Field::Number(re)) => envelope.re = NonZeroU64::new(re),
                (1..=4, _) => return Err(DecodeError::new("a field has the wrong type")),
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        put_bytes(1, head.name.as_bytes(), out);
        let start = out.len();
        body(out)?;
        let len = out.len() - start;
        if len > 0 {
            let mut prefix = vec![2 << 3 | 2];
            put_varint(len as u64, &mut prefix);
            shift::insert(out, start, &prefix);
        }
        put_number(3, head.id.map_or(0, NonZeroU64::get), out);
        put_number(4, head.re.map_or(0, NonZeroU64::get), out);
        Ok(())
    }

    fn empty(self) -> &'static [u8] {
        b""
    }

    fn join_fault(
        self,
        fault: &Fault,
        re: Option<NonZeroU64>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.join(Head::new(Fault::NAME).re(re), out, |out| {
            put_number(1, fault.code.into(), out);
            put_bytes(2, fault.message.as_bytes(), out);
            Ok(())
        })
    }

    fn split_fault(self, mut body: &[u8]) -> Option<Fault> {
        let mut fault = Fault::default();
        while !body.is_empty() {
            match field(&mut body)? {
                (1, Field::Number(code)) => fault.code = u32::try_from(code).ok()?,
                (2, Field::Bytes(text)) => fault.message = String::from_utf8(text.to_vec()).ok()?,
                _ => {}
            }
        }
        Some(fault)
    }
}

impl<T: Message> Encode<Protobuf> for T {
    fn encode(&self, _: Protobuf, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Message::encode(self, out).map_err(EncodeError::new)
    }
}

impl<T: Message + Default> Decode<Protobuf> for T {
    fn decode(_: Protobuf, body: &[u8]) -> Result<Self, DecodeError> {
        T::decode(body).map_err(DecodeError::new)
    }
}
