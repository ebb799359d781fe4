//! The threaded watcher: beats, queries, statistics and closing.

pub(crate) mod builder;
pub(crate) mod heart;
pub(crate) mod inbox;
pub(crate) mod outbox;
pub(crate) mod role;
pub(crate) mod router;
pub(crate) mod start;
pub(crate) mod threads;
pub(crate) mod worker;

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::{BeatError, BeatManyError, CallError, CloseTimeout};
use crate::options::Options;
use crate::stats::Stats;
use crate::status::Status;
use crate::sync::Instant;
use heart::Heart;
use inbox::{Command, Patience, Phase};
use outbox::Outbox;
use role::Role;
use router::{Route, Router};
use threads::Threads;

/// Watches keys on its own worker threads and reports each key that is silent for longer than its timeout.
///
/// A watcher is shared by reference or in an [`Arc`]; every method takes `&self`. It is created by a
/// [`Builder`](crate::Builder).
///
/// ```
/// use std::{thread, time::Duration};
/// use liveness::{ManualClock, Watcher};
///
/// let clock = ManualClock::new(); // for this example; by default the system's clock is used
/// let (watcher, events) = Watcher::<u64>::builder()
///     .timeout(Duration::from_secs(5))
///     .clock(clock.clone())
///     .build_with_channel(64)?;
/// thread::scope(|scope| {
///     scope.spawn(|| watcher.beat(1));
///     scope.spawn(|| watcher.beat(2));
/// });
/// clock.advance(Duration::from_secs(4));
/// watcher.beat(1)?;
/// clock.advance(Duration::from_secs(1));
/// watcher.flush()?;
/// assert_eq!(events.recv()?.key(), Some(&2));
/// assert_eq!(watcher.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys
///
/// A beat moves a key to another thread, so a key should be cheap to create and to drop. Integers and other `Copy`
/// types, inline small strings (such as `compact_str::CompactString` up to 24 bytes) and clones of an `Arc<str>`
/// allocate nothing. A `String` works, but each beat costs an allocation and a deallocation on another thread, about
/// 300 ns, which is most of the cost of the beat. For keys that beat very often, use a [`Heart`].
///
/// # Calls from callbacks
///
/// Every method may be called from a callback. On the delivery thread
/// ([`Builder::on_event`](crate::Builder::on_event)), all methods behave as on any other thread. On a worker thread
/// ([`Builder::on_event_in_worker`](crate::Builder::on_event_in_worker), [`Sink`](crate::Sink)), beats never wait, and
/// calls that need an answer from a worker return [`CallError::OnWorker`].
pub struct Watcher<K, V = ()> {
    /// The callers' side.
    router: Arc<Router<K, V>>,
    /// The events that wait for the callback, if there is one.
    outbox: Option<Arc<Outbox<K, V>>>,
    /// The threads that `close` joins.
    threads: Threads,
}

impl<K, V> Watcher<K, V> {
    /// Creates a watcher from running threads.
    pub(crate) fn new(
        router: Arc<Router<K, V>>,
        outbox: Option<Arc<Outbox<K, V>>>,
        threads: Threads,
    ) -> Self {
        Watcher {
            router,
            outbox,
            threads,
        }
    }

    /// Returns the threads, so that the builder can add to them.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Records a sign of life of `key`. For a key that is not watched, this begins an episode; for a watched key, it
    /// extends the deadline.
    ///
    /// Costs a hash, a clock reading and a short lock, and allocates nothing for a cheap key. Waits only while the
    /// inbox of the key's worker is full. If [`max_keys`](crate::Builder::max_keys) is set and the key is not watched,
    /// it also waits for the worker's answer.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`](crate::BeatErrorKind::Closed), [`WorkerFailed`](crate::BeatErrorKind::WorkerFailed), or, if
    /// the key is new and `max_keys` is set, [`Full`](crate::BeatErrorKind::Full). The error returns the key.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(42)?;
    /// assert!(watcher.contains(&42)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn beat(&self, key: K) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        self.router.beat(key, Patience::Forever)
    }

    /// Records a sign of life like [`beat`](Watcher::beat), but never waits. On a thread that is running, a call takes
    /// at most a millisecond, even if another thread was preempted while it held the inbox's lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat`, and [`InboxFull`](crate::BeatErrorKind::InboxFull), which is also returned if the
    /// inbox's lock could not be acquired.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// assert!(watcher.try_beat(42).is_ok());
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[inline]
    pub fn try_beat(&self, key: K) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        self.router.beat(key, Patience::Never)
    }

    /// Records a sign of life like [`beat`](Watcher::beat), but waits for room for at most `wait`.
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat`, and [`TimedOut`](crate::BeatErrorKind::TimedOut).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// assert!(watcher.beat_timeout(42, Duration::from_millis(5)).is_ok());
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    pub fn beat_timeout(&self, key: K, wait: Duration) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        let patience = Instant::now()
            .checked_add(wait)
            .map_or(Patience::Forever, Patience::Until);
        self.router.beat(key, patience)
    }

    /// Records a sign of life like [`beat`](Watcher::beat), and applies the timeout, mode and extra value in `options`
    /// to the key.
    ///
    /// Costs the same as `beat`, plus a look-up when the timeout or mode is new for the key.
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat`, and [`ZeroTimeout`](crate::BeatErrorKind::ZeroTimeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Mode, Options, Watcher};
    ///
    /// let watcher = Watcher::<u64, &str>::builder().build()?;
    /// let options = Options::new().timeout(Duration::from_secs(30)).mode(Mode::Repeat).extra("rack 4");
    /// watcher.beat_with(42, options)?;
    /// let status = watcher.status(&42)?.expect("it is watched");
    /// assert_eq!((status.timeout, status.mode), (Duration::from_secs(30), Mode::Repeat));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_with(&self, key: K, options: Options<V>) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        self.router.beat_with(key, options, Patience::Forever)
    }

    /// Records a sign of life like [`beat_with`](Watcher::beat_with), but never waits, like
    /// [`try_beat`](Watcher::try_beat).
    ///
    /// # Errors
    ///
    /// Returns the errors of `try_beat` and `beat_with`.
    ///
    /// ```
    /// use liveness::{Mode, Options, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// watcher.try_beat_with(42, Options::new().mode(Mode::Track))?;
    /// assert_eq!(watcher.status(&42)?.map(|status| status.mode), Some(Mode::Track));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_beat_with(&self, key: K, options: Options<V>) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        self.router.beat_with(key, options, Patience::Never)
    }

    /// Applies `options` to `key` without recording a beat. The options hold from now on, and the deadline is still
    /// computed from the last beat. A key that is absent when its worker applies the options stays absent and is
    /// counted in [`Stats::unknown`].
    ///
    /// Costs a message and an allocation. Waits only while the inbox of the key's worker is full.
    ///
    /// # Errors
    ///
    /// Returns [`ZeroTimeout`](crate::BeatErrorKind::ZeroTimeout), [`Closed`](crate::BeatErrorKind::Closed) or
    /// [`WorkerFailed`](crate::BeatErrorKind::WorkerFailed). The error returns the key.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Options, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// watcher.beat(42)?;
    /// let last_beat = watcher.status(&42)?.map(|status| status.last_beat);
    /// watcher.set(42, Options::new().timeout(Duration::from_secs(60)))?; // maintenance: allow a minute
    /// let status = watcher.status(&42)?.expect("key 42 is watched");
    /// assert_eq!((status.timeout, Some(status.last_beat)), (Duration::from_secs(60), last_beat));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, key: K, options: Options<V>) -> Result<(), BeatError<K>>
    where
        K: Hash,
    {
        self.router.set(key, options)
    }

    /// Records a sign of life of each of `keys` and returns the number of keys. All beats have the same timestamp.
    ///
    /// Costs one clock reading, and one message for each worker and chunk of 256 keys. Waits while an inbox is full.
    ///
    /// # Errors
    ///
    /// Returns a [`BeatManyError`] that holds the keys that were not accepted, for the reasons listed at
    /// [`beat`](Watcher::beat). All other keys were accepted.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// assert_eq!(watcher.beat_many(0..1_000u64)?, 1_000);
    /// watcher.flush()?;
    /// assert_eq!(watcher.len(), 1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_many<I>(&self, keys: I) -> Result<usize, BeatManyError<K>>
    where
        I: IntoIterator<Item = K>,
        K: Hash,
    {
        self.router.beat_many(keys.into_iter())
    }

    /// Records a sign of life of each of `keys` like [`beat_many`](Watcher::beat_many), and applies `options` to each
    /// of them like [`beat_with`](Watcher::beat_with). Costs a message and a copy of `options` for each key.
    ///
    /// # Errors
    ///
    /// Returns a [`BeatManyError`] that holds the keys that were not accepted, for the reasons listed at `beat_with`.
    /// All other keys were accepted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Options, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// watcher.beat_many_with(0..100, &Options::new().timeout(Duration::from_secs(60)))?;
    /// assert_eq!(watcher.status(&7)?.map(|status| status.timeout), Some(Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beat_many_with<I>(
        &self,
        keys: I,
        options: &Options<V>,
    ) -> Result<usize, BeatManyError<K>>
    where
        I: IntoIterator<Item = K>,
        K: Hash,
        V: Clone,
    {
        self.router.beat_many_with(keys.into_iter(), options)
    }

    /// Records a sign of life of `key` like [`beat`](Watcher::beat), and returns a [`Heart`] whose later beats cost one
    /// atomic store. If the key already has a heart, the new one replaces it, and the next beat of the old one returns
    /// [`HeartError::Replaced`](crate::HeartError::Replaced).
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat`.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// let old = watcher.watch(5)?;
    /// let new = watcher.watch(5)?;
    /// watcher.flush()?;
    /// assert_eq!(old.beat(), Err(liveness::HeartError::Replaced));
    /// assert_eq!(new.beat(), Ok(()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self, key: K) -> Result<Heart<K, V>, BeatError<K>>
    where
        K: Hash + Clone,
    {
        self.watch_with(key, Options::new())
    }

    /// Watches `key` like [`watch`](Watcher::watch), and applies `options` to it like
    /// [`beat_with`](Watcher::beat_with).
    ///
    /// # Errors
    ///
    /// Returns the errors of `beat_with`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Options, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// let heart = watcher.watch_with(5, Options::new().timeout(Duration::from_millis(20)))?;
    /// assert_eq!(watcher.status(heart.key())?.map(|status| status.timeout), Some(Duration::from_millis(20)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch_with(&self, key: K, options: Options<V>) -> Result<Heart<K, V>, BeatError<K>>
    where
        K: Hash + Clone,
    {
        match self.router.watch(key.clone(), options) {
            Ok((heart_side, route)) => Ok(Heart::new(key, route, heart_side, self.router.clone())),
            Err(kind) => Err(BeatError::new(kind, key)),
        }
    }

    /// Forgets `key`. Its episode ends without an expiry, even if one is waiting for the sink. Removing a key that is
    /// not watched is not an error.
    ///
    /// Calls take effect in the order in which they are made. After a [`flush`](Watcher::flush), no expiry of the key
    /// is delivered, except by a callback that was already running.
    ///
    /// The key may be a reference to it or any borrowed form of it, as for [`contains`](Watcher::contains). Costs an
    /// owned copy of the key, a message and an allocation. Waits only while the inbox of the key's worker is full.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`](CallError::Closed) or [`WorkerFailed`](CallError::WorkerFailed).
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(5)?;
    /// watcher.remove(&5)?;
    /// watcher.remove(&6)?;
    /// assert!(!watcher.contains(&5)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Result<(), CallError>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        let Route { worker, tag, .. } = self.router.route(key);
        let command = Command::Remove(tag, key.to_owned().into());
        self.router
            .command(worker, command)
            .map_err(|_| self.router.why(worker))
    }

    /// Blocks until all earlier calls of this thread are applied, all keys that are due have expired, and all resulting
    /// events are delivered.
    ///
    /// An event is delivered when the [`on_event`](crate::Builder::on_event) callback or the callback on a worker has
    /// returned, or when it has been offered to the channel or [`Sink`](crate::Sink). This call does not wait for a
    /// sink that has no room. It does not wait for events that occur in the meantime either, so a steady stream of
    /// events does not delay it.
    ///
    /// When called from an `on_event` callback, of this watcher or another, it does not wait for `on_event` callbacks.
    /// Do not call it while holding a lock that the callback needs: that is a deadlock.
    ///
    /// Costs a round trip to every worker, and the run time of the callbacks.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`]. If the watcher closes in the meantime and discards events, it is
    /// [`Closed`](CallError::Closed).
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// let clock = ManualClock::new();
    /// let dead = Arc::new(Mutex::new(Vec::new()));
    /// let reports = dead.clone();
    /// let watcher = Watcher::<u64>::builder()
    ///     .timeout(Duration::from_secs(5))
    ///     .clock(clock.clone())
    ///     .on_event(move |event| reports.lock().unwrap().extend(event.key().copied()))
    ///     .build()?;
    /// watcher.beat(7u64)?;
    /// clock.advance(Duration::from_secs(5));
    /// watcher.flush()?;
    /// assert_eq!(*dead.lock().unwrap(), [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self) -> Result<(), CallError> {
        // Another delivery thread, or this one, may wait for the callback that makes this call.
        let waits = self.router.role() == Role::Caller;
        let all = 0..self.router.inboxes.len();
        self.router
            .ask(all, |reply| Command::Flush { reply, waits })?;
        match &self.outbox {
            Some(outbox) if waits && !outbox.flush() => Err(CallError::Closed),
            _ => Ok(()),
        }
    }

    /// Returns the number of keys that are watched, as of each worker's last round. Does not wait for the workers.
    ///
    /// The number lags by at most about 100 ms behind the beats that were accepted. For an exact number, call
    /// [`flush`](Watcher::flush) first.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(7)?;
    /// watcher.beat(8)?;
    /// watcher.beat(8)?;
    /// watcher.flush()?;
    /// assert_eq!(watcher.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.router
            .inboxes
            .iter()
            .map(|inbox| inbox.published.lock().counts.live as usize)
            .sum()
    }

    /// Returns `true` if no key is watched; see [`len`](Watcher::len).
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// let heart = watcher.watch(7)?;
    /// watcher.flush()?;
    /// assert!(!watcher.is_empty());
    /// drop(heart);
    /// watcher.flush()?;
    /// assert!(watcher.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `true` if `key` is watched. The answer reflects every earlier call of the same thread.
    ///
    /// The key may be any borrowed form of `K` whose owned form converts to `K`. For a `String`, a `CompactString` or
    /// an `Arc<str>`, it may be a `&str`. The borrowed form must hash like `K`, as [`Borrow`] requires. Costs an owned
    /// copy of the key and a round trip to the key's worker.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    /// # let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// watcher.beat(7)?;
    /// assert!(watcher.contains(&7)?);
    /// clock.advance(Duration::from_secs(10));
    /// watcher.flush()?;
    /// assert!(!watcher.contains(&7)?); // expired, and forgotten
    ///
    /// let names = Watcher::<String>::builder().build()?;
    /// names.beat("db-1".to_owned())?;
    /// assert!(names.contains("db-1")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn contains<Q>(&self, key: &Q) -> Result<bool, CallError>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        self.status(key).map(|status| status.is_some())
    }

    /// Returns the status of `key`, or `None` if it is not watched. The answer reflects every earlier call of the same
    /// thread.
    ///
    /// Takes borrowed forms of the key like [`contains`](Watcher::contains), and costs the same.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`].
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(5)?;
    /// let status = watcher.status(&5)?.expect("it is watched");
    /// assert_eq!(status.deadline, Some(status.last_beat + status.timeout));
    /// assert_eq!(watcher.status(&6)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status<Q>(&self, key: &Q) -> Result<Option<Status<V>>, CallError>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        let Route { worker, tag, .. } = self.router.route(key);
        let answers = self.router.ask(worker..=worker, |reply| {
            Command::Status(tag, key.to_owned().into(), reply)
        })?;
        Ok(answers.into_iter().next().flatten())
    }

    /// Returns every watched key with its status, in no particular order. The keys of each worker are a consistent
    /// snapshot.
    ///
    /// Costs a clone of every key, about 100 ms for a million keys. A worker applies no beats while it clones its keys.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`].
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat_many([1u64, 2, 3])?;
    /// let mut keys: Vec<u64> = watcher.snapshot()?.into_iter().map(|(key, _)| key).collect();
    /// keys.sort();
    /// assert_eq!(keys, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Result<Vec<(K, Status<V>)>, CallError> {
        let parts = self
            .router
            .ask(0..self.router.inboxes.len(), Command::Snapshot)?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Returns every key that is down with its status, in no particular order. The keys of each worker are a consistent
    /// snapshot.
    ///
    /// Costs a round trip to every worker and a clone of each key that is down.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Mode, Watcher};
    /// # let s = Duration::from_secs;
    /// # let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder()
    /// #     .clock(clock.clone())
    ///     .timeout(s(10))
    ///     .mode(Mode::Track)
    ///     .build()?;
    /// watcher.beat(7)?;
    /// # clock.advance(s(10));
    /// // 10 seconds later:
    /// watcher.beat(8)?;
    /// # watcher.flush()?;
    /// let down: Vec<u64> = watcher.snapshot_down()?.into_iter().map(|(key, _)| key).collect();
    /// assert_eq!(down, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot_down(&self) -> Result<Vec<(K, Status<V>)>, CallError> {
        let parts = self
            .router
            .ask(0..self.router.inboxes.len(), Command::SnapshotDown)?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Returns the statistics, as of each worker's last round. Does not wait for the workers, and works after
    /// [`close`](Watcher::close).
    ///
    /// The numbers lag by at most about 100 ms behind what was accepted. For exact numbers, call
    /// [`flush`](Watcher::flush) first.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(7)?;
    /// watcher.beat(8)?;
    /// watcher.beat(8)?;
    /// watcher.remove(&7)?;
    /// watcher.flush()?;
    /// let stats = watcher.stats();
    /// assert_eq!((stats.applied_beats, stats.started), (3, 2));
    /// assert_eq!((stats.live, stats.removed), (1, 1));
    /// assert_eq!(stats.live_by_worker.iter().sum::<u64>(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for inbox in &self.router.inboxes {
            let published = inbox.published.lock();
            stats.add(&published.counts);
            stats.panics += published.panics;
            stats.wakeups += published.wakeups;
            stats.detection.merge(&published.detection);
            stats.delivery.merge(&published.delivery);
            stats.failed_workers += u64::from(inbox.phase() == Phase::Failed);
        }
        if let Some(outbox) = &self.outbox {
            // The workers count events as delivered when they hand them over; the outbox knows their state since then.
            let counts = outbox.counts();
            stats.pending += counts.pending;
            stats.delivered = counts.delivered;
            stats.removed += counts.removed;
            stats.discarded += counts.discarded;
            stats.panics += counts.panics;
            stats.delivery.merge(&counts.delivery);
        }
        stats
    }

    /// Returns the current time of the watcher's clock. Beats, deadlines and events use the same clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    /// # let s = Duration::from_secs;
    /// # let watcher = Watcher::<u64>::builder().timeout(s(10)).clock(clock.clone()).build()?;
    /// watcher.beat(7)?;
    /// # clock.advance(s(4));
    /// // 4 seconds later, of a timeout of 10:
    /// let deadline = watcher.status(&7)?.and_then(|status| status.deadline);
    /// assert_eq!(deadline.map(|deadline| deadline - watcher.now()), Some(s(6)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.router.clock().now()
    }

    /// Returns the watcher's clock, which can convert timestamps for a log.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(7)?;
    /// let status = watcher.status(&7)?.expect("it is watched");
    /// let last_beat = watcher.clock().system_time(status.last_beat);
    /// assert!(last_beat.elapsed().unwrap_or_default() < Duration::from_secs(60));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.router.clock()
    }

    /// Closes the watcher, joins every thread, and returns the final statistics. Dropping the watcher does the same.
    ///
    /// Further beats are refused, beats that were accepted are applied, and events that are due are offered once more.
    ///
    /// Calls that are waiting for room return an error with their keys. `close` blocks until a callback that is running
    /// has returned, however long that takes. Delivery then continues for up to 100 ms with the events that have left
    /// the workers; events that no sink accepts by then are counted as discarded. Keys that are alive end without an
    /// event. The receiver of [`build_with_channel`](crate::Builder::build_with_channel) still yields the events in the
    /// channel, and is then disconnected.
    ///
    /// `close` may be called more than once and from several threads; all calls return when the threads have ended.
    /// When called from a callback, it does not wait for the callback's own thread. On the delivery thread of another
    /// watcher, it does not wait for this watcher's delivery thread. On a worker of another watcher, it does not wait
    /// at all.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(5)?;
    /// let stats = watcher.close();
    /// assert_eq!((stats.started, stats.live), (1, 1));
    /// assert!(stats.is_balanced());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> Stats {
        self.end(None);
        self.stats()
    }

    /// Closes the watcher like [`close`](Watcher::close), but blocks for at most `wait`. If `wait` is zero, it does not
    /// block.
    ///
    /// After a timeout, closing continues: the watcher accepts no beats, and the threads end as soon as they can. A
    /// later `close` waits for the remaining threads.
    ///
    /// A thread that does not end is running user code: a callback, a [`Sink`](crate::Sink), or a key's `Eq`, `Clone`
    /// or `Drop`. Dropping the watcher waits for it without a limit.
    ///
    /// # Errors
    ///
    /// Returns a [`CloseTimeout`] with the names of the threads that are still running and the statistics so far.
    ///
    /// ```
    /// # use std::{sync::mpsc, time::Duration};
    /// # use liveness::{EventKind, Watcher};
    /// let (busy, hold) = mpsc::sync_channel(0);
    /// let watcher = Watcher::<u64>::builder()
    ///     .workers(1)
    ///     .events([EventKind::Joined])
    ///     .on_event(move |_| while busy.send(()).is_ok() {})
    ///     .build()?;
    /// # let hold = hold; // dropped before the watcher if an assertion fails, so that the callback can end
    /// watcher.beat(7)?;
    /// hold.recv()?; // the callback does not return until `hold` is dropped
    /// let error = watcher.close_timeout(Duration::from_millis(500)).unwrap_err();
    /// assert_eq!(error.threads(), ["liveness-delivery"]);
    /// drop(hold);
    /// assert!(watcher.close_timeout(Duration::from_secs(60)).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_timeout(&self, wait: Duration) -> Result<Stats, CloseTimeout> {
        let late = self.end(Instant::now().checked_add(wait));
        if late.is_empty() {
            Ok(self.stats())
        } else {
            Err(CloseTimeout::new(late, self.stats()))
        }
    }

    /// Closes, waits for the threads until `deadline`, and returns the names of those that still run.
    fn end(&self, deadline: Option<Instant>) -> Vec<String> {
        self.router.close();
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
        self.threads.end(self.router.role(), deadline)
    }
}

/// A panic leaves no change of a watcher incomplete: its state changes on its own threads.
impl<K, V> UnwindSafe for Watcher<K, V> {}
impl<K, V> RefUnwindSafe for Watcher<K, V> {}

impl<K, V> Drop for Watcher<K, V> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<K, V> fmt::Debug for Watcher<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("workers", &self.router.inboxes.len())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
