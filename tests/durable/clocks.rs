//! Time is that of the server, whatever the clocks of the processes show; and a process that has nothing to do hardly
//! calls.

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use liveness::dispatch::On;
use liveness::redis::Dispatcher;

use crate::crew::{GENEROUS, JOBS, Role, Site};
use crate::tap::Tap;

/// Whether the program that shows a process another time is installed.
fn has_faketime() -> bool {
    let mut version = Command::new("faketime");
    version.arg("--version").stdout(Stdio::null());
    let is_there = version.status().is_ok_and(|status| status.success());
    if !is_there {
        eprintln!(
            "SKIPPED: no `faketime` found; install it, for example by `apt-get install faketime`"
        );
    }
    is_there
}

#[test]
fn events_are_due_by_the_clock_of_the_server_whatever_that_of_the_process_shows() {
    if !has_faketime() {
        return;
    }
    for offset in ["+1h", "-1h"] {
        let Some(site) = Site::start(&[], Duration::from_secs(5), None) else {
            return;
        };
        // The clock of waits goes on as it is.
        let by = [
            "env",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
        ];
        let fake = ["faketime", "-f", offset];
        let mut member = site.spawn_by(&[&by[..], &fake[..]].concat(), Role::Clock);
        assert!(member.is_dead_within(GENEROUS), "it does not end");
        assert!(member.child.wait().unwrap().success(), "{offset}");
        let verdict = site.judge();
        println!("{offset}: {verdict}");
        assert!(verdict.faults.is_empty(), "{verdict}");
        // A few milliseconds, on a machine without other work.
        let late = verdict.late(50);
        assert!(
            late < Duration::from_millis(500),
            "{late:?} late at {offset}"
        );
    }
}

#[test]
fn a_process_with_one_topic_and_nothing_to_do_makes_at_most_one_call_in_two_seconds() {
    let Some(site) = Site::start(&[], Duration::from_secs(30), None) else {
        return;
    };
    let socket = env::temp_dir().join(format!("lvi{}", std::process::id()));
    let tap = Tap::new(&site.server.socket(), socket, &site.ledger, None);
    let dispatcher = Dispatcher::builder(&tap.url()).build().unwrap();
    dispatcher
        .on(&JOBS, "work", On::new(), |_, _| Ok(()))
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    let (start, before) = (Instant::now(), tap.calls());
    thread::sleep(Duration::from_millis(10_500));
    let (elapsed, calls) = (start.elapsed(), tap.calls() - before);
    println!("{calls} calls in {elapsed:.1?}");
    assert!(
        calls as u64 * 2 <= elapsed.as_secs() + 1,
        "{calls} calls in {elapsed:?}"
    );
}
