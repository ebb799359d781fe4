//! The engine without threads, for programs with their own loop.

pub(crate) mod builder;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use ahash::RandomState;

use crate::clock::Timestamp;
use crate::error::{BeatError, BeatErrorKind};
use crate::event::Event;
use crate::options::Options;
use crate::stats::Stats;
use crate::status::Status;
use crate::table::{Beat, EXPIRE_LIMIT, Refusal, Table, Tag};

/// A watcher without threads, channels and a clock, for a program with its own loop, such as a game server, a mio loop,
/// or the main loop of an embedded device.
///
/// The caller passes the time to each call, as a [`Timestamp`] or as a [`Duration`] since an
/// origin of its choice, and calls [`poll`](LocalWatcher::poll) to receive events. A time before the latest one counts
/// as the latest one. The engine is that of [`Watcher`](crate::Watcher).
///
/// ```
/// use std::time::{Duration, Instant};
/// use liveness::{Event, LocalWatcher};
///
/// let mut watcher = LocalWatcher::<u64>::builder().timeout(Duration::from_millis(20)).build()?;
/// let origin = Instant::now();
/// watcher.beat(1, origin.elapsed())?;
///
/// let mut expired = Vec::new();
/// while let Some(deadline) = watcher.next_deadline() {
/// // A loop with other work would pass this to `Poll::poll` or `select` as its timeout.
///     std::thread::sleep(deadline.since_origin().saturating_sub(origin.elapsed()));
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
    /// Creates a watcher around `table`.
    pub(crate) fn new(table: Table<K, V>, hasher: RandomState) -> Self {
        LocalWatcher { table, hasher }
    }

    /// Records a sign of life of `key` at `now`. The first beat of an absent key begins an episode; a later one moves
    /// the key's deadline. A beat that is older than the last one of its key does not move the deadline back.
    ///
    /// # Errors
    ///
    /// Returns [`Full`](BeatErrorKind::Full) if the key is absent and the watcher already holds
    /// [`max_keys`](crate::LocalBuilder::max_keys) keys. The error returns the key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(7, s(4))?;
    /// watcher.beat(7, s(3))?; // older than the last beat
    /// assert_eq!(watcher.next_deadline(), Some(s(9).into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat(&mut self, key: K, now: impl Into<Timestamp>) -> Result<(), BeatError<K>> {
        self.beat_with(key, now, Options::new())
    }

    /// Records a sign of life like [`beat`](LocalWatcher::beat), and sets how the key is watched from now on.
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat`, and [`ZeroTimeout`](BeatErrorKind::ZeroTimeout) if `options` has a timeout of
    /// zero.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{BeatErrorKind, LocalWatcher, Options};
    ///
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat_with(7, s(0), Options::new().timeout(s(60)))?;
    /// watcher.beat(7, s(10))?; // keeps the timeout
    /// assert_eq!(watcher.next_deadline(), Some(s(70).into()));
    ///
    /// let error = watcher.beat_with(8, s(10), Options::new().timeout(Duration::ZERO)).unwrap_err();
    /// assert_eq!(error.kind(), BeatErrorKind::ZeroTimeout);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_with(
        &mut self,
        key: K,
        now: impl Into<Timestamp>,
        options: Options<V>,
    ) -> Result<(), BeatError<K>> {
        let tag = self.tag(&key);
        let mut stamp = now.into().as_nanos();
        self.table.advance(stamp);
        if stamp < self.table.now() && self.table.status(tag, &key).is_none() {
            // An older beat moves no deadline, but a new key is watched from the time that stands still.
            stamp = self.table.now();
        }
        let beat = Beat::with_options(tag, key, stamp, options)
            .map_err(|key| BeatError::new(BeatErrorKind::ZeroTimeout, key))?;
        self.table
            .beat(beat)
            .map_err(|Refusal(key)| BeatError::new(BeatErrorKind::Full, key))
    }

    /// Applies `options` to `key` without a beat. The options apply from now on, and the deadline is still computed
    /// from the last beat. An absent key is counted in [`Stats::unknown`]. Returns whether the key is watched.
    ///
    /// # Errors
    ///
    /// Returns [`ZeroTimeout`](BeatErrorKind::ZeroTimeout) if `options` has a timeout of zero. The error returns the
    /// key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{LocalWatcher, Options};
    ///
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// assert!(watcher.set(7, Options::new().timeout(s(60)))?);
    /// assert!(!watcher.set(8, Options::new().timeout(s(60)))?);
    /// assert_eq!(watcher.next_deadline(), Some(s(60).into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&mut self, key: K, options: Options<V>) -> Result<bool, BeatError<K>> {
        let tag = self.tag(&key);
        let beat = Beat::with_options(tag, key, self.table.now(), options)
            .map_err(|key| BeatError::new(BeatErrorKind::ZeroTimeout, key))?;
        Ok(self.table.set(beat, None))
    }

    /// Removes `key` at `now`, and returns whether it was watched or its expiry waited for the next poll. Its episode
    /// ends without an expiry. As with maps, the key may be any borrowed form of `K`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// assert!(watcher.remove(&7, s(1)));
    /// assert!(!watcher.remove(&7, s(1)));
    /// watcher.poll(s(60), |_| unreachable!("a removed key does not expire"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove<Q>(&mut self, key: &Q, now: impl Into<Timestamp>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.advance(now.into().as_nanos());
        self.table.remove(self.tag(key), key)
    }

    /// Returns the time at which [`poll`](LocalWatcher::poll) has something to do: the earliest deadline of all keys,
    /// or [`Timestamp::ORIGIN`] while events wait. Returns `None` if no key expires without a further call.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// assert_eq!(watcher.next_deadline(), None);
    /// watcher.beat(7, s(1))?;
    /// watcher.beat(8, s(2))?;
    /// assert_eq!(watcher.next_deadline(), Some(s(6).into()));
    /// watcher.beat(7, s(3))?;
    /// assert_eq!(watcher.next_deadline(), Some(s(7).into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Timestamp> {
        if self.table.has_queued() {
            return Some(Timestamp::ORIGIN);
        }
        self.table
            .next_due()
            .map(|(due, _)| Timestamp::from_nanos(due))
    }

    /// Expires the keys that are due at `now`, and calls `on_event` with every event, in order. Costs tens of
    /// nanoseconds per event, and nothing for keys that are not due.
    ///
    /// # Panics
    ///
    /// Panics if `on_event` panics. Its event counts as delivered, and the others wait for the next poll.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(8, s(1))?;
    /// watcher.beat(7, s(2))?;
    /// watcher.beat(9, s(3))?;
    /// let mut dead = Vec::new();
    /// watcher.poll(s(7), |event| dead.extend(event.key().copied()));
    /// assert_eq!(dead, [8, 7]); // in the order of their deadlines; 9 has a second left
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(&mut self, now: impl Into<Timestamp>, mut on_event: impl FnMut(Event<K, V>)) {
        let now_ns = now.into().as_nanos();
        loop {
            // In turns, so that a key that was just found is still in the cache when it is delivered.
            let more_due = self.table.expire(now_ns, EXPIRE_LIMIT);
            if !more_due && !self.table.has_queued() {
                break;
            }
            // A key that is delivered here may be due to be forgotten at once, so the loop checks again.
            while self.table.has_queued() {
                let mut taken = None;
                self.table.deliver(&mut |event| {
                    taken = Some(event);
                    Ok(())
                });
                if let Some(mut event) = taken {
                    event.set_delivered(Timestamp::from_nanos(self.table.now()));
                    on_event(event);
                }
            }
        }
        self.table.shrink();
    }

    /// Holds expiry back because the caller's loop did not run between `last_alive` and `now`, so that beats may wait
    /// that it has not seen. Returns the longest time for which expiry is held back.
    ///
    /// A key expires at the earliest `now` plus the length of the gap, or plus its timeout if that is shorter. The
    /// total is limited by [`stall_cap`](crate::LocalBuilder::stall_cap). A loop calls this before it polls, if it woke
    /// much later than it meant to.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// assert_eq!(watcher.stalled(s(1), s(9)), s(5)); // not 8 seconds: no key has such a long timeout
    /// assert_eq!(watcher.next_deadline(), Some(s(14).into()));
    /// assert_eq!(watcher.stats().stalls, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stalled(
        &mut self,
        last_alive: impl Into<Timestamp>,
        now: impl Into<Timestamp>,
    ) -> Duration {
        let (last_alive, now) = (last_alive.into().as_nanos(), now.into().as_nanos());
        self.table.stall(0, last_alive, now).held_for
    }

    /// Returns the status of `key`, or `None` if it is not watched. As with maps, the key may be any borrowed form of
    /// `K`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(1))?;
    /// assert_eq!(watcher.status(&7).and_then(|status| status.deadline), Some(s(6).into()));
    /// assert_eq!(watcher.status(&8), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn status<Q>(&self, key: &Q) -> Option<Status<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.status(self.tag(key), key)
    }

    /// Returns `true` if `key` is watched. As with maps, the key may be any borrowed form of `K`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// assert!(watcher.contains(&7));
    /// watcher.poll(s(5), drop);
    /// assert!(!watcher.contains(&7)); // expired, and forgotten
    ///
    /// let mut names = LocalWatcher::<String>::builder().build()?;
    /// names.beat("db-1".to_owned(), s(0))?;
    /// assert!(names.contains("db-1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.status(key).is_some()
    }

    /// Returns an iterator over all watched keys and their statuses, in no particular order. Keys and extras are
    /// cloned.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(1))?;
    /// watcher.beat(8, s(4))?;
    /// // Which keys have been silent for more than 2 seconds?
    /// let silent = watcher.snapshot().filter(|(_, status)| s(5) - status.last_beat.since_origin() > s(2));
    /// assert_eq!(silent.map(|(key, _)| key).collect::<Vec<_>>(), [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        self.table.snapshot()
    }

    /// Returns an iterator over the keys that are down and their statuses, in no particular order. Costs nothing for
    /// the keys that are up.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{LocalWatcher, Mode};
    ///
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).mode(Mode::Track).build()?;
    /// watcher.beat(7, s(1))?;
    /// watcher.beat(8, s(4))?;
    /// watcher.poll(s(6), drop);
    /// let down: Vec<u64> = watcher.snapshot_down().map(|(key, _)| key).collect();
    /// assert_eq!(down, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot_down(&self) -> impl Iterator<Item = (K, Status<V>)> + '_ {
        self.table.snapshot_down()
    }

    /// Returns the number of watched keys, including those that are down.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(8, s(0))?;
    /// watcher.beat(8, s(1))?;
    /// assert_eq!(watcher.len(), 2);
    /// watcher.remove(&7, s(1));
    /// assert_eq!(watcher.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns `true` if no key is watched.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// assert!(watcher.is_empty());
    /// watcher.beat(7, s(0))?;
    /// assert!(!watcher.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counters. Those about threads and sinks are zero, and the histogram of deliveries is empty.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(8, s(0))?;
    /// watcher.beat(8, s(4))?;
    /// watcher.poll(s(6), drop); // key 7 expires, a second late
    /// let stats = watcher.stats();
    /// assert_eq!((stats.started, stats.live, stats.expiries, stats.applied_beats), (2, 1, 1, 3));
    /// assert_eq!(stats.detection.max(), s(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            detection: self.table.detection().clone(),
            ..Stats::default()
        };
        stats.add(&self.table.counts());
        stats
    }

    /// Returns the tag of `key`.
    fn tag<Q: Hash + ?Sized>(&self, key: &Q) -> Tag {
        Tag(self.hasher.hash_one(key) as u32)
    }
}

impl<K, V> fmt::Debug for LocalWatcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWatcher").finish_non_exhaustive()
    }
}
