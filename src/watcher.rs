//! The public face of the threads: beats in, questions, accounting, close.

pub(crate) mod builder;
pub(crate) mod heart;
pub(crate) mod inbox;
pub(crate) mod outbox;
pub(crate) mod outlet;
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

/// Watches keys on worker threads of its own and reports each that was silent for longer than its timeout.
///
/// Shared by reference or in an [`Arc`]; every method takes `&self`. Made by a [`Builder`](crate::Builder).
///
/// ```
/// use std::{thread, time::Duration};
/// use liveness::{ManualClock, Watcher};
///
/// let clock = ManualClock::new(); // in a test; else leave it out
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
/// A beat moves a key to another thread, so a key should be cheap to make and to drop. Integers and other `Copy` types,
/// inline small strings (such as `compact_str::CompactString` up to 24 bytes) and clones of an `Arc<str>` allocate
/// nothing. A `String` costs an allocation and a free on another thread with every beat, about 300 ns; it works, but it
/// is most of the cost. Keys that beat very often are better served by a [`Heart`].
///
/// # Calls from callbacks
///
/// Every method may be called from a callback. On the delivery thread ([`Builder::on_event`](crate::Builder::on_event)) all of them work as
/// anywhere. On a worker thread ([`Builder::on_event_in_worker`](crate::Builder::on_event_in_worker), [`Sink`](crate::Sink)) beats never wait, and calls
/// that need an answer from a worker return [`CallError::OnWorker`].
pub struct Watcher<K, V = ()> {
    /// The callers' side.
    router: Arc<Router<K, V>>,
    /// The events on their way to the callback, where there is one.
    outbox: Option<Arc<Outbox<K, V>>>,
    /// The threads to wait for.
    threads: Threads,
}

impl<K, V> Watcher<K, V> {
    /// A watcher around running threads.
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

    /// The threads, for the builder to add to.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// A sign of life of `key`: an absent key begins an episode, a watched one lives on.
    ///
    /// Costs a hash, a clock reading and a short lock, and allocates nothing for a cheap key. Waits only while the
    /// inbox of the key's worker is full, and where [`max_keys`](crate::Builder::max_keys) is set, for the worker's answer about
    /// a key that is not watched.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::BeatErrorKind::Closed), [`WorkerFailed`](crate::BeatErrorKind::WorkerFailed), and
    /// [`Full`](crate::BeatErrorKind::Full) if the key is new and there is a maximum. The key comes back.
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

    /// As [`beat`](Watcher::beat), but never waits: a call takes a millisecond at the most on a thread that runs, even if
    /// another thread was preempted while it held the inbox's lock.
    ///
    /// # Errors
    ///
    /// Those of `beat`, and [`InboxFull`](crate::BeatErrorKind::InboxFull), also where the inbox's lock was not to be had.
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

    /// As [`beat`](Watcher::beat), but waits for room no longer than `wait`.
    ///
    /// # Errors
    ///
    /// Those of `beat`, and [`TimedOut`](crate::BeatErrorKind::TimedOut).
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

    /// As [`beat`](Watcher::beat), and says how the key is to be watched from now on: its timeout, its mode, a value to
    /// carry. Costs what `beat` does, plus a look-up when the timeout or mode is a new one for the key.
    ///
    /// # Errors
    ///
    /// Those of `beat`, and [`ZeroTimeout`](crate::BeatErrorKind::ZeroTimeout).
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

    /// As [`beat_with`](Watcher::beat_with), but never waits, as [`try_beat`](Watcher::try_beat).
    ///
    /// # Errors
    ///
    /// Those of `try_beat` and `beat_with`.
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

    /// Applies `options` to `key` without a beat: what is set holds from now on, and the deadline goes by the last beat. A key
    /// that is absent when its worker applies them stays absent and is counted in [`Stats::unknown`].
    ///
    /// Costs a message and an allocation. Waits only while the inbox of the key's worker is full.
    ///
    /// # Errors
    ///
    /// [`ZeroTimeout`](crate::BeatErrorKind::ZeroTimeout), [`Closed`](crate::BeatErrorKind::Closed) and
    /// [`WorkerFailed`](crate::BeatErrorKind::WorkerFailed). The key comes back.
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

    /// A sign of life of each of `keys`, all made now: one clock reading, and one message for each worker and chunk of
    /// 256 keys. Waits while an inbox is full. Returns how many keys there were.
    ///
    /// # Errors
    ///
    /// [`BeatManyError`] holds the keys that were not accepted, for the reasons of [`beat`](Watcher::beat); the others
    /// were.
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

    /// As [`beat_many`](Watcher::beat_many), and says how each of the keys is to be watched from now on, as
    /// [`beat_with`](Watcher::beat_with) does. Costs a message and a copy of `options` for each key.
    ///
    /// # Errors
    ///
    /// [`BeatManyError`] holds the keys that were not accepted, for the reasons of `beat_with`; the others were.
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

    /// Watches `key` through a [`Heart`]: as [`beat`](Watcher::beat), and later beats are one atomic store. If the key
    /// has a heart already, this one takes over, and the other says so at its next beat.
    ///
    /// # Errors
    ///
    /// Those of `beat`.
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

    /// As [`watch`](Watcher::watch), and says how the key is to be watched, as [`beat_with`](Watcher::beat_with) does.
    ///
    /// # Errors
    ///
    /// Those of `beat_with`.
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

    /// Forgets `key`: its episode ends without an expiry, also where one waits for the sink. An unknown key is fine.
    /// Takes effect in the order of calls; after a [`flush`](Watcher::flush) no expiry of the key is delivered any
    /// more, but for a call of the callback that has begun.
    ///
    /// Takes the key by reference, or a borrowed form of it, as [`contains`](Watcher::contains) does. Costs an owned copy of
    /// the key, a message and an allocation. Waits only while the inbox of the key's worker is full.
    ///
    /// # Errors
    ///
    /// [`Closed`](CallError::Closed) and [`WorkerFailed`](CallError::WorkerFailed).
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

    /// Blocks until everything that the calling thread sent before is applied, everything due by then is expired, and
    /// every event of it is delivered: the call of an [`on_event`](crate::Builder::on_event) callback has returned, a callback on
    /// a worker too, and a channel or [`Sink`](crate::Sink) has been offered the event. A sink without room is not waited
    /// for. Events that come meanwhile are not waited for either, so it returns however many there are.
    ///
    /// Called from an `on_event` callback, of this watcher or another, it does not wait for `on_event` callbacks. A thread
    /// that holds a lock which the callback needs must not call it.
    ///
    /// Costs a round trip to every worker, and the time of the callbacks.
    ///
    /// # Errors
    ///
    /// [`CallError`]. If the watcher closes meanwhile and gives up events, [`Closed`](CallError::Closed).
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
        // The callback of a delivery thread may be what another delivery thread, or this one, waits for.
        let waits = self.router.role() == Role::Caller;
        let all = 0..self.router.inboxes.len();
        self.router
            .ask(all, |reply| Command::Flush { reply, waits })?;
        match &self.outbox {
            Some(outbox) if waits && !outbox.flush() => Err(CallError::Closed),
            _ => Ok(()),
        }
    }

    /// How many keys are watched, as of the workers' last rounds; beats that wake nobody may wait in an inbox until the
    /// next deadline, so call [`flush`](Watcher::flush) first where it must be exact. Does not
    /// wait for the workers.
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

    /// Whether no key is watched; see [`len`](Watcher::len).
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

    /// Returns whether `key` is watched. Sees every call the same thread made before.
    ///
    /// The key may be any borrowed form of `K` whose owned form converts to `K`: of a `String`, a `CompactString` or an
    /// `Arc<str>`, a `&str`. It must hash as `K` does, as [`Borrow`] demands. Costs an owned copy of the key and a round
    /// trip to the key's worker.
    ///
    /// # Errors
    ///
    /// [`CallError`].
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

    /// Returns what is known of `key`, or `None` if it is not watched. Sees every call the same thread made before. Takes
    /// borrowed forms of the key as [`contains`](Watcher::contains) does, and costs the same.
    ///
    /// # Errors
    ///
    /// [`CallError`].
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

    /// Every watched key and what is known of it, in no order; each worker's part is of one moment. Costs a clone of
    /// every key, during which that worker takes no beats: about 100 ms for a million keys.
    ///
    /// # Errors
    ///
    /// [`CallError`].
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

    /// Returns every key that is down, with its status, in no order; each worker's part is of one moment. Costs a round trip
    /// to every worker and a clone of each key that is down.
    ///
    /// # Errors
    ///
    /// [`CallError`].
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

    /// The accounting, as of the workers' last rounds; beats that wake nobody may wait in an inbox until the next
    /// deadline, so call [`flush`](Watcher::flush) first where it must be exact. Does not wait for the
    /// workers, and works after [`close`](Watcher::close).
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
            // The workers count what they handed over as delivered; what became of it since, the outbox knows.
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

    /// Returns the time by the watcher's clock, which stamps, deadlines and events are given in.
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

    /// Returns the watcher's clock. It converts timestamps for a log.
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

    /// Closes the watcher: refuses further beats, applies those that were accepted, offers what is due once more, joins every
    /// thread, and returns the final account. Dropping the watcher does the same.
    ///
    /// Callers that wait for room get their keys back. Blocks until a call of the callback that runs has returned, however
    /// long that takes. After it, delivery goes on for up to 100 ms with the events that have left the workers; those that no
    /// sink takes by then are counted as discarded. Keys that are alive end without an event. The receiver of
    /// [`build_with_channel`](crate::Builder::build_with_channel) still yields what the channel holds, and is disconnected
    /// after that.
    ///
    /// It may be called again and from several threads: all calls return when the threads are gone. Called from a callback,
    /// it does not wait for the callback's own thread; on the delivery thread of another watcher it does not wait for this
    /// one's; and on a worker of another watcher it does not wait at all.
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

    /// As [`close`](Watcher::close), but blocks for no longer than `wait`, zero for not at all. What was begun goes on: the
    /// watcher takes no more beats, and the threads end as soon as they can. A later `close` waits for the rest.
    ///
    /// A thread that does not end runs code of yours: a callback, a [`Sink`](crate::Sink), or a key's `Eq`, `Clone` or
    /// `Drop`. To drop the watcher waits for it without a limit.
    ///
    /// # Errors
    ///
    /// [`CloseTimeout`] has the names of the threads that still run, and the accounting so far.
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
    /// # let hold = hold; // so that a failed assertion lets go of the callback before it drops the watcher
    /// watcher.beat(7)?;
    /// hold.recv()?; // the callback does not return while we hold it there
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

/// A panic leaves nothing half done in a watcher: what it changes is changed on its own threads.
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
