//! What a stop leaves.

use std::num::NonZeroU32;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use liveness::server::Group;
use liveness::server::group::{CallError, ChainError, OnPanic, PostErrorKind};
use liveness::{EventKind, ManualClock, Watcher};

use super::{LONG, block, stop};

#[test]
fn what_was_accepted_runs_and_nothing_is_accepted_after_it() {
    let group = Group::builder("g").spawn(0).unwrap();
    let release = block(&group);
    group.post(|n| *n += 1).unwrap();
    group.slow(|| 2, |n, two| *n += two.unwrap()).unwrap();
    let (send, receiver) = unbounded();
    group.attach(receiver.clone(), |n, m| *n += m).unwrap();
    send.send(4).unwrap();
    let timer = group.after(LONG, |n| *n += 8).unwrap();
    let stopping = thread::spawn({
        let group = group.clone();
        move || group.stop(LONG)
    });
    while !group.is_stopped() {
        thread::yield_now();
    }
    assert!(!timer.is_pending());
    let stopped = PostErrorKind::Stopped;
    assert_eq!(group.post(|_| ()).unwrap_err().kind(), stopped);
    assert_eq!(group.post_wait(|_| ()).unwrap_err().kind(), stopped);
    assert_eq!(group.call(|_| ()), Err(CallError::Stopped));
    assert_eq!(group.slow(|| (), |_, _| ()).unwrap_err().kind(), stopped);
    assert_eq!(group.after(LONG, |_| ()).unwrap_err().kind(), stopped);
    assert_eq!(group.every(LONG, |_| ()).unwrap_err().kind(), stopped);
    assert_eq!(
        group.attach(receiver, |_, _| ()).unwrap_err().kind(),
        stopped
    );
    assert_eq!(
        group.event(|_, ()| ()).emit(()).unwrap_err().kind(),
        stopped
    );
    let refused = group.chain::<()>().append("a", |_, ()| None);
    assert_eq!(refused, Err(ChainError::Refused(stopped)));
    drop(release);
    let report = stopping.join().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.state, Some(7));
    // Sticky: a second stop has nothing to do and nothing to give.
    let again = group.stop(LONG);
    assert!(again.is_clean() && again.state.is_none());
    let stats = group.stats();
    assert!(stats.is_balanced(), "{stats}");
    assert_eq!(
        (stats.refused, stats.timers_discarded, stats.attached),
        (9, 1, 0)
    );
}

#[test]
fn a_stop_is_bounded_and_reports_the_threads_that_do_not_return() {
    let group = Group::builder("g").slow_threads(1).spawn(7).unwrap();
    let release = block(&group);
    let (free, freed) = channel::<()>();
    let (begin, began) = channel();
    let work = move || {
        begin.send(()).unwrap();
        let _ = freed.recv();
    };
    group.slow(work, |_, _| ()).unwrap();
    group.slow(|| (), |_, _| ()).unwrap();
    began.recv().unwrap();
    group.post(|_| ()).unwrap();
    let calling = thread::spawn({
        let group = group.clone();
        move || group.call(|_| ())
    });
    while group.stats().waiting < 2 {
        thread::yield_now();
    }
    let before = Instant::now();
    let report = group.stop(Duration::from_millis(20));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(20) && took < LONG, "{took:?}");
    assert_eq!(report.still_running, ["g", "g-slow-0"]);
    assert_eq!((report.discarded, report.state), (3, None));
    assert_eq!(calling.join().unwrap(), Err(CallError::Stopped));
    drop((release, free));
    let (state, stats) = stop(&group);
    assert_eq!(state, 7);
    assert_eq!(
        (stats.discarded, stats.slow_discarded, stats.done),
        (2, 2, 1)
    );
}

#[test]
fn a_call_that_did_not_start_in_time_never_runs() {
    let group = Group::builder("g").spawn(0).unwrap();
    let release = block(&group);
    let late = group.call_timeout(|n| *n = 1, Duration::from_millis(5));
    assert_eq!(late, Err(CallError::NotStarted));
    drop(release);
    let (begin, began) = channel();
    let (free, freed) = channel::<()>();
    let freeing = thread::spawn(move || {
        began.recv().unwrap();
        free
    });
    let unfinished = group.call_timeout(
        move |n| {
            begin.send(()).unwrap();
            let _ = freed.recv();
            *n += 2;
        },
        Duration::from_millis(500),
    );
    assert_eq!(unfinished, Err(CallError::Unfinished));
    drop(freeing.join().unwrap());
    let (n, stats) = stop(&group);
    assert_eq!((n, stats.withdrawn, stats.done), (2, 1, 2));
}

#[test]
fn a_group_stops_itself_and_is_stopped_by_its_slow_calls_without_a_deadlock() {
    let group = Group::builder("g").spawn(1).unwrap();
    let inside = group.clone();
    let (tell, told) = channel();
    group
        .post(move |n| {
            let report = inside.stop(Duration::MAX);
            *n += 1;
            tell.send((report.state, report.still_running)).unwrap();
        })
        .unwrap();
    assert_eq!(told.recv().unwrap(), (None, vec!["g".to_owned()]));
    assert_eq!(stop(&group).0, 2);

    let group = Group::builder("g").spawn(1).unwrap();
    let inside = group.clone();
    group
        .slow(
            move || inside.stop(Duration::MAX).state,
            |n, state| {
                assert_eq!(state.unwrap(), None);
                *n += 1;
            },
        )
        .unwrap();
    while !group.is_stopped() {
        thread::yield_now();
    }
    assert_eq!(stop(&group).0, 2);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_closure_of_the_group() {
    let (tell, told) = channel();
    let group = Group::builder("g").spawn(tell).unwrap();
    let last = group.clone();
    let release = block(&group);
    group.post(move |_| drop(last)).unwrap();
    group.post(|tell| tell.send(7).unwrap()).unwrap();
    drop(group);
    drop(release);
    assert_eq!(told.recv(), Ok(7));
    assert!(told.recv().is_err(), "the thread drops the state");
}

#[test]
fn a_group_stops_at_the_panic_that_its_options_name() {
    let three = NonZeroU32::new(3).unwrap();
    let group = Group::builder("g")
        .on_panic(OnPanic::StopAfter(three))
        .spawn(0)
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            group.call(|_| panic!("fault")),
            Err::<(), _>(CallError::Panicked)
        );
        group.call(|n| *n += 1).unwrap();
    }
    let release = block(&group);
    group.post(|_| panic!("fault")).unwrap();
    group.post(|n| *n += 1).unwrap();
    drop(release);
    while !group.is_stopped() {
        thread::yield_now();
    }
    let (n, stats) = stop(&group);
    assert_eq!((n, stats.panics, stats.discarded), (2, 3, 1));
}

#[test]
fn a_watcher_reports_a_group_that_is_blocked_and_not_one_that_is_idle() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<&str>::builder()
        .timeout(Duration::from_secs(10))
        .events([EventKind::Expired])
        .clock(clock.clone())
        .build_with_channel(16)
        .unwrap();
    let groups = ["idle", "blocked"].map(|name| {
        let group = Group::builder(name).clock(clock.clone()).spawn(()).unwrap();
        let heart = watcher.watch(name).unwrap();
        group
            .every(Duration::from_secs(5), move |()| {
                let _ = heart.beat();
            })
            .unwrap();
        group
    });
    let release = block(&groups[1]);
    for _ in 0..2 {
        clock.advance(Duration::from_secs(5));
        groups[0].call(|()| ()).unwrap();
        watcher.flush().unwrap();
    }
    assert_eq!(events.try_recv().unwrap().key(), Some(&"blocked"));
    assert!(events.is_empty());
    assert_eq!(groups[1].busy().unwrap().duration, Duration::from_secs(10));
    drop(release);
    for group in &groups {
        stop(group);
    }
}

#[test]
fn a_value_that_panics_when_it_is_dropped_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(thread::panicking(), "dropped");
        }
    }
    let group = Group::builder("g").spawn(0).unwrap();
    let release = block(&group);
    for _ in 0..3 {
        let bomb = Bomb;
        group.post(move |_| drop(bomb)).unwrap();
        let bomb = Bomb;
        let timer = group.after(LONG, move |_| drop(bomb)).unwrap();
        assert!(timer.cancel());
        let bomb = Bomb;
        group.after(LONG, move |_| drop(bomb)).unwrap();
    }
    drop(release);
    group.call(|n| *n += 1).unwrap();
    let release = block(&group);
    let bomb = Bomb;
    group.post(move |_| drop(bomb)).unwrap();
    let report = group.stop(Duration::ZERO);
    assert_eq!(report.discarded, 1);
    drop(release);
    let (n, stats) = stop(&group);
    assert_eq!((n, stats.panics, stats.timers_discarded), (1, 3, 3));
}
