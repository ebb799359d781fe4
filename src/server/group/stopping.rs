//! Where the stop of a group stands.

use crate::sync::Instant;
use crate::sync::thread::JoinHandle;

/// The stop of a group, and the threads that it waits for.
pub(super) struct Stopping<S> {
    /// Whether the group accepts nothing.
    pub(super) is_stopped: bool,
    /// When a stopped group discards what has not run.
    pub(super) cut_at: Option<Instant>,
    /// Whether results of slow calls are discarded, because the group's thread has ended or was given up.
    pub(super) is_closed: bool,
    /// The state, once the thread has ended and until a stop takes it.
    pub(super) state: Option<S>,
    /// Whether nobody will take the state.
    pub(super) is_abandoned: bool,
    /// The threads; the first one is the group's own.
    pub(super) threads: Vec<Thread>,
}

/// A thread of a group.
pub(super) struct Thread {
    /// Its name.
    pub(super) name: String,
    /// Its handle, until it is joined.
    pub(super) handle: Option<JoinHandle<()>>,
    /// Whether it has done all that it does.
    pub(super) has_ended: bool,
}

impl<S> Stopping<S> {
    /// No stop, and no threads.
    pub(super) fn new() -> Self {
        Stopping {
            is_stopped: false,
            cut_at: None,
            is_closed: false,
            state: None,
            is_abandoned: false,
            threads: Vec::new(),
        }
    }

    /// Adds a thread.
    pub(super) fn add(&mut self, name: String, handle: JoinHandle<()>) {
        self.threads.push(Thread {
            name,
            handle: Some(handle),
            has_ended: false,
        });
    }

    /// Returns whether what has not run is discarded now.
    pub(super) fn is_cut(&self) -> bool {
        self.is_stopped && self.cut_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns whether all threads have ended.
    pub(super) fn is_over(&self) -> bool {
        self.threads.iter().all(|thread| thread.has_ended)
    }
}
