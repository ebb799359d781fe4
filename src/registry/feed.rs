//! Subscriptions: each has a bounded queue of its own, so that one that is slow costs nobody else anything.
//!
//! What does not fit is dropped and counted. Where updates are missing the queue has an [`Update::Missed`]. A queue is locked for as
//! long as it takes to put an update in or take one out, and nothing of the user's runs or is dropped meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::update::Update;
use crate::panic::catch_panic;

/// The queue of one subscriber.
struct Queue<N, D> {
    /// What waits.
    inner: Mutex<Inner<N, D>>,
    /// Notified when there is an update, or the end.
    filled: Condvar,
}

/// The part of a queue under its lock.
struct Inner<N, D> {
    /// The updates, the oldest first. A gap is followed by an update, so there are never more gaps than updates.
    updates: VecDeque<Update<N, D>>,
    /// How many of them are gaps.
    gaps: usize,
    /// How many updates fit, gaps not counted.
    capacity: usize,
    /// The updates that were dropped since the last one that was put in.
    missed: Missed,
    /// Whether no more will come, or nobody wants any.
    is_closed: bool,
}

/// Updates that were dropped one after the other.
#[derive(Clone, Copy, Default)]
struct Missed {
    /// How many.
    count: u64,
    /// The version of the last.
    version: u64,
}

impl Missed {
    /// Takes them as an update, if there are any.
    fn take<N, D>(&mut self) -> Option<Update<N, D>> {
        let Missed { count, version } = std::mem::take(self);
        (count > 0).then_some(Update::Missed { count, version })
    }
}

impl<N, D> Inner<N, D> {
    /// Takes the next update, or what says that some are missing.
    fn pop(&mut self) -> Result<Update<N, D>, TryRecvError> {
        if let Some(update) = self.updates.pop_front() {
            self.gaps -= usize::from(matches!(update, Update::Missed { .. }));
            return Ok(update);
        }
        match self.missed.take() {
            Some(missed) => Ok(missed),
            None if self.is_closed => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
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
            gaps: 0,
            capacity: capacity.max(1),
            missed: Missed::default(),
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

    /// Puts an update into each queue, and drops the queues of subscribers that are gone.
    pub(super) fn tell(&mut self, update: &Update<N, D>) {
        let dropped = &mut self.dropped;
        self.queues.retain(|queue| {
            let mut inner = queue.inner.lock();
            if inner.is_closed {
                return false;
            }
            if inner.updates.len() - inner.gaps >= inner.capacity {
                inner.missed.count += 1;
                inner.missed.version = update.version();
                *dropped += 1;
                return true;
            }
            if let Some(missed) = inner.missed.take() {
                inner.updates.push_back(missed);
                inner.gaps += 1;
            }
            inner.updates.push_back(update.clone());
            drop(inner);
            queue.filled.notify_one();
            true
        });
    }

    /// Ends all queues: there will be no further update.
    pub(super) fn close(&mut self) {
        for queue in self.queues.drain(..) {
            queue.inner.lock().is_closed = true;
            queue.filled.notify_all();
        }
    }
}

/// The updates of a registry; returned by [`Registry::subscribe`](super::Registry::subscribe). Dropping it ends the
/// subscription.
///
/// The registry never blocks on a subscriber. Updates that find the queue full are dropped, and an [`Update::Missed`] stands
/// in their place, which takes no room from updates.
///
/// `for update in &updates` blocks for one update after the other until the registry is closed:
///
/// ```
/// use liveness::registry::Registry;
///
/// let registry = Registry::<u64, &str>::builder().build()?;
/// let (mut fleet, updates) = registry.subscribe(1);
/// for id in 0..3 {
///     registry.register(id, "rack 4")?; // one waits, two are missed
/// }
/// registry.close();
/// for update in &updates {
///     if fleet.apply(&update).is_err() {
///         fleet = registry.fleet();
///     }
/// }
/// assert_eq!(fleet.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Updates<N, D> {
    /// What waits.
    queue: Arc<Queue<N, D>>,
}

impl<N, D> Updates<N, D> {
    /// Blocks until there is an update.
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

    /// Returns the next update, if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: there is none now, or there will never be one.
    pub fn try_recv(&self) -> Result<Update<N, D>, TryRecvError> {
        self.queue.inner.lock().pop()
    }

    /// Blocks until there is an update, for at most `wait`.
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

    /// Returns an iterator that blocks for one update after the other, until the registry is closed and everything was
    /// received.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, N, D> {
        Iter { updates: self }
    }

    /// Returns an iterator over the updates that are there, which does not block.
    #[must_use]
    pub fn try_iter(&self) -> TryIter<'_, N, D> {
        TryIter { updates: self }
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
        inner.missed = Missed::default();
        inner.gaps = 0;
        let updates = std::mem::take(&mut inner.updates);
        drop(inner);
        queue.filled.notify_all();
        // Not under the lock: the last of a user's data may go with them.
        drop(updates);
    }
}

/// An iterator that blocks for the next update; made by [`Updates::iter`].
#[derive(Debug)]
pub struct Iter<'a, N, D> {
    /// Where they come from.
    updates: &'a Updates<N, D>,
}

impl<N, D> Iterator for Iter<'_, N, D> {
    type Item = Update<N, D>;

    fn next(&mut self) -> Option<Update<N, D>> {
        self.updates.recv().ok()
    }
}

/// An iterator over the updates that are there; made by [`Updates::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, N, D> {
    /// Where they come from.
    updates: &'a Updates<N, D>,
}

impl<N, D> Iterator for TryIter<'_, N, D> {
    type Item = Update<N, D>;

    fn next(&mut self) -> Option<Update<N, D>> {
        self.updates.try_recv().ok()
    }
}

/// An iterator that owns its subscription, and blocks for the next update.
#[derive(Debug)]
pub struct IntoIter<N, D> {
    /// Where they come from.
    updates: Updates<N, D>,
}

impl<N, D> Iterator for IntoIter<N, D> {
    type Item = Update<N, D>;

    fn next(&mut self) -> Option<Update<N, D>> {
        self.updates.recv().ok()
    }
}

impl<'a, N, D> IntoIterator for &'a Updates<N, D> {
    type Item = Update<N, D>;
    type IntoIter = Iter<'a, N, D>;

    fn into_iter(self) -> Iter<'a, N, D> {
        self.iter()
    }
}

impl<N, D> IntoIterator for Updates<N, D> {
    type Item = Update<N, D>;
    type IntoIter = IntoIter<N, D>;

    fn into_iter(self) -> IntoIter<N, D> {
        IntoIter { updates: self }
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

/// A subscription whose callback is called on a thread of its own; returned by
/// [`Registry::subscribe_with`](super::Registry::subscribe_with). Dropping it ends the subscription: no further call begins,
/// and dropping blocks until one that runs has returned, unless it is done on that thread.
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
                for update in updates {
                    if catch_panic(|| callback(update)).is_none() {
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
