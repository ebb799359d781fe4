//! The destination of a worker's events: none, a sink on the worker itself, or the outbox of the delivery thread.

use std::fmt;
use std::sync::Arc;

use super::outbox::Outbox;
use crate::event::Event;
use crate::sink::{Refused, Sink};

/// A callback that runs on the workers.
pub(crate) struct OnWorker<F>(pub(crate) F);

impl<K, V, F> Sink<K, V> for OnWorker<F>
where
    F: Fn(Event<K, V>) + Send + Sync + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        (self.0)(event);
        Ok(())
    }
}

/// The destination of a worker's events.
pub(crate) enum Outlet<K, V> {
    /// No sink.
    Nowhere,
    /// A sink on the worker itself.
    Direct(Arc<dyn Sink<K, V>>),
    /// The outbox, from which the delivery thread takes events.
    Queued(Arc<Outbox<K, V>>),
}

impl<K, V> Clone for Outlet<K, V> {
    fn clone(&self) -> Self {
        match self {
            Outlet::Nowhere => Outlet::Nowhere,
            Outlet::Direct(sink) => Outlet::Direct(sink.clone()),
            Outlet::Queued(outbox) => Outlet::Queued(outbox.clone()),
        }
    }
}

impl<K, V> fmt::Debug for Outlet<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outlet::Nowhere => "Nowhere",
            Outlet::Direct(_) => "Direct",
            Outlet::Queued(_) => "Queued",
        })
    }
}
