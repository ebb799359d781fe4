//! What is tried again, and what is not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use liveness::client::{ClosedBy, LinkError, State};
use liveness::server::{Cause, Reject};

use crate::kit::{MS, Peer, SOON, client, close, next, next_that, server, until, urls};

#[test]
fn a_refusal_by_status_is_final_or_not() {
    for (status, is_final) in [
        (401, true),
        (403, true),
        (404, true),
        (429, false),
        (503, false),
    ] {
        let (sent, has_sent) = channel::<()>();
        let has_sent = Mutex::new(has_sent);
        let server = server()
            .websocket("127.0.0.1:0")
            .authorize(move |_| {
                // Not before the client has a message.
                let _ = has_sent.lock().unwrap().recv();
                Err(Reject::new(status).text("because"))
            })
            .start()
            .unwrap();
        let (builder, states) = client(&format!("ws://{}", server.local_addrs()[0]));
        let client = builder.start().unwrap();
        client.send("Echo", &1).unwrap();
        drop(sent);
        assert!(matches!(next(&states), State::Connecting));
        if is_final {
            let State::Closed(ClosedBy::Server(closed)) = next(&states) else {
                panic!("{status} is final");
            };
            assert_eq!((closed.cause, closed.code), (Cause::Refused, status));
            assert_eq!(closed.reason, "because");
            assert!(client.send("Echo", &1).is_err());
            assert_eq!(client.stats().dropped, 1);
        } else {
            for expected in 1..=3 {
                let State::Offline { failures, error } = next(&states) else {
                    panic!("{status} is not final");
                };
                assert_eq!(failures, expected);
                let text = error.to_string();
                assert_eq!(text, format!("refused with HTTP status {status}: because"));
                assert!(matches!(next(&states), State::Connecting));
            }
        }
        close(&client);
    }
}

#[test]
fn a_close_code_is_final_or_not_on_both_transports() {
    let server = server()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .on("Close", |agent: &Peer, code: u16| agent.close(code, "go"))
        .start()
        .unwrap();
    for url in urls(server.local_addrs()) {
        for (code, is_final) in [
            (1011, false),
            (1013, false),
            (4999, true),
            (1008, true),
            (4000, true),
        ] {
            let (builder, states) = client(&url);
            let client = builder.start().unwrap();
            client.send("Close", &code).unwrap();
            assert!(matches!(next(&states), State::Connecting));
            assert!(matches!(next(&states), State::Online { attempt: 1 }));
            match next(&states) {
                State::Closed(ClosedBy::Server(closed)) => {
                    assert!(is_final, "{url} {code}");
                    assert_eq!((closed.cause, closed.code), (Cause::Peer, code));
                    assert_eq!(closed.reason, "go");
                }
                State::Offline {
                    failures: 1,
                    error: LinkError::Ended(closed),
                } => {
                    assert!(!is_final, "{url} {code}");
                    assert_eq!((closed.cause, closed.code), (Cause::Peer, code));
                    assert!(matches!(next(&states), State::Connecting));
                    assert!(matches!(next(&states), State::Online { attempt: 1 }));
                }
                other => panic!("{url} {code}: {other}"),
            }
            close(&client);
        }
    }
    until("all have gone", || server.stats().open == 0);
}

#[test]
fn a_server_that_is_not_there_is_tried_again_until_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (builder, states) = client(&format!("ws://{address}/"));
    let client = builder.start().unwrap();
    client.send("Echo", &1).unwrap();
    for expected in 1..=5 {
        assert!(matches!(next(&states), State::Connecting));
        let State::Offline { failures, error } = next(&states) else {
            panic!("nothing listens");
        };
        assert_eq!(failures, expected);
        assert!(
            matches!(error, LinkError::Connect(to, _) if to == address),
            "{error}"
        );
    }
    let _server = server().websocket(address.to_string()).start().unwrap();
    let State::Online { attempt } = next_that(&states, State::is_online) else {
        unreachable!()
    };
    assert!(attempt >= 6, "{attempt}");
    until("what waited is sent", || client.stats().sent == 1);
    close(&client);
}

#[test]
fn an_unreachable_server_and_a_bad_name_are_failures() {
    // A network for documentation, to which there is no way.
    let (builder, states) = client("tcp://192.0.2.1:9");
    let client_1 = builder.connect_within(30 * MS).start().unwrap();
    let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
    let State::Offline { error, .. } = &lost else {
        unreachable!()
    };
    assert!(
        matches!(error, LinkError::Connect(..) | LinkError::TimedOut(_)),
        "{error}"
    );
    close(&client_1);
    let (builder, states) = client("ws://no.such.host.invalid/");
    let client_2 = builder.start().unwrap();
    let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
    let State::Offline { error, .. } = &lost else {
        unreachable!()
    };
    assert!(
        matches!(error, LinkError::Resolve(_) | LinkError::TimedOut(_)),
        "{error}"
    );
    close(&client_2);
}

#[test]
fn answers_that_are_no_upgrade_are_named() {
    for (answer, why) in [
        ("SSH-2.0-x\r\n\r\n", "the answer is not HTTP"),
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            "refused with HTTP status 200: OK",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: ws://b/\r\n\r\n",
            "redirects are not followed; the server names ws://b/",
        ),
        (
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "Sec-WebSocket-Accept",
        ),
        ("", "end of stream"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_024];
            let count = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let (builder, states) = client(&format!("ws://{address}/a?b"));
        let client = builder.start().unwrap();
        let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
        assert!(lost.to_string().contains(why), "{lost}");
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /a?b HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Sec-WebSocket-Protocol: liveness.json\r\n"));
        close(&client);
    }
}

#[test]
fn a_queue_that_is_full_refuses_or_drops_the_oldest() {
    use liveness::client::WhenFull;
    use liveness::server::SendError;
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (builder, _states) = client(&format!("tcp://{address}"));
        let client = builder
            .queue(3, 10_000)
            .when_full(when_full)
            .start()
            .unwrap();
        for number in 0..3 {
            client.send("Number", &number).unwrap();
        }
        let fourth = client.send("Number", &3);
        let long = client.send("Long", &"x".repeat(10_000));
        assert!(
            matches!(long, Err(SendError::TooBig)),
            "longer than the queue"
        );
        let (send, received) = std::sync::mpsc::channel();
        let _server = server()
            .tcp(address.to_string())
            .on("Number", move |_, number: u32| send.send(number).unwrap())
            .start()
            .unwrap();
        let numbers = || received.recv_timeout(SOON).unwrap();
        if when_full == WhenFull::Refuse {
            assert!(matches!(fourth, Err(SendError::Full)));
            assert_eq!([numbers(), numbers(), numbers()], [0, 1, 2]);
        } else {
            fourth.unwrap();
            assert_eq!([numbers(), numbers(), numbers()], [1, 2, 3]);
            assert_eq!(client.stats().dropped, 1);
        }
        close(&client);
    }
}
