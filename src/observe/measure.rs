//! What the sources of an observer answer when they are asked.

use crate::stats::Stats;

#[cfg(feature = "dispatch")]
use crate::dispatch::{DispatchStats, Unavailable};
#[cfg(feature = "pacemaker")]
use crate::pacemaker::{Connection, PacemakerStats};
#[cfg(feature = "redis")]
use crate::redis::SharedStats;
#[cfg(feature = "registry")]
use crate::registry::RegistryStats;
#[cfg(feature = "server")]
use crate::server::ServerStats;
#[cfg(feature = "server")]
use crate::server::group::{Busy, GroupStats};

/// The statistics of one source.
#[derive(Debug)]
pub(crate) enum Measure {
    /// Of a watcher.
    Watcher(Box<Stats>),
    /// Of a registry.
    #[cfg(feature = "registry")]
    Registry(RegistryStats),
    /// Of a pacemaker.
    #[cfg(feature = "pacemaker")]
    Pacemaker(PacemakerStats, Connection),
    /// Of a dispatcher.
    #[cfg(feature = "dispatch")]
    Dispatcher(Result<DispatchStats, Unavailable>),
    /// Of a watch that processes share.
    #[cfg(feature = "redis")]
    SharedWatcher(Box<SharedStats>),
    /// Of a server.
    #[cfg(feature = "server")]
    Server {
        /// The statistics.
        stats: Box<ServerStats>,
        /// Whether it takes no further connections.
        is_draining: bool,
        /// The threads that are blocked in user code.
        blocked: Vec<String>,
    },
    /// Of a group.
    #[cfg(feature = "server")]
    Group(Box<GroupStats>, Option<Busy>),
}

impl Measure {
    /// Returns the kind of the source.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Measure::Watcher(_) => "watcher",
            #[cfg(feature = "registry")]
            Measure::Registry(_) => "registry",
            #[cfg(feature = "pacemaker")]
            Measure::Pacemaker(..) => "pacemaker",
            #[cfg(feature = "dispatch")]
            Measure::Dispatcher(_) => "dispatcher",
            #[cfg(feature = "redis")]
            Measure::SharedWatcher(_) => "shared_watcher",
            #[cfg(feature = "server")]
            Measure::Server { .. } => "server",
            #[cfg(feature = "server")]
            Measure::Group(..) => "group",
        }
    }

    /// Returns what is wrong, if this source should get no further work.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Measure::Watcher(stats) if stats.failed_workers > 0 => {
                Some(format!("{} workers have failed", stats.failed_workers))
            }
            #[cfg(feature = "server")]
            Measure::Server {
                is_draining,
                blocked,
                ..
            } => {
                if *is_draining {
                    return Some("is draining".to_owned());
                }
                (!blocked.is_empty()).then(|| format!("is blocked in {}", blocked.join(", ")))
            }
            #[cfg(feature = "server")]
            Measure::Group(_, Some(busy)) if busy.duration > GROUP_BLOCKED => {
                Some(format!("has been blocked for {:.1?}", busy.duration))
            }
            _ => None,
        }
    }
}

/// How long a closure of a group may run before the group counts as blocked: far longer than what belongs there.
#[cfg(feature = "server")]
const GROUP_BLOCKED: std::time::Duration = std::time::Duration::from_secs(5);

/// A source of an observer. It does not keep what it looks at alive, unless its method of the observer says so.
pub(crate) trait Source: Send + Sync {
    /// Returns the statistics, or `None` if what it looked at is gone.
    fn measure(&self) -> Option<Measure>;
}

impl<F: Fn() -> Option<Measure> + Send + Sync> Source for F {
    fn measure(&self) -> Option<Measure> {
        self()
    }
}
