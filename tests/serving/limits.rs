//! Limits of connections, and storms of them.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use liveness::server::{Json, Rate, Server};
use socket2::SockRef;

use crate::kit::{connect, connect_websocket, get, head, put, reporting, try_get, until, upgrade};

#[test]
fn connections_beyond_the_limits_are_refused() {
    let server = reporting().0.max_per_ip(2).start().unwrap();
    let mut first = connect(server.local_addrs()[0]);
    let second = connect_websocket(server.local_addrs()[1]);
    put(&mut first, r#"{"type":"Echo","data":1}"#);
    get(&mut first);
    assert!(upgrade(&mut connect(server.local_addrs()[1])).starts_with("HTTP/1.1 429 "));
    drop(second);
    until("there is room again", || server.stats().open == 1);
    connect_websocket(server.local_addrs()[1]);

    let server = reporting().0.max_handshaking(2).start().unwrap();
    let _waiting: Vec<TcpStream> = (0..2).map(|_| connect(server.local_addrs()[1])).collect();
    until("two are waiting", || server.stats().handshaking == 2);
    assert!(head(&mut connect(server.local_addrs()[1])).starts_with("HTTP/1.1 503 "));

    let server = reporting().0.max_connections(1).start().unwrap();
    let mut first = connect(server.local_addrs()[0]);
    put(&mut first, r#"{"type":"Echo","data":1}"#);
    get(&mut first);
    assert!(try_get(&mut connect(server.local_addrs()[0])).is_err());
    assert!(server.stats().is_balanced());
}

#[test]
fn health_is_answered_and_a_draining_server_takes_no_one() {
    use std::io::Write;

    let server = reporting().0.start().unwrap();
    let health = |expected: &str| {
        let mut stream = connect(server.local_addrs()[1]);
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let answer = head(&mut stream);
        assert!(answer.starts_with(expected), "{answer}");
    };
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Echo","data":1}"#);
    get(&mut stream);
    health("HTTP/1.1 200 ");
    server.drain();
    health("HTTP/1.1 503 ");
    assert!(upgrade(&mut connect(server.local_addrs()[1])).starts_with("HTTP/1.1 503 "));
    assert!(try_get(&mut connect(server.local_addrs()[0])).is_err());
    put(&mut stream, r#"{"type":"Echo","data":2}"#);
    get(&mut stream);
}

#[test]
fn a_storm_of_resets_leaves_no_connection_and_no_descriptor() {
    let server = reporting().0.start().unwrap();
    let addresses = server.local_addrs().to_vec();
    drop(connect(addresses[0]));
    until("the first has gone", || server.stats().closed_reports == 1);
    let storms: Vec<_> = (0..2)
        .map(|index| {
            let address = addresses[index];
            thread::spawn(move || {
                for _ in 0..2_000 {
                    let stream = TcpStream::connect(address).unwrap();
                    SockRef::from(&stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            })
        })
        .collect();
    for storm in storms {
        storm.join().unwrap();
    }
    until("all have gone", || {
        let stats = server.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        // Those that were reset before they were accepted were never seen.
        stats.open + stats.handshaking + stats.closing + stats.reported == 0
    });
    let stats = server.stats();
    assert_eq!(stats.opened_reports, stats.closed_reports);
    assert_eq!((stats.queued_bytes, server.agents().len()), (0, 0));
    let mut stream = connect(addresses[0]);
    put(&mut stream, r#"{"type":"Echo","data":1}"#);
    get(&mut stream);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let builder = || Server::<Json, ()>::builder();
    for (builder, text) in [
        (
            builder().reactors(0),
            "`reactors` must be from 1 to 64, not 0",
        ),
        (
            builder().max_header(100),
            "`max_header` must be from 1024 to 65536 bytes",
        ),
        (
            builder().path("game"),
            "`path` must begin with a slash, unlike `game`",
        ),
        (
            builder().max_buffered(1),
            "`max_buffered` must be at least `outbound`, which is 262144",
        ),
        (builder().inbound(0, 1), "`inbound` must be at least 1"),
        (
            builder().rate(Rate::new(1).burst(0)),
            "`Rate::burst` must be at least 1",
        ),
        (
            builder().stall_after(Duration::ZERO),
            "`stall_after` must be greater than zero",
        ),
        (
            builder().outbound(1),
            "`outbound` must be at least `max_message`, which is 65536",
        ),
        (
            builder().tcp("256.0.0.1:x"),
            "cannot listen on 256.0.0.1:x: ",
        ),
    ] {
        let error = builder.start().unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let twice = builder().on("A", |_, _: u8| ()).on("A", |_, _: u8| ());
    assert!(twice.start().unwrap_err().to_string().contains("not `A`"));
    assert!(builder().on("Ping", |_, _: u8| ()).start().is_err());
}

#[test]
fn the_longest_request_is_as_set() {
    use std::io::Write;

    let server = reporting().0.max_header(1 << 10).start().unwrap();
    for (padding, status) in [(500, "101"), (1_100, "431")] {
        let mut stream = connect(server.local_addrs()[1]);
        let padding = "x".repeat(padding);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: {padding}\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let answer = head(&mut stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[cfg(feature = "msgpack")]
#[test]
fn lines_are_for_text_only() {
    use liveness::server::{Framing, MsgPack};

    let lines = Server::<MsgPack, ()>::builder().framing(Framing::Lines);
    assert_eq!(
        lines.start().unwrap_err().to_string(),
        "`framing` must have a length for a codec that is not text: `Framing::U16` or `Framing::U32`"
    );
}
