//! Pacemakers under a virtual clock; the test itself plays the part of the thread.

use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::super::{BoxError, Builder, Pacemaker};
use super::*;
use crate::clock::ManualClock;

const INTERVAL: Duration = Duration::from_secs(1);

/// A pacer without a thread.
struct Stage {
    clock: ManualClock,
    pacer: Pacer,
}

impl Stage {
    fn new() -> Self {
        let clock = ManualClock::new();
        let core = Arc::new(Core::new(Clock::from(clock.clone())));
        let thread = CallbackThread::current();
        let handle = Arc::new(Handle { core, thread });
        Stage {
            clock,
            pacer: Pacer { handle },
        }
    }

    /// Starts a pacemaker whose beat function returns `beat` of the time. The receiver gets the time of each call, ms.
    fn start(
        &self,
        options: Builder,
        mut beat: impl FnMut(u64) -> Result<(), BoxError> + Send + 'static,
    ) -> (Pacemaker, Receiver<u64>) {
        let (sender, calls) = unbounded();
        let clock = self.clock.clone();
        let call = move || {
            let now = clock.now().since_origin().as_millis() as u64;
            sender.send(now)?;
            beat(now)
        };
        (self.pacer.start(options, call).unwrap(), calls)
    }

    /// Advances the time to `until`, ms, and makes the calls that fall due.
    fn run_until(&self, until: u64) {
        let core = &self.pacer.handle.core;
        let end = Duration::from_millis(until);
        let mut state = core.state.lock();
        loop {
            if core.call_due(&mut state) {
                continue;
            }
            let due = state.plan.next_due().map(Duration::from_nanos);
            let Some(due) = due.filter(|&due| due <= end) else {
                break;
            };
            self.clock.set(due);
        }
        self.clock.set(end);
    }
}

/// A beat every second, the first at once, without randomness except in retries.
fn steady() -> Builder {
    Pacemaker::every(INTERVAL).phase(Duration::ZERO).jitter(0.0)
}

#[test]
fn calls_come_at_their_ticks_and_stop_with_the_pacemaker() {
    let stage = Stage::new();
    let (pacemaker, calls) = stage.start(steady(), |_| Ok(()));
    stage.run_until(3_500);
    pacemaker.stop();
    stage.run_until(10_000);
    assert_eq!(calls.iter().collect::<Vec<_>>(), [0, 1_000, 2_000, 3_000]);
}

#[test]
fn pacemakers_that_start_together_for_work_beat_at_once_and_then_spread() {
    let stage = Stage::new();
    let started = (0..50).map(|seed| {
        let options = Pacemaker::every(INTERVAL).idle().jitter(0.0).seed(seed);
        stage.start(options, |_| Ok(()))
    });
    let (mut pacemakers, calls): (Vec<_>, Vec<_>) = started.unzip();
    stage.run_until(60_000);
    let guards: Vec<_> = pacemakers.iter_mut().map(Pacemaker::begin).collect();
    stage.run_until(61_000);
    drop(guards);
    let mut seconds = Vec::new();
    for calls in calls {
        let calls: Vec<_> = calls.try_iter().collect();
        assert_eq!(calls[0], 60_000);
        seconds.push(calls[1]);
    }
    seconds.sort_unstable();
    seconds.dedup();
    assert!(seconds.len() >= 40, "{seconds:?}");
}
#[test]
fn a_call_that_fails_is_tried_again_although_no_progress_was_made_since() {
    let stage = Stage::new();
    let (mut pacemaker, calls) = stage.start(steady().idle(), |now| match now {
        0 => Err("connection reset".into()),
        _ => Ok(()),
    });
    pacemaker.during_progress(|_| stage.run_until(999));
    let calls: Vec<_> = calls.try_iter().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(pacemaker.stats().beats, 1);
}

#[test]
fn progress_is_good_for_one_tick_and_its_retries() {
    let stage = Stage::new();
    let (mut pacemaker, calls) = stage.start(steady().idle(), |now| match now {
        0..1_000 => Err("connection reset".into()),
        _ => Ok(()),
    });
    // The work hangs from the start. After one tick its progress is too old to be reported.
    pacemaker.during_progress(|_| stage.run_until(10_000));
    assert!(calls.try_iter().all(|call| call < 1_000));
    assert_eq!(pacemaker.stats().beats, 0);
}

#[test]
fn a_beat_that_a_retry_made_uses_up_the_progress_of_its_time() {
    let stage = Stage::new();
    let (mut pacemaker, calls) = stage.start(steady().idle(), |now| match now {
        0 => Err("connection reset".into()),
        _ => Ok(()),
    });
    pacemaker.during_progress(|progress| {
        stage.run_until(10);
        progress.made();
        stage.run_until(10_000);
    });
    assert_eq!(calls.try_iter().count(), 2);
}

#[test]
fn progress_of_earlier_work_shows_nothing_of_later_work() {
    let stage = Stage::new();
    let (mut pacemaker, calls) = stage.start(steady().idle(), |_| Ok(()));
    let earlier = pacemaker.during_progress(Clone::clone);
    pacemaker.during_progress(|_| {
        stage.run_until(500);
        earlier.made();
        stage.run_until(10_000);
    });
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [0]);
}

/// Panics when it is dropped, without output from the panic hook.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("for the test"));
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

#[test]
fn an_error_that_panics_as_it_is_dropped_leaves_its_pacemaker_running() {
    let stage = Stage::new();
    let (pacemaker, calls) = stage.start(steady().offline_after(1), |_| Err(Box::new(Bomb)));
    stage.run_until(2_500);
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), [0, 1_000, 2_000]);
    assert_eq!(pacemaker.stats().failures, 3);
}

#[test]
fn a_beat_function_that_panics_as_it_is_dropped_keeps_nobody_from_saying_goodbye() {
    let stage = Stage::new();
    let (said, goodbyes) = unbounded();
    let bomb = Bomb;
    let beat = move |_| {
        let _owned = &bomb;
        Ok(())
    };
    let options = steady().goodbye(move || said.send(()));
    let (pacemaker, _calls) = stage.start(options, beat);
    pacemaker.stop();
    assert_eq!(goodbyes.len(), 1);
}
