//! The format of the datagrams. Pure functions, without a socket or a clock.
//!
//! A datagram, numbers big-endian:
//!
//! | bytes      | what                                                                        |
//! |------------|-----------------------------------------------------------------------------|
//! | 0..4       | `LBK1`: what this is, and its version                                       |
//! | 4          | 1 for a beat, 2 for a goodbye                                               |
//! | 5..13      | the node's epoch: when it started, in ms since 1970                         |
//! | 13..21     | the datagram's number, which grows from one to the next within an epoch     |
//! | 21..37     | where the node serves: its IPv6 address, or its IPv4 address mapped to one  |
//! | 37..39     | and its port                                                                |
//! | 39..40     | the length of its name, 1 to 32                                             |
//! | 40..40 + n | its name, of `a` to `z`, `0` to `9`, `-` and `.`                            |
//! | the last 32| HMAC-SHA256 of all before, with the node's own key                          |
//!
//! The key of a node is HMAC-SHA256 of its name with the secret, which only the keeper knows. A node can therefore send
//! messages only in its own name, including goodbyes. The address is part of the datagram and is not taken from the IP
//! header, which is not signed: an attacker that can hold a datagram back could send it from another address and
//! redirect the node's requests there.
//!
//! HMAC-SHA256 is available to nodes in any language. A keyed BLAKE3 takes half the time, but the time is at most
//! that of receiving the datagram.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use compact_str::CompactString;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The name of a node.
pub(crate) type Name = CompactString;

/// The first bytes of every datagram.
const MAGIC: [u8; 4] = *b"LBK1";

/// The longest name, bytes.
const MAX_NAME: usize = 32;

/// The length of a tag, bytes.
const TAG: usize = 32;

/// The longest datagram, bytes.
pub(crate) const MAX_LEN: usize = 40 + MAX_NAME + TAG;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The node is alive.
    Beat = 1,
    /// The node leaves, and its silence must not be reported.
    Goodbye = 2,
}

/// The content of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The sender.
    pub(crate) node: Name,
    /// The kind.
    pub(crate) kind: Kind,
    /// When the node started, in ms since 1970. It distinguishes a restarted node from a recording of its previous
    /// process.
    pub(crate) epoch: u64,
    /// The number, which grows with each datagram of an epoch.
    pub(crate) number: u64,
    /// The address at which the node serves requests.
    pub(crate) address: SocketAddr,
}

/// The reason why a datagram is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// Longer than any valid datagram.
    Oversized,
    /// Not in the format.
    Malformed,
    /// The tag is not that of the named node.
    Forged,
    /// Not newer than the last datagram of its node.
    Replayed,
    /// The node sends too many datagrams.
    Flooding,
    /// From a new node, although the maximum number of nodes is reached.
    Full,
}

/// The secret of the keeper, from which the keys of all nodes are derived. With an empty secret, the tag is only a
/// checksum.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// Creates a secret from these bytes.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// Returns the key of the node with this name.
    pub(crate) fn key_of(&self, node: &str) -> Key {
        Key(mac(&self.0, node.as_bytes()).finalize().into_bytes().into())
    }
}

/// The key with which a node signs.
#[derive(Clone)]
pub(crate) struct Key(pub(crate) [u8; 32]);

/// Returns HMAC-SHA256 of `bytes`.
fn mac(key: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key)
        .expect("HMAC takes keys of any length")
        .chain_update(bytes)
}

/// Encodes and signs a message.
pub(crate) fn encode(message: &Message, key: &Key) -> Vec<u8> {
    debug_assert!(is_name(message.node.as_bytes()), "{}", message.node);
    let ip = match message.address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut datagram = Vec::with_capacity(MAX_LEN);
    datagram.extend(MAGIC);
    datagram.push(message.kind as u8);
    datagram.extend(message.epoch.to_be_bytes());
    datagram.extend(message.number.to_be_bytes());
    datagram.extend(ip.octets());
    datagram.extend(message.address.port().to_be_bytes());
    datagram.push(message.node.len() as u8);
    datagram.extend(message.node.as_bytes());
    let tag = mac(&key.0, &datagram).finalize().into_bytes();
    datagram.extend(tag);
    datagram
}

/// Decodes a datagram and checks its signature, with the cheapest checks first.
pub(crate) fn decode(datagram: &[u8], secret: &Secret) -> Result<Message, Refusal> {
    if datagram.len() > MAX_LEN {
        return Err(Refusal::Oversized);
    }
    let (signed, tag) = datagram
        .split_last_chunk::<TAG>()
        .ok_or(Refusal::Malformed)?;
    let message = parse(signed).ok_or(Refusal::Malformed)?;
    let key = secret.key_of(&message.node);
    // Takes equally long wherever the first wrong byte is; otherwise the tag could be guessed byte by byte.
    let is_signed = mac(&key.0, signed).verify_slice(tag).is_ok();
    is_signed.then_some(message).ok_or(Refusal::Forged)
}

/// Decodes everything except the tag, or returns `None` if the format is wrong.
fn parse(bytes: &[u8]) -> Option<Message> {
    let bytes = bytes.strip_prefix(&MAGIC)?;
    let (&[kind], bytes) = bytes.split_first_chunk()?;
    let (&epoch, bytes) = bytes.split_first_chunk()?;
    let (&number, bytes) = bytes.split_first_chunk()?;
    let (&ip, bytes) = bytes.split_first_chunk::<16>()?;
    let (&port, bytes) = bytes.split_first_chunk()?;
    let (&[length], name) = bytes.split_first_chunk()?;
    let kind = match kind {
        1 => Kind::Beat,
        2 => Kind::Goodbye,
        _ => return None,
    };
    (name.len() == usize::from(length) && is_name(name)).then_some(Message {
        node: Name::from_utf8(name).ok()?,
        kind,
        epoch: u64::from_be_bytes(epoch),
        number: u64::from_be_bytes(number),
        address: SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes(port)),
    })
}

/// Returns whether a name is valid. Names appear in logs and terminals, so they contain no characters that could do
/// harm there.
fn is_name(name: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && name.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn secret() -> Secret {
        Secret::new("only the keeper knows")
    }

    fn signed(message: &Message) -> Vec<u8> {
        encode(message, &secret().key_of(&message.node))
    }

    prop_compose! {
        fn message()(
            node in "[a-z0-9.-]{1,32}",
            is_beat: bool,
            epoch: u64,
            number: u64,
            address: SocketAddr,
        ) -> Message {
            // What the layout has no room for: the scope and the flow of an IPv6 address.
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let kind = if is_beat { Kind::Beat } else { Kind::Goodbye };
            Message { node: node.into(), kind, epoch, number, address }
        }
    }

    proptest! {
        // Each signs and checks hundreds of times.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_flipped_bit_goes_unnoticed(message in message()) {
            let mut bytes = signed(&message);
            for bit in 0..8 * bytes.len() {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&bytes, &secret()).is_err(), "bit {}", bit);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn no_other_length_is_taken(message in message()) {
            let bytes = signed(&message);
            for length in 0..2 * MAX_LEN {
                if length == bytes.len() {
                    continue;
                }
                let mut other = bytes.clone();
                other.resize(length, 0);
                let refusal = if length > MAX_LEN { Refusal::Oversized } else { Refusal::Malformed };
                prop_assert_eq!(decode(&other, &secret()), Err(refusal));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            prop_assert_eq!(decode(&signed(&message), &secret()), Ok(message));
        }

        #[test]
        fn no_bytes_make_it_panic_and_none_are_taken(
            mut bytes in prop::collection::vec(any::<u8>(), 0..2 * MAX_LEN),
            has_magic: bool,
        ) {
            if has_magic && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            prop_assert!(decode(&bytes, &secret()).is_err());
        }
    }

    fn example() -> Message {
        Message {
            node: "ant".into(),
            kind: Kind::Beat,
            epoch: 1_700_000_000_000,
            number: 7,
            address: "192.0.2.1:80".parse().unwrap(),
        }
    }

    #[test]
    fn the_layout_is_the_one_documented() {
        let mut expected = b"LBK1\x01".to_vec();
        expected.extend(b"\x00\x00\x01\x8b\xcf\xe5\x68\x00");
        expected.extend(b"\x00\x00\x00\x00\x00\x00\x00\x07");
        expected
            .extend(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01\x00\x50");
        expected.extend(b"\x03ant");
        let datagram = signed(&example());
        assert_eq!(datagram.len(), expected.len() + TAG);
        assert_eq!(datagram[..expected.len()], expected);
    }

    #[test]
    fn a_node_cannot_speak_for_another() {
        let stolen = encode(&example(), &secret().key_of("bee"));
        assert_eq!(decode(&stolen, &secret()), Err(Refusal::Forged));
        let foreign = encode(&example(), &Secret::new("a guess").key_of("ant"));
        assert_eq!(decode(&foreign, &secret()), Err(Refusal::Forged));
    }

    #[test]
    fn the_longest_datagram_is_taken_and_a_byte_more_is_not() {
        let mut longest = example();
        longest.node = "n".repeat(MAX_NAME).into();
        let mut datagram = signed(&longest);
        assert_eq!(datagram.len(), MAX_LEN);
        assert_eq!(decode(&datagram, &secret()), Ok(longest));
        datagram.push(0);
        assert_eq!(decode(&datagram, &secret()), Err(Refusal::Oversized));
    }

    #[test]
    fn names_that_could_do_harm_in_a_log_are_refused_though_signed() {
        for name in ["\x1b[2J", "a\n", "Ant", "ä", "a b"] {
            let mut bytes = signed(&example());
            bytes.truncate(39);
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            let key = secret().key_of(name);
            bytes.extend(mac(&key.0, &bytes.clone()).finalize().into_bytes());
            assert_eq!(decode(&bytes, &secret()), Err(Refusal::Malformed));
        }
    }
}
