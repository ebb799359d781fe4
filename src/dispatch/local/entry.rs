//! A topic and its handlers, as the shell knows them.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use crate::dispatch::context::Context;
use crate::dispatch::handler::Failure;
use crate::dispatch::options::On;
use crate::dispatch::plan::Limits;
use crate::panic::discard;
use crate::stats::Histogram;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What an event carries.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The event.
    pub(crate) event: Arc<dyn Any + Send + Sync>,
    /// Its headers, if it has some.
    pub(crate) headers: Option<Arc<[(String, String)]>>,
}

/// A handler, without the type of its events.
pub(super) type Erased =
    Box<dyn Fn(&Context, &(dyn Any + Send + Sync)) -> Result<(), Failure> + Send + Sync>;

/// A handler of a topic.
pub(super) struct Registered {
    /// Its name.
    pub(super) name: Arc<str>,
    /// How it is called.
    pub(super) options: On,
    /// Calls it; `None` while it is dropped.
    call: Option<Erased>,
    /// Whether no further call is to begin.
    is_removed: AtomicBool,
}

impl Registered {
    /// A handler that is called by `call`.
    pub(super) fn new(name: &str, options: On, call: Erased) -> Self {
        Registered {
            name: name.into(),
            options,
            call: Some(call),
            is_removed: AtomicBool::new(false),
        }
    }

    /// Lets no further call begin, except one that is about to.
    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }

    /// Whether no further call is to begin.
    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Makes the call.
    pub(super) fn call(&self, context: &Context, payload: &Payload) -> Result<(), Failure> {
        let call = self.call.as_ref().expect("only a drop takes it");
        call(context, &*payload.event)
    }
}

/// A panic of what the handler owns is caught here: of several handlers that are dropped together, each may panic.
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

/// What a worker needs to know of a topic.
#[derive(Debug)]
pub(super) struct View {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its handlers, in the order in which they were registered.
    pub(super) handlers: Vec<Arc<Registered>>,
}

/// What the shell knows of a topic.
pub(super) struct TopicEntry {
    /// Its name and handlers; replaced as a whole.
    pub(super) view: Arc<View>,
    /// The type of its events.
    pub(super) event: (TypeId, &'static str),
    /// From due to start, ns.
    pub(super) lateness: Histogram,
    /// From start to end, ns.
    pub(super) run_time: Histogram,
    /// Calls that panicked.
    pub(super) panics: u64,
}

impl TopicEntry {
    /// Whether its events are of type `T`.
    pub(super) fn has_type<T: 'static>(&self) -> bool {
        self.event.0 == TypeId::of::<T>()
    }

    /// What its handlers together allow; `None` if there is none.
    pub(super) fn limits(&self) -> Option<Limits> {
        let options = || self.view.handlers.iter().map(|handler| &handler.options);
        Some(Limits {
            parallel: options()
                .map(|on| on.parallel.unwrap_or(usize::MAX))
                .min()?,
            interval: options().map(On::interval_ns).max()?,
        })
    }
}
