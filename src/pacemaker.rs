//! Sends heartbeats: calls a function at an interval, on one thread for any number of pacemakers.
//!
//! A [`Pacemaker`] calls its *beat function*, which may beat a [`Heart`](crate::Heart) or a
//! [`Watcher`](crate::Watcher), or write to a socket:
//!
//! ```
//! use std::time::Duration;
//! use liveness::Watcher;
//! use liveness::pacemaker::{Connection, Pacemaker};
//!
//! let watcher = Watcher::<&str>::builder().timeout(Duration::from_secs(3)).build()?;
//! let heart = watcher.watch("billing")?;
//! let pacemaker = Pacemaker::for_timeout(Duration::from_secs(3)) // a beat every second
//! .phase(Duration::ZERO) // the first beat at once
//!     .start(move || heart.beat())?;
//! while pacemaker.connection() != Connection::Online {
//!     std::thread::yield_now();
//! }
//! assert!(pacemaker.stats().beats >= 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Keep the [`Pacemaker`]: dropping it stops the beats.
//!
//! **Ticks.** A *tick* is a moment at which a beat is due. The *n*-th tick after the first is *n* intervals later,
//! however long calls take, so the ticks do not drift. The first tick comes at a random moment of the first interval,
//! and each later one up to a tenth of an interval early. Processes that are started together therefore do not beat
//! together; see [`phase`](Builder::phase) and [`jitter`](Builder::jitter). Ticks that pass while the process is
//! suspended, or while a call runs, are skipped and counted. They are not made up for later.
//!
//! **Failures.** A beat that fails is retried between ticks, first after a sixteenth of the interval, then after twice
//! that, up to a quarter. Each wait is shortened by up to half at random; see [`retry`](Builder::retry). After three
//! failures in a row the peer is [offline](Connection::Offline). The beat function is then called at ticks only, until
//! a call succeeds and the peer is online again. [`on_change`](Builder::on_change) is called for both changes. A panic
//! of the beat function is a failure.
//!
//! **Work.** A thread that only sends beats continues to do so after the work of the process has crashed or while it
//! hangs. A pacemaker that is started [`idle`](Builder::idle) beats only for work: while it runs
//! ([`during`](Pacemaker::during)), or while it runs and makes progress
//! ([`during_progress`](Pacemaker::during_progress)).
//!
//! **Many pacemakers** share one thread through a [`Pacer`]. Their beat functions run one after another, so a slow one
//! delays the others.

mod handle;
mod member;
mod pacer;
mod plan;
mod rhythm;
mod stats;

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::clock;
use crate::error::OptionError;
pub use handle::{Pacemaker, Progress};
pub use pacer::Pacer;
use rhythm::Pace;
pub use stats::{Connection, PacemakerStats};

/// A change of the state of a pacemaker's peer, passed to [`on_change`](Builder::on_change).
///
/// Its `Display` is one line for a log, such as `online` or `offline: connection refused`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Change {
    /// The new state; never [`Unknown`](Connection::Unknown).
    pub connection: Connection,
    /// The error of the last failure; `None` for [`Online`](Connection::Online).
    pub error: Option<BoxError>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.connection),
            None => write!(f, "{}", self.connection),
        }
    }
}

/// The error of a beat function: any error, or a string.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error of starting a pacemaker.
///
/// ```
/// use std::time::Duration;
/// use liveness::pacemaker::{BoxError, Pacemaker};
///
/// let options = Pacemaker::every(Duration::from_secs(1)).offline_after(0);
/// let error = options.start(|| Ok::<(), BoxError>(())).unwrap_err();
/// assert_eq!(error.to_string(), "`offline_after` must be greater than zero");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum PaceError {
    /// An option is out of range.
    Option(OptionError),
    /// The thread cannot be spawned.
    Spawn(io::Error),
}

impl fmt::Display for PaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PaceError::Option(error) => error.fmt(f),
            PaceError::Spawn(_) => f.write_str("the thread of the pacemaker could not be spawned"),
        }
    }
}

impl From<OptionError> for PaceError {
    fn from(error: OptionError) -> Self {
        PaceError::Option(error)
    }
}

impl Error for PaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PaceError::Spawn(error) => Some(error),
            _ => None,
        }
    }
}

/// A callback for changes, called on the thread of the pacemaker.
type Listener = Box<dyn FnMut(Change) + Send>;

/// Options of a [`Pacemaker`], created by [`Pacemaker::every`] or [`Pacemaker::for_timeout`]. Options are validated by
/// [`start`](Builder::start) only.
#[must_use = "options do nothing until `start`"]
pub struct Builder {
    /// The time from one tick to the next.
    interval: Duration,
    /// The name of the option that the interval was set by.
    made_by: &'static str,
    /// The time from the start to the first tick; random if `None`.
    phase: Option<Duration>,
    /// The fraction of the interval by which a tick may come early.
    jitter: f64,
    /// The first and the longest wait for a retry.
    retry: Option<(Duration, Duration)>,
    /// The number of failures in a row that make the peer offline.
    offline_after: u32,
    /// The seed of phase, jitter and the waits for retries; random if `None`.
    seed: Option<u64>,
    /// Whether it beats for work only, from the start on.
    is_idle: bool,
    /// The callback for changes.
    on_change: Option<Listener>,
    /// The function that is called at the end.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
}

impl Builder {
    /// Creates the default options with a tick every `interval`, which was set by the option `made_by`.
    fn new(interval: Duration, made_by: &'static str) -> Self {
        Builder {
            interval,
            made_by,
            phase: None,
            jitter: 0.1,
            retry: None,
            offline_after: 3,
            seed: None,
            is_idle: false,
            on_change: None,
            goodbye: None,
        }
    }

    /// Sets the time from the start to the first tick. Default: a random part of the interval, so that processes that
    /// start together do not beat together. With zero, the first beat is made at once. Pacemakers with equal phases
    /// that start together stay together, apart from the jitter.
    ///
    /// With [`idle`](Builder::idle), this is the phase of the ticks only. The first beat is made when work begins.
    pub fn phase(mut self, phase: Duration) -> Self {
        self.phase = Some(phase);
        self
    }

    /// Sets the fraction of the interval by which a tick may come early, at random, from 0 to 0.5. Default: 0.1. With
    /// zero, there is no jitter. Jitter never makes a tick late: two ticks are at most the interval plus the jitter
    /// apart. Values outside the range are refused by `start`.
    pub fn jitter(mut self, of_interval: f64) -> Self {
        self.jitter = of_interval;
        self
    }

    /// Sets the wait between a failure and the next attempt. It starts at `first`, doubles with each further failure up
    /// to `longest`, and is shortened by up to half at random. Default: a sixteenth and a quarter of the interval. No
    /// retry is made if the next tick comes sooner, or while the peer is [offline](Connection::Offline). Zero is
    /// refused by `start` for both.
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = Some((first, longest));
        self
    }

    /// Sets the number of failures in a row, including retries, after which the peer is [offline](Connection::Offline)
    /// and no longer retried between ticks. Default: 3. With 1, there are no retries. Zero is refused by `start`.
    ///
    /// Use 1 if the errors of a connected `UdpSocket` are the only sign of a failure: after each error that reports a
    /// closed port, the next send succeeds.
    pub fn offline_after(mut self, failures: u32) -> Self {
        self.offline_after = failures;
        self
    }

    /// Sets a callback that is called each time the peer goes online or offline. Default: none. It runs on the thread
    /// of the pacemaker and delays the beats of all pacemakers on that thread. A panic in the callback is caught. To
    /// receive the changes through a channel, send them:
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, changes) = crossbeam_channel::unbounded();
    /// let pacemaker = Pacemaker::every(Duration::from_secs(1))
    ///     .phase(Duration::ZERO)
    ///     .offline_after(1)
    ///     .on_change(move |change| drop(sender.send(change.to_string())))
    ///     .start(|| Err("connection refused"))?;
    /// assert_eq!(changes.recv()?, "offline: connection refused");
    /// # pacemaker.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_change(mut self, listener: impl FnMut(Change) + Send + 'static) -> Self {
        self.on_change = Some(Box::new(listener));
        self
    }

    /// Sets a function that is called once when the pacemaker is stopped or dropped, after the last beat, on the thread
    /// that stops it. Default: none. It can, for example, remove the node from its registry. Its return value is
    /// dropped, and a panic is caught. The function is not called if the pacemaker is dropped by a panic, so that a
    /// crash is noticed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, wire) = crossbeam_channel::unbounded();
    /// let beats = sender.clone();
    /// let pacemaker = Pacemaker::every(Duration::from_secs(1))
    ///     .phase(Duration::ZERO)
    ///     .goodbye(move || sender.send("bye"))
    ///     .start(move || beats.send("beat"))?;
    /// assert_eq!(wire.recv()?, "beat");
    /// pacemaker.stop();
    /// assert_eq!(wire.iter().last(), Some("bye"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn goodbye<R>(mut self, goodbye: impl FnOnce() -> R + Send + 'static) -> Self {
        self.goodbye = Some(Box::new(|| drop(goodbye())));
        self
    }

    /// Starts without beating, so that only [`during`](Pacemaker::during) and
    /// [`during_progress`](Pacemaker::during_progress) beat. By default a pacemaker beats from its start until the
    /// first such call, and only during such calls from then on.
    pub fn idle(mut self) -> Self {
        self.is_idle = true;
        self
    }

    /// Sets the seed of the phase, the jitter and the waits for retries, for reproducible tests. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the pacemaker on a new thread. To run many pacemakers on one thread, use a [`Pacer`].
    ///
    /// # Errors
    ///
    /// Returns a [`PaceError`] if an option is out of range or the thread cannot be spawned.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let pacemaker = Pacemaker::every(Duration::from_millis(1)).start(move || sender.send("beat"))?;
    /// assert_eq!(beats.recv()?, "beat");
    /// pacemaker.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start<F, E>(self, beat: F) -> Result<Pacemaker, PaceError>
    where
        F: FnMut() -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        // Checked before a thread is spawned.
        self.pace()?;
        Pacer::spawn().map_err(PaceError::Spawn)?.start(self, beat)
    }

    /// The options as the rhythm wants them.
    fn pace(&self) -> Result<Pace, OptionError> {
        let interval = clock::nanos(self.interval);
        let (first, longest) = match self.retry {
            Some((first, longest)) => (clock::nanos(first), clock::nanos(longest)),
            None => ((interval / 16).max(1), (interval / 4).max(1)),
        };
        let least = match self.made_by {
            "for_timeout" => "be at least 3 ns",
            _ => "be greater than zero",
        };
        OptionError::check(self.made_by, least, interval > 0)?;
        let has_waits = first > 0 && longest > 0;
        OptionError::check("retry", "be two waits greater than zero", has_waits)?;
        OptionError::positive("offline_after", self.offline_after > 0)?;
        if !(0.0..=0.5).contains(&self.jitter) {
            let must = format!("be from 0 to 0.5, not {}", self.jitter);
            return Err(OptionError::new("jitter", must));
        }
        Ok(Pace {
            interval,
            phase: self.phase.map(clock::nanos),
            jitter: self.jitter,
            first_retry: first,
            longest_retry: longest,
            offline_after: self.offline_after,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("interval", &self.interval)
            .field("phase", &self.phase)
            .field("jitter", &self.jitter)
            .field("retry", &self.retry)
            .field("offline_after", &self.offline_after)
            .field("seed", &self.seed)
            .field("is_idle", &self.is_idle)
            .finish_non_exhaustive()
    }
}
