//! What runs before what.

use std::ops::Range;
use std::sync::mpsc::channel;
use std::time::Duration;

use crossbeam_channel::unbounded;
use liveness::ManualClock;
use liveness::server::Group;

use super::{LONG, block, stop};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_sender_is_served_in_order_whichever_ways_it_uses() {
    let group = Group::builder("g").spawn(Vec::new()).unwrap();
    let event = group.event(|seen: &mut Vec<u32>, n| seen.push(n));
    let port = group.port(|seen: &mut Vec<u32>, n| seen.push(n));
    let chain = group.chain::<u32>();
    let pass = |seen: &mut Vec<u32>, n| {
        seen.push(n);
        None
    };
    chain.append("push", pass).unwrap();
    let through = chain.port();
    for n in (0..200).step_by(5) {
        group.post(move |seen| seen.push(n)).unwrap();
        event.emit(n + 1).unwrap();
        port.send(n + 2).unwrap();
        through.send(n + 3).unwrap();
        group.call(move |seen| seen.push(n + 4)).unwrap();
    }
    assert_eq!(stop(&group).0, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_timer_that_is_due_when_a_job_is_accepted_runs_before_it() {
    let clock = ManualClock::new();
    let group = Group::builder("g")
        .clock(clock.clone())
        .spawn(Vec::new())
        .unwrap();
    for round in 0..500_u32 {
        group
            .after(SECOND, move |seen| seen.push((round, 1)))
            .unwrap();
        group
            .after(SECOND, move |seen| seen.push((round, 2)))
            .unwrap();
        clock.advance(SECOND - Duration::from_nanos(1));
        group.post(move |seen| seen.push((round, 0))).unwrap();
        clock.advance(Duration::from_nanos(1));
        group.post(move |seen| seen.push((round, 3))).unwrap();
        group.call(|_| ()).unwrap();
    }
    let (mut seen, stats) = stop(&group);
    // The first job of a round may find the timers due; nothing else changes places.
    seen.retain(|(_, step)| *step > 0);
    let expected = (0..500).flat_map(|round| [1, 2, 3].map(|step| (round, step)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(
        (stats.timers_ended, stats.lateness.max()),
        (1_000, Duration::ZERO)
    );
}

#[test]
fn at_most_64_of_a_kind_run_while_another_waits() {
    let clock = ManualClock::new();
    let group = Group::builder("g")
        .clock(clock.clone())
        .spawn(String::new())
        .unwrap();
    let release = block(&group);
    let receivers = ["a", "b"].map(|letter| {
        let (send, receiver) = unbounded();
        (0..100).for_each(|_| send.send(letter).unwrap());
        receiver
    });
    for receiver in receivers {
        group
            .attach(receiver, |seen: &mut String, letter| seen.push_str(letter))
            .unwrap();
    }
    for _ in 0..100 {
        group.post(|seen| seen.push('p')).unwrap();
        group.after(SECOND, |seen| seen.push('t')).unwrap();
    }
    clock.advance(SECOND);
    drop(release);
    let (done, is_done) = channel();
    group
        .slow(|| (), move |_, _| done.send(()).unwrap())
        .unwrap();
    is_done.recv_timeout(LONG).unwrap();
    let (seen, _) = stop(&group);
    let runs = seen.as_bytes().chunk_by(|a, b| a == b);
    let runs: Vec<_> = runs.map(|run| (char::from(run[0]), run.len())).collect();
    assert!(runs.iter().all(|(_, length)| *length <= 64), "{runs:?}");
    for kind in ['t', 'p', 'a', 'b'] {
        assert_eq!(seen.chars().filter(|other| *other == kind).count(), 100);
    }
    // Timers first, then the inbox, then the receivers.
    let first = |kind| seen.find(kind).unwrap();
    assert!(first('t') < first('p') && first('p') < first('a') && first('a') < first('b'));
}

#[test]
fn a_busy_inbox_starves_no_receiver_and_no_timer() {
    let clock = ManualClock::new();
    let group = Group::builder("g")
        .clock(clock.clone())
        .spawn(0_u32)
        .unwrap();
    let again = group.downgrade();
    // A closure that posts itself for ever.
    fn repeat(weak: &liveness::server::group::WeakGroup<u32>) {
        let next = weak.clone();
        if let Some(group) = weak.upgrade() {
            let _ = group.post(move |_| repeat(&next));
        }
    }
    repeat(&again);
    let (send, receiver) = unbounded();
    let (tell, told) = channel();
    let tell_of_item = tell.clone();
    group
        .attach(receiver, move |_, ()| tell_of_item.send("item").unwrap())
        .unwrap();
    send.send(()).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok("item"));
    group
        .after(SECOND, move |_| tell.send("timer").unwrap())
        .unwrap();
    clock.advance(SECOND);
    assert_eq!(told.recv_timeout(LONG), Ok("timer"));
    drop(again);
    drop(group.stop(Duration::ZERO));
    assert!(group.stats().is_balanced());
}

#[test]
fn ticks_that_were_missed_are_skipped_and_counted() {
    let clock = ManualClock::new();
    let group = Group::builder("g")
        .clock(clock.clone())
        .spawn(Vec::new())
        .unwrap();
    let now = clock.clone();
    group
        .every(SECOND * 10, move |seen| {
            seen.push(now.now().since_origin().as_secs());
        })
        .unwrap();
    for by in [9, 1, 25, 4, 1] {
        clock.advance(SECOND * by);
        group.call(|_| ()).unwrap();
    }
    let (seen, stats) = stop(&group);
    assert_eq!(seen, [10, 35, 40]);
    assert_eq!(
        (stats.skipped_ticks, stats.timer_calls, stats.lateness.max()),
        (1, 3, SECOND * 15)
    );
}

#[test]
fn a_timer_may_cancel_itself_and_others() {
    let clock = ManualClock::new();
    let group = Group::builder("g").clock(clock.clone()).spawn(0).unwrap();
    let other = group.every(SECOND, |n| *n += 100).unwrap();
    let (give, given) = channel::<liveness::server::group::Timer>();
    let own = group
        .every(SECOND, move |n| {
            *n += 1;
            if *n == 102 {
                assert!(other.cancel());
                assert!(given.recv().unwrap().cancel());
            }
        })
        .unwrap();
    give.send(own).unwrap();
    group.after(SECOND / 2, |n| *n += 1).unwrap();
    for _ in 0..5 {
        clock.advance(SECOND);
        group.call(|_| ()).unwrap();
    }
    let (n, stats) = stop(&group);
    assert_eq!((n, stats.timers_cancelled, stats.timers_ended), (102, 2, 1));
}

#[test]
fn a_timer_that_panics_goes_on() {
    let clock = ManualClock::new();
    let group = Group::builder("g").clock(clock.clone()).spawn(0).unwrap();
    group
        .every(SECOND, |n| {
            *n += 1;
            assert_ne!(*n, 1, "once");
        })
        .unwrap();
    for _ in 0..3 {
        clock.advance(SECOND);
        group.call(|_| ()).unwrap();
    }
    let (n, stats) = stop(&group);
    assert_eq!((n, stats.panics, stats.timer_calls), (3, 1, 3));
}

#[test]
fn changes_of_a_chain_apply_between_messages() {
    let group = Group::builder("g").spawn(Vec::new()).unwrap();
    let chain = group.chain::<Vec<u32>>();
    let end = |seen: &mut Vec<_>, message| {
        seen.push(message);
        None
    };
    let mark = |mark: u32| {
        move |_: &mut Vec<_>, mut message: Vec<u32>| {
            message.push(mark);
            Some(message)
        }
    };
    let port = chain.port();
    let send = |times: Range<u32>| times.for_each(|_| port.send(Vec::new()).unwrap());
    chain.append("end", end).unwrap();
    send(0..1);
    chain.insert_before("end", "one", mark(1)).unwrap();
    send(0..1);
    chain.insert_before("one", "zero", mark(0)).unwrap();
    send(0..1);
    assert_eq!(chain.names(), ["zero", "one", "end"]);
    chain.remove("one").unwrap();
    send(0..1);
    chain.insert_before("end", "one", mark(2)).unwrap();
    send(0..1);
    let expected: [&[u32]; 5] = [&[], &[1], &[0, 1], &[0], &[0, 2]];
    assert_eq!(stop(&group).0, expected);
}
