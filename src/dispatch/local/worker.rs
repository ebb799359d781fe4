//! The workers: each takes an event, [runs](super::run) it, and reports the result.
//!
//! One of the idle workers is the leader, which sleeps until the next event is due. The others are followers, which
//! sleep without a deadline. A leader that wakes with an event to run wakes a follower to lead in its place, so a due
//! event costs no thread switch.

use std::io;
use std::sync::Arc;

use super::core::{Core, State};
use super::crew::{CORE, Worker};
use super::entry::{Payload, View};
use super::run::Run;
use super::schedules::Tick;
use crate::clock::Clock;
use crate::dispatch::attempt::Outcome;
use crate::dispatch::context::Context;
use crate::dispatch::notice::Notice;
use crate::dispatch::plan::{Finished, Start, Token};
use crate::dispatch::seat::Seat;
use crate::panic::discard;
use crate::sync::atomic::Ordering;
use crate::sync::{MutexGuard, sized, thread};

/// How often a worker that has run out of work looks for more before it sleeps: about as long as it takes to wake one.
const SEARCHES: u32 = sized(16, 0) as u32;

/// What a worker does next.
enum Job {
    /// It runs an event of a topic, whose view is included.
    Event(Start<Payload>, Arc<View>),
    /// It emits the event of a schedule.
    Tick(Tick),
    /// It ends.
    End,
}

impl Core {
    /// Spawns a worker.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub(crate) fn spawn_worker(&self) -> io::Result<()> {
        self.spawn(&mut self.state.lock())
    }

    /// Spawns a worker, under the lock: the worker's first act is to take it.
    pub(super) fn spawn(&self, state: &mut State) -> io::Result<()> {
        let core = self.this.upgrade().expect("it is in use");
        let seat = Arc::<Seat>::default();
        // The place of a thread that was given up and has ended is taken again, so that their number is bounded.
        let workers = &mut state.crew.workers;
        let ended = workers.iter().position(|worker| worker.has_ended);
        let runner = ended.unwrap_or(workers.len()) as u32;
        let name = format!("{}-{runner}", self.settings.thread_name);
        let body_seat = seat.clone();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || core.work(runner, body_seat))?;
        state.crew.running += 1;
        let worker = Worker::new(name, seat, Some(thread));
        match ended {
            Some(at) => state.crew.workers[at] = worker,
            None => state.crew.workers.push(worker),
        }
        Ok(())
    }

    /// The body of worker `runner`.
    fn work(self: Arc<Self>, runner: u32, seat: Arc<Seat>) {
        CORE.with(|it| it.set(Arc::as_ptr(&self).cast()));
        let random = fastrand::Rng::with_seed(self.settings.seed.wrapping_add(runner.into()));
        let mut run = Run {
            core: &self,
            runner,
            context: Context::new(seat, self.clock.clone()),
            random,
        };
        let mut state = self.state.lock();
        let mut unneeded = None;
        let mut now = self.clock.now_ns();
        loop {
            match self.next_job(&mut state, runner, now, &mut unneeded) {
                Job::Event(start, view) => {
                    let outcome = MutexGuard::unlocked(&mut state, || {
                        discard(unneeded.take());
                        let outcome = run.attempt(&start, &view);
                        now = self.clock.now_ns();
                        outcome
                    });
                    let (rest, goes_on) =
                        self.end_attempt(&mut state, runner, start, view, outcome, now);
                    unneeded = Some(rest);
                    if !goes_on {
                        break;
                    }
                }
                Job::Tick(tick) => {
                    MutexGuard::unlocked(&mut state, || self.tick(tick));
                    now = self.clock.now_ns();
                }
                Job::End => break,
            }
        }
        // After a stop has taken the waiting events, no worker is left to run an event that is postponed.
        let late = if state.is_drained {
            state.plan.drain()
        } else {
            Vec::new()
        };
        // Dropped before the thread ends: the drop may call the dispatcher, which must recognize its worker.
        MutexGuard::unlocked(&mut state, || {
            discard(unneeded);
            late.into_iter().for_each(discard);
        });
        state.crew.worker(runner).has_ended = true;
        state.crew.running -= 1;
        drop(state);
        self.call_ended.notify_all();
    }

    /// Waits for what worker `runner`, which has read the clock at `now`, does next. `unneeded` is dropped before a
    /// sleep.
    fn next_job(
        &self,
        state: &mut MutexGuard<'_, State>,
        runner: u32,
        mut now: u64,
        unneeded: &mut Option<Unneeded>,
    ) -> Job {
        let mut has_searched = unneeded.is_none();
        while !state.is_stopped {
            if let Some(job) = state.take_job(runner, now, &self.clock) {
                // Another worker must run the other ready events, and lead until the next event is due.
                let idle = state.call_idle(now);
                self.notify_idle(idle);
                return job;
            }
            if unneeded.is_some() {
                // Before it counts as one that searches: the drop may take long. What has become due later is for
                // others.
                let idle = state.call_idle(now);
                self.notify_idle(idle);
                MutexGuard::unlocked(state, || discard(unneeded.take()));
            } else if has_searched {
                if state.flush_waiters > 0 {
                    self.call_ended.notify_all();
                }
                self.sleep(state, runner);
            } else {
                has_searched = true;
                state.searching += 1;
                MutexGuard::unlocked(state, || self.search());
                state.searching -= 1;
            }
            now = self.clock.now_ns();
        }
        Job::End
    }

    /// Waits for work, for less time than it takes to put a thread to sleep and to wake it.
    fn search(&self) {
        for _ in 0..SEARCHES {
            if self.has_work.load(Ordering::Acquire) {
                break;
            }
            thread::yield_now();
        }
        self.has_work.store(false, Ordering::Release);
    }

    /// Sleeps: as the leader until the next event is due, if there is one and no other worker leads.
    fn sleep(&self, state: &mut MutexGuard<'_, State>, runner: u32) {
        let due = state.next_due();
        if let (Some(due), Some((until, _))) = (due, state.leader)
            && due < until
        {
            state.leader = None;
            self.due_changed.notify_one();
        }
        if due.is_some() && state.leader.is_none() {
            state.leader = due.map(|due| (due, runner));
            self.clock.wait_until(&self.due_changed, state, due);
            if state.leader.is_some_and(|(_, leader)| leader == runner) {
                state.leader = None;
            }
        } else {
            state.followers += 1;
            self.work_came.wait(state);
            // The thread that woke this worker has already updated the count.
            if state.called > 0 {
                state.called -= 1;
            } else {
                state.followers -= 1;
            }
        }
    }

    /// Records the outcome of an attempt; `None` if it was given up. Returns values to drop without the lock, and
    /// whether the worker continues.
    fn end_attempt(
        &self,
        state: &mut MutexGuard<'_, State>,
        runner: u32,
        start: Start<Payload>,
        view: Arc<View>,
        outcome: Option<Outcome>,
        now: u64,
    ) -> (Unneeded, bool) {
        let Start {
            token,
            attempt,
            started,
            payload,
            ..
        } = start;
        let is_current = Arc::ptr_eq(&view, &state.topics[token.topic.at()].view);
        let worker = state.crew.worker(runner);
        worker.runs = None;
        let is_given_up = worker.is_given_up;
        let outdated = if is_current {
            worker.put_view(token.topic, view);
            None
        } else {
            Some(view)
        };
        if state.removers > 0 {
            self.call_ended.notify_all();
        }
        if outcome.is_none() || !state.plan.runs(token) {
            state.topics[token.topic.at()].stale += 1;
        }
        let payload = if let Some(outcome) = outcome {
            self.finish(state, token, attempt, started, payload, outcome, now)
        } else {
            state.crew.given_up -= usize::from(is_given_up);
            Some(payload)
        };
        // If it was given up and its thread was not replaced, the worker continues.
        ((payload, outdated), !is_given_up)
    }

    /// Passes the outcome of an attempt to the plan, and creates a notice if the event is dead. The outcome of a lent
    /// event is passed to its lender. Returns a payload to drop without the lock.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of an attempt that is over"
    )]
    pub(super) fn finish(
        &self,
        state: &mut MutexGuard<'_, State>,
        token: Token,
        attempts: u32,
        started: u64,
        payload: Payload,
        outcome: Outcome,
        now: u64,
    ) -> Option<Payload> {
        if payload.lease.is_some() {
            return self.settle(state, token, started, payload, outcome, now);
        }
        let rest = match &outcome {
            Outcome::Dead(rest) => Some(rest.clone()),
            _ => None,
        };
        let finished = state.plan.finish(token, payload, outcome, now);
        let run_time = now.saturating_sub(started);
        state.topics[token.topic.at()].run_time.record(run_time);
        if state.room_waiters > 0 {
            self.room_came.notify_all();
        }
        let (unneeded, is_dead) = match finished {
            Finished::Gone(payload) | Finished::Stale(payload) => (Some(payload), false),
            Finished::Dead(oldest) => (oldest, true),
            Finished::Again => (None, false),
        };
        if let Some(rest) = rest.filter(|_| is_dead) {
            let notice = Notice::Dead {
                topic: state.topics[token.topic.at()].view.name.to_string(),
                id: token.id,
                handlers: rest.failed.iter().map(ToString::to_string).collect(),
                attempts,
                error: rest.error,
            };
            // The callback may take long, and the topic may start another event.
            let idle = state.call_idle(now);
            self.notify_idle(idle);
            MutexGuard::unlocked(state, || self.notify(notice));
        }
        unneeded
    }

    /// Passes the outcome of an attempt at a lent event to its lender, unless the event was recalled. To the plan the
    /// event is done. Returns its payload.
    fn settle(
        &self,
        state: &mut MutexGuard<'_, State>,
        token: Token,
        started: u64,
        payload: Payload,
        outcome: Outcome,
        now: u64,
    ) -> Option<Payload> {
        let run_time = now.saturating_sub(started);
        state.topics[token.topic.at()].run_time.record(run_time);
        match state.plan.finish(token, payload, Outcome::Done, now) {
            Finished::Gone(payload) => {
                if let (Some(lender), Some(lease)) = (&self.settings.lender, &payload.lease) {
                    MutexGuard::unlocked(state, || {
                        lender.settle(token.topic, lease, outcome, started, now);
                    });
                }
                Some(payload)
            }
            Finished::Stale(payload) => Some(payload),
            Finished::Again | Finished::Dead(_) => None,
        }
    }
}

impl State {
    /// Takes the next job of worker `runner` at `now`. Ticks come first, but two in a row only if no event is ready: a
    /// schedule may be due again before its tick is over.
    fn take_job(&mut self, runner: u32, now: u64, clock: &Clock) -> Option<Job> {
        let had_tick = std::mem::take(&mut self.schedules.had_turn);
        if had_tick && let Some(start) = self.plan.next(runner, now) {
            return Some(self.begin_attempt(runner, start, now));
        }
        if let Some(tick) = self.schedules.next(now, clock) {
            self.schedules.had_turn = true;
            self.ticking += 1;
            return Some(Job::Tick(tick));
        }
        let start = self.plan.next(runner, now)?;
        Some(self.begin_attempt(runner, start, now))
    }

    /// Records that worker `runner` runs `start`.
    fn begin_attempt(&mut self, runner: u32, mut start: Start<Payload>, now: u64) -> Job {
        let topic = &mut self.topics[start.token.topic.at()];
        topic.lateness.record(now.saturating_sub(start.due));
        if let Some(lease) = &start.payload.lease {
            start.attempt = lease.attempts.saturating_add(1);
            start.rest.clone_from(&lease.rest);
        }
        let worker = self.crew.worker(runner);
        worker.runs = Some(start.token);
        worker.seat.begin(start.token.fence);
        let view = worker.take_view(start.token.topic);
        Job::Event(start, view.unwrap_or_else(|| topic.view.clone()))
    }
}

/// Values that a worker drops without the lock.
type Unneeded = (Option<Payload>, Option<Arc<View>>);
