//! The options of a dispatcher: defaults, units and validation.

use std::fmt;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::Dispatcher;
use super::error::BuildError;
use super::local::Core;
use super::local::settings::Settings;
use super::notice::Notice;
use crate::clock::Clock;

/// Options for a [`Dispatcher`], created by [`Dispatcher::builder`].
///
/// Setters never fail; [`build`](Builder::build) returns an error that names the invalid option.
///
/// ```
/// use liveness::dispatch::Dispatcher;
///
/// let dispatcher = Dispatcher::builder()
///     .threads(8)
///     .max_unfinished(100_000)
///     .on_notice(|notice| eprintln!("{notice}"))
///     .build()?;
/// # drop(dispatcher);
///
/// let error = Dispatcher::builder().threads(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`threads` must be from 1 to 1,024");
/// # Ok::<(), liveness::dispatch::BuildError>(())
/// ```
#[must_use]
pub struct Builder {
    /// The options.
    settings: Settings,
}

impl Dispatcher {
    /// Returns the options for a new dispatcher, with default values.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Creates the default options.
    fn new() -> Self {
        Builder {
            settings: Settings::new(),
        }
    }

    /// Sets the number of worker threads, from 1 to 1,024. Default: the number of cores, but at least 4. As many
    /// handlers run at the same time.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads;
        self
    }

    /// Sets how many events may be unfinished, which means that they wait or run, from 1 to 10,000,000. Default:
    /// 1,000,000. Further events are refused with [`Full`](super::EmitErrorKind::Full).
    pub fn max_unfinished(mut self, events: usize) -> Self {
        self.settings.max_unfinished = events;
        self
    }

    /// Sets how many events of one topic may be unfinished. Default: no limit per topic. Zero is an error.
    pub fn max_per_topic(mut self, events: usize) -> Self {
        self.settings.max_per_topic = events;
        self
    }

    /// Sets how many dead events a topic keeps, at most 100,000. Default: 1,000. A further dead event replaces the
    /// oldest one, which is counted as purged. With zero, no dead event is kept.
    pub fn max_dead(mut self, events: usize) -> Self {
        self.settings.max_dead = events;
        self
    }

    /// Sets how long a call may continue after it was cancelled with [`Cause::TooLong`](super::Cause::TooLong) before
    /// it is reported as stuck. Default: 10 s. Zero is an error.
    pub fn stuck_after(mut self, duration: Duration) -> Self {
        self.settings.stuck_after = duration;
        self
    }

    /// Sets how many stuck threads may be replaced by new ones at the same time. Default: 16. With zero no thread is
    /// replaced, and a stuck handler occupies its thread until it returns.
    pub fn max_stuck(mut self, threads: usize) -> Self {
        self.settings.max_stuck = threads;
        self
    }

    /// Sets what the names of the threads begin with; `dispatch` by default, must not contain a zero byte.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.settings.thread_name = prefix.into();
        self
    }

    /// Sets the time source. Default: a monotonic clock. With a [`ManualClock`](crate::ManualClock), an event starts as
    /// soon as the clock is moved to its due time.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.settings.clock = Some(clock.into());
        self
    }

    /// Sets the seed of the jitter of retries. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Sets a callback for notices. Default: none. See [`Notice`] for an example.
    ///
    /// The callback runs on the thread that reports the notice, without a lock. It should return soon: time limits are
    /// not checked while it handles [`Notice::Stuck`], and [`stop`](Dispatcher::stop) waits for it. A panic is caught
    /// and counted. A second call of this method replaces the callback.
    pub fn on_notice(mut self, callback: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.settings.on_notice = Some(Box::new(move |notice| {
            callback(notice);
            true
        }));
        self
    }

    /// Creates the dispatcher and spawns its workers.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::Option`] if an option is out of range, or [`BuildError::Spawn`] if the operating system
    /// cannot spawn a thread.
    pub fn build(self) -> Result<Dispatcher, BuildError> {
        Core::start(self.settings).map(Dispatcher::new)
    }

    /// Spawns the workers, and returns the dispatcher with the receiver of its notices. The channel is bounded: it
    /// holds `capacity` notices, from 1 to 65,536.
    ///
    /// No worker waits for the receiver. A notice that finds the channel full, or the receiver gone, is dropped and
    /// counted in [`DispatchStats::lost_notices`](super::DispatchStats::lost_notices). The channel is disconnected when
    /// the last handle is dropped and the threads have ended.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`build`](Builder::build). It is also an error if the capacity is out of range, or
    /// [`on_notice`](Builder::on_notice) is set.
    ///
    /// ```
    /// use liveness::dispatch::{Dispatcher, Notice, On, Topic};
    ///
    /// const MAIL: Topic<&str> = Topic::new("mail");
    /// let (dispatcher, notices) = Dispatcher::builder().build_with_notices(1)?;
    /// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
    /// dispatcher.pause(&MAIL);
    /// dispatcher.resume(&MAIL); // this notice finds the channel full
    /// assert_eq!(notices.recv()?, Notice::Paused { topic: "mail".to_owned() });
    /// assert_eq!((notices.len(), dispatcher.stats().lost_notices), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_with_notices(
        mut self,
        capacity: usize,
    ) -> Result<(Dispatcher, Receiver<Notice>), BuildError> {
        let has_callback = self.settings.on_notice.is_some();
        let receiver = self.settings.channel(capacity, has_callback)?;
        Ok((self.build()?, receiver))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Builder")
            .field("threads", &settings.threads)
            .field("max_unfinished", &settings.max_unfinished)
            .field("max_per_topic", &settings.max_per_topic)
            .field("max_dead", &settings.max_dead)
            .field("stuck_after", &settings.stuck_after)
            .field("max_stuck", &settings.max_stuck)
            .finish_non_exhaustive()
    }
}
