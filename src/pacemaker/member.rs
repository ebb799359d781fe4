//! The state of a pacemaker that its thread owns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::rhythm::Rhythm;
use super::stats::{Connection, PacemakerStats};
use super::{BoxError, Change, Listener};
use crate::clock::Clock;
use crate::panic::catch_panic;

/// A beat function with boxed errors.
pub(super) type BeatFn = Box<dyn FnMut() -> Result<(), BoxError> + Send>;

/// The work for which a pacemaker beats.
#[derive(Debug)]
pub(super) enum Work {
    /// None.
    None,
    /// Work that counts as alive while it runs.
    Running,
    /// Work that is alive if it makes progress. The flag is set by the work and cleared by the tick or retry that
    /// reports it.
    Progressing(Arc<AtomicBool>),
}

/// The state that a pacemaker shares with its thread.
#[derive(Debug)]
pub(super) struct Shared {
    /// The work for which it beats.
    pub(super) work: Mutex<Work>,
    /// The state that the thread published last.
    pub(super) seen: Mutex<(Connection, PacemakerStats)>,
}

/// The state of a pacemaker that its thread owns.
pub(super) struct Member {
    /// Determines when the next call is due.
    pub(super) rhythm: Rhythm,
    /// The beat function.
    pub(super) beat: BeatFn,
    /// The callback for changes.
    pub(super) on_change: Option<Listener>,
    /// The state shared with the handle.
    pub(super) shared: Arc<Shared>,
    /// Whether the last call failed, so that a retry must still report its progress.
    pub(super) is_unreported: bool,
}

impl Member {
    /// Returns when it is due, ns.
    pub(super) fn due(&self) -> u64 {
        self.rhythm.due()
    }

    /// Begins to beat for work at `now`.
    pub(super) fn restart(&mut self, now: u64) {
        self.rhythm.restart(now);
    }

    /// Calls the beat function if there is work that is alive.
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
        // The error is dropped inside as well, because its `Drop` is user code.
        let _ = catch_panic(move || {
            match (changed, &error) {
                (Some(Connection::Offline), Some(error)) => {
                    crate::log::warn!("the peer of a pacemaker is offline: {error}");
                }
                (Some(connection), _) => {
                    crate::log::debug!("the peer of a pacemaker is {connection}");
                }
                (None, _) => {}
            }
            match (changed, listener) {
                (Some(connection), Some(listener)) => listener(Change { connection, error }),
                _ => drop(error),
            }
        });
    }

    /// Returns whether there is work that is alive.
    fn is_alive(&self) -> bool {
        match &*self.shared.work.lock() {
            Work::None => false,
            Work::Running => true,
            Work::Progressing(progress) => {
                // A tick requires new progress. A beat is therefore never based on progress older than a tick and its
                // retries.
                let is_retry = self.is_unreported && !self.rhythm.is_at_tick();
                progress.swap(false, Ordering::AcqRel) || is_retry
            }
        }
    }

    /// Publishes state and counters for the handle.
    fn show(&self) {
        *self.shared.seen.lock() = (self.rhythm.connection(), self.rhythm.stats());
    }
}
