//! The lock protocol of the dispatcher: a lost wake-up, an event that is lost, or one that runs when it must not.
//!
//! Nothing but the step that a model is about may wake a worker: clocks stand still unless a thread of the model moves
//! them, and no model flushes. What is not woken is a deadlock, which the explorer reports.

mod calls;
mod lending;
mod wakeups;

use std::time::Duration;

use shuttle::sync::mpsc;

use crate::ManualClock;
use crate::dispatch::{Builder, Dispatcher, Emit, On, Topic, TopicStats};

/// The topic of the models.
const TOPIC: Topic<u64> = Topic::new("model");

const SECOND: Duration = Duration::from_secs(1);

/// Options of a dispatcher that goes by `clock`.
fn builder(clock: &ManualClock, threads: usize) -> Builder {
    Dispatcher::builder()
        .threads(threads)
        .seed(1)
        .clock(clock.clone())
}

/// A dispatcher whose handler sends each event that it is called with.
fn sending(clock: &ManualClock, threads: usize) -> (Dispatcher, mpsc::Receiver<u64>) {
    let dispatcher = builder(clock, threads).build().unwrap();
    let (send, sent) = mpsc::channel();
    dispatcher
        .on(&TOPIC, "send", On::new(), move |_, event| {
            let _ = send.send(*event);
            Ok(())
        })
        .unwrap();
    (dispatcher, sent)
}

/// Due at `seconds` after the origin of `clock`, wherever that has been moved meanwhile.
fn at(clock: &ManualClock, seconds: u32) -> Emit {
    let clock = crate::Clock::from(clock.clone());
    Emit::at(clock.system_time(crate::Timestamp::ORIGIN) + SECOND * seconds)
}

/// Stops `dispatcher` when what runs has returned, and returns the account and how many events did not run.
fn stop(dispatcher: &Dispatcher) -> (TopicStats, usize) {
    let summary = dispatcher.stop(Duration::MAX);
    assert!(summary.still_running.is_empty(), "{summary:?}");
    let stats = dispatcher.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    let total = stats.total();
    assert_eq!((total.waiting, total.running, total.panics), (0, 0, 0));
    (total, summary.undone.len())
}
