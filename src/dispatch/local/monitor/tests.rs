//! The races between the monitor and the worker that makes the call.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::*;
use crate::dispatch::attempt::Attempt;
use crate::dispatch::local::core::tests::core;
use crate::dispatch::local::crew::Worker;
use crate::dispatch::{Backoff, Dispatcher, Emit, On, Topic};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const TOPIC: Topic<u8> = Topic::new("topic");

/// A call of the only handler of a topic, which worker 0 makes for the only event.
fn begun_call(core: &Arc<Core>) -> Call {
    core.on(
        &TOPIC,
        "handle",
        On::new().max_attempts(1),
        |_: &_, _: &_| Ok(()),
    )
    .unwrap();
    core.emit(&TOPIC, 0, Emit::now(), None).unwrap();
    let mut state = core.state.lock();
    let start = state.plan.next(0, 0).unwrap();
    let mut worker = Worker::new("monitor-0".to_owned(), Arc::default(), None);
    worker.runs = Some(start.token);
    state.crew.workers.push(worker);
    Call {
        token: start.token,
        runner: 0,
        handler: state.topics[start.token.topic.at()].view.handlers[0].clone(),
        attempt: Attempt::new(1, None),
        number: 1,
        started: 0,
        payload: start.payload,
        is_over: false,
        left: Vec::new(),
    }
}

#[test]
fn a_call_that_returns_while_it_is_given_up_starts_no_event_before() {
    let core = core();
    core.start_monitor().unwrap();
    let call = begun_call(&core);
    let key = call.key(Limit::Stuck);
    let monitor = core.monitor.get().unwrap();
    monitor.calls.lock().insert(key.fence, call);
    let state = core.state.lock();
    let giver = core.clone();
    let given_up = std::thread::spawn(move || giver.silent(key));
    // While it comes no further, a call that returns is not over yet: it waits for this lock, or is still there.
    for _ in 0..50 {
        std::thread::sleep(MS);
        let calls = monitor.calls.try_lock();
        assert!(calls.is_none_or(|calls| calls.contains_key(&key.fence)));
    }
    drop(state);
    given_up.join().unwrap();
    let mut state = core.state.lock();
    assert!(state.crew.worker(0).is_given_up && !state.plan.is_busy());
    drop(state);
    assert!(core.stop(Duration::ZERO).undone.is_empty());
}

#[test]
fn a_call_that_is_given_up_is_replaced_by_one_thread() {
    let core = core();
    let call = begun_call(&core);
    core.give_up(core.state.lock(), call);
    let mut state = core.state.lock();
    assert_eq!((state.crew.given_up, state.crew.workers.len()), (1, 2));
    assert!(state.crew.worker(0).is_given_up);
    drop(state);
    let summary = core.stop(Duration::ZERO);
    assert!(summary.undone.is_empty());
}

#[test]
fn the_end_of_one_calls_time_never_cancels_the_next_call() {
    let dispatcher = Dispatcher::builder().threads(1).build().unwrap();
    let (began, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let may_end = std::sync::Mutex::new(may_end);
    let sender = began.clone();
    let limited = On::new().max_duration(20 * MS);
    let slow = move |_: &Context, _: &u8| {
        sender.send(None)?;
        may_end.lock().unwrap().recv()?;
        Ok(())
    };
    dispatcher.on(&TOPIC, "slow", limited, slow).unwrap();
    let next = move |context: &Context, _: &u8| {
        began.send(Some(context.wait(100 * MS)))?;
        Ok(())
    };
    dispatcher.on(&TOPIC, "next", On::new(), next).unwrap();
    dispatcher.emit(&TOPIC, 0).unwrap();
    assert_eq!(has_begun.recv(), Ok(None));
    // The monitor finds the first call over its time, and comes no further.
    let state = dispatcher.core().state.lock();
    std::thread::sleep(60 * MS);
    end.send(()).unwrap();
    std::thread::sleep(40 * MS);
    drop(state);
    assert_eq!(
        has_begun.recv(),
        Ok(Some(false)),
        "the next call was cancelled"
    );
}

#[test]
fn the_shortest_limit_is_not_missed_though_it_passes_before_the_call() {
    let dispatcher = Dispatcher::builder().threads(4).build().unwrap();
    let (ended, has_ended) = mpsc::channel();
    let limited = On::new()
        .max_duration(Duration::from_nanos(1))
        .max_attempts(1);
    let handle = move |context: &Context, _: &u8| {
        ended.send((context.wait(2 * S), context.cause()))?;
        Ok(())
    };
    dispatcher.on(&TOPIC, "handle", limited, handle).unwrap();
    for _ in 0..20_000 {
        dispatcher.emit(&TOPIC, 0).unwrap();
    }
    for _ in 0..20_000 {
        assert_eq!(has_ended.recv(), Ok((true, Some(Cause::TooLong))));
    }
}

/// An event that asks its dispatcher as it goes.
struct Asks(Dispatcher, mpsc::Sender<bool>);

impl Drop for Asks {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.stats().is_balanced());
    }
}

#[test]
fn what_a_call_that_was_given_up_held_is_dropped_without_the_lock() {
    const ASKS: Topic<Asks> = Topic::new("asks");
    let builder = Dispatcher::builder().threads(1).stuck_after(MS);
    let dispatcher = builder.build().unwrap();
    let (end, may_end) = mpsc::channel::<()>();
    let may_end = std::sync::Mutex::new(may_end);
    let limited = On::new().max_duration(MS).backoff(Backoff::constant(MS));
    let handle = move |context: &Context, _: &Asks| {
        if context.attempt() == 1 {
            may_end.lock().unwrap().recv()?;
        }
        Ok(())
    };
    dispatcher.on(&ASKS, "handle", limited, handle).unwrap();
    let (dropped, was_dropped) = mpsc::channel();
    let event = Asks(dispatcher.clone(), dropped);
    assert!(dispatcher.emit(&ASKS, event).is_ok());
    while dispatcher.stats().total().done == 0 {
        std::thread::sleep(MS);
    }
    end.send(()).unwrap();
    assert_eq!(was_dropped.recv_timeout(10 * S), Ok(true));
}
