//! What a registry counts.

use std::fmt;

/// The gauges and counters of a registry; returned by [`Registry::stats`](super::Registry::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RegistryStats {
    /// The version of the fleet: the number of updates so far.
    pub version: u64,
    /// Nodes that are joining.
    pub joining: usize,
    /// Nodes that are up.
    pub up: usize,
    /// Nodes that are suspect, held ones among them.
    pub suspect: usize,
    /// Nodes that are down.
    pub down: usize,
    /// Nodes that have left and are not forgotten.
    pub left: usize,
    /// Nodes that are listed.
    pub listed: usize,
    /// Nodes that the guard holds.
    pub held: usize,
    /// Nodes that are drained.
    pub drained: usize,
    /// Nodes that are suppressed for flapping.
    pub suppressed: usize,
    /// How often a node went down. One that the guard took back and lets go down later counts once.
    pub deaths: u64,
    /// How often a node that had been up came back after it was down.
    pub recoveries: u64,
    /// How often the guard came into force.
    pub guards: u64,
    /// How often the registry did not run for a while.
    pub stalls: u64,
    /// Nodes that were refused because there was no room.
    pub refused: u64,
    /// Subscriptions that have not ended.
    pub subscribers: usize,
    /// Updates that slow subscribers missed.
    pub missed_updates: u64,
}

/// `Display` is fit for a log line.
impl fmt::Display for RegistryStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RegistryStats {
            version,
            joining,
            up,
            suspect,
            down,
            left,
            listed,
            held,
            drained,
            suppressed,
            deaths,
            recoveries,
            guards,
            stalls,
            refused,
            subscribers,
            missed_updates,
        } = self;
        write!(
            f,
            "listed={listed} joining={joining} up={up} suspect={suspect} down={down} left={left} held={held} \
             drained={drained} suppressed={suppressed} deaths={deaths} recoveries={recoveries} guards={guards} \
             stalls={stalls} refused={refused} subscribers={subscribers} missed_updates={missed_updates} version={version}"
        )
    }
}
