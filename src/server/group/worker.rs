//! The thread of a group: it owns the state, and calls all closures.
//!
//! Timers that are due come first, then the inbox, then attached receivers. So that none of them starves the others,
//! at most [`TURN`] come from one of them in a row while another has something.

use std::sync::Arc;

use super::deadlock;
use super::shared::{Asleep, Job, Shared, State};
use super::sources::Sources;
use super::timers::Due;
use super::work::Kind;
use crate::clock::NEVER;
use crate::panic::{catch_text, discard};
use crate::sync::{Instant, MutexGuard, sized};

/// How many timers, jobs or items of one receiver come in a row while others wait.
pub(super) const TURN: usize = sized(64, 2);

/// What the thread does next.
enum Next<S> {
    /// It runs a job.
    Job(Job<S>),
    /// It calls a timer.
    Timer(Due<S>),
    /// It looks at the receivers.
    Receive,
    /// It ends.
    End,
}

/// The thread of a group.
pub(super) struct Worker<S> {
    /// What it shares with callers.
    shared: Arc<Shared<S>>,
    /// The user's state.
    state: S,
    /// The attached receivers.
    sources: Sources<S>,
    /// How many timers were called in a row.
    timers: usize,
    /// How many jobs were run in a row.
    jobs: usize,
    /// Whether the receivers were empty when they were last looked at, in this turn of the inbox and without a sleep
    /// since.
    are_sources_empty: bool,
}

impl<S: Send + 'static> Worker<S> {
    /// Runs on the current thread until the group stops.
    pub(super) fn run(shared: Arc<Shared<S>>, state: S) {
        deadlock::enter(shared.id);
        let mut worker = Worker {
            shared,
            state,
            sources: Sources::new(),
            timers: 0,
            jobs: 0,
            are_sources_empty: false,
        };
        loop {
            match worker.next() {
                Next::Job(job) => worker.run_job(job),
                Next::Timer(due) => worker.run_timer(due),
                Next::Receive => worker.receive(),
                Next::End => break,
            }
        }
        let Worker {
            shared,
            state,
            mut sources,
            ..
        } = worker;
        shared.state.lock().attached = 0;
        sources.take_all().into_iter().for_each(discard);
        shared.end_group(state);
    }

    /// Selects what to do next, and sleeps while there is nothing.
    fn next(&mut self) -> Next<S> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        loop {
            let stops = state.stopping.is_stopped;
            let is_new = self.sources.take_over(&mut state.arriving, stops);
            let was_detached = std::mem::take(&mut state.was_detached);
            self.are_sources_empty &= !(is_new || was_detached);
            if state.stopping.is_cut() {
                return Next::End;
            }
            // Read under the lock: a timer that was due when a job was accepted is due now.
            let now = shared.clock.now_ns();
            if self.timers < TURN
                && let Some(due) = state.timers.take_due(now)
            {
                self.timers += 1;
                state.begin(Kind::Timer, now);
                return Next::Timer(due);
            }
            self.timers = 0;
            if self.jobs >= TURN {
                self.are_sources_empty = false;
            }
            let may_receive = !self.sources.is_empty() && !self.are_sources_empty;
            if !(may_receive && self.jobs >= TURN)
                && let Some(job) = state.take_job()
            {
                self.jobs += 1;
                state.begin(job.0, now);
                if state.room_waiters > 0 {
                    shared.room_came.notify_one();
                }
                return Next::Job(job);
            }
            self.jobs = 0;
            if may_receive {
                return Next::Receive;
            }
            if state.has_ended(&self.sources) {
                return Next::End;
            }
            self.are_sources_empty = false;
            self.sleep(&mut state, now);
        }
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self, state: &mut MutexGuard<'_, State<S>>, now: u64) {
        let shared = &self.shared;
        let due = state.timers.next_due();
        if due.is_some_and(|due| due <= now) {
            return;
        }
        let selects = !self.sources.is_empty();
        state.asleep = Some(Asleep {
            until: due.unwrap_or(NEVER),
            selects,
        });
        if selects {
            let (bell, clock) = (&shared.bell.1, &shared.clock);
            MutexGuard::unlocked(state, || self.sources.select(bell, clock, due));
        } else if let Some(cut_at) = state.stopping.cut_at {
            shared.work_came.wait_until(state, cut_at);
        } else {
            shared.clock.wait_until(&shared.work_came, state, due);
        }
        state.asleep = None;
    }

    /// Runs a job. Its drop answers a caller, so it comes after the count.
    fn run_job(&mut self, (kind, mut work): Job<S>) {
        let outcome = catch_text(|| work.run(&mut self.state));
        let has_ended = outcome.as_ref().copied();
        self.finish(outcome.as_ref().err(), |state| match has_ended {
            _ if kind == Kind::Slow => state.slow.finished(),
            Ok(true) => state.counts.done += 1,
            Ok(false) => state.counts.withdrawn += 1,
            Err(_) => state.counts.panicked += 1,
        });
        discard(work);
    }

    /// Calls a timer, and puts it back if it repeats.
    fn run_timer(&mut self, mut due: Due<S>) {
        let outcome = catch_text(|| (due.tick)(&mut self.state));
        let now = self.shared.clock.now_ns();
        // A timer that panics goes on like any other code.
        let goes_on = *outcome.as_ref().unwrap_or(&true);
        let mut unneeded = None;
        self.finish(outcome.as_ref().err(), |state| {
            let (_, began) = state.running.unwrap_or((Kind::Timer, now));
            state.counts.lateness.record(began.saturating_sub(due.at));
            unneeded = state.timers.put_back(due, goes_on, now);
        });
        discard(unneeded);
    }

    /// Handles items of the next receiver that has some, and drops the receivers that have ended.
    fn receive(&mut self) {
        let filled = self.sources.find_filled();
        self.are_sources_empty = filled.is_none();
        if let Some(at) = filled {
            // An item is received only if it is handled at once, so none is lost at a stop.
            for left in (0..TURN).rev() {
                self.begin_item();
                let outcome = catch_text(|| self.sources.handle(at, &mut self.state));
                let is_cut = self.finish(outcome.as_ref().err(), |state| state.counts.items += 1);
                if is_cut || left == 0 || !self.sources.fill(at) {
                    break;
                }
            }
        }
        let ended = self.sources.take_ended();
        if !ended.is_empty() {
            self.shared.state.lock().attached -= ended.len();
            ended.into_iter().for_each(discard);
        }
    }

    /// Notes that the handling of an item begins.
    fn begin_item(&self) {
        let now = self.shared.clock.now_ns();
        self.shared.state.lock().begin(Kind::Attached, now);
    }

    /// Counts a call of user code that has returned, or `panicked` with a text. Returns whether the group ends now.
    fn finish(&self, panicked: Option<&String>, count: impl FnOnce(&mut State<S>)) -> bool {
        let name = &self.shared.settings.name;
        let mut state = self.shared.state.lock();
        count(&mut state);
        let now = self.shared.clock.now_ns();
        if let Some((kind, began)) = state.running.take() {
            state.counts.run_time.record(now.saturating_sub(began));
            if let Some(text) = panicked {
                crate::log::error!("group {name}: a closure ({kind}) panicked: {text}");
            }
        }
        if panicked.is_some() {
            state.counts.panics += 1;
            if self.shared.settings.on_panic.stops(state.counts.panics) {
                drop(state);
                crate::log::error!("group {name} stops after a panic");
                self.shared.begin_stop(Some(Instant::now()));
                return true;
            }
        }
        state.stopping.is_cut()
    }
}

impl<S> State<S> {
    /// Notes that a call of user code begins.
    fn begin(&mut self, kind: Kind, now: u64) {
        self.running = Some((kind, now));
    }

    /// Returns whether a stopped group has nothing left to do.
    fn has_ended(&self, sources: &Sources<S>) -> bool {
        self.stopping.is_stopped && sources.is_empty() && self.slow.unfinished() == 0
    }
}
