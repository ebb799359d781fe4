//! How messages are delimited on TCP.

use super::violation::Violation;

/// How messages are delimited on TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// The length in 2 bytes, the highest first and not counting itself, then the message: at most 65,535 bytes.
    #[default]
    U16,
    /// The same with 4 bytes.
    U32,
    /// Each message ends with a line feed, for use by hand with `nc`. Only for codecs that are text, such as JSON;
    /// empty lines are ignored.
    Lines,
}

impl Framing {
    /// The bytes of the length.
    pub(crate) fn prefix(self) -> usize {
        match self {
            Framing::U16 => 2,
            Framing::U32 => 4,
            Framing::Lines => 0,
        }
    }

    /// The longest message that can be written.
    pub(crate) fn longest(self) -> usize {
        match self {
            Framing::U16 => u16::MAX.into(),
            Framing::U32 => u32::MAX as usize,
            Framing::Lines => usize::MAX,
        }
    }
}

/// How connections of other protocols begin, and what they are: clients and servers of TLS and HTTP, which are on the
/// wrong port. Their first bytes would be taken for a length, and the rest awaited. `0xFF` stands for any byte. What
/// follows the length begins no message of JSON, `MessagePack` or Protocol Buffers.
const OTHERS: [(&[u8], &str); 11] = [
    (b"\x16\x03\x01\xFF\xFF\x01", TLS),
    (b"\x16\x03\x03\xFF\xFF\x01", TLS),
    (b"\x15\x03\x01\0\x02", TLS),
    (b"\x15\x03\x03\0\x02", TLS),
    (b"GET /", HTTP),
    (b"HEAD /", HTTP),
    (b"POST /", HTTP),
    (b"PUT /", HTTP),
    (b"OPTIONS /", HTTP),
    (b"CONNECT ", HTTP),
    (b"HTTP/1.", HTTP),
];

/// Why a peer of TLS is refused.
const TLS: &str = "the peer speaks TLS, which this connection is not under";

/// Why a peer of HTTP is refused.
const HTTP: &str = "the peer speaks HTTP on a connection of plain TCP";

/// The beginning of a message, with its length.
#[derive(Debug, Default)]
struct Partial {
    /// The bytes; not empty.
    bytes: Vec<u8>,
    /// Whether [`incomplete`](Splitter::incomplete) has reported this message.
    is_seen: bool,
}

/// Delimits what is received. Between messages it holds a pointer.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// Whether the first bytes are known to be of this protocol.
    is_known: bool,
    /// What is incomplete.
    partial: Option<Box<Partial>>,
}

/// What has been received of a message that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incomplete {
    /// Nothing.
    Nothing,
    /// A part of one that had not begun at the last question.
    New,
    /// More or less of the same one as at the last question.
    Same,
}

impl Incomplete {
    /// Returns the answer for a message that is incomplete, which was reported before or is from now on.
    pub(crate) fn of(is_seen: &mut bool) -> Self {
        if std::mem::replace(is_seen, true) {
            Incomplete::Same
        } else {
            Incomplete::New
        }
    }
}

impl Splitter {
    /// Returns whether a message is incomplete, and whether it is another one than at the last call.
    pub(crate) fn incomplete(&mut self) -> Incomplete {
        match &mut self.partial {
            None => Incomplete::Nothing,
            Some(partial) => Incomplete::of(&mut partial.is_seen),
        }
    }

    /// Returns how many bytes are allocated.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.bytes.capacity())
    }

    /// The beginning of a message.
    fn partial(&self) -> &[u8] {
        self.partial.as_ref().map_or(&[], |partial| &partial.bytes)
    }

    /// Adds to the beginning of a message.
    fn hold(&mut self, input: &[u8]) {
        let partial = self.partial.get_or_insert_default();
        partial.bytes.extend_from_slice(input);
    }

    /// Takes `input`, and calls `sink` with each message that is complete. A message of at most `max` bytes is
    /// accepted. Memory grows with what came, not with the length that the peer claims.
    ///
    /// # Errors
    ///
    /// Returns the first violation, of the framing or from `sink`.
    pub(crate) fn push(
        &mut self,
        framing: Framing,
        max: usize,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if !self.is_known {
            self.is_known = is_known(self.partial(), input)?;
            if !self.is_known {
                // Fewer bytes than the longest beginning.
                self.hold(input);
                return Ok(());
            }
        }
        while !input.is_empty() {
            let Some(missing) = missing(framing, max, self.partial(), input)? else {
                self.hold(input);
                return Ok(());
            };
            let (taken, rest) = input.split_at(missing);
            input = rest;
            if let Some(mut partial) = self.partial.take() {
                partial.bytes.extend_from_slice(taken);
                deliver(framing, &partial.bytes, &mut sink)?;
            } else {
                deliver(framing, taken, &mut sink)?;
            }
        }
        Ok(())
    }
}

/// Returns whether the first bytes, which are `partial` and `input`, are known to be of no other protocol, or too few
/// of one came.
fn is_known(partial: &[u8], input: &[u8]) -> Result<bool, Violation> {
    let mut is_known = true;
    for (beginning, what) in OTHERS {
        let first = partial.iter().chain(input).zip(beginning);
        if first.clone().all(|(byte, it)| byte == it || *it == 0xFF) {
            if first.count() == beginning.len() {
                return Err(Violation::Protocol(what));
            }
            is_known = false;
        }
    }
    Ok(is_known)
}

/// Returns how many bytes of `input`, which follows `partial`, complete the message; `None` if it does not.
fn missing(
    framing: Framing,
    max: usize,
    partial: &[u8],
    input: &[u8],
) -> Result<Option<usize>, Violation> {
    if framing == Framing::Lines {
        let end = input.iter().position(|&byte| byte == b'\n');
        let line = partial.len() + end.unwrap_or(input.len());
        // A carriage return before the line feed does not count.
        if line > max.saturating_add(1) {
            return Err(Violation::TooBig);
        }
        return Ok(end.map(|end| end + 1));
    }
    let prefix = framing.prefix();
    let mut bytes = partial.iter().chain(input).take(prefix);
    let mut length = 0;
    for _ in 0..prefix {
        let Some(&byte) = bytes.next() else {
            return Ok(None);
        };
        length = length << 8 | usize::from(byte);
    }
    if length == 0 {
        return Err(Violation::Protocol("a message of length 0"));
    }
    if length > max {
        return Err(Violation::TooBig);
    }
    let missing = prefix + length - partial.len();
    Ok((missing <= input.len()).then_some(missing))
}

/// Calls `sink` with the message in `whole`.
fn deliver(
    framing: Framing,
    whole: &[u8],
    sink: &mut impl FnMut(&[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    if framing != Framing::Lines {
        return sink(&whole[framing.prefix()..]);
    }
    let line = whole.strip_suffix(b"\n").unwrap_or(whole);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() { Ok(()) } else { sink(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(framing: Framing, max: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut splitter = Splitter::default();
        let mut messages = Vec::new();
        let failed = pieces.iter().any(|piece| {
            let taken = splitter.push(framing, max, piece, |message| {
                messages.push(message.to_vec());
                Ok(())
            });
            taken.is_err()
        });
        (messages, failed)
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_are_split() {
        let cases: [(Framing, &[u8]); 3] = [
            (Framing::U16, b"\0\x03abc\0\x01d\0\x02ef"),
            (Framing::U32, b"\0\0\0\x03abc\0\0\0\x01d\0\0\0\x02ef"),
            (Framing::Lines, b"abc\r\n\r\n\nd\nef\n"),
        ];
        for (framing, bytes) in cases {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    let (messages, failed) = split(framing, 3, &pieces);
                    assert_eq!(messages, [b"abc".to_vec(), b"d".to_vec(), b"ef".to_vec()]);
                    assert!(!failed);
                }
            }
        }
    }

    #[test]
    fn a_length_of_zero_or_above_the_limit_is_refused_before_anything_is_stored() {
        assert!(split(Framing::U16, 100, &[b"\0\0"]).1);
        assert!(split(Framing::U16, 100, &[b"\0", b"\x65"]).1);
        assert!(split(Framing::U32, 100, &[b"\xff\xff\xff\xff"]).1);
        assert!(split(Framing::Lines, 3, &[b"abcde"]).1);
        assert!(split(Framing::Lines, 3, &[b"abc", b"de"]).1);
        assert!(!split(Framing::Lines, 3, &[b"abc", b"\n"]).1);
    }

    #[test]
    fn another_protocol_is_recognized_by_its_first_bytes_however_they_are_split() {
        // The greetings of `openssl s_client` and of old clients, the alert of a server, and requests.
        let others: [(&[u8], &str); 6] = [
            (b"\x16\x03\x01\x01\x39\x01\0\x01\x35", "TLS"),
            (b"\x16\x03\x03\0\xb8\x01\0\0\xb4", "TLS"),
            (b"\x15\x03\x03\0\x02\x02\x46", "TLS"),
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"POST /x HTTP/1.1\r\n", "HTTP"),
            (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        ];
        for framing in [Framing::U16, Framing::U32, Framing::Lines] {
            for (bytes, what) in others {
                for at in 0..=bytes.len() {
                    let mut splitter = Splitter::default();
                    let pieces = [&bytes[..at], &bytes[at..]];
                    let found = pieces.into_iter().find_map(|piece| {
                        let taken = splitter.push(framing, 1 << 30, piece, |_| Ok(()));
                        taken.err()
                    });
                    let Some(Violation::Protocol(why)) = found else {
                        panic!("{found:?} for {bytes:?}");
                    };
                    assert!(why.contains(what), "{why}");
                }
            }
        }
    }

    #[test]
    fn a_message_that_begins_almost_like_another_protocol_is_read() {
        let mut splitter = Splitter::default();
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        // The length of the first is that of a handshake, that of the third a `GE`.
        for (length, beginning) in [
            (0x1603, &b"\x0a\x03abc"[..]),
            (0x1603, b"\x01\x02\0\x01"),
            (0x4745, b"T /"),
        ] {
            bytes.extend(u16::to_be_bytes(length));
            bytes.extend(beginning);
            bytes.resize(bytes.len() + usize::from(length) - beginning.len(), b' ');
        }
        for piece in bytes.chunks(1_000) {
            let taken = splitter.push(Framing::U16, 60_000, piece, |message| {
                lengths.push(message.len());
                Ok(())
            });
            assert_eq!(taken, Ok(()));
        }
        assert_eq!(lengths, [0x1603, 0x1603, 0x4745]);
    }

    #[test]
    fn a_claimed_length_reserves_nothing_and_a_delivered_message_leaves_nothing() {
        let mut splitter = Splitter::default();
        let max = usize::MAX >> 8;
        let nothing = |_: &[u8]| Ok(());
        splitter
            .push(Framing::U32, max, b"\x10\0\0\0ab", nothing)
            .unwrap();
        assert!(splitter.held() < 100);
        assert_eq!(splitter.incomplete(), Incomplete::New);
        assert_eq!(splitter.incomplete(), Incomplete::Same);
        let mut splitter = Splitter::default();
        splitter
            .push(Framing::U16, max, b"\x08\0", nothing)
            .unwrap();
        splitter
            .push(Framing::U16, max, &[7; 0x800], nothing)
            .unwrap();
        assert_eq!(splitter.held(), 0);
    }
}
