//! Options for emitting an event, and for calling a handler.

use std::time::{Duration, SystemTime};

use super::backoff::Backoff;
use crate::error::OptionError;

/// The due time, unique key and headers of an event.
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
    /// The headers, in the order in which they were added.
    pub(crate) headers: Vec<(String, String)>,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Due {
    /// When it is emitted.
    #[default]
    Now,
    /// This long after it is emitted.
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

    /// Sets a key that must be unique among the unfinished events of the topic, which are those that wait or run. The
    /// key becomes free when the event is done, dead or cancelled. An event without a key is independent of all others.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique = Some(key.into());
        self
    }

    /// Sets what happens if an unfinished event has the same unique key; [`OnDuplicate::Error`] by default.
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.on_duplicate = policy;
        self
    }

    /// Adds a header, which is text that handlers can read, such as a trace id. See
    /// [`Context::header`](super::Context::header).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What happens to an event whose [unique key](Emit::unique) is already taken by an unfinished event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The event is refused with [`EmitErrorKind::Duplicate`](super::EmitErrorKind::Duplicate), which contains the id
    /// of the other event.
    #[default]
    Error,
    /// The event is dropped, and the call returns the id of the other event.
    Keep,
    /// The event replaces the payload, the headers and the due time of the other event, which keeps its id. If the
    /// other event is running, the new event is refused as with [`Error`](OnDuplicate::Error).
    Replace,
}

/// Options for a handler.
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
    /// How many events of the topic run at a time in all processes, if limited.
    pub(crate) parallel_everywhere: Option<usize>,
    /// The maximum number of attempts.
    pub(crate) max_attempts: u32,
    /// How long after a failure the next attempt is due.
    pub(crate) backoff: Backoff,
    /// How long one call may take, if limited.
    pub(crate) max_duration: Option<Duration>,
    /// How long a call may go without progress, if limited.
    pub(crate) progress_within: Option<Duration>,
    /// The number of events of the topic that may start in a period, if limited.
    pub(crate) rate: Option<(u32, Duration)>,
}

impl Default for On {
    fn default() -> Self {
        On {
            parallel: None,
            parallel_everywhere: None,
            max_attempts: 10,
            backoff: Backoff::default(),
            max_duration: None,
            progress_within: None,
            rate: None,
        }
    }
}

impl On {
    /// Returns the default options: 10 attempts, the default [`Backoff`], and no limit on duration, parallelism or
    /// rate.
    pub fn new() -> Self {
        On::default()
    }

    /// Sets how many events of the topic may run at the same time. Default: no limit. Zero is an error.
    ///
    /// The handlers of an event are called one after the other on one thread, so the limit applies to the topic. If
    /// several handlers set a limit, the smallest one applies. A topic at its limit occupies no further thread.
    pub fn parallel(mut self, events: usize) -> Self {
        self.parallel = Some(events);
        self
    }

    /// Sets how many events of the topic may run at the same time in all processes that share a durable dispatcher.
    /// Default: no limit. Zero is an error. If several handlers set a limit, the smallest one applies. A local
    /// dispatcher treats it like [`parallel`](On::parallel).
    pub fn parallel_everywhere(mut self, events: usize) -> Self {
        self.parallel_everywhere = Some(events);
        self
    }

    /// The number of events that may run at the same time in one process, if limited.
    pub(crate) fn parallel_here(&self) -> Option<usize> {
        let limits = [self.parallel, self.parallel_everywhere];
        limits.into_iter().flatten().min()
    }

    /// Sets the maximum number of attempts at an event. Default: 10. Zero is an error. After the last failure the event
    /// is moved to the dead list.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the time between a failure and the next attempt. Default: exponential from 1 s to 10 minutes.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long one call may take. Default: no limit. Zero is an error.
    ///
    /// A call that takes longer is [cancelled](super::Context::is_cancelled) with
    /// [`Cause::TooLong`](super::Cause::TooLong). If it has still not returned after another
    /// [`stuck_after`](super::Builder::stuck_after), it is reported as stuck, its thread is replaced, and the attempt
    /// counts as failed.
    pub fn max_duration(mut self, duration: Duration) -> Self {
        self.max_duration = Some(duration);
        self
    }

    /// Sets the longest time between two calls of [`Context::progress`](super::Context::progress). Default: no limit.
    /// Zero is an error. A call that makes no progress for longer is treated as if it exceeded its
    /// [`max_duration`](On::max_duration).
    pub fn progress_within(mut self, silence: Duration) -> Self {
        self.progress_within = Some(silence);
        self
    }

    /// Limits the topic to `events` starts per `period`, evenly spaced. Default: no limit. Zero is an error for both.
    ///
    /// Two starts are at least `period / events` apart. If several handlers of a topic set a rate, the slowest one
    /// applies.
    pub fn rate(mut self, events: u32, period: Duration) -> Self {
        self.rate = Some((events, period));
        self
    }

    /// Checks each option.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let is_positive = |limit: Option<Duration>| limit != Some(Duration::ZERO);
        OptionError::positive("parallel", self.parallel != Some(0))?;
        let everywhere = self.parallel_everywhere != Some(0);
        OptionError::positive("parallel_everywhere", everywhere)?;
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
