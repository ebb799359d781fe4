//! A thousand clients of one process come back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveness::client::Client;
use liveness::server::{Json, Shutdown};

use crate::kit::{close, server, until};

const CLIENTS: u64 = 1_000;

#[test]
fn a_thousand_clients_come_back_spread_after_a_restart() {
    // Handlers of other tests would delay the reactor of all clients.
    let name = "herd::a_thousand_clients_come_back_spread_after_a_restart";
    crate::alone::alone(name, come_back);
}

/// Lets the clients lose their server and come back.
fn come_back() {
    let first = server().websocket("127.0.0.1:0").start().unwrap();
    let address = first.local_addrs()[0];
    let threads = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|it| it.strip_prefix("Threads:"));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    let before = threads();
    let clients: Vec<Client<Json>> = (0..CLIENTS)
        .map(|_| {
            Client::builder(format!("ws://{address}/"))
                .spread(Duration::from_secs(12))
                .start()
                .unwrap()
        })
        .collect();
    until("all are there", || first.stats().open == CLIENTS);
    assert!(threads() <= before + 50, "no threads for each client");
    let came = Arc::new(Mutex::new(Vec::new()));
    let report = first.shutdown(Shutdown::within(Duration::from_secs(20)));
    assert!(report.still_running.is_empty());
    let began = Instant::now();
    let times = came.clone();
    let second = server()
        .websocket(address.to_string())
        .opened(move |_| times.lock().unwrap().push(began.elapsed()))
        .start()
        .unwrap();
    until("all are back", || second.stats().open == CLIENTS);
    let came = came.lock().unwrap();
    let mut seconds = [0_u64; 60];
    for time in came.iter() {
        seconds[time.as_secs() as usize] += 1;
    }
    let most = seconds.iter().max().unwrap();
    println!("{:?}", &seconds[..14]);
    assert!(*most <= CLIENTS / 5, "{seconds:?}");
    // A few come while nothing listens, and come again.
    for client in &clients {
        // The server may know it first.
        until("the client knows it", || client.stats().opened >= 2);
        let stats = client.stats();
        assert!(stats.is_balanced());
        assert_eq!(stats.opened, 2);
    }
    for client in &clients {
        client.close();
    }
    for client in &clients {
        close(client);
    }
}
