//! A topic and its handlers outside the plan.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use crate::dispatch::context::Context;
use crate::dispatch::handler::Failure;
use crate::dispatch::id::EventId;
use crate::dispatch::lease::Lease;
use crate::dispatch::options::On;
use crate::dispatch::plan::Limits;
use crate::panic::discard;
use crate::stats::Histogram;
use crate::sync::atomic::{AtomicBool, Ordering};

/// The payload of an event.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The event.
    pub(crate) event: Arc<dyn Any + Send + Sync>,
    /// Its headers, if any.
    pub(crate) headers: Option<Arc<[(String, String)]>>,
    /// What another store knows about it, if it is lent.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Payload {
    /// The id by which users know the event, which has the id `id` in the plan.
    pub(super) fn id(&self, id: EventId) -> EventId {
        self.lease.as_ref().map_or(id, |lease| lease.id)
    }
}

/// A handler, without the type of its events.
pub(super) type Erased =
    Box<dyn Fn(&Context, &(dyn Any + Send + Sync)) -> Result<(), Failure> + Send + Sync>;

/// A handler of a topic.
pub(super) struct Registered {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its options.
    pub(super) options: On,
    /// Calls it; `None` while it is dropped.
    call: Option<Erased>,
    /// Whether no further call may begin.
    is_removed: AtomicBool,
}

impl Registered {
    /// Creates a handler that `call` calls.
    pub(super) fn new(name: &str, options: On, call: Erased) -> Self {
        Registered {
            name: name.into(),
            options,
            call: Some(call),
            is_removed: AtomicBool::new(false),
        }
    }

    /// Prevents further calls, except a call that is about to begin.
    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// Whether no further call may begin.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Makes the call.
    pub(super) fn call(&self, context: &Context, payload: &Payload) -> Result<(), Failure> {
        let call = self.call.as_ref().expect("only a drop takes it");
        call(context, &*payload.event)
    }
}

/// Catches a panic in the drop of the handler's state. Several handlers that are dropped together may each panic.
impl Drop for Registered {
    fn drop(&mut self) {
        discard(self.call.take());
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registered").field(&self.name).finish()
    }
}

/// The part of a topic that workers need.
#[derive(Debug)]
pub(super) struct View {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its handlers, in the order in which they were registered.
    pub(super) handlers: Vec<Arc<Registered>>,
}

/// The state of a topic outside the plan.
pub(super) struct TopicEntry {
    /// Its name and handlers, which are replaced together.
    pub(super) view: Arc<View>,
    /// The type of its events.
    pub(super) event: (TypeId, &'static str),
    /// The time from due time to start, ns.
    pub(super) lateness: Histogram,
    /// The time from start to end, ns.
    pub(super) run_time: Histogram,
    /// Calls that panicked.
    pub(super) panics: u64,
    /// Attempts that ended after their event was cancelled or they were given up.
    pub(super) stale: u64,
}

impl TopicEntry {
    /// Whether its events are of type `T`.
    pub(super) fn has_type<T: 'static>(&self) -> bool {
        self.event.0 == TypeId::of::<T>()
    }

    /// The combined limits of its handlers; `None` if it has no handler. A rate is ignored if `is_paced` by another
    /// store, which lends the events.
    pub(super) fn limits(&self, is_paced: bool) -> Option<Limits> {
        let options = || self.view.handlers.iter().map(|handler| &handler.options);
        Some(Limits {
            parallel: options()
                .map(|on| on.parallel_here().unwrap_or(usize::MAX))
                .min()?,
            interval: options()
                .map(|on| if is_paced { 0 } else { on.interval_ns() })
                .max()?,
        })
    }
}
