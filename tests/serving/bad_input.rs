//! Input that breaks a rule, and what its peer sees.

use std::io::{Read, Write};

use liveness::server::{Cause, Framing};
use serde_json::Value;

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, frame, get, get_close, get_frame, next_end, put,
    reporting, until,
};

// The first bytes of frames that are the last of their message.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// The first byte of a text that is not the last frame of its message.
const FIRST: u8 = 0x01;

/// The first byte of a frame that goes on with a message and is not its last.
const MORE: u8 = 0x00;

/// A message with nothing wrong.
const GOOD: &[u8] = br#"{"type":"Number","data":1}"#;

/// Frames of which one is wrong: what it is called, the bytes, and the code and the cause of the end.
fn bad_frames() -> Vec<(&'static str, Vec<u8>, u16, Cause)> {
    let mut unmasked = vec![TEXT, GOOD.len() as u8];
    unmasked.extend_from_slice(GOOD);
    let both = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    vec![
        ("not masked", unmasked, 1_002, Cause::Protocol),
        ("reserved opcode", frame(0x83, b""), 1_002, Cause::Protocol),
        ("reserved control", frame(0x8B, b""), 1_002, Cause::Protocol),
        ("reserved bit", frame(0xA1, GOOD), 1_002, Cause::Protocol),
        ("long ping", frame(PING, &[0; 126]), 1_002, Cause::Protocol),
        ("ping in parts", frame(0x09, b"x"), 1_002, Cause::Protocol),
        ("no beginning", frame(0x80, GOOD), 1_002, Cause::Protocol),
        (
            "a message inside another",
            both(frame(FIRST, b"{"), frame(TEXT, GOOD)),
            1_002,
            Cause::Protocol,
        ),
        (
            "longest length",
            vec![BINARY, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            1_002,
            Cause::Protocol,
        ),
        (
            "64 MiB are claimed",
            vec![BINARY, 0xFF, 0, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4],
            1_009,
            Cause::TooBig,
        ),
        ("too big", frame(TEXT, &[b' '; 1_025]), 1_009, Cause::TooBig),
        (
            "too big in parts",
            both(frame(FIRST, &[b' '; 1_000]), frame(MORE, &[b' '; 25])),
            1_009,
            Cause::TooBig,
        ),
        ("no UTF-8", frame(TEXT, b"\"\xFF\""), 1_007, Cause::BadText),
        (
            "no UTF-8 in parts",
            both(frame(FIRST, b"\"\xC3"), frame(MORE, b"\x28\"")),
            1_007,
            Cause::BadText,
        ),
        ("no JSON", frame(TEXT, b"hello"), 1_007, Cause::BadMessage),
        ("no envelope", frame(TEXT, b"[1]"), 1_007, Cause::BadMessage),
        ("nothing", frame(TEXT, b""), 1_007, Cause::BadMessage),
        (
            "another type of body",
            frame(TEXT, br#"{"type":"Number","data":"x"}"#),
            1_007,
            Cause::BadMessage,
        ),
        (
            "a panic",
            frame(BINARY, br#"{"type":"Panic"}"#),
            1_011,
            Cause::Handler,
        ),
        (
            "close with one byte",
            frame(CLOSE, b"x"),
            1_002,
            Cause::Protocol,
        ),
        (
            "close with a code that must not be sent",
            frame(CLOSE, &1_005_u16.to_be_bytes()),
            1_002,
            Cause::Protocol,
        ),
        (
            "close with a reason that is not UTF-8",
            frame(CLOSE, b"\x03\xE8\xFF"),
            1_007,
            Cause::BadText,
        ),
    ]
}

#[test]
fn each_kind_of_bad_frame_gets_its_close_code() {
    let (builder, reports) = reporting();
    let server = builder
        .max_message(1 << 10)
        .on("Number", |_: &Peer, _: u8| ())
        .on("Panic", |_: &Peer, _: Value| {
            std::panic::resume_unwind(Box::new("for the test"))
        })
        .start()
        .unwrap();
    for (what, bytes, code, cause) in bad_frames() {
        let mut stream = connect_websocket(server.local_addrs()[1]);
        stream.write_all(&frame(TEXT, GOOD)).unwrap();
        stream.write_all(&bytes).unwrap();
        let close = get_close(&mut stream);
        assert_eq!(close.0, code, "{what}: {}", close.1);
        // Clients answer; those that do not are waited for.
        stream
            .write_all(&frame(CLOSE, &code.to_be_bytes()))
            .unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{what}");
        drop(stream);
        let closed = next_end(&reports);
        assert_eq!((closed.cause, closed.code), (cause, code), "{what}");
        assert_eq!(closed.reason, close.1, "{what}");
    }
    until("all are reported", || server.stats().reported == 0);
    assert!(server.stats().is_balanced());
}

#[test]
fn each_kind_of_bad_message_on_tcp_is_answered_with_an_error_first() {
    let (builder, reports) = reporting();
    let server = builder.max_message(1 << 10).start().unwrap();
    let cases: [(&[u8], u16, Cause); 4] = [
        (b"\0\0", 1_002, Cause::Protocol),
        (b"\x04\x01", 1_009, Cause::TooBig),
        (b"\0\x05hello", 1_007, Cause::BadMessage),
        (b"\0\x02\xFF\xFF", 1_007, Cause::BadMessage),
    ];
    for (bytes, code, cause) in cases {
        let mut stream = connect(server.local_addrs()[0]);
        stream.write_all(bytes).unwrap();
        let error: Value = serde_json::from_str(&get(&mut stream)).unwrap();
        assert_eq!(error["type"], "Error");
        assert_eq!(error["code"], code, "{bytes:?} {error}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        drop(stream);
        let closed = next_end(&reports);
        assert_eq!((closed.cause, closed.code), (cause, code));
    }
}

#[test]
fn a_message_in_parts_with_pings_between_them_is_one_message() {
    let server = reporting().0.start().unwrap();
    let text = format!(r#"{{"type":"Echo","data":"{}"}}"#, "ä".repeat(300));
    for size in [1, 5, 100, 400] {
        let mut stream = connect_websocket(server.local_addrs()[1]);
        let mut all = Vec::new();
        let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        for (index, part) in parts.iter().enumerate() {
            let first = if index == 0 { FIRST } else { MORE };
            let is_last = index + 1 == parts.len();
            all.extend(frame(first | u8::from(is_last) << 7, part));
            if index % 50 == 0 {
                all.extend(frame(PONG, b"unasked"));
            }
            if is_last {
                all.extend(frame(PING, b"between"));
            }
        }
        // The pieces of the stream are others than the frames.
        for piece in all.chunks(333) {
            stream.write_all(piece).unwrap();
        }
        let mut got = [get_frame(&mut stream), get_frame(&mut stream)];
        got.sort();
        assert_eq!(got[0], (1, text.clone().into_bytes()));
        assert_eq!(got[1], (10, b"between".to_vec()));
    }
}

#[test]
fn parts_of_a_message_without_end_are_too_slow_although_the_peer_talks() {
    let (builder, reports) = reporting();
    let within = MS * 200;
    let server = builder.message_within(within).start().unwrap();
    let mut stream = connect_websocket(server.local_addrs()[1]);
    stream.write_all(&frame(FIRST, b"{")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let closed = loop {
        // Parts without content, and control frames, complete nothing.
        let _ = stream.write(&frame(MORE, b""));
        let _ = stream.write(&frame(PONG, b""));
        if server.stats().closing + server.stats().closed > 0 {
            drop(stream);
            break next_end(&reports);
        }
        std::thread::sleep(MS * 5);
    };
    assert_eq!(
        (closed.cause, closed.code),
        (Cause::TooSlow, 1_013),
        "{closed}"
    );
    assert!(closed.opened_for >= within, "{closed}");
}

#[test]
fn another_protocol_on_the_port_of_tcp_ends_at_once() {
    let (builder, reports) = reporting();
    // Long enough that only the first bytes can end it.
    let server = builder.message_within(SOON * 2).start().unwrap();
    let cases: [(&[u8], &str); 2] = [
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "TLS"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
    ];
    for (bytes, what) in cases {
        let mut stream = connect(server.local_addrs()[0]);
        stream.write_all(bytes).unwrap();
        let error: Value = serde_json::from_str(&get(&mut stream)).unwrap();
        assert_eq!(error["code"], 1_002);
        assert!(error["msg"].as_str().unwrap().contains(what), "{error}");
        drop(stream);
        assert_eq!(next_end(&reports).cause, Cause::Protocol);
    }
}

#[test]
fn lines_are_a_framing_for_use_by_hand() {
    let (builder, reports) = reporting();
    let server = builder
        .framing(Framing::Lines)
        .max_message(100)
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    stream
        .write_all(b"\n{\"type\":\"Echo\",\r\"data\":1}\r\n\n{\"type\"")
        .unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"{\"type\":\"Echo\",\"data\":1}\n");
    stream.write_all(&[b' '; 200]).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"code\":1009"), "{rest}");
    drop(stream);
    assert_eq!(next_end(&reports).cause, Cause::TooBig);
}

#[test]
fn lengths_of_four_bytes_are_a_framing_for_long_messages() {
    let (builder, reports) = reporting();
    let server = builder
        .framing(Framing::U32)
        .max_message(1 << 20)
        .outbound(4 << 20)
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    let text = format!(r#"{{"type":"Echo","data":"{}"}}"#, "x".repeat(500_000));
    let mut message = (text.len() as u32).to_be_bytes().to_vec();
    message.extend_from_slice(text.as_bytes());
    stream.write_all(&message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer == message);
    stream.write_all(&[0xFF; 4]).unwrap();
    drop(stream);
    assert_eq!(next_end(&reports).cause, Cause::TooBig);
}

#[test]
fn messages_of_no_route_are_counted_and_harm_nothing() {
    let server = reporting().0.start().unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for message in [
        r#"{"type":"Nothing"}"#,
        r#"{"type":""}"#,
        r#"{"type":"Pong"}"#,
        r#"{"type":"Echo","re":99,"data":1}"#,
        r#"{"type":"Error","re":98,"code":1,"msg":"x"}"#,
    ] {
        put(&mut stream, message);
    }
    crate::kit::echo(&mut stream);
    assert_eq!(server.stats().unknown, 2);
}
