//! The options of a watcher: defaults, units and validation.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::Watcher;
use super::outbox::{Outbox, Outlet};
use super::start::{Plan, Spawn};
use crate::clock::Clock;
use crate::error::{BuildError, OptionError};
use crate::event::{Event, EventKind};
use crate::options::{DEFAULT_STALL_THRESHOLD, Mode};
use crate::sink::{InWorker, Sink};
use crate::sync::thread;
use crate::table::settings::{Shared, in_range};

/// The maximum number of workers by default. Each handles about ten million beats per second, and an application needs
/// the cores of a large machine for other work.
const MAX_DEFAULT_WORKERS: usize = 4;

/// The maximum number of workers. Threads beyond the number of cores only cost memory.
const MAX_WORKERS: usize = 1_024;

/// The maximum capacity of inbox and channel. A million beats of 40 bytes take 40 MB for each worker.
const MAX_CAPACITY: usize = 1 << 20;

/// Options for a [`Watcher`], created by [`Watcher::builder`].
///
/// Setters never fail; [`build`](Builder::build) returns an error that names the invalid option. A watcher without
/// threads is created by a [`LocalBuilder`](crate::LocalBuilder).
///
/// ```
/// use std::time::Duration;
/// use liveness::{BuildError, Event, EventKind, Watcher};
///
/// let watcher = Watcher::<u64>::builder()
///     .timeout(Duration::from_secs(3))
///     .events([EventKind::Joined, EventKind::Expired])
///     .on_event(|event| println!("{event}"))
///     .build()?;
/// # drop(watcher);
///
/// let error = Watcher::<u64>::builder().workers(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "`workers` must be greater than zero");
/// # Ok::<(), BuildError>(())
/// ```
#[must_use]
pub struct Builder<K, V = ()> {
    /// The options that it shares with a watcher without threads.
    shared: Shared,
    /// The number of workers, if set.
    workers: Option<usize>,
    /// The number of beats that an inbox holds.
    inbox_capacity: usize,
    /// The prefix of the names of the threads.
    thread_name: String,
    /// How late a worker may wake before the delay counts as a stall; `None` turns the detection off.
    stall_threshold: Option<Duration>,
    /// The longest time for which expiry is held back after stalls in a row.
    grace_cap: Duration,
    /// The time source; a monotonic clock if it is not set.
    clock: Option<Clock>,
    /// The ways out for events, each with the option that set it. More than one is an error.
    outlets: Vec<(&'static str, Outlet<K, V>)>,
}

impl<K, V> Watcher<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Returns the options for a new watcher, with default values.
    ///
    /// ```
    /// use liveness::{EventKind, Options, Watcher};
    ///
    /// // Keys are strings; a beat may carry a port number, which comes back in events.
    /// let (watcher, events) = Watcher::<String, u16>::builder()
    ///     .events([EventKind::Joined])
    ///     .build_with_channel(64)?;
    /// watcher.beat_with("db-1".to_owned(), Options::new().extra(5432))?;
    /// let event = events.recv()?.into_key_event().expect("it is about a key");
    /// assert_eq!((event.key.as_str(), event.extra), ("db-1", Some(5432)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }
}

impl<K, V> Builder<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Creates the default options.
    pub(crate) fn new() -> Self {
        Builder {
            shared: Shared::default(),
            workers: None,
            inbox_capacity: 4_096,
            thread_name: "liveness".to_owned(),
            stall_threshold: Some(DEFAULT_STALL_THRESHOLD),
            grace_cap: Duration::from_secs(30),
            clock: None,
            outlets: Vec::new(),
        }
    }

    /// Sets the longest silence allowed for a key that has no timeout of its own. Default: 10 seconds. Zero is an
    /// error. A key whose deadline cannot be represented, because it is more than 584 years after the origin of the
    /// clock, never expires.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(Duration::from_secs(3)).build()?;
    /// watcher.beat(7, Duration::from_secs(1))?;
    /// assert_eq!(watcher.next_deadline(), Some(Duration::from_secs(4).into()));
    ///
    /// let mut patient = LocalWatcher::<u64>::builder().timeout(Duration::MAX).build()?;
    /// patient.beat(7, Duration::from_secs(1))?;
    /// assert_eq!(patient.next_deadline(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.shared.timeout = timeout;
        self
    }

    /// Sets what happens to an expired key that has no mode of its own. Default: [`Mode::Once`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{LocalWatcher, Mode};
    ///
    /// let mut watcher = LocalWatcher::<u64>::builder()
    ///     .timeout(Duration::from_secs(1))
    ///     .mode(Mode::Repeat)
    ///     .build()?;
    /// watcher.beat(7, Duration::ZERO)?;
    /// watcher.poll(Duration::from_secs(1), drop);
    /// let status = watcher.status(&7).expect("it missed its timeout, and is still watched");
    /// assert_eq!((status.mode, status.misses), (Mode::Repeat, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mode(mut self, mode: Mode) -> Self {
        self.shared.mode = mode;
        self
    }

    /// Sets how long a key of [`Mode::Track`] or [`Mode::Repeat`] may be down, counted from its first missed deadline.
    /// After that it is forgotten as if it were [removed](Watcher::remove): its next beat begins a new episode. A key
    /// is not forgotten before its report is delivered. Default: a key that is down is kept until it is removed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{LocalWatcher, Mode};
    ///
    /// let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder()
    ///     .timeout(s(10))
    ///     .mode(Mode::Track)
    ///     .forget_after(s(3_600))
    ///     .build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.poll(s(10), drop); // reported as down
    /// watcher.poll(s(3_609), drop);
    /// assert!(watcher.contains(&7));
    /// watcher.poll(s(3_610), drop);
    /// assert!(!watcher.contains(&7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget_after(mut self, down: Duration) -> Self {
        self.shared.forget_after = Some(down);
        self
    }

    /// Sets the kinds of event that are emitted. Events of other kinds are not created. Default: [`EventKind::Expired`]
    /// and [`EventKind::Recovered`]. This call replaces the set; [`add_events`](Builder::add_events) extends it. The
    /// set may be empty: [`status`](Watcher::status) and [`stats`](Watcher::stats) do not depend on it.
    ///
    /// Every event except the expiry of a [`Mode::Once`] key clones the key, so `Beat` costs a clone with every beat.
    /// With `Joined` or `Beat` in the set, a beat wakes a sleeping worker, which costs microseconds instead of
    /// nanoseconds. With `Recovered`, a beat does so only while a key of that worker is down.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{EventKind, LocalWatcher};
    ///
    /// let mut watcher = LocalWatcher::<u64>::builder()
    ///     .events([EventKind::Joined, EventKind::Removed])
    ///     .build()?;
    /// watcher.beat(7, Duration::ZERO)?;
    /// watcher.beat(8, Duration::ZERO)?;
    /// watcher.remove(&7, Duration::from_secs(1));
    /// let mut kinds = Vec::new();
    /// watcher.poll(Duration::from_secs(60), |event| kinds.push(event.kind()));
    /// // Key 8 has expired too, but `Expired` is not in the set.
    /// assert_eq!(kinds, [EventKind::Joined, EventKind::Joined, EventKind::Removed]);
    /// assert!(!watcher.contains(&8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.shared.wanted = kinds.into_iter().collect();
        self
    }

    /// Adds kinds of event to the set of those that are emitted; see [`events`](Builder::events).
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{EventKind, LocalWatcher};
    ///
    /// let mut watcher = LocalWatcher::<u64>::builder()
    ///     .timeout(Duration::from_secs(1))
    ///     .add_events([EventKind::Joined])
    ///     .build()?;
    /// watcher.beat(7, Duration::ZERO)?;
    /// let mut kinds = Vec::new();
    /// watcher.poll(Duration::from_secs(60), |event| kinds.push(event.kind()));
    /// assert_eq!(kinds, [EventKind::Joined, EventKind::Expired]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_events(mut self, kinds: impl IntoIterator<Item = EventKind>) -> Self {
        self.shared.wanted.extend(kinds);
        self
    }

    /// Sets the number of worker threads, from 1 to 1024. Zero is an error. Default: the available parallelism, but at
    /// most four. A worker handles about ten million beats per second, so more are rarely needed. Each worker costs a
    /// thread and an inbox.
    ///
    /// ```
    /// # use liveness::Watcher;
    /// let watcher = Watcher::<u64>::builder().workers(3).build()?;
    /// watcher.beat_many(0..3_000)?;
    /// watcher.flush()?;
    /// let live = watcher.stats().live_by_worker;
    /// assert_eq!((live.len(), live.iter().sum()), (3, 3_000));
    /// assert!(live.iter().all(|&keys| keys > 0)); // each worker has its share
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets how many beats the inbox of each worker holds, from 1 to 2^20. Zero is an error. Default: 4096. Any other
    /// message takes the place of one beat. Calls block while the inbox is full, except the `try_` and `_timeout`
    /// forms. `beat_many` sends up to 256 keys to a worker at once, which may exceed the capacity. A sleeping worker is
    /// woken when its inbox is half full.
    ///
    /// ```
    /// # use std::sync::mpsc::sync_channel;
    /// # use liveness::{BeatErrorKind, EventKind, Watcher};
    /// let (busy, hold) = sync_channel(0);
    /// let watcher = Watcher::<u64>::builder()
    ///     .workers(1)
    ///     .inbox_capacity(2)
    ///     .events([EventKind::Joined])
    ///     .on_event_in_worker(move |_| while busy.send(()).is_ok() {})
    ///     .build()?;
    /// # let hold = hold; // dropped before the watcher if an assertion fails, so that the worker can end
    /// watcher.beat(1)?;
    /// hold.recv()?; // the worker is in the callback, and takes nothing until `hold` is dropped
    /// watcher.beat(2)?;
    /// watcher.beat(3)?;
    /// assert_eq!(watcher.try_beat(4).unwrap_err().kind(), BeatErrorKind::InboxFull);
    /// drop(hold);
    /// watcher.beat(4)?; // waits until there is room
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inbox_capacity(mut self, beats: usize) -> Self {
        self.inbox_capacity = beats;
        self
    }

    /// Sets the prefix of the thread names. The workers are named `name-0`, `name-1` and so on, and the thread of
    /// [`on_event`](Builder::on_event) `name-delivery`. Default: `liveness`. A name that contains a zero byte is an
    /// error. Linux shows the first 15 bytes.
    ///
    /// ```
    /// # use std::{sync::mpsc, thread};
    /// # use liveness::{EventKind, Watcher};
    /// let (sender, names) = mpsc::channel();
    /// let watcher = Watcher::<u64>::builder()
    ///     .workers(1)
    ///     .thread_name("cell")
    ///     .events([EventKind::Joined])
    ///     .on_event_in_worker(move |_| {
    ///         let _ = sender.send(thread::current().name().map(str::to_owned));
    ///     })
    ///     .build()?;
    /// watcher.beat(7)?;
    /// assert_eq!(names.recv()?.as_deref(), Some("cell-0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Sets the maximum number of episodes at one time, from 1 to 2^32 - 2. Live episodes count, as do expired episodes
    /// that the sink has not accepted. Zero is an error. Default: no limit, except that each worker numbers its keys
    /// with 32 bits.
    ///
    /// While the maximum is reached, a beat of a key that is not watched returns [`Full`](crate::BeatErrorKind::Full)
    /// with the key. A beat of a watched key is never refused, and no key is evicted. The maximum holds over all
    /// workers and is never exceeded. A key that beats again while its expiry waits for a full sink begins another
    /// episode, which takes another place or is refused. The number of other events that wait behind a full sink is
    /// bounded too: while `max_keys` plus 1024 of them wait, a key that is not watched is refused. Events that are
    /// already queued for the callback of [`on_event`](Builder::on_event) do not count.
    ///
    /// Costs a locked look-up with every beat, about 30 ns, and 14 to 25 bytes per key. A call with a key that is not
    /// watched waits for the answer of the key's worker, 10 to 30 µs; `beat_many` does so once for up to 256 such keys.
    /// [`try_beat`](Watcher::try_beat), [`beat_timeout`](Watcher::beat_timeout) and calls from worker threads do not
    /// wait. Their beat is refused if the maximum is reached at that moment. If other calls take the last place before
    /// the worker receives the beat, it is dropped and counted in
    /// [`Stats::refused_beats`](crate::Stats::refused_beats).
    ///
    /// ```
    /// # use liveness::{BeatErrorKind, Watcher};
    /// let watcher = Watcher::<u64>::builder().max_keys(1).build()?;
    /// watcher.beat(7)?;
    /// let error = watcher.beat(8).unwrap_err();
    /// assert_eq!((error.kind(), error.into_key()), (BeatErrorKind::Full, 8));
    /// watcher.beat(7)?; // a watched key is never refused
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.shared.max_keys = Some(keys);
        self
    }

    /// Sets the number of keys for which memory is allocated in advance, at most 2^32 - 2. The keys are assumed to
    /// spread evenly over the workers. Default: zero, which allocates nothing in advance; the tables grow as needed. It
    /// is an error if there is not enough memory.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// let mut roomy = LocalWatcher::<u64>::builder().expected_keys(10_000).build()?;
    /// let at_first = roomy.stats().bytes;
    /// for key in 0..10_000 {
    ///     roomy.beat(key, Duration::ZERO)?;
    /// }
    /// assert!(roomy.stats().bytes < at_first + 1_000); // the memory for the keys was already allocated
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expected_keys(mut self, keys: usize) -> Self {
        self.shared.expected_keys = keys;
        self
    }

    /// Sets how late a worker may wake before the delay counts as a stall, which means that the process was stopped, or
    /// that the machine was paused or overloaded. Default: 100 ms, or a quarter of the shortest timeout in use if that
    /// is less, but at least 2 ms.
    ///
    /// A single step of user code on the worker that takes longer, such as a slow callback, is a stall too. Many beats
    /// or a long [`snapshot`](Watcher::snapshot) are not. Zero turns the detection off: after a stall, the watcher then
    /// reports every key whose beats it could not receive. With a manual clock the detection is always off.
    ///
    /// ```
    /// # use std::{thread::sleep, time::Duration};
    /// # use liveness::{EventKind, Watcher};
    /// /// Returns how many stalls are detected when a callback occupies its worker for 3 ms.
    /// fn stalls(threshold: Duration) -> Result<u64, Box<dyn std::error::Error>> {
    ///     let watcher = Watcher::<u64>::builder()
    ///         .stall_threshold(threshold)
    ///         .events([EventKind::Joined])
    ///         .on_event_in_worker(|_| sleep(Duration::from_millis(3)))
    ///         .build()?;
    ///     watcher.beat(7)?;
    ///     watcher.flush()?;
    ///     Ok(watcher.stats().stalls)
    /// }
    /// assert!(stalls(Duration::from_millis(2))? > 0);
    /// assert_eq!(stalls(Duration::ZERO)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stall_threshold(mut self, threshold: Duration) -> Self {
        self.stall_threshold = (!threshold.is_zero()).then_some(threshold);
        self
    }

    /// Sets the longest time for which expiry may be held back after stalls in a row. While the watcher runs, this
    /// allowance refills by a quarter of the elapsed time. Default: 30 seconds. With zero, stalls are counted and
    /// reported, but expiry is not held back.
    ///
    /// ```
    /// # use std::{sync::mpsc, thread::sleep, time::Duration};
    /// # use liveness::{Event, EventKind, Watcher};
    /// let (sender, stalls) = mpsc::channel();
    /// let watcher = Watcher::<u64>::builder()
    ///     .stall_threshold(Duration::from_millis(2))
    ///     .stall_cap(Duration::from_millis(1))
    ///     .events([EventKind::Joined, EventKind::Stalled])
    ///     .on_event_in_worker(move |event| match event {
    ///         Event::Stalled(stall) => drop(sender.send(stall)),
    ///         _ => sleep(Duration::from_millis(3)), // keeps the worker from running
    ///     })
    ///     .build()?;
    /// watcher.beat(7)?;
    /// let stall = stalls.recv()?;
    /// assert!(stall.resumed - stall.last_alive >= Duration::from_millis(3));
    /// assert_eq!(stall.held_for, Duration::from_millis(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stall_cap(mut self, cap: Duration) -> Self {
        self.grace_cap = cap;
        self
    }

    /// Sets the time source. Default: a monotonic clock whose origin is the call of `build`. A
    /// [`ManualClock`](crate::ManualClock) makes tests deterministic.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{ManualClock, Watcher};
    ///
    /// let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// watcher.beat(7)?;
    /// clock.advance(Duration::from_secs(3_600));
    /// watcher.flush()?;
    /// assert_eq!(watcher.now(), Duration::from_secs(3_600).into());
    /// assert!(watcher.is_empty()); // the key has expired without a real wait
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Sets the seed of the hash of keys, so that keys spread over workers and tables in the same way in every run.
    /// Default: random for each watcher, which prevents attackers from choosing keys that collide. Set a seed only in
    /// tests.
    ///
    /// ```
    /// # use liveness::Watcher;
    /// let spread = |seed: u64| -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    ///     let watcher = Watcher::<u64>::builder().workers(4).seed(seed).build()?;
    ///     watcher.beat_many(0..1_000)?;
    ///     watcher.flush()?;
    ///     Ok(watcher.stats().live_by_worker)
    /// };
    /// assert_eq!(spread(17)?, spread(17)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.shared.seed = Some(seed);
        self
    }

    /// Calls `callback` with each event on one delivery thread. The callback may block, panic and call the watcher
    /// without affecting beats. It is an error of [`build`](Builder::build) to set a second sink, callback or channel.
    ///
    /// ```
    /// # use std::{sync::mpsc, time::Duration};
    /// # use liveness::{ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    /// let (sender, reports) = mpsc::channel();
    /// let mut expired = 0; // one thread makes the calls, so no lock is needed
    /// let watcher = Watcher::<u64>::builder()
    /// #     .clock(clock.clone())
    ///     .timeout(Duration::from_secs(1))
    ///     .on_event(move |_| {
    ///         expired += 1;
    ///         let _ = sender.send(expired);
    ///     })
    ///     .build()?;
    /// watcher.beat_many([7, 8, 9])?;
    /// # clock.advance(Duration::from_secs(1));
    /// # watcher.flush()?;
    /// // A second of silence later:
    /// assert_eq!([reports.recv()?, reports.recv()?, reports.recv()?], [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Calling the watcher
    ///
    /// A callback can call its own watcher through a weak reference that is set after the watcher is built. (A strong
    /// reference would prevent the watcher from being dropped.) It is safe to call `beat`, `watch` and `remove`, and to
    /// drop a heart, while holding a lock that the callback takes. `flush` and `close` wait for the callback and would
    /// deadlock.
    ///
    /// Callbacks of [`on_event_in_worker`](Builder::on_event_in_worker) and a [`sink`](Builder::sink) can use a weak
    /// reference too. While holding a lock that such a callback or sink takes, use only calls that never wait, such as
    /// [`try_beat`](Watcher::try_beat).
    ///
    /// ```
    /// use std::sync::{Arc, OnceLock, Weak};
    /// # use std::time::Duration;
    /// # use liveness::{Event, ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    ///
    /// let itself = Arc::new(OnceLock::<Weak<Watcher<u64>>>::new());
    /// let handle = itself.clone();
    /// let watcher = Watcher::<u64>::builder()
    /// #     .clock(clock.clone())
    ///     .timeout(Duration::from_secs(1))
    ///     .on_event(move |event| {
    ///         // `wait` blocks until it is set below; `upgrade` returns `None` when the watcher is being dropped.
    ///         if let (Event::Expired(dead), Some(watcher)) = (event, handle.wait().upgrade()) {
    ///             let _ = watcher.beat(dead.key + 1); // its successor takes over
    ///         }
    ///     })
    ///     .build()?;
    /// let watcher = Arc::new(watcher);
    /// itself.set(Arc::downgrade(&watcher)).expect("it is set once");
    ///
    /// watcher.beat(7)?;
    /// # clock.advance(Duration::from_secs(1));
    /// // A second of silence later:
    /// # watcher.flush()?;
    /// assert!(watcher.contains(&8)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_event(mut self, callback: impl FnMut(Event<K, V>) + Send + 'static) -> Self {
        let outlet = Outlet::Outbox(Arc::new(Outbox::new(Box::new(callback))));
        self.outlets.push(("on_event", outlet));
        self
    }

    /// Calls `callback` with each event on the worker that detected it, so several calls may run at the same time.
    /// Compared with [`on_event`](Builder::on_event), this saves a thread switch, which takes tens of microseconds.
    /// While the callback runs, its worker applies no beats and detects no expiries.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use liveness::{EventKind, Watcher};
    /// let joined = Arc::new(AtomicU64::new(0));
    /// let counter = joined.clone();
    /// let watcher = Watcher::<u64>::builder()
    ///     .events([EventKind::Joined])
    ///     .on_event_in_worker(move |_| drop(counter.fetch_add(1, Ordering::Relaxed)))
    ///     .build()?;
    /// watcher.beat_many(0..100)?;
    /// watcher.flush()?; // each worker has made its calls
    /// assert_eq!(joined.load(Ordering::Relaxed), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_event_in_worker(
        mut self,
        callback: impl Fn(Event<K, V>) + Send + Sync + 'static,
    ) -> Self {
        let outlet = Outlet::Sink(Arc::new(InWorker(callback)));
        self.outlets.push(("on_event_in_worker", outlet));
        self
    }

    /// Offers events to `sink`, for example the sender of a crossbeam channel.
    ///
    /// ```
    /// # use liveness::{EventKind, Watcher};
    /// // Two watchers, one channel.
    /// let (sender, events) = crossbeam_channel::unbounded();
    /// let devices = Watcher::<u64>::builder().events([EventKind::Joined]).sink(sender.clone()).build()?;
    /// let jobs = Watcher::<u64>::builder().events([EventKind::Joined]).sink(sender).build()?;
    /// devices.beat(7)?;
    /// assert_eq!(events.recv()?.key(), Some(&7));
    /// jobs.beat(8)?;
    /// assert_eq!(events.recv()?.key(), Some(&8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sink(mut self, sink: impl Sink<K, V>) -> Self {
        let outlet = Outlet::Sink(Arc::new(sink));
        self.outlets.push(("sink", outlet));
        self
    }

    /// Starts the watcher's threads.
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] that names the option that is out of range, the two options that exclude each other, or
    /// the thread that could not be spawned. No thread is left running.
    ///
    /// ```
    /// # use std::{sync::Arc, thread};
    /// # use liveness::Watcher;
    /// let watcher = Arc::new(Watcher::<u64>::builder().build()?);
    /// let shared = watcher.clone();
    /// thread::spawn(move || shared.beat(7)).join().expect("it does not panic")?;
    /// assert!(watcher.contains(&7)?);
    ///
    /// let error = Watcher::<u64>::builder().workers(0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "`workers` must be greater than zero");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build(self) -> Result<Watcher<K, V>, BuildError> {
        self.build_on(&mut |name, body| thread::Builder::new().name(name).spawn(body))
    }

    /// Starts the watcher's threads, and returns the watcher with the receiver of its events. The channel is bounded:
    /// it holds `capacity` events, from 1 to 2^20. While it is full, expired keys wait in the workers.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`build`](Builder::build). It is also an error if the capacity is out of range or exceeds
    /// the available memory.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// # let clock = ManualClock::new();
    /// let (watcher, events) = Watcher::<u64>::builder()
    /// #     .clock(clock.clone())
    ///     .timeout(Duration::from_secs(1))
    ///     .build_with_channel(1)?;
    /// watcher.beat_many([7, 8])?;
    /// # clock.advance(Duration::from_secs(1));
    /// # watcher.flush()?;
    /// // A second of silence later there is room for one:
    /// let stats = watcher.stats();
    /// assert_eq!((events.len(), stats.delivered, stats.pending), (1, 1, 1));
    /// let first = events.recv()?;
    /// # watcher.flush()?;
    /// let second = events.recv()?;
    /// assert_ne!(first.key(), second.key());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(
        clippy::type_complexity,
        reason = "a pair of two plain types, which an alias would only hide"
    )]
    pub fn build_with_channel(
        mut self,
        capacity: usize,
    ) -> Result<(Watcher<K, V>, Receiver<Event<K, V>>), BuildError> {
        in_range("capacity", capacity, MAX_CAPACITY)?;
        // The channel allocates it all at once, and ends the process where it cannot.
        let room = Vec::<Event<K, V>>::new().try_reserve_exact(capacity);
        room.map_err(|_| BuildError::OutOfMemory {
            option: "capacity",
            given: capacity,
        })?;
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        let outlet = Outlet::Sink(Arc::new(sender));
        self.outlets.push(("build_with_channel", outlet));
        Ok((self.build()?, receiver))
    }

    /// Checks every option.
    fn validate(&self) -> Result<(), BuildError> {
        self.shared.validate()?;
        in_range("workers", self.workers.unwrap_or(1), MAX_WORKERS)?;
        in_range("inbox_capacity", self.inbox_capacity, MAX_CAPACITY)?;
        if self.thread_name.contains('\0') {
            let must = format!("not contain a zero byte, as {:?} does", self.thread_name);
            return Err(OptionError::new("thread_name", must).into());
        }
        if let [(first, _), (second, _), ..] = self.outlets[..] {
            return Err(BuildError::TwoSinks { first, second });
        }
        Ok(())
    }

    /// Builds like [`build`](Builder::build), with threads spawned by `spawn`.
    fn build_on(mut self, spawn: Spawn<'_>) -> Result<Watcher<K, V>, BuildError> {
        self.validate()?;
        let workers = self.workers.unwrap_or_else(|| {
            let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            default_workers(cores)
        });
        let plan = Plan {
            shared: self.shared,
            workers,
            inbox_capacity: self.inbox_capacity,
            thread_name: self.thread_name,
            stall_threshold: self.stall_threshold,
            grace_cap: self.grace_cap,
            clock: self.clock.unwrap_or_default(),
            outlet: self.outlets.pop().map(|(_, outlet)| outlet),
        };
        plan.start(spawn)
    }
}

/// Returns the default number of workers on a machine with `cores` cores.
fn default_workers(cores: usize) -> usize {
    cores.min(MAX_DEFAULT_WORKERS)
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("shared", &self.shared)
            .field("workers", &self.workers)
            .field("inbox_capacity", &self.inbox_capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Builds with a spawner that fails at the thread number `fail_at`, and returns how many threads were spawned and
    /// how many ended.
    fn build_failing_at(fail_at: usize) -> (Result<(), BuildError>, usize, usize) {
        let spawned = AtomicUsize::new(0);
        let ended = Arc::new(AtomicUsize::new(0));
        let builder = Builder::<u64, ()>::new().workers(4).on_event(drop);
        let result = builder.build_on(&mut |name, body| {
            if spawned.load(Ordering::SeqCst) == fail_at {
                return Err(io::Error::other("no more threads"));
            }
            spawned.fetch_add(1, Ordering::SeqCst);
            let ended = ended.clone();
            thread::Builder::new().name(name).spawn(move || {
                body();
                ended.fetch_add(1, Ordering::SeqCst);
            })
        });
        let result = result.map(drop);
        (result, spawned.into_inner(), ended.load(Ordering::SeqCst))
    }

    #[test]
    fn a_thread_that_cannot_be_spawned_is_an_error_and_leaves_none_behind() {
        for fail_at in 0..5 {
            let (result, spawned, ended) = build_failing_at(fail_at);
            let Err(BuildError::Spawn { name, .. }) = result else {
                panic!("building must fail")
            };
            assert_eq!(
                name,
                [
                    "liveness-0",
                    "liveness-1",
                    "liveness-2",
                    "liveness-3",
                    "liveness-delivery"
                ][fail_at]
            );
            assert_eq!((spawned, ended), (fail_at, fail_at));
        }
        assert!(matches!(build_failing_at(99), (Ok(()), 5, 5)));
    }

    #[test]
    fn a_watcher_on_a_large_machine_has_four_workers_unless_it_is_given_more() {
        assert_eq!([1, 3, 4, 64].map(default_workers), [1, 3, 4, 4]);
        let watcher = Builder::<u64, ()>::new().workers(6).build().unwrap();
        assert_eq!(watcher.stats().live_by_worker.len(), 6);
    }

    #[test]
    fn every_option_out_of_range_is_named() {
        let builder = Builder::<u64, ()>::new;
        let message = |builder: Builder<u64, ()>| builder.build().unwrap_err().to_string();
        assert_eq!(
            message(builder().timeout(Duration::ZERO)),
            "`timeout` must be greater than zero"
        );
        assert_eq!(
            message(builder().workers(2_000)),
            "`workers` must be at most 1024, not 2000"
        );
        assert_eq!(
            message(builder().inbox_capacity(0)),
            "`inbox_capacity` must be greater than zero"
        );
        assert_eq!(
            message(builder().max_keys(0)),
            "`max_keys` must be greater than zero"
        );
        assert!(message(builder().expected_keys(usize::MAX)).starts_with("`expected_keys`"));
        assert!(
            message(builder().thread_name("a\0b"))
                .starts_with("`thread_name` must not contain a zero byte")
        );
        let error = builder().build_with_channel(0).unwrap_err();
        assert_eq!(error.to_string(), "`capacity` must be greater than zero");
    }
}
