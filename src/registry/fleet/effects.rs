//! The effects of a change of a node: the list, its weight, updates, counters, the agenda, the watcher.

use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

use super::{Entry, Keeper, Order, Task, Watched};
use crate::due::DueQueue;
use crate::registry::error::RegistryError;
use crate::registry::incarnation::Incarnation;
use crate::registry::update::{Change, NodeStatus, State, Transition, Update};

/// How often the registry wakes to detect a stall while timeouts are learned. Short compared to the pause that
/// [`PhiAccrual`](super::super::PhiAccrual) accepts by default.
const TICK: Duration = Duration::from_millis(250);

/// The number of nodes for which memory is kept even if there are fewer.
const KEPT: usize = 1_024;

impl<N: Eq + Hash + Clone, D> Keeper<N, D> {
    /// Returns the slot of `id`.
    pub(super) fn slot<Q>(&self, id: &Q) -> Result<u32, RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.ids.get(id).copied().ok_or(RegistryError::Unknown)
    }

    /// Returns the slot of `id`, if the node's incarnation is the named one.
    pub(super) fn slot_as<Q>(
        &self,
        id: &Q,
        incarnation: Option<Incarnation>,
    ) -> Result<u32, RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let slot = self.slot(id)?;
        let current = self.entry(slot).map(|entry| entry.incarnation);
        match (incarnation, current) {
            (Some(named), Some(current)) if named < current => {
                Err(RegistryError::Superseded { current })
            }
            (Some(named), Some(current)) if named > current => Err(RegistryError::Unknown),
            _ => Ok(slot),
        }
    }

    /// Returns the node in `slot`.
    pub(super) fn entry(&self, slot: u32) -> Option<&Entry<N, D>> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// Returns the node in `slot`.
    pub(super) fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<N, D>> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Adds a new node and returns its slot.
    pub(super) fn add(&mut self, entry: Entry<N, D>) -> u32 {
        let free = self.free.last().copied();
        let slot = free.unwrap_or(self.slots.len() as u32);
        // First, because the `Hash`, `Eq` or `Clone` of the id may panic.
        self.ids.insert(entry.node.id().clone(), slot);
        self.count(&entry, true);
        if self.free.pop().is_none() {
            self.slots.push(None);
        }
        self.slots[slot as usize] = Some(Box::new(entry));
        slot
    }

    /// Removes the node from `slot`, and emits an update that it is forgotten.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(entry) = self.slots[slot as usize].as_ref() else {
            return;
        };
        // First, because the `Hash` or `Eq` of the id may panic.
        let id = self.ids.remove_entry(entry.node.id());
        self.garbage.ids.extend(id.map(|(id, _)| id));
        self.unwatch(slot);
        self.pardon(slot);
        let Some(mut entry) = self.slots[slot as usize].take() else {
            return;
        };
        self.count(&entry, false);
        self.free.push(slot);
        self.list_changed |= entry.place.is_some();
        self.unlist(&mut entry);
        self.tell(Change::Forgotten, entry.status());
        self.garbage.nodes.push(entry.node);
        self.shrink();
    }

    /// Returns memory when most nodes of a large fleet are gone, and all slots when none is left.
    fn shrink(&mut self) {
        let len = self.ids.len();
        if len == 0 {
            self.slots.clear();
            self.free.clear();
        }
        // Half of the remaining capacity stays free, so that the next shrinking is as many nodes away.
        let most = |capacity: usize| capacity > 4 * len + KEPT;
        if most(self.ids.capacity()) {
            self.ids.shrink_to(2 * len);
        }
        if most(self.listed.capacity()) {
            self.listed.shrink_to(2 * len);
        }
        if len == 0 && most(self.slots.capacity()) {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        let (agenda, is_live) = self.agenda();
        agenda.sweep(len + 2, is_live);
        if most(agenda.capacity()) {
            agenda.shrink();
        }
    }

    /// Changes the node in `slot` by `edit`, with everything that follows from it: the list, its weight, the counters
    /// and the agenda. Emits the update `change`.
    pub(super) fn change(
        &mut self,
        slot: u32,
        change: Change,
        edit: impl FnOnce(&mut Entry<N, D>),
    ) {
        let now = self.now;
        let Some(mut entry) = self.slots[slot as usize].take() else {
            return;
        };
        self.count(&entry, false);
        let (state, share) = (entry.state, entry.node.share());
        edit(&mut entry);
        if entry.state != state {
            entry.since = now;
        }
        if !entry.is_listed() {
            entry.ramp_end = None;
        } else if entry.place.is_none() && entry.ramp_end.is_none() {
            entry.ramp_end = Some(now.saturating_add(self.config.slow_start));
        }
        let (is_updated, new_share) = (change == Change::Updated, entry.share(&self.config, now));
        if entry.node.share() != new_share {
            entry.node = entry.node.clone().with_share(new_share);
        }
        match (entry.place, entry.is_listed()) {
            (None, true) => {
                entry.place = Some(self.list.insert(entry.node.clone()));
                self.listed.push(slot);
                self.list_changed = true;
            }
            (Some(place), true) if is_updated || share != new_share => {
                self.list.replace(place, entry.node.clone());
                self.list_changed = true;
            }
            (Some(_), false) => {
                self.unlist(&mut entry);
                self.list_changed = true;
            }
            _ => {}
        }
        self.count(&entry, true);
        self.tell(change, entry.status());
        self.slots[slot as usize] = Some(entry);
        self.schedule(slot);
    }

    /// Removes a node that is in no slot at the moment from the list.
    pub(super) fn unlist(&mut self, entry: &mut Entry<N, D>) {
        let Some(place) = entry.place.take() else {
            return;
        };
        self.list.remove(place);
        self.listed.swap_remove(place.index());
        // The last node moved into the gap, unless the removed node was the last.
        let moved = self.listed.get(place.index()).copied();
        if let Some(moved) = moved.and_then(|slot| self.entry_mut(slot)) {
            moved.place = Some(place);
        }
    }

    /// Emits an update.
    pub(super) fn tell(&mut self, change: Change, status: NodeStatus<N, D>) {
        self.stats.version += 1;
        self.updates.push(Update::Node(Transition {
            version: self.stats.version,
            at: self.now.into(),
            change,
            status,
        }));
    }

    /// Adds a node to the counts of its state, or subtracts it.
    pub(super) fn count(&mut self, entry: &Entry<N, D>, is_in: bool) {
        let stats = &mut self.stats;
        let by_state = match entry.state {
            State::Joining => &mut stats.joining,
            State::Up => &mut stats.up,
            State::Suspect => &mut stats.suspect,
            State::Down => &mut stats.down,
            State::Left => &mut stats.left,
        };
        for (count, is_so) in [
            (by_state, true),
            (&mut stats.listed, entry.is_listed()),
            (&mut stats.held, entry.is_held),
            (&mut stats.drained, entry.is_drained),
            (&mut stats.suppressed, entry.is_suppressed),
            (&mut self.learned, entry.is_learned(&self.config)),
        ] {
            if is_so {
                *count = if is_in { *count + 1 } else { *count - 1 };
            }
        }
    }

    /// Schedules the tick while timeouts are learned. Only a registry that wakes often detects every stall.
    pub(super) fn keep_awake(&mut self) {
        if self.learned > 0 && self.tick.is_none() {
            let due = self.now.saturating_add(TICK);
            self.tick = Some(due);
            self.enter(due, Task::Tick);
        }
    }

    /// Updates the agenda entry of the node in `slot`.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some(entry) = self.slots[slot as usize].as_mut() else {
            return;
        };
        let due = entry.next_due(&self.config, self.now);
        let before = std::mem::replace(&mut entry.due, due);
        if let Some(due) = due.filter(|_| before != due) {
            self.enter(due, Task::Node(slot));
        }
    }

    /// Adds `task`, whose owner has stored `due`, to the agenda.
    pub(super) fn enter(&mut self, due: Duration, task: Task) {
        // At most one for each node, the guard and the tick.
        let live = self.ids.len() + 2;
        let (agenda, is_live) = self.agenda();
        agenda.push(due, task);
        agenda.sweep(live, is_live);
    }

    /// Returns the agenda, and a function that returns whether an entry is current.
    pub(super) fn agenda(
        &mut self,
    ) -> (
        &mut DueQueue<Task, Duration>,
        impl Fn(Duration, &Task) -> bool,
    ) {
        let (slots, guard, tick) = (&self.slots, &self.guard, self.tick);
        let is_live = move |due, task: &Task| {
            let remembered = match *task {
                Task::Node(slot) => {
                    let entry = slots.get(slot as usize).and_then(Option::as_ref);
                    entry.and_then(|entry| entry.due)
                }
                Task::Guard => guard.active.as_ref().and_then(|active| active.due),
                Task::Tick => tick,
            };
            remembered == Some(due)
        };
        (&mut self.agenda, is_live)
    }

    /// Orders the watcher to watch the node in `slot` from now on, with the timeout of its policy.
    pub(super) fn watch(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else {
            return;
        };
        let policy = entry.policy.unwrap_or(self.config.policy);
        self.watch_for(slot, entry.history.timeout(&policy));
    }

    /// Orders the watcher to watch the node in `slot` from now on, with this timeout.
    pub(super) fn watch_for(&mut self, slot: u32, timeout: Duration) {
        self.watch_since(slot, self.now, timeout);
    }

    /// Orders the watcher to watch the node in `slot` under a new number, until it has been silent for `timeout` since
    /// `since`. If it already has, it has missed that timeout.
    pub(super) fn watch_since(&mut self, slot: u32, since: Duration, timeout: Duration) {
        self.unwatch(slot);
        self.last_watch += 1;
        let (watch, now) = (self.last_watch, self.now);
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.watch = Some(watch);
        entry.timeout = timeout;
        entry.silent_since = since;
        match entry.deadline().saturating_sub(now) {
            Duration::ZERO => self.silent(slot, watch, now),
            wait => {
                let watched = Watched::Node(slot, watch);
                self.orders.push(Order::Watch(watched, wait));
            }
        }
    }

    /// Orders the watcher to stop watching the node in `slot`.
    pub(super) fn unwatch(&mut self, slot: u32) {
        let watch = self.entry_mut(slot).and_then(|entry| entry.watch.take());
        if let Some(watch) = watch {
            self.orders.push(Order::Unwatch(Watched::Node(slot, watch)));
        }
    }
}
