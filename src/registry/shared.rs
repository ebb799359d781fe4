//! The state of a registry that its callers and its worker share, and how an action reaches it.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::available::Available;
use super::error::RegistryError;
use super::fleet::{Keeper, Order, Watched};
use super::update::{GuardChange, Update};
use crate::event::Event;
use crate::feed::Feed;
use crate::options::{Mode, Options};
use crate::watcher::Watcher;

/// The state that callers and the worker share.
pub(super) struct Shared<N, D> {
    /// The fleet and its subscribers. The lock is not held while a message waits for room in the watcher's inbox, nor
    /// while user code runs, except `Eq`, `Hash` and `Clone` of ids, and `Clone` of data in `save`. None of these is
    /// called in the middle of a change, so a panic in one leaves the state unchanged.
    pub(super) state: Mutex<Inner<N, D>>,
    /// The list that readers load.
    pub(super) available: ArcSwap<Available<N, D>>,
    /// Reports silences and the times of the fleet's agenda.
    pub(super) watcher: Watcher<Watched>,
}

/// The state under the lock.
pub(super) struct Inner<N, D> {
    /// All nodes.
    pub(super) keeper: Keeper<N, D>,
    /// The subscribers.
    pub(super) feed: Feed<Update<N, D>>,
    /// Whether the registry is closed.
    pub(super) is_closed: bool,
}

impl<N, D> Shared<N, D> {
    /// Refuses further calls and ends the subscriptions.
    pub(super) fn refuse(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.feed.close();
    }

    /// Refuses further calls and stops the worker.
    pub(super) fn close(&self) {
        self.refuse();
        self.watcher.close();
    }

    /// Passes an order to the watcher.
    fn carry_out(&self, order: Order) -> Result<(), RegistryError> {
        let is_done = match order {
            Order::Watch(watched, timeout) => {
                let options = Options::new().timeout(timeout).mode(Mode::Once);
                self.watcher.beat_with(watched, options).is_ok()
            }
            Order::Unwatch(watched) => self.watcher.remove(&watched).is_ok(),
        };
        is_done.then_some(()).ok_or(RegistryError::Closed)
    }
}

impl<N: Eq + Hash + Clone, D> Shared<N, D> {
    /// Applies `action` to the fleet at the current time, and executes everything that follows from it.
    pub(super) fn act<T>(
        &self,
        action: impl FnOnce(&mut Keeper<N, D>, Duration) -> T,
    ) -> Result<T, RegistryError> {
        self.act_first(action, |_| None)
    }

    /// Applies `action` like [`act`](Shared::act), and executes an order that is part of the result before all others.
    pub(super) fn act_first<T>(
        &self,
        action: impl FnOnce(&mut Keeper<N, D>, Duration) -> T,
        order: impl FnOnce(&T) -> Option<&Order>,
    ) -> Result<T, RegistryError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(RegistryError::Closed);
        }
        // Read under the lock, so that the time never decreases from one call to the next.
        let now = self.watcher.now().since_origin();
        let result = action(&mut state.keeper, now);
        let outcome = state.keeper.take();
        let old = outcome.list.map(|list| self.available.swap(Arc::new(list)));
        for update in &outcome.updates {
            state.feed.send(update, update.version());
        }
        drop(state);
        for update in &outcome.updates {
            if let Update::Guard(change) = update {
                let GuardChange {
                    is_active,
                    held,
                    listed,
                    ..
                } = change;
                crate::log::warn!(
                    "the guard of a registry is {}: {held} of {listed} nodes are held",
                    if *is_active {
                        "active"
                    } else {
                        "no longer active"
                    }
                );
            }
        }
        let mut orders = order(&result).into_iter().chain(&outcome.orders);
        let done = orders.try_for_each(|&order| self.carry_out(order));
        // User data may be dropped here for the last time. This happens after the lock is released, because a `Drop`
        // may take it, and after the orders, because a panic must not discard them.
        drop((old, outcome.updates, outcome.garbage));
        done.map(|()| result)
    }

    /// Handles an event of the watcher, on its worker.
    pub(super) fn heed(&self, event: &Event<Watched>) {
        let _ = self.act(|keeper, now| match event {
            Event::Expired(expired) => match expired.key {
                Watched::Node(slot, watch) => keeper.silent(slot, watch, now),
                Watched::Until(_) => keeper.tend(now),
            },
            Event::Stalled(stall) => keeper.stalled(*stall),
            _ => {}
        });
    }
}
