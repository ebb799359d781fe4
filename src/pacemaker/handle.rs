//! A handle to one pacemaker.

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

/// Calls a beat function at an interval; see the [module documentation](super).
///
/// Dropping it stops it like [`stop`](Pacemaker::stop), which blocks until a running call has ended.
#[must_use = "the beats stop when the pacemaker is dropped"]
pub struct Pacemaker {
    /// The number of the pacemaker on its thread.
    id: u64,
    /// The state shared with the thread.
    shared: Arc<Shared>,
    /// The function that is called at the end.
    goodbye: Option<Box<dyn FnOnce() + Send>>,
    /// The thread.
    handle: Arc<Handle>,
}

impl Pacer {
    /// Starts a pacemaker with `options` that calls `beat` on this thread.
    ///
    /// # Errors
    ///
    /// Returns a [`PaceError`] if an option is out of range.
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
    /// Returns options with a tick every `interval`.
    pub fn every(interval: Duration) -> Builder {
        Builder::new(interval, "every")
    }

    /// Returns options for a peer that waits `timeout` for a beat: the interval is a third of it.
    ///
    /// One beat may then be lost without harm. If two are lost in a row, the third is sent at the very end of the
    /// timeout and may arrive too late. To tolerate two lost beats, use `every(timeout * 2 / 7)`.
    pub fn for_timeout(timeout: Duration) -> Builder {
        Builder::new(timeout / 3, "for_timeout")
    }

    /// Starts a pacemaker with `options` that calls `beat` on the thread of `handle`.
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

    /// Returns the state of the peer, judged by the calls so far.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::{BoxError, Connection, Pacemaker};
    ///
    /// let hour = Duration::from_secs(3_600);
    /// let pacemaker = Pacemaker::every(hour).phase(hour).start(|| Ok::<(), BoxError>(()))?;
    /// assert_eq!(pacemaker.connection(), Connection::Unknown); // not called yet
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.shared.seen.lock().0
    }

    /// Returns the counters.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::{BoxError, Pacemaker};
    ///
    /// let hour = Duration::from_secs(3_600);
    /// let pacemaker = Pacemaker::every(hour).phase(hour).start(|| Ok::<(), BoxError>(()))?;
    /// assert_eq!(pacemaker.stats().to_string(), "0 beats, 0 failures, 0 skipped, 0 withheld");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> PacemakerStats {
        self.shared.seen.lock().1
    }

    /// Returns a function that reads the state and the counters until the pacemaker has ended, and does not keep it.
    #[cfg(feature = "observe")]
    pub(crate) fn reader(
        &self,
    ) -> impl Fn() -> Option<(Connection, PacemakerStats)> + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || Some(*shared.upgrade()?.seen.lock())
    }

    /// Runs `work`, and beats while it runs. Returns the value that `work` returns.
    ///
    /// The first beat is made at once, or an interval after the last beat if that is later. Further beats are made at
    /// the ticks, whose phase was chosen at the [start](Builder::start). The second beat may therefore follow the first
    /// closely, and pacemakers that begin work at the same moment do not stay in step. When this method returns or
    /// panics, the last call of the beat function has ended. It blocks until then.
    ///
    /// After its first work, a pacemaker beats for work only. An [`idle`](Builder::idle) one does so from its start.
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
    /// let late = beats.len(); // beats that were sent before the work returned
    /// std::thread::sleep(Duration::from_millis(5));
    /// assert_eq!(beats.len(), late);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _guard = Guard::begin(self, Work::Running);
        work()
    }

    /// Runs `work`, and beats while it runs and makes progress, so that work that hangs falls silent. Returns the value
    /// that `work` returns.
    ///
    /// At a tick a beat is made only if [`Progress::made`] was called since the last beat. The start of the work counts
    /// as progress. Work that makes progress at least once per interval is beaten for at every tick. A beat that failed
    /// is retried without further progress until the next tick, which requires progress again. In all other respects
    /// this method behaves like [`during`](Pacemaker::during).
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

    /// Stops the beats, and then calls the [`goodbye`](Builder::goodbye) function. Blocks until a running call has
    /// ended, unless it is called by a beat function on the same thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::pacemaker::Pacemaker;
    ///
    /// let (sender, beats) = crossbeam_channel::unbounded();
    /// let pacemaker = Pacemaker::every(Duration::from_millis(1)).start(move || sender.send(()))?;
    /// beats.recv()?;
    /// pacemaker.stop(); // drops the beat function and its sender
    /// for () in &beats {}
    /// assert!(beats.recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(self) {}

    /// Waits until no call of this pacemaker runs, unless this is its own thread.
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

/// Reports that work makes progress, passed to the work by [`Pacemaker::during_progress`]. Clones report for the same
/// work, and have no effect after it has ended.
#[derive(Clone, Debug)]
pub struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Reports progress. Costs one atomic store.
    pub fn made(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Makes a pacemaker beat for work until it is dropped.
#[must_use = "the work ends when this is dropped"]
pub(super) struct Guard<'a>(&'a Pacemaker);

impl<'a> Guard<'a> {
    /// Makes `pacemaker` beat for `work`.
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
