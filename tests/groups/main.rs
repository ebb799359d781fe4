//! Groups: the order of what they run, faults that must not come back, and what is left after a stop.
//!
//! Time is a manual clock's wherever it matters; threads meet by channels. Every test ends with an account that balances.

#![expect(
    clippy::items_after_statements,
    reason = "a type is declared where it is used"
)]

mod faults;
mod order;
mod stopping;
mod stress;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use liveness::server::Group;
use liveness::server::group::{GroupStats, Report};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

/// Stops `group`, and returns its state and its account.
fn stop<S: Send + 'static>(group: &Group<S>) -> (S, GroupStats) {
    let Report {
        state,
        still_running,
        ..
    } = group.stop(LONG);
    assert!(still_running.is_empty(), "{still_running:?}");
    let stats = group.stats();
    assert!(stats.is_balanced(), "{stats}");
    assert_eq!((stats.waiting, stats.running), (0, 0));
    (state.expect("the thread has ended"), stats)
}

/// Blocks `group` in a closure until the returned sender is dropped or used.
fn block<S: Send + 'static>(group: &Group<S>) -> Sender<()> {
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let (begin, began) = channel();
    group
        .post(move |_| {
            begin.send(()).unwrap();
            let _ = released.recv();
        })
        .unwrap();
    began.recv().unwrap();
    release
}
