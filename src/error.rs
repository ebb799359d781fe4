//! One small error per operation. An error about a key returns the key.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use crate::stats::Stats;

/// The reason why a beat was refused.
///
/// ```
/// use liveness::{BeatErrorKind, Watcher};
///
/// let watcher = Watcher::<u64>::builder().max_keys(1).build()?;
/// watcher.beat(1)?;
/// let error = watcher.beat(2).unwrap_err();
/// let advice = match error.kind() {
///     BeatErrorKind::Full => "reject the client",
///     BeatErrorKind::InboxFull | BeatErrorKind::TimedOut => "try again",
///     BeatErrorKind::Closed | BeatErrorKind::WorkerFailed => "give up",
///     _ => "correct the caller",
/// };
/// assert_eq!(advice, "reject the client");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BeatErrorKind {
    /// The watcher is closed.
    Closed,
    /// The worker of the key has failed: `Eq`, `Clone` or `Drop` of a key panicked on it.
    WorkerFailed,
    /// The key is not watched, and the watcher already holds [`max_keys`](crate::Builder::max_keys) keys.
    Full,
    /// The inbox of the key's worker is full, and the call does not wait.
    InboxFull,
    /// The inbox of the key's worker stayed full for the whole wait.
    TimedOut,
    /// The timeout given with the key is zero.
    ZeroTimeout,
}

impl BeatErrorKind {
    /// Writes what is wrong and what would be right. `keys` describes the refused keys, and `whose` is its possessive.
    fn describe(self, f: &mut fmt::Formatter<'_>, keys: &str, whose: &str) -> fmt::Result {
        match self {
            BeatErrorKind::Closed => f.write_str(CLOSED),
            BeatErrorKind::WorkerFailed => write!(f, "{whose} worker has failed{FAILED}"),
            BeatErrorKind::Full => {
                write!(
                    f,
                    "{keys} new and the watcher already holds `max_keys` keys"
                )
            }
            BeatErrorKind::InboxFull => write!(
                f,
                "the inbox of {whose} worker is full; try again, or use a call that waits"
            ),
            BeatErrorKind::TimedOut => {
                write!(
                    f,
                    "the inbox of {whose} worker stayed full for the whole wait"
                )
            }
            BeatErrorKind::ZeroTimeout => f.write_str(ZERO_TIMEOUT),
        }
    }
}

/// The text of an error about a closed watcher.
const CLOSED: &str = "the watcher is closed";

/// The text of an error about a failed worker, with the remedy.
const FAILED: &str = ": `Eq`, `Clone` or `Drop` of a key panicked on it; build a new watcher";

/// The text of an error about a timeout of zero.
const ZERO_TIMEOUT: &str = "`timeout` must be greater than zero";

impl fmt::Display for BeatErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f, "the key is", "the key's")
    }
}

/// The error of a beat that was refused, with the key and the reason.
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
    /// The reason.
    kind: BeatErrorKind,
    /// The key that was refused.
    key: K,
}

impl<K> BeatError<K> {
    /// Creates the error of the refused `key`.
    pub(crate) fn new(kind: BeatErrorKind, key: K) -> Self {
        BeatError { kind, key }
    }

    /// Returns the reason.
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

    /// Returns the key that was refused.
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

    /// Converts the error into the key that was refused.
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

/// The error of a [`beat_many`](crate::Watcher::beat_many) some of whose beats were refused, with their keys and the
/// reason. All other beats were accepted.
///
/// Iterating over the error yields the keys.
///
/// ```
/// use liveness::{BeatErrorKind, Watcher};
///
/// let watcher = Watcher::<u64>::builder().workers(1).max_keys(2).build()?;
/// let error = watcher.beat_many([1, 2, 3, 4]).unwrap_err();
/// assert_eq!(error.kind(), BeatErrorKind::Full);
/// assert!(error.to_string().starts_with("2 keys were refused: "));
/// watcher.flush()?;
/// assert_eq!(watcher.len(), 2); // the other beats were accepted
/// for key in error {
///     assert!(!watcher.contains(&key)?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BeatManyError<K> {
    /// The reason; if there are several, that of the first refused beat.
    kind: BeatErrorKind,
    /// The keys that were refused, in no particular order.
    keys: Vec<K>,
}

impl<K> BeatManyError<K> {
    /// Creates the error of the refused `keys`.
    pub(crate) fn new(kind: BeatErrorKind, keys: Vec<K>) -> Self {
        BeatManyError { kind, keys }
    }

    /// Returns the reason. If there are several, it is that of the first beat that was refused.
    ///
    /// ```
    /// # use liveness::{BeatErrorKind, Watcher};
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// watcher.close();
    /// assert_eq!(watcher.beat_many([1, 2]).unwrap_err().kind(), BeatErrorKind::Closed);
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> BeatErrorKind {
        self.kind
    }

    /// Converts the error into the keys that were refused, in no particular order.
    ///
    /// ```
    /// # use liveness::Watcher;
    /// let watcher = Watcher::<u64>::builder().workers(1).max_keys(2).build()?;
    /// let error = watcher.beat_many([1, 2, 3, 4]).unwrap_err();
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
        match self.keys.len() {
            1 => {
                f.write_str("1 key was refused: ")?;
                self.kind.describe(f, "it is", "its")
            }
            count => {
                write!(f, "{count} keys were refused: ")?;
                self.kind.describe(f, "they are", "their")
            }
        }
    }
}

impl<K> IntoIterator for BeatManyError<K> {
    type Item = K;
    type IntoIter = std::vec::IntoIter<K>;

    /// Returns an iterator over the keys that were refused, in no particular order.
    fn into_iter(self) -> Self::IntoIter {
        self.keys.into_iter()
    }
}

impl<K> Error for BeatManyError<K> {}

/// The error of a call that waits for an answer of the workers.
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
    /// A worker has failed: `Eq`, `Clone` or `Drop` of a key panicked on it.
    WorkerFailed,
    /// The call was made on a worker thread, by a callback or sink that runs there. The worker would wait for itself.
    OnWorker,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Closed => f.write_str(CLOSED),
            CallError::WorkerFailed => write!(f, "a worker has failed{FAILED}"),
            CallError::OnWorker => f.write_str(
                "a callback or sink on a worker cannot wait for the workers; call from another thread, or use \
                 `on_event`",
            ),
        }
    }
}

impl Error for CallError {}

/// The error of a beat of a [`Heart`](crate::Heart) that no longer keeps its key alive.
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
/// let (old, new) = (watcher.watch(3)?, watcher.watch(3)?);
/// watcher.close();
/// assert_eq!(old.beat(), Err(HeartError::Replaced));
/// assert_eq!(new.beat(), Err(HeartError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeartError {
    /// The key expired and was forgotten. Another call to [`watch`](crate::Watcher::watch) begins a new episode.
    Expired,
    /// The key was removed.
    Removed,
    /// A later call to [`watch`](crate::Watcher::watch) created another heart of the key.
    Replaced,
    /// The watcher is closed, the key's worker has failed, or there was no room for the key.
    Closed,
    /// The options contain a timeout of zero.
    ZeroTimeout,
}

impl fmt::Display for HeartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeartError::Expired => "the key has expired; call `watch` to begin a new episode",
            HeartError::Removed => "the key was removed",
            HeartError::Replaced => "another call to `watch` replaced this heart",
            HeartError::ZeroTimeout => ZERO_TIMEOUT,
            HeartError::Closed => {
                "the watcher is closed, the key's worker has failed, or `max_keys` left no room for the key"
            }
        })
    }
}

impl Error for HeartError {}

/// The error of [`close_timeout`](crate::Watcher::close_timeout) when threads have not ended in time.
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
/// # let hold = hold; // dropped before the watcher if an assertion fails, so that the worker can end
/// watcher.beat(7)?;
/// hold.recv()?; // the worker is in the callback, and stays there until `hold` is dropped
/// let error = watcher.close_timeout(Duration::ZERO).unwrap_err();
/// assert_eq!(error.to_string(), "the watcher is closed, but a thread still runs: liveness-0");
/// assert!(error.stats().is_balanced());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseTimeout {
    /// The names of the threads that still run.
    threads: Vec<String>,
    /// The statistics so far.
    stats: Stats,
}

impl CloseTimeout {
    /// Creates the error that `threads` still run.
    pub(crate) fn new(threads: Vec<String>, stats: Stats) -> Self {
        CloseTimeout { threads, stats }
    }

    /// Returns the names of the threads that still run, which begin with [`thread_name`](crate::Builder::thread_name).
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
    /// // A callback blocks the only worker of a watcher whose threads are named "pulse".
    /// let error = watcher.close_timeout(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.threads(), ["pulse-0"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn threads(&self) -> &[String] {
        &self.threads
    }

    /// Returns the statistics as of the workers' last rounds.
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
    /// // A callback blocks the delivery thread, and one key was watched.
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

/// The error of an option that is out of range. Its `Display` names the option and the valid range.
///
/// ```
/// use std::time::Duration;
/// use liveness::{BuildError, Watcher};
///
/// let error = Watcher::<u64>::builder().timeout(Duration::ZERO).build().unwrap_err();
/// let BuildError::Option(error) = error else { panic!("{error}") };
/// assert_eq!(error.option(), "timeout");
/// assert_eq!(error.to_string(), "`timeout` must be greater than zero");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// The builder's method, or the argument of one.
    option: &'static str,
    /// The requirement, which completes the sentence "`option` must …".
    must: Cow<'static, str>,
}

impl OptionError {
    /// Reports that `option` must `must`, such as "be at most 3".
    pub(crate) fn new(option: &'static str, must: impl Into<Cow<'static, str>>) -> Self {
        let must = must.into();
        OptionError { option, must }
    }

    /// Checks that `option` is greater than zero, as `is_so` says.
    pub(crate) fn positive(option: &'static str, is_so: bool) -> Result<(), OptionError> {
        OptionError::check(option, "be greater than zero", is_so)
    }

    /// Checks that `option` is what it `must`, as `is_so` says.
    pub(crate) fn check(
        option: &'static str,
        must: &'static str,
        is_so: bool,
    ) -> Result<(), OptionError> {
        if is_so {
            Ok(())
        } else {
            Err(OptionError::new(option, must))
        }
    }

    /// Returns the name of the option: the builder's method, or the argument of one. An option of another type is named
    /// with that type, such as `Guard::window`.
    #[must_use]
    pub fn option(&self) -> &'static str {
        self.option
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` must {}", self.option, self.must)
    }
}

impl Error for OptionError {}

impl From<OptionError> for BuildError {
    fn from(error: OptionError) -> Self {
        BuildError::Option(error)
    }
}

/// The error of building a watcher.
///
/// ```
/// use liveness::{BuildError, Watcher};
///
/// match Watcher::<u64>::builder().workers(5_000).build() {
///     Err(BuildError::Option(error)) => {
///         assert_eq!(error.option(), "workers");
///         assert_eq!(error.to_string(), "`workers` must be at most 1024, not 5000");
///     }
///     other => panic!("{other:?}"),
/// }
/// let error = Watcher::<u64>::builder().thread_name("no\0name").build().unwrap_err();
/// assert_eq!(error.to_string(), "`thread_name` must not contain a zero byte, as \"no\\0name\" does");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of its range.
    Option(OptionError),
    /// There is not enough memory for what an option allocates ahead of time.
    OutOfMemory {
        /// The setter of the builder, or the argument of one.
        option: &'static str,
        /// The value that was given.
        given: usize,
    },
    /// Two options state where events go.
    TwoSinks {
        /// The setter that was called first.
        first: &'static str,
        /// The setter that was called later, possibly the same one.
        second: &'static str,
    },
    /// A thread could not be spawned. The threads that were spawned before it have ended.
    Spawn {
        /// The name of the thread.
        name: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Option(error) => error.fmt(f),
            BuildError::OutOfMemory { option, given } => {
                write!(
                    f,
                    "`{option}` is {given}, for which there is not enough memory"
                )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_keys_agrees_with_their_number() {
        let message = |kind, count| BeatManyError::new(kind, vec![7u64; count]).to_string();
        let full = BeatErrorKind::Full;
        assert_eq!(
            BeatError::new(full, 7u64).to_string(),
            "the key is new and the watcher already holds `max_keys` keys"
        );
        assert_eq!(
            message(full, 1),
            "1 key was refused: it is new and the watcher already holds `max_keys` keys"
        );
        assert_eq!(
            message(full, 3),
            "3 keys were refused: they are new and the watcher already holds `max_keys` keys"
        );
        assert_eq!(
            message(BeatErrorKind::Closed, 3),
            "3 keys were refused: the watcher is closed"
        );
        assert_eq!(
            message(BeatErrorKind::InboxFull, 2),
            "2 keys were refused: the inbox of their worker is full; try again, or use a call that waits"
        );
    }

    #[test]
    fn a_message_names_the_option_or_the_call_that_matters() {
        assert_eq!(
            BeatErrorKind::ZeroTimeout.to_string(),
            "`timeout` must be greater than zero"
        );
        assert_eq!(
            HeartError::Replaced.to_string(),
            "another call to `watch` replaced this heart"
        );
        assert_eq!(
            HeartError::Expired.to_string(),
            "the key has expired; call `watch` to begin a new episode"
        );
        assert_eq!(
            CallError::OnWorker.to_string(),
            "a callback or sink on a worker cannot wait for the workers; call from another thread, or use `on_event`"
        );
    }
}
