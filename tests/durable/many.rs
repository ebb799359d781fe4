//! Scenario 14: events are cancelled and rescheduled among very many that are scheduled.

use std::env;
use std::time::{Duration, Instant};

use liveness::dispatch::{Cancelled, Emit, Topic};
use liveness::redis::Dispatcher;

use crate::redis_server::for_test;

const REMINDERS: Topic<u64> = Topic::new("reminders");
const HOUR: Duration = Duration::from_secs(3_600);

/// `LIVENESS_DURABLE_EVENTS=1000000 cargo test --release --features redis --test durable s14 -- --nocapture` is the
/// long version. It prints the times of the calls, which docs/lab.md has.
#[test]
fn s14_events_are_cancelled_and_rescheduled_among_many_that_are_scheduled() {
    let Some(server) = for_test(&[]) else { return };
    let events = env::var("LIVENESS_DURABLE_EVENTS").map_or(20_000, |count| count.parse().unwrap());
    let dispatcher = Dispatcher::builder(&server.url())
        .threads(1)
        .build()
        .unwrap();
    // All wait, because the topic has no handler.
    let ids = dispatcher.emit_many(&REMINDERS, 0..events).unwrap();
    let mut times = Vec::new();
    // Two of each hundred, spread over all.
    for pair in ids.chunks(100) {
        let start = Instant::now();
        assert_eq!(
            dispatcher.cancel(&REMINDERS, pair[0]).unwrap(),
            Cancelled::Waiting
        );
        times.push(start.elapsed());
        let start = Instant::now();
        let later = Emit::after(HOUR);
        assert!(dispatcher.reschedule(&REMINDERS, pair[1], &later).unwrap());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let quantile = |percent: usize| times[times.len() * percent / 100];
    println!(
        "{events} events, {} calls: p50 {:?}, p99 {:?}",
        times.len(),
        quantile(50),
        quantile(99)
    );
    let counts = dispatcher.counts(&REMINDERS).unwrap();
    let changed = times.len() / 2;
    assert_eq!(
        (counts.ready, counts.scheduled),
        (ids.len() - 2 * changed, changed)
    );
    assert_eq!(
        dispatcher.stats().unwrap().total().cancelled,
        changed as u64
    );
    assert!(dispatcher.stats().unwrap().is_balanced());
}
