//! The user's hold on one pacemaker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;

use super::member::{BeatFn, Member, Shared, Work};
use super::pacer::{Handle, Pacer};
use super::rhythm::Rhythm;
use super::stats::{Connection, PacemakerStats};
use super::{BoxError, Builder, PaceError};
use crate::panic::catch_panic;

/// Calls a beat function at an interval; see the [module](super).
///
/// Dropping it is as [`stop`](Pacemaker::stop), and blocks for as long as a call that runs.
#[must_use = "the beats stop when the pacemaker is dropped"]
pub struct Pacemaker {
    /// Its number at its thread.
    id: u64,
    /// What it shares with the thread.
    shared: Arc<Shared>,
    /// Called at the end.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
    /// The thread.
    handle: Arc<Handle>,
}

impl Pacer {
    /// Starts a pacemaker with `options` that calls `beat` on this thread.
    ///
    /// # Errors
    ///
    /// [`PaceError`] if an option is out of its range.
    pub fn start<F, E>(&self, options: Builder, mut beat: F) -> Result<Pacemaker, PaceError>
    where
        F: FnMut() -> Result<(), E> + Send + 'static,
        E: Into<BoxError>,
    {
        let beat = Box::new(move || beat().map_err(Into::into));
        Pacemaker::start(options, beat, &self.handle)
    }
}

impl Pacemaker {
    /// Returns the options of a pacemaker with a tick each `interval`.
    pub fn every(interval: Duration) -> Builder {
        Builder::new(interval, "every")
    }

    /// Returns the options of a pacemaker whose peer waits `timeout` for a beat: a tick each third of it.
    ///
    /// One beat may be lost without harm. After two in a row the third comes at the very end of the timeout, and may arrive
    /// late. For two, take `every(timeout * 2 / 7)`.
    pub fn for_timeout(timeout: Duration) -> Builder {
        Builder::new(timeout / 3, "for_timeout")
    }

    /// Starts one with `options` that calls `beat` on the thread of `handle`.
    pub(super) fn start(
        options: Builder,
        beat: BeatFn,
        handle: &Arc<Handle>,
    ) -> Result<Pacemaker, PaceError> {
        let pace = options.pace()?;
        let rng = options.seed.map_or_else(Rng::new, Rng::with_seed);
        let shared = Arc::new(Shared {
            work: Mutex::new(if options.is_idle {
                Work::None
            } else {
                Work::Running
            }),
            seen: Mutex::new((Connection::Unknown, PacemakerStats::default())),
        });
        let member = Member {
            rhythm: Rhythm::new(pace, handle.core.now_ns(), rng),
            beat,
            on_change: options.on_change,
            shared: shared.clone(),
            is_unreported: false,
        };
        Ok(Pacemaker {
            id: handle.core.add(member),
            shared,
            goodbye: options.goodbye,
            handle: handle.clone(),
        })
    }

    /// Returns the state of the peer, by the calls so far.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.shared.seen.lock().0
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> PacemakerStats {
        self.shared.seen.lock().1
    }

    /// Runs `work`, and beats while it runs.
    ///
    /// The first beat comes at once, or an interval after the last beat if that is later. The others come at the ticks, whose
    /// phase was drawn at the [start](Builder::start): the second beat may follow the first closely, and pacemakers that begin
    /// work at one moment do not stay in step. When this returns or panics, no call is made any longer, and the last one has
    /// ended: so it blocks for as long as a call that runs then.
    ///
    /// From its first work on a pacemaker beats for work only. One that is [`idle`](Builder::idle) does so from its start.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let mut pacemaker = Pacemaker::every(Duration::from_millis(1))
    ///     .idle()
    ///     .start(move || sender.send(()))?;
    /// let answer = pacemaker.during(|| beats.iter().take(3).count());
    /// assert_eq!(answer, 3);
    /// let late = beats.len(); // those that were sent before the work had returned
    /// std::thread::sleep(Duration::from_millis(5));
    /// assert_eq!(beats.len(), late);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _guard = Guard::begin(self, Work::Running);
        work()
    }

    /// Runs `work`, and beats while it runs and makes progress, so that work that hangs falls silent.
    ///
    /// A tick makes a beat only if [`Progress::made`] was called since the last beat; the start of the work counts as
    /// progress. Work that makes progress at least once an interval is beaten for at each tick. A beat that failed is retried
    /// without further progress until the next tick, which asks for progress again. Otherwise this is
    /// [`during`](Pacemaker::during).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let mut pacemaker = Pacemaker::every(Duration::from_millis(1))
    ///     .idle()
    ///     .start(move || sender.send(()))?;
    /// pacemaker.during_progress(|progress| {
    ///     for _ in 0..10 {
    ///         progress.made();
    ///         beats.recv().unwrap();
    ///     }
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn during_progress<T>(&mut self, work: impl FnOnce(&Progress) -> T) -> T {
        let progress = Progress(Arc::new(AtomicBool::new(true)));
        let _guard = Guard::begin(self, Work::Progressing(progress.0.clone()));
        work(&progress)
    }

    /// Begins work, which lasts until the guard is dropped.
    #[cfg(test)]
    pub(super) fn begin(&mut self) -> Guard<'_> {
        Guard::begin(self, Work::Running)
    }

    /// Stops the beats, and calls [`goodbye`](Builder::goodbye). No call begins any longer. Blocks until a call that runs has
    /// ended, unless it is that call which stops its own pacemaker, or another one of the same thread.
    pub fn stop(self) {}

    /// Waits until no call of it runs, unless this is its own thread.
    fn wait_for_call(&self) {
        if !self.handle.thread.is_current() {
            self.handle.core.wait_for_call(self.id);
        }
    }
}

impl Drop for Pacemaker {
    fn drop(&mut self) {
        let member = self.handle.core.remove(self.id);
        let _ = catch_panic(|| drop(member));
        self.wait_for_call();
        let goodbye = self.goodbye.take();
        if thread::panicking() {
            let _ = catch_panic(|| drop(goodbye));
        } else if let Some(goodbye) = goodbye {
            let _ = catch_panic(goodbye);
        }
    }
}

impl fmt::Debug for Pacemaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacemaker")
            .field("connection", &self.connection())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Reports that work makes progress; see [`Pacemaker::during_progress`]. Clones speak for the same piece of work, and have no
/// effect when it has ended.
#[derive(Clone, Debug)]
pub struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Reports progress. Costs one atomic store.
    pub fn made(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Lets a pacemaker beat until it is dropped.
#[must_use = "the work ends when this is dropped"]
pub(super) struct Guard<'a>(&'a Pacemaker);

impl<'a> Guard<'a> {
    /// Lets `pacemaker` beat for `work`.
    fn begin(pacemaker: &'a mut Pacemaker, work: Work) -> Self {
        *pacemaker.shared.work.lock() = work;
        pacemaker.handle.core.restart(pacemaker.id);
        Guard(pacemaker)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        *self.0.shared.work.lock() = Work::None;
        self.0.wait_for_call();
    }
}
