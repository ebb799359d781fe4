//! An event in the plan: what is kept of it in each place, and what operations say of it.

use std::sync::Arc;

use super::topic::{AtOnce, TopicId};
use crate::dispatch::attempt::Rest;
use crate::dispatch::id::EventId;

/// An event that waits or is dead, and is not in the deque of its topic.
#[derive(Debug)]
pub(super) struct Record<P> {
    /// Its topic.
    pub(super) topic: TopicId,
    /// When it is or was due, ns.
    pub(super) due: u64,
    /// The number of attempts that have begun and count.
    pub(super) attempts: u32,
    /// The remaining work after earlier attempts.
    pub(super) rest: Option<Arc<Rest>>,
    /// Its unique key, while it is unfinished.
    pub(super) unique: Option<Arc<str>>,
    /// When it became dead, ns; `None` while it waits.
    pub(super) died: Option<u64>,
    /// The payload.
    pub(super) payload: P,
}

/// An event that runs.
#[derive(Debug)]
pub(super) struct Run {
    /// The attempt.
    pub(super) token: Token,
    /// When the event was due, ns.
    pub(super) due: u64,
    /// The number of attempts that have begun and count, including this one.
    pub(super) attempts: u32,
    /// Its unique key.
    pub(super) unique: Option<Arc<str>>,
}

/// An event that starts now.
#[derive(Debug)]
pub(crate) struct Start<P> {
    /// The event and the attempt.
    pub(crate) token: Token,
    /// When it was due, ns.
    pub(crate) due: u64,
    /// When it started, ns.
    pub(crate) started: u64,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// The remaining work after earlier attempts.
    pub(crate) rest: Option<Arc<Rest>>,
    /// The payload.
    pub(crate) payload: P,
}

/// One attempt at an event. A token is accepted once. Its outcome is stale after that, and after the event is
/// cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The event.
    pub(crate) id: EventId,
    /// Its topic.
    pub(crate) topic: TopicId,
    /// The number of the start, which rises with each.
    pub(crate) fence: u64,
    /// The worker.
    pub(crate) runner: u32,
}

/// The result of accepting an event.
#[derive(Debug)]
pub(crate) struct Emitted<P> {
    /// The id of the event, or of the event that already has its unique key.
    pub(crate) id: EventId,
    /// A payload that is not needed: that of the event, or the one that it replaced. The caller drops it without the
    /// lock.
    pub(crate) unneeded: Option<P>,
}

/// Why an event was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The topic has no handler.
    NoHandler,
    /// Too many events are unfinished.
    Full,
    /// This event has the same unique key.
    Duplicate(EventId),
}

/// The result of ending an attempt.
#[derive(Debug)]
pub(crate) enum Finished<P> {
    /// The event has left the plan.
    Gone(P),
    /// It waits again.
    Again,
    /// It is dead; the oldest dead event of the topic may have made room for it.
    Dead(Option<P>),
    /// The attempt was no longer the current one.
    Stale(P),
}

/// The state of a cancelled event.
#[derive(Debug)]
pub(crate) enum Removed<P> {
    /// An event that waited.
    Waiting(P),
    /// An event that runs.
    Running(Token),
    /// A dead event.
    Dead(P),
    /// No such event is known.
    Unknown,
}

/// An event as returned to users.
#[derive(Debug)]
pub(crate) struct Entry<P> {
    /// Its id.
    pub(crate) id: EventId,
    /// When it is or was due, ns.
    pub(crate) due: u64,
    /// How many attempts at it count.
    pub(crate) attempts: u32,
    /// The remaining work after them.
    pub(crate) rest: Option<Arc<Rest>>,
    /// The payload.
    pub(crate) payload: P,
}

impl<P> Entry<P> {
    /// Describes the event `id`.
    pub(super) fn of(id: EventId, record: Record<P>) -> Self {
        Entry {
            id,
            due: record.due,
            attempts: record.attempts,
            rest: record.rest,
            payload: record.payload,
        }
    }

    /// Describes an event of a deque with its `payload`.
    pub(super) fn at_once(event: &AtOnce<P>, payload: P) -> Self {
        Entry {
            id: event.id,
            due: event.due,
            attempts: 0,
            rest: None,
            payload,
        }
    }
}

impl<P: Clone> Entry<P> {
    /// Describes the event `id`, which stays in the plan.
    pub(super) fn copy(id: EventId, record: &Record<P>) -> Self {
        Entry {
            id,
            due: record.due,
            attempts: record.attempts,
            rest: record.rest.clone(),
            payload: record.payload.clone(),
        }
    }
}
