//! Who is woken: the leader, followers, and callers that wait for room.

use std::time::Duration;

use shuttle::sync::{Barrier, mpsc};
use shuttle::thread;

use super::super::explore;
use super::{SECOND, TOPIC, at, builder, sending, stop};
use crate::ManualClock;
use crate::dispatch::{Dispatcher, EmitErrorKind, Failure, On, Topic};

#[test]
fn moving_the_clock_starts_each_event_that_is_due() {
    for threads in [2, 3] {
        let model = if threads == 2 { due::<2> } else { due::<3> };
        explore("moving_the_clock_starts_each_event_that_is_due", model);
    }
}

/// Events are emitted by two threads while a third moves the clock to the last of them.
fn due<const THREADS: usize>() {
    let clock = ManualClock::new();
    let (dispatcher, sent) = sending(&clock, THREADS);
    let emitting = [[3, 1], [2, 3]].map(|dues: [u32; 2]| {
        let (dispatcher, clock) = (dispatcher.clone(), clock.clone());
        thread::spawn(move || {
            for due in dues {
                let how = at(&clock, due);
                dispatcher.emit_with(&TOPIC, due.into(), how).unwrap();
            }
        })
    });
    for _ in 0..3 {
        clock.advance(SECOND);
    }
    let mut events: Vec<_> = (0..4).map(|_| sent.recv().unwrap()).collect();
    events.sort_unstable();
    assert_eq!(events, [1, 2, 3, 3]);
    for emitting in emitting {
        emitting.join().unwrap();
    }
    assert_eq!(stop(&dispatcher).0.done, 4);
}

#[test]
fn an_event_that_is_due_before_the_leader_wakes_is_not_late() {
    explore(
        "an_event_that_is_due_before_the_leader_wakes_is_not_late",
        || {
            let clock = ManualClock::new();
            let (dispatcher, sent) = sending(&clock, 2);
            dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
            let emitting = thread::spawn({
                let (dispatcher, clock) = (dispatcher.clone(), clock.clone());
                move || dispatcher.emit_with(&TOPIC, 1, at(&clock, 1))
            });
            clock.advance(SECOND);
            assert_eq!(sent.recv(), Ok(1));
            emitting.join().unwrap().unwrap();
            let (stats, undone) = stop(&dispatcher);
            assert_eq!((stats.done, undone), (1, 1));
        },
    );
}

#[test]
fn a_retry_that_is_due_before_the_leader_wakes_is_not_late() {
    explore(
        "a_retry_that_is_due_before_the_leader_wakes_is_not_late",
        || {
            let clock = ManualClock::new();
            let dispatcher = builder(&clock, 2).build().unwrap();
            let (send, sent) = mpsc::channel();
            dispatcher
                .on(&TOPIC, "fail", On::new(), move |context, _| {
                    send.send(context.attempt()).unwrap();
                    match context.attempt() {
                        1 => Err(Failure::retry_in(SECOND, "once")),
                        _ => Ok(()),
                    }
                })
                .unwrap();
            dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
            dispatcher.emit(&TOPIC, 0).unwrap();
            assert_eq!(sent.recv(), Ok(1));
            while dispatcher.stats().total().retried == 0 {
                thread::yield_now();
            }
            clock.advance(SECOND);
            assert_eq!(sent.recv(), Ok(2));
            let (stats, undone) = stop(&dispatcher);
            assert_eq!((stats.done, stats.retried, undone), (1, 1, 1));
        },
    );
}

/// A topic whose handler meets nobody.
const SHORT: Topic<u64> = Topic::new("short");

/// A dispatcher with two workers whose handler returns when two calls of it have met.
fn meeting(clock: &ManualClock) -> (Dispatcher, mpsc::Receiver<()>) {
    let dispatcher = builder(clock, 2).build().unwrap();
    let meet = Barrier::new(2);
    let (send, met) = mpsc::channel();
    dispatcher
        .on(&TOPIC, "meet", On::new(), move |_, _| {
            meet.wait();
            let _ = send.send(());
            Ok(())
        })
        .unwrap();
    (dispatcher, met)
}

#[test]
fn while_one_worker_is_in_a_handler_another_leads() {
    explore("while_one_worker_is_in_a_handler_another_leads", || {
        let clock = ManualClock::new();
        let (dispatcher, met) = meeting(&clock);
        // Each pair meets, no matter which worker leads: the first at once and in a second, the next in two seconds.
        let emitting = thread::spawn({
            let (dispatcher, clock) = (dispatcher.clone(), clock.clone());
            move || {
                for due in [0, 2] {
                    let how = at(&clock, due);
                    dispatcher.emit_with(&TOPIC, due.into(), how).unwrap();
                }
            }
        });
        for due in [1, 2] {
            let how = at(&clock, due);
            dispatcher.emit_with(&TOPIC, due.into(), how).unwrap();
        }
        clock.advance(SECOND);
        clock.advance(SECOND);
        emitting.join().unwrap();
        (0..4).for_each(|_| met.recv().unwrap());
        assert_eq!(stop(&dispatcher).0.done, 4);
    });
}

#[test]
fn two_events_that_come_together_wake_two_workers() {
    explore("two_events_that_come_together_wake_two_workers", || {
        let clock = ManualClock::new();
        let (dispatcher, met) = meeting(&clock);
        // One worker leads until then, the other follows.
        dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
        let emitting = thread::spawn({
            let dispatcher = dispatcher.clone();
            move || {
                dispatcher.emit(&TOPIC, 1).unwrap();
                dispatcher.emit(&TOPIC, 3).unwrap();
            }
        });
        dispatcher.emit(&TOPIC, 2).unwrap();
        dispatcher.emit(&TOPIC, 4).unwrap();
        emitting.join().unwrap();
        (0..4).for_each(|_| met.recv().unwrap());
        assert_eq!(stop(&dispatcher).1, 1);
    });
}

#[test]
fn whoever_waits_for_room_gets_it() {
    explore("whoever_waits_for_room_gets_it", || {
        let clock = ManualClock::new();
        let dispatcher = builder(&clock, 1).max_unfinished(1).build().unwrap();
        dispatcher
            .on(&TOPIC, "run", On::new(), |_, _| Ok(()))
            .unwrap();
        let emitting = [1, 2].map(|event| {
            let dispatcher = dispatcher.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    dispatcher
                        .emit_within(&TOPIC, event, Duration::MAX)
                        .unwrap();
                }
            })
        });
        for emitting in emitting {
            emitting.join().unwrap();
        }
        let (stats, undone) = stop(&dispatcher);
        assert_eq!((stats.emitted, stats.done + undone as u64), (4, 4));
    });
}

#[test]
fn room_that_a_cancellation_makes_is_not_missed() {
    explore("room_that_a_cancellation_makes_is_not_missed", || {
        let clock = ManualClock::new();
        let dispatcher = builder(&clock, 1).max_unfinished(1).build().unwrap();
        dispatcher
            .on(&TOPIC, "run", On::new(), |_, _| Ok(()))
            .unwrap();
        let id = dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
        let emitting = thread::spawn({
            let dispatcher = dispatcher.clone();
            move || dispatcher.emit_within(&TOPIC, 1, Duration::MAX)
        });
        dispatcher.cancel(&TOPIC, id);
        emitting.join().unwrap().unwrap();
        let (stats, undone) = stop(&dispatcher);
        assert_eq!((stats.cancelled, stats.done + undone as u64), (1, 1));
    });
}

#[test]
fn a_stop_ends_the_wait_for_room() {
    explore("a_stop_ends_the_wait_for_room", || {
        let clock = ManualClock::new();
        let dispatcher = builder(&clock, 1).max_unfinished(1).build().unwrap();
        dispatcher
            .on(&TOPIC, "run", On::new(), |_, _| Ok(()))
            .unwrap();
        dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
        let emitting = thread::spawn({
            let dispatcher = dispatcher.clone();
            move || dispatcher.emit_within(&TOPIC, 1, Duration::MAX)
        });
        assert_eq!(stop(&dispatcher).1, 1);
        let error = emitting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), EmitErrorKind::Stopped);
    });
}

#[test]
fn a_leader_that_is_called_is_not_lost_when_another_takes_its_place() {
    explore(
        "a_leader_that_is_called_is_not_lost_when_another_takes_its_place",
        || {
            let clock = ManualClock::new();
            let (dispatcher, met) = meeting(&clock);
            dispatcher
                .on(&SHORT, "run", On::new(), |_, _| Ok(()))
                .unwrap();
            dispatcher.emit_with(&TOPIC, 9, at(&clock, 9)).unwrap();
            // Comes back from this while the leader is called for the event that is due earlier.
            dispatcher.emit(&SHORT, 0).unwrap();
            dispatcher.emit_with(&TOPIC, 5, at(&clock, 5)).unwrap();
            dispatcher.emit(&TOPIC, 1).unwrap();
            dispatcher.emit(&TOPIC, 2).unwrap();
            (0..2).for_each(|_| met.recv().unwrap());
            assert_eq!(stop(&dispatcher).1, 2);
        },
    );
}
