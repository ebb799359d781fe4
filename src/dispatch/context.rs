//! The context of a handler's call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cause::Cause;
use super::id::EventId;
use super::options::On;
use super::seat::Seat;
use crate::clock::{Clock, Timestamp, nanos};

/// The context of one call of a handler: the event, the attempt, and whether the call should end early.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
///
/// const POLL: Topic<String> = Topic::new("poll");
/// let dispatcher = Dispatcher::builder().build()?;
/// dispatcher.on(&POLL, "poll", On::new().max_duration(Duration::from_secs(5)), |context, url| {
///     for page in 0..10 {
///         // fetch the page
///         if context.wait(Duration::from_millis(1)) {
///             return Err(format!("page {page} of {url}: {}", context.cause().unwrap()).into());
///         }
///     }
///     assert_eq!((context.attempt(), context.header("trace")), (1, Some("4bf9")));
///     Ok(())
/// })?;
/// dispatcher.emit_with(&POLL, "example.org".to_owned(), Emit::now().header("trace", "4bf9"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Context {
    /// The worker that runs the call.
    pub(crate) seat: Arc<Seat>,
    /// The time.
    pub(crate) clock: Clock,
    /// The event.
    pub(crate) id: EventId,
    /// The topic's name.
    pub(crate) topic: Arc<str>,
    /// The handler's name.
    pub(crate) handler: Arc<str>,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// The maximum number of attempts.
    pub(crate) max_attempts: u32,
    /// When the event was due, ns.
    pub(crate) due: u64,
    /// When the event was started, ns.
    pub(crate) started: u64,
    /// The number of the start.
    pub(crate) fence: u64,
    /// When the time limit of the call passes, ns.
    pub(crate) deadline: Option<u64>,
    /// The headers of the event.
    pub(crate) headers: Option<Arc<[(String, String)]>>,
    /// Records progress, if the handler has a limit for it.
    pub(crate) progress: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Context {
    /// Creates the context of the worker on `seat`, which is filled in for each event and each call.
    pub(crate) fn new(seat: Arc<Seat>, clock: Clock) -> Self {
        Context {
            seat,
            clock,
            id: EventId::new(0),
            topic: Arc::default(),
            handler: Arc::default(),
            attempt: 0,
            max_attempts: 0,
            due: 0,
            started: 0,
            fence: 0,
            deadline: None,
            headers: None,
            progress: None,
        }
    }

    /// Prepares the context for the call of a handler with `options`.
    pub(crate) fn enter(&mut self, handler: &Arc<str>, options: &On) {
        set(&mut self.handler, handler);
        self.max_attempts = options.max_attempts;
        let limit = options.max_duration.map(nanos);
        self.deadline = limit.map(|limit| self.clock.now_ns().saturating_add(limit));
    }

    /// Returns the event's id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the name of the handler.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// Returns the number of this attempt, from 1. An attempt that was put off, or whose process ended, does not count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the maximum number of attempts of this handler; see [`max_attempts`](super::On::max_attempts).
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Returns when the event was due, as wall-clock time.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        self.clock.system_time(Timestamp::from_nanos(self.due))
    }

    /// Returns how long after its due time the event was started.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        Duration::from_nanos(self.started.saturating_sub(self.due))
    }

    /// Returns a number that is higher for a later attempt at the same event (a fencing token).
    ///
    /// A store can remember the highest fence of each event and refuse lower ones. It then ignores writes of an earlier
    /// attempt that continues after it was given up. Fences of different events are not to be compared: in a durable
    /// dispatcher, events that were claimed together have the same one.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns the value of the header `name`. If there are several, returns the last one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers().iter().rev();
        found
            .find(|(other, _)| other == name)
            .map(|(_, value)| &**value)
    }

    /// Returns all headers, in the order in which they were added.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        self.headers.as_deref().unwrap_or_default()
    }

    /// Returns the remaining time of the call's [`max_duration`](super::On::max_duration), or `None` if the handler has
    /// no such limit.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.deadline?.saturating_sub(self.clock.now_ns());
        Some(Duration::from_nanos(left))
    }

    /// Returns `true` once the call should end early. Costs one load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cause().is_some()
    }

    /// Returns why the call should end early, or `None` if it need not.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.seat.cause()
    }

    /// Blocks for `duration`, or until the call should end early. Returns `true` if the call should end early. A
    /// handler that calls this instead of sleeping does not delay a stop.
    #[must_use = "a call that is cancelled is to return"]
    pub fn wait(&self, duration: Duration) -> bool {
        self.seat.wait(&self.clock, duration)
    }

    /// Records that the call makes progress; see [`On::progress_within`](super::On::progress_within). Costs one store.
    pub fn progress(&self) {
        if let Some(progress) = &self.progress {
            progress();
        }
    }
}

/// Sets `name` to `to`. If they are already equal, the reference counts are not changed, because workers contend for
/// them.
pub(crate) fn set(name: &mut Arc<str>, to: &Arc<str>) {
    if !Arc::ptr_eq(name, to) {
        name.clone_from(to);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .field("handler", &self.handler)
            .field("attempt", &self.attempt)
            .field("cause", &self.cause())
            .finish_non_exhaustive()
    }
}
