//! The end of a dispatcher: bounded, whatever the server does, and without a trace.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use liveness::dispatch::On;
use liveness::redis::Dispatcher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crew::{GENEROUS, JOBS, Role, Site};

/// Long enough that no lease ends.
const LEASE: Duration = Duration::from_secs(30);

/// How long a stop takes after the server was taken away, while a handler runs for 100 ms, or none runs.
fn stop_after(is_running: bool, outage: impl FnOnce(&mut Site)) {
    let Some(mut site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let dispatcher = Dispatcher::builder(&site.server.url()).build().unwrap();
    let (begin, begun) = mpsc::channel();
    dispatcher
        .on(&JOBS, "work", On::new(), move |_, _| {
            begin.send(())?;
            thread::sleep(Duration::from_millis(100));
            Ok(())
        })
        .unwrap();
    if is_running {
        dispatcher.emit(&JOBS, (0, 0)).unwrap();
        begun.recv().unwrap();
    } else {
        // The listener blocks on the server by then.
        thread::sleep(Duration::from_millis(300));
    }
    outage(&mut site);
    let start = Instant::now();
    let _ = dispatcher.stop(Duration::from_secs(1));
    let elapsed = start.elapsed();
    println!("stopped within {elapsed:?}");
    // The handler ends, and the last calls are given up after two seconds.
    assert!(elapsed < Duration::from_millis(3_500), "{elapsed:?}");
    let server = Pid::from_raw(site.server.pid().cast_signed());
    let _ = kill(server, Signal::SIGCONT);
}

#[test]
fn a_stop_is_bounded_while_the_server_does_not_answer() {
    for is_running in [false, true] {
        stop_after(is_running, |site| {
            let server = Pid::from_raw(site.server.pid().cast_signed());
            kill(server, Signal::SIGSTOP).unwrap();
        });
    }
}

#[test]
fn a_stop_is_bounded_while_the_server_is_gone() {
    for is_running in [false, true] {
        stop_after(is_running, |site| site.server.kill());
    }
}

#[test]
fn a_dispatcher_that_stopped_leaves_no_key_of_its_own() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let producer = site.dispatcher();
    for _ in 0..100 {
        let builder = Dispatcher::builder(&site.server.url());
        let dispatcher = builder.threads(1).build().unwrap();
        dispatcher
            .on(&JOBS, "work", On::new(), |_, _| Ok(()))
            .unwrap();
        // So the listener is woken by an event and by the stop in any order.
        thread::sleep(Duration::from_micros(fastrand::u64(..3_000)));
        producer.emit(&JOBS, (0, 0)).unwrap();
        if fastrand::bool() {
            thread::sleep(Duration::from_micros(fastrand::u64(..500)));
        }
        let _ = dispatcher.stop(Duration::from_secs(1));
    }
    let keys = site.keys();
    assert!(!keys.iter().any(|key| key.contains("bye")), "{keys:?}");
}

#[test]
fn workers_that_stop_and_start_under_load_repeat_and_lose_nothing() {
    let Some(site) = Site::start(&[], Duration::from_millis(750), None) else {
        return;
    };
    let mut workers = site.spawn_many(Role::Worker, 3);
    let producers = site.spawn_many(Role::Producer, 2);
    site.wait_for("end", 100);
    for round in 0..6 {
        thread::sleep(Duration::from_millis(fastrand::u64(..200)));
        let worker = std::mem::replace(&mut workers[round % 3], site.spawn(Role::Worker));
        worker.end();
    }
    let account = site.dispatcher();
    let _ = account.counts(&JOBS).unwrap();
    let lapsed = account.stats().unwrap().total().lapsed;
    assert_eq!(lapsed, 0, "what waited for a worker was given back");
    drop(account);
    let verdict = site.end(producers, workers, GENEROUS);
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert_eq!(verdict.explained, 0, "nothing ran twice: {verdict}");
}
