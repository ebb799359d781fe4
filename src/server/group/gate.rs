//! The way into a group for the turns of agents, which do not count for its capacity.

use std::sync::Arc;

use super::shared::{Patience, Shared};
use super::work::{Kind, Work};

/// A way into a group for turns of agents. There is at most one for each connection, so they need no limit.
///
/// It does not keep the group alive.
pub(crate) struct Gate<S> {
    /// The group.
    shared: Arc<Shared<S>>,
}

/// A turn in the inbox of a group.
struct Admitted<S, V> {
    /// The turn, until it begins.
    turn: Option<V>,
    /// What runs it.
    code: fn(V, &mut S),
}

impl<S, V: Send> Work<S> for Admitted<S, V> {
    fn run(&mut self, state: &mut S) -> bool {
        if let Some(turn) = self.turn.take() {
            (self.code)(turn, state);
        }
        true
    }
}

impl<S> Gate<S> {
    /// A way into the group of `shared`.
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        Gate { shared }
    }

    /// The name of the group.
    pub(crate) fn name(&self) -> &str {
        &self.shared.settings.name
    }
}

impl<S: Send + 'static> Gate<S> {
    /// Lets `code` run `turn` on the group's thread, without waiting. If the group is stopped, or discards what it has
    /// not run, the turn is dropped.
    pub(crate) fn admit<V: Send + 'static>(&self, turn: V, code: fn(V, &mut S)) {
        let turn = Some(turn);
        // What is refused is dropped here, outside the lock.
        let _ = self
            .shared
            .push(Kind::Agent, Admitted { turn, code }, Patience::None);
    }
}
