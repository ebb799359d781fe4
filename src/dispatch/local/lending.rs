//! Events of another store, which lends them for one attempt each.

#![cfg_attr(
    all(any(loom, shuttle), not(feature = "redis")),
    expect(dead_code, reason = "the models use only a part of it")
)]

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::entry::Payload;
use crate::dispatch::cause::Cause;
use crate::dispatch::id::EventId;
use crate::dispatch::inspect::Cancelled;
use crate::dispatch::lease::Lease;
use crate::dispatch::plan::{Removed, TopicId};
use crate::panic::discard;

/// The limits of a topic, combined from those of its handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Combined {
    /// How many of its events run at a time in this process, if limited.
    pub(crate) parallel: Option<usize>,
    /// How many of its events run at a time in all processes, if limited.
    pub(crate) parallel_everywhere: Option<usize>,
    /// How many of its events start in a period, if limited.
    pub(crate) rate: Option<(u32, Duration)>,
}

/// An event that the store lends.
pub(crate) struct Leased {
    /// The event, of the type with which its topic is used.
    pub(crate) event: Arc<dyn Any + Send + Sync>,
    /// Its headers, if any.
    pub(crate) headers: Option<Arc<[(String, String)]>>,
    /// When it is or was due, ns of the dispatcher's clock.
    pub(crate) due: u64,
    /// What the store knows about it.
    pub(crate) lease: Lease,
}

impl Core {
    /// The number of the topic `name`, if it has had a handler. It never changes.
    pub(crate) fn topic(&self, name: &str) -> Option<TopicId> {
        self.state.lock().names.get(name).copied()
    }

    /// The combined limits of the handlers of `topic`; `None` if it has no handler.
    pub(crate) fn combined(&self, topic: TopicId) -> Option<Combined> {
        let state = self.state.lock();
        let handlers = &state.topics[topic.at()].view.handlers;
        let options = || handlers.iter().map(|handler| &handler.options);
        (!handlers.is_empty()).then(|| Combined {
            parallel: options().filter_map(|on| on.parallel).min(),
            parallel_everywhere: options().filter_map(|on| on.parallel_everywhere).min(),
            rate: options()
                .max_by_key(|on| on.interval_ns())
                .and_then(|on| on.rate),
        })
    }

    /// Takes events of `topic` for one attempt each, and returns the ids that they have in the plan, in their order.
    ///
    /// # Errors
    ///
    /// Returns the events if the topic has no handler, or the dispatcher is stopped.
    pub(crate) fn lend(
        &self,
        topic: TopicId,
        events: Vec<Leased>,
    ) -> Result<Vec<EventId>, Vec<Leased>> {
        let mut state = self.state.lock();
        if state.is_stopped || !state.plan.has_handler(topic) {
            return Err(events);
        }
        let now = self.clock.now_ns();
        let accept = |leased: Leased| {
            let payload = Payload {
                event: leased.event,
                headers: leased.headers,
                lease: Some(Arc::new(leased.lease)),
            };
            let emitted = state.plan.emit(topic, payload, Some(leased.due), None, now);
            emitted
                .expect("there is a handler, and room without limit")
                .id
        };
        let ids = events.into_iter().map(accept).collect();
        self.wake(state, now);
        Ok(ids)
    }

    /// Takes back the event that has the id `id` in the plan. If it waits, it does not start; if it runs, its call is
    /// requested to end with `cause`. Returns `false` if its attempt has ended. If this returns `true`, the outcome is
    /// not settled.
    pub(crate) fn recall(&self, topic: TopicId, id: EventId, cause: Cause) -> bool {
        let state = self.state.lock();
        self.cancel_for(state, topic, id, cause) != Cancelled::Unknown
    }

    /// Takes back those of the events `ids` of `topic`, by their ids in the plan, that have not started, and returns
    /// them. Their outcomes are not settled.
    pub(crate) fn take_back(&self, topic: TopicId, ids: Vec<EventId>) -> Vec<EventId> {
        let mut state = self.state.lock();
        let runs = state.crew.workers.iter().filter_map(|worker| worker.runs);
        let runs = runs.filter(|token| token.topic == topic);
        let running: Vec<_> = runs.map(|token| token.id).collect();
        let mut taken = Vec::new();
        let mut payloads = Vec::new();
        for id in ids {
            if !running.contains(&id)
                && let Removed::Waiting(payload) = state.plan.cancel(topic, id)
            {
                taken.push(id);
                payloads.push(payload);
            }
        }
        drop(state);
        payloads.into_iter().for_each(discard);
        taken
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("due", &self.due)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
