//! A program's own code that panics, blocks, or asks for what cannot be: nothing of it ends a thread or hangs a call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{
    Cause, Codec, Decode, DecodeError, Encode, EncodeError, Envelope, Fault, Head, Json, Keepalive,
    Overflow, SendError, Server, Shutdown,
};

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, get, get_frame, head, next_end, put, reporting,
    until, upgrade,
};

/// Panics without a message on the terminal.
fn burst() -> ! {
    std::panic::resume_unwind(Box::new("for the test"))
}

/// Data of an agent whose drop panics.
struct Bomb;

impl Default for Bomb {
    fn default() -> Self {
        Bomb
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        burst();
    }
}

#[test]
fn data_whose_drop_panics_ends_no_thread() {
    let server = Server::<Json, Bomb>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .reactors(1)
        .handlers(1)
        .handshake_within(MS * 50)
        // The handshake is over before the answer, so that the reactor drops what is returned.
        .authorize(|_| {
            thread::sleep(MS * 150);
            Ok(Bomb)
        })
        .on("Echo", |agent, text: String| {
            let _ = agent.data();
            agent.send("Echo", &text)
        })
        .start()
        .unwrap();
    for round in 1..=3 {
        let mut stream = connect(server.local_addrs()[0]);
        put(&mut stream, r#"{"type":"Echo","data":"a"}"#);
        get(&mut stream);
        drop(stream);
        until("the panic is counted", || server.stats().panics == round);
    }
    assert!(upgrade(&mut connect(server.local_addrs()[1])).starts_with("HTTP/1.1 503 "));
    until("the panic is counted", || server.stats().panics == 4);
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Echo","data":"a"}"#);
    get(&mut stream);
    drop(stream);
    until("all have gone", || server.stats().panics == 5);
    assert!(server.stats().is_balanced());
    let report = server.shutdown(Shutdown::within(SOON));
    assert!(report.still_running.is_empty(), "{report:?}");
}

/// JSON that panics at some names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Faulty;

impl Codec for Faulty {
    fn subprotocol(self) -> &'static str {
        "faulty"
    }

    fn is_text(self) -> bool {
        true
    }

    fn pick(subprotocol: &str) -> Option<Self> {
        if subprotocol == "burst" {
            burst();
        }
        None
    }

    fn split(self, message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
        let envelope = Json.split(message)?;
        if envelope.name == "Split" {
            burst();
        }
        Ok(envelope)
    }

    fn join(
        self,
        head: Head<'_>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        if head.name == "Pong" || head.name == "Ping" {
            burst();
        }
        Json.join(head, out, body)
    }

    fn empty(self) -> &'static [u8] {
        Json.empty()
    }

    fn join_fault(
        self,
        _: &Fault,
        _: Option<std::num::NonZeroU64>,
        _: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        burst();
    }

    fn split_fault(self, _: &[u8]) -> Option<Fault> {
        burst();
    }
}

/// A body.
struct Text(String);

impl Encode<Faulty> for Text {
    fn encode(&self, _: Faulty, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.encode(Json, out)
    }
}

impl Decode<Faulty> for Text {
    fn decode(_: Faulty, body: &[u8]) -> Result<Self, DecodeError> {
        String::decode(Json, body).map(Text)
    }
}

#[test]
fn a_codec_that_panics_ends_its_connection_and_no_other() {
    let (send, ends) = channel();
    let server = Server::<Faulty, ()>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .reactors(1)
        .on("Echo", |agent, text: Text| agent.send("Echo", &text))
        .closed(move |_, closed| send.send(closed.cause).unwrap())
        .start()
        .unwrap();
    let mut good = connect(server.local_addrs()[0]);
    let echo = r#"{"type":"Echo","data":"a"}"#;
    for message in [
        r#"{"type":"Split"}"#,
        r#"{"type":"Error","re":7}"#,
        // The answer to a request without a route is a fault.
        r#"{"type":"None","id":7}"#,
        // As is the reason of this end.
        "{",
        r#"{"type":"Ping"}"#,
    ] {
        let mut stream = connect(server.local_addrs()[0]);
        put(&mut stream, message);
        if message.contains("Split") || message.contains("re") {
            assert_eq!(ends.recv_timeout(SOON).unwrap(), Cause::Handler);
        }
        put(&mut good, echo);
        assert_eq!(get(&mut good), echo);
    }
    let mut stream = connect(server.local_addrs()[1]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Protocol: burst\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 500 "));
    put(&mut good, echo);
    assert_eq!(get(&mut good), echo);
    assert!(server.stats().panics >= 3);
    assert!(server.stats().is_balanced());
}

#[test]
fn a_peer_that_cannot_be_pinged_is_dropped_when_it_is_silent() {
    let (send, ends) = channel();
    let server = Server::<Faulty, ()>::builder()
        .tcp("127.0.0.1:0")
        .keepalive(Keepalive::new(MS * 20, MS * 50))
        .closed(move |_, closed| send.send(closed.clone()).unwrap())
        .start()
        .unwrap();
    let _silent = connect(server.local_addrs()[0]);
    let closed = ends.recv_timeout(SOON).unwrap();
    assert_eq!(closed.cause, Cause::Silence);
    assert!(closed.silent >= MS * 50, "{closed:?}");
}

#[test]
fn a_callback_that_never_returns_does_not_hold_up_the_shutdown() {
    let (called, is_called) = channel();
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = reporting()
        .0
        .stall_after(MS * 20)
        .on("Slow", |_: &Peer, ()| thread::sleep(MS * 100))
        .on_stall(move |_| {
            called.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Slow"}"#);
    is_called.recv_timeout(SOON).unwrap();
    let (done, is_done) = channel();
    thread::spawn(move || done.send(server.shutdown(Shutdown::within(MS * 500))));
    let report = is_done.recv_timeout(SOON).expect("the shutdown returns");
    assert_eq!(report.still_running.len(), 1, "{report:?}");
    drop(release);
}

#[test]
fn handlers_are_dropped_after_a_shutdown_that_left_messages() {
    let captured = Arc::new(());
    let alive = Arc::downgrade(&captured);
    let (hanging, is_hanging) = channel();
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .handlers(1)
        .on("Hang", move |_, ()| {
            hanging.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
            assert_eq!(Arc::strong_count(&captured), 1);
        })
        .start()
        .unwrap();
    let mut streams = [0; 2].map(|_| connect(server.local_addrs()[0]));
    for stream in &mut streams {
        put(stream, r#"{"type":"Hang"}"#);
    }
    is_hanging.recv_timeout(SOON).unwrap();
    let report = server.shutdown(Shutdown::within(MS * 200));
    assert_eq!(report.unreported.len(), 2, "{report:?}");
    drop(server);
    drop(release);
    until("the handler is dropped", || alive.strong_count() == 0);
}

#[test]
fn a_message_that_can_never_be_sent_is_refused_and_harms_no_one() {
    for overflow in [Overflow::Close, Overflow::Block(Duration::MAX)] {
        let server = reporting()
            .0
            .max_message(1_000)
            .outbound(2_000)
            .overflow(overflow)
            .start()
            .unwrap();
        let mut stream = connect(server.local_addrs()[0]);
        until("it is open", || server.stats().opened_reports == 1);
        let agent = server.agents().pop().unwrap();
        let (send, result) = channel();
        thread::spawn(move || send.send(agent.send("Text", &"x".repeat(5_000))));
        let sent = result.recv_timeout(SOON).expect("the call returns");
        assert!(matches!(sent, Err(SendError::TooBig)), "{sent:?}");
        let published = server.broadcast("Text", &"x".repeat(5_000));
        assert!(matches!(published, Err(SendError::TooBig)), "{published:?}");
        put(&mut stream, r#"{"type":"Echo","data":1}"#);
        get(&mut stream);
    }
}

#[test]
fn the_longest_times_are_for_ever_and_no_panic() {
    let server = reporting()
        .0
        .handshake_within(Duration::MAX)
        .message_within(Duration::MAX)
        .write_within(Duration::MAX)
        .close_within(Duration::MAX)
        .stall_after(Duration::MAX)
        .keepalive(Keepalive::new(Duration::MAX - MS, Duration::MAX))
        .start()
        .unwrap();
    let server = Arc::new(server);
    let mut streams = [0; 3].map(|_| connect_websocket(server.local_addrs()[1]));
    until("all are open", || server.stats().opened_reports == 3);
    let (done, is_done) = channel();
    thread::spawn({
        let server = server.clone();
        let how = Shutdown::within(Duration::MAX).spread(Duration::MAX);
        move || done.send(server.shutdown(how))
    });
    // The first is closed at once, the others have years.
    assert_eq!(get_frame(&mut streams[0]).0, 8);
    thread::sleep(MS * 50);
    drop(streams);
    let report = is_done.recv_timeout(SOON).expect("all have gone");
    assert_eq!((report.open, report.still_running.len()), (3, 0));
}

#[test]
fn a_shutdown_in_any_callback_begins_and_everything_else_is_done_nevertheless() {
    let places = [
        "inline",
        "handler",
        "opened",
        "closed",
        "authorize",
        "stall",
    ];
    thread::scope(|scope| {
        for place in places {
            scope.spawn(move || shut_down_in(place));
        }
    });
}

/// Shuts a server down in the callback `place`.
fn shut_down_in(place: &'static str) {
    let slot: Arc<OnceLock<Server<Json, ()>>> = Arc::default();
    let shut = {
        let slot = slot.clone();
        move |here: &str| {
            if here == place {
                slot.wait().shutdown(Shutdown::within(SOON));
            }
        }
    };
    let closed = Arc::new(AtomicUsize::new(0));
    let server = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .handlers(2)
        .stall_after(MS * 20)
        .on_inline("Inline", {
            let shut = shut.clone();
            move |_, ()| shut("inline")
        })
        .on("Handler", {
            let shut = shut.clone();
            move |_, ()| shut("handler")
        })
        .on("Slow", |_, ()| thread::sleep(MS * 60))
        .authorize({
            let shut = shut.clone();
            move |_| {
                shut("authorize");
                Ok(())
            }
        })
        .opened({
            let shut = shut.clone();
            let count = AtomicUsize::new(0);
            move |_| {
                // The last of the connections.
                if count.fetch_add(1, Ordering::SeqCst) == 3 {
                    shut("opened");
                }
            }
        })
        .closed({
            let (shut, closed) = (shut.clone(), closed.clone());
            move |_, _| {
                closed.fetch_add(1, Ordering::SeqCst);
                shut("closed");
            }
        })
        .on_stall(move |_| shut("stall"))
        .start()
        .unwrap();
    let addresses = server.local_addrs().to_vec();
    assert!(slot.set(server).is_ok());
    let server = slot.get().unwrap();
    let streams = [0; 3].map(|_| connect(addresses[0]));
    until("they are open", || server.stats().opened_reports == 3);
    let mut other = connect(addresses[usize::from(place == "authorize")]);
    match place {
        "inline" => put(&mut other, r#"{"type":"Inline"}"#),
        "handler" => put(&mut other, r#"{"type":"Handler"}"#),
        "stall" => put(&mut other, r#"{"type":"Slow"}"#),
        "authorize" => drop(upgrade(&mut other)),
        "closed" => drop(streams[0].shutdown(std::net::Shutdown::Both)),
        _ => {}
    }
    until(place, || {
        let stats = server.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        stats.accepted == 4 && stats.open + stats.handshaking + stats.closing == 0
    });
    // The program sees what happened to the connections later than the sockets.
    until(place, || {
        server.agents().is_empty() && server.stats().reported == 0
    });
    let opened = server.stats().opened_reports;
    assert_eq!(closed.load(Ordering::SeqCst) as u64, opened, "{place}");
}

#[test]
fn nothing_is_sent_after_a_close() {
    let (builder, reports) = reporting();
    let server = builder.start().unwrap();
    let _stream = connect(server.local_addrs()[0]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    agent.close(1000, "");
    assert!(matches!(agent.send("Echo", &1), Err(SendError::Closed)));
    assert!(!agent.is_open());
    assert_eq!(next_end(&reports).cause, Cause::App);
    let report = server.shutdown(Shutdown::within(SOON));
    assert_eq!(report.open, 0);
    assert!(matches!(server.broadcast("A", &1), Err(SendError::Closed)));
    assert!(matches!(
        agent.publish("r", "A", &1),
        Err(SendError::Closed)
    ));
}

#[test]
fn messages_to_many_are_refused_while_too_many_wait() {
    let (block, blocked) = sync_channel::<()>(0);
    let blocked = Mutex::new(blocked);
    let server = reporting()
        .0
        .reactors(1)
        .max_message(1 << 10)
        .outbound(1 << 16)
        .max_buffered(1 << 18)
        .overflow(Overflow::DropNew)
        .on_inline("Block", move |_: &Peer, ()| {
            let _ = blocked.lock().unwrap().recv();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Block"}"#);
    until("it has come", || server.stats().opened_reports == 1);
    thread::sleep(MS * 20);
    let text = "x".repeat(1_000);
    let sent = (0..1_000).map(|_| server.broadcast("Text", &text));
    let sent = sent.flatten().count();
    assert!((1..=(1 << 18) / 1_000).contains(&sent), "{sent}");
    assert!(server.stats().queued_bytes <= 1 << 18);
    block.send(()).unwrap();
    // There is room again, for what the connection's own limit let through.
    until("all is written", || {
        server.stats().queued_bytes == 0 && server.broadcast("Text", "last").is_ok()
    });
    while !get(&mut stream).contains("last") {}
}

#[test]
fn a_slow_consumer_is_discarded_at_once_and_its_senders_wake() {
    let (builder, reports) = reporting();
    let server = builder
        .outbound(1 << 16)
        .close_within(SOON * 10)
        .start()
        .unwrap();
    let _slow = connect_websocket(server.local_addrs()[1]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let text = "x".repeat(10_000);
    while agent.send("Text", &text).is_ok() {}
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::SlowConsumer);
    assert_eq!(server.stats().queued_bytes, 0);

    let (builder, _reports) = reporting();
    let server = builder
        .outbound(1 << 16)
        .overflow(Overflow::Block(Duration::MAX))
        .close_within(SOON * 10)
        .start()
        .unwrap();
    let _slow = connect_websocket(server.local_addrs()[1]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let (send, ended) = channel();
    thread::spawn({
        let agent = agent.clone();
        move || {
            let error = loop {
                if let Err(error) = agent.send("Text", &text) {
                    break error;
                }
            };
            send.send(error).unwrap();
        }
    });
    thread::sleep(MS * 100);
    until("it is full", || agent.queued() > 1 << 15);
    let began = Instant::now();
    agent.close(1000, "");
    let error = ended.recv_timeout(SOON).expect("the sender wakes");
    assert!(matches!(error, SendError::Closed), "{error:?}");
    assert!(began.elapsed() < SOON);
}
