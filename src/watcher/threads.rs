//! The running threads of a watcher, and waiting for their end.
//!
//! A thread rings a latch when it ends. Unlike a join, waiting for the latch can have a deadline.

use std::process;
use std::sync::Arc;

use super::role::Role;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex};

/// The threads of a watcher.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The id of the process in which they run.
    process: u32,
    /// The running threads.
    latch: Arc<Latch>,
    /// The threads to join. A callback that closes holds the lock while it waits, so only one of several waits, and
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

/// The running threads.
#[derive(Debug, Default)]
struct Latch {
    /// The threads that run.
    running: Mutex<Vec<Running>>,
    /// Notified when one of them ends.
    ended: Condvar,
}

/// A running thread.
#[derive(Debug)]
struct Running {
    /// Its name, which is unique within the watcher.
    name: String,
    /// Whether it is a worker.
    is_worker: bool,
}

/// Rings the latch when it is dropped, because its thread has ended or could not be spawned.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The latch.
    latch: Arc<Latch>,
    /// The name of the thread.
    name: String,
}

impl Threads {
    /// Creates the state without threads, in this process.
    pub(crate) fn new() -> Self {
        Threads {
            process: process::id(),
            latch: Arc::default(),
            handles: Mutex::new(Handles::default()),
        }
    }

    /// Counts the thread `name`, which is about to be spawned, as running until the ring is dropped.
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

    /// Waits until `deadline`, if there is one, for the threads that the current thread, with the role `role`, may wait
    /// for, and joins them. Returns the names of those that still run.
    ///
    /// No thread waits for itself. A worker does not wait for the delivery thread, which ends after it. A delivery
    /// thread waits for no other delivery thread, whose callback may be closing this watcher. A worker of another
    /// watcher waits for no thread, because a worker of this watcher may be waiting for it in the same way.
    pub(crate) fn end(&self, role: Role, deadline: Option<Instant>) -> Vec<String> {
        if process::id() != self.process {
            // The child of a fork has none of these threads, and joining or detaching them would panic.
            std::mem::forget(std::mem::take(&mut *self.handles.lock()));
            return Vec::new();
        }
        let handles = match role {
            Role::Caller => None,
            Role::WorkerOfAnother => return Vec::new(),
            Role::Worker | Role::Delivery | Role::DeliveryOfAnother => {
                // The holder of the lock may be waiting for this thread.
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
        // A panic of a thread was caught and counted where it happened.
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
    /// Waits until `deadline`, if there is one, for the end of the threads for which `is_awaited` is true. Returns the
    /// names of those that still run.
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
