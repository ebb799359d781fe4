//! Runs handlers for immediate, delayed and retried events on local threads.
//!
//! A [`Topic`] is a name and a type of events. [`Dispatcher::on`] registers a handler for a topic, and
//! [`Dispatcher::emit`] emits an event. An event is due at once, after a delay or at a given time. A handler that fails
//! is called again after a [`Backoff`]. An event that has used up its attempts is moved to the dead list of its topic,
//! where it can be inspected and replayed.
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
//! Events are in memory only, so a crash loses all events that wait or run. The module `dispatching` of this
//! documentation lists the guarantees, recommends values for the options, and describes how the threads cooperate.
//!
//! # One attempt
//!
//! The handlers of a topic are called one after the other, in the order in which they were registered, on one worker
//! thread. If some of them fail, the next attempt calls only the handlers that failed. No event starts before it is
//! due. Events of a topic start in the order of their due times, and then in the order in which they were emitted.
//! Topics with events that are due are served in turn.
//!
//! # Events of a watcher
//!
//! [`Dispatcher::sink`] makes a [`Sink`](crate::Sink) of a topic, for `Watcher::builder().sink(..)`: handlers are then
//! called for each key that falls silent, and again if they fail.

pub(crate) mod attempt;
mod backoff;
mod builder;
mod cause;
mod context;
mod error;
mod face;
mod handler;
mod id;
mod inspect;
pub(crate) mod lease;
pub(crate) mod local;
mod notice;
pub(crate) mod options;
pub(crate) mod plan;
mod schedule;
mod seat;
mod sink;
mod stats;
pub(crate) mod topic;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use backoff::Backoff;
pub use builder::Builder;
pub use cause::Cause;
pub use context::Context;
pub use error::{
    BuildError, EmitError, EmitErrorKind, EmitManyError, NoDispatcher, RegisterError, Unavailable,
};
pub use face::{Dispatch, emit_to};
pub use handler::{Failure, Handler};
pub use id::EventId;
pub use inspect::{Cancelled, Counts, Dead, Waiting};
pub use local::stop::{Summary, Undone};
pub use notice::Notice;
pub use options::{Emit, On, OnDuplicate};
pub use schedule::Schedule;
#[cfg(feature = "cron")]
pub use schedule::ScheduleError;
pub use sink::TopicSink;
pub use stats::{DispatchStats, TopicStats};
pub use topic::{Topic, TopicError};

use crate::panic::discard;
use local::Core;

/// Runs handlers for events on a fixed number of worker threads. See the [module](self) for an introduction.
///
/// Clones are handles on the same dispatcher. Dropping the last handle stops the dispatcher like [`stop`] with a
/// `within` of zero: events that wait are dropped, and the drop blocks for at most about 100 ms. A handler that owns a
/// clone keeps the dispatcher alive until it is [stopped](Dispatcher::stop).
///
/// [`stop`]: Dispatcher::stop
#[derive(Clone)]
pub struct Dispatcher {
    /// Stops the dispatcher when the last handle is dropped.
    handle: Arc<Handle>,
}

/// Stops the dispatcher when it is dropped.
struct Handle {
    /// The state that the workers share.
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Summary { undone, .. } = self.core.stop(Duration::ZERO);
        // Dropped one by one, because each drop may panic.
        undone.into_iter().for_each(discard);
    }
}

#[expect(
    clippy::must_use_candidate,
    reason = "what an operation returns is often of no interest"
)]
impl Dispatcher {
    /// Creates a handle on `core`.
    fn new(core: Arc<Core>) -> Self {
        Dispatcher {
            handle: Arc::new(Handle { core }),
        }
    }

    /// The state that the workers share.
    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Registers the closure `handle` under `name` for the events of `topic`.
    ///
    /// The handlers of a topic are called for each of its events, in the order in which they were registered. Events
    /// that already wait are handled by the new handler too. A handler may emit events and call every method of the
    /// dispatcher. The name follows the same rules as the name of a [`Topic`].
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if the dispatcher is stopped, the topic already has a handler of that name, the name
    /// is invalid, the topic is used with another type, an option is out of range, or the thread that enforces time
    /// limits cannot be spawned.
    ///
    /// ```
    /// use liveness::dispatch::{Dispatcher, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// let (sender, sent) = std::sync::mpsc::channel();
    /// dispatcher.on(&MAIL, "send", On::new().max_attempts(5), move |context, to| {
    ///     sender.send(format!("to {to}, attempt {}", context.attempt()))?; // an error is retried
    ///     Ok(())
    /// })?;
    /// dispatcher.emit(&MAIL, "ada")?;
    /// assert_eq!(sent.recv()?, "to ada, attempt 1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handle: impl Fn(&Context, &T) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.core().on(topic, name, options, handle)
    }

    /// Registers a value that implements [`Handler`] under `name` for the events of `topic`, like
    /// [`on`](Dispatcher::on). See [`Handler`] for an example.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`on`](Dispatcher::on).
    pub fn on_handler<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        options: On,
        handler: impl Handler<T>,
    ) -> Result<(), RegisterError> {
        self.core().on(topic, name, options, handler)
    }

    /// Removes the handler `name` of `topic`, and blocks until the attempts that have begun have ended. Returns whether
    /// there was such a handler.
    ///
    /// No further call of the handler begins. A call on a worker of this dispatcher does not block, because two
    /// handlers might remove each other. A handler that never returns blocks the caller, unless it has a
    /// [`max_duration`](On::max_duration); [`remove_now`](Dispatcher::remove_now) never blocks. If the topic has no
    /// other handler, its waiting events are kept, and new events are refused with
    /// [`NoHandler`](EmitErrorKind::NoHandler).
    ///
    /// ```
    /// use liveness::dispatch::{Dispatcher, EmitErrorKind, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    ///
    /// assert!(dispatcher.remove(&MAIL, "send"));
    /// assert!(!dispatcher.remove(&MAIL, "send"));
    /// assert_eq!(dispatcher.emit(&MAIL, "ada").unwrap_err().kind(), EmitErrorKind::NoHandler);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().remove(topic, name, true)
    }

    /// Removes the handler `name` of `topic` like [`remove`](Dispatcher::remove), but does not wait for running calls.
    /// Returns whether there was such a handler.
    pub fn remove_now<T: 'static>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().remove(topic, name, false)
    }

    /// Accepts an event that is due at once, and returns its id.
    ///
    /// Holds a lock for a short time and does not block otherwise. An accepted event is handled, cancelled, moved to
    /// the dead list, or returned by [`stop`](Dispatcher::stop). Costs O(1).
    ///
    /// # Errors
    ///
    /// Returns an [`EmitError`] with the event if the dispatcher is stopped or full, if the topic has no handler, or if
    /// its handlers take another type.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, EmitErrorKind, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    ///
    /// let id = dispatcher.emit(&MAIL, "ada")?;
    /// println!("accepted as {id}");
    /// assert!(dispatcher.stop(Duration::from_secs(5)).still_running.is_empty());
    /// let error = dispatcher.emit(&MAIL, "bob").unwrap_err();
    /// assert_eq!((error.kind(), error.into_event()), (EmitErrorKind::Stopped, "bob"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
    ) -> Result<EventId, EmitError<T>> {
        self.emit_with(topic, event, Emit::now())
    }

    /// Accepts an event with the due time, unique key and headers of `how`, and returns its id. Costs O(log n) if the
    /// event is due later.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`emit`](Dispatcher::emit). It is also an error if the unique key is taken, or if the due
    /// time is more than 500 years away.
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
    /// assert_eq!(dispatcher.emit_with(&CHECK, 17, later().on_duplicate(OnDuplicate::Keep))?, id);
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
    /// On a worker of this dispatcher it does not wait, because the only room might be the room that the worker's own
    /// event occupies.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](EmitErrorKind::Full) if there was no room in time, and the other errors of
    /// [`emit`](Dispatcher::emit). The error returns the event.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, EmitErrorKind, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().max_unfinished(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// dispatcher.pause(&MAIL);
    /// dispatcher.emit(&MAIL, "ada")?;
    /// let error = dispatcher.emit_within(&MAIL, "bob", Duration::from_millis(5)).unwrap_err();
    /// assert_eq!((error.kind(), error.into_event()), (EmitErrorKind::Full, "bob"));
    /// dispatcher.resume(&MAIL);
    /// dispatcher.emit_within(&MAIL, "bob", Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit_within<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        event: T,
        wait: Duration,
    ) -> Result<EventId, EmitError<T>> {
        let emitted = self.core().emit(topic, event, Emit::now(), Some(wait));
        emitted.map_err(|(kind, event)| EmitError::new(kind, event))
    }

    /// Accepts events that are due at once, in the given order, and returns their ids.
    ///
    /// The events are accepted in chunks of 200. Each chunk takes the lock once, and is accepted as a whole or not at
    /// all.
    ///
    /// # Errors
    ///
    /// Returns the refused events, the ids of the accepted events before them, and the reason.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    ///
    /// let ids = dispatcher.emit_many(&MAIL, ["ada", "bob", "eve"])?;
    /// assert_eq!(ids.len(), 3);
    /// assert!(dispatcher.flush(Duration::from_secs(5)));
    /// assert_eq!(dispatcher.stats().total().done, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn emit_many<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        events: impl IntoIterator<Item = T>,
    ) -> Result<Vec<EventId>, EmitManyError<T>> {
        let emitted = self.core().emit_many(topic, events);
        emitted.map_err(|(kind, ids, events)| EmitManyError::new(kind, ids, events))
    }

    /// Emits the event that `make` returns at each tick of `schedule`, until the schedule is
    /// [removed](Dispatcher::unschedule) or the dispatcher stops.
    ///
    /// `make` runs on a worker. If `make` panics, the panic is caught and counted, and the schedule continues. A tick
    /// is skipped while the event of an earlier tick is unfinished, and if its event is refused, for example because
    /// the topic has no handler. Skipped ticks are counted in [`skipped_ticks`](DispatchStats::skipped_ticks).
    ///
    /// # Errors
    ///
    /// Returns a [`RegisterError`] if the dispatcher is stopped, the topic already has a schedule of that name, the
    /// name is invalid, the topic is used with another type, or the interval is zero.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::dispatch::{Dispatcher, On, Schedule, Topic};
    ///
    /// const SWEEP: Topic<&str> = Topic::new("sweep");
    /// let clock = ManualClock::new();
    /// let dispatcher = Dispatcher::builder().clock(clock.clone()).build()?;
    /// dispatcher.on(&SWEEP, "sweep", On::new(), |_, _| Ok(()))?;
    /// let minute = Duration::from_secs(60);
    /// dispatcher.schedule(&SWEEP, "each-minute", Schedule::every(minute), || "/tmp")?;
    /// for _ in 0..3 {
    ///     clock.advance(minute);
    ///     assert!(dispatcher.flush(minute));
    /// }
    /// assert_eq!(dispatcher.stats().total().done, 3);
    /// assert!(dispatcher.unschedule(&SWEEP, "each-minute"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn schedule<T: Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        name: &str,
        schedule: Schedule,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.core().schedule(topic, name, schedule, make)
    }

    /// Removes the schedule `name` of `topic`. Returns whether there was one. A tick that has begun still emits its
    /// event, and events that were already emitted are not affected.
    pub fn unschedule<T>(&self, topic: &Topic<T>, name: &str) -> bool {
        self.core().unschedule(topic, name)
    }

    /// Cancels the event `id` of `topic`, and returns the state in which it was.
    ///
    /// A waiting event does not start. If the event runs, its call is requested to end with [`Cause::Cancelled`], and
    /// the result is ignored. Costs O(log n) at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Cancelled, Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let id = dispatcher.emit_with(&MAIL, "ada", Emit::after(Duration::from_secs(900)))?;
    ///
    /// assert_eq!(dispatcher.cancel(&MAIL, id), Cancelled::Waiting);
    /// assert_eq!(dispatcher.cancel(&MAIL, id), Cancelled::Unknown);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel<T: 'static>(&self, topic: &Topic<T>, id: EventId) -> Cancelled {
        self.core().cancel(topic, id)
    }

    /// Changes the due time of the event `id` of `topic` to that of `when`. Returns `false` if the event does not wait.
    /// The other options of `when` are ignored. Costs O(log n).
    ///
    /// # Errors
    ///
    /// Returns [`EmitErrorKind::Stopped`] if the dispatcher is stopped, or [`EmitErrorKind::TooLate`] if the time is
    /// more than 500 years away.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let id = dispatcher.emit_with(&MAIL, "ada", Emit::after(Duration::from_secs(900)))?;
    ///
    /// assert!(dispatcher.reschedule(&MAIL, id, &Emit::now())?);
    /// assert!(dispatcher.flush(Duration::from_secs(5)));
    /// assert!(!dispatcher.reschedule(&MAIL, id, &Emit::now())?); // it is done
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reschedule<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
        when: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        self.core().reschedule(topic, id, when.due)
    }

    /// Pauses `topic`: none of its events starts until the topic is [resumed](Dispatcher::resume).
    ///
    /// Running events continue, and new events are accepted. Returns `false` if the topic was already paused, or if it
    /// has never had a handler or schedule. Emits [`Notice::Paused`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    ///
    /// assert!(dispatcher.pause(&MAIL));
    /// dispatcher.emit(&MAIL, "ada")?;
    /// assert_eq!((dispatcher.counts(&MAIL).ready, dispatcher.counts(&MAIL).is_paused), (1, true));
    /// assert!(dispatcher.resume(&MAIL));
    /// assert!(dispatcher.flush(Duration::from_secs(5)));
    /// assert_eq!(dispatcher.counts(&MAIL).ready, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause<T: 'static>(&self, topic: &Topic<T>) -> bool {
        self.core().set_paused(topic, true)
    }

    /// Lets events of `topic` start again after a [pause](Dispatcher::pause). Returns whether it was paused. Emits
    /// [`Notice::Resumed`].
    pub fn resume<T: 'static>(&self, topic: &Topic<T>) -> bool {
        self.core().set_paused(topic, false)
    }

    /// Returns up to `max` waiting events of `topic`, in the order in which they start. Visits every event of the
    /// dispatcher under its lock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let id = dispatcher.emit_with(&MAIL, "ada", Emit::after(Duration::from_secs(900)))?;
    ///
    /// let waiting = dispatcher.peek(&MAIL, 10);
    /// assert_eq!((waiting.len(), waiting[0].id, *waiting[0].event), (1, id, "ada"));
    /// assert_eq!((waiting[0].attempts, &waiting[0].error), (0, &None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peek<T: Send + Sync + 'static>(&self, topic: &Topic<T>, max: usize) -> Vec<Waiting<T>> {
        self.core().peek(topic, max)
    }

    /// Returns how many events of `topic` are scheduled, ready, running and dead. Visits every event of the dispatcher
    /// under its lock; [`stats`](Dispatcher::stats) costs less.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// dispatcher.emit_with(&MAIL, "ada", Emit::after(Duration::from_secs(900)))?;
    ///
    /// let counts = dispatcher.counts(&MAIL);
    /// assert_eq!((counts.scheduled, counts.ready, counts.dead), (1, 0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn counts<T: 'static>(&self, topic: &Topic<T>) -> Counts {
        self.core().counts(topic)
    }

    /// Returns up to `max` events in the dead list of `topic`, the oldest first.
    ///
    /// An event is moved to the dead list when one of its handlers has used up its attempts or failed fatally.
    /// [`max_dead`](Builder::max_dead) bounds the list.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, On, Topic};
    /// # use std::sync::atomic::Ordering;
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// let is_down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    /// let server = is_down.clone();
    /// dispatcher.on(&MAIL, "send", On::new().max_attempts(1), move |_, _| {
    ///     if server.load(Ordering::Relaxed) { Err("no server".into()) } else { Ok(()) }
    /// })?;
    /// dispatcher.emit(&MAIL, "ada")?;
    /// assert!(dispatcher.flush(Duration::from_secs(5)));
    /// let dead = dispatcher.dead(&MAIL, 10);
    /// assert_eq!((*dead[0].event, &*dead[0].error, &*dead[0].handlers[0]), ("ada", "no server", "send"));
    ///
    /// is_down.store(false, Ordering::Relaxed);
    /// assert_eq!(dispatcher.replay(&MAIL, 10), 1);
    /// assert!(dispatcher.flush(Duration::from_secs(5)));
    /// assert_eq!((dispatcher.stats().total().done, dispatcher.purge(&MAIL)), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dead<T: Send + Sync + 'static>(&self, topic: &Topic<T>, max: usize) -> Vec<Dead<T>> {
        self.core().dead(topic, max)
    }

    /// Replays up to `max` events from the dead list of `topic`, the oldest first, and returns their number.
    ///
    /// The events are due at once, and their attempts are counted from zero. Only the handlers that failed are called.
    /// At most as many events are replayed as the dispatcher has room for, and none if it is stopped. See
    /// [`dead`](Dispatcher::dead) for an example.
    pub fn replay<T: 'static>(&self, topic: &Topic<T>, max: usize) -> usize {
        self.core().replay(topic, max)
    }

    /// Removes all events from the dead list of `topic`, and returns their number. They are counted as
    /// [`purged`](TopicStats::purged).
    pub fn purge<T: 'static>(&self, topic: &Topic<T>) -> usize {
        self.core().purge(topic)
    }

    /// Returns the statistics of all topics. They are read under one lock, so they are consistent.
    #[must_use]
    pub fn stats(&self) -> DispatchStats {
        self.core().stats()
    }

    /// Blocks until no event is ready or runs, for at most `wait`. Returns `false` if an event is still ready or runs
    /// then. It does not wait for events that are due later, nor for events of paused topics. On a worker of this
    /// dispatcher it returns at once.
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

    /// Stops the dispatcher permanently.
    ///
    /// No further event starts, and every later call returns `Stopped` or finds nothing. Running handlers may take up
    /// to `within` to return. Handlers that still run then are cancelled with [`Cause::Interrupted`], and may take
    /// another 100 ms. All handlers and schedules are dropped. Returns the waiting events, including those that are
    /// due, and the names of the threads that still run a handler.
    ///
    /// On a worker of this dispatcher it does not wait for that worker. An event whose handler fails after the stop has
    /// returned is dropped, and counted as [`discarded`](TopicStats::discarded). Dropping the last handle does the same
    /// with a `within` of zero.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::{Dispatcher, Emit, EmitErrorKind, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().threads(1).build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let id = dispatcher.emit_with(&MAIL, "ada", Emit::after(Duration::from_secs(900)))?;
    ///
    /// let summary = dispatcher.stop(Duration::from_secs(5));
    /// assert!(summary.still_running.is_empty());
    /// let undone = summary.undone.into_iter().next().unwrap();
    /// assert_eq!((undone.id, undone.attempts), (id, 0));
    /// assert_eq!(undone.into_event::<&str>().unwrap(), "ada");
    /// assert_eq!(dispatcher.emit(&MAIL, "bob").unwrap_err().kind(), EmitErrorKind::Stopped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self, within: Duration) -> Summary {
        self.core().stop(within)
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().fmt(f)
    }
}
