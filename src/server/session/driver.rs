//! A session with a watcher, a clock that is moved by hand, and a peer that takes as many bytes as it is let.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::close::Closed;
use super::super::codec::{Codec, Head};
use super::super::deadlines::{Change, Kind};
use super::super::framing::Framing;
use super::super::http::{Answer, Asked};
use super::Upgrade;
use super::{
    super::websocket::Role,
    super::wire::{Link, Wire},
};
use super::{Session, Settings, Step, Traffic};
use crate::clock::Timestamp;
use crate::local::LocalWatcher;
use crate::options::Options;

/// A session with what its owner does.
pub(super) struct Driver<C> {
    /// The session.
    pub(super) session: Session<C>,
    /// The deadlines.
    pub(super) watcher: LocalWatcher<Kind>,
    /// The time, ns.
    pub(super) now: u64,
    /// How many more bytes the peer takes.
    pub(super) room: usize,
    /// What was written.
    pub(super) output: Vec<u8>,
    /// What was counted.
    pub(super) traffic: Traffic,
    /// The messages that were received: the name and the body of each.
    pub(super) messages: Vec<(String, Vec<u8>)>,
    /// Whether each message is sent back.
    pub(super) echoes: bool,
    /// Whether this direction was shut down.
    pub(super) is_shut: bool,
    /// The report of the end, once the socket is closed.
    pub(super) closed: Option<Closed>,
}

impl<C: Codec> Driver<C> {
    /// Creates the driver of a session on TCP, at time zero.
    pub(super) fn tcp(settings: Settings, framing: Framing) -> Self {
        let settings = Arc::new(settings);
        Driver::new(Session::tcp(&settings, framing, C::default(), at(0)))
    }

    /// Creates the driver of a session that waits for an upgrade request, at time zero.
    pub(super) fn requesting(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let peer = "192.0.2.1:50000".parse().unwrap();
        Driver::new(Session::websocket(&settings, C::default(), peer, at(0)))
    }

    /// Creates the driver of an open session on WebSocket, at time zero. The output has no answer to the request.
    pub(super) fn websocket(settings: Settings) -> Self {
        let mut driver = Driver::requesting(settings);
        driver.receive(REQUEST);
        assert!(driver.output.starts_with(b"HTTP/1.1 101 "));
        driver.output.clear();
        driver
    }

    /// Creates the driver of a client's session on TCP, at time zero.
    pub(super) fn client_on_tcp(settings: Settings, framing: Framing) -> Self {
        let wire = Wire {
            link: Link::Tcp(framing),
            codec: C::default(),
            role: Role::Client,
        };
        Driver::new(Session::client(&Arc::new(settings), wire, None, at(0)))
    }

    /// Creates the driver of a client's session that waits for the answer to its upgrade request, at time zero.
    pub(super) fn upgrading(settings: Settings) -> Self {
        let wire = Wire {
            link: Link::WebSocket,
            codec: C::default(),
            role: Role::Client,
        };
        let upgrade = Upgrade::new(*b"the sample nonce", wire.codec.subprotocol());
        let request = upgrade.request("a", "/", &[]);
        let upgrade = Some((upgrade, request));
        Driver::new(Session::client(&Arc::new(settings), wire, upgrade, at(0)))
    }

    /// Creates the driver of a client's open session on WebSocket, at time zero. The output has no request.
    pub(super) fn client(settings: Settings) -> Self {
        let mut driver = Driver::upgrading(settings);
        assert!(driver.output.starts_with(b"GET / HTTP/1.1\r\n"));
        driver.receive(ANSWER);
        assert!(driver.session.is_open());
        driver.output.clear();
        driver
    }

    /// Creates the driver of `session`, which was made at time zero.
    pub(super) fn new(session: Session<C>) -> Self {
        let mut driver = Driver {
            session,
            watcher: LocalWatcher::builder().build().unwrap(),
            now: 0,
            room: usize::MAX,
            output: Vec::new(),
            traffic: Traffic::default(),
            messages: Vec::new(),
            echoes: false,
            is_shut: false,
            closed: None,
        };
        driver.settle();
        driver
    }

    /// The time.
    pub(super) fn at(&self) -> Timestamp {
        at(self.now)
    }

    /// Receives `bytes`, and does what follows.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.read(bytes);
        self.settle();
    }

    /// Receives `bytes`.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if !self.session.wants_read() {
            return;
        }
        let was_opened = self.session.was_opened();
        self.take(bytes);
        if self.session.was_opened() && !was_opened {
            // Messages may have come with the answer to a client.
            self.take(&[]);
        }
        match self.session.take_asked() {
            None => {}
            Some(Asked::Health | Asked::Page(_)) => {
                self.session.refuse(&Answer::new(200), self.at());
            }
            Some(Asked::Upgrade(request)) => {
                self.session.accept(&request, self.at());
                self.take(&[]);
            }
        }
    }

    /// Gives `bytes` to the session, with the rest of the input.
    fn take(&mut self, bytes: &[u8]) {
        let now = self.at();
        let (messages, echoes) = (&mut self.messages, self.echoes);
        let traffic = &mut self.traffic;
        let wire = self.session.wire();
        let mut answers = Vec::new();
        self.session
            .receive(&mut bytes.to_vec(), now, traffic, |envelope| {
                if echoes {
                    let head = Head::new(&envelope.name).re(envelope.id);
                    let mut frame = Vec::new();
                    if wire.encode_raw(head, envelope.body, &mut frame).is_ok() {
                        answers.push(frame);
                    }
                }
                messages.push((envelope.name.into_owned(), envelope.body.to_vec()));
            });
        for answer in answers {
            // Refused if the session has ended.
            let _ = self.session.send(answer, now);
        }
    }

    /// Sends a message with an encoded body.
    pub(super) fn send(&mut self, name: &str, body: &[u8]) -> bool {
        let mut frame = Vec::new();
        let wire = self.session.wire();
        wire.encode_raw(Head::new(name), body, &mut frame).unwrap();
        let sent = self.session.send(Bytes::from(frame), self.at());
        self.settle();
        sent.is_ok()
    }

    /// Does what the owner does at the end of a round.
    pub(super) fn settle(&mut self) {
        self.session.conclude(self.at());
        loop {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = self.session.slices(&mut slices);
            let before = self.output.len();
            for slice in &slices[..count] {
                let taken = slice.len().min(self.room);
                self.output.extend_from_slice(&slice[..taken]);
                self.room -= taken;
            }
            let written = self.output.len() - before;
            let now = self.at();
            self.session.wrote(written, now, &mut self.traffic);
            if written == 0 {
                break;
            }
        }
        loop {
            match self.session.step() {
                Step::Run => break,
                Step::ShutdownWrite => {
                    assert!(!self.is_shut, "shut down twice");
                    self.is_shut = true;
                }
                Step::Close => {
                    self.closed = self.session.closed();
                    assert!(self.closed.is_some());
                    break;
                }
            }
        }
        let (watcher, now) = (&mut self.watcher, at(self.now));
        self.session.take_changes(|kind, change| match change {
            Change::Set(timeout) => {
                let options = Options::new().timeout(timeout);
                watcher.beat_with(kind, now, options).unwrap();
            }
            Change::Beat => {
                assert!(watcher.contains(&kind), "{kind:?} begins again");
                watcher.beat(kind, now).unwrap();
            }
            Change::Clear => assert!(watcher.remove(&kind, now), "{kind:?} ends"),
        });
    }

    /// Moves the clock on by `by`, through all deadlines.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by.as_nanos() as u64;
        while let Some(due) = self.watcher.next_deadline() {
            if due > at(end) {
                break;
            }
            self.now = due.since_origin().as_nanos() as u64;
            let mut fired = Vec::new();
            self.watcher
                .poll(due, |event| fired.extend(event.key().copied()));
            for &kind in &fired {
                self.session.fired(kind);
            }
            for kind in fired {
                self.session.expired(kind, due, Duration::ZERO);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Takes what was written.
    pub(super) fn written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

/// An upgrade request.
pub(super) const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The answer to a client's request.
pub(super) const ANSWER: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The point in time `ns`.
pub(super) fn at(ns: u64) -> Timestamp {
    Timestamp::from_nanos(ns)
}
