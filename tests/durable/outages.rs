//! Redis is out of reach: for longer than the lease, killed and started again, its scripts dropped, its connections
//! closed. Each accepted event is handled, and none twice: no process was away.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use liveness::dispatch::{Cancelled, On};
use liveness::redis::Dispatcher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crew::{GENEROUS, JOBS, Member, Role, Site};
use crate::killing::{is_long, seed};

const LEASE: Duration = Duration::from_secs(1);

/// The lease where outages are short. An outage of less than half a lease grants no grace, and a
/// renewal may be a third of a lease old then, so the rest is for the new connection.
const LONG_LEASE: Duration = Duration::from_secs(3);

/// Writes that were answered survive the end of the server.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Runs a handler for four leases, while `outage` takes the server away for more than two.
fn run_through(response_timeout: Duration, outage: impl FnOnce(&mut Site)) {
    let Some(mut site) = Site::start(&DURABLE, LEASE, None) else {
        return;
    };
    site.response_timeout = response_timeout;
    let workers = site.spawn_many(Role::Worker, 2);
    let dispatcher = site.dispatcher();
    let id = dispatcher
        .emit(&JOBS, (4 * LEASE.as_millis() as u64, 0))
        .unwrap();
    site.ledger.accepted(id.get());
    site.wait_for("begin", 1);
    outage(&mut site);
    site.wait_for("end", 1);
    // A lease that lapsed would let the other worker begin by now.
    thread::sleep(2 * LEASE);
    let account = dispatcher.stats().unwrap().total();
    assert_eq!((account.lapsed, account.stale), (0, 0), "{account}");
    drop(dispatcher);
    let verdict = site.end(vec![], workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert_eq!(verdict.attempts, 1, "the handler ran once: {verdict}");
}

/// Stops the server for two and a half leases.
fn stop_the_server(site: &mut Site) {
    let server = Pid::from_raw(site.server.pid().cast_signed());
    kill(server, Signal::SIGSTOP).unwrap();
    thread::sleep(LEASE * 5 / 2);
    kill(server, Signal::SIGCONT).unwrap();
}

#[test]
fn a_handler_runs_once_through_a_stop_of_the_server_of_more_than_two_leases() {
    run_through(Duration::from_secs(2), stop_the_server);
}

#[test]
fn a_handler_runs_once_through_a_stop_of_the_server_in_which_calls_time_out() {
    run_through(Duration::from_millis(300), stop_the_server);
}

#[test]
fn a_handler_runs_once_through_a_restart_of_the_server_after_more_than_two_leases() {
    run_through(Duration::from_secs(2), |site| {
        site.server.kill();
        thread::sleep(LEASE * 5 / 2);
        site.server.restart().unwrap();
    });
}

/// The threads of `members`, which are all there when all handlers have run.
fn threads(members: &[Member]) -> Vec<Vec<String>> {
    members.iter().map(Member::threads).collect()
}

#[test]
fn accepted_events_survive_crashes_of_the_server_and_no_thread_ends() {
    let Some(mut site) = Site::start(&DURABLE, LONG_LEASE, None) else {
        return;
    };
    seed();
    let workers = site.spawn_many(Role::Worker, 3);
    let producers = site.spawn_many(Role::Producer, 2);
    site.wait_for("end", 100);
    let before = (threads(&workers), threads(&producers));
    let crashes = if is_long() { 20 } else { 3 };
    for _ in 0..crashes {
        let until = Instant::now() + Duration::from_millis(fastrand::u64(500..1_500));
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(fastrand::u64(20..200)));
            site.server.command(&["SCRIPT", "FLUSH"]).unwrap();
            if fastrand::bool() {
                site.server
                    .command(&["CLIENT", "KILL", "TYPE", "normal"])
                    .unwrap();
            }
        }
        site.server.kill();
        thread::sleep(Duration::from_millis(fastrand::u64(..700)));
        site.server.restart().unwrap();
    }
    let handled = site.lines("end").len();
    site.wait_for("end", handled + 100);
    assert_eq!(
        (threads(&workers), threads(&producers)),
        before,
        "no thread has ended"
    );
    let verdict = site.end(producers, workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert_eq!(verdict.unknown, 0, "each emit was answered: {verdict}");
}

#[test]
fn lost_calls_and_lost_replies_neither_repeat_nor_lose_an_event() {
    let Some(mut site) = Site::start(&[], LEASE, None) else {
        return;
    };
    seed();
    site.cut_after = 10;
    let workers = site.spawn_many(Role::Worker, 3);
    let producers = site.spawn_many(Role::Producer, 2);
    thread::sleep(Duration::from_secs(if is_long() { 30 } else { 3 }));
    let cut: usize = workers
        .iter()
        .chain(&producers)
        .map(|member| member.tap.cut())
        .sum();
    println!("{cut} connections were cut");
    let verdict = site.end(producers, workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert_eq!(verdict.unknown, 0, "each emit was answered: {verdict}");
    assert!(cut > 20, "too few connections were cut");
}

#[test]
fn the_event_of_a_killed_worker_begins_elsewhere_when_its_lease_ends() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let mut killed = site.spawn(Role::Worker);
    let dispatcher = site.dispatcher();
    let id = dispatcher.emit(&JOBS, (100, 0)).unwrap();
    site.ledger.accepted(id.get());
    let first = site.wait_for("begin", 1);
    site.replace(&mut killed);
    let second = site.wait_for("begin", 2);
    // A fence is the time of the claim.
    let lease_end = Duration::from_micros(first[1]) + LEASE;
    let begun = Duration::from_nanos(second[3]);
    let late = begun.saturating_sub(lease_end);
    println!("begun {late:?} after the end of the lease");
    assert!(begun >= lease_end, "the lease is over");
    assert!(
        late < Duration::from_millis(50) + Duration::from_millis(450),
        "{late:?}"
    );
    drop(dispatcher);
    let verdict = site.end(vec![], vec![killed], GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
}

#[test]
fn scripts_that_are_dropped_all_the_time_are_loaded_again() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let workers = site.spawn_many(Role::Worker, 2);
    let producers = site.spawn_many(Role::Producer, 2);
    site.wait_for("end", 1);
    let end = Instant::now() + Duration::from_secs(2);
    let mut flushes = 0;
    while Instant::now() < end {
        site.server.command(&["SCRIPT", "FLUSH"]).unwrap();
        flushes += 1;
    }
    println!("{flushes} flushes");
    let verdict = site.end(producers, workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert!(verdict.accepted > 20, "{verdict}");
}

#[test]
fn news_come_at_once_after_the_connections_were_closed_or_the_server_was_restarted() {
    let lease = Duration::from_secs(30);
    let Some(mut site) = Site::start(&DURABLE, lease, None) else {
        return;
    };
    let producer = site.dispatcher();
    let dispatcher = Dispatcher::builder(&site.server.url()).build().unwrap();
    let (begin, begun) = mpsc::channel();
    dispatcher
        .on(&JOBS, "work", On::new(), move |_, _| Ok(begin.send(())?))
        .unwrap();
    for round in 0..3 {
        if round == 1 {
            let words = ["CLIENT", "KILL", "TYPE", "normal"];
            site.server.command(&words).unwrap();
        } else if round == 2 {
            site.server.kill();
            thread::sleep(Duration::from_millis(500));
            site.server.restart().unwrap();
        }
        // The wait before a new attempt to connect is at most a second.
        thread::sleep(Duration::from_millis(1_500));
        let start = Instant::now();
        producer.emit(&JOBS, (0, 0)).unwrap();
        begun.recv_timeout(GENEROUS).unwrap();
        let elapsed = start.elapsed();
        println!("round {round}: begun after {elapsed:?}");
        // Without the listener, the keeper would look after five seconds.
        assert!(
            elapsed < Duration::from_secs(1),
            "round {round}: {elapsed:?}"
        );
    }
}

#[test]
fn a_call_is_made_after_the_server_has_closed_the_idle_connection() {
    let Some(site) = Site::start(&["--timeout", "1"], LEASE, None) else {
        return;
    };
    let dispatcher = site.dispatcher();
    let id = dispatcher.emit(&JOBS, (0, 0)).unwrap();
    let start = Instant::now();
    while site.clients() > 1 {
        assert!(
            start.elapsed() < GENEROUS,
            "the server closes no connection"
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(dispatcher.cancel(&JOBS, id).unwrap(), Cancelled::Waiting);
}
