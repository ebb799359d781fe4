//! Topics, handlers, delayed and retried events on local threads: side work beside the main flow.
//!
//! A [`Topic`] is a name and a type of events. Handlers are registered for a topic by [`Dispatcher::on`]; events are emitted
//! by [`Dispatcher::emit`], and start at once, after a delay or at a time. A handler that fails is called again after a
//! [`Backoff`]; an event that has used up its attempts goes to a dead list, where it can be looked at and replayed.
//!
//! ```
//! use std::time::Duration;
//! use liveness::dispatch::{Dispatcher, Emit, On, Topic};
//!
//! struct Mail {
//!     to: String,
//! }
//!
//! const MAIL: Topic<Mail> = Topic::new("mail");
//!
//! let dispatcher = Dispatcher::builder().threads(4).build()?;
//! dispatcher.on(&MAIL, "send", On::new().max_attempts(5), |context, mail| {
//!     println!("to {}, attempt {}, {:?} late", mail.to, context.attempt(), context.lateness());
//!     Ok(())
//! })?;
//! dispatcher.emit(&MAIL, Mail { to: "ada".to_owned() })?;
//! let id = dispatcher.emit_with(&MAIL, Mail { to: "bob".to_owned() }, Emit::after(Duration::from_secs(900)))?;
//! dispatcher.cancel(&MAIL, id);
//! dispatcher.flush(Duration::from_secs(10)); // until nothing is ready or runs
//! let summary = dispatcher.stop(Duration::from_secs(10));
//! assert!(summary.undone.is_empty() && dispatcher.stats().is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is lost in a crash
//!
//! Everything that waits or runs: events are in memory only.
//!
//! # One attempt
//!
//! The handlers of a topic are called one after the other, in the order in which they were registered, on one worker thread.
//! If some fail, the next attempt calls only those. No event starts before it is due. Events of a topic start in the order
//! of their due times, and then in the order in which they were emitted. Topics take turns.

mod attempt;
mod backoff;
mod builder;
mod cause;
mod context;
mod error;
mod face;
mod handler;
mod id;
mod inspect;
mod local;
mod notice;
mod options;
mod plan;
mod schedule;
mod seat;
mod sink;
mod stats;
mod topic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use backoff::Backoff;
pub use builder::Builder;
pub use cause::Cause;
pub use context::Context;
pub use error::{BuildError, EmitError, EmitErrorKind, EmitManyError, NoDispatcher, RegisterError};
pub use face::{Dispatch, emit_to};
pub use handler::{Failure, Handler};
pub use id::EventId;
pub use inspect::{Cancelled, Counts, Dead, Waiting};
pub use local::stop::{Summary, Undone};
pub use notice::Notice;
pub use options::{Emit, On, OnDuplicate};
pub use schedule::Schedule;
pub use sink::TopicSink;
pub use stats::{DispatchStats, TopicStats};
pub use topic::{Topic, TopicError};

use local::Core;

/// Runs handlers for events on a fixed number of worker threads. See the [module](self) for an introduction.
///
/// Clones are handles on the same dispatcher. When the last one is dropped, the dispatcher stops as by [`stop`] with no time:
/// events that wait are dropped, and the drop blocks for at most about 100 ms. A handler that owns a clone keeps the
/// dispatcher alive until it is [stopped](Dispatcher::stop).
///
/// [`stop`]: Dispatcher::stop
#[derive(Clone)]
pub struct Dispatcher {
    /// Stops the dispatcher with the last handle.
    handle: Arc<Handle>,
}

/// Stops the dispatcher when it is dropped.
struct Handle {
    /// What the workers share.
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.core.stop(Duration::ZERO));
    }
}

#[expect(
    clippy::must_use_candidate,
    reason = "what an operation returns is often of no interest"
)]
impl Dispatcher {
    /// A handle on `core`.
    fn new(core: Arc<Core>) -> Self {
        Dispatcher {
            handle: Arc::new(Handle { core }),
        }
    }

    /// What the workers share.
    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Registers the closure `handle` under `name` for the events of `topic`.
    ///
    /// Events that wait already are handled, too. A handler may emit events and call every method of the dispatcher.
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if the dispatcher is stopped, the topic already has a handler of that name, the name is
    /// invalid, the topic is used with another type, or an option is out of range.
    pub fn on<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handle: impl Fn(&Context, &T) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.core().on(topic, name, options, handle)
    }

    /// Registers `handler`, of a type that implements [`Handler`], under `name` for the events of `topic`. Otherwise as
    /// [`on`](Dispatcher::on).
    ///
    /// # Errors
    ///
    /// Those of [`on`](Dispatcher::on).
    pub fn on_handler<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: impl Handler<T>,
    ) -> Result<(), RegisterError> {
        self.core().on(topic, name, options, handler)
    }

    /// Removes the handler `name` of `topic`, and blocks until its running calls have returned. Returns whether there was
    /// one.
    ///
    /// No further call begins. A handler that removes itself does not wait for its own call. If it was the last one of the
    /// topic, the events that wait stay, and new ones are refused.
    pub fn remove<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().remove(topic, name, true)
    }

    /// Removes the handler `name` of `topic`, and does not wait for its running calls. Returns whether there was one.
    pub fn remove_now<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().remove(topic, name, false)
    }

    /// Accepts an event that is due at once.
    ///
    /// Never blocks for more than a short lock. An event that is accepted is handled, or ends cancelled, dead or returned by
    /// [`stop`](Dispatcher::stop).
    ///
    /// # Errors
    ///
    /// Returns the event, and why it was refused.
    pub fn emit<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
    ) -> Result<EventId, EmitError<T>> {
        self.emit_with(topic, event, Emit::now())
    }

    /// Accepts an event that is due when `how` says, with what that has for it.
    ///
    /// # Errors
    ///
    /// Returns the event, and why it was refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, Emit, EmitErrorKind, On, OnDuplicate, Topic};
    ///
    /// const CHECK: Topic<u64> = Topic::new("check-order");
    /// let dispatcher = Dispatcher::builder().build()?;
    /// dispatcher.on(&CHECK, "check", On::new(), |_, _| Ok(()))?;
    /// let later = || Emit::after(Duration::from_secs(900)).unique("order-17");
    /// let id = dispatcher.emit_with(&CHECK, 17, later())?;
    /// assert_eq!(
    ///     dispatcher.emit_with(&CHECK, 17, later()).unwrap_err().kind(),
    ///     EmitErrorKind::Duplicate(id)
    /// );
    /// assert_eq!(dispatcher.emit_with(&CHECK, 17, later().on_duplicate(OnDuplicate::Keep)), Ok(id));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit_with<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        how: Emit,
    ) -> Result<EventId, EmitError<T>> {
        let emitted = self.core().emit(topic, event, how, None);
        emitted.map_err(|(kind, event)| EmitError::new(kind, event))
    }

    /// Accepts an event that is due at once, and blocks for at most `wait` until there is room for it.
    ///
    /// On a worker of this dispatcher it does not wait, because the room might be that of the worker's own event.
    ///
    /// # Errors
    ///
    /// Returns the event, and why it was refused: [`Full`](EmitErrorKind::Full) if there was no room in time.
    pub fn emit_within<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        wait: Duration,
    ) -> Result<EventId, EmitError<T>> {
        let emitted = self.core().emit(topic, event, Emit::now(), Some(wait));
        emitted.map_err(|(kind, event)| EmitError::new(kind, event))
    }

    /// Accepts events that are due at once, in order, and returns their ids. They are accepted 200 at a time, each such chunk
    /// as a whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns the events that were refused, the ids of those before them, and the reason.
    pub fn emit_many<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        events: impl IntoIterator<Item = T>,
    ) -> Result<Vec<EventId>, EmitManyError<T>> {
        let emitted = self.core().emit_many(topic, events);
        emitted.map_err(|(kind, ids, events)| EmitManyError::new(kind, ids, events))
    }

    /// Emits the event that `make` returns at each tick of `schedule`, until the schedule is
    /// [removed](Dispatcher::unschedule).
    ///
    /// `make` runs on a worker. A tick is skipped and counted while the event of an earlier tick is unfinished, and if the
    /// event is refused.
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if the dispatcher is stopped, the topic already has a schedule of that name, the name is
    /// invalid, the topic is used with another type, or the schedule never ticks.
    pub fn schedule<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        schedule: Schedule,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.core().schedule(topic, name, schedule, make)
    }

    /// Removes the schedule `name` of `topic`. Returns whether there was one. An event that it has emitted stays.
    pub fn unschedule<T>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().unschedule(topic, name)
    }

    /// Cancels the event `id` of `topic`, and returns where it was. Costs O(log n) at most.
    pub fn cancel<T: 'static>(&self, topic: &Topic<T>, id: EventId) -> Cancelled {
        self.core().cancel(topic, id)
    }

    /// Moves the event `id` of `topic` to the due time of `when`, if it waits. Returns whether it does. The other options of
    /// `when` are ignored.
    ///
    /// # Errors
    ///
    /// Returns [`EmitErrorKind::Stopped`] if the dispatcher is stopped, or [`EmitErrorKind::TooLate`] if the time is too far
    /// away.
    pub fn reschedule<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
        when: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        self.core().reschedule(topic, id, when.due)
    }

    /// Pauses `topic`: no event of it starts until it is [resumed](Dispatcher::resume). Events that run go on, and new ones
    /// are accepted. Returns whether it was not paused before; a topic without a handler or schedule is not known.
    pub fn pause<T: 'static>(&self, topic: &Topic<T>) -> bool {
        self.core().set_paused(topic, true)
    }

    /// Lets `topic` go on after a [pause](Dispatcher::pause). Returns whether it was paused.
    pub fn resume<T: 'static>(&self, topic: &Topic<T>) -> bool {
        self.core().set_paused(topic, false)
    }

    /// Returns up to `max` events of `topic` that wait, in the order in which they start. Costs a look at each event of the
    /// dispatcher.
    #[must_use]
    pub fn peek<T: Send + Sync + 'static>(&self, topic: &Topic<T>, max: usize) -> Vec<Waiting<T>> {
        self.core().peek(topic, max)
    }

    /// Returns how many events of `topic` are where. Costs a look at each event of the dispatcher.
    #[must_use]
    pub fn counts<T: 'static>(&self, topic: &Topic<T>) -> Counts {
        self.core().counts(topic)
    }

    /// Returns up to `max` events in the dead list of `topic`, the oldest first.
    #[must_use]
    pub fn dead<T: Send + Sync + 'static>(&self, topic: &Topic<T>, max: usize) -> Vec<Dead<T>> {
        self.core().dead(topic, max)
    }

    /// Moves up to `max` events of `topic` from the dead list back to those that wait, the oldest first. They are due at
    /// once, and have all their attempts again; only the handlers that failed are called. Returns how many there were room
    /// for.
    pub fn replay<T: 'static>(&self, topic: &Topic<T>, max: usize) -> usize {
        self.core().replay(topic, max)
    }

    /// Removes all events from the dead list of `topic`. Returns how many there were.
    pub fn purge<T: 'static>(&self, topic: &Topic<T>) -> usize {
        self.core().purge(topic)
    }

    /// Returns the account.
    #[must_use]
    pub fn stats(&self) -> DispatchStats {
        self.core().stats()
    }

    /// Blocks until no event is ready or runs, for at most `wait`. Returns whether that is so. Events that are due later, and
    /// those of paused topics, are not waited for. On a worker of this dispatcher it returns at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<String> = Topic::new("mail");
    /// let clock = ManualClock::new();
    /// let dispatcher = Dispatcher::builder().clock(clock.clone()).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let minute = Duration::from_secs(60);
    /// dispatcher.emit_with(&MAIL, "hello".to_owned(), Emit::after(minute))?;
    /// clock.advance(minute);
    /// assert!(dispatcher.flush(minute));
    /// assert_eq!(dispatcher.stats().total().done, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self, wait: Duration) -> bool {
        self.core().flush(wait)
    }

    /// Stops the dispatcher for good.
    ///
    /// Every later call says so, and no further event starts. Handlers that run have `within` to return; those that still run
    /// then are cancelled with [`Cause::Interrupted`], and have another 100 ms. Returns the events that did not run, and the
    /// names of the threads that are still in a handler. All handlers are dropped. On a worker of this dispatcher it does not
    /// wait for that worker.
    pub fn stop(&self, within: Duration) -> Summary {
        self.core().stop(within)
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().fmt(f)
    }
}
