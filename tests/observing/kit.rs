//! One source of every kind.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use liveness::Watcher;
use liveness::client::Client;
use liveness::dispatch::{Dispatcher, On, Topic};
use liveness::observe::Observer;
use liveness::pacemaker::{BoxError, Pacemaker};
use liveness::redis;
use liveness::registry::Registry;
use liveness::server::{Group, Json, Server};

use crate::redis_server::{self, RedisServer};

/// A program with one part of every kind.
pub(crate) struct Parts {
    pub(crate) observer: Observer,
    pub(crate) server: Arc<Server<Json, ()>>,
    _watcher: Arc<Watcher<u64>>,
    pub(crate) registry: Arc<Registry<u64, ()>>,
    _pacemaker: Pacemaker,
    _client: Client<Json>,
    _group: Group<()>,
    shared: Option<(Arc<redis::SharedWatcher>, RedisServer)>,
}

impl Parts {
    /// Starts all parts and observes them.
    pub(crate) fn start() -> Self {
        const MAIL: Topic<String> = Topic::new("mail");

        let observer = Observer::new();
        let watcher = Arc::new(Watcher::<u64>::builder().build().unwrap());
        watcher.beat_many(0..5).unwrap();
        watcher.flush().unwrap();
        observer.watcher("keys", &watcher);
        let registry = Arc::new(Registry::<u64, ()>::builder().build().unwrap());
        registry.register(1, ()).unwrap();
        observer.registry("nodes", &registry);
        let pacemaker = Pacemaker::every(Duration::from_secs(60))
            .start(|| Ok::<(), BoxError>(()))
            .unwrap();
        observer.pacemaker("beats", &pacemaker);
        let jobs = Dispatcher::builder().build().unwrap();
        jobs.on(&MAIL, "send", On::new(), |_, _| Ok(())).unwrap();
        jobs.emit(&MAIL, "ada".to_owned()).unwrap();
        observer.dispatcher("jobs", jobs);
        let server = Server::<Json, ()>::builder()
            .tcp("127.0.0.1:0")
            .start()
            .unwrap();
        let server = Arc::new(server);
        observer.server("main", &server);
        let url = format!("tcp://{}", server.local_addrs()[0]);
        let client = Client::<Json>::builder(url).start().unwrap();
        observer.client("to main", &client);
        let group = Group::builder("world").spawn(()).unwrap();
        observer.group("world", &group);
        let store = redis_server::for_test(&[]);
        let shared = store.map(|store| {
            let url = store.url();
            let durable = redis::Dispatcher::builder(&url).build().unwrap();
            durable.on(&MAIL, "send", On::new(), |_, _| Ok(())).unwrap();
            observer.redis_dispatcher("durable", durable);
            let shared = redis::SharedWatcher::builder(url, "shared")
                .build()
                .unwrap();
            let shared = Arc::new(shared);
            observer.shared_watcher("shared", &shared);
            (shared, store)
        });
        Parts {
            observer,
            server,
            _watcher: watcher,
            registry,
            _pacemaker: pacemaker,
            _client: client,
            _group: group,
            shared,
        }
    }

    /// Whether there is a store.
    pub(crate) fn has_redis(&self) -> bool {
        self.shared.is_some()
    }
}

/// The checker of Prometheus. It must be there in CI.
pub(crate) fn promtool() -> Option<PathBuf> {
    program("promtool", "prometheus")
}

/// The path of the program `name`. It must be there in CI.
pub(crate) fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "`apt-get install {package}` gives `{name}`"
        );
        eprintln!("NOT TESTED: no `{name}`; `apt-get install {package}` gives it");
    }
    found
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
