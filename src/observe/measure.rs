//! What the sources of an observer answer when they are asked.

use crate::stats::Stats;

#[cfg(all(feature = "server", feature = "json"))]
use crate::event::{Event, EventKind};

#[cfg(feature = "client")]
use crate::client::{self, ClientStats};
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
    /// Of a client.
    #[cfg(feature = "client")]
    Client(Box<ClientStats>, client::State),
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
            #[cfg(feature = "client")]
            Measure::Client(..) => "client",
            #[cfg(feature = "server")]
            Measure::Group(..) => "group",
        }
    }

    /// Returns what is wrong with the source `name`, if it should get no further work.
    pub(crate) fn problem(&self, name: &str) -> Option<String> {
        let what = match self {
            Measure::Watcher(stats) if stats.failed_workers > 0 => {
                format!("has {} failed workers", stats.failed_workers)
            }
            #[cfg(feature = "server")]
            Measure::Server {
                is_draining: true, ..
            } => "is draining".to_owned(),
            #[cfg(feature = "server")]
            Measure::Server { blocked, .. } if !blocked.is_empty() => {
                format!("is blocked in {}", blocked.join(", "))
            }
            #[cfg(feature = "server")]
            Measure::Group(_, Some(busy)) if busy.duration > GROUP_BLOCKED => {
                format!("has been blocked for {:.1?}", busy.duration)
            }
            _ => return None,
        };
        Some(format!("{} {name} {what}", self.kind()))
    }
}

/// How long a closure of a group may run before the group counts as blocked: far longer than what belongs there.
#[cfg(feature = "server")]
const GROUP_BLOCKED: std::time::Duration = std::time::Duration::from_secs(5);

/// The state of a member, in the order of the page.
#[cfg(all(feature = "server", feature = "json"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "registry"),
    expect(dead_code, reason = "only nodes of registries have these states")
)]
pub(crate) enum State {
    /// Is well.
    Up,
    /// Has not beaten often enough.
    Joining,
    /// Has missed beats.
    Suspect,
    /// Should get no new work.
    Drained,
    /// Is silent.
    Down,
    /// Has said goodbye.
    Left,
}

#[cfg(all(feature = "server", feature = "json"))]
impl State {
    /// Returns the state of a key after an event.
    pub(crate) fn after<K, V>(event: &Event<K, V>) -> Self {
        match event.kind() {
            EventKind::Expired => State::Down,
            EventKind::Removed => State::Left,
            EventKind::Stalled => State::Suspect,
            _ => State::Up,
        }
    }
}

/// A key of a watcher or a node of a registry.
#[cfg(all(feature = "server", feature = "json"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// How it is shown.
    pub(crate) label: String,
    /// Its state.
    pub(crate) state: State,
    /// Since when it has been in that state, ms since 1970.
    pub(crate) since: u64,
}

/// A connection of a server.
#[cfg(all(feature = "server", feature = "json"))]
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    /// Its number.
    pub(crate) id: u64,
    /// The other end.
    pub(crate) peer: String,
    /// How it came.
    pub(crate) transport: String,
    /// The last time from a ping to its pong.
    pub(crate) rtt: Option<std::time::Duration>,
    /// How many bytes wait to be written.
    pub(crate) queued: usize,
    /// For how long nothing was received.
    pub(crate) quiet: std::time::Duration,
}

/// A source of an observer. It does not keep what it looks at alive, unless its method of the observer says so.
pub(crate) trait Source: Send + Sync {
    /// Returns the statistics, or `None` if what it looked at is gone.
    fn measure(&self) -> Option<Measure>;

    /// Returns the members, if it has any: at most `max`, and those that are well last.
    #[cfg(all(feature = "server", feature = "json"))]
    fn members(&self, _max: usize) -> Option<Vec<Member>> {
        None
    }

    /// Returns connections, if it has any: at most `max`, and how many there are.
    #[cfg(all(feature = "server", feature = "json"))]
    fn connected(&self, _max: usize) -> Option<(Vec<Connected>, usize)> {
        None
    }
}

/// The dead events of one topic of a dispatcher.
#[cfg(all(feature = "server", feature = "json"))]
#[cfg(feature = "dispatch")]
pub(crate) trait DeadList: Send + Sync {
    /// Returns the latest, at most `max`.
    fn list(&self, max: usize) -> Result<Vec<DeadEvent>, Unavailable>;

    /// Lets all of them run again.
    fn replay(&self) -> Result<usize, Unavailable>;

    /// Removes all of them.
    fn purge(&self) -> Result<usize, Unavailable>;
}

/// A dead event.
#[cfg(all(feature = "server", feature = "json"))]
#[cfg(feature = "dispatch")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadEvent {
    /// Its number.
    pub(crate) id: String,
    /// When it died, ms since 1970.
    pub(crate) died: u64,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// Why it died.
    pub(crate) error: String,
}

impl<F: Fn() -> Option<Measure> + Send + Sync> Source for F {
    fn measure(&self) -> Option<Measure> {
        self()
    }
}
