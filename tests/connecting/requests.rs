//! Requests: each completes once.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveness::client::State;
use liveness::server::{RequestError, SendError};

use crate::kit::{MS, SOON, client, close, next_that, server, until};

#[test]
fn a_request_whose_time_is_over_in_the_queue_is_never_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (builder, _states) = client(&format!("tcp://{address}"));
    let client = builder.start().unwrap();
    let began = Instant::now();
    let error = client.request::<_, u32>("Count", &1, 30 * MS).unwrap_err();
    assert!(matches!(error, RequestError::Timeout));
    assert!(began.elapsed() >= 30 * MS);
    let stats = client.stats();
    assert_eq!((stats.timed_out, stats.dropped, stats.queued), (1, 1, 0));
    let counts = Arc::new(AtomicU64::new(0));
    let counted = counts.clone();
    let _server = server()
        .tcp(address.to_string())
        .on_request("Count", move |_, by: u64| {
            Ok(counted.fetch_add(by, Ordering::SeqCst) + by)
        })
        .start()
        .unwrap();
    let count: u64 = client.request("Count", &10, SOON).unwrap();
    assert_eq!(count, 10, "the first one was not sent");
    close(&client);
}

#[test]
fn a_request_is_lost_when_its_connection_ends_and_waits_when_it_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (builder, states) = client(&format!("tcp://{address}"));
    let client = builder.start().unwrap();
    let asking = client.clone();
    let lost = thread::spawn(move || asking.request::<_, u32>("Double", &1, SOON));
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 64];
    assert!(stream.read(&mut bytes).unwrap() > 0);
    drop(listener);
    drop(stream);
    assert!(matches!(lost.join().unwrap(), Err(RequestError::Lost)));
    next_that(&states, |state| matches!(state, State::Offline { .. }));
    let asking = client.clone();
    let waits = thread::spawn(move || asking.request::<_, u32>("Double", &4, SOON));
    until("it waits", || client.stats().waiting == 1);
    let _server = server().tcp(address.to_string()).start().unwrap();
    assert_eq!(waits.join().unwrap().unwrap(), 8);
    close(&client);
    let stats = client.stats();
    assert_eq!(
        (stats.requests, stats.answered, stats.lost_requests),
        (2, 1, 1)
    );
}

#[test]
fn a_close_ends_the_requests_that_wait() {
    let (builder, _states) = client("tcp://127.0.0.1:1");
    let client = builder.start().unwrap();
    let asking = client.clone();
    let waits = thread::spawn(move || asking.request::<_, u32>("Double", &4, SOON));
    until("it waits", || client.stats().waiting == 1);
    close(&client);
    assert!(matches!(waits.join().unwrap(), Err(RequestError::Lost)));
    let error = client.request::<_, u32>("Double", &4, SOON).unwrap_err();
    assert!(matches!(error, RequestError::Send(SendError::Closed)));
}

#[test]
fn of_many_requests_with_drops_in_between_each_completes_once() {
    // Every fourth answer comes too late, some requests end the connection, and nothing is handled twice.
    let handled = Arc::new(Mutex::new(Vec::new()));
    let seen = handled.clone();
    let server = server()
        .websocket("127.0.0.1:0")
        .on_request("Work", move |agent: &crate::kit::Peer, number: u32| {
            seen.lock().unwrap().push(number);
            if number % 50 == 49 {
                agent.close(1011, "an accident");
            } else if number.is_multiple_of(4) {
                thread::sleep(3 * MS);
            }
            Ok(number + 1)
        })
        .start()
        .unwrap();
    let (builder, _states) = client(&format!("ws://{}/", server.local_addrs()[0]));
    let client = builder
        .retry(MS, 3 * MS)
        .queue(1_000, 1 << 20)
        .start()
        .unwrap();
    let outcomes: Vec<_> = (0..8)
        .map(|worker| {
            let client = client.clone();
            thread::spawn(move || {
                let mut outcomes = [0; 3];
                for index in 0..125_u32 {
                    let number = worker * 125 + index;
                    let within = if number.is_multiple_of(4) {
                        2 * MS
                    } else {
                        SOON
                    };
                    match client.request::<_, u32>("Work", &number, within) {
                        Ok(answer) => {
                            assert_eq!(answer, number + 1, "answers are not mixed up");
                            outcomes[0] += 1;
                        }
                        Err(RequestError::Timeout) => outcomes[1] += 1,
                        Err(RequestError::Lost) => outcomes[2] += 1,
                        Err(error) => panic!("{number}: {error}"),
                    }
                }
                outcomes
            })
        })
        .collect();
    let mut sums = [0; 3];
    for worker in outcomes {
        for (sum, count) in sums.iter_mut().zip(worker.join().unwrap()) {
            *sum += count;
        }
    }
    assert_eq!(sums.iter().sum::<u64>(), 1_000);
    assert!(sums.iter().all(|&count| count > 0), "{sums:?}");
    close(&client);
    let stats = client.stats();
    assert_eq!([stats.answered, stats.timed_out, stats.lost_requests], sums);
    let mut handled = handled.lock().unwrap().clone();
    let count = handled.len();
    handled.sort_unstable();
    handled.dedup();
    assert_eq!(handled.len(), count, "nothing was sent twice");
    std::thread::sleep(Duration::from_millis(1));
}
