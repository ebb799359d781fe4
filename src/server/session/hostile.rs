//! Operations drawn by a fuzzer or from its corpus, on a session that is watched as a server watches it.
//!
//! Whatever comes, a session holds at most the memory that its limits and what came allow, its first cause of an end
//! stays, it always has a deadline while it reads, what it writes is well-formed, and it ends.

use std::time::Duration;

use super::super::close::Cause;
use super::super::codec::Codec;
use super::super::codec::json::Json;
use super::super::codec::msgpack::MsgPack;
use super::super::codec::protobuf::Protobuf;
use super::super::framing::{Framing, Splitter};
use super::super::keepalive::{Alive, Keepalive, Ping};
use super::super::limits::{Limits, Overflow, Rate};
use super::super::websocket::{self, Reader, Role};
use super::super::wire::Link;
use super::driver::{ANSWER, Driver, REQUEST};
use super::{Input, Session, Settings};

/// The longest message, bytes.
const MAX_MESSAGE: usize = 2_000;

/// The longest request, bytes.
const MAX_HEADER: usize = 1_000;

/// The most bytes that wait to be written.
const OUTBOUND: usize = 4_000;

/// Runs the operations that `data` stands for, and returns how many. Panics if the session does what it must not.
pub(crate) fn run(data: &[u8]) -> usize {
    let Some((&setup, ops)) = data.split_first() else {
        return 0;
    };
    match (setup >> 4) % 3 {
        0 => run_with::<Json>(setup, ops),
        1 => run_with::<MsgPack>(setup, ops),
        _ => run_with::<Protobuf>(setup, ops),
    }
}

/// Returns the session's settings for a first byte.
fn settings(setup: u8) -> Settings {
    let keepalive = Keepalive::new(Duration::from_secs(5), Duration::from_secs(17));
    let keepalive = if setup & 0x80 == 0 {
        keepalive
    } else {
        let strict = keepalive.alive_by(Alive::Messages).ping(Ping::Both);
        strict.heartbeat_out(Duration::from_secs(3))
    };
    Settings {
        keepalive,
        limits: Limits {
            max_message: MAX_MESSAGE,
            max_header: MAX_HEADER,
            outbound: OUTBOUND,
            overflow: if setup & 0x08 == 0 {
                Overflow::Close
            } else {
                Overflow::DropNew
            },
            rate: (setup & 0x80 != 0).then(|| Rate::new(10).burst(20)),
            ..Limits::default()
        },
        salt: 7,
        ..Settings::default()
    }
}

/// Runs operations on a session with the codec `C`.
fn run_with<C: Codec>(setup: u8, mut ops: &[u8]) -> usize {
    let mut driver: Driver<C> = match setup & 7 {
        1 => Driver::tcp(settings(setup), Framing::U32),
        // Lines are for text.
        2 if C::default().is_text() => Driver::tcp(settings(setup), Framing::Lines),
        0 | 2 => Driver::tcp(settings(setup), Framing::U16),
        4 => Driver::upgrading(settings(setup)),
        6 => Driver::client_on_tcp(settings(setup), Framing::U16),
        7 => Driver::client(settings(setup)),
        3 => Driver::requesting(settings(setup)),
        _ => Driver::websocket(settings(setup)),
    };
    driver.echoes = true;
    let mut checked = Checked::default();
    let mut count = 0;
    while let Some(op) = take(&mut ops, 1).first() {
        step(&mut driver, *op, &mut ops, &mut checked);
        checked.check(&driver);
        count += 1;
    }
    // The peer reads, the handlers do as well, and nothing more comes: the session ends.
    driver.room = usize::MAX;
    driver.session.resume();
    driver.settle();
    checked.check(&driver);
    driver.advance(Duration::from_secs(120));
    checked.check(&driver);
    assert!(driver.closed.is_some(), "never ended: {:?}", driver.session);
    assert!(driver.watcher.is_empty());
    check_output(&driver.session, &driver.output);
    count
}

/// Takes up to `count` bytes from `ops`.
fn take<'a>(ops: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = ops.split_at(count.min(ops.len()));
    *ops = rest;
    taken
}

/// Does what `op` stands for.
fn step<C: Codec>(driver: &mut Driver<C>, op: u8, ops: &mut &[u8], checked: &mut Checked) {
    match op {
        // Some bytes come.
        0..0x80 => {
            let bytes = take(ops, usize::from(op) + 1);
            checked.came += bytes.len();
            driver.receive(bytes);
        }
        0x80..0x90 => {
            let n = u64::from(op & 15);
            driver.advance(Duration::from_millis(n * n * 60));
        }
        0x90 => drop(driver.send("News", driver.session.wire().codec.empty())),
        0x91 => {
            let now = driver.at();
            driver
                .session
                .close(Cause::App, Some(4_000), "x".repeat(200), now);
            driver.settle();
        }
        0x92 => driver.session.pause(),
        0x93 => driver.session.resume(),
        0x94 if ops.len().is_multiple_of(2) => driver.session.eof(),
        0x94 => driver.session.eof_while_handling(),
        0x95 => driver.session.failed(driver.at()),
        0x96 => driver.room = 0,
        0x97 => driver.room = 16 * take(ops, 1).first().copied().map_or(0, usize::from),
        0x98 => {
            driver.room = usize::MAX;
            driver.session.handled();
        }
        // A frame with or without a mask, as it should be, or delimited.
        0x99..0xC0 => {
            let (first, len) = match take(ops, 2) {
                [first, len, ..] => (*first, usize::from(*len) * 8),
                _ => (0x81, 0),
            };
            let mut payload = take(ops, usize::from(op & 15)).to_vec();
            payload.resize(len.max(payload.len()), b'a');
            let frame = match driver.session.wire().link {
                Link::WebSocket if driver.session.wire().role == Role::Client => {
                    websocket::unmasked(first, &payload)
                }
                Link::WebSocket => websocket::masked(first, &payload),
                Link::Tcp(Framing::U32) => {
                    [&(payload.len() as u32).to_be_bytes(), &payload[..]].concat()
                }
                Link::Tcp(Framing::Lines) => [&payload[..], b"\r\n"].concat(),
                Link::Tcp(_) => [&(payload.len() as u16).to_be_bytes(), &payload[..]].concat(),
            };
            checked.came += frame.len();
            driver.receive(&frame);
        }
        // The beginning of a request, or of an answer.
        0xC0..0xD0 => {
            let whole = match driver.session.wire().role {
                Role::Client => ANSWER,
                Role::Server => REQUEST,
            };
            let bytes = &whole[..whole.len() - usize::from(op & 15)];
            checked.came += bytes.len();
            driver.receive(bytes);
        }
        0xD0..=0xFF => driver.settle(),
    }
    driver.settle();
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Checked {
    /// The bytes that came.
    came: usize,
    /// Why the session ends.
    cause: Option<Cause>,
    /// The messages that were sent.
    sent: u64,
}

impl Checked {
    /// Checks what must hold at each quiet moment.
    fn check<C: Codec>(&mut self, driver: &Driver<C>) {
        let session = &driver.session;
        if self.cause.is_some() {
            assert_eq!(session.cause(), self.cause);
        }
        self.cause = session.cause();
        assert_eq!(
            session.is_open(),
            session.was_opened() && self.cause.is_none()
        );
        let held = session.held();
        let limit = MAX_MESSAGE.max(MAX_HEADER) + 4_096;
        assert!(
            held <= 2 * self.came.min(limit) + 200,
            "{held} of {} bytes held",
            self.came
        );
        assert!(session.queued() <= OUTBOUND);
        let traffic = driver.traffic;
        assert!(traffic.sent >= self.sent);
        self.sent = traffic.sent;
        assert_eq!(traffic.received, driver.messages.len() as u64);
        assert_eq!(
            driver.closed.is_some(),
            driver.closed.is_some() && session.closed().is_some()
        );
        let is_judged = driver.closed.is_none() && (session.wants_read() || session.has_output());
        assert!(
            !is_judged || !driver.watcher.is_empty(),
            "no deadline: {session:?}"
        );
    }
}

impl<C: Codec> Session<C> {
    /// Returns how many bytes the input and the handshake hold.
    pub(super) fn held(&self) -> usize {
        let input = match &self.input {
            Input::Tcp(splitter) => splitter.held(),
            Input::WebSocket(reader) => reader.held(),
        };
        input + self.handshake.as_ref().map_or(0, |it| it.buffer.capacity())
    }
}

/// Checks that `output` is what a peer understands.
fn check_output<C: Codec>(session: &Session<C>, output: &[u8]) {
    let wire = session.wire();
    let check = |payload: &[u8]| {
        wire.codec.split(payload).expect("an envelope");
        Ok(())
    };
    let read = match wire.link {
        Link::Tcp(framing) => Splitter::default().push(framing, usize::MAX >> 1, output, check),
        Link::WebSocket => {
            let mut frames = output.to_vec();
            if output.starts_with(b"HTTP/1.1 101 ") || output.starts_with(b"GET / ") {
                let end = output.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
                frames.drain(..end + 4);
            } else if output.starts_with(b"HTTP/1.1 ") {
                return;
            }
            let max = usize::MAX >> 1;
            let reader = match wire.role {
                Role::Client => Role::Server,
                Role::Server => Role::Client,
            };
            Reader::default().push(reader, max, &mut frames, |frame| match frame {
                websocket::Frame::Text(text) => check(text.as_bytes()),
                websocket::Frame::Binary(bytes) => check(bytes),
                _ => Ok(()),
            })
        }
    };
    assert_eq!(read, Ok(()));
}
