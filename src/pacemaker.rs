//! The sending side: calls a beat function at an interval, on one thread for any number of pacemakers.
//!
//! A [`Pacemaker`] calls its *beat function*, which may beat a [`Heart`](crate::Heart) or a [`Watcher`](crate::Watcher),
//! or write to a socket:
//!
//! ```
//! use std::time::Duration;
//! use liveness::Watcher;
//! use liveness::pacemaker::{Connection, Pacemaker};
//!
//! let watcher = Watcher::<&str>::builder().timeout(Duration::from_secs(3)).build()?;
//! let heart = watcher.watch("billing")?;
//! let pacemaker = Pacemaker::for_timeout(Duration::from_secs(3)) // a beat each second
//!     .phase(Duration::ZERO) // the first at once
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
//! **Ticks.** A *tick* is a moment at which a beat is due. The *n*-th tick after the first is *n* intervals later, however
//! long calls take: there is no drift. The first comes at a random moment of the first interval, and each of the others up
//! to a tenth of an interval early, so that a fleet that was started together does not beat together; see
//! [`phase`](Builder::phase) and [`jitter`](Builder::jitter). Ticks that passed while the process was stopped, or while a call
//! ran, are skipped and counted. No burst makes up for them.
//!
//! **Failures.** A beat that fails is retried between ticks: after a sixteenth of the interval, then twice that, up to a
//! quarter, each wait shortened by up to half at random; see [`retry`](Builder::retry). After three failures in a row the
//! peer is [offline](Connection::Offline). It is then called at the ticks only, until a beat succeeds and it is online again.
//! [`on_change`](Builder::on_change) is called for both changes. A beat function that panics has failed.
//!
//! **Work.** A thread that beats beside the work goes on beating when the work has crashed or hangs. A pacemaker that is
//! started [`idle`](Builder::idle) beats for work only: while it runs ([`during`](Pacemaker::during)), or while it runs and
//! makes progress ([`during_progress`](Pacemaker::during_progress)).
//!
//! **Many pacemakers** share one thread through a [`Pacer`]. Their beat functions run one after the other, so one that takes
//! long delays the others.

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

/// A change of the state of a pacemaker's peer, for [`on_change`](Builder::on_change).
///
/// Its `Display` is for logs: `online`, or `offline: connection refused`.
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

/// The error of a beat function: any error, or a text.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The reason why a pacemaker was not started.
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
    /// An option is out of its range.
    Option(OptionError),
    /// The thread could not be spawned.
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

/// Called for changes, on the thread of the pacemaker.
type Listener = Box<dyn FnMut(Change) + Send>;

/// The options of a [`Pacemaker`], made by [`Pacemaker::every`] or [`Pacemaker::for_timeout`].
#[must_use = "options do nothing until `start`"]
pub struct Builder {
    /// From tick to tick.
    interval: Duration,
    /// The option that the interval comes from.
    made_by: &'static str,
    /// From the start to the first tick.
    phase: Option<Duration>,
    /// By how much of the interval a tick may come early.
    jitter: f64,
    /// The first and the longest wait for a retry.
    retry: Option<(Duration, Duration)>,
    /// The number of failures in a row that make the peer offline.
    offline_after: u32,
    /// Where phase and jitter come from.
    seed: Option<u64>,
    /// Whether it waits for work to beat for.
    is_idle: bool,
    /// Called for changes.
    on_change: Option<Listener>,
    /// Called at a stop.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
}

impl Builder {
    /// The default options, for a tick each `interval`, which the option `made_by` gave.
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

    /// Sets the time from the start to the first tick; zero beats at once. The default is a random part of the interval, so
    /// that a fleet that is started together spreads. Pacemakers that are given the same phase and started together stay
    /// together, but for the jitter.
    ///
    /// With [`idle`](Builder::idle) it is the phase of the ticks only: the first beat comes when work begins.
    pub fn phase(mut self, phase: Duration) -> Self {
        self.phase = Some(phase);
        self
    }

    /// Sets by how much of the interval a tick may come early, at random, from 0 to 0.5. The default is 0.1; zero means no
    /// jitter. It makes no tick late: two are at most the interval and the jitter apart.
    pub fn jitter(mut self, of_interval: f64) -> Self {
        self.jitter = of_interval;
        self
    }

    /// Sets the wait between a failure and the next try: `first`, doubled with each further failure up to `longest`, and up
    /// to half shorter at random. The default is a sixteenth and a quarter of the interval. There is no retry where the next
    /// tick comes sooner, and none while the peer is [offline](Connection::Offline). Neither may be zero.
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = Some((first, longest));
        self
    }

    /// Sets the number of failures in a row, retries included, after which the peer is [offline](Connection::Offline) and is
    /// no longer retried between ticks. The default is 3; with 1 there are no retries. Zero is refused.
    ///
    /// Choose 1 where the errors of a connected `UdpSocket` are all that is known: after each error that reports that nobody
    /// listens, the next send succeeds.
    pub fn offline_after(mut self, failures: u32) -> Self {
        self.offline_after = failures;
        self
    }

    /// Calls `listener` each time the peer turns online or offline. It runs on the pacemaker's thread, and delays the calls
    /// of all pacemakers on it. To receive changes through a channel, send them: `move |change| drop(sender.send(change))`.
    /// A panic is caught; that call is lost.
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

    /// Calls `goodbye` once when the pacemaker is stopped or dropped, after the last beat, on the thread that does so: for a
    /// node that leaves its registry. What it returns is dropped, and a panic is caught. It is not called when a panic drops
    /// the pacemaker: a crash is to be noticed.
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

    /// Starts without beating: only [`during`](Pacemaker::during) and [`during_progress`](Pacemaker::during_progress) beat.
    /// By default a pacemaker beats from its start until the first of those, and from then on during them only.
    pub fn idle(mut self) -> Self {
        self.is_idle = true;
        self
    }

    /// Draws phase, jitter and the waits for retries from `seed`, for reproducible tests. By default the seed is random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the pacemaker on a thread of its own. For many pacemakers on one thread use a [`Pacer`].
    ///
    /// # Errors
    ///
    /// [`PaceError`] if an option is out of its range, or the thread cannot be spawned.
    pub fn start<F, E>(self, beat: F) -> Result<Pacemaker, PaceError>
    where
        F: FnMut() -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        // Before there is a thread for nothing.
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
