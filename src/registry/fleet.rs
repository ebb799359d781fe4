//! The pure state of all nodes: the effects of beats, silence, time and operators on them.
//!
//! The state knows no thread, no clock and no watcher. Time is an argument. Effects outside are collected and
//! [taken](Keeper::take): orders for the watcher, updates for subscribers, a new list for readers.
//!
//! The watcher watches nodes under numbers ([`Watched`]) that are never used twice. A node gets a new number each time
//! it begins to be watched and each time its timeout changes. The order in which the orders of several threads reach
//! the watcher therefore does not matter:
//!
//! - An order about an older number is harmless, and a report about one is answered by an order to remove it.
//! - All beats of one number allow the same silence, so in any order they leave the deadline of the last beat. A
//!   shorter time, the rest of a timeout, can only cause a report that is too early. The watcher is then ordered to
//!   wait for the rest.
//!
//! The watcher reports each number once. Whatever follows from a report, including the next step of the silence, is a
//! new order.
//!
//! Everything else that depends on time is in one agenda. The watcher is asked to report its first entry unless an
//! earlier report is due. An unnecessary report is harmless.

mod effects;
mod entry;
mod guard;
mod register;
#[cfg(test)]
mod tests;
mod watch;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ahash::RandomState;

use super::available::{Available, Listed, Node};
use super::error::RegistryError;
use super::incarnation::Incarnation;
use super::options::{Config, after};
use super::stats::RegistryStats;
use super::update::{Change, NodeStatus, State, Update, Vitals};
use crate::due::DueQueue;
use crate::event::Stall;
pub(super) use entry::Entry;
use watch::Watch;

/// A key of the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    /// A node, by its slot and the number of this watch.
    Node(u32, u64),
    /// The time of the agenda's first entry.
    Until(Duration),
}

/// An order for the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Beat the key, with this timeout.
    Watch(Watched, Duration),
    /// Stop watching the key.
    Unwatch(Watched),
}

/// An entry of the agenda.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// Check the node in a slot.
    Node(u32),
    /// Check the guard.
    Guard,
    /// Wake up.
    Tick,
}

/// The effects of a call outside the fleet.
pub(super) struct Outcome<N, D> {
    /// For the watcher, in this order.
    pub(super) orders: Vec<Order>,
    /// For the subscribers, in this order.
    pub(super) updates: Vec<Update<N, D>>,
    /// For the readers, if the list has changed.
    pub(super) list: Option<Available<N, D>>,
    /// To be dropped without a lock held.
    pub(super) garbage: Garbage<N, D>,
}

/// User data that is no longer needed.
pub(super) struct Garbage<N, D> {
    /// Handles to ids and data.
    nodes: Vec<Node<N, D>>,
    /// Keys of the map from ids to slots.
    ids: Vec<N>,
}

impl<N, D> Default for Garbage<N, D> {
    fn default() -> Self {
        Garbage {
            nodes: Vec::new(),
            ids: Vec::new(),
        }
    }
}

/// All nodes, and the effects that have not been taken.
pub(super) struct Keeper<N, D> {
    /// The options.
    pub(super) config: Config,
    /// The slot of each id.
    ids: HashMap<N, u32, RandomState>,
    /// The nodes. They are boxed, so that empty slots of a fleet that was once large cost little, and a change moves
    /// little.
    slots: Vec<Option<Box<Entry<N, D>>>>,
    /// The slots without a node.
    free: Vec<u32>,
    /// The tasks by time. An entry is stale if its node, the guard or the tick stores another time.
    agenda: DueQueue<Task, Duration>,
    /// The number of nodes with a learned timeout.
    learned: usize,
    /// The time of the tick in the agenda, if there is one.
    tick: Option<Duration>,
    /// The time that the watcher was asked to report next.
    armed: Option<Duration>,
    /// The state of the guard.
    guard: Watch,
    /// The list for readers.
    list: Listed<N, D>,
    /// The slots of the nodes in the list, in its order.
    listed: Vec<u32>,
    /// Whether the list has changed since it was last published.
    list_changed: bool,
    /// The number of the last watch.
    last_watch: u64,
    /// The last incarnation that the registry assigned.
    last_incarnation: u64,
    /// The counters and gauges, including the version.
    stats: RegistryStats,
    /// The latest time that was passed in.
    now: Duration,
    /// When the last stall of the watcher ended.
    resumed: Duration,
    /// How long that stall was.
    deaf_for: Duration,
    /// Orders that have not been taken.
    orders: Vec<Order>,
    /// Updates that have not been taken.
    updates: Vec<Update<N, D>>,
    /// User data that is to be dropped outside.
    garbage: Garbage<N, D>,
}

impl<N: Eq + Hash + Clone, D> Keeper<N, D> {
    /// Creates a fleet without nodes.
    pub(super) fn new(config: Config) -> Self {
        Keeper {
            config,
            ids: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            agenda: DueQueue::new(),
            learned: 0,
            tick: None,
            armed: None,
            guard: Watch::default(),
            list: Listed::new(),
            listed: Vec::new(),
            list_changed: false,
            last_watch: 0,
            last_incarnation: 0,
            stats: RegistryStats::default(),
            now: Duration::ZERO,
            resumed: Duration::ZERO,
            deaf_for: Duration::ZERO,
            orders: Vec::new(),
            updates: Vec::new(),
            garbage: Garbage::default(),
        }
    }

    /// Records a beat, of one incarnation if it is named. Returns the order that the watcher must execute first.
    pub(super) fn beat<Q>(
        &mut self,
        id: &Q,
        incarnation: Option<Incarnation>,
        now: Duration,
    ) -> Result<Order, RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.now = now;
        let slot = self.slot_as(id, incarnation)?;
        let (config, last_watch) = (&self.config, &mut self.last_watch);
        let Some(entry) = self.slots[slot as usize].as_mut() else {
            return Err(RegistryError::Unknown);
        };
        if entry.state == State::Left {
            return Err(RegistryError::Left);
        }
        let timeout = entry.beat(config, (self.resumed, self.deaf_for), now);
        if entry.timeout != timeout
            && let Some(old) = entry.watch.take()
        {
            let old = Order::Unwatch(Watched::Node(slot, old));
            self.orders.push(old);
        }
        entry.silent_since = now;
        entry.timeout = timeout;
        let watch = *entry.watch.get_or_insert_with(|| {
            *last_watch += 1;
            *last_watch
        });
        let order = Order::Watch(Watched::Node(slot, watch), timeout);
        match entry.state {
            State::Up | State::Left => {}
            State::Suspect => self.change(slot, Change::Reassured, |entry| {
                entry.state = State::Up;
                entry.is_held = false;
            }),
            State::Joining | State::Down => {
                let (state, rises) = (entry.state, entry.streak >= self.config.rise);
                self.guard.revive(&mut entry.death);
                if rises {
                    self.rise(slot);
                } else if state == State::Down {
                    self.change(slot, Change::Returning, |entry| {
                        entry.state = State::Joining;
                        entry.forget_at = None;
                    });
                }
            }
        }
        Ok(order)
    }

    /// Marks the node in `slot` as up, because it has beaten often enough.
    fn rise(&mut self, slot: u32) {
        let now = self.now;
        let down = self.entry_mut(slot).and_then(|entry| entry.down.take());
        let change = match down {
            None => Change::Up,
            Some((before, at)) => {
                self.stats.recoveries += 1;
                let down_for = before.saturating_add(now.saturating_sub(at));
                Change::Recovered { down_for }
            }
        };
        self.change(slot, change, |entry| {
            entry.state = State::Up;
            entry.forget_at = None;
        });
    }

    /// Handles the report that a node was silent for its timeout.
    pub(super) fn silent(&mut self, slot: u32, watch: u64, now: Duration) {
        self.now = now;
        let (fall, resumed) = (self.config.fall, self.resumed);
        let Some(entry) = self
            .slots
            .get_mut(slot as usize)
            .and_then(Option::as_deref_mut)
            .filter(|entry| entry.watch == Some(watch))
        else {
            // The watch is over: the node's last beat was overtaken by the order to remove it.
            return self.orders.push(Order::Unwatch(Watched::Node(slot, watch)));
        };
        if now >= entry.deadline() {
            let policy = entry.policy.unwrap_or(self.config.policy);
            // A deadline that passed while the watcher did not run counts from the end of the grace, which is now. Any
            // other deadline counts from when it passed, however late the report is.
            if entry.deadline() < resumed {
                entry.silent_since = now.saturating_sub(entry.timeout);
            }
            entry.streak = 0;
            while now >= entry.deadline() {
                entry.misses = entry.misses.saturating_add(1);
                if entry.misses >= fall {
                    self.unwatch(slot);
                    return self.fail(slot);
                }
                entry.silent_since = entry.deadline();
                // This differs from the last beat's timeout if that was the rest of a timeout in another registry.
                entry.timeout = entry.history.timeout(&policy);
            }
        }
        // The time to the next step, or to the deadline that a beat has moved.
        let wait = entry.deadline().saturating_sub(now);
        let order = Order::Watch(Watched::Node(slot, watch), wait);
        let (state, misses) = (entry.state, entry.misses);
        self.orders.push(order);
        if state == State::Up && misses > 0 {
            self.change(slot, Change::Suspected, |entry| {
                entry.state = State::Suspect;
            });
        }
    }

    /// Marks the node `id` as left, if its incarnation is the named one.
    pub(super) fn leave<Q>(
        &mut self,
        id: &Q,
        incarnation: Option<Incarnation>,
        now: Duration,
    ) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.now = now;
        let slot = self.slot_as(id, incarnation)?;
        let forget_at = after(now, self.config.forget_after);
        if self
            .entry(slot)
            .is_some_and(|entry| entry.state != State::Left)
        {
            self.unwatch(slot);
            self.pardon(slot);
            self.change(slot, Change::Left, |entry| {
                entry.state = State::Left;
                entry.is_held = false;
                entry.down = None;
                entry.forget_at = forget_at;
            });
        }
        Ok(())
    }

    /// Drains the node `id`, or ends its draining.
    pub(super) fn drain<Q>(
        &mut self,
        id: &Q,
        is_drained: bool,
        now: Duration,
    ) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.now = now;
        let slot = self.slot(id)?;
        let Some(entry) = self
            .entry_mut(slot)
            .filter(|entry| entry.is_drained != is_drained)
        else {
            return Ok(());
        };
        let was_held = entry.is_held;
        if is_drained {
            self.pardon(slot);
            self.change(slot, Change::Drained, |entry| {
                entry.is_drained = true;
                entry.is_held = false;
            });
        } else {
            self.change(slot, Change::Undrained, |entry| entry.is_drained = false);
        }
        if was_held {
            // The guard no longer holds it, because it is not listed in any case.
            self.fail(slot);
        }
        Ok(())
    }

    /// Forgets the node `id`, as if it had never been registered.
    pub(super) fn forget<Q>(&mut self, id: &Q, now: Duration) -> Result<(), RegistryError>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.now = now;
        let slot = self.slot(id)?;
        self.remove(slot);
        Ok(())
    }

    /// Executes what is due by `now`.
    pub(super) fn tend(&mut self, now: Duration) {
        self.now = now;
        self.armed = self.armed.filter(|&armed| armed > now);
        loop {
            let (agenda, is_live) = self.agenda();
            let Some((_, task)) = agenda.pop_due(now, is_live) else {
                break;
            };
            match task {
                Task::Guard => self.guard_is_due(),
                Task::Node(slot) => self.node_is_due(slot),
                Task::Tick => self.tick = None,
            }
        }
    }

    /// Checks the node in `slot` at the time of its agenda entry.
    fn node_is_due(&mut self, slot: u32) {
        let now = self.now;
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.due = None;
        if entry.forget_at.is_some_and(|forget_at| forget_at <= now) {
            return self.remove(slot);
        }
        if entry.is_suppressed && entry.reuse_at <= now {
            self.change(slot, Change::Reused, |entry| entry.is_suppressed = false);
        }
        let config = &self.config;
        let entry = self.slots[slot as usize].as_mut();
        if entry.is_some_and(|entry| entry.share(config, now) != entry.node.share()) {
            self.change(slot, Change::Weight, |_| ());
        }
        self.schedule(slot);
    }

    /// Handles a stall of the watcher, and emits an update.
    pub(super) fn stalled(&mut self, stall: Stall) {
        let (last_alive, resumed) = (
            stall.last_alive.since_origin(),
            stall.resumed.since_origin(),
        );
        self.resumed = self.resumed.max(resumed);
        self.deaf_for = resumed.saturating_sub(last_alive);
        if self.learned > 0 {
            // Forget intervals of beats that arrived before this report.
            for entry in self.slots.iter_mut().flatten() {
                entry.history.unlearn(last_alive, resumed);
            }
        }
        self.stats.stalls += 1;
        self.stats.version += 1;
        let version = self.stats.version;
        self.updates.push(Update::Stalled { version, stall });
    }

    /// Takes the effects outside the fleet.
    pub(super) fn take(&mut self) -> Outcome<N, D> {
        self.ease();
        self.keep_awake();
        let (agenda, is_live) = self.agenda();
        let first = agenda.peek(is_live).map(|(due, _)| due);
        if let Some(due) = first
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            let wait = due.saturating_sub(self.now).max(Duration::from_nanos(1));
            self.orders.push(Order::Watch(Watched::Until(due), wait));
        }
        let list_changed = std::mem::take(&mut self.list_changed);
        Outcome {
            orders: std::mem::take(&mut self.orders),
            updates: std::mem::take(&mut self.updates),
            list: list_changed.then(|| self.list()),
            garbage: std::mem::take(&mut self.garbage),
        }
    }

    /// Returns the last incarnation that the registry assigned.
    #[cfg(feature = "serde")]
    pub(super) fn last_incarnation(&self) -> u64 {
        self.last_incarnation
    }

    /// Prevents the incarnations up to `last` from being assigned again.
    #[cfg(feature = "serde")]
    pub(super) fn restore_incarnation(&mut self, last: u64) {
        self.last_incarnation = self.last_incarnation.max(last);
    }

    /// Returns an iterator over all nodes.
    #[cfg(feature = "serde")]
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<N, D>> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    /// Returns the penalty of a node that is left at `now`.
    #[cfg(feature = "serde")]
    pub(super) fn penalty(&self, entry: &Entry<N, D>, now: Duration) -> f64 {
        let (penalty, at) = entry.penalty;
        let damping = self.config.damping;
        damping.map_or(penalty, |it| it.decayed(penalty, now.saturating_sub(at)))
    }

    /// Adds a node of another registry, unless its id is known. If the node is to be watched, the first timeout is
    /// `wait`.
    #[cfg(feature = "serde")]
    pub(super) fn restore_entry(
        &mut self,
        entry: Entry<N, D>,
        wait: Option<Duration>,
        now: Duration,
    ) -> Result<(), RegistryError> {
        self.now = now;
        let max = self.config.max_nodes.min(u32::MAX as usize);
        if self.ids.contains_key(entry.node.id()) {
            return Ok(());
        }
        if self.ids.len() >= max {
            return Err(RegistryError::Full { max });
        }
        let slot = self.add(entry);
        if let Some(wait) = wait {
            self.watch_for(slot, wait.max(Duration::from_nanos(1)));
        }
        self.change(slot, Change::Registered, |_| ());
        Ok(())
    }

    /// Returns a snapshot of the list.
    pub(super) fn list(&self) -> Available<N, D> {
        self.list.publish(self.stats.version)
    }

    /// Returns the status of the node `id`.
    pub(super) fn status<Q>(&self, id: &Q) -> Option<NodeStatus<N, D>>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let slot = *self.ids.get(id)?;
        self.entry(slot).map(Entry::status)
    }

    /// Returns the last beat and the timeout of the node `id`.
    pub(super) fn vitals<Q>(&self, id: &Q, now: Duration) -> Option<Vitals>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entry = self.entry(*self.ids.get(id)?)?;
        let policy = entry.policy.unwrap_or(self.config.policy);
        let phi_after = |last: Duration| entry.history.phi(&policy, now.saturating_sub(last));
        Some(Vitals {
            last_beat: entry.last_beat.map(Into::into),
            timeout: entry.timeout,
            misses: entry.misses,
            phi: entry.last_beat.and_then(phi_after),
        })
    }

    /// Returns the version and the status of all nodes, from which a [`Fleet`](super::Fleet) is created without a lock
    /// held.
    pub(super) fn picture(&self) -> (u64, Vec<NodeStatus<N, D>>) {
        let nodes = self.slots.iter().flatten();
        (
            self.stats.version,
            nodes.map(|entry| entry.status()).collect(),
        )
    }

    /// Returns the counters and gauges.
    pub(super) fn stats(&self) -> RegistryStats {
        self.stats
    }
}
