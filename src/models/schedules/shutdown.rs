//! Close and drop: no caller is left waiting, every thread is joined, and everything accepted is applied and accounted
//! for.

use std::sync::Arc;

use shuttle::sync::mpsc;
use shuttle::thread;

use super::{TIMEOUT, builder, explore, quiet};
use crate::{BeatErrorKind, CallError, ManualClock, Options, Watcher};

/// Beats `keys` until one is refused, and returns how many were accepted.
fn beat_all(watcher: &Watcher<u64>, keys: impl IntoIterator<Item = u64>) -> u64 {
    let mut accepted = 0;
    for key in keys {
        match watcher.beat(key) {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!((error.kind(), error.key()), (BeatErrorKind::Closed, &key));
                break;
            }
        }
    }
    accepted
}

/// Creates a watcher whose three keys are due, and a channel that receives one message for each call of its callback.
fn with_dead_keys() -> (Arc<Watcher<u64>>, mpsc::Receiver<()>) {
    let clock = ManualClock::new();
    let (called, is_called) = mpsc::channel();
    let watcher = builder(&clock, 2, 2)
        .on_event(move |_| called.send(()).unwrap())
        .build()
        .unwrap();
    watcher.beat_many(0..3u64).unwrap();
    clock.advance(TIMEOUT);
    (Arc::new(watcher), is_called)
}

#[test]
fn close_lets_producers_go_and_applies_what_it_accepted() {
    explore(
        "close_lets_producers_go_and_applies_what_it_accepted",
        || {
            let watcher = builder(&ManualClock::new(), 1, 1).build().unwrap();
            let watcher = Arc::new(watcher);
            let patient = thread::spawn({
                let watcher = watcher.clone();
                move || beat_all(&watcher, 0..4)
            });
            let impatient = thread::spawn({
                let watcher = watcher.clone();
                move || {
                    let mut accepted = 0;
                    for key in 10..13u64 {
                        let tried = match key {
                            11 => watcher.try_beat(key),
                            _ => watcher.beat_timeout(key, TIMEOUT),
                        };
                        accepted += u64::from(tried.is_ok());
                        if let Err(error) = tried {
                            let timed = [BeatErrorKind::TimedOut, BeatErrorKind::Closed];
                            let tried = [BeatErrorKind::InboxFull, BeatErrorKind::Closed];
                            let allowed = if key == 11 { tried } else { timed };
                            assert!(allowed.contains(&error.kind()), "{error:?}");
                        }
                    }
                    accepted
                }
            });
            let many = thread::spawn({
                let watcher = watcher.clone();
                move || match watcher.beat_many(20..23u64) {
                    Ok(accepted) => accepted as u64,
                    Err(error) => 3 - error.into_keys().len() as u64,
                }
            });
            quiet(watcher.close());
            let accepted: u64 = [patient, impatient, many]
                .map(|producer| producer.join().unwrap())
                .iter()
                .sum();
            let stats = quiet(watcher.stats());
            assert_eq!((stats.applied_beats, stats.started), (accepted, accepted));
            assert_eq!(stats.live, accepted);
        },
    );
}

#[test]
fn all_who_close_return_when_the_threads_are_gone() {
    explore("all_who_close_return_when_the_threads_are_gone", || {
        let (watcher, is_called) = with_dead_keys();
        let closers = [(); 2].map(|()| {
            let watcher = watcher.clone();
            thread::spawn(move || quiet(watcher.close()))
        });
        let mine = quiet(watcher.close());
        for closer in closers {
            assert_eq!(closer.join().unwrap(), mine);
        }
        assert_eq!((mine.started, mine.live, mine.pending), (3, 0, 0));
        drop(watcher);
        // The callback is dropped with its thread, so this loop ends.
        assert_eq!(is_called.iter().count() as u64, mine.delivered);
    });
}

#[test]
fn a_question_at_the_close_is_answered_or_refused() {
    explore("a_question_at_the_close_is_answered_or_refused", || {
        let watcher = builder(&ManualClock::new(), 2, 1).build().unwrap();
        let watcher = Arc::new(watcher);
        let asking = thread::spawn({
            let watcher = watcher.clone();
            move || {
                let is_in = watcher.beat(1u64).is_ok();
                match watcher.contains(&1) {
                    Ok(watched) => assert_eq!(watched, is_in),
                    Err(error) => assert_eq!(error, CallError::Closed),
                }
                let snapshot = watcher.snapshot();
                assert!(matches!(snapshot, Ok(_) | Err(CallError::Closed)));
            }
        });
        let flushing = thread::spawn({
            let watcher = watcher.clone();
            move || {
                let flushed = watcher.flush();
                assert!(matches!(flushed, Ok(()) | Err(CallError::Closed)));
            }
        });
        quiet(watcher.close());
        asking.join().unwrap();
        flushing.join().unwrap();
    });
}

#[test]
fn dropping_the_last_share_closes_and_hearts_learn_of_it() {
    explore(
        "dropping_the_last_share_closes_and_hearts_learn_of_it",
        || {
            let watcher = builder(&ManualClock::new(), 1, 1).build().unwrap();
            let watcher = Arc::new(watcher);
            let heart = watcher.watch(1u64).unwrap();
            let beating = thread::spawn({
                let watcher = watcher.clone();
                move || beat_all(&watcher, 2..5)
            });
            let pulsing = thread::spawn({
                let heart = heart.clone();
                move || {
                    while heart.beat().is_ok() {
                        thread::yield_now();
                    }
                }
            });
            drop(watcher);
            assert_eq!(beating.join().unwrap(), 3);
            pulsing.join().unwrap();
            assert!(heart.beat().is_err() && !heart.is_watched());
        },
    );
}

#[test]
fn a_close_with_a_limit_and_one_without_end_when_the_threads_have() {
    explore(
        "a_close_with_a_limit_and_one_without_end_when_the_threads_have",
        || {
            let (watcher, is_called) = with_dead_keys();
            let limited = thread::spawn({
                let watcher = watcher.clone();
                move || watcher.close_timeout(TIMEOUT)
            });
            let mine = quiet(watcher.close());
            match limited.join().unwrap() {
                Ok(stats) => assert_eq!(quiet(stats), mine),
                Err(error) => assert!((1..=3).contains(&error.threads().len())),
            }
            assert_eq!(watcher.close_timeout(TIMEOUT).as_ref(), Ok(&mine));
            drop(watcher);
            assert_eq!(is_called.iter().count() as u64, mine.delivered);
        },
    );
}

/// A value whose `Drop` holds the last handle of its own watcher.
#[derive(Clone, Default)]
struct Holder(Arc<shuttle::sync::Mutex<Option<Arc<Watcher<u64, Holder>>>>>);

impl Drop for Holder {
    fn drop(&mut self) {
        let last = self.0.lock().unwrap().take();
        drop(last);
    }
}

#[test]
fn the_last_share_may_go_with_a_value_on_a_worker() {
    explore("the_last_share_may_go_with_a_value_on_a_worker", || {
        let clock = ManualClock::new();
        let (called, is_called) = mpsc::channel();
        let watcher = Watcher::<u64, Holder>::builder()
            .timeout(TIMEOUT)
            .clock(clock.clone())
            .workers(2)
            .inbox_capacity(2)
            .on_event(move |event| {
                called.send(()).unwrap();
                drop(event);
            })
            .build()
            .unwrap();
        let watcher = Arc::new(watcher);
        let value = Holder::default();
        *value.0.lock().unwrap() = Some(watcher.clone());
        let options = Options::new().extra(value);
        watcher.beat_with(1, options).unwrap();
        watcher.beat(2).unwrap();
        clock.advance(TIMEOUT);
        // Key 1 expires or is removed, in its table or in the outbox. Its value is dropped there or by the call.
        let removing = thread::spawn(move || watcher.remove(&1));
        let _ = removing.join().unwrap();
        // The callback is dropped when the delivery thread ends.
        assert!(is_called.iter().count() <= 2);
    });
}
