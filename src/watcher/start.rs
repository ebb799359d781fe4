//! Starts a watcher: its tables, the channels between its threads, and the threads.

use std::hash::Hash;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Watcher;
use super::inbox::Inbox;
use super::outbox::Outlet;
use super::role::{self, Role, WatcherId};
use super::router::Router;
use super::threads::Threads;
use super::worker::{self, Setup};
use crate::clock::{self, Clock, NEVER};
use crate::error::BuildError;
use crate::sync::thread::JoinHandle;
use crate::table::Table;
use crate::table::key_limit::KeyLimit;
use crate::table::settings::Shared;

/// Spawns a thread with a name: [`std::thread::Builder`], or a failing replacement in tests.
pub(super) type Spawn<'a> =
    &'a mut dyn FnMut(String, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// The options of a watcher, all of them in range.
pub(super) struct Plan<K, V> {
    /// The options that a watcher without threads has too.
    pub(super) shared: Shared,
    /// The number of workers.
    pub(super) workers: usize,
    /// The capacity of an inbox, in beats.
    pub(super) inbox_capacity: usize,
    /// The prefix of the threads' names.
    pub(super) thread_name: String,
    /// How late a wake-up must be to count as a stall; `None` to disable stall detection.
    pub(super) stall_threshold: Option<Duration>,
    /// The maximum grace, which is the size of its budget.
    pub(super) grace_cap: Duration,
    /// The time source.
    pub(super) clock: Clock,
    /// The way out of the workers, if events go anywhere.
    pub(super) outlet: Option<Outlet<K, V>>,
}

impl<K, V> Plan<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Starts the watcher on threads that `spawn` creates.
    pub(super) fn start(self, spawn: Spawn<'_>) -> Result<Watcher<K, V>, BuildError> {
        let id = WatcherId::new();
        let workers = self.workers;
        let clock = self.clock;
        let stall_threshold = match self.stall_threshold {
            Some(threshold) if !clock.is_manual() => clock::nanos(threshold),
            _ => NEVER,
        };
        let limit = self.shared.max_keys.map(|max| KeyLimit::new(max, workers));
        let hasher = self.shared.hasher();
        let config = self.shared.config(workers, self.grace_cap);
        let too_many_expected = |_| self.shared.too_many_expected();
        Table::<K, V>::probe(self.shared.expected_keys).map_err(too_many_expected)?;
        let tables: Result<Vec<_>, _> = (0..workers)
            .map(|worker| {
                let share = limit.as_ref().map(|limit| {
                    let hasher = hasher.clone();
                    limit.share(worker, move |key| (hasher.hash_one(key) >> 32) as u32)
                });
                Table::new(config.clone(), share).map_err(too_many_expected)
            })
            .collect();
        let tables = tables?;
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| Inbox::new(self.inbox_capacity))
            .map(|(inbox, receiver)| (Arc::new(inbox), receiver))
            .unzip();
        for inbox in &inboxes {
            let inbox: Weak<Inbox<K, V>> = Arc::downgrade(inbox);
            clock.ring_on_advance(inbox);
        }
        let router = Arc::new(Router::new(
            id,
            inboxes.into(),
            hasher,
            clock.clone(),
            config.timeout,
            limit,
        ));
        let outbox = match &self.outlet {
            Some(Outlet::Outbox(outbox)) => Some(outbox.clone()),
            _ => None,
        };
        if let Some(outbox) = &outbox {
            outbox.open(workers);
        }
        // From here on, dropping the watcher ends and joins the threads that were spawned so far.
        let watcher = Watcher::new(router.clone(), outbox.clone(), Threads::new());
        let mut start = |name: String, is_worker, body: Box<dyn FnOnce() + Send>| {
            let ring = watcher.threads().ring(name.clone(), is_worker);
            let body = Box::new(move || {
                let _ring = ring;
                body();
            });
            let thread = spawn(name.clone(), body);
            let thread = thread.map_err(|source| BuildError::Spawn { name, source })?;
            watcher.threads().add(thread, is_worker);
            Ok::<_, BuildError>(())
        };
        for (index, (receiver, table)) in receivers.into_iter().zip(tables).enumerate() {
            let setup = Setup {
                id,
                index,
                inbox: router.inboxes[index].clone(),
                receiver,
                table,
                outlet: self.outlet.clone(),
                clock: clock.clone(),
                stall_threshold,
                wanted: self.shared.wanted,
            };
            let name = format!("{}-{index}", self.thread_name);
            start(name, true, Box::new(move || worker::main(setup)))?;
        }
        if let Some(outbox) = outbox {
            let body = move || {
                role::enter(id, Role::Delivery);
                outbox.run(&clock, &router.inboxes);
            };
            let name = format!("{}-delivery", self.thread_name);
            start(name, false, Box::new(body))?;
        }
        Ok(watcher)
    }
}
