//! Subscriptions: each has a bounded queue of its own, so that one that is slow costs nobody else anything.
//!
//! What does not fit is dropped and counted, and the count stands in the queue where the gap is. A queue is locked for as
//! long as it takes to put an update in or take one out, and nothing of the user's runs or is dropped meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::update::Update;
use crate::panic::survive;

/// What a registry tells one subscriber.
struct Queue<N, D> {
    /// What waits.
    inner: Mutex<Inner<N, D>>,
    /// Told when there is an update, or the end.
    filled: Condvar,
}

/// The part of a queue under its lock.
struct Inner<N, D> {
    /// The updates, the oldest first.
    updates: VecDeque<Update<N, D>>,
    /// How many updates fit; the tellings of gaps come on top.
    capacity: usize,
    /// Updates that were dropped since the last one that was put in.
    missed: u64,
    /// Whether no more will come, or nobody wants any.
    is_closed: bool,
}

impl<N, D> Inner<N, D> {
    /// Takes the next update, or the telling that some are missing.
    fn pop(&mut self) -> Result<Update<N, D>, TryRecvError> {
        if let Some(update) = self.updates.pop_front() {
            return Ok(update);
        }
        match std::mem::take(&mut self.missed) {
            0 if self.is_closed => Err(TryRecvError::Disconnected),
            0 => Err(TryRecvError::Empty),
            missed => Ok(Update::Missed(missed)),
        }
    }
}

/// All subscribers of a registry.
pub(super) struct Feed<N, D> {
    /// Their queues.
    queues: Vec<Arc<Queue<N, D>>>,
    /// Updates that were dropped, of all subscribers together.
    dropped: u64,
}

impl<N, D> Feed<N, D> {
    /// Without subscribers.
    pub(super) fn new() -> Self {
        Feed {
            queues: Vec::new(),
            dropped: 0,
        }
    }

    /// How many updates were dropped because a queue was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many subscribers there are.
    pub(super) fn len(&self) -> usize {
        let is_here = |queue: &&Arc<Queue<N, D>>| !queue.inner.lock().is_closed;
        self.queues.iter().filter(is_here).count()
    }

    /// Adds a subscriber that gets everything from now on.
    pub(super) fn subscribe(&mut self, capacity: usize) -> Updates<N, D> {
        let inner = Inner {
            updates: VecDeque::new(),
            capacity: capacity.max(1),
            missed: 0,
            is_closed: false,
        };
        let queue = Arc::new(Queue {
            inner: Mutex::new(inner),
            filled: Condvar::new(),
        });
        if self.queues.len() == self.queues.capacity() {
            // Who has gone since the last update; in a quiet fleet there may be many.
            self.queues.retain(|queue| !queue.inner.lock().is_closed);
        }
        self.queues.push(queue.clone());
        Updates { queue }
    }

    /// Tells everybody; who has gone is told no more.
    pub(super) fn tell(&mut self, update: &Update<N, D>) {
        let dropped = &mut self.dropped;
        self.queues.retain(|queue| {
            let mut inner = queue.inner.lock();
            if inner.is_closed {
                return false;
            }
            if inner.updates.len() >= inner.capacity {
                inner.missed += 1;
                *dropped += 1;
                return true;
            }
            match std::mem::take(&mut inner.missed) {
                0 => {}
                missed => inner.updates.push_back(Update::Missed(missed)),
            }
            inner.updates.push_back(update.clone());
            drop(inner);
            queue.filled.notify_one();
            true
        });
    }

    /// Nothing will be told any more.
    pub(super) fn close(&mut self) {
        for queue in self.queues.drain(..) {
            queue.inner.lock().is_closed = true;
            queue.filled.notify_all();
        }
    }
}

/// The updates of a registry, one by one; made by [`Registry::subscribe`](super::Registry::subscribe). Dropping it ends
/// the subscription.
///
/// Who is too slow misses updates: they are dropped, and where they are missing an
/// [`Update::Missed`] says how many. The registry never waits.
pub struct Updates<N, D> {
    /// What waits.
    queue: Arc<Queue<N, D>>,
}

impl<N, D> Updates<N, D> {
    /// Waits for the next update.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if the registry is closed and everything was received.
    pub fn recv(&self) -> Result<Update<N, D>, RecvError> {
        self.wait(|filled, inner| {
            filled.wait(inner);
            true
        })
        .map_err(|_| RecvError)
    }

    /// The next update, if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: there is none now, or there will never be one.
    pub fn try_recv(&self) -> Result<Update<N, D>, TryRecvError> {
        self.queue.inner.lock().pop()
    }

    /// Waits for the next update no longer than `wait`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: none came in time, or there will never be one.
    pub fn recv_timeout(&self, wait: Duration) -> Result<Update<N, D>, RecvTimeoutError> {
        let Some(end) = Instant::now().checked_add(wait) else {
            return self.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        self.wait(|filled, inner| !filled.wait_until(inner, end).timed_out())
            .map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
    }

    /// Waits for one update after the other, until the registry is closed.
    pub fn iter(&self) -> impl Iterator<Item = Update<N, D>> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Those that are there now, one after the other, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = Update<N, D>> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Takes the next update; waits by `wait` while there is none, until that says that it was long enough.
    fn wait(
        &self,
        wait: impl Fn(&Condvar, &mut MutexGuard<'_, Inner<N, D>>) -> bool,
    ) -> Result<Update<N, D>, TryRecvError> {
        let mut inner = self.queue.inner.lock();
        loop {
            match inner.pop() {
                Err(TryRecvError::Empty) if wait(&self.queue.filled, &mut inner) => {}
                // One may have come at the last moment.
                Err(TryRecvError::Empty) => return inner.pop(),
                done => return done,
            }
        }
    }

    /// Ends the subscription: what waits is dropped, and whoever waits for more returns.
    fn end(queue: &Queue<N, D>) {
        let mut inner = queue.inner.lock();
        inner.is_closed = true;
        inner.missed = 0;
        let updates = std::mem::take(&mut inner.updates);
        drop(inner);
        queue.filled.notify_all();
        // Not under the lock: the last of a user's data may go with them.
        drop(updates);
    }
}

impl<N, D> Drop for Updates<N, D> {
    fn drop(&mut self) {
        Updates::end(&self.queue);
    }
}

impl<N, D> fmt::Debug for Updates<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("waiting", &self.queue.inner.lock().updates.len())
            .finish_non_exhaustive()
    }
}

/// A callback that is told of updates on a thread of its own; made by
/// [`Registry::subscribe_with`](super::Registry::subscribe_with). Dropping it ends the subscription: no call begins any
/// more, and one that runs is waited for, unless this is its own thread.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    /// Ends the subscription.
    end: Box<dyn Fn() + Send + Sync>,
    /// The thread, until it is joined.
    thread: Option<JoinHandle<()>>,
}

impl Subscription {
    /// Calls `callback` with each of `updates` on a thread of its own.
    pub(super) fn spawn<N, D>(
        updates: Updates<N, D>,
        mut callback: impl FnMut(Update<N, D>) + Send + 'static,
    ) -> std::io::Result<Self>
    where
        N: Send + Sync + 'static,
        D: Send + Sync + 'static,
    {
        let queue = updates.queue.clone();
        let thread = thread::Builder::new()
            .name("subscriber".into())
            .spawn(move || {
                for update in updates.iter() {
                    if survive(|| callback(update)).is_none() {
                        crate::log::error!(
                            "a subscriber panicked; it goes on with the next update"
                        );
                    }
                }
            })?;
        Ok(Subscription {
            end: Box::new(move || Updates::end(&queue)),
            thread: Some(thread),
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        (self.end)();
        // Its own callback may drop it; then the thread ends by itself.
        let is_other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(is_other) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_while_nothing_happens_leaves_nothing_behind() {
        let mut feed = Feed::<u32, ()>::new();
        let stays = feed.subscribe(1);
        for _ in 0..1_000 {
            drop(feed.subscribe(1));
        }
        assert_eq!(feed.len(), 1);
        assert!(feed.queues.len() < 10, "{}", feed.queues.len());
        feed.close();
        assert_eq!(stays.try_recv().err(), Some(TryRecvError::Disconnected));
    }
}
