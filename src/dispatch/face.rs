//! The interface of every dispatcher.

use std::sync::Arc;

use super::Dispatcher;
use super::error::{EmitError, EmitManyError, NoDispatcher, RegisterError};
use super::handler::Handler;
use super::id::EventId;
use super::inspect::{Cancelled, Counts, Dead, Waiting};
use super::options::{Emit, On};
use super::topic::Topic;

/// The operations of a dispatcher on topics whose events have type `T`.
///
/// The trait is dyn compatible. An application that only sends mail can hold an `Arc<dyn Dispatch<Mail>>`, and does not
/// depend on the implementation.
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
    fn cancel(&self, topic: &Topic<T>, id: EventId) -> Cancelled;

    /// Pauses a topic: see [`Dispatcher::pause`].
    fn pause(&self, topic: &Topic<T>) -> bool;

    /// Resumes a topic: see [`Dispatcher::resume`].
    fn resume(&self, topic: &Topic<T>) -> bool;

    /// Returns the next events of a topic: see [`Dispatcher::peek`].
    fn peek(&self, topic: &Topic<T>, max: usize) -> Vec<Waiting<T>>;

    /// Returns the number of events of a topic in each state: see [`Dispatcher::counts`].
    fn counts(&self, topic: &Topic<T>) -> Counts;

    /// Returns the dead events of a topic: see [`Dispatcher::dead`].
    fn dead(&self, topic: &Topic<T>, max: usize) -> Vec<Dead<T>>;

    /// Replays dead events: see [`Dispatcher::replay`].
    fn replay(&self, topic: &Topic<T>, max: usize) -> usize;

    /// Removes the dead events of a topic: see [`Dispatcher::purge`].
    fn purge(&self, topic: &Topic<T>) -> usize;
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

    fn cancel(&self, topic: &Topic<T>, id: EventId) -> Cancelled {
        self.cancel(topic, id)
    }

    fn pause(&self, topic: &Topic<T>) -> bool {
        self.pause(topic)
    }

    fn resume(&self, topic: &Topic<T>) -> bool {
        self.resume(topic)
    }

    fn peek(&self, topic: &Topic<T>, max: usize) -> Vec<Waiting<T>> {
        self.peek(topic, max)
    }

    fn counts(&self, topic: &Topic<T>) -> Counts {
        self.counts(topic)
    }

    fn dead(&self, topic: &Topic<T>, max: usize) -> Vec<Dead<T>> {
        self.dead(topic, max)
    }

    fn replay(&self, topic: &Topic<T>, max: usize) -> usize {
        self.replay(topic, max)
    }

    fn purge(&self, topic: &Topic<T>) -> usize {
        self.purge(topic)
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
