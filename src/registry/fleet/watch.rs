//! Where the guard against mass death stands.

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::Death;

/// Where the guard stands.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When listed nodes went down, and their slots, the oldest first. A node whose [`Death`] is another or none is alive
    /// again, or gone.
    pub(super) deaths: VecDeque<(Duration, u32)>,
    /// How many of them count.
    pub(super) recent: usize,
    /// While it is active, until when.
    pub(super) active: Option<Active>,
}

/// Until when the guard is active.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    /// When it ends in any case; `None` for never.
    pub(super) end: Option<Duration>,
    /// When it ends if it stays calm; `None` if it is not calm.
    pub(super) calm_end: Option<Duration>,
    /// When the agenda has it.
    pub(super) due: Option<Duration>,
}

impl Watch {
    /// A death counts no more: the node beats, or is gone.
    pub(super) fn revive(&mut self, death: &mut Option<Death>) {
        if death.take().is_some() {
            self.recent -= 1;
        }
    }
}

#[cfg(test)]
impl Watch {
    /// How many deaths count.
    pub(super) fn recent(&self) -> usize {
        self.recent
    }

    /// How many deaths are kept.
    pub(super) fn remembered(&self) -> usize {
        self.deaths.len()
    }

    /// Whether it is active.
    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Whether the agenda has it.
    pub(super) fn is_scheduled(&self) -> bool {
        self.active.is_some_and(|active| active.due.is_some())
    }
}
