//! The sources that a page shows in detail: keys of watchers, nodes of registries, connections of servers, and dead
//! events of topics.

use std::sync::Weak;

use super::measure::{Measure, Source};
use crate::watcher::Watcher;

#[cfg(all(feature = "server", feature = "json"))]
use super::measure::{Connected, Member, State};
#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
use super::measure::{DeadEvent, DeadList};
#[cfg(all(feature = "server", feature = "json"))]
use crate::clock::{Clock, Timestamp};
#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
use crate::dispatch::{Dispatch, Topic, Unavailable};
#[cfg(all(feature = "registry", feature = "server", feature = "json"))]
use crate::registry::NodeStatus;
#[cfg(feature = "registry")]
use crate::registry::Registry;
#[cfg(all(
    feature = "registry",
    any(feature = "log", all(feature = "server", feature = "json"))
))]
use crate::registry::Subscription;
#[cfg(feature = "server")]
use crate::server::{Codec, Server};

/// A watcher.
pub(crate) struct Keys<K, V, F> {
    /// The watcher.
    pub(crate) watcher: Weak<Watcher<K, V>>,
    /// How a key is shown.
    #[cfg_attr(
        not(all(feature = "server", feature = "json")),
        expect(dead_code, reason = "only a page shows keys")
    )]
    pub(crate) label: F,
}

impl<K: Send, V: Send, F: Fn(&K) -> String + Send + Sync> Source for Keys<K, V, F>
where
    Watcher<K, V>: Send + Sync,
{
    fn measure(&self) -> Option<Measure> {
        let watcher = self.watcher.upgrade()?;
        Some(Measure::Watcher(Box::new(watcher.stats())))
    }

    #[cfg(all(feature = "server", feature = "json"))]
    fn members(&self, max: usize) -> Option<Vec<Member>> {
        let watcher = self.watcher.upgrade()?;
        // A snapshot of a million keys would hold up beats for too long.
        let found = if watcher.len() > max {
            watcher.snapshot_down()
        } else {
            watcher.snapshot()
        };
        let members = found.ok()?.into_iter().take(max);
        let members = members.map(|(key, status)| {
            let (state, since) = if status.is_down() {
                (State::Down, status.last_beat + status.timeout)
            } else {
                (State::Up, status.joined)
            };
            Member {
                label: (self.label)(&key),
                state,
                since: since_1970(watcher.clock(), since),
            }
        });
        Some(members.collect())
    }
}

/// Returns `time` in ms since 1970.
#[cfg(all(feature = "server", feature = "json"))]
fn since_1970(clock: &Clock, time: Timestamp) -> u64 {
    millis(clock.system_time(time))
}

/// Returns `time` in ms since 1970.
#[cfg(all(feature = "server", feature = "json"))]
pub(crate) fn millis(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A registry.
#[cfg(feature = "registry")]
pub(crate) struct Nodes<N, D> {
    /// The registry.
    pub(crate) registry: Weak<Registry<N, D>>,
    /// What logs and keeps its changes, on a thread of its own. `None` if there can be no thread.
    #[cfg(any(feature = "log", all(feature = "server", feature = "json")))]
    pub(crate) _changes: Option<Subscription>,
}

#[cfg(feature = "registry")]
impl<N, D> Source for Nodes<N, D>
where
    N: std::fmt::Display + Eq + std::hash::Hash + Clone + Send + Sync + 'static,
    D: Send + Sync + 'static,
{
    fn measure(&self) -> Option<Measure> {
        Some(Measure::Registry(self.registry.upgrade()?.stats()))
    }

    #[cfg(all(feature = "server", feature = "json"))]
    fn members(&self, max: usize) -> Option<Vec<Member>> {
        let registry = self.registry.upgrade()?;
        let fleet = registry.fleet();
        let members = fleet.iter().take(max).map(|status| Member {
            label: status.node.id().to_string(),
            state: State::of(status),
            since: since_1970(registry.clock(), status.since),
        });
        Some(members.collect())
    }
}

#[cfg(all(feature = "registry", feature = "server", feature = "json"))]
impl State {
    /// Returns the state of a node.
    pub(crate) fn of<N, D>(status: &NodeStatus<N, D>) -> Self {
        use crate::registry::State as Judged;

        match status.state {
            Judged::Up | Judged::Suspect if status.is_drained || status.is_suppressed => {
                State::Drained
            }
            Judged::Joining => State::Joining,
            Judged::Up => State::Up,
            Judged::Suspect => State::Suspect,
            Judged::Down => State::Down,
            Judged::Left => State::Left,
        }
    }
}

/// A server.
#[cfg(feature = "server")]
pub(crate) struct Connections<C: Codec, T: Send + Sync + 'static>(pub(crate) Weak<Server<C, T>>);

#[cfg(feature = "server")]
impl<C: Codec, T: Send + Sync + 'static> Source for Connections<C, T> {
    fn measure(&self) -> Option<Measure> {
        let server = self.0.upgrade()?;
        Some(Measure::Server {
            stats: Box::new(server.stats()),
            is_draining: server.is_draining(),
            blocked: server.blocked(),
        })
    }

    #[cfg(feature = "json")]
    fn connected(&self, max: usize) -> Option<(Vec<Connected>, usize)> {
        let agents = self.0.upgrade()?.agents();
        let total = agents.len();
        let shown = agents.into_iter().take(max).map(|agent| Connected {
            id: agent.id().get(),
            peer: agent.peer().to_string(),
            transport: agent.transport().to_string(),
            rtt: agent.rtt(),
            queued: agent.queued(),
            quiet: agent.quiet(),
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by_key(|agent| agent.id);
        Some((shown, total))
    }
}

/// A topic of a dispatcher.
#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
pub(crate) struct Queue<D, T> {
    /// The dispatcher.
    pub(crate) dispatcher: D,
    /// The topic.
    pub(crate) topic: Topic<T>,
}

#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
impl<D: Dispatch<T>, T: Send + Sync + 'static> DeadList for Queue<D, T> {
    fn list(&self, max: usize) -> Result<Vec<DeadEvent>, Unavailable> {
        let dead = self.dispatcher.dead(&self.topic, max)?.into_iter();
        let dead = dead.map(|dead| DeadEvent {
            id: dead.id.to_string(),
            died: millis(dead.died),
            attempts: dead.attempts,
            error: dead.error,
        });
        Ok(dead.collect())
    }

    fn replay(&self) -> Result<usize, Unavailable> {
        self.dispatcher.replay(&self.topic, usize::MAX)
    }

    fn purge(&self) -> Result<usize, Unavailable> {
        self.dispatcher.purge(&self.topic)
    }
}
