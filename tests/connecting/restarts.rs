//! A server that is restarted again and again.

use std::sync::mpsc::channel;
use std::time::Duration;

use liveness::client::State;
use liveness::server::Shutdown;

use crate::kit::{Peer, SOON, client, close, next_that, server, urls};

/// How often the server is restarted.
const RESTARTS: u32 = 100;

/// The messages that wait for each restart.
const EACH: u32 = 5;

#[test]
fn after_each_restart_the_greeting_comes_first_and_then_the_queue_in_order() {
    let first = server()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .start()
        .unwrap();
    let addresses = first.local_addrs().to_vec();
    drop(first);
    for (index, url) in urls(&addresses).iter().enumerate() {
        let (builder, states) = client(url);
        let client = builder
            .greet(|greeting| {
                greeting.send("Say", "login").send("Say", "rooms");
            })
            .start()
            .unwrap();
        let mut number = 0;
        for restart in 0..RESTARTS {
            // The first time, and now and then, the messages come before the server has been seen.
            let waiting = number..number + EACH;
            for number in waiting.clone() {
                client.send("Say", &number.to_string()).unwrap();
            }
            number += EACH;
            let (send, said) = channel();
            let builder = server().on("Say", move |_: &Peer, text: String| {
                send.send(text).unwrap();
            });
            let address = addresses[index].to_string();
            let server = if index == 0 {
                builder.tcp(address)
            } else {
                builder.websocket(address)
            };
            let server = server.start().unwrap();
            next_that(&states, State::is_online);
            let mut expected = vec!["login".to_owned(), "rooms".to_owned()];
            expected.extend(waiting.map(|number| number.to_string()));
            // One more, over a connection that is there.
            client.send("Say", "now").unwrap();
            expected.push("now".to_owned());
            for text in expected {
                assert_eq!(said.recv_timeout(SOON).unwrap(), text, "restart {restart}");
            }
            if restart % 2 == 0 {
                server.shutdown(Shutdown::within(Duration::from_secs(5)));
            } else {
                drop(server);
            }
            next_that(&states, |state| {
                matches!(state, State::Offline { failures: 1, .. })
            });
        }
        close(&client);
        let stats = client.stats();
        assert_eq!(stats.opened, u64::from(RESTARTS));
        assert_eq!(stats.sent, u64::from(RESTARTS * (EACH + 3)));
        assert_eq!((stats.dropped, stats.lost), (0, 0));
    }
}
