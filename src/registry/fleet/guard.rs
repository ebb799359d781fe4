//! The transitions of the guard. Its rules are documented at [`Guard`](super::super::Guard).

use std::hash::Hash;
use std::time::Duration;

use super::entry::{Death, Entry};
use super::watch::Active;
use super::{Keeper, Task};
use crate::registry::options::after;
use crate::registry::policy::Gap;
use crate::registry::update::{Change, GuardChange, State, Update};

/// How many deaths of nodes that are alive again may be kept in addition to those that count. So few in tests that the
/// limit is reached.
const STALE_DEATHS: usize = if cfg!(test) { 4 } else { 1_024 };

impl<N: Eq + Hash + Clone, D> Keeper<N, D> {
    /// Handles a node in `slot` that has missed too many timeouts: it goes down, or is held.
    pub(super) fn fail(&mut self, slot: u32) {
        let is_listed = self.entry(slot).is_some_and(Entry::is_listed);
        let Some(guard) = self.config.guard.filter(|_| is_listed) else {
            return self.down(slot);
        };
        if self.guard.active.is_some() {
            return self.hold(slot);
        }
        self.prune(guard.window);
        let dead = self.guard.recent + 1;
        let listed = self.stats.listed + self.guard.recent;
        if dead < guard.at_least || !guard.is_more(dead, listed) {
            let entry = self.entry_mut(slot);
            let before = entry.map(|entry| (entry.penalty, entry.ramp_end));
            self.down(slot);
            let at = self.now;
            if let (Some((penalty, ramp_end)), Some(entry)) = (before, self.entry_mut(slot)) {
                entry.death = Some(Death {
                    at,
                    penalty,
                    ramp_end,
                });
                self.guard.deaths.push_back((at, slot));
                self.guard.recent += 1;
                self.forget_the_revived();
            }
            return;
        }
        self.guard.active = Some(Active {
            end: after(self.now, guard.longest),
            calm_end: None,
            due: None,
        });
        self.stats.guards += 1;
        self.tell_guard(true, dead, listed);
        for (at, slot) in std::mem::take(&mut self.guard.deaths) {
            if self.death(slot).is_some_and(|death| death.at == at) {
                self.hold(slot);
            }
        }
        self.hold(slot);
    }

    /// Marks the node in `slot` as down.
    fn down(&mut self, slot: u32) {
        let (config, now) = (self.config.clone(), self.now);
        let is_first = self.entry(slot).is_some_and(|entry| !entry.was_taken_back);
        self.stats.deaths += u64::from(is_first);
        self.change(slot, Change::Down, |entry| entry.go_down(&config, now));
    }

    /// Holds the node in `slot`, which would go down or has just gone down.
    fn hold(&mut self, slot: u32) {
        let death = self.pardon(slot);
        self.change(slot, Change::Held, |entry| {
            entry.state = State::Suspect;
            entry.is_held = true;
            entry.down = None;
            entry.forget_at = None;
            entry.streak = 0;
            if let Some(death) = death {
                entry.was_taken_back = true;
                entry.penalty = death.penalty;
                // Its slow start continues, or was over.
                entry.ramp_end = death.ramp_end.or(Some(death.at));
                // It was listed when it went down, so it was not suppressed.
                entry.is_suppressed = false;
            }
            entry.history.forget(Gap::Death);
        });
    }

    /// Returns the death of the node in `slot`, if it counts.
    fn death(&self, slot: u32) -> Option<Death> {
        self.entry(slot)?.death
    }

    /// Removes the death of the node in `slot` from the count, and returns it.
    pub(super) fn pardon(&mut self, slot: u32) -> Option<Death> {
        let entry = self.slots.get_mut(slot as usize)?.as_mut()?;
        let death = entry.death;
        self.guard.revive(&mut entry.death);
        death
    }

    /// Removes deaths older than `window` from the count.
    fn prune(&mut self, window: Duration) {
        while let Some(&(at, slot)) = self.guard.deaths.front()
            && self.now.saturating_sub(at) >= window
        {
            self.guard.deaths.pop_front();
            if self.death(slot).is_some_and(|death| death.at == at) {
                self.pardon(slot);
            }
        }
    }

    /// Drops the deaths of nodes that are alive again or gone when they outnumber the others. The number of deaths is
    /// then bounded by the number of nodes, however long the window is.
    fn forget_the_revived(&mut self) {
        if self.guard.deaths.len() > 2 * self.guard.recent + STALE_DEATHS {
            let mut deaths = std::mem::take(&mut self.guard.deaths);
            deaths.retain(|&(at, slot)| self.death(slot).is_some_and(|death| death.at == at));
            self.guard.deaths = deaths;
        }
    }

    /// Ends the guard if it holds no node, and checks whether the fleet is calm.
    pub(super) fn ease(&mut self) {
        let (Some(guard), Some(mut active)) = (self.config.guard, self.guard.active) else {
            return;
        };
        let (held, listed) = (self.stats.held, self.stats.listed);
        if held == 0 {
            return self.end_guard();
        }
        if guard.is_more(held, listed) {
            active.calm_end = None;
        } else if active.calm_end.is_none() {
            active.calm_end = after(self.now, guard.window);
        }
        let due = [active.end, active.calm_end].into_iter().flatten().min();
        let before = std::mem::replace(&mut active.due, due);
        self.guard.active = Some(active);
        if let Some(due) = due.filter(|_| before != due) {
            self.enter(due, Task::Guard);
        }
    }

    /// Ends the guard at its planned end, unless that was postponed.
    pub(super) fn guard_is_due(&mut self) {
        let now = self.now;
        let Some(active) = &mut self.guard.active else {
            return;
        };
        active.due = None;
        let ends = [active.end, active.calm_end];
        if ends.into_iter().flatten().any(|end| end <= now) {
            self.end_guard();
        }
    }

    /// Ends the guard. Nodes that are held go down.
    fn end_guard(&mut self) {
        if self.guard.active.take().is_none() {
            return;
        }
        self.tell_guard(false, self.stats.held, self.stats.listed);
        for slot in 0..self.slots.len() as u32 {
            if self.entry(slot).is_some_and(|entry| entry.is_held) {
                self.down(slot);
            }
        }
    }

    /// Emits an update that the guard became active or ended.
    fn tell_guard(&mut self, is_active: bool, held: usize, listed: usize) {
        self.stats.version += 1;
        self.updates.push(Update::Guard(GuardChange {
            version: self.stats.version,
            at: self.now.into(),
            is_active,
            held,
            listed,
        }));
    }
}
