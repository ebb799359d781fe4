//! The side that sends beats: calls a function of yours at an interval, on one thread for as many as you like.
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
//!     .phase(Duration::ZERO)
//!     .start(move || heart.beat())?;
//! while pacemaker.connection() != Connection::Online {
//!     std::thread::yield_now();
//! }
//! assert!(pacemaker.stats().beats >= 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **The rhythm.** The *n*-th beat is due *n* intervals after the first, whatever calls cost: there is no drift. The first
//! comes at a random moment of the first interval and each up to a tenth of an interval early, so that a fleet that was
//! started together does not beat together; see [`phase`](Builder::phase) and [`jitter`](Builder::jitter). Beats that were
//! missed because the process was stopped, or a call took too long, are skipped and counted, and never made up for in a
//! burst.
//!
//! **When a beat fails** it is tried again within the interval, after a sixteenth of it, then twice that, up to a quarter,
//! each time by up to half sooner at random; see [`retry`](Builder::retry). After three failures in a row the peer is
//! [offline](Connection::Offline): it is called once an interval until a beat succeeds, and is online again then.
//! [`on_change`](Builder::on_change) reports both. A beat function that panics has failed.
//!
//! **Work that is to be seen alive.** A thread that beats from a thread of its own stays "alive" while the work it stands
//! for has crashed or hangs. A pacemaker that is started [`idle`](Builder::idle) beats for work only:
//! [`during`](Pacemaker::during) while a piece of it runs, until it returns or panics, and
//! [`during_progress`](Pacemaker::during_progress) while it says that it gets on.

mod handle;
mod pacer;
mod plan;
mod rhythm;

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::clock;
pub use handle::{Pacemaker, Progress};
pub use pacer::Pacer;
use rhythm::Pace;

/// What a pacemaker has seen of its peer, which is whether its calls returned `Ok`. Of a datagram that says little: sent from
/// a socket that is not connected it never fails, and from one that is only every other time that nobody listens. To know
/// that the peer hears, let the beat function wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Connection {
    /// Nothing yet: no beat has succeeded, and too few have failed.
    Unknown,
    /// The last beat succeeded, or too few have failed since.
    Online,
    /// As many beats in a row have failed as [`offline_after`](Builder::offline_after) says.
    Offline,
}

/// A change of what a pacemaker sees of its peer, for [`on_change`](Builder::on_change).
#[derive(Debug)]
#[non_exhaustive]
pub struct Change {
    /// What it is now: never [`Unknown`](Connection::Unknown).
    pub connection: Connection,
    /// The error of the last failure; `None` for [`Online`](Connection::Online).
    pub error: Option<BoxError>,
}

/// What a beat function may fail with: any error, or a text.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a pacemaker has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PacemakerStats {
    /// Calls that succeeded.
    pub beats: u64,
    /// Calls that failed or panicked, retries among them.
    pub failures: u64,
    /// Beats that were not made because their time had passed.
    pub skipped: u64,
    /// Beats that were not made because no work ran, or it made no progress.
    pub withheld: u64,
}

/// Why a pacemaker could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum PaceError {
    /// The option named must be above zero.
    Zero(&'static str),
    /// The jitter is not from 0 to 0.5.
    Jitter(f64),
    /// Its thread could not be spawned.
    Spawn(io::Error),
}

impl fmt::Display for PaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PaceError::Zero(option) => write!(f, "`{option}` is zero; it must be more"),
            PaceError::Jitter(given) => {
                write!(
                    f,
                    "`jitter` is {given}; it must be from 0 to 0.5 of the interval"
                )
            }
            PaceError::Spawn(_) => f.write_str("the thread of the pacemaker could not be spawned"),
        }
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

/// Told of changes, on the thread of the pacemaker.
type Listener = Box<dyn FnMut(Change) + Send>;

/// Options of a [`Pacemaker`]; made by [`Pacemaker::every`] and [`Pacemaker::for_timeout`].
#[must_use = "nothing beats until it is started"]
pub struct Builder {
    /// From beat to beat.
    interval: Duration,
    /// From the start to the first beat.
    phase: Option<Duration>,
    /// By how much of the interval a beat may come early.
    jitter: f64,
    /// The first and the longest wait for a retry.
    retry: Option<(Duration, Duration)>,
    /// So many failures in a row make it offline.
    offline_after: u32,
    /// Where phase and jitter come from.
    seed: Option<u64>,
    /// Whether it waits for work to beat for.
    is_idle: bool,
    /// Told of changes.
    on_change: Option<Listener>,
    /// Called at a stop.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
}

impl Builder {
    /// Options as they are by default, for a beat each `interval`.
    fn new(interval: Duration) -> Self {
        Builder {
            interval,
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

    /// How long after the start the first beat comes; zero beats at once. By default a random part of the interval, so
    /// that a fleet that is started together spreads.
    pub fn phase(mut self, phase: Duration) -> Self {
        self.phase = Some(phase);
        self
    }

    /// By how much of the interval a beat may come early, at random, from 0 to 0.5; 0.1 by default, zero means none.
    /// Beats are never late by it: two are at most the interval and the jitter apart.
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

    /// Is told each time the peer turns online or offline. Runs on the pacemaker's thread and must not take long. For a
    /// channel, send to it: `move |change| drop(sender.send(change))`. A panic costs that call.
    pub fn on_change(mut self, listener: impl FnMut(Change) + Send + 'static) -> Self {
        self.on_change = Some(Box::new(listener));
        self
    }

    /// Is called once when the pacemaker is stopped or dropped, after the last beat, on the thread that does so: a polite
    /// leave. What it returns is dropped. Not called when the pacemaker is dropped by a panic: a crash is to be noticed.
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

    /// Begins without beating: only [`during`](Pacemaker::during) and [`during_progress`](Pacemaker::during_progress) beat.
    /// Without it, it beats from its start to the first of those, and from then on in them only.
    pub fn idle(mut self) -> Self {
        self.is_idle = true;
        self
    }

    /// Draws phase and jitter from `seed`, for tests that are to come out the same; by default from chance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts it on a thread of its own. For many pacemakers use one [`Pacer`].
    ///
    /// # Errors
    ///
    /// [`PaceError`] if an option makes no sense, or the thread cannot be spawned.
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
    fn pace(&self) -> Result<Pace, PaceError> {
        let interval = clock::nanos(self.interval);
        let (first, longest) = match self.retry {
            Some((first, longest)) => (clock::nanos(first), clock::nanos(longest)),
            None => ((interval / 16).max(1), (interval / 4).max(1)),
        };
        let positive = [
            ("interval", interval),
            ("first", first),
            ("longest", longest),
            ("offline_after", u64::from(self.offline_after)),
        ];
        if let Some((option, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err(PaceError::Zero(option));
        }
        if !(0.0..=0.5).contains(&self.jitter) {
            return Err(PaceError::Jitter(self.jitter));
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
