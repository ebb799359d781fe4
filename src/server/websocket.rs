//! The frames of WebSocket, as RFC 6455 describes them.
//!
//! Frames that are complete in the input are unmasked where they are and passed on without a copy. What is incomplete
//! is kept in a box, which is dropped with the end of the message, so a connection between messages has no buffer.

use std::hash::{BuildHasher, RandomState};
use std::str;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::framing::Incomplete;
use super::violation::Violation;

/// The most empty fragments of a message: they are legal, but no one needs them.
const MAX_EMPTY_FRAGMENTS: u16 = 1_024;

/// The longest payload of a control frame, bytes.
const MAX_CONTROL: usize = 125;

/// The longest header of a frame, bytes.
#[cfg(test)]
const MAX_HEADER: usize = 14;

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// The server, to which frames must be masked.
    Server,
    /// The client, to which they must not.
    Client,
}

impl Role {
    /// Returns the length of the shortest header of a frame that this side writes: a client's has a mask.
    pub(crate) fn header(self) -> usize {
        match self {
            Role::Server => 2,
            Role::Client => 6,
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    /// More of the message that was begun.
    Continuation = 0,
    /// A message in UTF-8.
    Text = 1,
    /// A message of bytes.
    Binary = 2,
    /// The close.
    Close = 8,
    /// A ping.
    Ping = 9,
    /// The answer to one.
    Pong = 10,
}

impl Opcode {
    /// Returns the opcode of the number `nibble`, or `None` if it is reserved.
    fn new(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// Returns whether frames of this kind may stand between the fragments of a message.
    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Something that was received completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message in text.
    Text(&'a str),
    /// A message of bytes.
    Binary(&'a [u8]),
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// A pong with its payload.
    Pong(&'a [u8]),
    /// A close, with its code and reason if it has them.
    Close(Option<(u16, &'a str)>),
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Whether it is the last frame of its message.
    fin: bool,
    /// What it is.
    opcode: Opcode,
    /// The length of the payload.
    len: u64,
    /// What the payload is masked with; zeros if it is not.
    mask: [u8; 4],
    /// The length of the header itself.
    size: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` if it is incomplete.
    fn parse(bytes: &[u8], role: Role) -> Result<Option<Self>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        let fin = first & 0x80 != 0;
        let Some(opcode) = Opcode::new(first & 0x0F) else {
            return Err(Violation::Protocol("the opcode is reserved"));
        };
        if opcode.is_control() && !fin {
            return Err(Violation::Protocol("a control frame is fragmented"));
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let is_masked = second & 0x80 != 0;
        if is_masked != (role == Role::Server) {
            return Err(Violation::Protocol("the mask is on the wrong side"));
        }
        let short = usize::from(second & 0x7F);
        if opcode.is_control() && short > MAX_CONTROL {
            return Err(Violation::Protocol("a control frame is too long"));
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let size = 2 + extended + if is_masked { 4 } else { 0 };
        let Some(rest) = bytes.get(2..size) else {
            return Ok(None);
        };
        let (extended, mask) = rest.split_at(extended);
        let len = if extended.is_empty() {
            short as u64
        } else {
            extended
                .iter()
                .fold(0, |len, &byte| len << 8 | u64::from(byte))
        };
        let shortest = match len {
            0..126 => 0,
            126..0x1_0000 => 2,
            _ => 8,
        };
        if extended.len() != shortest {
            return Err(Violation::Protocol("the length is longer than it need be"));
        }
        if len >> 63 != 0 {
            return Err(Violation::Protocol("the highest bit of the length is set"));
        }
        Ok(Some(Header {
            fin,
            opcode,
            len,
            mask: mask.try_into().unwrap_or_default(),
            size,
        }))
    }
}

/// The frame whose payload is being received.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// How many bytes of its payload are missing.
    left: u64,
    /// What they are masked with, from the next one on.
    mask: [u8; 4],
    /// Whether it is the last one of its message.
    fin: bool,
}

/// What has been received incompletely.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a frame: of a header, or of a control frame.
    raw: Vec<u8>,
    /// The payload of the message so far.
    message: Vec<u8>,
    /// What the message is, if one was begun.
    kind: Option<Opcode>,
    /// How much of a text is known to be UTF-8.
    checked: usize,
    /// The data frame that is being received.
    current: Option<Current>,
    /// The empty fragments so far.
    empty: u16,
    /// Whether [`incomplete`](Reader::incomplete) has reported this message.
    is_seen: bool,
}

/// Delimits what is received. Between messages it holds a pointer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// What is incomplete.
    partial: Option<Box<Partial>>,
}

impl Reader {
    /// Returns whether a frame or a message is incomplete, and whether it is another one than at the last call.
    pub(crate) fn incomplete(&mut self) -> Incomplete {
        match &mut self.partial {
            None => Incomplete::Nothing,
            Some(partial) => Incomplete::of(&mut partial.is_seen),
        }
    }

    /// Returns how many bytes are allocated.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            size_of::<Partial>() + partial.raw.capacity() + partial.message.capacity()
        })
    }

    /// Takes `input`, which is unmasked in place, and calls `sink` with everything that is complete. Returns after a
    /// close frame, because nothing that follows it counts. A message of at most `max` bytes is accepted. Memory grows
    /// with what came, not with the length that the peer claims.
    ///
    /// # Errors
    ///
    /// Returns the first violation, of the protocol or from `sink`.
    pub(crate) fn push(
        &mut self,
        role: Role,
        max: usize,
        mut input: &mut [u8],
        mut sink: impl FnMut(Frame<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        while !input.is_empty() {
            if let Some(partial) = &mut self.partial {
                if partial.current.is_some() {
                    input = partial.take_payload(input)?;
                } else if !partial.raw.is_empty() {
                    // At most 14 times for a header.
                    let (next, rest) = input.split_at_mut(1);
                    partial.raw.extend_from_slice(next);
                    input = rest;
                    let Some(header) = Header::parse(&partial.raw, role)? else {
                        continue;
                    };
                    if header.opcode.is_control() {
                        let missing = header.size + header.len as usize - partial.raw.len();
                        let (next, rest) = input.split_at_mut(missing.min(input.len()));
                        partial.raw.extend_from_slice(next);
                        input = rest;
                        if partial.raw.len() < header.size + header.len as usize {
                            return Ok(());
                        }
                        let mut raw = std::mem::take(&mut partial.raw);
                        let payload = &mut raw[header.size..];
                        unmask(payload, header.mask);
                        if partial.kind.is_none() {
                            self.partial = None;
                        }
                        if control(header.opcode, payload, &mut sink)? {
                            return Ok(());
                        }
                        continue;
                    }
                    partial.raw = Vec::new();
                    partial.begin(header, max)?;
                } else {
                    match self.at_boundary(role, max, input, &mut sink)? {
                        Some(rest) => input = rest,
                        None => return Ok(()),
                    }
                }
            } else {
                match self.at_boundary(role, max, input, &mut sink)? {
                    Some(rest) => input = rest,
                    None => return Ok(()),
                }
            }
            self.finish(&mut sink)?;
        }
        Ok(())
    }

    /// Takes a frame, or the beginning of one, from `input`, which is not empty and begins with a header. Returns what
    /// follows, or `None` if nothing does or after a close.
    fn at_boundary<'a>(
        &mut self,
        role: Role,
        max: usize,
        input: &'a mut [u8],
        sink: &mut impl FnMut(Frame<'_>) -> Result<(), Violation>,
    ) -> Result<Option<&'a mut [u8]>, Violation> {
        let header = Header::parse(input, role)?;
        let Some(header) = header else {
            self.partial.get_or_insert_default().raw = input.to_vec();
            return Ok(None);
        };
        let end = usize::try_from(header.len)
            .ok()
            .and_then(|len| len.checked_add(header.size))
            .filter(|&end| end <= input.len());
        let is_in_message = self.partial.is_some();
        match end {
            Some(end) if header.opcode.is_control() || (header.fin && !is_in_message) => {
                let (frame, rest) = input.split_at_mut(end);
                let payload = &mut frame[header.size..];
                if !header.opcode.is_control() && payload.len() > max {
                    return Err(Violation::TooBig);
                }
                unmask(payload, header.mask);
                let is_over = match header.opcode {
                    Opcode::Continuation => return Err(NOT_BEGUN),
                    Opcode::Text => {
                        let text = str::from_utf8(payload).map_err(|_| Violation::BadText)?;
                        sink(Frame::Text(text))?;
                        false
                    }
                    Opcode::Binary => {
                        sink(Frame::Binary(payload))?;
                        false
                    }
                    opcode => control(opcode, payload, sink)?,
                };
                Ok((!is_over).then_some(rest))
            }
            None if header.opcode.is_control() => {
                self.partial.get_or_insert_default().raw = input.to_vec();
                Ok(None)
            }
            _ => {
                let partial = self.partial.get_or_insert_default();
                partial.begin(header, max)?;
                Ok(Some(&mut input[header.size..]))
            }
        }
    }

    /// Ends the frame that is complete, and passes on the message that is.
    fn finish(
        &mut self,
        sink: &mut impl FnMut(Frame<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(partial) = &mut self.partial else {
            return Ok(());
        };
        match partial.current {
            Some(Current { left: 0, fin, .. }) => {
                partial.current = None;
                if !fin {
                    return Ok(());
                }
            }
            _ => return Ok(()),
        }
        let Some(partial) = self.partial.take() else {
            return Ok(());
        };
        if partial.kind == Some(Opcode::Text) {
            let text = str::from_utf8(&partial.message).map_err(|_| Violation::BadText)?;
            sink(Frame::Text(text))
        } else {
            sink(Frame::Binary(&partial.message))
        }
    }
}

/// A continuation without a beginning.
const NOT_BEGUN: Violation = Violation::Protocol("a continuation of no message");

impl Partial {
    /// Begins the data frame of `header`.
    fn begin(&mut self, header: Header, max: usize) -> Result<(), Violation> {
        match (header.opcode, self.kind) {
            (Opcode::Continuation, None) => return Err(NOT_BEGUN),
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Violation::Protocol("a message within a message")),
            (kind, None) => self.kind = Some(kind),
        }
        let room = max.saturating_sub(self.message.len());
        if header.len > room as u64 {
            return Err(Violation::TooBig);
        }
        if header.len == 0 {
            self.empty += 1;
            if self.empty > MAX_EMPTY_FRAGMENTS {
                return Err(Violation::Protocol("too many empty fragments"));
            }
        }
        self.current = Some(Current {
            left: header.len,
            mask: header.mask,
            fin: header.fin,
        });
        Ok(())
    }

    /// Takes from `input` what belongs to the current frame, and returns the rest.
    fn take_payload<'a>(&mut self, input: &'a mut [u8]) -> Result<&'a mut [u8], Violation> {
        let Some(current) = &mut self.current else {
            return Ok(input);
        };
        let count = usize::try_from(current.left).map_or(input.len(), |left| left.min(input.len()));
        let (payload, rest) = input.split_at_mut(count);
        unmask(payload, current.mask);
        current.mask.rotate_left(count % 4);
        current.left -= count as u64;
        self.message.extend_from_slice(payload);
        if self.kind == Some(Opcode::Text) {
            self.check_text()?;
        }
        Ok(rest)
    }

    /// Checks the text so far. A character that is cut off may be completed by the next bytes, unless none follow.
    fn check_text(&mut self) -> Result<(), Violation> {
        let is_whole = matches!(
            self.current,
            Some(Current {
                left: 0,
                fin: true,
                ..
            })
        );
        match str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() && !is_whole => {
                self.checked += error.valid_up_to();
            }
            Err(_) => return Err(Violation::BadText),
        }
        Ok(())
    }
}

/// Passes on a control frame. Returns whether it was a close.
fn control(
    opcode: Opcode,
    payload: &[u8],
    sink: &mut impl FnMut(Frame<'_>) -> Result<(), Violation>,
) -> Result<bool, Violation> {
    match opcode {
        Opcode::Ping => sink(Frame::Ping(payload))?,
        Opcode::Pong => sink(Frame::Pong(payload))?,
        _ => {
            sink(Frame::Close(close(payload)?))?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the payload of a close frame.
fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol("a close code of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !super::close::is_legal(code) {
                return Err(Violation::Protocol("the close code is reserved"));
            }
            let reason = str::from_utf8(reason).map_err(|_| Violation::BadText)?;
            Ok(Some((code, reason)))
        }
    }
}

/// Masks or unmasks `payload`.
pub(crate) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

/// Puts the header of a frame that `role` writes in front of its payload, which begins at `start` of `out` after
/// [`header`](Role::header) bytes for the header. The payload of a client is masked.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize, opcode: Opcode, role: Role) {
    let header = role.header();
    let len = out.len() - start - header;
    if role == Role::Client {
        // RFC 6455 wants that who chooses the payload cannot foresee the mask.
        let mask = (unforeseen() as u32).to_ne_bytes();
        out[start + 2..start + header].copy_from_slice(&mask);
        unmask(&mut out[start + header..], mask);
    }
    out[start] = 0x80 | opcode as u8;
    if len < 126 {
        out[start + 1] = len as u8;
    } else if let Ok(len) = u16::try_from(len) {
        out[start + 1] = 126;
        out.splice(start + 2..start + 2, len.to_be_bytes());
    } else {
        out[start + 1] = 127;
        out.splice(start + 2..start + 2, (len as u64).to_be_bytes());
    }
    if role == Role::Client {
        out[start + 1] |= 0x80;
    }
}

/// Returns a number that the peer cannot foresee: a keyed hash of a counter, whose key is random in each process.
pub(crate) fn unforeseen() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a control frame that `role` writes, with at most [`MAX_CONTROL`] bytes of `payload`.
pub(crate) fn control_frame(opcode: Opcode, payload: &[u8], role: Role) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    let mut frame = Vec::with_capacity(role.header() + payload.len());
    frame.extend_from_slice(&[0; 6][..role.header()]);
    frame.extend_from_slice(payload);
    seal(&mut frame, 0, opcode, role);
    frame
}

/// Returns a masked frame whose first byte is `first`.
#[cfg(any(test, fuzzing))]
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = unmasked(first, payload);
    frame[1] |= 0x80;
    let start = frame.len() - payload.len();
    unmask(&mut frame[start..], mask);
    frame.splice(start..start, mask);
    frame
}

/// Returns a frame without a mask whose first byte is `first`.
#[cfg(any(test, fuzzing))]
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[0; 2], payload].concat();
    seal(&mut frame, 0, Opcode::Binary, Role::Server);
    frame[0] = first;
    frame
}

#[cfg(test)]
mod tests;
