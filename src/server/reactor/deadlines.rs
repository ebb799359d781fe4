//! The deadlines of the connections of a reactor.

use std::collections::VecDeque;

use super::super::codec::Codec;
use super::super::hub::Place;
use super::super::session::{Kind, Session};
use crate::clock::Timestamp;
use crate::error::BuildError;
use crate::local::LocalWatcher;

/// A deadline of the connection in a slot. It has no generation, because a connection is removed without deadlines.
type Key = (u32, Kind);

/// The deadlines, and those that were missed and have not been judged.
pub(super) struct Watch {
    /// The deadlines.
    pub(super) watcher: LocalWatcher<Key>,
    /// What was missed, and when.
    pub(super) overdue: VecDeque<(Place, Kind, Timestamp)>,
}

impl Watch {
    /// Creates a watch without deadlines.
    pub(super) fn new() -> Result<Self, BuildError> {
        Ok(Watch {
            watcher: LocalWatcher::builder().build()?,
            overdue: VecDeque::new(),
        })
    }

    /// Holds expiry back after the reactor did not run.
    pub(super) fn stalled(&mut self, last_alive: Timestamp, now: Timestamp) {
        self.watcher.stalled(last_alive, now);
    }

    /// Returns the next deadline.
    pub(super) fn next_deadline(&mut self) -> Option<Timestamp> {
        self.watcher.next_deadline()
    }

    /// Returns whether deadlines that were missed have not been judged.
    pub(super) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty()
    }

    /// Applies the changes of the deadlines of `session`.
    pub(super) fn update<C: Codec>(&mut self, slot: u32, session: &mut Session<C>, now: Timestamp) {
        session.take_changes(|kind, change| {
            change.apply(&mut self.watcher, (slot, kind), now);
        });
    }
}
