//! Requests of the server to its peers.

use std::thread;
use std::time::Duration;

use liveness::server::{Fault, RequestError};
use serde_json::Value;

use crate::kit::{MS, SOON, connect, echo, get, put, reporting, until};

/// How a request ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Answer(u64),
    Fault(u32),
    Timeout,
    Lost,
}

#[test]
fn each_of_a_thousand_requests_ends_once() {
    let server = reporting().0.start().unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    let ask = |number: u64, within: Duration| {
        let agent = agent.clone();
        let thread = thread::Builder::new().stack_size(256 << 10);
        thread
            .spawn(move || match agent.request("Double", &number, within) {
                Ok(answer) => End::Answer(answer),
                Err(RequestError::Fault(Fault { code, .. })) => End::Fault(code),
                Err(RequestError::Timeout) => End::Timeout,
                Err(RequestError::Lost) => End::Lost,
                Err(error) => panic!("{error}"),
            })
            .unwrap()
    };
    // The first 200 are answered too late, the last 200 not at all, and those between out of order.
    let long = SOON * 2;
    let asking: Vec<_> = (0..1_000)
        .map(|number| ask(number, if number < 200 { MS * 300 } else { long }))
        .collect();
    let mut asked: Vec<(u64, u64)> = (0..1_000)
        .map(|_| {
            let request: Value = serde_json::from_str(&get(&mut stream)).unwrap();
            assert_eq!(request["type"], "Double");
            (
                request["data"].as_u64().unwrap(),
                request["id"].as_u64().unwrap(),
            )
        })
        .collect();
    asked.sort_unstable();
    let mut ids: Vec<u64> = asked.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_000);
    let answer = |number: u64, id: u64| match number % 10 {
        0 => format!(r#"{{"type":"Error","re":{id},"code":{number},"msg":"no"}}"#),
        _ => format!(r#"{{"type":"Double","re":{id},"data":{}}}"#, number * 2),
    };
    // A permutation, since 7 has no divisor in common with 600.
    for index in 0..600 {
        let (number, id) = asked[200 + index * 7 % 600];
        put(&mut stream, &answer(number, id));
        if index % 3 == 0 {
            // A second answer is none.
            put(&mut stream, &answer(1, id));
        }
    }
    let mut asking = asking.into_iter();
    let mut ends = |count: usize| -> Vec<End> {
        asking
            .by_ref()
            .take(count)
            .map(|thread| thread.join().unwrap())
            .collect()
    };
    assert!(ends(200).iter().all(|end| *end == End::Timeout));
    for (number, id) in &asked[..200] {
        put(&mut stream, &answer(*number, *id));
    }
    echo(&mut stream);
    for (number, end) in (200_u64..).zip(ends(600)) {
        let expected = match number % 10 {
            0 => End::Fault(number as u32),
            _ => End::Answer(number * 2),
        };
        assert_eq!(end, expected, "{number}");
    }
    drop(stream);
    assert!(ends(200).iter().all(|end| *end == End::Lost));
    // A request after the end is not sent.
    let refused = agent.request::<_, u64>("Double", &1, SOON);
    assert!(matches!(refused, Err(RequestError::Send(_))), "{refused:?}");
}
