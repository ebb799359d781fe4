//! Registering nodes, for the first time and again, and assigning incarnations.

use std::hash::Hash;
use std::time::Duration;

use super::{Entry, Keeper};
use crate::registry::available::Node;
use crate::registry::error::{RegisterError, RegistryError};
use crate::registry::incarnation::Incarnation;
use crate::registry::options::{NodeOptions, after};
use crate::registry::policy::{Gap, History};
use crate::registry::update::{Change, State};

impl<N: Eq + Hash + Clone, D> Keeper<N, D> {
    /// Adds a node, or updates a known one.
    pub(in crate::registry) fn register(
        &mut self,
        id: N,
        data: D,
        options: &NodeOptions,
        now: Duration,
    ) -> Result<Incarnation, RegisterError<N, D>> {
        self.now = now;
        if let Err(error) = options.check() {
            let error = error.into();
            return Err(RegisterError { error, id, data });
        }
        let weight = options.full_weight();
        if let Some(&slot) = self.ids.get(&id) {
            return match self.next_incarnation(slot, options.incarnation) {
                Ok(incarnation) => {
                    let node = Node::new(id, data, weight);
                    self.register_again(slot, node, incarnation, options);
                    Ok(incarnation)
                }
                Err(error) => Err(RegisterError { error, id, data }),
            };
        }
        let max = self.config.max_nodes.min(u32::MAX as usize);
        if self.ids.len() >= max {
            self.stats.refused += 1;
            let error = RegistryError::Full { max };
            return Err(RegisterError { error, id, data });
        }
        let next = Incarnation::new(self.last_incarnation.saturating_add(1));
        let incarnation = options.incarnation.unwrap_or(next);
        let entry = Entry::new(Node::new(id, data, weight), incarnation, options, now);
        let slot = self.add(entry);
        if options.incarnation.is_none() {
            self.last_incarnation = incarnation.get();
        }
        self.watch(slot);
        self.change(slot, Change::Registered, |_| ());
        Ok(incarnation)
    }

    /// Returns the incarnation under which the node in `slot` is registered again.
    fn next_incarnation(
        &mut self,
        slot: u32,
        named: Option<Incarnation>,
    ) -> Result<Incarnation, RegistryError> {
        let Some(entry) = self.entry(slot) else {
            return Err(RegistryError::Unknown);
        };
        let (current, has_left) = (entry.incarnation, entry.state == State::Left);
        match named {
            Some(named) if named < current => Err(RegistryError::Superseded { current }),
            Some(named) if named == current && has_left => Err(RegistryError::Left),
            Some(named) => Ok(named),
            None => {
                self.last_incarnation = self.last_incarnation.max(current.get()).saturating_add(1);
                Ok(Incarnation::new(self.last_incarnation))
            }
        }
    }

    /// Registers a known node again as `node`.
    fn register_again(
        &mut self,
        slot: u32,
        node: Node<N, D>,
        incarnation: Incarnation,
        options: &NodeOptions,
    ) {
        let now = self.now;
        let forget_at = after(now, self.config.forget_after);
        let Some(entry) = self.slots[slot as usize].as_deref_mut() else {
            return;
        };
        if entry.state == State::Left {
            let mut fresh = Entry::new(node, incarnation, options, now);
            fresh.due = entry.due;
            fresh.is_drained = entry.is_drained;
            fresh.is_suppressed = entry.is_suppressed;
            (fresh.penalty, fresh.reuse_at) = (entry.penalty, entry.reuse_at);
            let mut old = None;
            // Within the change, so that the counts of the old state are subtracted.
            self.change(slot, Change::Registered, |entry| {
                old = Some(std::mem::replace(entry, fresh));
            });
            self.garbage.nodes.extend(old.map(|old| old.node));
            self.watch(slot);
            return;
        }
        // Without an incarnation in the options it may be the same process, which renews its data.
        if options.incarnation.is_some() && incarnation > entry.incarnation {
            entry.streak = 0;
            entry.history.forget(Gap::Foreign);
        }
        entry.incarnation = incarnation;
        if entry.state == State::Down {
            // Remembered as long as a node that goes down now, since it is expected to beat.
            entry.forget_at = forget_at;
        }
        let default = self.config.policy;
        let new = options.policy.unwrap_or(default);
        let is_new_policy = entry.policy.unwrap_or(default) != new;
        // Registering is not a beat: the silence continues, under the new timeout.
        let silent_since = entry
            .watch
            .filter(|_| is_new_policy)
            .map(|_| entry.silent_since);
        let mut old = None;
        self.change(slot, Change::Updated, |entry| {
            entry.policy = options.policy;
            if is_new_policy {
                entry.history = History::new();
            }
            old = Some(std::mem::replace(&mut entry.node, node));
        });
        self.garbage.nodes.extend(old);
        if let Some(since) = silent_since {
            let timeout = new.initial_timeout();
            // A time during which the registry did not run does not count as silence of the node either.
            self.watch_since(slot, since.max(self.resumed), timeout);
        }
    }
}
