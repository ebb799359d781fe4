//! Servers and peers of the tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{Agent, Closed, Json, Server, ServerBuilder};

/// The agents of the tests have no data.
pub(crate) type Peer = Agent<Json, ()>;

/// A limit for what should come at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What a server reports.
#[derive(Debug)]
pub(crate) enum Report {
    Opened,
    Closed(Closed),
}

/// A builder that reports what opens and ends, with an echo.
pub(crate) fn reporting() -> (ServerBuilder<Json, ()>, Receiver<Report>) {
    let (send, reports): (Sender<Report>, _) = channel();
    let again = send.clone();
    let builder = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .on("Echo", |agent: &Peer, body: serde_json::Value| {
            agent.send("Echo", &body)
        })
        .opened(move |_| drop(send.send(Report::Opened)))
        .closed(move |_, closed| {
            drop(again.send(Report::Closed(closed.clone())));
        });
    (builder, reports)
}

/// The next end that is reported.
pub(crate) fn next_end(reports: &Receiver<Report>) -> Closed {
    loop {
        match reports.recv_timeout(SOON).expect("an end is reported") {
            Report::Closed(closed) => return closed,
            Report::Opened => {}
        }
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(MS);
    }
}

/// Connects over TCP.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes a message with its length.
pub(crate) fn put(stream: &mut impl Write, message: &str) {
    stream.write_all(&framed(message)).unwrap();
}

/// A message with its length.
pub(crate) fn framed(message: &str) -> Vec<u8> {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// Reads a message with its length.
pub(crate) fn get(stream: &mut impl Read) -> String {
    try_get(stream).unwrap()
}

/// Reads a message with its length, or what ends the stream.
pub(crate) fn try_get(stream: &mut impl Read) -> std::io::Result<String> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(String::from_utf8(message).unwrap())
}

/// Sends an upgrade request, and returns the head of the answer.
pub(crate) fn upgrade(stream: &mut (impl Read + Write)) -> String {
    upgrade_with(stream, "/", "")
}

/// Sends an upgrade request for `target` with further headers, and returns the head of the answer.
pub(crate) fn upgrade_with(
    stream: &mut (impl Read + Write),
    target: &str,
    headers: &str,
) -> String {
    stream
        .write_all(request(target, headers).as_bytes())
        .unwrap();
    head(stream)
}

/// An upgrade request for `target` with further headers.
pub(crate) fn request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Reads the head of an HTTP answer.
pub(crate) fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Connects over WebSocket.
pub(crate) fn connect_websocket(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let answer = upgrade(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    stream
}

/// Writes a masked frame.
pub(crate) fn put_frame(stream: &mut impl Write, opcode: u8, payload: &[u8]) {
    stream.write_all(&frame(0x80 | opcode, payload)).unwrap();
}

/// A masked frame with this first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        frame.push(0xFE);
        frame.extend_from_slice(&length.to_be_bytes());
    } else {
        frame.push(0xFF);
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    frame.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Sends an echo over TCP, and waits for it.
pub(crate) fn echo(stream: &mut TcpStream) {
    put(stream, r#"{"type":"Echo","data":1}"#);
    assert_eq!(get(stream), r#"{"type":"Echo","data":1}"#);
}

/// The code and the reason of a close frame, which must come next.
pub(crate) fn get_close(stream: &mut TcpStream) -> (u16, String) {
    let (opcode, payload) = get_frame(stream);
    assert_eq!(opcode, 8, "{}", String::from_utf8_lossy(&payload));
    let (code, reason) = payload.split_at(2);
    let code = u16::from_be_bytes([code[0], code[1]]);
    (code, String::from_utf8(reason.to_vec()).unwrap())
}

/// Reads a frame that is not masked.
pub(crate) fn get_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut two = [0; 2];
    stream.read_exact(&mut two).unwrap();
    let mut length = usize::from(two[1]);
    if length == 126 {
        let mut more = [0; 2];
        stream.read_exact(&mut more).unwrap();
        length = usize::from(u16::from_be_bytes(more));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (two[0] & 0x0F, payload)
}
