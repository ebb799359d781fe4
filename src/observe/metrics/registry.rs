//! The metrics of a registry.

use crate::observe::families::Samples;
use crate::registry::RegistryStats;

/// Adds the metrics of a registry.
pub(super) fn add(to: &mut Samples<'_>, stats: &RegistryStats) {
    to.gauges(
        "liveness_registry_nodes",
        "Nodes by state",
        "state",
        [
            ("joining", stats.joining as u64),
            ("up", stats.up as u64),
            ("suspect", stats.suspect as u64),
            ("down", stats.down as u64),
            ("left", stats.left as u64),
        ],
    );
    to.gauge(
        "liveness_registry_listed_nodes",
        "Nodes that may receive traffic",
        stats.listed as f64,
    );
    to.gauges(
        "liveness_registry_marked_nodes",
        "Nodes that the guard holds, that are drained, or that are suppressed because they flap",
        "mark",
        [
            ("held", stats.held as u64),
            ("drained", stats.drained as u64),
            ("suppressed", stats.suppressed as u64),
        ],
    );
    to.counter(
        "liveness_registry_deaths",
        "Times that a node went down",
        stats.deaths,
    );
    to.counter(
        "liveness_registry_recoveries",
        "Times that a node came back",
        stats.recoveries,
    );
    to.counter(
        "liveness_registry_guards",
        "Times that the guard against the death of many nodes became active",
        stats.guards,
    );
    to.counter(
        "liveness_registry_stalls",
        "Times that the registry did not run for a while and held judgement back",
        stats.stalls,
    );
    to.counter(
        "liveness_registry_refused",
        "Registrations that were refused because the registry was full",
        stats.refused,
    );
    to.gauge(
        "liveness_registry_subscribers",
        "Subscriptions that have not ended",
        stats.subscribers as f64,
    );
    to.counter(
        "liveness_registry_missed_updates",
        "Updates that were dropped because a subscriber was behind",
        stats.missed_updates,
    );
}
