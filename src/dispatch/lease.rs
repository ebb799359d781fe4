//! Events that another store lends to a dispatcher, for one attempt each.
//!
//! The store keeps the event. It decides what follows the attempt, and whether the outcome still counts. To the plan, a
//! lent event is an event that is done after one attempt, whatever its outcome is.

use std::sync::Arc;

use super::attempt::{Outcome, Rest};
use super::id::EventId;
use super::plan::TopicId;

/// What the store knows about an event that it lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The id of the event in the store.
    pub(crate) id: EventId,
    /// The fence of the attempt.
    pub(crate) fence: u64,
    /// The number of attempts that failed before.
    pub(crate) attempts: u32,
    /// The remaining work after them.
    pub(crate) rest: Option<Arc<Rest>>,
}

/// The store, as a worker sees it.
pub(crate) trait Lender: Send + Sync {
    /// Receives the outcome of an attempt that began at `started` and ended at `now`, ns of the dispatcher's clock.
    ///
    /// Each lent event ends in exactly one way: it is settled once, recalled, or returned by a stop. A worker calls
    /// this without a lock, before it starts another event. The call should only put the outcome into a queue. It may
    /// come after a stop has returned, from a thread that was reported as still running.
    fn settle(&self, topic: TopicId, lease: &Lease, outcome: Outcome, started: u64, now: u64);
}
