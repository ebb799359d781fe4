//! Subscriptions: the updates of a registry as a [feed](crate::feed), received by hand or by a callback.

use std::fmt;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use super::update::Update;
use crate::callback::CallbackThread;
use crate::feed::{Gap, Reader, Received};
use crate::panic::catch_panic;

/// Converts a received item or gap into an update.
fn update<N, D>(received: Received<Update<N, D>>) -> Update<N, D> {
    match received {
        Received::Item(update) => update,
        Received::Gap(Gap { count, version }) => Update::Missed { count, version },
    }
}

/// A stream of updates, created by [`Registry::subscribe`](super::Registry::subscribe). Dropping it ends the
/// subscription.
///
/// The registry never blocks on a subscriber. An update that finds the queue full is dropped, and an [`Update::Missed`]
/// takes its place. A gap uses none of the queue's capacity.
///
/// Iterating over `&Updates` blocks for each update until the registry is closed:
///
/// ```
/// use liveness::registry::Registry;
///
/// let registry = Registry::<u64, &str>::builder().build()?;
/// let (mut fleet, updates) = registry.subscribe(1); // room for one update
/// for id in 0..3 {
///     registry.register(id, "rack 4")?; // one update waits, two are dropped
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
    /// The reader of the feed.
    reader: Reader<Update<N, D>>,
}

impl<N, D> Updates<N, D> {
    /// Wraps a reader of the feed.
    pub(super) fn new(reader: Reader<Update<N, D>>) -> Self {
        Updates { reader }
    }

    /// Blocks until an update arrives, and returns it.
    ///
    /// # Errors
    ///
    /// Returns [`RecvError`] if the registry is closed and every update has been received.
    ///
    /// ```
    /// use liveness::registry::{Registry, State};
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let (mut fleet, updates) = registry.subscribe(64);
    /// registry.register(7, "rack 4")?;
    /// fleet.apply(&updates.recv()?)?;
    /// assert_eq!(fleet.get(&7).map(|node| node.state), Some(State::Joining));
    /// registry.close();
    /// assert!(updates.recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&self) -> Result<Update<N, D>, RecvError> {
        self.reader.recv().map(update)
    }

    /// Returns the next update without blocking.
    ///
    /// # Errors
    ///
    /// Returns [`TryRecvError::Empty`] if no update is waiting, and [`TryRecvError::Disconnected`] if the registry is
    /// closed and every update has been received.
    ///
    /// ```
    /// use std::sync::mpsc::TryRecvError;
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let (_, updates) = registry.subscribe(64);
    /// assert_eq!(updates.try_recv().err(), Some(TryRecvError::Empty));
    /// registry.close();
    /// assert_eq!(updates.try_recv().err(), Some(TryRecvError::Disconnected));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&self) -> Result<Update<N, D>, TryRecvError> {
        self.reader.try_recv().map(update)
    }

    /// Blocks until an update arrives, for at most `wait`, and returns the update.
    ///
    /// # Errors
    ///
    /// Returns [`RecvTimeoutError::Timeout`] if no update arrived within `wait`, and [`RecvTimeoutError::Disconnected`]
    /// if the registry is closed and every update has been received.
    ///
    /// ```
    /// use std::sync::mpsc::RecvTimeoutError;
    /// use std::time::Duration;
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let (_, updates) = registry.subscribe(64);
    /// let received = updates.recv_timeout(Duration::from_millis(1));
    /// assert_eq!(received.err(), Some(RecvTimeoutError::Timeout));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_timeout(&self, wait: Duration) -> Result<Update<N, D>, RecvTimeoutError> {
        self.reader.recv_timeout(wait).map(update)
    }

    /// Returns an iterator that blocks for each update. It ends when the registry is closed and every update has been
    /// received.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, N, D> {
        Iter { updates: self }
    }

    /// Returns an iterator over the updates that are waiting. It never blocks.
    ///
    /// ```
    /// use liveness::registry::Registry;
    ///
    /// let registry = Registry::<u64, &str>::builder().build()?;
    /// let (_, updates) = registry.subscribe(64);
    /// registry.register(7, "rack 4")?;
    /// registry.register(8, "rack 4")?;
    /// assert_eq!(updates.try_iter().count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn try_iter(&self) -> TryIter<'_, N, D> {
        TryIter { updates: self }
    }
}

/// An iterator that blocks for each update, created by [`Updates::iter`].
#[derive(Debug)]
pub struct Iter<'a, N, D> {
    /// The subscription that is received from.
    updates: &'a Updates<N, D>,
}

impl<N, D> Iterator for Iter<'_, N, D> {
    type Item = Update<N, D>;

    fn next(&mut self) -> Option<Update<N, D>> {
        self.updates.recv().ok()
    }
}

/// An iterator over the updates that are waiting, created by [`Updates::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, N, D> {
    /// The subscription that is received from.
    updates: &'a Updates<N, D>,
}

impl<N, D> Iterator for TryIter<'_, N, D> {
    type Item = Update<N, D>;

    fn next(&mut self) -> Option<Update<N, D>> {
        self.updates.try_recv().ok()
    }
}

/// An iterator that owns its subscription and blocks for each update, created by [`Updates::into_iter`].
#[derive(Debug)]
pub struct IntoIter<N, D> {
    /// The subscription that is received from.
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

impl<N, D> fmt::Debug for Updates<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("waiting", &self.reader.len())
            .finish_non_exhaustive()
    }
}

/// A subscription that calls a callback on a thread of its own, created by
/// [`Registry::subscribe_with`](super::Registry::subscribe_with).
///
/// Dropping it ends the subscription: no further call begins. The drop blocks until a running call has returned, except
/// on the subscription's own thread.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    /// The thread, whose stop ends the subscription.
    _thread: CallbackThread,
}

impl Subscription {
    /// Calls `callback` with each of `updates` on a new thread.
    pub(super) fn spawn<N, D>(
        updates: Updates<N, D>,
        mut callback: impl FnMut(Update<N, D>) + Send + 'static,
    ) -> std::io::Result<Self>
    where
        N: Send + Sync + 'static,
        D: Send + Sync + 'static,
    {
        let end = updates.reader.end();
        let body = move || {
            for update in updates {
                if catch_panic(|| callback(update)).is_none() {
                    crate::log::error!("a subscriber panicked; continuing with the next update");
                }
            }
        };
        let thread = CallbackThread::spawn("subscriber", body, end)?;
        Ok(Subscription { _thread: thread })
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
