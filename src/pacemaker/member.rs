//! A pacemaker as its thread has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::rhythm::Rhythm;
use super::stats::{Connection, PacemakerStats};
use super::{BoxError, Change, Listener};
use crate::clock::Clock;
use crate::panic::catch_panic;

/// A beat function, its errors boxed.
pub(super) type BeatFn = Box<dyn FnMut() -> Result<(), BoxError> + Send>;

/// What there is to beat for.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// Something that is taken to be alive.
    Running,
    /// Something that is alive if it makes progress. Set by the work, cleared by the tick or retry that reports it.
    Progressing(Arc<AtomicBool>),
}

/// What a pacemaker shares with its thread.
#[derive(Debug)]
pub(super) struct Shared {
    /// What there is to beat for.
    pub(super) work: Mutex<Work>,
    /// What the thread last showed.
    pub(super) seen: Mutex<(Connection, PacemakerStats)>,
}

/// A pacemaker as its thread has it.
pub(super) struct Member {
    /// When it is due.
    pub(super) rhythm: Rhythm,
    /// Called when it is.
    pub(super) beat: BeatFn,
    /// Told of changes.
    pub(super) on_change: Option<Listener>,
    /// What it shares with the handle.
    pub(super) shared: Arc<Shared>,
    /// Whether the last call failed, so that what it was to report is still to be reported by a retry.
    pub(super) is_unreported: bool,
}

impl Member {
    /// When it is to be called next, ns.
    pub(super) fn due(&self) -> u64 {
        self.rhythm.due()
    }

    /// There is something to beat for from `now` on.
    pub(super) fn restart(&mut self, now: u64) {
        self.rhythm.restart(now);
    }

    /// It is due: beats, if there is anything to beat for.
    pub(super) fn call(&mut self, clock: &Clock) {
        let began = clock.now_ns();
        if !self.is_alive() {
            self.is_unreported = false;
            self.rhythm.withheld(began);
            self.show();
            return;
        }
        let outcome =
            catch_panic(&mut self.beat).unwrap_or_else(|| Err("the beat function panicked".into()));
        self.is_unreported = outcome.is_err();
        let changed = self.rhythm.called(began, clock.now_ns(), outcome.is_ok());
        self.show();
        let error = outcome.err();
        let listener = self.on_change.as_mut();
        // The error is dropped in here too: that is code of the user's.
        let _ = catch_panic(move || match (changed, listener) {
            (Some(connection), Some(listener)) => listener(Change { connection, error }),
            _ => drop(error),
        });
    }

    /// Whether there is something to beat for that is alive.
    fn is_alive(&self) -> bool {
        match &*self.shared.work.lock() {
            Work::None => false,
            Work::Running => true,
            Work::Progressing(progress) => {
                // A tick asks for progress of its own: what a peer hears is never older than a tick and its retries.
                let is_retry = self.is_unreported && !self.rhythm.is_at_tick();
                progress.swap(false, Ordering::AcqRel) || is_retry
            }
        }
    }

    /// Shows the handle what there is to see.
    fn show(&self) {
        *self.shared.seen.lock() = (self.rhythm.connection(), self.rhythm.stats());
    }
}
