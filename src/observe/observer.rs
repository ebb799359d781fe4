//! The set of sources.

use std::fmt::{self, Display};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry as Metrics;

use super::families::Families;
use super::measure::{Measure, Source};
use super::metrics;
use super::sources;
use super::stories::{self, Reports};
use crate::event::Event;
use crate::watcher::Watcher;

#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
use super::measure::DeadList;
#[cfg(feature = "client")]
use crate::client::Client;
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
    /// The topics whose dead events are shown.
    #[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
    topics: Arc<Mutex<Vec<Shown>>>,
    /// What happened to members.
    reports: Reports,
}

/// A topic whose dead events are shown.
#[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
#[derive(Clone)]
pub(crate) struct Shown {
    /// The name of the dispatcher.
    pub(crate) dispatcher: Arc<str>,
    /// The name of the topic.
    pub(crate) topic: Arc<str>,
    /// Its dead events.
    pub(crate) dead: Arc<dyn DeadList>,
}

/// A source and its name.
#[derive(Clone)]
pub(crate) struct Named {
    /// The kind, which is a different one for each method of the observer.
    pub(crate) kind: &'static str,
    /// The name.
    pub(crate) name: Arc<str>,
    /// The source.
    pub(crate) source: Arc<dyn Source>,
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
        self.add("watcher", name, sources::Keys { watcher, label });
    }

    /// Returns a function for the callback of the watcher `name`. It logs each event that it gets at level `debug`,
    /// and shows it on pages. Beats are ignored.
    ///
    /// Without it, nothing of a watcher is logged, and events on pages are the differences between two looks. A call
    /// takes well under a microsecond.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use liveness::{Watcher, observe::Observer};
    ///
    /// let observer = Observer::new();
    /// let show = observer.events("sessions");
    /// let sessions = Watcher::<u64>::builder()
    ///     .on_event(move |event| {
    ///         show(&event);
    ///         // and what the program does about it
    ///     })
    ///     .build()?;
    /// observer.watcher("sessions", &Arc::new(sessions));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events<K: Display + 'static, V: 'static>(
        &self,
        name: &str,
    ) -> impl Fn(&Event<K, V>) + Send + Sync + 'static {
        stories::reporter(&self.reports, name.into())
    }

    /// Observes a registry. Its nodes are shown by the `Display` of their ids.
    ///
    /// Changes of nodes are logged, and shown on pages. A thread takes them from a
    /// [subscription](Registry::subscribe), so that beats do not wait for the log.
    #[cfg(feature = "registry")]
    #[cfg_attr(docsrs, doc(cfg(feature = "registry")))]
    pub fn registry<N, D>(&self, name: &str, registry: &Arc<Registry<N, D>>)
    where
        N: Display + Eq + std::hash::Hash + Clone + Send + Sync + 'static,
        D: Send + Sync + 'static,
    {
        let source = sources::Nodes {
            registry: Arc::downgrade(registry),
            #[cfg(any(feature = "log", all(feature = "server", feature = "json")))]
            _changes: stories::follow(&self.reports, name.into(), registry),
        };
        self.add("registry", name, source);
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

    /// Shows the dead events of a topic on pages, where they can be replayed and purged if the page may. Give the name
    /// under which the dispatcher is observed. The observer keeps the handle.
    #[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
    #[cfg_attr(
        docsrs,
        doc(cfg(all(feature = "server", feature = "json", feature = "dispatch")))
    )]
    pub fn dead_events<T: Send + Sync + 'static>(
        &self,
        name: &str,
        dispatcher: impl dispatch::Dispatch<T> + 'static,
        topic: &dispatch::Topic<T>,
    ) {
        let topic = topic.clone();
        let shown = Shown {
            dispatcher: name.into(),
            topic: topic.name().into(),
            dead: Arc::new(sources::Queue { dispatcher, topic }),
        };
        let mut topics = self.topics.lock();
        topics.retain(|it| (&it.dispatcher, &it.topic) != (&shown.dispatcher, &shown.topic));
        topics.push(shown);
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
        let watcher = Arc::downgrade(watcher);
        self.add("shared_watcher", name, move || {
            let watcher = watcher.upgrade()?;
            Some(Measure::SharedWatcher(Box::new(watcher.stats())))
        });
    }

    /// Observes a server.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn server<C: Codec, T: Send + Sync + 'static>(
        &self,
        name: &str,
        server: &Arc<Server<C, T>>,
    ) {
        let server = Arc::downgrade(server);
        self.add("server", name, sources::Connections(server));
    }

    /// Observes a client, which is closed with the last handle of the program as without an observer.
    #[cfg(feature = "client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client")))]
    pub fn client<C: Codec>(&self, name: &str, client: &Client<C>) {
        let read = client.reader();
        self.add("client", name, move || {
            let (state, stats) = read()?;
            Some(Measure::Client(Box::new(stats), state))
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
        #[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
        self.topics.lock().retain(|it| *it.dispatcher != *name);
        // Drops of handles may block, so the lock is released before.
        drop::<Vec<_>>(gone);
    }

    /// Returns all metrics in the text format of Prometheus, version 0.0.4, whose content type is
    /// [`CONTENT_TYPE`](super::CONTENT_TYPE).
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

    /// Returns what is wrong: servers that drain, threads that are blocked, workers that have failed. Returns nothing
    /// if the program may get work.
    ///
    /// ```
    /// use liveness::observe::Observer;
    ///
    /// assert!(Observer::new().problems().is_empty());
    /// ```
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let found = self.measure().into_iter();
        let found = found.filter_map(|(name, measure)| measure.problem(&name));
        found.collect()
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

    /// Returns what happened to members.
    #[cfg(all(feature = "server", feature = "json"))]
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Returns the topics whose dead events are shown.
    #[cfg(all(feature = "server", feature = "json", feature = "dispatch"))]
    pub(crate) fn topics(&self) -> Vec<Shown> {
        self.topics.lock().clone()
    }

    /// Returns the sources that are there.
    pub(crate) fn sources(&self) -> Vec<Named> {
        self.sources.lock().clone()
    }

    /// Asks all sources, and forgets those that are gone.
    pub(crate) fn measure(&self) -> Vec<(Arc<str>, Measure)> {
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
