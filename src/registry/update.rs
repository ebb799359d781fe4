//! What a registry reports: the status of a node, what changed, and a picture of the whole fleet to apply changes to.

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
    /// Registered, or back after it was down, and has not made [`rise`](super::Builder::rise) beats in a row.
    Joining,
    /// Alive.
    Up,
    /// It was up and missed a timeout, but fewer than [`fall`](super::Builder::fall), or it is held by the
    /// [guard](super::Guard). Still listed.
    Suspect,
    /// It missed `fall` timeouts in a row.
    Down,
    /// It said goodbye.
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

/// The state of a node, and everything else that a [`Transition`] may change.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeStatus<N, D> {
    /// Its id, data and present weight.
    pub node: Node<N, D>,
    /// Which life of it this is.
    pub incarnation: Incarnation,
    /// Its state.
    pub state: State,
    /// When it came into that state, by the registry's clock.
    pub since: Timestamp,
    /// Whether an operator has drained it: it is watched, and not listed.
    pub is_drained: bool,
    /// Whether it went down too often and is not listed for a while; see [`FlapDamping`](super::FlapDamping).
    pub is_suppressed: bool,
    /// Whether it would be down if the [guard](super::Guard) did not hold it.
    pub is_held: bool,
}

impl<N, D> NodeStatus<N, D> {
    /// Returns whether the node may receive traffic: it is up or suspect, and neither drained nor suppressed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        matches!(self.state, State::Up | State::Suspect) && !self.is_drained && !self.is_suppressed
    }
}

// By hand, as a derive would ask for `N: Clone` and `D: Clone`.
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

/// What is known of the beats of a node at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Vitals {
    /// The last beat, by the registry's clock; `None` if there was none yet.
    pub last_beat: Option<Timestamp>,
    /// The longest silence allowed now; [`Duration::MAX`] for one that never ends.
    pub timeout: Duration,
    /// Timeouts missed in a row.
    pub misses: u32,
    /// How suspicious the silence is by the phi-accrual detector; `None` under another [policy](super::Policy).
    pub phi: Option<f64>,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Change {
    /// It was registered, or again after it left: now joining.
    Registered,
    /// It was registered again while known: its data or its full weight is new, its state is not.
    Updated,
    /// It beats again after it was down, but not often enough in a row: now joining.
    Returning,
    /// It is up, for the first time since it was registered, or since it left and was registered again.
    Up,
    /// It is up again.
    Recovered {
        /// For how long it was not listed: from the moment it went down.
        down_for: Duration,
    },
    /// It missed a timeout: now suspect.
    Suspected,
    /// It beat in time after all: from suspect, held or not, to up.
    Reassured,
    /// It would go down, or has just gone down, but so many others did that the guard holds it: suspect.
    Held,
    /// It is down.
    Down,
    /// It left.
    Left,
    /// It is no longer known: it was down or had left for long enough, or was [forgotten](super::Registry::forget) by a call.
    /// The status is the last one.
    Forgotten,
    /// An operator has drained it.
    Drained,
    /// It is no longer drained.
    Undrained,
    /// It has stayed up for long enough that it is no longer suppressed.
    Reused,
    /// Its weight has grown by a step of the slow start.
    Weight,
}

impl Change {
    /// In lower case, as log lines show it.
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

/// One change of one node.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Transition<N, D> {
    /// The version of the fleet that this change made: one more than before.
    pub version: u64,
    /// When it happened, by the registry's clock.
    pub at: Timestamp,
    /// What happened.
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

/// The guard against mass death came into force, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GuardChange {
    /// The version of the fleet that this change made: one more than before.
    pub version: u64,
    /// When it happened, by the registry's clock.
    pub at: Timestamp,
    /// Whether it is in force from now on.
    pub is_active: bool,
    /// How many nodes it holds, or if it ended, lets go down now.
    pub held: usize,
    /// How many nodes are listed, the held ones among them.
    pub listed: usize,
}

/// One update for a [subscriber](super::Registry::subscribe). Versions follow each other without a gap, except for updates that
/// were [missed](Update::Missed).
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Update<N, D> {
    /// A node changed.
    Node(Transition<N, D>),
    /// The guard against mass death came into force, or ended. An update for each node that it holds follows.
    Guard(GuardChange),
    /// The registry did not run for a while, and expiry is held back: see [`Stall`].
    Stalled {
        /// The version of the fleet, one more than before though no node changed.
        version: u64,
        /// What is known of it.
        stall: Stall,
    },
    /// The subscriber was too slow: updates were dropped here. A picture of the fleet that is older than the last of them is
    /// out of date for good, and [`Fleet::apply`] says so.
    Missed {
        /// How many were dropped.
        count: u64,
        /// The version of the last of them.
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

/// `Display` is fit for a log line.
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

/// A picture of all nodes at one moment, to which a subscriber may [`apply`](Fleet::apply) the updates since.
pub struct Fleet<N, D> {
    /// The version of the fleet that it shows.
    version: u64,
    /// All nodes that are known.
    nodes: HashMap<N, NodeStatus<N, D>>,
}

/// An update could not be [applied](Fleet::apply) because updates are missing: take a fresh
/// [`Registry::fleet`](super::Registry::fleet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("updates are missing; take a fresh picture of the fleet")
    }
}

impl std::error::Error for Gap {}

impl<N: Eq + Hash + Clone, D> Fleet<N, D> {
    /// The picture of `nodes` at `version`.
    pub(super) fn new((version, nodes): (u64, Vec<NodeStatus<N, D>>)) -> Self {
        let nodes = nodes.into_iter();
        Fleet {
            version,
            nodes: nodes.map(|node| (node.node.id().clone(), node)).collect(),
        }
    }

    /// Brings the picture up to date. An update that it shows already changes nothing, so a fresh picture may be taken at
    /// any time, whatever still waits in the [`Updates`](super::Updates).
    ///
    /// # Errors
    ///
    /// [`Gap`] if updates are missing that the picture does not show; then nothing changes. Take a fresh
    /// [`Registry::fleet`](super::Registry::fleet) and go on with the next update. Nothing else needs to be done: whatever
    /// is missed, and whenever, the picture is up to date when no update waits.
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

    /// Returns the state of the node `id` and what belongs to it, or `None` if it is not known.
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
    /// Returns the version: the number of updates so far.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of nodes that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns an iterator over all nodes, in no order. The same as `for node in &fleet`.
    #[must_use]
    pub fn iter(&self) -> std::collections::hash_map::Values<'_, N, NodeStatus<N, D>> {
        self.nodes.values()
    }

    /// Returns an iterator over the nodes that may receive traffic, in no order.
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
