//! The state of the guard.

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::Death;

/// The state of the guard.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When listed nodes went down, and their slots, the oldest first. If a node has another [`Death`] or none, it is
    /// alive again or gone.
    pub(super) deaths: VecDeque<(Duration, u32)>,
    /// The number of deaths that count.
    pub(super) recent: usize,
    /// When the guard ends, while it is active.
    pub(super) active: Option<Active>,
}

/// The times at which the active guard ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    /// When it ends in any case; `None` for never.
    pub(super) end: Option<Duration>,
    /// When it ends if the fleet stays calm; `None` if the fleet is not calm.
    pub(super) calm_end: Option<Duration>,
    /// The time of its entry in the agenda.
    pub(super) due: Option<Duration>,
}

impl Watch {
    /// Removes a death from the count, because the node beats or is gone.
    pub(super) fn revive(&mut self, death: &mut Option<Death>) {
        if death.take().is_some() {
            self.recent -= 1;
        }
    }
}

#[cfg(test)]
impl Watch {
    /// Returns the number of deaths that count.
    pub(super) fn recent(&self) -> usize {
        self.recent
    }

    /// Returns the number of deaths that are kept.
    pub(super) fn remembered(&self) -> usize {
        self.deaths.len()
    }

    /// Returns whether the guard is active.
    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Returns whether the agenda has an entry for it.
    pub(super) fn is_scheduled(&self) -> bool {
        self.active.is_some_and(|active| active.due.is_some())
    }
}
