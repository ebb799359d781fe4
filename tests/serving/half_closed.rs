//! Peers that end their direction and read on, as `nc -N` does.

use std::io::Read;
use std::net::{Shutdown as Direction, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use liveness::server::{Cause, Fault, RequestError, SendError};

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, get, get_frame, next_end, put, put_frame,
    reporting, until,
};

/// Writes `count` echoes, and ends this direction.
fn ask(stream: &mut TcpStream, count: u32) {
    for number in 0..count {
        put(stream, &format!(r#"{{"type":"Echo","data":{number}}}"#));
    }
    stream.shutdown(Direction::Write).unwrap();
}

/// A handler that says when it begins, and ends when it may.
fn gate() -> (
    impl Fn() + Send + Sync + 'static,
    Receiver<()>,
    impl FnOnce(),
) {
    let (begin, began) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let wait = move || {
        let _ = begin.send(());
        let _ = released.lock().unwrap().recv_timeout(SOON);
    };
    (wait, began, move || drop(release))
}

#[test]
fn a_peer_that_ends_its_direction_gets_all_answers_and_then_the_end() {
    let (builder, reports) = reporting();
    let server = builder
        .on_request("Slow", |_: &Peer, number: u32| {
            std::thread::sleep(MS * 20);
            Ok::<_, Fault>(number + 1)
        })
        .start()
        .unwrap();
    // More than one turn of a strand, and more than it holds before its socket is no longer read.
    let mut stream = connect(server.local_addrs()[0]);
    ask(&mut stream, 200);
    for number in 0..200 {
        assert_eq!(
            get(&mut stream),
            format!(r#"{{"type":"Echo","data":{number}}}"#)
        );
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let closed = next_end(&reports);
    assert_eq!((closed.cause, closed.code), (Cause::Eof, 1006), "{closed}");
    assert_eq!((closed.received, closed.sent, closed.unsent), (200, 200, 0));

    // The handlers are still behind when the end is read.
    let mut stream = connect(server.local_addrs()[0]);
    for id in 1..4 {
        put(
            &mut stream,
            &format!(r#"{{"type":"Slow","id":{id},"data":1}}"#),
        );
    }
    stream.shutdown(Direction::Write).unwrap();
    for id in 1..4 {
        let answer = get(&mut stream);
        assert!(answer.contains(&format!(r#""re":{id}"#)), "{answer}");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(next_end(&reports).cause, Cause::Eof);
    until("its end is counted", || server.stats().reported == 0);
    assert!(server.stats().is_balanced());
    assert_eq!(server.stats().ended_by(Cause::Eof), 2);
}

#[test]
fn a_peer_that_only_listens_gets_what_opened_sends() {
    let (builder, reports) = reporting();
    let server = builder
        .opened(|agent| {
            std::thread::sleep(MS * 20);
            agent.send("Hello", &1).unwrap();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    stream.shutdown(Direction::Write).unwrap();
    assert_eq!(get(&mut stream), r#"{"type":"Hello","data":1}"#);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(next_end(&reports).cause, Cause::Eof);
}

#[test]
fn handlers_have_the_time_of_a_close_to_answer_a_peer_that_has_ended_its_direction() {
    let within = MS * 150;
    let (builder, reports) = reporting();
    let (wait, began, release) = gate();
    let (result, results) = channel();
    let server = builder
        .close_within(within)
        .on("Wait", move |agent: &Peer, ()| {
            wait();
            let _ = result.send(agent.send("Late", &1));
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Wait"}"#);
    began.recv_timeout(SOON).unwrap();
    let ended = Instant::now();
    stream.shutdown(Direction::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(ended.elapsed() >= within);
    until("it is closed", || server.stats().closed == 1);
    // The report waits for the handler.
    assert_eq!(server.stats().closed_reports, 0);
    release();
    let late = results.recv_timeout(SOON).unwrap();
    assert!(matches!(late, Err(SendError::Closed)), "{late:?}");
    assert_eq!(next_end(&reports).cause, Cause::Eof);
}

#[test]
fn what_comes_after_the_end_of_a_direction_is_not_its_cause() {
    let (builder, reports) = reporting();
    let server = builder
        .on("Close", |agent: &Peer, ()| {
            std::thread::sleep(MS * 20);
            agent.close(4_001, "enough");
        })
        .on("Panic", |_: &Peer, ()| {
            std::thread::sleep(MS * 20);
            std::panic::resume_unwind(Box::new("for the test"))
        })
        .start()
        .unwrap();
    for name in ["Close", "Panic"] {
        let mut stream = connect(server.local_addrs()[0]);
        put(&mut stream, &format!(r#"{{"type":"{name}"}}"#));
        stream.shutdown(Direction::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        // Both are possible: the end may be read before the handler is called, or after it has ended.
        let closed = next_end(&reports);
        let its = if name == "Close" {
            Cause::App
        } else {
            Cause::Handler
        };
        assert!([Cause::Eof, its].contains(&closed.cause), "{closed}");
    }
    until("both are closed", || server.stats().closed_reports == 2);
    assert!(server.stats().is_balanced());
}

#[test]
fn a_request_to_a_peer_that_has_ended_its_direction_is_lost_at_once() {
    let (builder, reports) = reporting();
    let (result, results) = channel();
    let server = builder
        .on("Ask", move |agent: &Peer, ()| {
            let first = agent.request::<_, u32>("Number", &(), SOON * 2);
            let again = agent.request::<_, u32>("Number", &(), SOON * 2);
            let _ = result.send((first, again));
            agent.send("Done", &1)
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Ask"}"#);
    assert!(get(&mut stream).contains(r#""type":"Number""#));
    stream.shutdown(Direction::Write).unwrap();
    let (first, again) = results.recv_timeout(SOON).unwrap();
    assert!(matches!(first, Err(RequestError::Lost)), "{first:?}");
    let closed = matches!(again, Err(RequestError::Send(SendError::Closed)));
    assert!(closed, "{again:?}");
    assert_eq!(get(&mut stream), r#"{"type":"Done","data":1}"#);
    assert_eq!(next_end(&reports).cause, Cause::Eof);
}

#[test]
fn a_peer_that_has_gone_while_its_messages_are_handled_is_reported_once() {
    let (builder, reports) = reporting();
    let (wait, began, release) = gate();
    let server = builder
        .on("Wait", move |agent: &Peer, ()| {
            wait();
            agent.send("Late", &1)
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Wait"}"#);
    began.recv_timeout(SOON).unwrap();
    drop(stream);
    release();
    assert_eq!(next_end(&reports).cause, Cause::Eof);
    until("it is reported", || server.stats().reported == 0);
    assert!(server.stats().is_balanced());
    assert_eq!(server.stats().queued_bytes, 0);
}

#[test]
fn on_websocket_an_end_without_a_close_frame_ends_at_once() {
    let (builder, reports) = reporting();
    let (wait, began, release) = gate();
    let server = builder
        .close_within(SOON * 2)
        .on("Wait", move |_: &Peer, ()| wait())
        .start()
        .unwrap();
    let mut stream = connect_websocket(server.local_addrs()[1]);
    put_frame(&mut stream, 1, br#"{"type":"Echo","data":1}"#);
    assert_eq!(get_frame(&mut stream).0, 1);
    put_frame(&mut stream, 1, br#"{"type":"Wait"}"#);
    began.recv_timeout(SOON).unwrap();
    stream.shutdown(Direction::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    release();
    assert_eq!(next_end(&reports).cause, Cause::Eof);
}
