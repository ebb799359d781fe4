//! A worker is stopped for longer than its lease and then continued: another one has handled its event meanwhile, and
//! the late outcome does not count.

use std::thread;
use std::time::Duration;

use crate::crew::{GENEROUS, JOBS, Role, Site};
use crate::killing::{is_long, seed};
use crate::ledger::Verdict;
use crate::tap::Mutation;

const LEASE: Duration = Duration::from_millis(750);

/// Stops a worker in a handler, and continues it after another worker has handled the event.
fn stop_in_a_handler(mutation: Option<Mutation>) -> Option<Verdict> {
    let site = Site::start(&[], LEASE, mutation)?;
    let dispatcher = site.dispatcher();
    let stopped = site.spawn(Role::Worker);
    let id = dispatcher.emit(&JOBS, (200, 0)).unwrap().get();
    site.ledger.accepted(id);
    let first = site.wait_for("begin", 1);
    site.stop(&stopped);
    let other = site.spawn(Role::Worker);
    let second = site.wait_for("begin", 2);
    assert_eq!((first[0], second[0]), (id, id));
    assert!(
        second[1] > first[1],
        "the fence rises: {first:?} {second:?}"
    );
    assert_eq!(u64::from(other.child.id()), second[2]);
    // The other one runs it to its end, and that outcome counts.
    site.wait_for("end", 1);
    assert!(dispatcher.flush(GENEROUS).unwrap());
    site.continue_(&stopped);
    assert_eq!(
        site.wait_for("end", 2)[1],
        first[1],
        "the handler that was stopped ends"
    );
    // Its outcome is reported, or its renewal finds that the lease is lost.
    thread::sleep(LEASE);
    let account = dispatcher.stats().unwrap().total();
    println!(
        "{} done, {} lapsed, {} stale",
        account.done, account.lapsed, account.stale
    );
    drop(dispatcher);
    Some(site.end(vec![], vec![stopped, other], GENEROUS))
}

#[test]
fn the_outcome_of_a_worker_that_was_stopped_past_its_lease_does_not_count() {
    let Some(verdict) = stop_in_a_handler(None) else {
        return;
    };
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert_eq!((verdict.attempts, verdict.explained), (2, 1));
}

#[test]
fn the_test_of_stopped_workers_notices_that_fences_are_not_compared() {
    let Some(verdict) = stop_in_a_handler(Some(Mutation::NoFence)) else {
        return;
    };
    let is_noticed = verdict.faults.iter().any(|fault| fault.contains("2 done"));
    assert!(is_noticed, "it was not noticed: {verdict}");
}

#[test]
fn workers_that_are_stopped_and_continued_under_load_repeat_only_what_they_held() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    seed();
    let workers = site.spawn_many(Role::Worker, 3);
    let producers = site.spawn_many(Role::Producer, 2);
    for _ in 0..if is_long() { 20 } else { 3 } {
        thread::sleep(Duration::from_millis(fastrand::u64(50..300)));
        let worker = &workers[fastrand::usize(..3)];
        site.stop(worker);
        thread::sleep(LEASE.mul_f64(1.2 + fastrand::f64()));
        site.continue_(worker);
    }
    thread::sleep(LEASE / 2);
    let verdict = site.end(producers, workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
}
