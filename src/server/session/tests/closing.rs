use super::*;
use crate::server::http::Answer;

/// Returns a close frame of a server.
fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut frame = vec![0x88, 2 + reason.len() as u8];
    frame.extend(code.to_be_bytes());
    frame.extend(reason.bytes());
    frame
}

#[test]
fn the_peers_close_is_answered_with_its_code_after_what_waits() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.room = 0;
    assert!(it.send("A", b"1"));
    it.receive(&[masked(0x88, b"\x0f\xa1bye"), masked(0x89, b"")].concat());
    it.room = usize::MAX;
    it.settle();
    let output = it.written();
    let (echo, close) = output.split_at(output.len() - 4);
    assert_eq!(&echo[2..], br#"{"type":"A","data":1}"#);
    assert_eq!(close, close_frame(4001, ""));
    assert!(it.is_shut && it.closed.is_none());
    it.session.eof();
    it.settle();
    let closed = closed(&it);
    assert_eq!(
        (closed.cause, closed.code, &*closed.reason),
        (Cause::Peer, 4001, "bye")
    );
}

#[test]
fn a_peer_that_ends_its_direction_is_answered_until_its_messages_are_handled() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.session.eof_while_handling();
    it.settle();
    assert!(it.session.cause().is_none() && !it.session.wants_read());
    it.advance(5 * S - NS);
    assert!(it.send("A", b"1"));
    it.session.handled();
    it.settle();
    assert!(!it.send("A", b"2"));
    assert_eq!(it.written(), delimited(r#"{"type":"A","data":1}"#));
    let closed = closed(&it);
    assert_eq!((closed.cause, closed.code), (Cause::Eof, 1006));
    assert_eq!((closed.sent, closed.unsent), (1, 0));
}

#[test]
fn handlers_that_are_not_done_in_the_time_of_a_close_are_not_awaited() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.room = 0;
    it.session.eof_while_handling();
    assert!(it.send("A", b"1"));
    it.advance(5 * S - NS);
    assert!(it.session.is_open());
    it.advance(NS);
    assert_eq!(it.session.cause(), Some(Cause::Eof));
    // What was sent has as much time again.
    it.advance(5 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!((closed(&it).cause, closed(&it).sent), (Cause::Eof, 0));
}

#[test]
fn what_ends_a_session_after_the_direction_of_its_peer_is_not_its_cause() {
    for index in 0..3 {
        let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
        it.session.eof_while_handling();
        match index {
            0 => it
                .session
                .close(Cause::App, Some(4_000), String::new(), at(0)),
            1 => it.session.failed(at(0)),
            _ => {
                it.room = 0;
                for _ in 0..9 {
                    it.send("A", &vec![b'1'; 60_000]);
                }
            }
        }
        it.settle();
        let closed = closed(&it);
        assert_eq!((closed.cause, closed.code), (Cause::Eof, 1006), "{index}");
    }
    // What came before is.
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.read(b"\0\0");
    it.session.eof_while_handling();
    it.settle();
    assert_eq!(closed(&it).cause, Cause::Protocol);
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.receive(&masked(0x88, b""));
    assert_eq!(it.written(), [0x88, 0]);
    it.advance(S - NS);
    assert!(it.closed.is_none(), "the peer closes first");
    it.advance(NS);
    assert_eq!(closed(&it).code, 1005);
}

#[test]
fn our_close_waits_for_the_peers_and_delivers_what_still_comes() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.room = 0;
    assert!(it.send("News", b"1"));
    it.session
        .close(Cause::App, Some(4_000), "enough".to_owned(), it.at());
    it.settle();
    assert!(!it.send("News", b"2"));
    it.room = usize::MAX;
    it.settle();
    let output = it.written();
    assert!(output.ends_with(&close_frame(4000, "enough")));
    assert_eq!(&output[2..26], br#"{"type":"News","data":1}"#);
    // A ping is no longer answered, and a message is delivered.
    it.receive(
        &[
            masked(0x89, b""),
            text(r#"{"type":"Ping"}"#),
            text(r#"{"type":"A"}"#),
        ]
        .concat(),
    );
    assert_eq!((it.messages.len(), it.written().len()), (1, 0));
    assert!(!it.is_shut);
    it.receive(&masked(0x88, b"\x0f\xa0"));
    assert!(it.is_shut && it.written().is_empty());
    it.session.eof();
    it.settle();
    let closed = closed(&it);
    assert_eq!((closed.cause, closed.code), (Cause::App, 4000));
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_cut() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.session
        .close(Cause::Shutdown, None, "restart".to_owned(), it.at());
    it.settle();
    assert_eq!(it.written(), close_frame(1001, "restart"));
    for _ in 0..4 {
        it.advance(S);
        it.receive(&text(r#"{"type":"A"}"#));
    }
    it.advance(S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::Shutdown);
    assert_eq!(it.messages.len(), 4);
}

#[test]
fn on_tcp_a_close_says_why_unless_it_is_a_usual_one() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.session
        .close(Cause::Shutdown, None, "restart".to_owned(), it.at());
    it.settle();
    assert_eq!(
        it.written(),
        delimited(r#"{"type":"Error","code":1001,"msg":"restart"}"#)
    );
    assert!(it.is_shut);
    it.session.eof();
    it.settle();
    assert_eq!(closed(&it).cause, Cause::Shutdown);
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.session.close(Cause::App, None, String::new(), it.at());
    it.settle();
    assert!(it.is_shut && it.written().is_empty());
}

#[test]
fn the_first_cause_wins() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.session.close(Cause::App, None, String::new(), it.at());
    it.session
        .close(Cause::Shutdown, None, String::new(), it.at());
    it.receive(&masked(0x83, b""));
    it.session.eof();
    it.settle();
    assert_eq!(closed(&it).cause, Cause::App);
    it.session.failed(it.at());
    assert_eq!(it.session.cause(), Some(Cause::App));
}

#[test]
fn an_end_of_stream_lets_what_waits_be_written() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::Lines);
    it.echoes = true;
    it.room = 0;
    it.receive(b"{\"type\":\"A\",\"data\":1}\n");
    it.session.eof();
    it.settle();
    assert!(it.closed.is_none());
    it.room = usize::MAX;
    it.settle();
    assert_eq!(it.written(), b"{\"type\":\"A\",\"data\":1}\n");
    let closed = closed(&it);
    assert_eq!(
        (closed.cause, closed.code, closed.unsent),
        (Cause::Eof, 1006, 0)
    );
}

#[test]
fn a_reset_is_the_end_at_once() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    it.room = 0;
    it.send("News", b"1");
    it.session.failed(it.at());
    it.settle();
    let closed = closed(&it);
    assert_eq!(
        (closed.cause, closed.code, closed.unsent),
        (Cause::Reset, 1006, 26)
    );
    assert!(it.watcher.is_empty());
}

#[test]
fn a_refused_request_is_answered_and_never_open() {
    let mut it = Driver::<Json>::requesting(Settings::default());
    it.session
        .receive(&mut REQUEST.to_vec(), at(0), &mut it.traffic, |_| {});
    assert!(it.session.take_asked().is_some());
    assert!(!it.session.wants_read());
    it.session.refuse(&Answer::new(429), at(0));
    it.settle();
    assert!(
        it.written()
            .starts_with(b"HTTP/1.1 429 Too Many Requests\r\n")
    );
    assert!(it.is_shut);
    it.session.eof();
    it.settle();
    let closed = closed(&it);
    assert_eq!(
        (closed.cause, closed.code, closed.opened_for),
        (Cause::Refused, 429, Duration::ZERO)
    );
    assert!(!it.session.was_opened());
}

#[test]
fn a_close_before_the_handshake_is_a_503() {
    let mut it = Driver::<Json>::requesting(Settings::default());
    it.session
        .close(Cause::Shutdown, None, String::new(), it.at());
    it.settle();
    assert!(it.written().starts_with(b"HTTP/1.1 503 "));
    it.advance(S);
    assert_eq!(
        (closed(&it).cause, closed(&it).code),
        (Cause::Shutdown, 503)
    );
}

#[test]
fn messages_that_came_with_the_request_follow_the_acceptance() {
    let mut it = Driver::<Json>::requesting(Settings::default());
    it.echoes = true;
    it.receive(&[REQUEST, &text(r#"{"type":"A","data":1}"#)].concat());
    assert_eq!(it.messages.len(), 1);
    assert!(it.written().ends_with(br#"{"type":"A","data":1}"#));
}
