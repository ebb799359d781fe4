//! The metrics of each kind of source, in a file for each.

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "dispatch")]
mod dispatcher;
#[cfg(feature = "server")]
mod group;
#[cfg(feature = "pacemaker")]
mod pacemaker;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "redis")]
mod shared_watcher;
mod watcher;

use super::families::{Families, Samples};
use super::measure::Measure;

/// Adds the metrics of one source.
pub(crate) fn add(families: &mut Families, name: &str, measure: &Measure) {
    let to = &mut Samples::new(families, name);
    match measure {
        Measure::Watcher(stats) => watcher::add(to, stats),
        #[cfg(feature = "registry")]
        Measure::Registry(stats) => registry::add(to, stats),
        #[cfg(feature = "pacemaker")]
        Measure::Pacemaker(stats, connection) => pacemaker::add(to, *stats, *connection),
        #[cfg(feature = "dispatch")]
        Measure::Dispatcher(stats) => dispatcher::add(to, stats.as_ref()),
        #[cfg(feature = "redis")]
        Measure::SharedWatcher(stats) => shared_watcher::add(to, stats),
        #[cfg(feature = "server")]
        Measure::Server {
            stats,
            is_draining,
            blocked,
        } => server::add(to, stats, *is_draining, blocked.len()),
        #[cfg(feature = "client")]
        Measure::Client(stats, state) => client::add(to, stats, state),
        #[cfg(feature = "server")]
        Measure::Group(stats, busy) => group::add(to, stats, busy.as_ref()),
    }
}
