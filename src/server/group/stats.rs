//! The statistics of a group.

use std::fmt;
use std::time::Duration;

use super::shared::Shared;
use super::slow::SlowCounts;
use super::timers::TimerCounts;
use super::work::Kind;
use crate::clock::Timestamp;
use crate::stats::Histogram;

/// The statistics of a group, returned by [`Group::stats`](super::Group::stats). They are exact at the moment of the
/// call. Three equations hold at every moment:
///
/// * `accepted = waiting + running + done + panicked + withdrawn + discarded`
/// * `slow_accepted = slow_waiting + slow_running + slow_returned + slow_done + slow_discarded`
/// * `timers_set = timers_pending + timers_ended + timers_cancelled + timers_discarded`
///
/// ```
/// use std::time::Duration;
/// use liveness::server::Group;
///
/// let world = Group::builder("world").spawn(0)?;
/// world.post(|n| *n += 1)?;
/// world.call(|_| panic!("a fault")).unwrap_or_else(|error| println!("{error}"));
/// world.after(Duration::from_secs(60), |n| *n += 1)?;
/// let stats = world.stats();
/// assert!(stats.is_balanced());
/// assert_eq!((stats.accepted, stats.done, stats.panicked, stats.timers_pending), (2, 1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupStats {
    /// Jobs that the inbox accepted: closures, calls, messages, and changes of chains.
    pub accepted: u64,
    /// Jobs that wait in the inbox now.
    pub waiting: u64,
    /// Jobs that run now: zero or one.
    pub running: u64,
    /// Jobs that ran to their end.
    pub done: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Calls that were withdrawn, because they did not start in time.
    pub withdrawn: u64,
    /// Jobs that a stop discarded.
    pub discarded: u64,
    /// Closures, values, timers and receivers that were refused.
    pub refused: u64,
    /// Slow calls that were accepted.
    pub slow_accepted: u64,
    /// Slow calls that wait for a thread now.
    pub slow_waiting: u64,
    /// Slow calls that run now.
    pub slow_running: u64,
    /// Slow calls whose callback waits or runs now.
    pub slow_returned: u64,
    /// Slow calls whose callback has run.
    pub slow_done: u64,
    /// Slow calls that a stop discarded, before or after they ran.
    pub slow_discarded: u64,
    /// Slow calls that panicked. Their callbacks are called too.
    pub slow_panicked: u64,
    /// Timers that were set.
    pub timers_set: u64,
    /// Timers that are pending now.
    pub timers_pending: u64,
    /// Timers that were called for the last time.
    pub timers_ended: u64,
    /// Timers that were cancelled.
    pub timers_cancelled: u64,
    /// Timers that were pending when the group stopped.
    pub timers_discarded: u64,
    /// Calls of timers.
    pub timer_calls: u64,
    /// Ticks of timers that were skipped, because the group was late by more than their interval.
    pub skipped_ticks: u64,
    /// Receivers that are attached now.
    pub attached: u64,
    /// Items of attached receivers that were handled.
    pub items: u64,
    /// Panics on the group's thread: of jobs, callbacks of slow calls, timers and items.
    pub panics: u64,
    /// The time from when timers were due to their calls.
    pub lateness: Histogram,
    /// The time that calls of user code took on the group's thread.
    pub run_time: Histogram,
}

impl GroupStats {
    /// Returns whether the account balances.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let jobs = self.waiting + self.running + self.done;
        let jobs = jobs + self.panicked + self.withdrawn + self.discarded;
        let slow = self.slow_waiting + self.slow_running + self.slow_returned;
        let slow = slow + self.slow_done + self.slow_discarded;
        let timers = self.timers_pending + self.timers_ended;
        let timers = timers + self.timers_cancelled + self.timers_discarded;
        (self.accepted, self.slow_accepted, self.timers_set) == (jobs, slow, timers)
    }
}

impl fmt::Display for GroupStats {
    /// Writes the numbers on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted = {} waiting + {} running + {} done + {} panicked + {} withdrawn + {} discarded; {} refused, \
             {} slow, {} timer calls, {} items, {} panics, late p99 {:.3?}, run p50 {:.3?} p99 {:.3?} max {:.3?}",
            self.accepted,
            self.waiting,
            self.running,
            self.done,
            self.panicked,
            self.withdrawn,
            self.discarded,
            self.refused,
            self.slow_accepted,
            self.timer_calls,
            self.items,
            self.panics,
            self.lateness.quantile(0.99),
            self.run_time.quantile(0.5),
            self.run_time.quantile(0.99),
            self.run_time.max(),
        )
    }
}

/// The call of user code that a group's thread is in, returned by [`Group::busy`](super::Group::busy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busy {
    /// Where the call comes from.
    pub kind: Kind,
    /// When it began, by the group's clock.
    pub since: Timestamp,
    /// How long it has run.
    pub duration: Duration,
}

impl<S: Send + 'static> Shared<S> {
    /// The statistics.
    pub(super) fn stats(&self) -> GroupStats {
        let state = self.state.lock();
        let is_job = |kind| !matches!(kind, Kind::Slow | Kind::Timer | Kind::Attached);
        let counts = state.counts.clone();
        let SlowCounts {
            accepted: slow_accepted,
            running: slow_running,
            returned: slow_returned,
            done: slow_done,
            discarded: slow_discarded,
            panicked: slow_panicked,
        } = state.slow.counts;
        let TimerCounts {
            set,
            ended,
            cancelled,
            discarded,
            calls,
            skipped,
        } = state.timers.counts;
        GroupStats {
            accepted: counts.accepted,
            waiting: (state.inbox.len() - state.callbacks) as u64,
            running: state.running.is_some_and(|(kind, _)| is_job(kind)).into(),
            done: counts.done,
            panicked: counts.panicked,
            withdrawn: counts.withdrawn,
            discarded: counts.discarded,
            refused: counts.refused,
            slow_accepted,
            slow_waiting: state.slow.queue.len() as u64,
            slow_running,
            slow_returned,
            slow_done,
            slow_discarded,
            slow_panicked,
            timers_set: set,
            timers_pending: state.timers.pending() as u64,
            timers_ended: ended,
            timers_cancelled: cancelled,
            timers_discarded: discarded,
            timer_calls: calls,
            skipped_ticks: skipped,
            attached: state.attached as u64,
            items: counts.items,
            panics: counts.panics,
            lateness: counts.lateness,
            run_time: counts.run_time,
        }
    }

    /// The call of user code that runs.
    pub(super) fn busy(&self) -> Option<Busy> {
        let (kind, began) = self.state.lock().running?;
        let since = Timestamp::from_nanos(began);
        let duration = self.clock.now() - since;
        Some(Busy {
            kind,
            since,
            duration,
        })
    }
}
