//! Producers and workers are killed by SIGKILL, between any two steps of the protocol and at random moments: an event
//! that was accepted is handled, and no second outcome of an event counts.
//!
//! `LIVENESS_LONG=1` runs 200 kills and 100,000 events in about a minute; `LIVENESS_SEED` repeats a run.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use crate::crew::{GENEROUS, JOBS, Member, Role, Site, wait_until_quiet};
use crate::ledger::Verdict;
use crate::tap::{Mutation, Point};

/// Where a worker is killed.
const WORKER_POINTS: [Point; 7] = [
    Point::BeforeClaim,
    Point::Claimed,
    Point::InHandler,
    Point::Handled,
    Point::OutcomeSent,
    Point::BeforeRenewal,
    Point::Renewed,
];

/// Long enough for a renewal on a machine that has other things to do.
const LEASE: Duration = Duration::from_secs(1);

/// Whether the long versions run.
pub(crate) fn is_long() -> bool {
    env::var_os("LIVENESS_LONG").is_some()
}

/// Chooses the seed of a test, and prints it.
pub(crate) fn seed() -> u64 {
    let given = env::var("LIVENESS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("LIVENESS_SEED={seed}");
    fastrand::seed(seed);
    seed
}

/// Kills a worker at each of `points`, one after the other, and a producer with an emit under way; then `random` of all
/// at random moments, until `events` are accepted.
fn kill_all(
    site: Site,
    rounds: usize,
    points: &[Point],
    random: usize,
    events: usize,
    max_wait: Duration,
) -> Verdict {
    let mut workers = site.spawn_many(Role::Worker, 3);
    let mut producers = site.spawn_many(Role::Producer, 2);
    let start = Instant::now();
    let mut kills = 0;
    for _ in 0..rounds {
        for &point in points {
            let worker = &mut workers[fastrand::usize(..3)];
            if point == Point::InHandler {
                worker.die_in_handler();
            } else {
                worker.tap.arm(point);
            }
            assert!(
                worker.is_dead_within(GENEROUS),
                "no worker came to {point:?}"
            );
            site.replace(worker);
            kills += 1;
        }
        let producer = &mut producers[fastrand::usize(..2)];
        producer.tap.arm(Point::Emitted);
        assert!(producer.is_dead_within(GENEROUS), "no producer emitted");
        site.replace(producer);
        kills += 1;
    }
    for _ in 0..random {
        thread::sleep(Duration::from_millis(fastrand::u64(..200)));
        let at = fastrand::usize(..5);
        site.replace(workers.iter_mut().chain(&mut producers).nth(at).unwrap());
        kills += 1;
    }
    while site.lines("ok ").len() < events {
        assert!(start.elapsed() < 20 * GENEROUS, "too few events");
        thread::sleep(Duration::from_millis(50));
    }
    println!("{kills} kills in {:.1?}", start.elapsed());
    site.end(producers, workers, max_wait)
}

#[test]
fn an_accepted_event_survives_every_crash_of_producers_and_workers() {
    let Some(site) = Site::start(&["--appendonly", "yes"], LEASE, None) else {
        return;
    };
    seed();
    let (rounds, random, events) = if is_long() {
        (15, 80, 100_000)
    } else {
        (2, 10, 5_000)
    };
    let verdict = kill_all(site, rounds, &WORKER_POINTS, random, events, 4 * GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert!(
        verdict.explained > 0,
        "the crashes left something to repeat: {verdict}"
    );
}

#[test]
fn the_test_of_crashes_notices_an_event_that_is_finished_before_it_is_handled() {
    notices(Mutation::FinishBeforeHandling);
}

#[test]
fn the_test_of_crashes_notices_a_claim_that_takes_two_calls() {
    notices(Mutation::ClaimInTwoCalls);
}

/// Runs the test with broken scripts, in which it must find a lost event.
fn notices(mutation: Mutation) {
    let Some(site) = Site::start(&[], LEASE, Some(mutation)) else {
        return;
    };
    seed();
    let verdict = kill_all(site, 1, &[Point::Claimed], 0, 100, 4 * LEASE);
    let is_lost = |fault: &String| fault.contains("was never");
    assert!(
        verdict.faults.iter().any(is_lost),
        "{mutation:?} was not noticed: {verdict}"
    );
}

#[test]
fn the_account_balances_and_nothing_is_left_whatever_is_done_with_events_while_processes_die() {
    let Some(mut site) = Site::start(&[], LEASE, None) else {
        return;
    };
    seed();
    // Connections are lost, too.
    site.cut_after = 50;
    let mut mixers = site.spawn_many(Role::Mixer, 4);
    for _ in 0..if is_long() { 100 } else { 10 } {
        thread::sleep(Duration::from_millis(fastrand::u64(50..400)));
        let mixer = &mut mixers[fastrand::usize(..3)];
        site.replace(mixer);
    }
    // One is left to handle what the others leave.
    let last = mixers.pop().unwrap();
    mixers.into_iter().for_each(Member::end);
    last.end();
    let worker = site.spawn(Role::Worker);
    let dispatcher = site.dispatcher();
    wait_until_quiet(&dispatcher, GENEROUS);
    worker.end();
    dispatcher.purge(&JOBS).unwrap();
    let stats = dispatcher.stats().unwrap();
    println!("{stats}");
    assert!(stats.is_balanced(), "{stats}");
    let account = stats.total();
    assert_eq!(account.lost, 0, "{stats}");
    assert!(
        account.died.min(account.cancelled).min(account.replayed) > 0,
        "{stats}"
    );
    let kept = ["c", "l", "p", "t", "w"].map(|letter| format!("{{lv:jobs}}:{letter}"));
    let keys = site.keys();
    assert!(keys.iter().all(|key| kept.contains(key)), "{keys:?}");
}
