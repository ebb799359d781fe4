//! The silence of peers.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{Cause, Keepalive, Ping};

use crate::kit::{
    MS, Peer, connect, connect_websocket, get, get_frame, next_end, put, put_frame, reporting,
};

const PING: Duration = Duration::from_millis(100);
const DROP: Duration = Duration::from_millis(250);

#[test]
fn a_silent_peer_is_pinged_and_then_dropped_and_never_early() {
    let (builder, reports) = reporting();
    let server = builder
        .keepalive(Keepalive::new(PING, DROP))
        .start()
        .unwrap();
    for is_websocket in [false, true] {
        let began = Instant::now();
        let mut stream = if is_websocket {
            connect_websocket(server.local_addrs()[1])
        } else {
            connect(server.local_addrs()[0])
        };
        for pings in 1..=2 {
            if is_websocket {
                assert_eq!(get_frame(&mut stream).0, 9);
            } else {
                assert_eq!(get(&mut stream), r#"{"type":"Ping","data":{}}"#);
            }
            assert!(began.elapsed() >= PING * pings);
        }
        let closed = next_end(&reports);
        assert_eq!(closed.cause, Cause::Silence, "{closed}");
        assert!(
            closed.silent >= DROP && closed.opened_for >= DROP,
            "{closed}"
        );
        assert!(closed.late < DROP, "{closed}");
    }
    let stats = server.stats();
    assert_eq!(stats.ended_by(Cause::Silence), 2);
    assert_eq!(stats.silence.count(), 2);
}

#[test]
fn a_peer_that_answers_pings_stays_and_its_round_trip_is_measured() {
    let (builder, _reports) = reporting();
    let server = builder
        .keepalive(Keepalive::new(PING, DROP))
        .start()
        .unwrap();
    let mut stream = connect_websocket(server.local_addrs()[1]);
    let began = Instant::now();
    while began.elapsed() < DROP * 4 {
        let (opcode, payload) = get_frame(&mut stream);
        assert_eq!(opcode, 9);
        put_frame(&mut stream, 10, &payload);
    }
    let agent = server.agents().pop().unwrap();
    assert!(agent.is_open());
    assert!(agent.rtt().is_some_and(|rtt| rtt < DROP));
}

#[test]
fn what_came_while_the_reactor_was_busy_is_seen_before_anyone_is_judged() {
    let (builder, reports) = reporting();
    let server = builder
        .keepalive(Keepalive::new(PING, DROP).ping(Ping::Off))
        .on_inline("Block", |_: &Peer, ()| thread::sleep(DROP * 3))
        .start()
        .unwrap();
    let mut peers: Vec<_> = (0..50).map(|_| connect(server.local_addrs()[0])).collect();
    for peer in &mut peers {
        put(peer, r#"{"type":"Echo","data":1}"#);
        get(peer);
    }
    let mut blocking = connect(server.local_addrs()[0]);
    put(&mut blocking, r#"{"type":"Block"}"#);
    thread::sleep(DROP / 2);
    for peer in &mut peers {
        put(peer, r#"{"type":"Echo","data":2}"#);
    }
    for peer in &mut peers {
        assert_eq!(get(peer), r#"{"type":"Echo","data":2}"#);
    }
    let stats = server.stats();
    assert_eq!((stats.ended_by(Cause::Silence), stats.slow_inline), (0, 1));
    // Once they are silent, they are dropped.
    let closed = next_end(&reports);
    assert!(
        closed.cause == Cause::Silence && closed.silent >= DROP,
        "{closed}"
    );
}

#[test]
fn a_connection_whose_handler_is_slow_is_not_read_and_not_silent() {
    let (builder, _reports) = reporting();
    let server = builder
        .keepalive(Keepalive::new(PING, DROP))
        .inbound(4, 1 << 20)
        .on("Slow", |_: &Peer, ()| thread::sleep(DROP / 4))
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for _ in 0..12 {
        put(&mut stream, r#"{"type":"Slow"}"#);
    }
    put(&mut stream, r#"{"type":"Echo","data":1}"#);
    let mut other = connect(server.local_addrs()[0]);
    let began = Instant::now();
    while began.elapsed() < DROP * 2 {
        put(&mut other, r#"{"type":"Echo","data":1}"#);
        get(&mut other);
        thread::sleep(MS * 10);
    }
    drop(other);
    while get(&mut stream) != r#"{"type":"Echo","data":1}"# {}
    assert_eq!(server.stats().ended_by(Cause::Silence), 0);
}

#[test]
fn a_request_or_message_that_is_not_completed_ends_by_its_own_deadline() {
    let (builder, reports) = reporting();
    let server = builder
        .handshake_within(PING)
        .message_within(PING)
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[1]);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut stream = connect(server.local_addrs()[0]);
    stream.write_all(b"\0\x20{").unwrap();
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::TooSlow);
    assert!(closed.silent >= PING, "{closed}");
}
