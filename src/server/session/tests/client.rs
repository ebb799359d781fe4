//! The session in the role of the client.

use super::super::Step;
use super::*;
use crate::server::websocket::{Frame, Reader, Role};
use crate::server::wire::Link;

/// Returns a text frame of a server.
fn said(message: &str) -> Vec<u8> {
    unmasked(0x81, message.as_bytes())
}

/// Returns the texts and codes of the frames that a client wrote, which are read as a server reads them.
fn read(output: &mut [u8]) -> Vec<String> {
    let mut frames = Vec::new();
    let read = Reader::default().push(Role::Server, 1 << 20, output, |frame| {
        frames.push(match frame {
            Frame::Text(text) => text.to_owned(),
            Frame::Ping(_) => "ping".to_owned(),
            Frame::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
            Frame::Close(close) => format!("close {:?}", close.map(|it| it.0)),
            Frame::Binary(_) => "binary".to_owned(),
        });
        Ok(())
    });
    assert_eq!(read, Ok(()));
    frames
}

const HELLO: &str = r#"{"type":"Hello","data":1}"#;

#[test]
fn a_client_writes_masked_frames_of_every_length_of_length() {
    let mut it = Driver::<Json>::client(Settings {
        limits: Limits {
            outbound: 1 << 20,
            ..Limits::default()
        },
        ..Settings::default()
    });
    for len in [1, 90, 110, 200, 65_480, 70_000] {
        let body = format!("\"{}\"", "x".repeat(len));
        assert!(it.send("A", body.as_bytes()));
        let mut output = it.written();
        assert_eq!(output[1] & 0x80, 0x80, "masked");
        let expected = format!(r#"{{"type":"A","data":{body}}}"#);
        assert_eq!(read(&mut output), [expected]);
    }
    assert!(it.send("A", b"1") && it.send("A", b"1"));
    let output = it.written();
    let (first, second) = output.split_at(output.len() / 2);
    assert_ne!(first, second, "each frame has its own mask");
}

#[test]
fn messages_and_pings_are_received_without_masks_and_answered_with_them() {
    let mut it = Driver::<Json>::client(Settings::default());
    it.receive(
        &[
            said(HELLO),
            unmasked(0x89, b"p"),
            said(r#"{"type":"Ping"}"#),
        ]
        .concat(),
    );
    assert_eq!(it.messages, [("Hello".to_owned(), b"1".to_vec())]);
    let mut output = it.written();
    assert_eq!(
        read(&mut output),
        ["pong p", r#"{"type":"Pong","data":{}}"#]
    );
    it.receive(&text(HELLO));
    assert_eq!(it.session.cause(), Some(Cause::Protocol), "a masked frame");
    assert_eq!(read(&mut it.written()), ["close Some(1002)"]);
}

#[test]
fn messages_may_come_with_the_answer_and_at_any_split() {
    let input = [ANSWER, &said(HELLO), &unmasked(0x88, b"\x03\xe9")].concat();
    for at in 0..input.len() {
        let mut it = Driver::<Json>::upgrading(Settings::default());
        it.output.clear();
        it.receive(&input[..at]);
        it.receive(&input[at..]);
        assert_eq!(it.messages, [("Hello".to_owned(), b"1".to_vec())], "{at}");
        assert_eq!(it.session.cause(), Some(Cause::Peer));
        assert_eq!(it.session.closed().map(|it| it.code), Some(1001));
        assert_eq!(read(&mut it.written()), ["close Some(1001)"]);
    }
}

#[test]
fn a_refused_upgrade_ends_with_its_status_and_without_a_word() {
    let mut it = Driver::<Json>::upgrading(Settings::default());
    it.output.clear();
    it.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 14\r\n\r\ntoken expired\n");
    let report = closed(&it);
    assert_eq!((report.cause, report.code), (Cause::Refused, 401));
    assert_eq!(report.reason, "token expired");
    assert_eq!(it.output, b"");
    let mut it = Driver::<Json>::upgrading(Settings::default());
    it.receive(b"HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(closed(&it).cause, Cause::Protocol);
    assert!(closed(&it).reason.contains("Sec-WebSocket-Accept"));
    let mut it = Driver::<Json>::upgrading(Settings::default());
    it.output.clear();
    it.session.close(Cause::App, None, String::new(), it.at());
    it.settle();
    assert_eq!(closed(&it).cause, Cause::App);
    assert_eq!(it.output, b"");
}

#[test]
fn an_upgrade_without_an_answer_ends_exactly_in_time() {
    let mut it = Driver::<Json>::upgrading(Settings::default());
    it.output.clear();
    it.advance(5 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::TooSlow);
    assert_eq!(it.output, b"");
}

#[test]
fn a_silent_server_is_pinged_and_dropped_exactly_in_time_without_waiting() {
    let mut it = Driver::<Json>::client(hotpot());
    it.advance(6 * S);
    assert_eq!(read(&mut it.written()), [r#"{"type":"Ping","data":{}}"#]);
    it.advance(6 * S - NS);
    assert_eq!(it.session.step(), Step::Run);
    it.advance(NS);
    let report = closed(&it);
    assert_eq!((report.cause, report.silent), (Cause::Silence, 12 * S));
    assert_eq!(it.session.cause(), Some(Cause::Silence));
}

#[test]
fn an_error_before_the_end_of_a_tcp_stream_is_its_close_code() {
    let last = delimited(r#"{"type":"Error","code":1001,"msg":"bye"}"#);
    let mut it = Driver::<Json>::client_on_tcp(Settings::default(), Framing::U16);
    assert!(matches!(it.session.wire().link, Link::Tcp(_)));
    it.receive(&last);
    it.session.eof();
    it.settle();
    let report = closed(&it);
    assert_eq!((report.cause, report.code), (Cause::Peer, 1001));
    assert_eq!(report.reason, "bye");
    // Not if something followed, nor for a code that closes nothing, nor for the answer to a request.
    for input in [
        [&last[..], &delimited(HELLO)].concat(),
        delimited(r#"{"type":"Error","code":7,"msg":"app"}"#),
        delimited(r#"{"type":"Error","re":1,"code":1001,"msg":"no"}"#),
    ] {
        let mut it = Driver::<Json>::client_on_tcp(Settings::default(), Framing::U16);
        it.receive(&input);
        it.session.eof();
        it.settle();
        assert_eq!(closed(&it).cause, Cause::Eof);
    }
    let mut it = Driver::<Json>::client_on_tcp(Settings::default(), Framing::U16);
    it.receive(&last);
    it.session.failed(it.at());
    it.settle();
    assert_eq!(closed(&it).code, 1001);
}
