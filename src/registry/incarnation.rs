//! Which life of a node a call means.

use std::fmt;

/// Which life of a node a call means: a number that grows each time that the node starts.
///
/// When a node starts again, messages of its previous process may still be on their way. A late goodbye would take the new
/// process out of the list, and a late beat would count for it. [`Registry::register`](super::Registry::register) returns
/// the incarnation that it made, and [`beat_as`](super::Registry::beat_as) and [`leave_as`](super::Registry::leave_as) name
/// the one they are of; once the node is registered again, they return
/// [`Superseded`](super::RegistryError::Superseded) and change nothing.
///
/// The registry gives numbers by itself, for threads of one process that share it. Nodes that send messages give their own
/// with [`NodeOptions::incarnation`](super::NodeOptions::incarnation): the time of their start, or a counter of starts. Then
/// a late registration of an old process is refused too. A node whose number goes back, as a wall clock may, is refused until
/// it is [forgotten](super::Registry::forget). For one node, use either way, not both.
///
/// ```
/// use liveness::registry::{Registry, RegistryError};
///
/// let devices = Registry::<u64, &str>::builder().build()?;
/// let old = devices.register(7, "connection 1")?;
/// let new = devices.register(7, "connection 2")?; // the device is back before the end of the old one is noticed
/// devices.beat_as(&7, new)?;
///
/// let late = devices.leave_as(&7, old); // the thread of the old connection ends
/// assert!(matches!(late, Err(RegistryError::Superseded { current }) if current == new));
/// assert_eq!(devices.available().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Incarnation(u64);

impl Incarnation {
    /// Creates an incarnation of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Incarnation(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Incarnation {
    fn from(number: u64) -> Self {
        Incarnation(number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
