//! An echo over TCP and WebSocket, with a log line for each opening, message and end.
//!
//! ```text
//! cargo run --release --features server,json --example echo_server -- --keepalive 6,12
//! cargo run --release --features server,json --example echo_server -- --selftest
//! ```
//!
//! The first listens on ports 7000 (TCP, a length in two bytes before each message) and 7001 (WebSocket). The second
//! runs clients of several kinds against itself, and fails if a verdict differs from what it should be.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown as Direction, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use lexopt::prelude::{Long, ValueExt};
use liveness::server::{Agent, Cause, Closed, Json, Keepalive, Ping, Server, Shutdown};
use serde_json::Value;
use socket2::SockRef;

/// What `--help` prints.
const HELP: &str = "\
Echoes messages over TCP (port 7000) and WebSocket (port 7001), and logs each opening, message and end.

  --keepalive PING,DROP  ping after PING seconds of silence, drop after DROP (25,45)
  --selftest             let clients of several kinds connect to free ports, and compare the verdicts";

type Failure = Box<dyn Error + Send + Sync>;

/// Starts the server. Each end is sent to the receiver.
fn start(
    keepalive: Keepalive,
    [tcp, websocket]: [&str; 2],
) -> Result<(Server<Json, ()>, Receiver<Closed>), Failure> {
    let (send, ends) = channel();
    let server = Server::<Json, ()>::builder()
        .tcp(tcp)
        .websocket(websocket)
        .keepalive(keepalive)
        .message_within(Duration::from_millis(500))
        .on("Echo", |agent: &Agent<_, _>, body: Value| {
            println!("agent {}: echo {body}", agent.id());
            agent.send("Echo", &body)
        })
        .on("Flood", |agent: &Agent<_, _>, bytes: usize| {
            let text = "x".repeat(10_000);
            (0..bytes / text.len()).try_for_each(|_| agent.send("Flood", &text))
        })
        .opened(|agent| {
            println!(
                "agent {}: open, {} from {}",
                agent.id(),
                agent.transport(),
                agent.peer()
            );
        })
        .closed(move |agent, closed| {
            println!("agent {}: {closed}", agent.id());
            // No one listens unless this is a test of itself.
            let _ = send.send(closed.clone());
        })
        .on_stall(|blocked| println!("{blocked}"))
        .start()?;
    println!("listening on {:?}", server.local_addrs());
    Ok((server, ends))
}

/// Writes a message with its length.
fn put(stream: &mut TcpStream, message: &str) -> Result<(), Failure> {
    stream.write_all(&u16::try_from(message.len())?.to_be_bytes())?;
    Ok(stream.write_all(message.as_bytes())?)
}

/// Reads a message with its length.
fn get(stream: &mut TcpStream) -> Result<String, Failure> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(String::from_utf8(message)?)
}

/// A kind of client: what it is called, what it does, and the verdict that it should get.
type Kind = (&'static str, fn(TcpStream) -> Act, Cause);

/// The connection of a client that has not closed it.
type Act = Result<Option<TcpStream>, Failure>;

/// The clients on TCP.
const KINDS: [Kind; 7] = [
    ("healthy", healthy, Cause::Eof),
    ("silent", silent, Cause::Silence),
    (
        "half a message",
        |stream| write(stream, b"\0\x20{"),
        Cause::TooSlow,
    ),
    (
        "slow reader",
        |stream| write(stream, b"\0\x20{\"type\":\"Flood\",\"data\":50000000}"),
        Cause::SlowConsumer,
    ),
    (
        "garbage",
        |stream| write(stream, b"\0\x03abc"),
        Cause::BadMessage,
    ),
    (
        "no length",
        |stream| write(stream, b"\0\0"),
        Cause::Protocol,
    ),
    ("reset", reset, Cause::Reset),
];

/// Writes some bytes.
fn write(mut stream: TcpStream, bytes: &[u8]) -> Act {
    stream.write_all(bytes)?;
    Ok(Some(stream))
}

/// Has its echo returned, and leaves.
fn healthy(mut stream: TcpStream) -> Act {
    let echo = r#"{"type":"Echo","data":{"Message":"hello"}}"#;
    put(&mut stream, echo)?;
    if get(&mut stream)? != echo {
        return Err("another echo".into());
    }
    stream.shutdown(Direction::Write)?;
    Ok(Some(stream))
}

/// Says something, is pinged, and falls silent.
fn silent(mut stream: TcpStream) -> Act {
    put(&mut stream, r#"{"type":"Echo","data":1}"#)?;
    get(&mut stream)?;
    if get(&mut stream)? != r#"{"type":"Ping","data":{}}"# {
        return Err("no ping".into());
    }
    Ok(Some(stream))
}

/// Has its echo returned, and resets the connection.
fn reset(mut stream: TcpStream) -> Act {
    put(&mut stream, r#"{"type":"Echo","data":1}"#)?;
    get(&mut stream)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(None)
}

/// Lets clients of all kinds connect, one after the other, and compares the verdicts.
fn selftest() -> Result<(), Failure> {
    let second = Duration::from_secs(1);
    let keepalive = Keepalive::new(second, second * 2).ping(Ping::Message);
    let (server, ends) = start(keepalive, ["127.0.0.1:0"; 2])?;
    let (tcp, websocket) = (server.local_addrs()[0], server.local_addrs()[1]);
    let connect = |address: SocketAddr| -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(second * 10))?;
        Ok(stream)
    };
    for (name, act, cause) in KINDS {
        let _stream = act(connect(tcp)?)?;
        let closed = ends.recv_timeout(second * 20)?;
        let is_early = closed.cause == Cause::Silence && closed.silent < second * 2;
        if closed.cause != cause || is_early {
            return Err(format!("the client `{name}` got the verdict: {closed}").into());
        }
        println!("the client `{name}`: as it should be");
    }
    let mut stream = connect(websocket)?;
    stream.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut status = [0; 13];
    stream.read_exact(&mut status)?;
    if &status != b"HTTP/1.1 101 " {
        return Err("no upgrade".into());
    }
    drop(stream);
    ends.recv_timeout(second * 20)?;
    let report = server.shutdown(Shutdown::within(second * 5));
    let stats = server.stats();
    if !report.still_running.is_empty() || !stats.is_balanced() || stats.open != 0 {
        return Err(format!("{report:?} {stats:?}").into());
    }
    println!(
        "passed: {} connections, each with its verdict",
        stats.accepted
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut keepalive = Keepalive::default();
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            Long("selftest") => return selftest(),
            Long("keepalive") => {
                let times = arguments.value()?.string()?;
                let (ping, drop) = times
                    .split_once(',')
                    .ok_or("--keepalive takes PING,DROP in seconds")?;
                let seconds = |text: &str| text.parse().map(Duration::from_secs);
                keepalive = Keepalive::new(seconds(ping)?, seconds(drop)?).ping(Ping::Message);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let _running = start(keepalive, ["0.0.0.0:7000", "0.0.0.0:7001"])?;
    loop {
        thread::park();
    }
}
