//! An attacker that sends datagrams which the keeper must refuse.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::wire::{self, Kind, MAX_LEN, Message, Refusal, Secret};

/// The sender: a known node, which can do more harm than a stranger.
pub(crate) const NAME: &str = "imp";

/// The number of datagrams in a flood: far more than a node may send, and fewer than a socket's buffer holds, so that
/// no beat of another node is lost.
const FLOOD: u64 = 100;

/// How many datagrams the keeper must refuse for each reason, at least and at most.
pub(crate) const EXPECTED: [(Refusal, u64, u64); 6] = [
    (Refusal::Oversized, 3, 3),
    (Refusal::Malformed, 5, 5),
    (Refusal::Forged, 4, 4),
    (Refusal::Replayed, 4, 4),
    // It may send 5 at once, 2 of which are used up; then as many more as units pass while the keeper reads the flood.
    (Refusal::Flooding, FLOOD - 13, FLOOD - 3),
    (Refusal::Full, 2, 2),
];

/// Sends it all. Whatever the keeper makes of it, its own nodes must not notice.
pub(crate) fn make(keeper: SocketAddr, secret: &Secret) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(keeper)?;
    let send = |datagram: &[u8]| socket.send(datagram).map(drop);
    let address = socket.local_addr()?;
    let message = |node: &str, kind, epoch, number| Message {
        node: node.into(),
        kind,
        epoch,
        number,
        address,
    };
    let sign = |message: &Message| wire::encode(message, &secret.key_of(&message.node));

    let first = sign(&message(NAME, Kind::Beat, 10, 1));
    let second = sign(&message(NAME, Kind::Beat, 10, 2));
    send(&first)?;
    send(&second)?;

    // Replayed: the last again, one before it, one of an earlier start, and an old goodbye.
    send(&second)?;
    send(&first)?;
    send(&sign(&message(NAME, Kind::Beat, 9, 99)))?;
    send(&sign(&message(NAME, Kind::Goodbye, 10, 1)))?;

    // Oversized: by a byte, by the length of a good one behind a good one, and by much.
    let mut longest = second.clone();
    longest.resize(MAX_LEN + 1, 0);
    send(&longest)?;
    send(&second.repeat(2))?;
    send(&[0; 1_400])?;

    // Malformed: nothing, noise, half of a good one, one with something behind it, and another version.
    send(&[])?;
    send(b"GET / HTTP/1.1\r\n\r\n, and some more, so that a tag would fit")?;
    send(&second[..second.len() / 2])?;
    send(&[&second[..], &[0]].concat())?;
    let mut version = second.clone();
    version[3] = b'2';
    send(&version)?;

    // Forged: a beat and a goodbye of another node, a good one changed, and a secret guessed.
    let own = secret.key_of(NAME);
    send(&wire::encode(
        &message("ant", Kind::Beat, u64::MAX, 1),
        &own,
    ))?;
    send(&wire::encode(
        &message("ant", Kind::Goodbye, u64::MAX, 1),
        &own,
    ))?;
    let mut changed = second.clone();
    changed[20] += 1;
    send(&changed)?;
    let guess = Secret::new("12345").key_of(NAME);
    send(&wire::encode(&message(NAME, Kind::Beat, 11, 1), &guess))?;

    // More nodes than there may be, signed as they should be.
    send(&sign(&message("jay", Kind::Beat, 10, 1)))?;
    send(&sign(&message("kea", Kind::Beat, 10, 1)))?;

    (0..FLOOD).try_for_each(|more| send(&sign(&message(NAME, Kind::Beat, 10, 3 + more))))
}
