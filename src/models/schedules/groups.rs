//! Groups: a wake-up that is lost, a job that is lost or runs twice, and a caller that waits for ever.
//!
//! Nothing but the step that a model is about wakes the group's thread. What is not woken is a deadlock, which the
//! explorer reports.

use std::time::Duration;

use shuttle::thread;

use super::explore;
use crate::ManualClock;
use crate::server::Group;
use crate::server::group::{CallError, GroupStats, PostErrorKind};

const SECOND: Duration = Duration::from_secs(1);

/// A group with room for one job and with one thread for slow calls.
fn group(clock: &ManualClock) -> Group<u64> {
    let builder = Group::builder("g").capacity(1).slow_threads(1);
    builder.clock(clock.clone()).spawn(0).unwrap()
}

/// Stops `group` when everything has run, and returns the state and the account.
fn stop(group: &Group<u64>) -> (u64, GroupStats) {
    let report = group.stop(Duration::MAX);
    assert!(report.is_clean(), "{report:?}");
    let stats = group.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.waiting, stats.running, stats.panics), (0, 0, 0));
    (report.state.expect("the thread has ended"), stats)
}

#[test]
fn an_idle_group_is_woken_by_a_post_and_by_the_clock() {
    explore("an_idle_group_is_woken_by_a_post_and_by_the_clock", || {
        let clock = ManualClock::new();
        let group = group(&clock);
        let timing = thread::spawn({
            let (group, clock) = (group.clone(), clock.clone());
            move || {
                let timer = group.after(SECOND, |n| *n += 1).unwrap();
                clock.advance(SECOND);
                while timer.is_pending() {
                    thread::yield_now();
                }
            }
        });
        let posting = [10, 100].map(|by| {
            let group = group.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    group.post_wait(move |n| *n += by).unwrap();
                }
            })
        });
        timing.join().unwrap();
        for posting in posting {
            posting.join().unwrap();
        }
        group.call(|n| assert_eq!(*n, 221)).unwrap();
        assert_eq!(stop(&group).0, 221);
    });
}

#[test]
fn a_stop_runs_each_post_that_was_accepted() {
    explore("a_stop_runs_each_post_that_was_accepted", || {
        let group = group(&ManualClock::new());
        let posting = [true, false].map(|waits| {
            let group = group.clone();
            thread::spawn(move || {
                let mut accepted = 0;
                for _ in 0..3 {
                    let posted = if waits {
                        group.post_wait(|n| *n += 1).map_err(|error| error.kind())
                    } else {
                        group.post(|n| *n += 1).map_err(|error| error.kind())
                    };
                    match posted {
                        Ok(()) => accepted += 1,
                        Err(PostErrorKind::Full) if !waits => {}
                        Err(kind) => assert_eq!(kind, PostErrorKind::Stopped),
                    }
                }
                accepted
            })
        });
        let (count, stats) = stop(&group);
        let accepted: u64 = posting.map(|posting| posting.join().unwrap()).iter().sum();
        assert_eq!((count, stats.accepted), (accepted, accepted));
    });
}

#[test]
fn a_call_that_meets_a_stop_returns() {
    explore("a_call_that_meets_a_stop_returns", || {
        let group = group(&ManualClock::new());
        let calling = [1, 2].map(|_| {
            let group = group.clone();
            thread::spawn(move || match group.call(|n| *n += 1) {
                Ok(()) => 1,
                Err(error) => {
                    assert_eq!(error, CallError::Stopped);
                    0
                }
            })
        });
        // Whether anything is discarded depends on when the deadline comes.
        let first = group.stop(SECOND);
        let returned: u64 = calling.map(|calling| calling.join().unwrap()).iter().sum();
        let last = group.stop(Duration::MAX);
        assert!(last.still_running.is_empty());
        assert_eq!(first.state.or(last.state), Some(returned));
        let stats = group.stats();
        assert!(stats.is_balanced(), "{stats:?}");
    });
}

#[test]
fn a_call_that_is_withdrawn_does_not_run() {
    explore("a_call_that_is_withdrawn_does_not_run", || {
        let group = group(&ManualClock::new());
        let mut ran = 0;
        let mut may_have_run = 0;
        for _ in 0..2 {
            match group.call_timeout(|n| *n += 1, SECOND) {
                Ok(()) => ran += 1,
                Err(CallError::Unfinished) => may_have_run += 1,
                Err(error) => assert_eq!(error, CallError::NotStarted),
            }
        }
        let (count, stats) = stop(&group);
        // Unfinished calls have started, so they have run by now.
        assert_eq!(count, ran + may_have_run);
        assert_eq!(stats.done, count);
    });
}

#[test]
fn a_slow_result_that_meets_a_stop_comes_back_once() {
    explore("a_slow_result_that_meets_a_stop_comes_back_once", || {
        let group = group(&ManualClock::new());
        let calling = thread::spawn({
            let group = group.clone();
            move || {
                let calls = [1, 2].map(|by| group.slow(move || by, |n, by| *n += by.unwrap()));
                calls.iter().filter(|call| call.is_ok()).count() as u64
            }
        });
        let (sum, stats) = stop(&group);
        let accepted = calling.join().unwrap();
        assert_eq!(stats.slow_done, accepted);
        assert_eq!(sum, [0, 1, 3][accepted as usize]);
    });
}

#[test]
fn a_slow_call_that_is_cut_is_accounted_for() {
    explore("a_slow_call_that_is_cut_is_accounted_for", || {
        let group = group(&ManualClock::new());
        for _ in 0..2 {
            group.slow(|| (), |n, _| *n += 1).unwrap();
        }
        let first = group.stop(Duration::ZERO);
        let last = group.stop(Duration::MAX);
        assert!(last.still_running.is_empty());
        let stats = group.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(first.state.or(last.state), Some(stats.slow_done));
        assert_eq!(stats.slow_done + stats.slow_discarded, 2);
    });
}

#[test]
fn groups_that_call_each_other_do_not_wait_for_ever() {
    explore("groups_that_call_each_other_do_not_wait_for_ever", || {
        let groups = [(); 2].map(|()| group(&ManualClock::new()));
        for (at, group) in groups.iter().enumerate() {
            let other = groups[1 - at].clone();
            group
                .post_wait(move |n| {
                    *n += match other.call(|_| ()) {
                        Ok(()) => 1,
                        Err(error) => {
                            assert_eq!(error, CallError::WouldDeadlock);
                            0
                        }
                    }
                })
                .unwrap();
        }
        // Both closures have run before either group stops.
        let counts = groups.each_ref().map(|group| group.call(|n| *n).unwrap());
        let succeeded: u64 = counts.iter().sum();
        for group in &groups {
            stop(group);
        }
        assert!(succeeded >= 1, "at most one of a circle is refused");
    });
}
