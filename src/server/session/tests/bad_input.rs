//! Bytes that a peer must not send: each ends with an HTTP status or a close code.

use super::*;

/// Returns the cause and the code after `bytes`, and what was written.
fn end_of(mut it: Driver<Json>, bytes: &[u8]) -> (Cause, u16, Vec<u8>) {
    it.receive(bytes);
    it.advance(100 * S);
    let (cause, code) = (closed(&it).cause, closed(&it).code);
    (cause, code, it.written())
}

fn on_websocket(bytes: &[u8]) -> (Cause, u16) {
    let (cause, code, output) = end_of(Driver::websocket(Settings::default()), bytes);
    // The last frame says so.
    let close = output
        .windows(4)
        .rposition(|it| it[0] == 0x88 && it[2..] == code.to_be_bytes());
    assert!(close.is_some(), "{output:x?}");
    (cause, code)
}

fn on_tcp(framing: Framing, bytes: &[u8]) -> (Cause, u16) {
    let (cause, code, output) = end_of(Driver::tcp(Settings::default(), framing), bytes);
    let output = String::from_utf8_lossy(&output);
    assert!(
        output.contains(&format!(r#"{{"type":"Error","code":{code},"#)),
        "{output}"
    );
    (cause, code)
}

fn on_http(bytes: &[u8]) -> (Cause, u16) {
    let (cause, code, output) = end_of(Driver::requesting(Settings::default()), bytes);
    let answer = String::from_utf8_lossy(&output);
    assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    (cause, code)
}

#[test]
fn bad_frames_end_with_the_code_of_the_standard() {
    let protocol = (Cause::Protocol, 1002);
    assert_eq!(on_websocket(b"\x81\x05Hello"), protocol, "not masked");
    assert_eq!(
        on_websocket(&masked(0x83, b"")),
        protocol,
        "reserved opcode"
    );
    assert_eq!(on_websocket(&masked(0xC1, b"")), protocol, "reserved bit");
    assert_eq!(
        on_websocket(&masked(0x89, &[0; 126])),
        protocol,
        "long ping"
    );
    assert_eq!(
        on_websocket(&masked(0x88, b"\x03\xed")),
        protocol,
        "close code 1005"
    );
    let length = [&[0x82, 0xFF, 0x80][..], &[0; 11]].concat();
    assert_eq!(on_websocket(&length), protocol, "a length of 2^63");
    let length = [&[0x82, 0xFF, 0x7F][..], &[0xFF; 11]].concat();
    assert_eq!(
        on_websocket(&length),
        (Cause::TooBig, 1009),
        "a length of 2^63 - 1"
    );
    let empties = [masked(0x01, b""), masked(0x00, b"").repeat(100_000)].concat();
    assert_eq!(on_websocket(&empties), protocol, "empty continuations");
    assert_eq!(
        on_websocket(&text("\u{fffd}")[..]),
        (Cause::BadMessage, 1007)
    );
    assert_eq!(on_websocket(&masked(0x81, b"\xff")), (Cause::BadText, 1007));
}

#[test]
fn bad_messages_end_with_their_reason() {
    assert_eq!(on_websocket(&text("{}")), (Cause::BadMessage, 1007));
    let twice = r#"{"type":"A","type":"B"}"#;
    assert_eq!(on_websocket(&text(twice)), (Cause::BadMessage, 1007));
    assert_eq!(
        on_tcp(Framing::U16, &delimited(twice)),
        (Cause::BadMessage, 1007)
    );
    assert_eq!(
        on_tcp(Framing::Lines, b"hello\n"),
        (Cause::BadMessage, 1007)
    );
}

#[test]
fn bad_lengths_end_at_once_and_half_ones_in_time() {
    assert_eq!(on_tcp(Framing::U16, b"\0\0"), (Cause::Protocol, 1002));
    assert_eq!(
        on_tcp(Framing::U32, b"\xff\xff\xff\xff"),
        (Cause::TooBig, 1009)
    );
    assert_eq!(
        on_tcp(Framing::Lines, &b"x".repeat(70_000)),
        (Cause::TooBig, 1009)
    );
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.receive(b"\x01");
    it.advance(30 * S);
    assert_eq!(it.session.cause(), Some(Cause::TooSlow));
}

#[test]
fn text_for_a_codec_of_bytes_is_1003() {
    #[cfg(feature = "msgpack")]
    {
        use crate::server::codec::msgpack::MsgPack;
        let mut it = Driver::<MsgPack>::websocket(Settings::default());
        it.receive(&text("x"));
        assert_eq!(&it.written()[2..4], 1003u16.to_be_bytes());
        assert_eq!(it.session.cause(), Some(Cause::Protocol));
    }
}

#[test]
fn bad_requests_end_with_their_status() {
    let refused = |code| (Cause::Refused, code);
    assert_eq!(
        on_http(b"\x16\x03\x01\x02\0\x01\0\x01\xfc"),
        refused(400),
        "TLS"
    );
    assert_eq!(on_http(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), refused(426));
    assert_eq!(
        on_http(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused(200)
    );
    let long = [b"GET /", &b"a".repeat(20 << 10)[..]].concat();
    assert_eq!(on_http(&long), refused(431));
    assert_eq!(on_http(b"GET / HTTP/1.1\r\nHost: "), (Cause::TooSlow, 408));
}

#[test]
fn an_endless_header_ends_by_its_length_or_its_time() {
    let mut it = Driver::<Json>::requesting(Settings::default());
    it.receive(b"GET / HTTP/1.1\r\n");
    for second in 0..5 {
        assert!(
            it.closed.is_none() && it.session.cause().is_none(),
            "{second}"
        );
        it.receive(b"X: y\r\n");
        it.advance(S);
    }
    assert_eq!(it.session.cause(), Some(Cause::TooSlow));
    assert!(it.written().starts_with(b"HTTP/1.1 408 "));
    it.advance(S);
    assert_eq!(closed(&it).cause, Cause::TooSlow);
}
