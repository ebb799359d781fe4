//! What programs for hotpot see: its session on the wire, and none of its faults.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{Cause, Closed, Keepalive, Ping};

use crate::kit::{
    MS, Peer, connect, connect_websocket, frame, framed, get, get_close, get_frame, next_end, put,
    put_frame, reporting,
};

const PING: &str = r#"{"type":"Ping","data":{}}"#;

/// The session of hotpot's introduction: an echo, then silence. Returns the ends of several such peers.
fn session(keepalive: Keepalive, ping: Duration, drop: Duration) -> Vec<Closed> {
    let (builder, reports) = reporting();
    let server = builder.keepalive(keepalive).start().unwrap();
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    let peers: Vec<_> = (0..16_u32)
        .map(|index| {
            thread::spawn(move || {
                // Their deadlines differ, so that one hiccup of the machine does not concern all.
                thread::sleep(MS * 25 * index);
                let hello = r#"{"type":"Echo","data":{"Message":"Hello,Hotpot!"}}"#;
                // On a busy machine a ping may come before the first message was sent.
                if index % 4 == 0 {
                    let mut stream = connect(tcp);
                    let began = Instant::now();
                    put(&mut stream, hello);
                    let answer = std::iter::repeat_with(|| get(&mut stream)).find(|it| it != PING);
                    assert_eq!(answer.unwrap(), hello);
                    assert_eq!(get(&mut stream), PING);
                    assert!(began.elapsed() >= ping);
                    assert!(get(&mut stream).contains("1011"));
                    assert!(began.elapsed() >= drop);
                    return;
                }
                let mut stream = connect_websocket(websocket);
                let began = Instant::now();
                put_frame(&mut stream, 1, hello.as_bytes());
                let answer = std::iter::repeat_with(|| get_frame(&mut stream))
                    .find(|it| it.1 != PING.as_bytes());
                assert_eq!(answer.unwrap(), (1, hello.as_bytes().to_vec()));
                assert_eq!(get_frame(&mut stream), (1, PING.as_bytes().to_vec()));
                assert!(began.elapsed() >= ping);
                let (code, reason) = get_close(&mut stream);
                assert!(began.elapsed() >= drop);
                assert_eq!((code, reason), (1_011, format!("silent for {drop:?}")));
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            })
        })
        .collect();
    let ends: Vec<Closed> = peers.iter().map(|_| next_end(&reports)).collect();
    for peer in peers {
        peer.join().unwrap();
    }
    for closed in &ends {
        assert_eq!(closed.cause, Cause::Silence, "{closed}");
        assert!(
            closed.silent >= drop && closed.opened_for >= closed.silent,
            "{closed}"
        );
        assert!(closed.late < drop, "{closed}");
        let line = closed.to_string();
        let silent = format!(
            "silent for {:.3?}, late by {:.3?}",
            closed.silent, closed.late
        );
        assert!(
            line.starts_with("silence (1011) after ") && line.contains(&silent),
            "{line}"
        );
    }
    assert!(server.stats().is_balanced());
    ends
}

/// The session has a ping at 6 seconds, and its end at 12.
#[cfg(target_os = "linux")]
pub(crate) fn session_of_its_introduction() {
    let [ping, drop] = [6, 12].map(Duration::from_secs);
    let ends = session(Keepalive::hotpot(), ping, drop);
    // On a machine with other things to do, the best one shows what the server does.
    let soonest = ends.iter().map(|closed| closed.silent).min().unwrap();
    assert!(soonest <= drop + MS * 10, "{soonest:?}");
}

#[test]
fn the_same_session_on_a_shorter_scale() {
    let [ping, drop] = [500, 1_000].map(Duration::from_millis);
    session(Keepalive::new(ping, drop).ping(Ping::Message), ping, drop);
}

/// Sends all messages without waiting for answers, while another thread reads these.
fn pipeline(
    mut stream: TcpStream,
    bytes: Vec<u8>,
    mut read: impl FnMut(&mut TcpStream, usize),
    count: usize,
) {
    let mut writing = stream.try_clone().unwrap();
    let writer = thread::spawn(move || writing.write_all(&bytes).unwrap());
    for number in 0..count {
        read(&mut stream, number);
    }
    writer.join().unwrap();
}

#[test]
fn a_peer_that_pipelines_50_000_messages_gets_all_answers_in_their_order() {
    let count = 50_000;
    let (builder, reports) = reporting();
    let server = builder
        .on_inline("Inline", |agent: &Peer, number: u32| {
            agent.send("Inline", &number)
        })
        .start()
        .unwrap();
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    for name in ["Echo", "Inline"] {
        let message = |number| format!(r#"{{"type":"{name}","data":{number}}}"#);
        let bytes = (0..count).flat_map(|number| framed(&message(number)));
        let expect = |stream: &mut TcpStream, number| assert_eq!(get(stream), message(number));
        pipeline(connect(tcp), bytes.collect(), expect, count);
        let bytes = (0..count).flat_map(|number| frame(0x81, message(number).as_bytes()));
        let expect = |stream: &mut TcpStream, number| {
            assert_eq!(get_frame(stream), (1, message(number).into_bytes()));
        };
        pipeline(connect_websocket(websocket), bytes.collect(), expect, count);
    }
    for _ in 0..4 {
        assert_eq!(next_end(&reports).cause, Cause::Eof);
    }
    assert_eq!(server.stats().received, 4 * count as u64);
}

#[test]
fn a_peer_that_reads_only_after_it_has_written_is_not_read_faster_than_it_reads() {
    let (builder, reports) = reporting();
    let server = builder.start().unwrap();
    let text = "x".repeat(4_000);
    let message = format!(r#"{{"type":"Echo","data":"{text}"}}"#);
    for is_slow in [false, true] {
        let mut stream = connect(server.local_addrs()[0]);
        let mut writing = stream.try_clone().unwrap();
        let bytes = framed(&message).repeat(5_000);
        let writer = thread::spawn(move || writing.write_all(&bytes).unwrap());
        if is_slow {
            // All buffers fill, and the writer waits.
            thread::sleep(MS * 300);
        }
        for _ in 0..5_000 {
            assert!(get(&mut stream) == message, "{:?}", next_end(&reports));
        }
        writer.join().unwrap();
        drop(stream);
        assert_eq!(next_end(&reports).cause, Cause::Eof);
    }
}

#[test]
fn the_body_of_a_message_is_what_the_peer_sent() {
    let (send, seen) = channel();
    let server = reporting()
        .0
        .on("Body", move |_: &Peer, body: serde_json::Value| {
            send.send(body.to_string()).unwrap();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for (message, body) in [
        (r#"{"type":"Body"}"#, "null"),
        (r#"{"type":"Body","data":null}"#, "null"),
        (r#"{"type":"Body","data":"text"}"#, "\"text\""),
        (r#"{"data":[1, 2],"more":{},"type":"Body"}"#, "[1,2]"),
        (r#"{ "type" : "Bo\u0064y" , "data" : { } }"#, "{}"),
    ] {
        put(&mut stream, message);
        assert_eq!(seen.recv_timeout(crate::kit::SOON).unwrap(), body);
    }
    put(&mut stream, r#"{"type":"Body","data":1,"type":"Echo"}"#);
    assert!(get(&mut stream).contains("1007"));
}

#[cfg(feature = "msgpack")]
mod msgpack {
    use liveness::server::{Agent, Cause, Closed, MsgPack, Server};

    use super::*;

    #[test]
    fn an_idle_peer_is_pinged_with_the_bytes_of_hotpot() {
        let (send, ends) = channel::<Closed>();
        let server = Server::<MsgPack, ()>::builder()
            .tcp("127.0.0.1:0")
            .websocket("127.0.0.1:0")
            .keepalive(Keepalive::new(MS * 100, MS * 300).ping(Ping::Message))
            .on("Echo", |agent: &Agent<MsgPack, ()>, text: String| {
                agent.send("Echo", &text)
            })
            .closed(move |_, closed| send.send(closed.clone()).unwrap())
            .start()
            .unwrap();
        let ping = b"\x92\xA4Ping\xD4\x1B\x80";
        let echo = b"\x92\xA4Echo\xC7\x06\x1B\xA5hello";
        let mut stream = connect(server.local_addrs()[0]);
        let mut message = [0; 9];
        stream
            .write_all(&[&[0, echo.len() as u8], &echo[..]].concat())
            .unwrap();
        let mut answer = vec![0; 2 + echo.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[2..], echo);
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        stream.read_exact(&mut message).unwrap();
        assert_eq!((length, &message), ([0, 9], ping));
        // Garbage is no nil.
        stream.write_all(b"\0\x03\x92\xA4E").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        drop(stream);
        let closed = ends.recv_timeout(crate::kit::SOON).unwrap();
        assert_eq!(closed.cause, Cause::BadMessage, "{closed}");

        let mut stream = connect_websocket(server.local_addrs()[1]);
        put_frame(&mut stream, 2, echo);
        assert_eq!(get_frame(&mut stream), (2, echo.to_vec()));
        assert_eq!(get_frame(&mut stream), (2, ping.to_vec()));
        put_frame(&mut stream, 1, b"text");
        assert_eq!(get_close(&mut stream).0, 1_003);
    }
}

#[cfg(feature = "protobuf")]
mod protobuf {
    use liveness::server::{Protobuf, Server};

    use super::*;

    #[test]
    fn an_idle_peer_is_pinged_with_the_bytes_of_hotpot() {
        let server = Server::<Protobuf, ()>::builder()
            .tcp("127.0.0.1:0")
            .websocket("127.0.0.1:0")
            .keepalive(Keepalive::new(MS * 100, MS * 300).ping(Ping::Message))
            .start()
            .unwrap();
        let ping = b"\x0A\x04Ping";
        let mut stream = connect(server.local_addrs()[0]);
        let mut message = [0; 8];
        stream.read_exact(&mut message).unwrap();
        assert_eq!(&message, &[&[0, 6], &ping[..]].concat()[..]);
        let mut stream = connect_websocket(server.local_addrs()[1]);
        assert_eq!(get_frame(&mut stream), (2, ping.to_vec()));
        // The same message from the peer is answered.
        put_frame(&mut stream, 2, ping);
        let (opcode, answer) = get_frame(&mut stream);
        assert_eq!((opcode, &answer[..]), (2, &b"\x0A\x04Pong"[..]));
    }
}
