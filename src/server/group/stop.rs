//! Stopping: what was accepted runs until a deadline, the rest is discarded, and threads are joined or reported.

use std::fmt;
use std::time::Duration;

use super::deadlock::{self, Wait};
use super::shared::{Job, Shared, State};
use super::slow::SlowWork;
use super::work::Kind;
use crate::panic::discard;
use crate::sync::{Instant, MutexGuard};

/// How long a thread that is between two jobs may take to end after the deadline.
const GRACE: Duration = Duration::from_millis(100);

/// The result of stopping a group.
///
/// ```
/// use std::time::Duration;
/// use liveness::server::Group;
///
/// let world = Group::builder("world").spawn(vec![1])?;
/// world.post(|list| list.push(2))?;
/// let report = world.stop(Duration::from_secs(5));
/// assert!(report.is_clean());
/// assert_eq!(report.state, Some(vec![1, 2]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[must_use = "it has the state, and says what did not run"]
pub struct Report<S> {
    /// The state. `None` if the group's thread has not ended, or if an earlier stop took the state.
    pub state: Option<S>,
    /// The names of the threads that are still in a call of user code.
    pub still_running: Vec<String>,
    /// How many accepted jobs and slow calls were discarded, by this stop or earlier ones. Timers that were pending are
    /// not included.
    pub discarded: u64,
}

impl<S> Report<S> {
    /// Returns whether all that was accepted has run, and all threads have ended.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.still_running.is_empty() && self.discarded == 0
    }
}

impl<S> fmt::Debug for Report<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("has_state", &self.state.is_some())
            .field("still_running", &self.still_running)
            .field("discarded", &self.discarded)
            .finish()
    }
}

/// Jobs and slow calls that did not run.
type Rest<S> = (Vec<Job<S>>, Vec<SlowWork<S>>);

impl<S> State<S> {
    /// Takes out everything that has not run. Nothing is accepted after this.
    fn close(&mut self) -> Rest<S> {
        self.stopping.is_closed = true;
        let mut jobs = Vec::with_capacity(self.inbox.len());
        while let Some(job) = self.take_job() {
            if job.0 == Kind::Slow {
                self.slow.counts.returned -= 1;
                self.slow.counts.discarded += 1;
            } else {
                self.counts.discarded += 1;
            }
            jobs.push(job);
        }
        (jobs, self.slow.discard_all().into())
    }
}

/// Drops what did not run, one by one, because each drop may panic.
fn discard_rest<S>((jobs, slow): Rest<S>) {
    jobs.into_iter().for_each(discard);
    slow.into_iter().for_each(discard);
}

impl<S> Shared<S> {
    /// Refuses whatever comes from now on, and discards at `cut_at` what has not run.
    pub(super) fn begin_stop(&self, cut_at: Option<Instant>) {
        let mut state = self.state.lock();
        let stopping = &mut state.stopping;
        stopping.is_stopped = true;
        stopping.cut_at = [stopping.cut_at, cut_at].into_iter().flatten().min();
        let timers = state.timers.discard_all();
        self.wake(state);
        self.room_came.notify_all();
        self.slow_came.notify_all();
        timers.into_iter().for_each(discard);
    }

    /// Stops the group: see [`Group::stop`](super::Group::stop).
    pub(super) fn stop(&self, within: Duration) -> Report<S> {
        let deadline = Instant::now().checked_add(within);
        self.begin_stop(deadline);
        // A closure of the group cannot wait for its own end.
        let wait = if deadlock::is_slow_of(self.id) {
            None
        } else {
            Wait::begin(self.id)
        };
        let mut state = self.state.lock();
        if wait.is_some() && !self.wait_for_threads(&mut state, deadline) {
            let more = Instant::now().checked_add(GRACE);
            if !self.wait_for_threads(&mut state, more) {
                let rest = state.close();
                MutexGuard::unlocked(&mut state, || discard_rest(rest));
            }
        }
        let mut ended = Vec::new();
        let mut still_running = Vec::new();
        for thread in &mut state.stopping.threads {
            if thread.has_ended {
                ended.extend(thread.handle.take());
            } else {
                still_running.push(thread.name.clone());
            }
        }
        let report = Report {
            state: state.stopping.state.take(),
            still_running,
            discarded: state.counts.discarded + state.slow.counts.discarded,
        };
        drop(state);
        // Panics of user code were caught and counted where they happened.
        for thread in ended {
            drop(thread.join());
        }
        report
    }

    /// Waits until `deadline` for all threads to end. Returns whether they have.
    fn wait_for_threads(
        &self,
        state: &mut MutexGuard<'_, State<S>>,
        deadline: Option<Instant>,
    ) -> bool {
        while !state.stopping.is_over() {
            match deadline {
                None => self.thread_ended.wait(state),
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => drop(self.thread_ended.wait_until(state, deadline)),
            }
        }
        true
    }

    /// Stops the group when the last handle on it is dropped.
    pub(super) fn abandon(&self, within: Duration) {
        self.state.lock().stopping.is_abandoned = true;
        discard(self.stop(within));
    }

    /// Ends the group's thread, which gives up `owned`.
    pub(super) fn end_group(&self, owned: S) {
        let mut state = self.state.lock();
        let rest = state.close();
        drop(state);
        self.slow_came.notify_all();
        discard_rest(rest);
        let mut owned = Some(owned);
        let mut state = self.state.lock();
        if state.stopping.is_abandoned {
            // Dropped by the thread that owned it.
            MutexGuard::unlocked(&mut state, || discard(owned.take()));
        }
        state.stopping.state = owned;
        state.stopping.threads[0].has_ended = true;
        drop(state);
        self.thread_ended.notify_all();
    }
}
