//! Ends, and their causes.

use std::io::{Read, Write};
use std::net::Shutdown as Direction;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use liveness::server::{Cause, Overflow, Reject, SendError};
use socket2::SockRef;

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, get, get_frame, next_end, put, put_frame,
    reporting, until, upgrade,
};

#[test]
fn each_end_is_reported_with_its_cause() {
    let (builder, reports) = reporting();
    let server = builder
        .on("Panic", |_: &Peer, ()| {
            std::panic::resume_unwind(Box::new("for the test"))
        })
        .on("Close", |agent: &Peer, ()| agent.close(4_001, "enough"))
        .start()
        .unwrap();
    let tcp = server.local_addrs()[0];
    let cases: [(&[u8], Cause); 5] = [
        (b"\0\0", Cause::Protocol),
        (b"\0\x02{]", Cause::BadMessage),
        (b"\0\x11{\"type\":\"Panic\" }", Cause::Handler),
        (b"\0\x11{\"type\":\"Close\" }", Cause::App),
        (
            b"\0\x1c{\"type\":\"Panic\",\"data\":\"no\"}",
            Cause::BadMessage,
        ),
    ];
    for (bytes, cause) in cases {
        let mut stream = connect(tcp);
        stream.write_all(bytes).unwrap();
        // The rest is read to the end, so that nothing is reset.
        stream.read_to_end(&mut Vec::new()).unwrap();
        drop(stream);
        assert_eq!(next_end(&reports).cause, cause, "{bytes:?}");
    }
    connect(tcp).shutdown(Direction::Write).unwrap();
    assert_eq!(next_end(&reports).cause, Cause::Eof);
    let stream = connect(tcp);
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    assert_eq!(next_end(&reports).cause, Cause::Reset);
    let mut stream = connect_websocket(server.local_addrs()[1]);
    put_frame(&mut stream, 1, br#"{"type":"Close"}"#);
    let mut close = 4_001_u16.to_be_bytes().to_vec();
    close.extend_from_slice(b"enough");
    assert_eq!(get_frame(&mut stream), (8, close.clone()));
    put_frame(&mut stream, 8, &close);
    let closed = next_end(&reports);
    assert_eq!(
        (closed.cause, closed.code, &*closed.reason),
        (Cause::App, 4_001, "enough")
    );
    until("all are closed", || server.stats().reported == 0);
    assert!(server.stats().is_balanced());
    assert_eq!(server.stats().panics, 1);
}

#[test]
fn a_slow_reader_is_closed_at_its_limit_while_others_go_on() {
    let (builder, reports) = reporting();
    // What waits is discarded, and the end waits for no one.
    let server = builder
        .outbound(1 << 17)
        .close_within(SOON * 2)
        .start()
        .unwrap();
    let slow = connect(server.local_addrs()[0]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let text = "x".repeat(10_000);
    let mut sent = 0;
    let refused = loop {
        match agent.send("Text", &text) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "the limit is reached");
        if sent % 8 == 0 {
            thread::sleep(MS);
        }
    };
    assert!(matches!(refused, SendError::Full), "{refused:?}");
    assert!(matches!(agent.send("Text", "x"), Err(SendError::Closed)));
    let mut other = connect(server.local_addrs()[0]);
    put(&mut other, r#"{"type":"Echo","data":1}"#);
    get(&mut other);
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::SlowConsumer);
    assert!(closed.unsent > 0, "{closed:?}");
    drop(slow);
    until("nothing is queued", || server.stats().queued_bytes == 0);
}

#[test]
fn a_sender_waits_for_room_or_gets_the_refusal_as_the_policy_says() {
    for overflow in [Overflow::DropNew, Overflow::Block(SOON)] {
        let server = reporting()
            .0
            .outbound(1 << 16)
            .overflow(overflow)
            .start()
            .unwrap();
        let mut stream = connect(server.local_addrs()[0]);
        until("it is open", || server.stats().opened_reports == 1);
        let agent = server.agents().pop().unwrap();
        let text = "x".repeat(10_000);
        let sending = thread::spawn(move || {
            let sent = (0..2_000).map(|_| agent.send("Text", &text));
            sent.flatten().count()
        });
        if overflow == Overflow::DropNew {
            let sent = sending.join().unwrap();
            assert!(sent < 2_000);
            (0..sent).for_each(|_| drop(get(&mut stream)));
        } else {
            (0..2_000).for_each(|_| drop(get(&mut stream)));
            assert_eq!(sending.join().unwrap(), 2_000);
        }
        put(&mut stream, r#"{"type":"Echo","data":1}"#);
        assert_eq!(get(&mut stream), r#"{"type":"Echo","data":1}"#);
    }
}

#[test]
fn upgrade_requests_are_decided_by_the_program() {
    let (send, seen) = channel();
    let server = liveness::server::Server::<liveness::server::Json, String>::builder()
        .websocket("127.0.0.1:0")
        .authorize(|request| {
            let query = request.query().ok_or_else(|| Reject::new(401))?;
            Ok(query.to_owned())
        })
        .opened(move |agent| send.send(agent.data().clone()).unwrap())
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    assert!(upgrade(&mut stream).starts_with("HTTP/1.1 401 "));
    let mut stream = connect(server.local_addrs()[0]);
    let request = "GET /?ada HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    assert!(crate::kit::head(&mut stream).starts_with("HTTP/1.1 101 "));
    assert_eq!(seen.recv_timeout(SOON).unwrap(), "ada");
    until("one is refused", || server.stats().refused == 1);
}
