//! A beater: gathers the beats of a process and sends each key at most once in an interval.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Watch, check_key, check_timeout};
use super::error::WatchError;
use super::script::BATCH;
use crate::log::warn;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex};

/// The maximum number of keys that wait to be sent. Each takes about 100 bytes.
const MAX_PENDING: usize = 1_000_000;

/// The most parts of an interval. The shards take turns, so that the traffic is even.
const MAX_PARTS: usize = 64;

/// The least wait after a call that failed.
const MIN_WAIT: Duration = Duration::from_millis(20);

/// How long to wait after the server refused a call, which an operator must mend.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// The keys of a shard that wait to be sent, with their timeouts, us.
type Pending = HashMap<Box<[u8]>, u64, ahash::RandomState>;

/// Beats keys for a whole process: any number of threads [`beat`](Beater::beat) any number of keys, and one background
/// thread sends each key that was beaten at most once in an interval, in batches of 200.
///
/// Created by [`SharedWatcher::beater`](super::SharedWatcher::beater). Dropping it is the same as
/// [`close`](Beater::close).
///
/// A key is watched from the first time that it is sent, which is at most one interval after its first beat. Its
/// deadline counts from when it is sent, so the interval adds to how long a silent key takes to be reported: choose a
/// third of the timeout or less. While the server does not answer, keys wait, at most 1,000,000 of them, and are sent
/// when it answers again.
///
/// ```no_run
/// // Not run here, because it needs a server.
/// use std::time::Duration;
/// use liveness::redis::SharedWatcher;
///
/// let watch = SharedWatcher::builder("redis://127.0.0.1/", "devices").build()?;
/// let beater = watch.beater(Duration::from_secs(5))?;
/// for packet in 0..1_000_000u32 {
///     beater.beat(format!("device-{}", packet % 100))?; // at most 100 keys are sent each 5 s
/// }
/// beater.flush()?;
/// assert_eq!(watch.counts()?.watched, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a beater ends it"]
pub struct Beater {
    /// What the threads share.
    inner: Arc<Inner>,
    /// The background thread, until it is joined.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the threads share.
struct Inner {
    /// The watch.
    watch: Arc<Watch>,
    /// The connection.
    caller: Caller,
    /// The interval.
    interval: Duration,
    /// For each shard, the keys that wait.
    pending: Vec<Mutex<Pending>>,
    /// How many keys wait.
    count: AtomicUsize,
    /// Calls of `beat` that were accepted.
    beats: AtomicU64,
    /// Keys that were sent.
    sent: AtomicU64,
    /// Calls to the server that failed.
    failed_calls: AtomicU64,
    /// Beats that were refused because too many keys waited.
    refused: AtomicU64,
    /// Whether the beater is closed.
    is_closed: AtomicBool,
    /// Held while the flag above is set, and while the thread decides to sleep.
    sleep: Mutex<()>,
    /// Notified when the beater is closed.
    wake: Condvar,
}

/// What a [`Beater`] has done, returned by [`Beater::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BeaterStats {
    /// Beats that were accepted.
    pub beats: u64,
    /// Keys that were sent. A key counts each time.
    pub sent: u64,
    /// Keys that wait to be sent.
    pub pending: usize,
    /// Beats that were refused because too many keys waited.
    pub refused: u64,
    /// Calls that the server did not answer, or refused. Their keys wait for the next attempt.
    pub failed_calls: u64,
}

impl fmt::Display for BeaterStats {
    /// Writes the numbers on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} beats, {} sent, {} pending, {} refused, {} failed calls",
            self.beats, self.sent, self.pending, self.refused, self.failed_calls
        )
    }
}

impl Beater {
    /// Spawns the thread.
    pub(crate) fn spawn(watch: Arc<Watch>, interval: Duration, name: String) -> io::Result<Self> {
        let shards = watch.calls.layout.shards();
        let inner = Arc::new(Inner {
            caller: Caller::new(watch.endpoint.clone()),
            watch,
            interval,
            pending: std::iter::repeat_with(Mutex::default)
                .take(shards)
                .collect(),
            count: AtomicUsize::new(0),
            beats: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failed_calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let body = inner.clone();
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || body.run())?;
        Ok(Beater {
            inner,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Records a sign of life of `key`, with the timeout of the watch. Takes a lock that threads with keys of other
    /// shards do not share, and allocates if the key does not wait already. Never waits for the server.
    ///
    /// # Errors
    ///
    /// Returns [`WatchError::KeyTooLong`], [`WatchError::Full`] if 1,000,000 other keys wait, or
    /// [`WatchError::Closed`].
    pub fn beat(&self, key: impl AsRef<[u8]>) -> Result<(), WatchError> {
        self.inner.beat(key.as_ref(), 0)
    }

    /// Records a sign of life of `key`, which expires when it is silent for longer than `timeout`, from 10 ms to 100
    /// years.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](Beater::beat), and [`WatchError::Option`] if the timeout is out of range.
    pub fn beat_with(&self, key: impl AsRef<[u8]>, timeout: Duration) -> Result<(), WatchError> {
        self.inner.beat(key.as_ref(), check_timeout(timeout)?)
    }

    /// Sends all keys that wait, on the calling thread.
    ///
    /// # Errors
    ///
    /// Returns the error of the server. The keys that were not sent wait for the next attempt.
    pub fn flush(&self) -> Result<(), WatchError> {
        self.inner.send_all()
    }

    /// Returns the statistics.
    #[must_use]
    pub fn stats(&self) -> BeaterStats {
        let inner = &*self.inner;
        BeaterStats {
            beats: inner.beats.load(Ordering::Relaxed),
            sent: inner.sent.load(Ordering::Relaxed),
            pending: inner.count.load(Ordering::Relaxed),
            refused: inner.refused.load(Ordering::Relaxed),
            failed_calls: inner.failed_calls.load(Ordering::Relaxed),
        }
    }

    /// Refuses further beats, sends the keys that wait in one attempt, ends the thread, and returns the final
    /// statistics. Keys that could not be sent are counted as pending. Blocks for at most the time that a call of the
    /// thread takes to fail, and that of the last attempt.
    pub fn close(&self) -> BeaterStats {
        {
            let _sleep = self.inner.sleep.lock();
            self.inner.is_closed.store(true, Ordering::Relaxed);
        }
        self.inner.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        self.stats()
    }
}

impl Drop for Beater {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Beater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beater")
            .field("watch", &self.inner.watch.name)
            .field("interval", &self.inner.interval)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Adds a key to those that wait; `timeout` us is zero for that of the watch.
    fn beat(&self, key: &[u8], timeout: u64) -> Result<(), WatchError> {
        check_key(key)?;
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(WatchError::Closed);
        }
        let shard = self.watch.calls.layout.shard_of(key);
        let mut pending = self.pending[shard].lock();
        if let Some(waiting) = pending.get_mut(key) {
            *waiting = timeout;
        } else if self.count.load(Ordering::Relaxed) >= MAX_PENDING {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(WatchError::Full);
        } else {
            pending.insert(key.into(), timeout);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        drop(pending);
        self.beats.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends the keys of `shard`. Those that could not be sent wait again, unless they were beaten meanwhile.
    fn send(&self, shard: usize) -> Result<(), WatchError> {
        let taken = std::mem::take(&mut *self.pending[shard].lock());
        if taken.is_empty() {
            return Ok(());
        }
        self.count.fetch_sub(taken.len(), Ordering::Relaxed);
        let mut groups: BTreeMap<u64, Vec<Box<[u8]>>> = BTreeMap::new();
        for (key, timeout) in taken {
            groups.entry(timeout).or_default().push(key);
        }
        let mut result = Ok(());
        for (timeout, mut keys) in groups {
            while result.is_ok() && !keys.is_empty() {
                let rest = keys.len().saturating_sub(BATCH);
                result = self.watch.beat(&self.caller, shard, timeout, &keys[rest..]);
                if result.is_ok() {
                    self.sent
                        .fetch_add((keys.len() - rest) as u64, Ordering::Relaxed);
                    keys.truncate(rest);
                }
            }
            self.put_back(shard, timeout, keys);
        }
        if result.is_err() {
            self.failed_calls.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Lets keys wait again.
    fn put_back(&self, shard: usize, timeout: u64, keys: Vec<Box<[u8]>>) {
        let mut pending = self.pending[shard].lock();
        let before = pending.len();
        for key in keys {
            pending.entry(key).or_insert(timeout);
        }
        let added = pending.len() - before;
        self.count.fetch_add(added, Ordering::Relaxed);
    }

    /// Sends the keys of all shards, up to the first error.
    fn send_all(&self) -> Result<(), WatchError> {
        (0..self.pending.len()).try_for_each(|shard| self.send(shard))
    }

    /// Sends the shards in turn, each once in an interval, until the beater is closed.
    fn run(&self) {
        let shards = self.pending.len();
        let parts = shards.min(MAX_PARTS);
        let step = self.interval / u32::try_from(parts).unwrap_or(u32::MAX);
        let mut at = Instant::now();
        let mut is_well = true;
        'turns: loop {
            for part in 0..parts {
                at += step;
                if self.sleep_until(at) {
                    break 'turns;
                }
                for shard in (part..shards).step_by(parts) {
                    while let Err(error) = self.send(shard) {
                        if std::mem::take(&mut is_well) {
                            let name = &self.watch.name;
                            warn!("the beater of the watch `{name}` cannot send: {error}");
                        }
                        let wait = match error {
                            WatchError::Unreachable { .. } => self.caller.wait().max(MIN_WAIT),
                            _ => REFUSED_WAIT,
                        };
                        if self.sleep_until(Instant::now() + wait) {
                            break 'turns;
                        }
                    }
                    is_well = true;
                }
            }
            // After an outage, the turns that were missed are made up for once, and not one by one.
            at = at.max(Instant::now());
        }
        // What waits now is sent in one attempt; its error is in the statistics.
        let _ = self.send_all();
    }

    /// Sleeps until `time`. Returns whether the beater is closed.
    fn sleep_until(&self, time: Instant) -> bool {
        let mut sleep = self.sleep.lock();
        loop {
            if self.is_closed.load(Ordering::Relaxed) {
                return true;
            }
            if Instant::now() >= time {
                return false;
            }
            self.wake.wait_until(&mut sleep, time);
        }
    }
}
