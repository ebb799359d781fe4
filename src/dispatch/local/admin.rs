//! Inspecting and changing events and topics.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::core::{Core, State};
use super::entry::Payload;
use crate::clock::Timestamp;
use crate::dispatch::cause::Cause;
use crate::dispatch::error::EmitErrorKind;
use crate::dispatch::id::EventId;
use crate::dispatch::inspect::{Cancelled, Counts, Dead, Waiting};
use crate::dispatch::notice::Notice;
use crate::dispatch::options::Due;
use crate::dispatch::plan::{Entry, Removed, TopicId};
use crate::dispatch::stats::{DispatchStats, TopicStats};
use crate::dispatch::topic::Topic;
use crate::panic::discard;
use crate::sync::{Instant, MutexGuard};

impl Core {
    /// Cancels an event.
    pub(crate) fn cancel<T: 'static>(&self, topic: &Topic<T>, id: EventId) -> Cancelled {
        let mut state = self.state.lock();
        let Some(topic) = state.known(topic) else {
            return Cancelled::Unknown;
        };
        self.cancel_for(state, topic, id, Cause::Cancelled)
    }

    /// Cancels an event. If it runs, its call is requested to end with `cause`.
    pub(super) fn cancel_for(
        &self,
        mut state: MutexGuard<'_, State>,
        topic: TopicId,
        id: EventId,
        cause: Cause,
    ) -> Cancelled {
        let removed = state.plan.cancel(topic, id);
        let running = match &removed {
            Removed::Running(token) => {
                Some((state.crew.worker(token.runner).seat.clone(), token.fence))
            }
            _ => None,
        };
        if state.room_waiters > 0 {
            self.room_came.notify_all();
        }
        drop(state);
        if let Some((seat, fence)) = running {
            seat.cancel(fence, cause);
        }
        let (cancelled, payload) = match removed {
            Removed::Waiting(payload) => (Cancelled::Waiting, payload),
            Removed::Running(_) => return Cancelled::Running,
            Removed::Dead(payload) => (Cancelled::Dead, payload),
            Removed::Unknown => return Cancelled::Unknown,
        };
        discard(payload);
        cancelled
    }

    /// Moves an event that waits to another due time. Returns whether it waits.
    pub(crate) fn reschedule<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
        due: Due,
    ) -> Result<bool, EmitErrorKind> {
        let due = self.due_ns(due)?;
        let mut state = self.state.lock();
        if state.is_stopped {
            return Err(EmitErrorKind::Stopped);
        }
        let Some(topic) = state.known(topic) else {
            return Ok(false);
        };
        let now = self.clock.now_ns();
        let is_moved = state.plan.reschedule(topic, id, due.unwrap_or(now), now);
        self.wake(state, now);
        Ok(is_moved)
    }

    /// Pauses or resumes a topic. Returns whether this changed its state.
    pub(crate) fn set_paused<T: 'static>(&self, topic: &Topic<T>, is_paused: bool) -> bool {
        let mut state = self.state.lock();
        let Some(id) = state.known(topic) else {
            return false;
        };
        let is_changed = state.plan.set_paused(id, is_paused);
        self.wake(state, self.clock.now_ns());
        if is_changed {
            let topic = topic.name().to_owned();
            self.notify(if is_paused {
                Notice::Paused { topic }
            } else {
                Notice::Resumed { topic }
            });
        }
        is_changed
    }

    /// The next events of a topic.
    pub(crate) fn peek<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Vec<Waiting<T>> {
        let mut state = self.state.lock();
        let entries = state.known(topic).map(|id| state.plan.peek(id, max));
        drop(state);
        let waiting = |entry: Entry<Payload>| Waiting {
            id: entry.id,
            due: self.wall(entry.due),
            attempts: entry.attempts,
            error: entry.rest.map(|rest| rest.error.clone()),
            event: typed(entry.payload.event),
        };
        entries
            .unwrap_or_default()
            .into_iter()
            .map(waiting)
            .collect()
    }

    /// The dead events of a topic.
    pub(crate) fn dead<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Vec<Dead<T>> {
        let mut state = self.state.lock();
        let entries = state.known(topic).map(|id| state.plan.dead(id, max));
        drop(state);
        let dead = |(at, entry): (u64, Entry<Payload>)| {
            let rest = entry.rest.as_deref().cloned().unwrap_or_default();
            Dead {
                id: entry.id,
                died: self.wall(at),
                attempts: entry.attempts,
                handlers: rest.failed.iter().map(ToString::to_string).collect(),
                error: rest.error,
                event: typed(entry.payload.event),
            }
        };
        entries.unwrap_or_default().into_iter().map(dead).collect()
    }

    /// Replays dead events.
    pub(crate) fn replay<T: 'static>(&self, topic: &Topic<T>, max: usize) -> usize {
        let mut state = self.state.lock();
        let Some(id) = state.known(topic).filter(|_| !state.is_stopped) else {
            return 0;
        };
        let now = self.clock.now_ns();
        let count = state.plan.replay(id, max, now);
        self.wake(state, now);
        count
    }

    /// Removes the dead events of a topic.
    pub(crate) fn purge<T: 'static>(&self, topic: &Topic<T>) -> usize {
        let mut state = self.state.lock();
        let Some(id) = state.known(topic) else {
            return 0;
        };
        let purged = state.plan.purge(id);
        drop(state);
        let count = purged.len();
        purged.into_iter().for_each(discard);
        count
    }

    /// The number of events of a topic in each state.
    pub(crate) fn counts<T: 'static>(&self, topic: &Topic<T>) -> Counts {
        let mut state = self.state.lock();
        let Some(id) = state.known(topic) else {
            return Counts::default();
        };
        let counts = state.plan.counts(id);
        let now = self.clock.now_ns();
        let ready = state.plan.due_by(id, now);
        Counts {
            scheduled: counts.waiting as usize - ready,
            ready,
            running: counts.running as usize,
            dead: state.plan.dead_len(id),
            is_paused: state.plan.is_paused(id),
        }
    }

    /// The statistics.
    pub(crate) fn stats(&self) -> DispatchStats {
        let state = self.state.lock();
        let ids = state.names.values();
        let mut ids: Vec<_> = ids.copied().collect();
        ids.sort_unstable();
        DispatchStats {
            topics: ids.into_iter().map(|id| state.topic_stats(id)).collect(),
            refused: state.refused,
            stuck: state.stuck,
            skipped_ticks: state.schedules.skipped,
            panics: state.panics,
            lost_notices: state.lost_notices,
        }
    }

    /// `ns` of the clock as wall-clock time.
    pub(super) fn wall(&self, ns: u64) -> SystemTime {
        self.clock.system_time(Timestamp::from_nanos(ns))
    }

    /// Blocks until no event is ready or runs, for at most `wait`. Returns whether none is. A worker does not wait.
    pub(crate) fn flush(&self, wait: Duration) -> bool {
        let deadline = Instant::now().checked_add(wait);
        let mut state = self.state.lock();
        loop {
            let now = self.clock.now_ns();
            let is_due = state.next_due().is_some_and(|due| due <= now);
            if !is_due && !state.plan.is_ready(now) && !state.plan.is_busy() && state.ticking == 0 {
                return true;
            }
            if self.runs_here()
                || state.is_stopped
                || deadline.is_some_and(|deadline| Instant::now() >= deadline)
            {
                return false;
            }
            state.flush_waiters += 1;
            match deadline {
                None => self.call_ended.wait(&mut state),
                Some(deadline) => drop(self.call_ended.wait_until(&mut state, deadline)),
            }
            state.flush_waiters -= 1;
        }
    }
}

impl State {
    /// The number of `topic`, if it is known with this type.
    pub(super) fn known<T: 'static>(&mut self, topic: &Topic<T>) -> Option<TopicId> {
        let id = *self.names.get(topic.name())?;
        self.topics[id.at()].has_type::<T>().then_some(id)
    }

    /// The statistics of topic `id`.
    fn topic_stats(&self, id: TopicId) -> TopicStats {
        let entry = &self.topics[id.at()];
        let counts = self.plan.counts(id);
        TopicStats {
            topic: entry.view.name.to_string(),
            emitted: counts.emitted,
            waiting: counts.waiting,
            running: counts.running,
            dead: self.plan.dead_len(id) as u64,
            done: counts.done,
            cancelled: counts.cancelled,
            purged: counts.purged,
            discarded: counts.discarded,
            lost: 0,
            died: counts.died,
            replayed: counts.replayed,
            retried: counts.retried,
            put_off: counts.put_off,
            lapsed: 0,
            stale: entry.stale,
            panics: entry.panics,
            lateness: entry.lateness.clone(),
            run_time: entry.run_time.clone(),
        }
    }
}

/// An event of a topic whose type is `T`.
fn typed<T: Send + Sync + 'static>(event: Arc<dyn Any + Send + Sync>) -> Arc<T> {
    event.downcast().expect("the topic has one type")
}
