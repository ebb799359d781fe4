//! Peers that read or write slowly.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use liveness::server::{Cause, Keepalive, Ping};
use socket2::{Domain, Socket, Type};

use crate::kit::{MS, SOON, connect, connect_websocket, framed, head, next_end, reporting, until};

/// Connects over TCP with a receive buffer of this size.
fn connect_with_buffer(address: SocketAddr, bytes: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn a_peer_that_reads_slowly_and_answers_pings_stays_until_its_outbox_is_full() {
    let (write_within, outbound) = (MS * 600, 8 << 20);
    let (builder, reports) = reporting();
    let server = builder
        .keepalive(Keepalive::new(MS * 400, MS * 1_600).ping(Ping::Message))
        .write_within(write_within)
        .outbound(outbound)
        .start()
        .unwrap();
    let mut stream = connect_with_buffer(server.local_addrs()[0], 16 << 10);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let text = "x".repeat(10_000);
    let mut answering = stream.try_clone().unwrap();
    let (stop, stopped) = channel::<()>();
    let reader = thread::spawn(move || {
        // As slow as the times of the server are short.
        let mut some = [0; 4 << 10];
        while stopped.try_recv().is_err() && stream.read(&mut some).is_ok_and(|count| count > 0) {
            thread::sleep(MS * 20);
        }
    });
    // More than the buffers of the sockets hold, and less than a quarter of the limit, so that it is read from.
    while agent.queued() < outbound / 8 {
        agent.send("Text", &text).unwrap();
        answering
            .write_all(&framed(r#"{"type":"Pong","data":{}}"#))
            .unwrap();
        thread::sleep(MS / 10);
    }
    let began = Instant::now();
    while began.elapsed() < write_within * 5 {
        answering
            .write_all(&framed(r#"{"type":"Pong","data":{}}"#))
            .unwrap();
        thread::sleep(MS * 50);
        assert!(
            agent.is_open(),
            "{:?}",
            reports.try_iter().collect::<Vec<_>>()
        );
    }
    // Its outbox decides.
    while agent.send("Text", &text).is_ok() {}
    assert!(!agent.is_open());
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::SlowConsumer, "{closed}");
    stop.send(()).unwrap();
    drop(answering);
    reader.join().unwrap();
}

#[test]
fn a_peer_that_accepts_nothing_is_stuck_although_it_talks() {
    let (builder, reports) = reporting();
    let write_within = MS * 300;
    let server = builder
        .write_within(write_within)
        .outbound(8 << 20)
        .start()
        .unwrap();
    let mut stream = connect_with_buffer(server.local_addrs()[0], 16 << 10);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let text = "x".repeat(10_000);
    while agent.queued() < 1 << 20 {
        agent.send("Text", &text).unwrap();
    }
    let began = Instant::now();
    while agent.is_open() {
        assert!(began.elapsed() < SOON);
        let _ = stream.write_all(&framed(r#"{"type":"Pong","data":{}}"#));
        thread::sleep(MS * 10);
    }
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::Stuck, "{closed}");
    assert!(
        closed.opened_for >= write_within && closed.unsent > 0,
        "{closed}"
    );
}

#[test]
fn requests_and_messages_that_trickle_end_by_their_own_deadlines_and_leave_room() {
    let within = MS * 500;
    let (builder, reports) = reporting();
    let server = builder
        .handshake_within(within)
        .message_within(within)
        .max_handshaking(32)
        .start()
        .unwrap();
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    let trickle = |address: SocketAddr, head: &'static [u8], byte: &'static [u8]| {
        thread::spawn(move || {
            let began = Instant::now();
            let mut stream = connect(address);
            stream.write_all(head).unwrap();
            stream.set_read_timeout(Some(MS * 20)).unwrap();
            let mut answer = Vec::new();
            // A byte each 20 ms, until the server ends it.
            while began.elapsed() < SOON {
                let mut some = [0; 1_024];
                match stream.read(&mut some) {
                    Ok(0) => break,
                    Ok(count) => answer.extend_from_slice(&some[..count]),
                    // Its time was over, and the bytes after that were one too many.
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(_) => drop(stream.write(byte)),
                }
            }
            assert!(began.elapsed() >= within && began.elapsed() < SOON);
            String::from_utf8_lossy(&answer).into_owned()
        })
    };
    let kinds: [(&[u8], &[u8]); 4] = [
        (b"", b""),
        (b"G", b"x"),
        (b"GET / HTTP/1.1\r\n", b""),
        (b"GET / HTTP/1.1\r\nX: ", b"y"),
    ];
    let slow: Vec<_> = (0..32)
        .map(|index| trickle(websocket, kinds[index % 4].0, kinds[index % 4].1))
        .collect();
    until("all places are taken", || server.stats().handshaking == 32);
    let mut refused = connect(websocket);
    assert!(head(&mut refused).starts_with("HTTP/1.1 503 "));
    for slow in slow {
        let answer = slow.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    until("there is room", || server.stats().handshaking == 0);
    let _good: Vec<_> = (0..32).map(|_| connect_websocket(websocket)).collect();
    assert_eq!(server.stats().refused, 33);

    // Half a length, a part of a greeting of TLS, and a message that trickles.
    let kinds: [(&[u8], &[u8]); 3] = [(b"\0", b""), (b"\x16\x03\x01", b""), (b"\x04\0{", b" ")];
    for (begin, byte) in kinds {
        let answer = trickle(tcp, begin, byte).join().unwrap();
        assert!(answer.contains(r#""code":1013"#), "{answer}");
        let closed = next_end(&reports);
        assert_eq!(closed.cause, Cause::TooSlow, "{closed}");
        assert!(closed.opened_for >= within, "{closed}");
    }
}
