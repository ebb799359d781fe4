//! What the parts of a program count, for Prometheus and for people.
//!
//! An [`Observer`] knows watchers, registries, pacemakers, dispatchers, servers and groups by name. It is a
//! [`Collector`] for a registry of the `prometheus-client` crate, and [renders](Observer::render) the text itself for
//! programs that have no such registry.
//!
//! ```
//! use std::sync::Arc;
//! use liveness::{Watcher, observe::Observer};
//!
//! let sessions = Arc::new(Watcher::<u64>::builder().build()?);
//! sessions.beat_many(0..3)?;
//! sessions.flush()?;
//!
//! let observer = Observer::new();
//! observer.watcher("sessions", &sessions);
//! let text = observer.render();
//! assert!(text.contains("\nliveness_watcher_keys{name=\"sessions\",state=\"up\"} 3.0\n"));
//! assert!(text.contains("\nliveness_watcher_beats_total{name=\"sessions\",result=\"applied\"} 3\n"));
//!
//! let mut registry = prometheus_client::registry::Registry::default(); // the program's own
//! registry.register_collector(Box::new(observer.clone()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The module `observing` of this documentation explains each metric, and which alerts to set.

mod families;
mod measure;
mod metrics;
mod sources;

use std::fmt::{self, Display};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry as Metrics;

use crate::watcher::Watcher;
use families::Families;
use measure::{Measure, Source};
use sources::Keys;

#[cfg(feature = "dispatch")]
use crate::dispatch;
#[cfg(feature = "pacemaker")]
use crate::pacemaker::Pacemaker;
#[cfg(feature = "redis")]
use crate::redis;
#[cfg(feature = "registry")]
use crate::registry::Registry;
#[cfg(feature = "server")]
use crate::server::{Codec, Group, Server};

/// The `Content-Type` of what [`Observer::render`] returns.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The parts of a program that are observed, by name. Clones are handles to the same set.
///
/// Names are labels of metrics: few, and stable. A source with the kind and name of an earlier one replaces it. Sources
/// that are taken by reference are not kept alive, and their metrics end with them. Others say so.
///
/// A scrape calls `stats()` of every source, on the thread that asks. The numbers of one source are consistent. No lock
/// of the observer is held meanwhile.
#[derive(Clone, Default)]
pub struct Observer {
    /// The sources.
    sources: Arc<Mutex<Vec<Named>>>,
}

/// A source and its name.
#[derive(Clone)]
struct Named {
    /// The kind, which is a different one for each method of the observer.
    kind: &'static str,
    /// The name.
    name: Arc<str>,
    /// The source.
    source: Arc<dyn Source>,
}

impl Observer {
    /// Creates an observer of nothing.
    #[must_use]
    pub fn new() -> Self {
        Observer::default()
    }

    /// Observes a watcher. Its keys are shown by their `Display`.
    pub fn watcher<K, V>(&self, name: &str, watcher: &Arc<Watcher<K, V>>)
    where
        K: Display + Send + 'static,
        V: Send + 'static,
        Watcher<K, V>: Send + Sync,
    {
        self.watcher_with(name, watcher, K::to_string);
    }

    /// Observes a watcher whose keys are shown as `label` says. Labels should differ from each other. They are on the
    /// live page, not in metrics.
    pub fn watcher_with<K, V>(
        &self,
        name: &str,
        watcher: &Arc<Watcher<K, V>>,
        label: impl Fn(&K) -> String + Send + Sync + 'static,
    ) where
        K: Send + 'static,
        V: Send + 'static,
        Watcher<K, V>: Send + Sync,
    {
        let watcher = Arc::downgrade(watcher);
        self.add("watcher", name, Keys { watcher, label });
    }

    /// Observes a registry. Its nodes are shown by the `Display` of their ids.
    #[cfg(feature = "registry")]
    #[cfg_attr(docsrs, doc(cfg(feature = "registry")))]
    pub fn registry<N, D>(&self, name: &str, registry: &Arc<Registry<N, D>>)
    where
        N: Display + Eq + std::hash::Hash + Clone + Send + Sync + 'static,
        D: Send + Sync + 'static,
    {
        self.add("registry", name, sources::Nodes(Arc::downgrade(registry)));
    }

    /// Observes a pacemaker.
    #[cfg(feature = "pacemaker")]
    #[cfg_attr(docsrs, doc(cfg(feature = "pacemaker")))]
    pub fn pacemaker(&self, name: &str, pacemaker: &Pacemaker) {
        let read = pacemaker.reader();
        self.add("pacemaker", name, move || {
            let (connection, stats) = read()?;
            Some(Measure::Pacemaker(stats, connection))
        });
    }

    /// Observes a dispatcher. The observer keeps the handle: [stop](dispatch::Dispatcher::stop) the dispatcher by a
    /// call. Its topics are labels. If there are more than a hundred, their sum is reported in place of them.
    #[cfg(feature = "dispatch")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dispatch")))]
    pub fn dispatcher(&self, name: &str, dispatcher: dispatch::Dispatcher) {
        self.add("dispatcher", name, move || {
            Some(Measure::Dispatcher(Ok(dispatcher.stats())))
        });
    }

    /// Observes a dispatcher on Redis, like [`dispatcher`](Observer::dispatcher). A scrape asks the store, and takes as
    /// long as its answer.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn redis_dispatcher(&self, name: &str, dispatcher: redis::Dispatcher) {
        self.add("dispatcher", name, move || {
            Some(Measure::Dispatcher(dispatcher.stats()))
        });
    }

    /// Observes what this process does for a shared watch.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn shared_watcher(&self, name: &str, watcher: &Arc<redis::SharedWatcher>) {
        self.weak("shared_watcher", name, watcher, |watcher| {
            Measure::SharedWatcher(Box::new(watcher.stats()))
        });
    }

    /// Observes a server.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn server<C: Codec, T: Default + Send + Sync + 'static>(
        &self,
        name: &str,
        server: &Arc<Server<C, T>>,
    ) {
        self.weak("server", name, server, |server| Measure::Server {
            stats: Box::new(server.stats()),
            is_draining: server.is_draining(),
            blocked: server.blocked(),
        });
    }

    /// Observes a group, which is not kept alive.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn group<S: Send + 'static>(&self, name: &str, group: &Group<S>) {
        let group = group.downgrade();
        self.add("group", name, move || {
            let group = group.upgrade()?;
            Some(Measure::Group(Box::new(group.stats()), group.busy()))
        });
    }

    /// Forgets all sources with this name.
    pub fn forget(&self, name: &str) {
        let mut sources = self.sources.lock();
        let (kept, gone) = sources.drain(..).partition(|source| *source.name != *name);
        *sources = kept;
        drop(sources);
        // Drops of handles may block, so the lock is released before.
        drop::<Vec<_>>(gone);
    }

    /// Returns all metrics in the text format of Prometheus, version 0.0.4, whose content type is [`CONTENT_TYPE`].
    ///
    /// ```
    /// use liveness::observe::Observer;
    ///
    /// assert_eq!(Observer::new().render(), ""); // there is no source
    /// ```
    #[must_use]
    pub fn render(&self) -> String {
        let mut metrics = Metrics::default();
        metrics.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        // A string takes everything.
        let _ = prometheus_text::encode(&mut text, &metrics);
        text
    }

    /// Returns what is wrong: servers that drain, threads that are blocked, workers that have failed. Returns nothing if
    /// the program may get work.
    ///
    /// ```
    /// use liveness::observe::Observer;
    ///
    /// assert!(Observer::new().problems().is_empty());
    /// ```
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let found = self.measure().into_iter().filter_map(|(name, measure)| {
            let problem = measure.problem()?;
            Some(format!("{} {name} {problem}", measure.kind()))
        });
        found.collect()
    }

    /// Adds a source that is not kept alive.
    #[cfg(any(feature = "redis", feature = "server"))]
    fn weak<S: Send + Sync + 'static>(
        &self,
        kind: &'static str,
        name: &str,
        source: &Arc<S>,
        measure: impl Fn(&S) -> Measure + Send + Sync + 'static,
    ) {
        let source = Arc::downgrade(source);
        self.add(kind, name, move || source.upgrade().map(|it| measure(&it)));
    }

    /// Adds a source.
    fn add(&self, kind: &'static str, name: &str, source: impl Source + 'static) {
        let named = Named {
            kind,
            name: name.into(),
            source: Arc::new(source),
        };
        let mut sources = self.sources.lock();
        let place = sources
            .iter_mut()
            .find(|it| it.kind == kind && *it.name == *name);
        let replaced = if let Some(place) = place {
            Some(std::mem::replace(place, named))
        } else {
            sources.push(named);
            None
        };
        // Drops of handles may block, so the lock is released before.
        drop(sources);
        drop(replaced);
    }

    /// Returns the sources that are there.
    fn sources(&self) -> Vec<Named> {
        self.sources.lock().clone()
    }

    /// Asks all sources, and forgets those that are gone.
    fn measure(&self) -> Vec<(Arc<str>, Measure)> {
        let mut measures = Vec::new();
        for named in self.sources() {
            if let Some(measure) = named.source.measure() {
                measures.push((named.name, measure));
            } else {
                let is_it = |it: &Named| Arc::ptr_eq(&it.source, &named.source);
                self.sources.lock().retain(|it| !is_it(it));
            }
        }
        measures
    }
}

impl Collector for Observer {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::default();
        for (name, measure) in self.measure() {
            metrics::add(&mut families, &name, &measure);
        }
        families.encode(encoder)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources();
        let names = sources.iter().map(|source| (source.kind, &source.name));
        f.debug_map().entries(names).finish()
    }
}
