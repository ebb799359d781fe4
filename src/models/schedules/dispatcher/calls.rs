//! What becomes of an event that is cancelled, whose handler is removed, or that is stopped or given up while it
//! starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use shuttle::thread;

use super::super::explore;
use super::{SECOND, TOPIC, at, builder, stop};
use crate::ManualClock;
use crate::dispatch::{Backoff, Cancelled, Dispatcher, EmitErrorKind, On, Undone};

/// A number that the model does not explore.
fn count() -> (Arc<AtomicU64>, Arc<AtomicU64>) {
    let count = Arc::<AtomicU64>::default();
    (count.clone(), count)
}

#[test]
fn an_event_that_meets_a_stop_is_refused_or_run_or_returned() {
    explore(
        "an_event_that_meets_a_stop_is_refused_or_run_or_returned",
        || {
            let clock = ManualClock::new();
            let dispatcher = builder(&clock, 2).build().unwrap();
            let (runs, noted) = count();
            dispatcher
                .on(&TOPIC, "run", On::new(), move |_, event| {
                    noted.fetch_add(1 << event, SeqCst);
                    Ok(())
                })
                .unwrap();
            let emitting = [[0, 8], [16, 24]].map(|events: [u64; 2]| {
                let (dispatcher, clock) = (dispatcher.clone(), clock.clone());
                thread::spawn(move || {
                    let mut accepted = 0;
                    for event in events {
                        let how = at(&clock, (event / 16) as u32);
                        match dispatcher.emit_with(&TOPIC, event, how) {
                            Ok(_) => accepted += 1 << event,
                            Err(error) => assert_eq!(error.kind(), EmitErrorKind::Stopped),
                        }
                    }
                    accepted
                })
            });
            let stopping = thread::spawn({
                let dispatcher = dispatcher.clone();
                move || returned(&dispatcher)
            });
            let returned = returned(&dispatcher) + stopping.join().unwrap();
            let accepted: u64 = emitting.map(|it| it.join().unwrap()).into_iter().sum();
            assert_eq!(accepted, runs.load(SeqCst) + returned);
            stop(&dispatcher);
        },
    );
}

/// The events that a stop returns, each as a bit of its own.
fn returned(dispatcher: &Dispatcher) -> u64 {
    let undone = dispatcher.stop(Duration::MAX).undone.into_iter();
    undone
        .map(|undone| 1 << Undone::into_event::<u64>(undone).unwrap())
        .sum()
}

#[test]
fn a_cancelled_event_has_not_started_or_its_outcome_is_stale() {
    explore(
        "a_cancelled_event_has_not_started_or_its_outcome_is_stale",
        || {
            let clock = ManualClock::new();
            let dispatcher = builder(&clock, 1).build().unwrap();
            let ((runs, noted), (seen, sees)) = (count(), count());
            dispatcher
                .on(&TOPIC, "run", On::new(), move |context, event| {
                    noted.fetch_add(1 << event, SeqCst);
                    thread::yield_now();
                    sees.fetch_add(u64::from(context.is_cancelled()) << event, SeqCst);
                    Ok(())
                })
                .unwrap();
            let id = dispatcher.emit(&TOPIC, 0).unwrap();
            let cancelling = thread::spawn({
                let dispatcher = dispatcher.clone();
                move || {
                    let cancelled = dispatcher.cancel(&TOPIC, id);
                    (cancelled, dispatcher.cancel(&TOPIC, id))
                }
            });
            dispatcher.emit(&TOPIC, 8).unwrap();
            let (cancelled, again) = cancelling.join().unwrap();
            assert_eq!(again, Cancelled::Unknown);
            while dispatcher.counts(&TOPIC).ready + dispatcher.counts(&TOPIC).running > 0 {
                thread::yield_now();
            }
            let (stats, undone) = stop(&dispatcher);
            let (runs, seen) = (runs.load(SeqCst), seen.load(SeqCst));
            assert_eq!((runs >> 8, seen >> 8), (1, 0), "the next is not cancelled");
            let (is_run, is_seen) = (runs & 1 == 1, seen & 1 == 1);
            let expected = match cancelled {
                Cancelled::Waiting => {
                    assert!(!is_run);
                    (1, 1, 0)
                }
                Cancelled::Running => (1, 1, 1),
                Cancelled::Unknown => {
                    assert!(is_run && !is_seen);
                    (2, 0, 0)
                }
                Cancelled::Dead => panic!("it never fails"),
            };
            assert_eq!((stats.done, stats.cancelled, stats.stale), expected);
            assert_eq!(undone, 0);
        },
    );
}

#[test]
fn a_removed_handler_is_not_called_again() {
    explore("a_removed_handler_is_not_called_again", || {
        let clock = ManualClock::new();
        let dispatcher = builder(&clock, 2).build().unwrap();
        let ((removed, is_removed), (late, notes)) = (count(), count());
        let (runs, noted) = count();
        dispatcher
            .on(&TOPIC, "run", On::new(), move |_, _| {
                thread::yield_now();
                notes.fetch_add(is_removed.load(SeqCst), SeqCst);
                noted.fetch_add(1, SeqCst);
                Ok(())
            })
            .unwrap();
        let emitting = thread::spawn({
            let dispatcher = dispatcher.clone();
            move || {
                let accepted = (0..3).map(|event| dispatcher.emit(&TOPIC, event));
                accepted.filter(Result::is_ok).count() as u64
            }
        });
        let removing = thread::spawn({
            let (dispatcher, removed) = (dispatcher.clone(), removed.clone());
            move || {
                let was_there = dispatcher.remove(&TOPIC, "run");
                removed.fetch_add(u64::from(was_there), SeqCst);
            }
        });
        removing.join().unwrap();
        assert_eq!(removed.load(SeqCst), 1);
        let accepted = emitting.join().unwrap();
        let (stats, undone) = stop(&dispatcher);
        assert_eq!(late.load(SeqCst), 0, "called after `remove` returned");
        assert_eq!(stats.done, runs.load(SeqCst));
        assert_eq!(stats.done + undone as u64, accepted, "none is lost");
    });
}

/// How many calls were given up in all schedules.
static STUCK: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_call_that_is_given_up_counts_once_whenever_it_returns() {
    explore(
        "a_call_that_is_given_up_counts_once_whenever_it_returns",
        || {
            let clock = ManualClock::new();
            let dispatcher = builder(&clock, 1)
                .stuck_after(SECOND)
                .max_stuck(1)
                .build()
                .unwrap();
            let once = On::new()
                .max_duration(SECOND)
                .max_attempts(2)
                .backoff(Backoff::constant(Duration::ZERO));
            let (runs, noted) = count();
            dispatcher
                .on(&TOPIC, "ignore", once, move |context, _| {
                    noted.fetch_add(1, SeqCst);
                    // The first call ignores that it is over its time.
                    let yields = if context.attempt() == 1 { 20 } else { 0 };
                    (0..yields).for_each(|_| thread::yield_now());
                    Ok(())
                })
                .unwrap();
            dispatcher.emit(&TOPIC, 0).unwrap();
            // One for the time of the call, one until it is stuck, and those that come before these begin.
            for _ in 0..8 {
                clock.advance(SECOND);
                thread::yield_now();
            }
            while dispatcher.stats().total().done == 0 {
                thread::yield_now();
            }
            let (stats, undone) = stop(&dispatcher);
            let stuck = dispatcher.stats().stuck;
            STUCK.fetch_add(stuck, SeqCst);
            assert_eq!((stats.done, undone), (1, 0));
            assert_eq!((stats.retried, stats.stale), (stuck, stuck));
            assert_eq!(runs.load(SeqCst), 1 + stuck);
        },
    );
    assert!(STUCK.load(SeqCst) > 0, "the clock never met a call");
}
