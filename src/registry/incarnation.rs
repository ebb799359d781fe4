//! The number that distinguishes the lives of a node.

use std::fmt;

/// A number that identifies one run of a node and grows each time the node starts.
///
/// When a node restarts, messages of its previous process may still be in transit. A late
/// [`leave`](super::Registry::leave) would remove the new process from the list, and a late beat would count for it.
/// [`beat_as`](super::Registry::beat_as) and [`leave_as`](super::Registry::leave_as) therefore name the incarnation
/// that [`Registry::register`](super::Registry::register) returned. Once the node is registered again, they return
/// [`Superseded`](super::RegistryError::Superseded) and change nothing.
///
/// By default the registry assigns the numbers, which suits threads of one process that share it. Nodes that send
/// messages assign their own with [`NodeOptions::incarnation`](super::NodeOptions::incarnation), such as the time of
/// their start or a counter of starts. A late registration of an old process is then refused too. A node whose number
/// decreases, as a wall clock can, is refused until it is [forgotten](super::Registry::forget). Do not use both ways
/// for the same node.
///
/// ```
/// use liveness::registry::{Registry, RegistryError};
///
/// let devices = Registry::<u64, &str>::builder().build()?;
/// let old = devices.register(7, "connection 1")?;
/// let new = devices.register(7, "connection 2")?; // the device reconnects before the old connection ends
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
    /// Creates an incarnation with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Incarnation(number)
    }

    /// Returns the number.
    ///
    /// ```
    /// use liveness::registry::{Incarnation, Registry};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let incarnation = registry.register(7, "rack 4")?;
    /// assert_eq!(Incarnation::new(incarnation.get()), incarnation);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
