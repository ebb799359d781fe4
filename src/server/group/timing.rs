//! Setting and cancelling timers from any thread.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use super::error::{PostError, PostErrorKind};
use super::shared::Shared;
use super::timers::Tick;
use crate::clock::nanos;
use crate::panic::discard;

/// Cancels timers of a group, whatever its state is.
pub(super) trait Cancel: Send + Sync {
    /// Cancels timer `id`. Returns whether it was pending.
    fn cancel(&self, id: u64) -> bool;

    /// Returns whether timer `id` is pending.
    fn is_pending(&self, id: u64) -> bool;
}

impl<S: Send + 'static> Cancel for Shared<S> {
    fn cancel(&self, id: u64) -> bool {
        let cancelled = self.state.lock().timers.cancel(id);
        let was_pending = cancelled.is_some();
        discard(cancelled);
        was_pending
    }

    fn is_pending(&self, id: u64) -> bool {
        self.state.lock().timers.is_pending(id)
    }
}

impl<S: Send + 'static> Shared<S> {
    /// Sets a timer that is called once.
    pub(super) fn after<F>(&self, delay: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnOnce(&mut S) + Send + 'static,
    {
        self.set_timer(nanos(delay), None, code, |code| {
            let mut code = Some(code);
            Box::new(move |state| {
                if let Some(code) = code.take() {
                    code(state);
                }
                false
            })
        })
    }

    /// Sets a timer that is called at each interval.
    pub(super) fn every<F>(&self, interval: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnMut(&mut S) + Send + 'static,
    {
        let interval = nanos(interval).max(1);
        self.set_timer(interval, Some(interval), code, |mut code| {
            Box::new(move |state| {
                code(state);
                true
            })
        })
    }

    /// Sets a timer that is called at each interval while it returns `true`.
    pub(super) fn every_while<F>(&self, interval: Duration, code: F) -> Result<Timer, PostError<F>>
    where
        F: FnMut(&mut S) -> bool + Send + 'static,
    {
        let interval = nanos(interval).max(1);
        self.set_timer(interval, Some(interval), code, |code| Box::new(code))
    }

    /// Sets a timer that is due after `delay` ns, whose code is made of `code`.
    fn set_timer<F>(
        &self,
        delay: u64,
        interval: Option<u64>,
        code: F,
        make: impl FnOnce(F) -> Tick<S>,
    ) -> Result<Timer, PostError<F>> {
        let mut state = self.state.lock();
        let reason = if state.stopping.is_stopped {
            PostErrorKind::Stopped
        } else if state.timers.pending() >= self.settings.max_timers {
            PostErrorKind::Full
        } else {
            let due = self.clock.now_ns().saturating_add(delay);
            let id = state.timers.set(due, interval, make(code));
            if state.asleep.is_some_and(|asleep| due < asleep.until) {
                self.wake(state);
            }
            let group: Weak<dyn Cancel> = self.this.clone();
            return Ok(Timer { group, id });
        };
        state.counts.refused += 1;
        drop(state);
        Err(PostError::new(reason, code))
    }
}

/// A handle to a timer, returned by [`after`](super::Group::after) and [`every`](super::Group::every).
///
/// Dropping it does not cancel the timer, and it does not keep the group alive.
///
/// ```
/// use std::time::Duration;
/// use liveness::{ManualClock, server::Group};
///
/// let clock = ManualClock::new();
/// let world = Group::builder("world").clock(clock.clone()).spawn(Vec::new())?;
/// let s = Duration::from_secs;
/// let tea = world.after(s(5), |done| done.push("tea"))?;
/// world.after(s(6), |done| done.push("cake"))?;
/// assert!(tea.is_pending() && tea.cancel() && !tea.cancel());
/// clock.advance(s(6));
/// assert_eq!(world.call(|done| done.clone())?, ["cake"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Timer {
    /// The group.
    group: Weak<dyn Cancel>,
    /// The timer's id.
    id: u64,
}

impl Timer {
    /// Cancels the timer, and drops its closure unless it runs at this moment. Returns `true` if it was pending: then
    /// no call begins after this. A timer that repeats is pending also while it runs, so its closure may cancel it.
    /// Costs O(1).
    #[expect(clippy::must_use_candidate, reason = "often of no interest")]
    pub fn cancel(&self) -> bool {
        let group = self.group.upgrade();
        group.is_some_and(|group| group.cancel(self.id))
    }

    /// Returns whether the timer is pending: it was not cancelled, the group is not stopped, and a call of it is to
    /// come or runs.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let group = self.group.upgrade();
        group.is_some_and(|group| group.is_pending(self.id))
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("is_pending", &self.is_pending())
            .finish_non_exhaustive()
    }
}
