//! Statistics of a registry.

use std::fmt;

/// The gauges and counters of a registry, returned by [`Registry::stats`](super::Registry::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RegistryStats {
    /// The version of the fleet: the number of updates so far.
    pub version: u64,
    /// The number of nodes that are [`Joining`](super::State::Joining).
    pub joining: usize,
    /// The number of nodes that are [`Up`](super::State::Up).
    pub up: usize,
    /// The number of nodes that are [`Suspect`](super::State::Suspect), including those that the guard holds.
    pub suspect: usize,
    /// The number of nodes that are [`Down`](super::State::Down).
    pub down: usize,
    /// The number of nodes that have [`Left`](super::State::Left) and are not yet forgotten.
    pub left: usize,
    /// The number of listed nodes.
    pub listed: usize,
    /// The number of nodes that the [guard](super::Guard) holds.
    pub held: usize,
    /// The number of nodes that are drained.
    pub drained: usize,
    /// The number of nodes that are suppressed by [flap damping](super::FlapDamping).
    pub suppressed: usize,
    /// How often a node went down. A node that the guard holds after it went down, and releases later, counts once.
    pub deaths: u64,
    /// How often a node that had been up came back after it was down.
    pub recoveries: u64,
    /// How often the guard became active.
    pub guards: u64,
    /// How often the registry did not run for a while.
    pub stalls: u64,
    /// The number of registrations that were refused because the registry was full.
    pub refused: u64,
    /// The number of subscriptions that have not ended.
    pub subscribers: usize,
    /// The number of updates that were dropped because a subscriber's queue was full, over all subscribers.
    pub missed_updates: u64,
}

/// Formats the statistics as `name=value` pairs on one line, for a log.
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
             stalls={stalls} refused={refused} subscribers={subscribers} missed_updates={missed_updates} \
             version={version}"
        )
    }
}
