//! What a peer can make a server hold, and what user code can do to it.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Instant;

use liveness::server::{Agent, Cause, Excess, Overflow, Rate, SendError};

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, echo, frame, get_close, get_frame, next_end,
    put_frame, reporting, try_get, until,
};

#[test]
fn a_peer_that_goes_on_after_a_close_is_read_no_faster_than_it_is_handled() {
    let (builder, reports) = reporting();
    let gate = Arc::new(Barrier::new(2));
    let server = builder
        .close_within(MS * 500)
        .on("Wait", {
            let gate = gate.clone();
            let waited = OnceLock::new();
            move |_: &Peer, ()| {
                waited.get_or_init(|| gate.wait());
            }
        })
        .start()
        .unwrap();
    let mut stream = connect_websocket(server.local_addrs()[1]);
    until("it is open", || server.stats().opened_reports == 1);
    server.agents()[0].close(4_000, "enough");
    assert_eq!(get_close(&mut stream).0, 4_000);
    let many: Vec<u8> = (0..1_000)
        .flat_map(|_| frame(0x81, br#"{"type":"Wait"}"#))
        .collect();
    stream.set_write_timeout(Some(MS * 50)).unwrap();
    while stream.write_all(&many).is_ok() {}
    until("it is cut", || server.stats().closed == 1);
    let stats = server.stats();
    assert!(stats.bytes_in < 1 << 20, "{stats:?}");
    gate.wait();
    assert_eq!(next_end(&reports).cause, Cause::App);
}

#[test]
fn a_sender_that_waits_for_room_is_released_by_a_close() {
    let server = reporting()
        .0
        .outbound(1 << 16)
        .overflow(Overflow::Block(SOON * 2))
        .close_within(SOON * 2)
        .start()
        .unwrap();
    let _stream = connect(server.local_addrs()[0]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let sending = {
        let agent = agent.clone();
        let text = "x".repeat(10_000);
        thread::spawn(move || {
            loop {
                if let Err(error) = agent.send("Text", &text) {
                    return error;
                }
            }
        })
    };
    // Nothing is read, so the sender waits in the end.
    let mut last = 0;
    until("it waits", || {
        thread::sleep(MS * 50);
        let queued = agent.queued();
        queued > 40_000 && std::mem::replace(&mut last, queued) == queued
    });
    let began = Instant::now();
    agent.close(1_000, "");
    let refused = sending.join().unwrap();
    assert!(matches!(refused, SendError::Closed), "{refused:?}");
    assert!(began.elapsed() < SOON);
}

#[test]
fn messages_to_all_wait_in_no_more_memory_than_is_allowed() {
    let (builder, reports) = reporting();
    let max = 4 << 20;
    let server = builder.outbound(3 << 20).max_buffered(max).start().unwrap();
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    let _slow: Vec<_> = (0..4).map(|_| connect(tcp)).collect();
    let mut reading = connect_websocket(websocket);
    until("all are open", || server.stats().opened_reports == 5);
    let text = "x".repeat(30_000);
    for number in 0..1_000 {
        server.broadcast("Text", &text).unwrap();
        let queued = server.stats().queued_bytes;
        // What one round has not yet offered to the sockets is the exception.
        assert!(queued <= max as u64 + 5 * 40_000, "{queued}");
        assert_eq!(get_frame(&mut reading).1.len(), 30_000 + 25, "{number}");
    }
    for _ in 0..4 {
        assert_eq!(next_end(&reports).cause, Cause::SlowConsumer);
    }
    put_frame(&mut reading, 1, br#"{"type":"Echo","data":1}"#);
    get_frame(&mut reading);
}

#[test]
fn sends_are_refused_when_all_connections_together_hold_too_much() {
    let server = reporting().0.max_buffered(1 << 20).start().unwrap();
    let mut slow: Vec<_> = (0..8).map(|_| connect(server.local_addrs()[0])).collect();
    until("all are open", || server.stats().opened_reports == 8);
    let agents = server.agents();
    let text = "x".repeat(10_000);
    let mut is_full = false;
    // Each stays below its own limit.
    'all: for _ in 0..100_000 {
        for agent in &agents {
            if agent.queued() < 200_000
                && let Err(error) = agent.send("Text", &text)
            {
                assert!(matches!(error, SendError::Full), "{error:?}");
                is_full = true;
                break 'all;
            }
        }
    }
    assert!(is_full);
    assert!(agents.iter().all(Agent::is_open));
    assert!(server.stats().queued_bytes <= 1 << 20);
    // There is room again when one has read.
    let reader = thread::spawn(move || while try_get(&mut slow[0]).is_ok() {});
    until("there is room", || {
        server.stats().queued_bytes < (1 << 20) - 20_000
    });
    until("it is sent", || {
        agents.iter().any(|agent| agent.send("Text", &text).is_ok())
    });
    drop(server);
    reader.join().unwrap();
}

#[test]
fn a_peer_that_sends_too_many_messages_waits_or_is_closed() {
    let (builder, reports) = reporting();
    let rate = Rate::new(200).burst(20);
    let server = builder.rate(rate).start().unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    let began = Instant::now();
    // Each alone, so that no two are read together.
    for _ in 0..120 {
        echo(&mut stream);
    }
    assert!(began.elapsed() >= MS * 500, "{:?}", began.elapsed());
    // A peer that waits for the rate is not called silent, and others are not held up.
    let mut other = connect(server.local_addrs()[0]);
    let began = Instant::now();
    (0..20).for_each(|_| echo(&mut other));
    assert!(began.elapsed() < SOON);
    drop(server);
    while reports.try_recv().is_ok() {}

    let (builder, reports) = reporting();
    let server = builder.rate(rate.excess(Excess::Close)).start().unwrap();
    let mut stream = connect_websocket(server.local_addrs()[1]);
    let many: Vec<u8> = (0..100)
        .flat_map(|_| frame(0x81, br#"{"type":"Echo","data":1}"#))
        .collect();
    stream.write_all(&many).unwrap();
    while let (1, _) = get_frame(&mut stream) {}
    assert_eq!(server.stats().ended_by(Cause::RateLimit), 0);
    drop(stream);
    let closed = next_end(&reports);
    assert_eq!((closed.cause, closed.code), (Cause::RateLimit, 1_008));
}

#[test]
fn what_all_peers_wait_for_is_bounded_and_handled_in_the_end() {
    const PEERS: usize = 40;
    const EACH: usize = 16;
    const LIMIT: u64 = 1 << 16;
    let (builder, _reports) = reporting();
    let gate = Arc::new(Barrier::new(2));
    let handled = Arc::new(AtomicUsize::new(0));
    let server = builder
        .handlers(1)
        .reactors(1)
        .outbound(LIMIT as usize)
        .max_message(1 << 12)
        .max_buffered(LIMIT as usize)
        .on("Wait", {
            let (gate, handled) = (gate.clone(), handled.clone());
            move |_: &Peer, _: String| {
                if handled.fetch_add(1, Ordering::SeqCst) == 0 {
                    gate.wait();
                }
            }
        })
        .start()
        .unwrap();
    let body = format!(r#"{{"type":"Wait","data":"{}"}}"#, "x".repeat(2_000));
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&length, body.as_bytes()].concat();
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let mut peer = connect(server.local_addrs()[0]);
            // What is not read is kept by the system.
            peer.write_all(&message.repeat(EACH)).unwrap();
            peer
        })
        .collect();
    let mut last = 0;
    until("nothing more is read", || {
        thread::sleep(MS * 50);
        let read = server.stats().bytes_in;
        read > LIMIT && std::mem::replace(&mut last, read) == read
    });
    let waiting = server.stats().unhandled_bytes;
    // One read begins below the limit.
    assert!((LIMIT..=2 * LIMIT).contains(&waiting), "{waiting}");
    gate.wait();
    until("all are handled", || {
        handled.load(Ordering::SeqCst) == PEERS * EACH
    });
    assert_eq!(server.stats().unhandled_bytes, 0);
    drop(peers);
}
