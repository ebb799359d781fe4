use super::*;

/// What a frame is, without borrowing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Frame<'_>> for Got {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Text(text) => Got::Text(text.to_owned()),
            Frame::Binary(bytes) => Got::Binary(bytes.to_vec()),
            Frame::Ping(bytes) => Got::Ping(bytes.to_vec()),
            Frame::Pong(bytes) => Got::Pong(bytes.to_vec()),
            Frame::Close(close) => Got::Close(close.map(|(code, text)| (code, text.to_owned()))),
        }
    }
}

/// Reads `pieces` one after another, as a server with the limit `max`.
fn read(max: usize, pieces: &[&[u8]]) -> (Vec<Got>, Result<(), Violation>) {
    let mut reader = Reader::default();
    let mut got = Vec::new();
    let mut result = Ok(());
    for piece in pieces {
        let mut piece = piece.to_vec();
        result = reader.push(Role::Server, max, &mut piece, |frame| {
            got.push(frame.into());
            Ok(())
        });
        if result.is_err() || matches!(got.last(), Some(Got::Close(_))) {
            break;
        }
    }
    (got, result)
}

/// Reads `bytes` as a whole, byte by byte and in two pieces of each length, which must come to the same.
fn read_split(max: usize, bytes: &[u8]) -> (Vec<Got>, Result<(), Violation>) {
    let whole = read(max, &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(max, &single), whole, "byte by byte");
    for at in 0..bytes.len().min(200) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(max, &[first, second]), whole, "split at {at}");
    }
    whole
}

fn violation(bytes: &[u8]) -> Violation {
    read_split(1_000, bytes).1.unwrap_err()
}

#[test]
fn the_examples_of_the_standard_are_read() {
    let hello = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let (got, result) = read_split(5, &hello);
    assert_eq!((got, result), (vec![Got::Text("Hello".into())], Ok(())));
    let mut reader = Reader::default();
    let mut got = Vec::new();
    // As a client: a message in two fragments.
    let mut input = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let read = reader.push(Role::Client, 5, &mut input, |frame| {
        got.push(Got::from(frame));
        Ok(())
    });
    assert_eq!((got, read), (vec![Got::Text("Hello".into())], Ok(())));
}

#[test]
fn messages_of_every_length_of_length_are_read_and_written() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..len).map(|at: usize| at as u8).collect();
        let frame = masked(0x82, &payload);
        let (got, result) = read(
            70_000,
            &[
                &frame[..1],
                &frame[1..9.min(frame.len())],
                &frame[9.min(frame.len())..],
            ],
        );
        assert_eq!((got, result), (vec![Got::Binary(payload.clone())], Ok(())));
        let mut written = vec![7, 0, 0];
        written.extend(&payload);
        seal(&mut written, 1, Opcode::Binary, Role::Server);
        let mut reader = Reader::default();
        let mut got = Vec::new();
        let read = reader.push(Role::Client, 70_000, &mut written[1..], |frame| {
            got.push(Got::from(frame));
            Ok(())
        });
        assert_eq!((got, read), (vec![Got::Binary(payload)], Ok(())));
    }
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let mut bytes = masked(0x01, "gr\u{fc}".as_bytes()[..3].as_ref());
    bytes.extend(masked(0x89, b"are you there"));
    bytes.extend(masked(0x00, b""));
    bytes.extend(masked(0x8A, b""));
    bytes.extend(masked(
        0x80,
        &["gr\u{fc}".as_bytes()[3..].as_ref(), b"n"].concat(),
    ));
    bytes.extend(masked(0x82, b"\xff"));
    let (got, result) = read_split(10, &bytes);
    let expected = [
        Got::Ping(b"are you there".to_vec()),
        Got::Pong(Vec::new()),
        Got::Text("gr\u{fc}n".to_owned()),
        Got::Binary(vec![0xFF]),
    ];
    assert_eq!((got.as_slice(), result), (&expected[..], Ok(())));
}

#[test]
fn nothing_after_a_close_counts() {
    let mut bytes = masked(0x88, b"\x03\xe8bye");
    bytes.extend([0xFF; 30]);
    let (got, result) = read_split(10, &bytes);
    assert_eq!(got, [Got::Close(Some((1000, "bye".to_owned())))]);
    assert_eq!(result, Ok(()));
    assert_eq!(read_split(10, &masked(0x88, b"")).0, [Got::Close(None)]);
}

#[test]
fn frames_against_the_protocol_are_refused() {
    let protocol = |bytes: &[u8]| matches!(violation(bytes), Violation::Protocol(_));
    assert!(protocol(b"\x81\x05Hello"), "not masked");
    assert!(protocol(&masked(0xC1, b"x")), "reserved bit");
    assert!(protocol(&masked(0x83, b"x")), "reserved opcode");
    assert!(protocol(&masked(0x8B, b"x")), "reserved control opcode");
    assert!(protocol(&masked(0x09, b"x")), "fragmented ping");
    assert!(protocol(&masked(0x89, &[0; 126])), "long ping");
    assert!(protocol(&masked(0x80, b"x")), "continuation of nothing");
    assert!(protocol(&masked(0x00, b"x")), "fragment of nothing");
    let within = [masked(0x01, b"x"), masked(0x81, b"y")].concat();
    assert!(protocol(&within), "message within a message");
    assert!(
        protocol(&[b"\x82\xff\x80\0\0\0\0\0\0\0".as_ref(), &[0; 4]].concat()),
        "2^63"
    );
    // RFC 6455, 5.2: the minimal number of bytes must be used.
    let mask = [0; 4];
    for (opcode, len) in [(0x81, 0), (0x82, 125), (0x01, 3)] {
        let long = [
            &[opcode, 0xFE, 0, len],
            &mask[..],
            &[b'x'; 125][..len.into()],
        ]
        .concat();
        assert!(protocol(&long), "{len} in two bytes");
        let long = [&[opcode, 0xFF, 0, 0, 0, 0, 0, 0, 0, len], &mask[..]].concat();
        assert!(protocol(&long), "{len} in eight bytes");
    }
    let long = [&b"\x82\xff\0\0\0\0\0\0\xff\xff"[..], &mask].concat();
    assert!(protocol(&long), "65535 in eight bytes");
    assert!(protocol(&masked(0x88, b"x")), "close code of one byte");
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2000, 5000] {
        assert!(
            protocol(&masked(0x88, &code.to_be_bytes())),
            "close code {code}"
        );
    }
}

#[test]
fn a_million_empty_fragments_end_early() {
    let mut bytes = masked(0x01, b"");
    for _ in 0..2_000 {
        bytes.extend(masked(0x00, b""));
    }
    let (got, result) = read(10, &[&bytes]);
    assert_eq!(got, []);
    assert_eq!(result, Err(Violation::Protocol("too many empty fragments")));
}

#[test]
fn text_that_is_not_utf_8_is_refused_as_early_as_it_is_known() {
    assert_eq!(violation(&masked(0x81, b"\xff")), Violation::BadText);
    assert_eq!(violation(&masked(0x81, b"\xc3")), Violation::BadText);
    // In the first fragment already.
    assert_eq!(violation(&masked(0x01, b"a\xffb")), Violation::BadText);
    // A surrogate, cut in two.
    let cut = [masked(0x01, b"\xed"), masked(0x80, b"\xa0\x80")].concat();
    assert_eq!(violation(&cut), Violation::BadText);
    // A character that is never completed.
    let cut = [masked(0x01, b"\xc3"), masked(0x80, b"")].concat();
    assert_eq!(violation(&cut), Violation::BadText);
    assert_eq!(
        violation(&masked(0x88, b"\x03\xe8\xff")),
        Violation::BadText
    );
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_header() {
    assert_eq!(violation(&masked(0x82, &[0; 1_001])), Violation::TooBig);
    let parts = [masked(0x02, &[0; 600]), masked(0x80, &[0; 401])].concat();
    assert_eq!(violation(&parts), Violation::TooBig);
    let header = [0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(violation(&header), Violation::TooBig);
    assert_eq!(header.len(), MAX_HEADER);
}

#[test]
fn memory_follows_what_came_and_is_given_back() {
    let mut reader = Reader::default();
    let mut frame = masked(0x82, &vec![7; 60_000]);
    let nothing = |_: Frame<'_>| Ok(());
    let max = usize::MAX >> 1;
    reader
        .push(Role::Server, max, &mut frame[..100], nothing)
        .unwrap();
    let partial = reader.partial.as_ref().unwrap();
    assert!(
        partial.message.capacity() <= 200,
        "{}",
        partial.message.capacity()
    );
    assert_eq!(reader.incomplete(), Incomplete::New);
    assert_eq!(reader.incomplete(), Incomplete::Same);
    reader
        .push(Role::Server, max, &mut frame[100..], nothing)
        .unwrap();
    assert!(reader.partial.is_none());
    assert_eq!(reader.incomplete(), Incomplete::Nothing);
    assert!(size_of::<Reader>() <= 8);
}
