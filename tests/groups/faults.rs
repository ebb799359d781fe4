//! Faults of an earlier system, each a behaviour that is protected here.

use std::sync::mpsc::channel;
use std::thread;

use crossbeam_channel::{bounded, unbounded};
use liveness::server::Group;
use liveness::server::group::{CallError, Kind, Panicked, PostErrorKind};

use super::{LONG, block, stop};

#[test]
fn a_slow_call_leaves_nothing_behind() {
    let group = Group::builder("g").slow_capacity(16).spawn(0_u64).unwrap();
    let (send, sent) = channel();
    for n in 0..70_000_u64 {
        let send = send.clone();
        let mut pending = Some((
            move || n,
            move |sum: &mut u64, n: Result<u64, Panicked>| {
                *sum += n.unwrap();
                send.send(()).unwrap();
            },
        ));
        // More than 65,536 in all, at most 16 at once.
        while let Some((work, then)) = pending.take() {
            match group.slow(work, then) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), PostErrorKind::Full);
                    sent.recv().unwrap();
                    pending = Some(error.into_inner());
                }
            }
        }
    }
    let (sum, stats) = stop(&group);
    assert_eq!(sum, 70_000 * 69_999 / 2);
    assert_eq!((stats.slow_done, stats.attached), (70_000, 0));
    let left = (stats.slow_waiting, stats.slow_running, stats.slow_returned);
    assert_eq!(left, (0, 0, 0));
}

#[test]
fn a_stopped_group_has_no_threads_and_no_state_left() {
    struct State(std::sync::mpsc::Sender<String>);
    impl Drop for State {
        fn drop(&mut self) {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let _ = self.0.send(name);
        }
    }
    let (send, dropped) = channel();
    let group = Group::builder("g").spawn(State(send.clone())).unwrap();
    let (producer, receiver) = bounded::<()>(1);
    group.attach(receiver, |_, ()| ()).unwrap();
    let (done, is_done) = channel();
    group
        .slow(|| (), move |_, _| done.send(()).unwrap())
        .unwrap();
    is_done.recv().unwrap();
    let port = group.port(|_, (): ()| ());
    let timer = group.every(LONG, |_| ()).unwrap();
    drop(send);
    drop(group);
    // The state is dropped by the thread that owned it, and the channel of somebody else is let go.
    assert_eq!(dropped.recv().unwrap(), "g");
    assert!(dropped.recv().is_err());
    assert!(producer.send(()).is_err());
    assert_eq!(port.send(()).unwrap_err().kind(), PostErrorKind::Stopped);
    assert!(!timer.is_pending() && !timer.cancel());
}

#[test]
fn only_what_is_sent_to_a_chain_passes_its_processors() {
    let group = Group::builder("g").spawn(Vec::new()).unwrap();
    let chain = group.chain::<u32>();
    chain
        .append("log", |seen: &mut Vec<u32>, n| {
            seen.push(n);
            None
        })
        .unwrap();
    let event = group.event(|_, _: &str| ());
    event.emit("not a number").unwrap();
    group.post(|_| ()).unwrap();
    group.call(|_| ()).unwrap();
    group.slow(|| "text", |_, _| ()).unwrap();
    chain.port().send(7).unwrap();
    let (seen, stats) = stop(&group);
    assert_eq!((seen, stats.panics), (vec![7], 0));
}

#[test]
fn a_panic_of_any_closure_is_caught_and_the_group_goes_on() {
    let group = Group::builder("g").spawn(0).unwrap();
    group.post(|_| panic!("post")).unwrap();
    group.event(|_, ()| panic!("event")).emit(()).unwrap();
    let chain = group.chain::<()>();
    chain.append("panic", |_, ()| panic!("chain")).unwrap();
    chain.port().send(()).unwrap();
    let (send, receiver) = unbounded();
    let (handled, is_handled) = channel();
    group
        .attach(receiver, move |_, n: u32| {
            handled.send(()).unwrap();
            assert_ne!(n, 0, "attached");
        })
        .unwrap();
    send.send(0).unwrap();
    send.send(1).unwrap();
    is_handled.recv().unwrap();
    is_handled.recv().unwrap();
    assert_eq!(
        group.call(|_| panic!("call")),
        Err::<(), _>(CallError::Panicked)
    );
    group.call(|n| *n = 1).unwrap();
    let (state, stats) = stop(&group);
    assert_eq!(
        (state, stats.panics, stats.panicked, stats.items),
        (1, 5, 4, 2)
    );
}

#[test]
fn a_panic_of_a_slow_call_comes_back_as_its_result() {
    let group = Group::builder("g")
        .slow_threads(1)
        .spawn(Vec::new())
        .unwrap();
    let then = |seen: &mut Vec<_>, result: Result<u32, Panicked>| seen.push(result);
    group.slow(|| panic!("no route"), then).unwrap();
    group.slow(|| 7, then).unwrap();
    group
        .slow(|| 8, |_, _: Result<u32, _>| panic!("callback"))
        .unwrap();
    let (seen, stats) = stop(&group);
    assert_eq!(seen[0].as_ref().unwrap_err().text, "no route");
    assert_eq!(seen[1], Ok(7));
    assert_eq!(
        (stats.slow_done, stats.slow_panicked, stats.panics),
        (3, 1, 1)
    );
}

#[test]
fn no_call_from_the_groups_own_thread_deadlocks() {
    let group = Group::builder("g").capacity(2).spawn(0).unwrap();
    let inside = group.clone();
    let (send, receiver) = unbounded();
    group
        .call(move |n| {
            assert!(inside.is_current());
            assert_eq!(inside.call(|_| ()), Err(CallError::WouldDeadlock));
            assert_eq!(
                inside.call_timeout(|_| (), LONG),
                Err(CallError::WouldDeadlock)
            );
            inside.attach(receiver, |n, m: i32| *n += m).unwrap();
            let event = inside.event(|n: &mut i32, m| *n += m);
            event.emit(1).unwrap();
            inside.post_wait(|n| *n += 2).unwrap();
            assert_eq!(event.emit(3).unwrap_err().kind(), PostErrorKind::Full);
            let full = inside.post_wait(|_| ()).unwrap_err().kind();
            assert_eq!(full, PostErrorKind::WouldDeadlock);
            let full = inside.port(|_, ()| ()).send(()).unwrap_err().kind();
            assert_eq!(full, PostErrorKind::WouldDeadlock);
            inside.slow(|| 4, |n, four| *n += four.unwrap()).unwrap();
            inside.every(LONG, |_| ()).unwrap().cancel();
            assert_eq!(inside.busy().unwrap().kind, Kind::Call);
            assert!(inside.stats().is_balanced());
            *n += 8;
        })
        .unwrap();
    send.send(16).unwrap();
    drop(send);
    let (sum, stats) = stop(&group);
    assert_eq!((sum, stats.items), (31, 1));
}

#[test]
fn groups_that_call_each_other_in_a_circle_get_an_error() {
    let groups = ["a", "b", "c"].map(|name| Group::builder(name).capacity(1).spawn(()).unwrap());
    let [a, b, c] = groups.clone();
    let result = groups[0].call(move |()| {
        b.call(move |()| {
            c.call(move |()| {
                let full = a.post(|()| ()).is_ok();
                let waits = a.post_wait(|()| ()).unwrap_err().kind();
                (full, waits, a.call(|()| ()))
            })
        })
    });
    let innermost = result.unwrap().unwrap().unwrap();
    let expected = (
        true,
        PostErrorKind::WouldDeadlock,
        Err(CallError::WouldDeadlock),
    );
    assert_eq!(innermost, expected);
    // Nothing of the waits is left.
    let [a, b, _] = groups.clone();
    assert_eq!(b.call(move |()| a.call(|()| 7)), Ok(Ok(7)));
    for group in &groups {
        stop(group);
    }
}

#[test]
fn detaching_loses_no_item() {
    let group = Group::builder("g").spawn(0).unwrap();
    let (send, receiver) = unbounded();
    let keep = receiver.clone();
    let attachment = group.attach(receiver, |n, m: u64| *n += m).unwrap();
    let sending = thread::spawn(move || (0..10_000).for_each(|n| send.send(n).unwrap()));
    attachment.detach();
    sending.join().unwrap();
    // One item may be in hand when `detach` returns. The thread then lets the receiver go.
    while group.stats().attached > 0 {
        thread::yield_now();
    }
    let rest: u64 = keep.try_iter().sum();
    let (handled, _) = stop(&group);
    assert_eq!(handled + rest, 9_999 * 10_000 / 2);
}

#[test]
fn a_full_group_returns_what_it_refuses() {
    let group = Group::builder("g")
        .capacity(2)
        .max_timers(1)
        .spawn(String::new())
        .unwrap();
    let release = block(&group);
    group.post(|_| ()).unwrap();
    group.post(|_| ()).unwrap();
    let text = "kept".to_owned();
    let error = group.post(move |state| *state = text).unwrap_err();
    assert_eq!(error.kind(), PostErrorKind::Full);
    group.after(LONG, |_| ()).unwrap();
    assert_eq!(
        group.after(LONG, |_| ()).unwrap_err().kind(),
        PostErrorKind::Full
    );
    let receivers: Vec<_> = (0..33).map(|_| unbounded::<()>()).collect();
    for (_, receiver) in &receivers[..32] {
        group.attach(receiver.clone(), |_, ()| ()).unwrap();
    }
    let refused = group.attach(receivers[32].1.clone(), |_, ()| ());
    assert_eq!(refused.unwrap_err().kind(), PostErrorKind::Full);
    drop(release);
    group.post_wait(error.into_inner()).unwrap();
    let (state, stats) = stop(&group);
    assert_eq!(
        (state.as_str(), stats.refused, stats.timers_discarded),
        ("kept", 3, 1)
    );
}
