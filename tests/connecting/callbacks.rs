//! What handlers do: closing, waiting, panicking, and being slow.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use liveness::client::{Client, ClosedBy, State};
use liveness::server::{Json, RequestError};

use crate::kit::{MS, Peer, SOON, client, close, next_that, server, until, urls};

/// A way to close a client.
type Close = fn(&Client<Json>);

#[test]
fn a_client_can_be_closed_in_every_callback() {
    let server = server()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .on("Ask", |agent: &Peer, (): ()| {
            agent.request::<_, u32>("Asked", &1, SOON).map(drop)
        })
        .start()
        .unwrap();
    let closes: [Close; 3] = [
        Client::close,
        // In a handler, the socket can be waited for; inline, it is not.
        |client| {
            let _is_gone = client.close_timeout(SOON);
        },
        |client| {
            client.close();
            client.close();
        },
    ];
    for url in urls(server.local_addrs()) {
        for close in closes {
            for place in ["state", "on", "inline", "request"] {
                let (send, states) = channel();
                let closing = move |client: &Client<Json>, here: &str| {
                    if here == place {
                        close(client);
                    }
                };
                let client = Client::<Json>::builder(&*url)
                    .state(move |client, state| {
                        if state.is_online() {
                            closing(client, "state");
                        }
                        let _ = send.send(state.clone());
                    })
                    .on("Echo", move |client, (): ()| closing(client, "on"))
                    .on_inline("Inline", move |client, (): ()| closing(client, "inline"))
                    .on_request("Asked", move |client, number: u32| {
                        closing(client, "request");
                        Ok(number)
                    })
                    .start()
                    .unwrap();
                for name in ["Echo", "Ask"] {
                    // It may be closed already.
                    let _ = client.send(name, &());
                }
                if place == "inline" {
                    until("an agent is there", || server.stats().open > 0);
                    until("it is closed", || {
                        server.broadcast("Inline", &()).unwrap();
                        client.state().is_closed()
                    });
                }
                let last = next_that(&states, State::is_closed);
                assert!(matches!(last, State::Closed(ClosedBy::Program)));
                assert!(client.close_timeout(SOON));
                assert!(client.stats().is_balanced(), "{:?}", client.stats());
                assert_eq!(client.stats().panics, 0);
            }
        }
    }
}

#[test]
fn a_handler_may_wait_for_an_answer_but_not_inline() {
    let server = server().tcp("127.0.0.1:0").start().unwrap();
    let (builder, _states) = client(&format!("tcp://{}", server.local_addrs()[0]));
    let (send, results) = channel();
    let inline = send.clone();
    let client = builder
        .on("Echo", move |client, number: u32| {
            let doubled: Result<u32, _> = client.request("Double", &number, SOON);
            send.send(doubled.map_err(|error| error.to_string()))
                .unwrap();
        })
        .on_inline("Inline", move |client, number: u32| {
            let error = client
                .request::<_, u32>("Double", &number, SOON)
                .unwrap_err();
            assert!(matches!(error, RequestError::WouldDeadlock));
            inline.send(Err(error.to_string())).unwrap();
        })
        .start()
        .unwrap();
    client.send("Echo", &4).unwrap();
    assert_eq!(results.recv_timeout(SOON).unwrap(), Ok(8));
    server.broadcast("Inline", &1_u32).unwrap();
    assert!(results.recv_timeout(SOON).unwrap().is_err());
    close(&client);
}

#[test]
fn panics_and_bad_bodies_are_counted_and_end_nothing() {
    let server = server().tcp("127.0.0.1:0").start().unwrap();
    let (builder, states) = client(&format!("tcp://{}", server.local_addrs()[0]));
    let client = builder
        .on("Echo", |_, text: String| assert_ne!(text, "panic"))
        .on_inline("Inline", |_, (): ()| panic!("inline"))
        .start()
        .unwrap();
    client.send("Echo", "panic").unwrap();
    client.send("Echo", &5).unwrap();
    next_that(&states, State::is_online);
    until("the agent is there", || server.stats().open == 1);
    server.broadcast("Inline", &()).unwrap();
    server.broadcast("Unknown", &()).unwrap();
    until("they are counted", || {
        let stats = client.stats();
        (stats.panics, stats.bad, stats.unknown) == (2, 1, 1)
    });
    assert_eq!(client.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
    close(&client);
    assert_eq!(client.stats().opened, 1);
}

/// The messages to a slow handler.
const NEWS: u32 = 20_000;

#[test]
fn a_slow_handler_stops_the_reading_of_its_own_client_only() {
    let server = server().tcp("127.0.0.1:0").start().unwrap();
    let url = format!("tcp://{}", server.local_addrs()[0]);
    let (slow, fast) = (client(&url), client(&url));
    let gate = Arc::new(Barrier::new(2));
    let (handled, waits) = (Arc::new(AtomicU32::new(0)), gate.clone());
    let count = handled.clone();
    let slow_one = slow
        .0
        .on("News", move |_, number: u32| {
            if number == 0 {
                waits.wait();
            }
            assert_eq!(count.fetch_add(1, Ordering::SeqCst), number, "in order");
        })
        .start()
        .unwrap();
    let fast_one = fast.0.on("News", |_, _: u32| ()).start().unwrap();
    next_that(&slow.1, State::is_online);
    next_that(&fast.1, State::is_online);
    until("both are there", || server.stats().open == 2);
    for number in 0..NEWS {
        server.broadcast("News", &number).unwrap();
        if number % 1_000 == 0 {
            until("the fast one keeps up", || {
                fast_one.stats().received >= u64::from(number)
            });
        }
    }
    until("the fast one has all", || {
        fast_one.stats().received == u64::from(NEWS)
    });
    // What one read brought is handed over as a whole; then nothing is read.
    let read = slow_one.stats().received;
    assert!(read < u64::from(NEWS), "{read} messages read");
    assert_eq!(fast_one.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
    gate.wait();
    until("the slow one catches up", || {
        handled.load(Ordering::SeqCst) == NEWS
    });
    close(&slow_one);
    close(&fast_one);
}

#[test]
fn a_greeting_that_fails_ends_the_connection_and_not_the_client() {
    let server = server().tcp("127.0.0.1:0").start().unwrap();
    let (builder, states) = client(&format!("tcp://{}", server.local_addrs()[0]));
    let calls = AtomicU32::new(0);
    let client = builder
        .greet(move |greeting| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("greeting"),
            // A map whose keys are no strings has no JSON.
            1 => drop(greeting.send("Bad", &std::collections::HashMap::from([([1], 1)]))),
            _ => drop(greeting.send("Echo", &1)),
        })
        .start()
        .unwrap();
    for why in ["the greeting panicked", "the greeting: "] {
        let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
        assert!(lost.to_string().contains(why), "{lost}");
    }
    assert_eq!(client.request::<_, u32>("Double", &2, SOON).unwrap(), 4);
    until("a second wait is over", || client.state().is_online());
    std::thread::sleep(MS);
    close(&client);
    assert_eq!(client.stats().panics, 1);
}
