//! Updates of a registry: the status of a node, the changes, and a snapshot of all nodes to apply changes to.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::available::Node;
use super::incarnation::Incarnation;
use crate::clock::Timestamp;
use crate::event::Stall;

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The node is registered, or comes back after it was down, and has not yet made [`rise`](super::Builder::rise)
    /// beats in a row. Not listed.
    Joining,
    /// The node is alive. Listed.
    Up,
    /// The node was up and has missed a timeout, but fewer than [`fall`](super::Builder::fall) in a row, or is held by
    /// the [guard](super::Guard). Listed.
    Suspect,
    /// The node has missed `fall` timeouts in a row. Not listed.
    Down,
    /// The node has [left](super::Registry::leave). Not listed.
    Left,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Joining => "joining",
            State::Up => "up",
            State::Suspect => "suspect",
            State::Down => "down",
            State::Left => "left",
        })
    }
}

/// The state of a node, and everything else that a [`Transition`] can change.
///
/// ```
/// use liveness::registry::{Registry, State};
///
/// let registry = Registry::<u64, &str>::builder().build()?;
/// registry.register(7, "rack 4")?;
/// registry.beat(&7)?;
/// let status = registry.status(&7).expect("node 7 is registered");
/// assert_eq!((status.state, *status.node.data()), (State::Up, "rack 4"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeStatus<N, D> {
    /// The id, the data and the present weight.
    pub node: Node<N, D>,
    /// The incarnation that is registered.
    pub incarnation: Incarnation,
    /// The state.
    pub state: State,
    /// When the node entered this state, by the registry's clock.
    pub since: Timestamp,
    /// Whether an operator has [drained](super::Registry::drain) the node. It is watched but not listed.
    pub is_drained: bool,
    /// Whether the node went down too often and is not listed for a while; see [`FlapDamping`](super::FlapDamping).
    pub is_suppressed: bool,
    /// Whether the node would be down if the [guard](super::Guard) did not hold it.
    pub is_held: bool,
}

impl<N, D> NodeStatus<N, D> {
    /// Returns `true` if the node may receive traffic: it is up or suspect, and neither drained nor suppressed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        matches!(self.state, State::Up | State::Suspect) && !self.is_drained && !self.is_suppressed
    }
}

// Implemented by hand, because a derive would require `N: Clone` and `D: Clone`.
impl<N, D> Clone for NodeStatus<N, D> {
    fn clone(&self) -> Self {
        NodeStatus {
            node: self.node.clone(),
            ..*self
        }
    }
}

impl<N: fmt::Debug, D: fmt::Debug> fmt::Debug for NodeStatus<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStatus")
            .field("id", self.node.id())
            .field("data", self.node.data())
            .field("weight", &self.node.weight())
            .field("incarnation", &self.incarnation)
            .field("state", &self.state)
            .field("since", &self.since)
            .field("is_drained", &self.is_drained)
            .field("is_suppressed", &self.is_suppressed)
            .field("is_held", &self.is_held)
            .finish()
    }
}

/// The last beat and the timeout of a node, returned by [`Registry::vitals`](super::Registry::vitals).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Vitals {
    /// The last beat, by the registry's clock; `None` if the node has not beaten yet.
    pub last_beat: Option<Timestamp>,
    /// The longest silence allowed at present; [`Duration::MAX`] if there is no limit.
    pub timeout: Duration,
    /// The number of timeouts missed in a row.
    pub misses: u32,
    /// φ of the present silence, by the phi-accrual detector; `None` under any other [policy](super::Policy).
    pub phi: Option<f64>,
}

/// A change of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Change {
    /// The node was registered, for the first time or after it had left, and is joining.
    Registered,
    /// A known node was registered again with new data or a new full weight. Its state is unchanged.
    Updated,
    /// The node beats again after it was down, but not yet often enough in a row, and is joining.
    Returning,
    /// The node is up for the first time since it was registered.
    Up,
    /// The node is up again after it was down.
    Recovered {
        /// How long it was not listed, counted from the moment it went down.
        down_for: Duration,
    },
    /// The node missed a timeout and is suspect.
    Suspected,
    /// The suspect node, held or not, beat again and is up.
    Reassured,
    /// The node is suspect. It would go down, or has just gone down, but the guard holds it because many others did
    /// too.
    Held,
    /// The node is down.
    Down,
    /// The node has left.
    Left,
    /// The node is no longer known: it was down or had left for long enough, or was
    /// [forgotten](super::Registry::forget) by a call. The status is its last one.
    Forgotten,
    /// An operator has drained the node.
    Drained,
    /// The node is no longer drained.
    Undrained,
    /// The node has stayed up for long enough that it is no longer suppressed.
    Reused,
    /// The weight of the node has grown by a step of the slow start.
    Weight,
}

impl Change {
    /// Returns the name in lower case, for log lines.
    fn name(self) -> &'static str {
        match self {
            Change::Registered => "registered",
            Change::Updated => "updated",
            Change::Returning => "returning",
            Change::Up => "up",
            Change::Recovered { .. } => "recovered",
            Change::Suspected => "suspected",
            Change::Reassured => "reassured",
            Change::Held => "held",
            Change::Down => "down",
            Change::Left => "left",
            Change::Forgotten => "forgotten",
            Change::Drained => "drained",
            Change::Undrained => "undrained",
            Change::Reused => "reused",
            Change::Weight => "weight",
        }
    }
}

/// A change of a node, and the status of the node after it.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition<N, D> {
    /// The version of the fleet after this change, one more than before.
    pub version: u64,
    /// When it happened, by the registry's clock.
    pub at: Timestamp,
    /// The change.
    pub change: Change,
    /// The node after the change.
    pub status: NodeStatus<N, D>,
}

impl<N, D> Clone for Transition<N, D> {
    fn clone(&self) -> Self {
        Transition {
            status: self.status.clone(),
            ..*self
        }
    }
}

impl<N: fmt::Debug, D: fmt::Debug> fmt::Debug for Transition<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transition")
            .field("version", &self.version)
            .field("at", &self.at)
            .field("change", &self.change)
            .field("status", &self.status)
            .finish()
    }
}

/// The start or the end of the [guard](super::Guard).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuardChange {
    /// The version of the fleet after this change, one more than before.
    pub version: u64,
    /// When it happened, by the registry's clock.
    pub at: Timestamp,
    /// Whether the guard is active from now on.
    pub is_active: bool,
    /// The number of nodes that the guard holds, or releases if it has ended.
    pub held: usize,
    /// The number of listed nodes, including held ones.
    pub listed: usize,
}

/// An update for a [subscriber](super::Registry::subscribe). Versions are consecutive, except where updates were
/// [dropped](Update::Missed).
///
/// Its `Display` is one line for a log, such as `up 7 version=2 state=up weight=100`.
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Update<N, D> {
    /// A node changed.
    Node(Transition<N, D>),
    /// The guard became active or ended. An update for each node that it holds follows.
    Guard(GuardChange),
    /// The registry did not run for a while, and expiry is held back: see [`Stall`].
    Stalled {
        /// The version of the fleet, one more than before although no node has changed.
        version: u64,
        /// The details of the stall.
        stall: Stall,
    },
    /// Updates were dropped here because the subscriber's queue was full. A [`Fleet`] that is older than the last of
    /// them cannot be brought up to date, and [`Fleet::apply`] returns an error.
    Missed {
        /// The number of updates that were dropped.
        count: u64,
        /// The version of the last one.
        version: u64,
    },
}

impl<N, D> Update<N, D> {
    /// Returns the version of the fleet after this update.
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Update::Node(transition) => transition.version,
            Update::Guard(change) => change.version,
            Update::Stalled { version, .. } | Update::Missed { version, .. } => *version,
        }
    }
}

impl<N, D> Clone for Update<N, D> {
    fn clone(&self) -> Self {
        match self {
            Update::Node(transition) => Update::Node(transition.clone()),
            Update::Guard(change) => Update::Guard(*change),
            Update::Stalled { version, stall } => Update::Stalled {
                version: *version,
                stall: *stall,
            },
            &Update::Missed { count, version } => Update::Missed { count, version },
        }
    }
}

impl<N: fmt::Debug, D: fmt::Debug> fmt::Debug for Update<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Update::Node(transition) => transition.fmt(f),
            Update::Guard(change) => change.fmt(f),
            Update::Stalled { version, stall } => f
                .debug_struct("Stalled")
                .field("version", version)
                .field("stall", stall)
                .finish(),
            Update::Missed { count, version } => f
                .debug_struct("Missed")
                .field("count", count)
                .field("version", version)
                .finish(),
        }
    }
}

/// Formats the update on one line, for a log.
impl<N: fmt::Debug, D> fmt::Display for Update<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Update::Node(Transition {
                version,
                change,
                status,
                ..
            }) => {
                let (id, weight) = (status.node.id(), status.node.weight());
                write!(f, "{} {id:?} version={version}", change.name())?;
                if let Change::Recovered { down_for } = change {
                    write!(f, " down_for={down_for:?}")?;
                }
                write!(f, " state={} weight={weight}", status.state)?;
                for (name, is_so) in [
                    (" drained", status.is_drained),
                    (" suppressed", status.is_suppressed),
                    (" held", status.is_held),
                ] {
                    f.write_str(if is_so { name } else { "" })?;
                }
                Ok(())
            }
            Update::Guard(change) => {
                let what = if change.is_active { "active" } else { "ended" };
                write!(
                    f,
                    "guard {what} version={} held={} listed={}",
                    change.version, change.held, change.listed
                )
            }
            Update::Stalled { version, stall } => {
                let gap = stall.resumed - stall.last_alive;
                write!(
                    f,
                    "stalled version={version} gap={gap:?} held_for={:?}",
                    stall.held_for
                )
            }
            Update::Missed { count, version } => {
                write!(f, "missed version={version} count={count}")
            }
        }
    }
}

/// A snapshot of all nodes, to which a subscriber [applies](Fleet::apply) later updates.
pub struct Fleet<N, D> {
    /// The version of the fleet.
    version: u64,
    /// All known nodes.
    nodes: HashMap<N, NodeStatus<N, D>>,
}

/// The error of [`Fleet::apply`] when updates are missing. Take a new snapshot with
/// [`Registry::fleet`](super::Registry::fleet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("updates are missing; take a new snapshot with `Registry::fleet`")
    }
}

impl std::error::Error for Gap {}

impl<N: Eq + Hash + Clone, D> Fleet<N, D> {
    /// Creates a snapshot of `nodes` at `version`.
    pub(super) fn new((version, nodes): (u64, Vec<NodeStatus<N, D>>)) -> Self {
        let nodes = nodes.into_iter();
        Fleet {
            version,
            nodes: nodes.map(|node| (node.node.id().clone(), node)).collect(),
        }
    }

    /// Applies an update. An update that the snapshot already contains has no effect, so a new snapshot can be taken at
    /// any time, whatever waits in the [`Updates`](super::Updates).
    ///
    /// # Errors
    ///
    /// Returns [`Gap`] if updates between the snapshot and `update` are missing. The snapshot is then unchanged. Take a
    /// new one with [`Registry::fleet`](super::Registry::fleet) and continue with the next update. The snapshot is up
    /// to date whenever no update waits, whatever was dropped.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let (mut fleet, updates) = registry.subscribe(64);
    /// registry.register(7, "rack 4")?;
    /// for update in updates.try_iter() {
    ///     fleet.apply(&update)?;
    /// }
    /// assert!(fleet.get(&7).is_some());
    /// assert_eq!(fleet.version(), registry.fleet().version());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(&mut self, update: &Update<N, D>) -> Result<(), Gap> {
        let version = update.version();
        if version <= self.version {
            return Ok(());
        }
        if version > self.version + 1 || matches!(update, Update::Missed { .. }) {
            return Err(Gap);
        }
        self.version = version;
        if let Update::Node(transition) = update {
            let status = &transition.status;
            if transition.change == Change::Forgotten {
                self.nodes.remove(status.node.id());
            } else {
                self.nodes.insert(status.node.id().clone(), status.clone());
            }
        }
        Ok(())
    }

    /// Returns the status of the node `id`, or `None` if it is unknown.
    #[must_use]
    pub fn get<Q>(&self, id: &Q) -> Option<&NodeStatus<N, D>>
    where
        N: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.nodes.get(id)
    }
}

impl<N, D> Fleet<N, D> {
    /// Returns the version of the fleet, which is the number of updates so far.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of known nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns `true` if no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns an iterator over all nodes, in no particular order.
    #[must_use]
    pub fn iter(&self) -> std::collections::hash_map::Values<'_, N, NodeStatus<N, D>> {
        self.nodes.values()
    }

    /// Returns an iterator over the nodes that may receive traffic, in no particular order.
    pub fn listed(&self) -> impl Iterator<Item = &NodeStatus<N, D>> {
        self.iter().filter(|status| status.is_listed())
    }
}

impl<'a, N, D> IntoIterator for &'a Fleet<N, D> {
    type Item = &'a NodeStatus<N, D>;
    type IntoIter = std::collections::hash_map::Values<'a, N, NodeStatus<N, D>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<N: Clone, D> Clone for Fleet<N, D> {
    fn clone(&self) -> Self {
        Fleet {
            version: self.version,
            nodes: self.nodes.clone(),
        }
    }
}

impl<N: fmt::Debug, D: fmt::Debug> fmt::Debug for Fleet<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("version", &self.version)
            .field("nodes", &self.nodes)
            .finish()
    }
}
