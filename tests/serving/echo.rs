//! Messages, their order, requests and rooms.

use std::io::Write;
use std::net::Shutdown as Direction;
use std::num::NonZeroU32;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;

use liveness::server::{Agent, Cause, Fault, Json, RequestError, Server};

use crate::kit::{
    MS, Peer, Report, SOON, connect, connect_websocket, frame, framed, get, get_frame, next_end,
    put, put_frame, reporting, until,
};

#[test]
fn an_echo_comes_back_over_both_transports() {
    let server = reporting().0.start().unwrap();
    let [tcp, websocket] = server.local_addrs() else {
        panic!("two listeners");
    };
    let hello = r#"{"type":"Echo","data":{"Message":"hello"}}"#;
    let mut stream = connect(*tcp);
    put(&mut stream, hello);
    assert_eq!(get(&mut stream), hello);
    let mut stream = connect_websocket(*websocket);
    put_frame(&mut stream, 1, hello.as_bytes());
    assert_eq!(get_frame(&mut stream), (1, hello.as_bytes().to_vec()));
    put_frame(&mut stream, 8, &1000_u16.to_be_bytes());
    assert_eq!(get_frame(&mut stream), (8, 1000_u16.to_be_bytes().to_vec()));
    until("one is closed", || server.stats().closed == 1);
    let stats = server.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.accepted, stats.open), (2, 1));
}

#[test]
fn messages_of_a_connection_are_handled_in_their_order_between_opened_and_closed() {
    let (send, seen) = channel();
    let [opened, message, closed] = [send.clone(), send.clone(), send];
    let server = reporting()
        .0
        .opened(move |_| {
            thread::sleep(MS * 5);
            opened.send(-1).unwrap();
        })
        .closed(move |_, _| closed.send(-2).unwrap())
        .on("Number", move |_: &Peer, number: i64| {
            message.send(number).unwrap();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for number in 0..1_000 {
        put(
            &mut stream,
            &format!(r#"{{"type":"Number","data":{number}}}"#),
        );
    }
    drop(stream);
    let expected: Vec<i64> = std::iter::once(-1).chain(0..1_000).chain([-2]).collect();
    let found: Vec<i64> = expected
        .iter()
        .map(|_| seen.recv_timeout(SOON).unwrap())
        .collect();
    assert_eq!(found, expected);
    drop(server);
    assert!(seen.recv().is_err(), "nothing more is reported");
}

#[test]
fn a_request_is_answered_in_both_directions() {
    let server = reporting()
        .0
        .on_request("Double", |_: &Peer, number: u32| {
            number.checked_mul(2).ok_or(Fault::new(7, "too large"))
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Double","id":5,"data":21}"#);
    assert_eq!(get(&mut stream), r#"{"type":"Double","re":5,"data":42}"#);
    put(&mut stream, r#"{"type":"Double","id":6,"data":4000000000}"#);
    assert_eq!(
        get(&mut stream),
        r#"{"type":"Error","re":6,"code":7,"msg":"too large"}"#
    );
    put(&mut stream, r#"{"type":"Nothing","id":7}"#);
    assert_eq!(
        get(&mut stream),
        r#"{"type":"Error","re":7,"code":404,"msg":"unknown message"}"#
    );

    let agent = server.agents().pop().unwrap();
    let asking = thread::spawn(move || {
        let first = agent.request::<_, u32>("Age", "ada", SOON);
        let late = agent.request::<_, u32>("Age", "bob", MS * 20);
        let lost = agent.request::<_, u32>("Age", "eve", SOON);
        (first, late, lost)
    });
    assert_eq!(get(&mut stream), r#"{"type":"Age","id":1,"data":"ada"}"#);
    put(&mut stream, r#"{"type":"Age","re":1,"data":36}"#);
    get(&mut stream);
    get(&mut stream);
    drop(stream);
    let (first, late, lost) = asking.join().unwrap();
    assert_eq!(first.unwrap(), 36);
    assert!(matches!(late, Err(RequestError::Timeout)), "{late:?}");
    assert!(matches!(lost, Err(RequestError::Lost)), "{lost:?}");
}

#[test]
fn a_room_gets_what_is_published_to_it_over_both_transports() {
    let server = reporting()
        .0
        .on_inline("Join", |agent: &Peer, room: String| agent.join(&room))
        .on("Say", |agent: &Peer, text: String| {
            agent.publish("blue", "Said", &text)
        })
        .start()
        .unwrap();
    let mut first = connect(server.local_addrs()[0]);
    let mut second = connect_websocket(server.local_addrs()[1]);
    let mut third = connect(server.local_addrs()[0]);
    put(&mut first, r#"{"type":"Join","data":"blue"}"#);
    put_frame(&mut second, 1, br#"{"type":"Join","data":"blue"}"#);
    // The echo shows that the inline message before it was handled.
    put_frame(&mut second, 1, br#"{"type":"Echo","data":1}"#);
    get_frame(&mut second);
    put(&mut first, r#"{"type":"Say","data":"hi"}"#);
    let said = r#"{"type":"Said","data":"hi"}"#;
    assert_eq!(get(&mut first), said);
    assert_eq!(get_frame(&mut second), (1, said.as_bytes().to_vec()));
    server.broadcast("All", &1).unwrap();
    // The third was in no room.
    assert_eq!(get(&mut third), r#"{"type":"All","data":1}"#);
}

#[test]
fn a_slow_handler_delays_only_its_own_connection() {
    let gate = Arc::new(Barrier::new(2));
    let (builder, reports) = reporting();
    let server = builder
        .handlers(2)
        .on("Wait", {
            let gate = gate.clone();
            move |_: &Peer, ()| gate.wait()
        })
        .start()
        .unwrap();
    let mut slow = connect(server.local_addrs()[0]);
    let mut other = connect(server.local_addrs()[0]);
    put(&mut slow, r#"{"type":"Wait"}"#);
    put(&mut slow, r#"{"type":"Echo","data":1}"#);
    for number in 0..100 {
        let echo = format!(r#"{{"type":"Echo","data":{number}}}"#);
        put(&mut other, &echo);
        assert_eq!(get(&mut other), echo);
    }
    // The reactor answers for the one that waits.
    put(&mut slow, r#"{"type":"Ping","data":{}}"#);
    assert_eq!(get(&mut slow), r#"{"type":"Pong","data":{}}"#);
    gate.wait();
    assert_eq!(get(&mut slow), r#"{"type":"Echo","data":1}"#);
    let opened = reports.try_iter().filter(|it| matches!(it, Report::Opened));
    assert_eq!(opened.count(), 2);
}

#[test]
fn an_inline_answer_is_sent_before_an_end_that_came_with_its_message() {
    let (builder, reports) = reporting();
    let server = builder
        .on_inline("Now", |agent: &Peer, body: serde_json::Value| {
            agent.send("Now", &body)
        })
        .start()
        .unwrap();
    let [tcp, websocket] = server.local_addrs() else {
        panic!("two listeners");
    };
    let now = r#"{"type":"Now","data":1}"#;
    for _ in 0..20 {
        let mut stream = connect(*tcp);
        stream
            .write_all(&[framed(now), vec![0, 0]].concat())
            .unwrap();
        assert_eq!(get(&mut stream), now);
        assert!(get(&mut stream).contains("1002"));
        drop(stream);
        assert_eq!(next_end(&reports).cause, Cause::Protocol);
        let mut stream = connect(*tcp);
        put(&mut stream, now);
        stream.shutdown(Direction::Write).unwrap();
        assert_eq!(get(&mut stream), now);
        assert_eq!(next_end(&reports).cause, Cause::Eof);
        let mut stream = connect_websocket(*websocket);
        let frames = [frame(0x81, now.as_bytes()), frame(0x88, &[])];
        stream.write_all(&frames.concat()).unwrap();
        assert_eq!(get_frame(&mut stream), (1, now.into()));
        assert_eq!(get_frame(&mut stream), (8, vec![]));
        drop(stream);
        assert_eq!(next_end(&reports).cause, Cause::Peer);
    }
}

#[test]
fn data_without_a_default_value_comes_from_the_builder() {
    let server = Server::<Json, NonZeroU32>::builder_with(|| NonZeroU32::MIN)
        .tcp("127.0.0.1:0")
        .on_request("Data", |agent: &Agent<_, NonZeroU32>, ()| {
            Ok(agent.data().get())
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Data","id":1}"#);
    assert_eq!(get(&mut stream), r#"{"type":"Data","re":1,"data":1}"#);
}
