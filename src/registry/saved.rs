//! The state of a registry in a form that can be stored and restored.
//!
//! The form holds no points in time, because the next clock has another origin. It holds durations: how long ago
//! something happened, and how long it still lasts.

use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::available::Node;
use super::error::RegistryError;
use super::fleet::{Entry, Keeper};
use super::incarnation::Incarnation;
use super::options::{self, NodeOptions};
use super::policy::Policy;
use super::update::State;

/// The state of a registry, returned by [`Registry::save`](super::Registry::save), for any format of `serde`. It does
/// not include what an [adaptive policy](super::Policy::Adaptive) has learned.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{Registry, Saved};
///
/// let registry = Registry::<u64, String>::builder().build()?;
/// registry.register(7, "rack 4".to_owned())?;
/// let json = serde_json::to_string(&registry.save())?;
///
/// let saved: Saved<u64, String> = serde_json::from_str(&json)?;
/// assert_eq!(saved.len(), 1);
/// let next = Registry::builder().restore(saved, Duration::from_secs(60)).build()?;
/// assert!(next.status(&7).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved<N, D> {
    /// The nodes.
    nodes: Vec<SavedNode<N, D>>,
    /// The last incarnation that the registry assigned.
    last_incarnation: u64,
}

impl<N, D> Saved<N, D> {
    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns `true` if there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A node of a saved registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedNode<N, D> {
    /// Its id.
    id: N,
    /// Its data.
    data: D,
    /// Its weight without a slow start.
    weight: u32,
    /// Its incarnation.
    incarnation: Incarnation,
    /// Its own policy, if it has one.
    policy: Option<Policy>,
    /// Its state.
    state: State,
    /// How long it has been in that state.
    in_state_for: Duration,
    /// How much longer it may be silent; `None` if it was not watched.
    remaining: Option<Duration>,
    /// Beats in a row.
    streak: u32,
    /// Timeouts missed in a row.
    misses: u32,
    /// How long it has been down, if it has not been up since.
    down_for: Option<Duration>,
    /// Whether it is drained.
    is_drained: bool,
    /// How much longer it is suppressed, if it is suppressed.
    suppressed_for: Option<Duration>,
    /// Its penalty.
    penalty: f64,
    /// How much longer its slow start lasts, if there is one.
    ramp: Option<Duration>,
    /// How much longer it is remembered, if it is down or has left.
    remembered_for: Option<Duration>,
}

impl<N: Clone, D: Clone> SavedNode<N, D> {
    /// Creates the saved form of `entry` at the time `now`.
    fn new(entry: &Entry<N, D>, now: Duration, penalty: f64) -> Self {
        let left = |until: Duration| until.saturating_sub(now);
        SavedNode {
            id: entry.node.id().clone(),
            data: entry.node.data().clone(),
            weight: entry.node.full_weight(),
            incarnation: entry.incarnation,
            policy: entry.policy,
            state: entry.state,
            in_state_for: now.saturating_sub(entry.since),
            remaining: entry.watch.map(|_| left(entry.deadline())),
            streak: entry.streak,
            misses: entry.misses,
            down_for: entry
                .down
                .map(|(before, at)| before.saturating_add(now.saturating_sub(at))),
            is_drained: entry.is_drained,
            suppressed_for: entry.is_suppressed.then(|| left(entry.reuse_at)),
            penalty,
            ramp: entry.ramp_end.map(left),
            remembered_for: entry.forget_at.map(left),
        }
    }
}

impl<N: Eq + Hash + Clone, D> Keeper<N, D> {
    /// Returns the state at the time `now`.
    pub(super) fn save(&self, now: Duration) -> Saved<N, D>
    where
        D: Clone,
    {
        let saved = |entry| SavedNode::new(entry, now, self.penalty(entry, now));
        Saved {
            nodes: self.entries().map(saved).collect(),
            last_incarnation: self.last_incarnation(),
        }
    }

    /// Starts an empty fleet with the saved nodes. A watched node may be silent for at least `grace`. If a node occurs
    /// twice, the first one is used. Each node emits an update, although there are no subscribers yet.
    pub(super) fn restore(
        &mut self,
        saved: Saved<N, D>,
        grace: Duration,
        now: Duration,
    ) -> Result<(), RegistryError> {
        self.restore_incarnation(saved.last_incarnation);
        for node in saved.nodes {
            self.restore_node(node, grace, now)?;
        }
        Ok(())
    }

    /// Restores one node.
    fn restore_node(
        &mut self,
        saved: SavedNode<N, D>,
        grace: Duration,
        now: Duration,
    ) -> Result<(), RegistryError> {
        let options = NodeOptions {
            policy: saved.policy,
            weight: Some(saved.weight),
            incarnation: Some(saved.incarnation),
        };
        options.check()?;
        let node = Node::new(saved.id, saved.data, saved.weight);
        let mut entry = Entry::new(node, saved.incarnation, &options, now);
        // The options of this registry may differ. Values that exceed them are reduced to the limit.
        let config = &self.config;
        let (ceiling, longest) = config
            .damping
            .map_or((f64::MAX, Duration::MAX), |it| (it.ceiling(), it.longest));
        let after = |left: Duration, most: Duration| now.saturating_add(left.min(most));
        entry.state = saved.state;
        entry.since = now.saturating_sub(saved.in_state_for);
        entry.streak = saved.streak;
        entry.misses = saved.misses;
        entry.down = saved.down_for.map(|down_for| (down_for, now));
        entry.is_drained = saved.is_drained;
        entry.is_suppressed = saved.suppressed_for.is_some();
        entry.reuse_at = after(saved.suppressed_for.unwrap_or_default(), longest);
        entry.penalty = (saved.penalty.max(0.0).min(ceiling), now); // `max` and `min` also replace a NaN
        // A node that was not in a slow start does not begin one.
        entry.ramp_end = Some(after(saved.ramp.unwrap_or_default(), config.slow_start));
        let is_watched = !matches!(entry.state, State::Down | State::Left);
        if !is_watched {
            let most = config.forget_after;
            let left = saved.remembered_for.unwrap_or(most).min(most);
            entry.forget_at = options::after(now, left);
        }
        let most = match saved.policy.unwrap_or(config.policy) {
            // The learned timeout is not saved.
            Policy::Adaptive(_) => Duration::MAX,
            policy => policy.initial_timeout(),
        };
        // A node that was held is watched again. If it stays silent, the guard decides again whether to hold it.
        let wait = saved.remaining.unwrap_or_default().min(most).max(grace);
        self.restore_entry(entry, is_watched.then_some(wait), now)
    }
}
