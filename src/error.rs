//! One small error per operation. Whoever gave a key gets it back.

use std::error::Error;
use std::fmt;
use std::io;

use crate::stats::Stats;

/// Why a key was not accepted.
///
/// ```
/// use liveness::{BeatErrorKind, Watcher};
///
/// let watcher = Watcher::<u64>::builder().max_keys(1).build()?;
/// watcher.beat(1)?;
/// let error = watcher.beat(2).unwrap_err();
/// let advice = match error.kind() {
///     BeatErrorKind::Full => "turn the client away",
///     BeatErrorKind::InboxFull | BeatErrorKind::TimedOut => "try again",
///     BeatErrorKind::Closed | BeatErrorKind::WorkerFailed => "give up",
///     _ => "mend the caller",
/// };
/// assert_eq!(advice, "turn the client away");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BeatErrorKind {
    /// The watcher is closed.
    Closed,
    /// The worker of this key ended by a panic in some key's `Eq`, `Clone` or `Drop`.
    WorkerFailed,
    /// The key is not watched, and the maximum number of keys is.
    Full,
    /// The inbox of the key's worker is full just now (`try_beat`).
    InboxFull,
    /// The inbox stayed full for as long as the call was to wait (`beat_timeout`).
    TimedOut,
    /// The timeout given for the key is zero.
    ZeroTimeout,
}

impl BeatErrorKind {
    /// What was wrong, and what would be right.
    fn message(self) -> &'static str {
        match self {
            BeatErrorKind::Closed => "the watcher is closed",
            BeatErrorKind::WorkerFailed => {
                "the worker of this key was ended by a panic in a key's Eq, Clone or Drop; build a new watcher"
            }
            BeatErrorKind::Full => {
                "the maximum number of keys is reached; remove some, or raise `max_keys`"
            }
            BeatErrorKind::InboxFull => {
                "the inbox of the key's worker is full; try again, or use `beat`, which waits"
            }
            BeatErrorKind::TimedOut => {
                "the inbox of the key's worker stayed full for the whole wait"
            }
            BeatErrorKind::ZeroTimeout => {
                "a timeout of zero would expire at once; give one of at least a nanosecond"
            }
        }
    }
}

impl fmt::Display for BeatErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// A key that was not accepted, and why.
///
/// ```
/// use liveness::{BeatErrorKind, Watcher};
///
/// let watcher = Watcher::<String>::builder().build()?;
/// watcher.close();
/// let error = watcher.beat("db-1".to_owned()).unwrap_err();
/// assert_eq!(error.kind(), BeatErrorKind::Closed);
/// assert_eq!(error.to_string(), "the watcher is closed");
/// assert_eq!(error.into_key(), "db-1");
/// # Ok::<(), liveness::BuildError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BeatError<K> {
    /// Why.
    kind: BeatErrorKind,
    /// What was given.
    key: K,
}

impl<K> BeatError<K> {
    /// Refuses `key`.
    pub(crate) fn new(kind: BeatErrorKind, key: K) -> Self {
        BeatError { kind, key }
    }

    /// Why the key was not accepted.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{BeatErrorKind, Options, Watcher};
    /// # let watcher = Watcher::<u64>::builder().build()?;
    /// let error = watcher.beat_with(7, Options::new().timeout(Duration::ZERO)).unwrap_err();
    /// assert_eq!(error.kind(), BeatErrorKind::ZeroTimeout);
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> BeatErrorKind {
        self.kind
    }

    /// The key that was not accepted.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<String>::builder().build()?;
    /// # watcher.close();
    /// let error = watcher.beat("db-1".to_owned()).unwrap_err();
    /// let line = format!("{}: {error}", error.key());
    /// assert_eq!(line, "db-1: the watcher is closed");
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The key that was not accepted, back.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<String>::builder().max_keys(1).build()?;
    /// watcher.beat("db-1".to_owned())?;
    /// let key = watcher.beat("db-2".to_owned()).unwrap_err().into_key();
    /// watcher.remove("db-1")?;
    /// watcher.flush()?;
    /// watcher.beat(key)?; // there is room now
    /// assert!(watcher.contains("db-2")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_key(self) -> K {
        self.key
    }
}

impl<K> fmt::Debug for BeatError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeatError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Display for BeatError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<K> Error for BeatError<K> {}

/// The keys of a `beat_many` that were not accepted, and why. All others were.
///
/// ```
/// use liveness::{BeatErrorKind, Watcher};
///
/// let watcher = Watcher::<u64>::builder().workers(1).max_keys(2).build()?;
/// let error = watcher.beat_many([1u64, 2, 3, 4]).unwrap_err();
/// assert_eq!(error.kind(), BeatErrorKind::Full);
/// assert!(error.to_string().starts_with("2 of the keys were not accepted"));
/// watcher.flush()?;
/// assert_eq!(watcher.len(), 2); // the others were
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BeatManyError<K> {
    /// Why; of several reasons, the first that came up.
    kind: BeatErrorKind,
    /// What was not accepted, in no order.
    keys: Vec<K>,
}

impl<K> BeatManyError<K> {
    /// Refuses `keys`.
    pub(crate) fn new(kind: BeatErrorKind, keys: Vec<K>) -> Self {
        BeatManyError { kind, keys }
    }

    /// Why the keys were not accepted; of several reasons, the first that came up.
    ///
    /// ```
    /// # use liveness::{BeatErrorKind, Watcher};
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// watcher.close();
    /// assert_eq!(watcher.beat_many([1u64, 2]).unwrap_err().kind(), BeatErrorKind::Closed);
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> BeatErrorKind {
        self.kind
    }

    /// The keys that were not accepted, back, in no order.
    ///
    /// ```
    /// # use liveness::Watcher;
    /// let watcher = Watcher::<u64>::builder().workers(1).max_keys(2).build()?;
    /// let error = watcher.beat_many([1u64, 2, 3, 4]).unwrap_err();
    /// let mut keys = error.into_keys();
    /// keys.sort();
    /// assert_eq!(keys, [3, 4]);
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn into_keys(self) -> Vec<K> {
        self.keys
    }
}

impl<K> fmt::Debug for BeatManyError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeatManyError")
            .field("kind", &self.kind)
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl<K> fmt::Display for BeatManyError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of the keys were not accepted: {}",
            self.keys.len(),
            self.kind
        )
    }
}

impl<K> Error for BeatManyError<K> {}

/// Why a call that waits for the workers' answer got none.
///
/// ```
/// use std::sync::{Arc, Weak, mpsc};
/// use liveness::{CallError, EventKind, Watcher};
///
/// let (sender, answers) = mpsc::channel();
/// let watcher = Arc::new_cyclic(|weak: &Weak<Watcher<u64>>| {
///     let weak = weak.clone();
///     Watcher::builder()
///         .events([EventKind::Joined])
///         .on_event_in_worker(move |_| drop(sender.send(weak.upgrade().map(|watcher| watcher.flush()))))
///         .build()
///         .expect("the options are in range")
/// });
/// watcher.beat(7)?;
/// assert_eq!(answers.recv()?, Some(Err(CallError::OnWorker)));
/// watcher.close();
/// assert_eq!(watcher.flush(), Err(CallError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallError {
    /// The watcher is closed.
    Closed,
    /// A worker ended by a panic in some key's `Eq`, `Clone` or `Drop`.
    WorkerFailed,
    /// The call was made on a worker thread, by a callback or sink that runs there: the answer would wait for itself.
    OnWorker,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::Closed => BeatErrorKind::Closed.message(),
            CallError::WorkerFailed => {
                "a worker was ended by a panic in a key's Eq, Clone or Drop; build a new watcher"
            }
            CallError::OnWorker => {
                "a worker cannot wait for its own answer; make the call from another thread, or use `on_event`"
            }
        })
    }
}

impl Error for CallError {}

/// Why a heart's beat counts for nothing any more.
///
/// ```
/// use std::time::Duration;
/// use liveness::{HeartError, ManualClock, Watcher};
///
/// let clock = ManualClock::new();
/// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
/// let (one, two) = (watcher.watch(1)?, watcher.watch(2)?);
/// watcher.remove(&1)?;
/// clock.advance(Duration::from_secs(10));
/// watcher.flush()?;
/// assert_eq!(one.beat(), Err(HeartError::Removed));
/// assert_eq!(two.beat(), Err(HeartError::Expired));
///
/// let (three, its_heir) = (watcher.watch(3)?, watcher.watch(3)?);
/// watcher.close();
/// assert_eq!(three.beat(), Err(HeartError::Replaced));
/// assert_eq!(its_heir.beat(), Err(HeartError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeartError {
    /// The key expired and was forgotten; `watch` it again to begin a new episode.
    Expired,
    /// The key was removed.
    Removed,
    /// A younger heart watches the key: somebody called `watch` for it again.
    Replaced,
    /// The watcher is closed, its worker failed, or there was no room for the key.
    Closed,
    /// The options set a timeout of zero.
    ZeroTimeout,
}

impl fmt::Display for HeartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeartError::Expired => "the key has expired; watch it again to begin a new episode",
            HeartError::Removed => "the key was removed",
            HeartError::Replaced => "a younger heart watches the key",
            HeartError::ZeroTimeout => "`timeout` must be greater than zero",
            HeartError::Closed => {
                "nobody watches: the watcher is closed, the key's worker has failed, or there was no room"
            }
        })
    }
}

impl Error for HeartError {}

/// A watcher that did not end in the time that [`close_timeout`](crate::Watcher::close_timeout) was given.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
/// use liveness::{EventKind, Watcher};
///
/// let (busy, hold) = mpsc::sync_channel(0);
/// let watcher = Watcher::<u64>::builder()
///     .workers(1)
///     .events([EventKind::Joined])
///     .on_event_in_worker(move |_| while busy.send(()).is_ok() {})
///     .build()?;
/// # let hold = hold; // so that a failed assertion lets go of the worker before it drops the watcher
/// watcher.beat(7)?;
/// hold.recv()?; // the worker is in the callback, and stays there while we hold it
/// let error = watcher.close_timeout(Duration::ZERO).unwrap_err();
/// assert_eq!(error.to_string(), "the watcher is closed, but a thread still runs: liveness-0");
/// assert!(error.stats().is_balanced());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseTimeout {
    /// The names of the threads that still run.
    threads: Vec<String>,
    /// The accounting so far.
    stats: Stats,
}

impl CloseTimeout {
    /// Reports that `threads` still run.
    pub(crate) fn new(threads: Vec<String>, stats: Stats) -> Self {
        CloseTimeout { threads, stats }
    }

    /// Returns the names of the threads that still run, as [`thread_name`](crate::Builder::thread_name) has it.
    ///
    /// ```
    /// # use std::{sync::mpsc, time::Duration};
    /// # use liveness::{EventKind, Watcher};
    /// # let (busy, hold) = mpsc::sync_channel(0);
    /// # let watcher = Watcher::<u64>::builder()
    /// #     .workers(1)
    /// #     .thread_name("pulse")
    /// #     .events([EventKind::Joined])
    /// #     .on_event_in_worker(move |_| while busy.send(()).is_ok() {})
    /// #     .build()?;
    /// # let hold = hold;
    /// # watcher.beat(7)?;
    /// # hold.recv()?;
    /// // A callback keeps the only worker of a watcher whose threads are called "pulse".
    /// let error = watcher.close_timeout(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.threads(), ["pulse-0"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn threads(&self) -> &[String] {
        &self.threads
    }

    /// Returns the accounting as of the workers' last rounds.
    ///
    /// ```
    /// # use std::{sync::mpsc, time::Duration};
    /// # use liveness::{EventKind, Watcher};
    /// # let (busy, hold) = mpsc::sync_channel(0);
    /// # let watcher = Watcher::<u64>::builder()
    /// #     .workers(1)
    /// #     .events([EventKind::Joined])
    /// #     .on_event(move |_| while busy.send(()).is_ok() {})
    /// #     .build()?;
    /// # let hold = hold;
    /// # watcher.beat(7)?;
    /// # hold.recv()?;
    /// // A callback keeps the delivery thread, and one key was watched.
    /// let error = watcher.close_timeout(Duration::from_millis(500)).unwrap_err();
    /// assert_eq!(error.stats().live, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

impl fmt::Display for CloseTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.threads.join(", ");
        match self.threads.len() {
            1 => write!(f, "the watcher is closed, but a thread still runs: {names}"),
            count => write!(
                f,
                "the watcher is closed, but {count} threads still run: {names}"
            ),
        }
    }
}

impl Error for CloseTimeout {}

/// Why a watcher could not be built.
///
/// ```
/// use liveness::{BuildError, Watcher};
///
/// match Watcher::<u64>::builder().workers(5_000).build() {
///     Err(BuildError::OutOfRange { option, given, max }) => {
///         assert_eq!((option, given, max), ("workers", 5_000, 1_024));
///     }
///     other => panic!("{other:?}"),
/// }
/// let error = Watcher::<u64>::builder().thread_name("no\0name").build().unwrap_err();
/// assert!(matches!(error, BuildError::ThreadName(name) if name == "no\0name"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The default timeout is zero: every key would expire at once.
    ZeroTimeout,
    /// An option that must be from 1 to `max` is not.
    OutOfRange {
        /// The builder's method.
        option: &'static str,
        /// What was given.
        given: usize,
        /// The largest value that makes sense.
        max: usize,
    },
    /// There is no memory for what an option has allocated ahead of time.
    OutOfMemory {
        /// The builder's method, or its argument.
        option: &'static str,
        /// What was given.
        given: usize,
    },
    /// The thread name has a zero byte in it.
    ThreadName(String),
    /// Two options say where events go.
    TwoSinks {
        /// The builder's method that was called first.
        first: &'static str,
        /// The one that was called after it, perhaps the same.
        second: &'static str,
    },
    /// A thread could not be spawned; those that were are gone again.
    Spawn {
        /// The name that the thread was to have.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::ZeroTimeout => {
                f.write_str("`timeout` is zero; give one of at least a nanosecond")
            }
            BuildError::OutOfRange { option, given, max } => {
                write!(f, "`{option}` is {given}; it must be from 1 to {max}")
            }
            BuildError::OutOfMemory { option, given } => {
                write!(f, "there is no memory for `{option}` of {given}; give less")
            }
            BuildError::ThreadName(name) => {
                write!(f, "`thread_name` has a zero byte in it: {name:?}")
            }
            BuildError::TwoSinks { first, second } if first == second => {
                write!(f, "`{first}` is given twice; a watcher has one sink")
            }
            BuildError::TwoSinks { first, second } => write!(
                f,
                "`{first}` and `{second}` are both given; a watcher has one sink"
            ),
            BuildError::Spawn { name, .. } => write!(f, "the thread {name:?} could not be spawned"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Spawn { source, .. } => Some(source),
            _ => None,
        }
    }
}
