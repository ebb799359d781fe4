//! Failures, and when which handlers are called again.

use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use liveness::dispatch::{Backoff, Context, Dispatcher, Emit, Failure, On};

use crate::kit::{Fixture, HOUR, NS, S, TOPIC, all, manual, recorder};

/// Registers a handler that does what `act` says, and reports its attempts.
fn attempts(
    dispatcher: &Dispatcher,
    name: &str,
    options: On,
    act: impl Fn(&Context) -> Result<(), Failure> + Send + Sync + 'static,
) -> Receiver<u32> {
    let (sender, receiver) = unbounded();
    let handle = move |context: &Context, _: &u64| {
        sender.send(context.attempt())?;
        act(context)
    };
    dispatcher.on(&TOPIC, name, options, handle).unwrap();
    receiver
}

/// Options of a handler that is tried so often, with 8 s in between.
fn tried(attempts: u32) -> On {
    On::new()
        .max_attempts(attempts)
        .backoff(Backoff::constant(8 * S).jitter(0.0))
}

/// Moves to just before `delay`, to it, and past it; the number of messages at each.
fn around<T>(it: &Fixture, delay: Duration, calls: &Receiver<T>) -> [usize; 3] {
    let mut seen = [0; 3];
    for (by, seen) in [delay - NS, NS, NS].into_iter().zip(&mut seen) {
        it.advance(by);
        *seen = calls.len();
    }
    seen
}

#[test]
fn an_event_starts_at_its_due_time_and_not_a_nanosecond_before() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    it.dispatcher.emit_with(&TOPIC, 1, Emit::after(S)).unwrap();
    assert_eq!(around(&it, S, &calls), [0, 1, 1]);
    it.dispatcher
        .emit_with(&TOPIC, 2, Emit::at(it.wall() + S))
        .unwrap();
    assert_eq!(around(&it, S, &calls), [1, 2, 2]);
}

#[test]
fn a_retry_starts_at_its_due_time_and_calls_the_handlers_that_failed_in_their_order() {
    let it = manual();
    let fail = |context: &Context| {
        if context.attempt() == 1 {
            return Err("once".into());
        }
        Ok(())
    };
    let one = attempts(&it.dispatcher, "one", tried(9), fail);
    let two = attempts(&it.dispatcher, "two", tried(9), |_| Ok(()));
    let three = attempts(&it.dispatcher, "three", tried(9), fail);
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert_eq!(around(&it, 8 * S, &one), [1, 2, 2]);
    assert_eq!(
        (all(&one), all(&two), all(&three)),
        (vec![1, 2], vec![1], vec![1, 2])
    );
    assert_eq!(it.dispatcher.stats().total().done, 1);
}

#[test]
fn each_handler_has_its_own_number_of_attempts_and_the_event_dies_when_none_is_left_to_call() {
    let it = manual();
    let fail = |_: &Context| Err("no".into());
    let two = attempts(&it.dispatcher, "two", tried(2), fail);
    let four = attempts(&it.dispatcher, "four", tried(4), fail);
    let fine = attempts(&it.dispatcher, "fine", tried(1), |_| Ok(()));
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    for _ in 0..9 {
        it.advance(8 * S);
    }
    assert_eq!(
        (all(&two), all(&four), all(&fine)),
        (vec![1, 2], vec![1, 2, 3, 4], vec![1])
    );
    let dead = &it.dispatcher.dead(&TOPIC, 9)[0];
    assert_eq!(
        (dead.attempts, &dead.handlers[..]),
        (4, &["two".to_owned(), "four".to_owned()][..])
    );
    // What is replayed calls those that failed, with all their attempts.
    assert_eq!(it.dispatcher.replay(&TOPIC, 9), 1);
    it.flush();
    assert_eq!(
        (all(&two), all(&four), all(&fine)),
        (vec![1], vec![1], vec![])
    );
    assert_eq!(it.dispatcher.stats().total().dead, 0);
}

#[test]
fn a_fatal_failure_is_dead_at_once() {
    let it = manual();
    let calls = attempts(&it.dispatcher, "do", tried(9), |_| {
        Err(Failure::fatal("no"))
    });
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    it.advance(HOUR);
    assert_eq!(all(&calls), [1]);
    assert_eq!(it.dispatcher.dead(&TOPIC, 9)[0].died, it.wall() - HOUR);
}

#[test]
fn a_failure_may_name_the_delay_of_the_next_attempt() {
    let it = manual();
    let calls = attempts(&it.dispatcher, "do", tried(3), |_| {
        Err(Failure::retry_in(3 * S, "later"))
    });
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert_eq!(around(&it, 3 * S, &calls), [1, 2, 2]);
    it.advance(HOUR);
    assert_eq!(all(&calls), [1, 2, 3]);
    assert_eq!(it.dispatcher.stats().total().dead, 1);
}

#[test]
fn a_snooze_costs_no_attempt() {
    let it = manual();
    let (sender, calls) = unbounded();
    let handle = move |context: &Context, _: &u64| {
        sender.send(context.attempt())?;
        Err(Failure::snooze(S))
    };
    it.dispatcher.on(&TOPIC, "do", tried(1), handle).unwrap();
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert_eq!(around(&it, S, &calls), [1, 2, 2]);
    for _ in 0..20 {
        it.advance(S);
    }
    assert!(all(&calls).iter().all(|attempt| *attempt == 1));
    let total = it.dispatcher.stats().total();
    assert_eq!((total.put_off, total.retried, total.waiting), (22, 0, 1));
    assert_eq!(it.dispatcher.peek(&TOPIC, 1)[0].attempts, 0);
}

#[test]
fn the_jitter_of_many_retries_fills_its_range_and_does_not_leave_it() {
    let it = manual();
    let options = On::new().backoff(Backoff::constant(8 * S).jitter(0.5));
    let _calls = attempts(&it.dispatcher, "do", options, |_| Err("no".into()));
    it.dispatcher.emit_many(&TOPIC, 0..1_000).unwrap();
    it.flush();
    let delays = it.dispatcher.peek(&TOPIC, 9_999).into_iter();
    let delays: Vec<Duration> = delays
        .map(|waiting| waiting.due.duration_since(it.wall()).unwrap())
        .collect();
    assert_eq!(delays.len(), 1_000);
    assert!(
        delays
            .iter()
            .all(|delay| *delay >= 4 * S && *delay <= 12 * S)
    );
    // In order of due; the random numbers are uniform.
    assert!(delays[100] < 5 * S && delays[900] > 11 * S && delays[0] != delays[999]);
    let quartile = delays[250];
    assert!(quartile > 5 * S && quartile < 7 * S, "{quartile:?}");
}

#[test]
fn the_text_of_a_long_error_is_cut() {
    let it = manual();
    let _calls = attempts(&it.dispatcher, "do", tried(1), |_| {
        Err("ä".repeat(9_999).into())
    });
    it.dispatcher.emit(&TOPIC, 1).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.dead(&TOPIC, 1)[0].error, "ä".repeat(512));
}
