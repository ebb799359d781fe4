//! The interface of every dispatcher.

use std::sync::Arc;
use std::time::Duration;

use super::Dispatcher;
use super::error::{
    EmitError, EmitErrorKind, EmitManyError, NoDispatcher, RegisterError, Unavailable,
};
use super::handler::Handler;
use super::id::EventId;
use super::inspect::{Cancelled, Counts, Dead, Waiting};
use super::local::stop::Summary;
use super::options::{Emit, On};
use super::stats::DispatchStats;
use super::topic::Topic;

/// The operations of a dispatcher on topics whose events have type `T`.
///
/// The trait is dyn compatible. An application that only sends mail can hold an `Arc<dyn Dispatch<Mail>>`, and does not
/// depend on the implementation. Methods that a durable dispatcher passes to its store return an error if the store
/// cannot be reached. For a [`Dispatcher`] they never fail.
///
/// ```
/// use std::sync::Arc;
/// use liveness::dispatch::{Dispatch, Dispatcher, Emit, On, Topic};
///
/// const MAIL: Topic<String> = Topic::new("mail");
///
/// struct Shop {
///     mail: Arc<dyn Dispatch<String>>,
/// }
///
/// let dispatcher = Dispatcher::builder().build()?;
/// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
/// let shop = Shop { mail: Arc::new(dispatcher) };
/// shop.mail.emit_with(&MAIL, "hello".to_owned(), Emit::now())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Dispatch<T>: Send + Sync {
    /// Accepts an event: see [`Dispatcher::emit_with`].
    ///
    /// # Errors
    ///
    /// Returns the event and the reason for the refusal.
    fn emit_with(&self, topic: &Topic<T>, event: T, how: Emit) -> Result<EventId, EmitError<T>>;

    /// Accepts events that are due at once: see [`Dispatcher::emit_many`].
    ///
    /// # Errors
    ///
    /// Returns the refused events and the reason.
    fn emit_many(&self, topic: &Topic<T>, events: Vec<T>)
    -> Result<Vec<EventId>, EmitManyError<T>>;

    /// Registers a handler: see [`Dispatcher::on_handler`].
    ///
    /// # Errors
    ///
    /// Returns the reason why the handler was not registered.
    fn on_handler(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: Box<dyn Handler<T>>,
    ) -> Result<(), RegisterError>;

    /// Removes a handler: see [`Dispatcher::remove`].
    fn remove(&self, topic: &Topic<T>, name: &str) -> bool;

    /// Cancels an event: see [`Dispatcher::cancel`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn cancel(&self, topic: &Topic<T>, id: EventId) -> Result<Cancelled, Unavailable>;

    /// Changes the due time of an event that waits: see [`Dispatcher::reschedule`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Dispatcher::reschedule`], and [`EmitErrorKind::Unavailable`] if the store of a durable
    /// dispatcher cannot be reached.
    fn reschedule(&self, topic: &Topic<T>, id: EventId, when: &Emit)
    -> Result<bool, EmitErrorKind>;

    /// Pauses a topic: see [`Dispatcher::pause`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn pause(&self, topic: &Topic<T>) -> Result<bool, Unavailable>;

    /// Resumes a topic: see [`Dispatcher::resume`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn resume(&self, topic: &Topic<T>) -> Result<bool, Unavailable>;

    /// Returns the next events of a topic: see [`Dispatcher::peek`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn peek(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Waiting<T>>, Unavailable>;

    /// Returns the number of events of a topic in each state: see [`Dispatcher::counts`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn counts(&self, topic: &Topic<T>) -> Result<Counts, Unavailable>;

    /// Returns the dead events of a topic: see [`Dispatcher::dead`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn dead(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Dead<T>>, Unavailable>;

    /// Replays dead events: see [`Dispatcher::replay`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn replay(&self, topic: &Topic<T>, max: usize) -> Result<usize, Unavailable>;

    /// Removes the dead events of a topic: see [`Dispatcher::purge`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn purge(&self, topic: &Topic<T>) -> Result<usize, Unavailable>;

    /// Blocks until no event is ready or runs: see [`Dispatcher::flush`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn flush(&self, wait: Duration) -> Result<bool, Unavailable>;

    /// Returns the statistics of all topics: see [`Dispatcher::stats`].
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the store of a durable dispatcher cannot be reached.
    fn stats(&self) -> Result<DispatchStats, Unavailable>;

    /// Stops the dispatcher permanently: see [`Dispatcher::stop`].
    fn stop(&self, within: Duration) -> Summary;
}

impl<T: Send + Sync + 'static> Dispatch<T> for Dispatcher {
    fn emit_with(&self, topic: &Topic<T>, event: T, how: Emit) -> Result<EventId, EmitError<T>> {
        self.emit_with(topic, event, how)
    }

    fn emit_many(
        &self,
        topic: &Topic<T>,
        events: Vec<T>,
    ) -> Result<Vec<EventId>, EmitManyError<T>> {
        self.emit_many(topic, events)
    }

    fn on_handler(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: Box<dyn Handler<T>>,
    ) -> Result<(), RegisterError> {
        self.on_handler(topic, name, options, handler)
    }

    fn remove(&self, topic: &Topic<T>, name: &str) -> bool {
        self.remove(topic, name)
    }

    fn cancel(&self, topic: &Topic<T>, id: EventId) -> Result<Cancelled, Unavailable> {
        Ok(self.cancel(topic, id))
    }

    fn reschedule(
        &self,
        topic: &Topic<T>,
        id: EventId,
        when: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        self.reschedule(topic, id, when)
    }

    fn pause(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        Ok(self.pause(topic))
    }

    fn resume(&self, topic: &Topic<T>) -> Result<bool, Unavailable> {
        Ok(self.resume(topic))
    }

    fn peek(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Waiting<T>>, Unavailable> {
        Ok(self.peek(topic, max))
    }

    fn counts(&self, topic: &Topic<T>) -> Result<Counts, Unavailable> {
        Ok(self.counts(topic))
    }

    fn dead(&self, topic: &Topic<T>, max: usize) -> Result<Vec<Dead<T>>, Unavailable> {
        Ok(self.dead(topic, max))
    }

    fn replay(&self, topic: &Topic<T>, max: usize) -> Result<usize, Unavailable> {
        Ok(self.replay(topic, max))
    }

    fn purge(&self, topic: &Topic<T>) -> Result<usize, Unavailable> {
        Ok(self.purge(topic))
    }

    fn flush(&self, wait: Duration) -> Result<bool, Unavailable> {
        Ok(self.flush(wait))
    }

    fn stats(&self) -> Result<DispatchStats, Unavailable> {
        Ok(self.stats())
    }

    fn stop(&self, within: Duration) -> Summary {
        self.stop(within)
    }
}

/// Emits an event that is due at once to several dispatchers, and returns the result of each, in order. Each dispatcher
/// receives a clone. If one dispatcher refuses the event, the others still receive it.
///
/// # Errors
///
/// Returns [`NoDispatcher`] if `dispatchers` is empty.
///
/// ```
/// use liveness::dispatch::{Dispatcher, On, Topic, emit_to};
///
/// const MAIL: Topic<String> = Topic::new("mail");
/// let (one, two) = (Dispatcher::builder().build()?, Dispatcher::builder().build()?);
/// one.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
/// let results = emit_to(&MAIL, &"hello".to_owned(), &[&one, &two])?;
/// assert!(results[0].is_ok());
/// assert!(results[1].is_err()); // it has no handler
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn emit_to<T: Clone>(
    topic: &Topic<T>,
    event: &T,
    dispatchers: &[&dyn Dispatch<T>],
) -> Result<Vec<Result<EventId, EmitError<T>>>, NoDispatcher> {
    if dispatchers.is_empty() {
        return Err(NoDispatcher);
    }
    let emit = |to: &&dyn Dispatch<T>| to.emit_with(topic, event.clone(), Emit::now());
    Ok(dispatchers.iter().map(emit).collect())
}

impl<T: 'static> Handler<T> for Box<dyn Handler<T>> {
    fn handle(
        &self,
        context: &super::context::Context,
        event: &T,
    ) -> Result<(), super::handler::Failure> {
        (**self).handle(context, event)
    }
}

impl<T: 'static, H: Handler<T>> Handler<T> for Arc<H> {
    fn handle(
        &self,
        context: &super::context::Context,
        event: &T,
    ) -> Result<(), super::handler::Failure> {
        (**self).handle(context, event)
    }
}
