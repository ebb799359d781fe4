//! Messages both ways, over both transports and with each codec.

use std::sync::mpsc::channel;
use std::time::Duration;

use liveness::client::{Client, State};
use liveness::server::{Codec, Decode, Encode, Fault, Json, RequestError, Server};

use crate::kit::{Peer, SOON, client, close, next, server, until, urls};

#[test]
fn messages_and_requests_go_both_ways_on_tcp_and_websocket() {
    let server = server()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .on("Ask", |agent: &Peer, number: u32| {
            let answer = agent.request::<_, u32>("Half", &number, SOON);
            let text = answer.map_or_else(|error| error.to_string(), |it| it.to_string());
            agent.send("Asked", &text)
        })
        .start()
        .unwrap();
    for url in urls(server.local_addrs()) {
        let (send, received) = channel();
        let asked = send.clone();
        let (builder, states) = client(&url);
        let client = builder
            .on("Echo", move |_, text: String| send.send(text).unwrap())
            .on("Asked", move |_, text: String| asked.send(text).unwrap())
            .on_request("Half", |_, number: u32| match number % 2 {
                0 => Ok(number / 2),
                _ => Err(Fault::new(7, "odd")),
            })
            .start()
            .unwrap();
        // Before there is a connection.
        client.send("Echo", "hello").unwrap();
        assert_eq!(client.request::<_, u32>("Double", &21, SOON).unwrap(), 42);
        assert!(matches!(next(&states), State::Connecting));
        assert!(matches!(next(&states), State::Online { attempt: 1 }));
        assert!(client.state().is_online());
        assert_eq!(received.recv_timeout(SOON).unwrap(), "hello");
        client.send("Ask", &10).unwrap();
        assert_eq!(received.recv_timeout(SOON).unwrap(), "5");
        client.send("Ask", &9).unwrap();
        let answer = received.recv_timeout(SOON).unwrap();
        assert_eq!(answer, "the peer answered with error 7: odd");
        let fault = client.request::<_, u32>("Nothing", &1, SOON).unwrap_err();
        assert!(matches!(
            fault,
            RequestError::Fault(Fault { code: 404, .. })
        ));
        let large = "x".repeat(60_000);
        client.send("Echo", &large).unwrap();
        assert_eq!(received.recv_timeout(SOON).unwrap(), large);
        close(&client);
        assert!(matches!(next(&states), State::Closed(_)));
        assert!(client.send("Echo", &1).is_err());
        let stats = client.stats();
        assert_eq!(
            (stats.attempts, stats.opened, stats.lost, stats.dropped),
            (1, 1, 0, 0)
        );
        assert_eq!(stats.accepted, stats.sent);
        assert!(stats.bytes_in > 60_000 && stats.bytes_out > 60_000);
    }
    until("all have gone", || server.stats().open == 0);
    assert!(server.stats().is_balanced());
}

/// Echoes with the codec `C`.
fn echo_with<C: Codec>()
where
    u64: Encode<C> + Decode<C>,
{
    let server = Server::<C, ()>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .on_request("Next", |_, number: u64| Ok(number + 1))
        .start()
        .unwrap();
    for url in urls(server.local_addrs()) {
        let client = Client::<C>::builder(url).start().unwrap();
        for number in [0, 1, 300, 1 << 40] {
            let next: u64 = client.request("Next", &number, SOON).unwrap();
            assert_eq!(next, number + 1);
        }
    }
}

#[test]
fn each_codec_is_asked_for_and_spoken() {
    echo_with::<Json>();
    #[cfg(feature = "msgpack")]
    echo_with::<liveness::server::MsgPack>();
    #[cfg(feature = "protobuf")]
    echo_with::<liveness::server::Protobuf>();
}

#[test]
fn a_name_of_a_host_is_looked_up() {
    let server = server().tcp("127.0.0.1:0").start().unwrap();
    let port = server.local_addrs()[0].port();
    // Often with an IPv6 address in front, on which nothing listens.
    let (builder, _states) = client(&format!("tcp://localhost:{port}"));
    let client = builder.start().unwrap();
    assert_eq!(client.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
    close(&client);
}

#[test]
fn the_headers_of_the_upgrade_are_seen_by_the_server() {
    let server = server()
        .websocket("127.0.0.1:0")
        .path("/game")
        .authorize(|request| match request.header("authorization") {
            Some("Bearer good") if request.query() == Some("room=1") => Ok(()),
            _ => Err(liveness::server::Reject::new(401)),
        })
        .start()
        .unwrap();
    let (builder, _states) = client(&format!("ws://{}/game?room=1", server.local_addrs()[0]));
    let client = builder
        .header("Authorization", "Bearer good")
        .start()
        .unwrap();
    assert_eq!(client.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
    close(&client);
}

#[test]
fn dropping_the_last_handle_closes_the_client_and_the_last_client_ends_the_threads() {
    crate::alone::alone(
        "basics::dropping_the_last_handle_closes_the_client_and_the_last_client_ends_the_threads",
        || {
            let server = server().tcp("127.0.0.1:0").start().unwrap();
            let before = crate::alone::threads();
            for _ in 0..3 {
                let (first, states) = client(&format!("tcp://{}", server.local_addrs()[0]));
                let first = first.start().unwrap();
                let (second, _) = client("tcp://localhost:1");
                let second = second.start().unwrap();
                let clone = first.clone();
                drop(first);
                assert_eq!(clone.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
                // One reactor, four handlers, one for names.
                assert!(crate::alone::threads() <= before + 6);
                drop((clone, second));
                crate::kit::next_that(&states, State::is_closed);
                until("the threads end", || crate::alone::threads() == before);
            }
            std::thread::sleep(Duration::from_millis(1));
            until("the agents end", || server.stats().open == 0);
        },
    );
}
