//! The engine without threads, for a caller that has a loop of its own.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::time::Duration;

use ahash::RandomState;

use crate::builder::Builder;
use crate::clock;
use crate::error::{BeatError, BeatErrorKind};
use crate::event::{Event, Options, Status};
use crate::stats::Stats;
use crate::table::{Beat, Offer, Refusal, Table, Tag};

/// Watches keys without a thread, a channel or a clock: for a game server, a mio loop, an embedded main loop.
///
/// The caller says what time it is, as a [`Duration`] since an origin of its choice, and polls. Time that goes backwards
/// is taken as standing still. The same engine as behind [`Watcher`](crate::Watcher), made by the same [`Builder`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use liveness::{Event, LocalWatcher};
///
/// let mut watcher = LocalWatcher::<u64>::builder().timeout(Duration::from_millis(20)).build_local()?;
/// let origin = Instant::now();
/// watcher.beat(1u64, origin.elapsed())?;
///
/// let mut expired = Vec::new();
/// while let Some(deadline) = watcher.next_deadline() {
///     // A loop with more to do would give this to `Poll::poll` or `select` as its timeout.
///     std::thread::sleep(deadline.saturating_sub(origin.elapsed()));
///     watcher.poll(origin.elapsed(), |event| expired.extend(event.key().copied()));
/// }
/// assert_eq!(expired, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LocalWatcher<K, V = ()> {
    /// The engine.
    table: Table<K, V>,
    /// Hashes keys.
    hasher: RandomState,
}

impl<K, V> LocalWatcher<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Options for a new watcher; end with [`Builder::build_local`].
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }

    /// A face for `table`.
    pub(crate) fn new(table: Table<K, V>, hasher: RandomState) -> Self {
        LocalWatcher { table, hasher }
    }

    /// A sign of life of `key` at `now`: an absent key begins an episode, a watched one lives on. A beat older than the
    /// key's last one changes nothing.
    ///
    /// # Errors
    ///
    /// [`Full`](BeatErrorKind::Full) if the key is new and the maximum reached. The key comes back.
    pub fn beat(&mut self, key: impl Into<K>, now: Duration) -> Result<(), BeatError<K>> {
        self.beat_with(key, now, Options::new())
    }

    /// As [`beat`](LocalWatcher::beat), and says how the key is to be watched from now on.
    ///
    /// # Errors
    ///
    /// Those of `beat`, and [`ZeroTimeout`](BeatErrorKind::ZeroTimeout).
    pub fn beat_with(
        &mut self,
        key: impl Into<K>,
        now: Duration,
        options: Options<V>,
    ) -> Result<(), BeatError<K>> {
        let key = key.into();
        let timeout = match options
            .timeout
            .map(|timeout| NonZeroU64::new(clock::nanos(timeout)))
        {
            Some(None) => return Err(BeatError::new(BeatErrorKind::ZeroTimeout, key)),
            given => given.flatten(),
        };
        let stamp = clock::nanos(now);
        let beat = Beat {
            tag: self.tag(&key),
            stamp,
            key,
            timeout,
            mode: options.mode,
            extra: options.extra,
        };
        self.table.advance(stamp);
        self.table
            .beat(beat)
            .map_err(|Refusal(key)| BeatError::new(BeatErrorKind::Full, key))
    }

    /// Forgets `key` at `now`: its episode ends without an expiry, also if one waits for the next poll. Returns whether
    /// there was one to end; an unknown key is fine.
    pub fn remove(&mut self, key: &K, now: Duration) -> bool {
        self.table.advance(clock::nanos(now));
        self.table.remove(self.tag(key), key)
    }

    /// When [`poll`](LocalWatcher::poll) has something to do: the earliest deadline of all keys, or now (a time that
    /// has passed) while events wait. `None` if nothing ever expires as things are.
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Duration> {
        if self.table.has_queued() {
            return Some(Duration::ZERO);
        }
        self.table
            .next_due()
            .map(|(due, _)| Duration::from_nanos(due))
    }

    /// Expires what is due at `now` and gives every event to `on_event`, in order. Costs tens of nanoseconds an event,
    /// and nothing for keys that are not due.
    ///
    /// # Panics
    ///
    /// Only if `on_event` does; that event counts as delivered, the others wait for the next poll.
    pub fn poll(&mut self, now: Duration, mut on_event: impl FnMut(Event<K, V>)) {
        let now_ns = clock::nanos(now);
        while self.table.expire(now_ns, usize::MAX) {}
        while self.table.has_queued() {
            let mut taken = None;
            self.table.deliver(&mut |event| {
                taken = Some(event);
                Offer::Taken
            });
            if let Some(mut event) = taken {
                event.set_delivered(now);
                on_event(event);
            }
        }
        self.table.shrink();
    }

    /// What is known of `key`, if it is watched.
    #[must_use]
    pub fn status(&self, key: &K) -> Option<Status> {
        self.table.status(self.tag(key), key)
    }

    /// Whether `key` is watched.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.status(key).is_some()
    }

    /// Every watched key and what is known of it, in no order.
    pub fn snapshot(&self) -> impl Iterator<Item = (K, Status)> + '_ {
        self.table.snapshot()
    }

    /// How many keys are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The accounting. What a watcher with threads counts of threads, sinks and deliveries is zero.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            detection: self.table.detection().clone(),
            ..Stats::default()
        };
        stats.add(&self.table.counts());
        stats
    }

    /// The tag of `key`.
    fn tag(&self, key: &K) -> Tag {
        Tag(self.hasher.hash_one(key) as u32)
    }
}

impl<K, V> fmt::Debug for LocalWatcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWatcher").finish_non_exhaustive()
    }
}
