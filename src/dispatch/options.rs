//! How one event is emitted, and how a handler is called.

use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use crate::error::OptionError;

/// When an event is due, and what goes with it.
///
/// Without options an event is due at once.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::{Emit, OnDuplicate};
///
/// let reminder = Emit::after(Duration::from_secs(900))
///     .unique("order-17")
///     .on_duplicate(OnDuplicate::Replace)
///     .header("trace", "4bf92f35");
/// # drop(reminder);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it says how an event is emitted, and does nothing by itself"]
pub struct Emit {
    /// When the event is due.
    pub(crate) due: Due,
    /// The unique key, if there is one.
    pub(crate) unique: Option<String>,
    /// What happens if an unfinished event has the same unique key.
    pub(crate) on_duplicate: OnDuplicate,
    /// What goes with the event, in the order it was given.
    pub(crate) headers: Vec<(String, String)>,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Due {
    /// When it is emitted.
    #[default]
    Now,
    /// So long after it is emitted.
    After(Duration),
    /// At this time of the wall clock.
    At(SystemTime),
}

impl Emit {
    /// Returns options for an event that is due at once.
    pub fn now() -> Self {
        Emit::default()
    }

    /// Returns options for an event that is due `delay` after it is emitted. Zero means at once.
    pub fn after(delay: Duration) -> Self {
        Emit {
            due: Due::After(delay),
            ..Emit::default()
        }
    }

    /// Returns options for an event that is due at `time` of the wall clock. A time in the past means at once.
    ///
    /// The time is converted when the event is emitted; a later step of the wall clock does not move the event.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use liveness::dispatch::{Dispatcher, Emit, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let dispatcher = Dispatcher::builder().build()?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    /// dispatcher.emit_with(&MAIL, "ada", Emit::at(tomorrow))?;
    /// assert_eq!(dispatcher.counts(&MAIL).scheduled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(time: SystemTime) -> Self {
        Emit {
            due: Due::At(time),
            ..Emit::default()
        }
    }

    /// Sets a key that no other unfinished event of the topic has: one that waits or runs. The key is free again when the
    /// event is done, dead or cancelled. Without it, events are independent.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique = Some(key.into());
        self
    }

    /// Sets what happens if an unfinished event has the same unique key; [`OnDuplicate::Error`] by default.
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.on_duplicate = policy;
        self
    }

    /// Adds a header: text that goes with the event to its handlers, such as a trace id. See
    /// [`Context::header`](super::Context::header).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What happens to an event whose [unique key](Emit::unique) an unfinished event has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The event is refused: [`EmitErrorKind::Duplicate`](super::EmitErrorKind::Duplicate) names the other one.
    #[default]
    Error,
    /// The event is dropped, and the call returns the id of the other one.
    Keep,
    /// The event takes the place of the other one, with its id: the payload, the headers and the due time are replaced. If
    /// the other one is running, the event is refused as with [`Error`](OnDuplicate::Error).
    Replace,
}

/// How a handler is called.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::{Backoff, On};
///
/// let options = On::new()
///     .parallel(4)
///     .max_attempts(8)
///     .backoff(Backoff::exponential(Duration::from_millis(200), Duration::from_secs(60)))
///     .max_duration(Duration::from_secs(50));
/// # drop(options);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "it says how a handler is called, and does nothing by itself"]
pub struct On {
    /// How many events of the topic run at a time, if limited.
    pub(crate) parallel: Option<usize>,
    /// How often an event is tried.
    pub(crate) max_attempts: u32,
    /// How long after a failure the next attempt is due.
    pub(crate) backoff: Backoff,
    /// How long one call may take, if limited.
    pub(crate) max_duration: Option<Duration>,
    /// How long a call may go without progress, if limited.
    pub(crate) progress_within: Option<Duration>,
    /// How many events of the topic start in which time, if limited.
    pub(crate) rate: Option<(u32, Duration)>,
}

impl Default for On {
    fn default() -> Self {
        On {
            parallel: None,
            max_attempts: 10,
            backoff: Backoff::default(),
            max_duration: None,
            progress_within: None,
            rate: None,
        }
    }
}

impl On {
    /// Returns the default options: 10 attempts, the default [`Backoff`], no limit of duration, parallelism or rate.
    pub fn new() -> Self {
        On::default()
    }

    /// Sets how many events of the topic run at a time; no limit by default, must be greater than zero.
    ///
    /// The handlers of an event are called one after the other on one thread, so the limit holds for the topic: of several
    /// handlers the smallest limit counts. A topic at its limit takes no thread from another topic.
    pub fn parallel(mut self, events: usize) -> Self {
        self.parallel = Some(events);
        self
    }

    /// Sets how often an event is tried; 10 by default, must be greater than zero. After the last failure the event goes to
    /// the dead list.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets how long after a failure the next attempt is due; exponential from 1 s to 10 minutes by default.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long one call may take; no limit by default, must be greater than zero.
    ///
    /// A call that takes longer is [cancelled](super::Context::is_cancelled) with [`Cause::TooLong`](super::Cause::TooLong).
    /// If it has still not returned after another [`stuck_after`](super::Builder::stuck_after), it is reported as stuck, its
    /// thread is replaced, and the attempt counts as failed.
    pub fn max_duration(mut self, duration: Duration) -> Self {
        self.max_duration = Some(duration);
        self
    }

    /// Sets how long a call may go without calling [`Context::progress`](super::Context::progress); no limit by default, must
    /// be greater than zero. A call that goes without it for longer is treated as one over its
    /// [`max_duration`](On::max_duration).
    pub fn progress_within(mut self, silence: Duration) -> Self {
        self.progress_within = Some(silence);
        self
    }

    /// Limits the topic to `events` starts per `period`, evenly spaced; no limit by default, both must be greater than zero.
    ///
    /// Two starts are at least `period / events` apart. Of several handlers of a topic the slowest rate counts.
    pub fn rate(mut self, events: u32, period: Duration) -> Self {
        self.rate = Some((events, period));
        self
    }

    /// Checks each option.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let is_positive = |limit: Option<Duration>| limit != Some(Duration::ZERO);
        OptionError::positive("parallel", self.parallel != Some(0))?;
        OptionError::positive("max_attempts", self.max_attempts > 0)?;
        OptionError::positive("max_duration", is_positive(self.max_duration))?;
        OptionError::positive("progress_within", is_positive(self.progress_within))?;
        let rate = self.rate;
        let has_rate = rate.is_none_or(|(events, period)| events > 0 && !period.is_zero());
        OptionError::positive("rate", has_rate)?;
        self.backoff.check()
    }

    /// The time between two starts, ns; zero without a limit.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.rate.map_or(0, |(events, period)| {
            crate::clock::nanos(period).div_ceil(u64::from(events.max(1)))
        })
    }
}
