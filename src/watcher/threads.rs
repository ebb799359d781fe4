//! The threads of a watcher: which of them run, and how whoever closes waits for them.
//!
//! A thread rings a latch at its end, so that a wait can have a deadline, which a join cannot.

use std::process;
use std::sync::Arc;

use super::role::Role;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex};

/// The threads of a watcher.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The number of the process that they run in.
    process: u32,
    /// Those that run.
    latch: Arc<Latch>,
    /// What is to be joined. A callback that closes holds the lock while it waits, so that of several only one waits, and
    /// they do not wait for each other.
    handles: Mutex<Handles>,
}

/// The threads that are not joined.
#[derive(Debug, Default)]
struct Handles {
    /// The workers.
    workers: Vec<JoinHandle<()>>,
    /// The delivery thread.
    delivery: Option<JoinHandle<()>>,
}

/// Which threads run.
#[derive(Debug, Default)]
struct Latch {
    /// Those that do.
    running: Mutex<Vec<Running>>,
    /// Notified when one of them ends.
    ended: Condvar,
}

/// A thread that runs.
#[derive(Debug)]
struct Running {
    /// Its name, which no other thread of the watcher has.
    name: String,
    /// Whether it is a worker.
    is_worker: bool,
}

/// Rings the latch when it is dropped: its thread has ended, or could not be spawned.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The latch.
    latch: Arc<Latch>,
    /// The name of the thread.
    name: String,
}

impl Threads {
    /// None so far, in this process.
    pub(crate) fn new() -> Self {
        Threads {
            process: process::id(),
            latch: Arc::default(),
            handles: Mutex::new(Handles::default()),
        }
    }

    /// Counts the thread `name`, which is to be spawned, among those that run until the ring is dropped.
    pub(crate) fn ring(&self, name: String, is_worker: bool) -> Ring {
        self.latch.running.lock().push(Running {
            name: name.clone(),
            is_worker,
        });
        let latch = self.latch.clone();
        Ring { latch, name }
    }

    /// Adds a thread to be joined.
    pub(crate) fn add(&self, thread: JoinHandle<()>, is_worker: bool) {
        let mut handles = self.handles.lock();
        if is_worker {
            handles.workers.push(thread);
        } else {
            handles.delivery = Some(thread);
        }
    }

    /// Waits until `deadline`, if there is one, for the threads that the current one, whose role is `role`, may wait for,
    /// and joins them. Returns the names of those that still run.
    ///
    /// No thread waits for itself. A worker does not wait for the delivery thread, which ends after it. A delivery thread
    /// waits for no other, since its callback may be closing this one's watcher just now. A worker of another watcher waits
    /// for none, since its worker may be waiting for this thread in just the same way.
    pub(crate) fn end(&self, role: Role, deadline: Option<Instant>) -> Vec<String> {
        if process::id() != self.process {
            // The child of a fork has none of them, and to join or detach what is not there is a panic.
            std::mem::forget(std::mem::take(&mut *self.handles.lock()));
            return Vec::new();
        }
        let handles = match role {
            Role::Caller => None,
            Role::WorkerOfAnother => return Vec::new(),
            Role::Worker | Role::Delivery | Role::DeliveryOfAnother => {
                // Whoever holds the lock may be waiting for this very thread.
                let Some(handles) = self.handles.try_lock() else {
                    return Vec::new();
                };
                Some(handles)
            }
        };
        let me = thread::current();
        let mine = me.name().filter(|_| role == Role::Worker);
        let late = self.latch.wait(deadline, |thread| {
            role == Role::Caller || (thread.is_worker && mine != Some(&*thread.name))
        });
        if !late.is_empty() {
            return late;
        }
        let mut handles = handles.unwrap_or_else(|| self.handles.lock());
        // A thread's panic was caught and counted where it happened.
        handles
            .workers
            .extract_if(.., |worker| worker.thread().id() != me.id())
            .for_each(|worker| drop(worker.join()));
        if role == Role::Caller
            && let Some(delivery) = handles.delivery.take()
        {
            drop(delivery.join());
        }
        late
    }
}

impl Latch {
    /// Waits until `deadline`, if there is one, for the end of the threads for which `is_awaited` is true. Returns the names
    /// of those that still run.
    fn wait(
        &self,
        deadline: Option<Instant>,
        is_awaited: impl Fn(&Running) -> bool,
    ) -> Vec<String> {
        let mut running = self.running.lock();
        let mut is_over = false;
        while !is_over && running.iter().any(&is_awaited) {
            match deadline {
                None => self.ended.wait(&mut running),
                Some(deadline) => {
                    is_over = self.ended.wait_until(&mut running, deadline).timed_out();
                }
            }
        }
        let late = running.iter().filter(|thread| is_awaited(thread));
        late.map(|thread| thread.name.clone()).collect()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut running = self.latch.running.lock();
        running.retain(|thread| thread.name != self.name);
        self.latch.ended.notify_all();
    }
}
