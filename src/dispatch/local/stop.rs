//! Stopping: waiting events are returned, calls that exceed the time limit are interrupted, and threads are joined or
//! reported.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::dispatch::cause::Cause;
use crate::dispatch::id::EventId;
use crate::panic::discard;
use crate::sync::Instant;

/// How long calls may take to return after they are interrupted. A handler that waits by
/// [`Context::wait`](crate::dispatch::Context::wait) returns within this.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// An event that waited when the dispatcher stopped. See [`Dispatcher::stop`](crate::dispatch::Dispatcher::stop) for an
/// example.
pub struct Undone {
    /// The event's id.
    pub id: EventId,
    /// Its topic.
    pub topic: String,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The event.
    event: Arc<dyn Any + Send + Sync>,
}

impl Undone {
    /// Returns the event, if it has type `T` and no running handler uses it.
    ///
    /// # Errors
    ///
    /// Returns `self` if the event has another type, or if a running handler still uses it.
    pub fn into_event<T: Send + Sync + 'static>(self) -> Result<T, Self> {
        let Undone {
            id,
            topic,
            attempts,
            event,
        } = self;
        let back = |event| Undone {
            id,
            topic: topic.clone(),
            attempts,
            event,
        };
        let event = event.downcast::<T>().map_err(&back)?;
        Arc::try_unwrap(event).map_err(|event| back(event))
    }
}

impl fmt::Debug for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undone")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// The result of stopping a dispatcher.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "it has the events that a local dispatcher did not run, and the threads that still run"]
pub struct Summary {
    /// The events that waited, in the order in which they were due.
    pub undone: Vec<Undone>,
    /// The names of threads that are still in a call of a handler.
    pub still_running: Vec<String>,
}

impl Core {
    /// Stops: see [`Dispatcher::stop`](crate::dispatch::Dispatcher::stop).
    pub(crate) fn stop(&self, within: Duration) -> Summary {
        let deadline = Instant::now().checked_add(within);
        self.state.lock().is_stopped = true;
        for sleepers in [
            &self.due_changed,
            &self.work_came,
            &self.room_came,
            &self.call_ended,
        ] {
            sleepers.notify_all();
        }
        let is_own = self.runs_here();
        if !self.wait_for_workers(is_own, deadline) {
            self.interrupt();
            self.wait_for_workers(is_own, Instant::now().checked_add(GRACE));
        }
        self.close_monitor();
        let mut summary = self.take_undone();
        self.take_handlers().into_iter().for_each(discard);
        self.take_schedules().into_iter().for_each(discard);
        summary.still_running = self.join(is_own);
        summary
    }

    /// Waits until `deadline` for all workers to end, except the current thread. Returns whether they have.
    fn wait_for_workers(&self, is_own: bool, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.crew.running > usize::from(is_own) {
            match deadline {
                None => self.call_ended.wait(&mut state),
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => drop(self.call_ended.wait_until(&mut state, deadline)),
            }
        }
        true
    }

    /// Interrupts all calls.
    fn interrupt(&self) {
        let state = self.state.lock();
        let running = state.crew.workers.iter();
        let running = running.filter_map(|worker| Some((worker.seat.clone(), worker.runs?.fence)));
        let running: Vec<_> = running.collect();
        drop(state);
        for (seat, fence) in running {
            seat.cancel(fence, Cause::Interrupted);
        }
    }

    /// Takes all events that wait.
    fn take_undone(&self) -> Summary {
        let mut state = self.state.lock();
        state.is_drained = true;
        let drained = state.plan.drain();
        let undone = drained.into_iter().map(|(topic, entry)| Undone {
            id: entry.id,
            topic: state.topics[topic.at()].view.name.to_string(),
            attempts: entry.attempts,
            event: entry.payload.event,
        });
        Summary {
            undone: undone.collect(),
            still_running: Vec::new(),
        }
    }

    /// Joins the threads that have ended, and returns the names of the others.
    fn join(&self, is_own: bool) -> Vec<String> {
        let mut ended = Vec::new();
        let mut still_running = Vec::new();
        let mut state = self.state.lock();
        for worker in &mut state.crew.workers {
            if worker.has_ended {
                ended.extend(worker.thread.take());
            } else if !(is_own && worker.is_current()) {
                still_running.push(worker.name.clone());
            }
        }
        drop(state);
        // A panic of a handler was caught and counted where it happened.
        for thread in ended {
            drop(thread.join());
        }
        still_running
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
