//! The options of a watcher without threads.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

use super::LocalWatcher;
use crate::error::BuildError;
use crate::event::EventKind;
use crate::options::Mode;
use crate::table::Table;
use crate::table::settings::Shared;

/// Options of a [`LocalWatcher`], created by [`LocalWatcher::builder`]. Options are validated by
/// [`build`](LocalBuilder::build) only.
///
/// Each option has the same meaning as for a [`Watcher`](crate::Watcher), whose [`Builder`](crate::Builder) documents
/// each with an example. There is no clock, sink or stall detection: the caller of [`poll`](LocalWatcher::poll) passes
/// the time and receives the events.
///
/// ```
/// use std::time::Duration;
/// use liveness::{BuildError, EventKind, LocalWatcher, Mode};
///
/// let s = Duration::from_secs;
/// let mut watcher = LocalWatcher::<u64>::builder()
///     .timeout(s(5))
///     .mode(Mode::Track)
///     .forget_after(s(60))
///     .add_events([EventKind::Joined])
///     .max_keys(1_000)
///     .build()?;
/// watcher.beat(7, s(1)).expect("there is room for 1000 keys");
/// watcher.poll(s(1), |event| assert_eq!(event.kind(), EventKind::Joined));
/// assert_eq!(watcher.next_deadline(), Some(s(6).into()));
///
/// let error = LocalWatcher::<u64>::builder().max_keys(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`max_keys` must be greater than zero");
/// # Ok::<(), BuildError>(())
/// ```
#[must_use]
pub struct LocalBuilder<K, V = ()> {
    /// The options.
    shared: Shared,
    /// The longest time for which expiry is held back after stalls in a row.
    grace_cap: Duration,
    /// Binds the type parameters, which no other field uses.
    types: PhantomData<fn(K, V)>,
}

impl<K, V> LocalWatcher<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Returns a builder with the default options.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<String>::builder().timeout(s(5)).build()?;
    /// watcher.beat("db-1".to_owned(), s(2))?;
    /// assert_eq!(watcher.next_deadline(), Some(s(7).into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> LocalBuilder<K, V> {
        LocalBuilder::new()
    }
}

impl<K, V> LocalBuilder<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Creates a builder with the default options.
    pub(crate) fn new() -> Self {
        LocalBuilder {
            shared: Shared::default(),
            grace_cap: Duration::from_secs(30),
            types: PhantomData,
        }
    }

    /// Sets the longest silence allowed for a key that has no timeout of its own. Default: 10 seconds. Zero is refused
    /// by `build`. See [`Builder::timeout`](crate::Builder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.shared.timeout = timeout;
        self
    }

    /// Sets what happens to an expired key that has no mode of its own. Default: [`Mode::Once`]. See
    /// [`Builder::mode`](crate::Builder::mode).
    pub fn mode(mut self, mode: Mode) -> Self {
        self.shared.mode = mode;
        self
    }

    /// Sets how long a key may be down before it is forgotten. Default: without limit. See
    /// [`Builder::forget_after`](crate::Builder::forget_after).
    pub fn forget_after(mut self, down: Duration) -> Self {
        self.shared.forget_after = Some(down);
        self
    }

    /// Sets the kinds of event that are reported, which replaces the default of [`EventKind::Expired`] and
    /// [`EventKind::Recovered`]. See [`Builder::events`](crate::Builder::events).
    pub fn events(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.shared.wanted = kinds.into_iter().collect();
        self
    }

    /// Adds kinds of event to those that are reported. See [`Builder::add_events`](crate::Builder::add_events).
    pub fn add_events(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.shared.wanted.extend(kinds);
        self
    }

    /// Sets the maximum number of keys, from 1 to 2^32 - 2. Default: 2^32 - 2. Zero is refused by `build`. See
    /// [`Builder::max_keys`](crate::Builder::max_keys); here the check costs nothing.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.shared.max_keys = Some(keys);
        self
    }

    /// Sets the number of keys for which memory is allocated ahead of time, at most 2^32 - 2. Default: zero, which
    /// allocates nothing ahead of time. See [`Builder::expected_keys`](crate::Builder::expected_keys).
    pub fn expected_keys(mut self, keys: usize) -> Self {
        self.shared.expected_keys = keys;
        self
    }

    /// Sets the seed of the hash of keys. Default: random for each watcher. See
    /// [`Builder::seed`](crate::Builder::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.shared.seed = Some(seed);
        self
    }

    /// Sets the longest time for which expiry may be held back after [stalls](LocalWatcher::stalled) in a row. Default:
    /// 30 seconds. See [`Builder::stall_cap`](crate::Builder::stall_cap).
    pub fn stall_cap(mut self, cap: Duration) -> Self {
        self.grace_cap = cap;
        self
    }

    /// Creates the watcher.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] that names the option that is out of range or for which there is not enough memory.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::LocalWatcher;
    ///
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(Duration::from_secs(3)).build()?;
    /// watcher.beat(7, Duration::ZERO)?;
    /// let mut expired = Vec::new();
    /// watcher.poll(Duration::from_secs(3), |event| expired.extend(event.key().copied()));
    /// assert_eq!(expired, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build(self) -> Result<LocalWatcher<K, V>, BuildError> {
        self.shared.validate()?;
        let config = self.shared.config(1, self.grace_cap);
        let table = Table::new(config, None).map_err(|_| self.shared.too_many_expected())?;
        Ok(LocalWatcher::new(table, self.shared.hasher()))
    }
}

impl<K, V> fmt::Debug for LocalBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalBuilder").field(&self.shared).finish()
    }
}
