//! A watch that processes share.

pub(crate) mod beater;
pub(crate) mod builder;
mod caller;
pub(crate) mod counts;
pub(crate) mod error;
mod keeper;
mod layout;
mod plan;
pub(crate) mod report;
mod script;
pub(crate) mod stats;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::beater::Beater;
use self::caller::{Caller, Watch, check_key, check_timeout};
use self::counts::SharedCounts;
use self::error::{CloseTimeout, WatchError};
use self::keeper::Keeper;
use self::stats::SharedStats;
use super::error::BuildError;
use crate::error::OptionError;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, Ordering};

/// For how long a drop waits for a callback that runs.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// Watches keys for many processes, and keeps what it knows in Redis.
///
/// Any process beats keys. A process that sets a callback with [`on_expired`](super::SharedBuilder::on_expired) is a
/// *keeper*; any number of them may run. Each key that is silent for longer than its timeout is reported at least once,
/// to one keeper, and is no longer watched then. It is watched again from its next beat. If that beat comes before the
/// report is delivered, the report is delivered nevertheless.
///
/// ```no_run
/// // Not run here, because it needs a server.
/// use std::time::Duration;
/// use liveness::redis::SharedWatcher;
///
/// let watch = SharedWatcher::builder("redis://127.0.0.1/", "devices")
///     .timeout(Duration::from_secs(30))
///     .on_expired(|expired| println!("{} is silent since {:?}", expired.key_text(), expired.silent_for()))
///     .build()?;
/// watch.beat("device-7")?;
/// assert!(watch.status("device-7")?.is_some());
/// assert_eq!(watch.status("device-8")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Guarantees
///
/// * **Never early** by the clock of Redis. Clocks of other machines do not matter.
/// * **At least once.** A keeper that takes a report has it for a [lease](super::SharedBuilder::lease), and prolongs it
///   while the callback runs. If the keeper ends without delivering it, another one takes the report, with a higher
///   [fence](super::Expired::fence). A report is delivered twice if its keeper ends between the callback and its next
///   call, or if it is stopped or cannot reach Redis for longer than the lease while another keeper can.
/// * **No report for an outage.** If nobody called a shard for longer than
///   [`outage_after`](super::SharedBuilder::outage_after), because Redis, or all keepers and beating processes, were
///   stopped or out of reach, all its deadlines are moved by that time and 3 s. The same holds if the clock of Redis
///   jumps.
/// * **Accounted for.** [`counts`](SharedWatcher::counts) returns an account that balances over all processes.
///
/// What Redis forgets is forgotten: keys whose beats were lost with its last writes are watched again from their next
/// beat. A network that separates beating processes from Redis, but not the keepers, is no outage: their keys are
/// reported.
///
/// # Cost
///
/// A beat is one call to Redis. [`beat_many`](SharedWatcher::beat_many) sends 200 keys with each call, and a
/// [`Beater`] gathers the beats of a process. A keeper calls each shard twice in each `outage_after`, and once for
/// each batch of at most 200 reports; with the defaults, that is 6.4 calls a second. The page `scale` of the
/// documentation has the measured cost of many keys.
///
/// The methods may be called from many threads, which share one connection. While Redis does not answer, a call takes
/// at most two times the connect and response timeouts, and further ones fail at once until the next attempt.
///
/// Dropping a watcher is the same as [`close_timeout`](SharedWatcher::close_timeout) with 5 s.
#[must_use = "dropping a watcher closes it"]
pub struct SharedWatcher {
    /// The watch.
    watch: Arc<Watch>,
    /// The connection of this handle.
    caller: Caller,
    /// The keeper, if this process is one.
    keeper: Option<Keeper>,
    /// Whether the watcher is closed.
    is_closed: AtomicBool,
    /// What the names of threads begin with.
    thread_name: String,
}

/// How a watched key stands, returned by [`SharedWatcher::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SharedStatus {
    /// Its timeout.
    pub timeout: Duration,
    /// The time until its deadline; zero if no keeper has taken it yet although its deadline has passed.
    pub remaining: Duration,
}

impl SharedWatcher {
    /// Creates the handle.
    fn new(watch: Arc<Watch>, caller: Caller, keeper: Option<Keeper>, thread_name: String) -> Self {
        SharedWatcher {
            watch,
            caller,
            keeper,
            is_closed: AtomicBool::new(false),
            thread_name,
        }
    }

    /// Records a sign of life of `key`, with the timeout of the watch: its deadline is moved to that time from now. A
    /// key that is not watched is watched from now on.
    ///
    /// Keys are byte strings of up to 1,024 bytes. Costs a call to Redis.
    ///
    /// # Errors
    ///
    /// Returns a [`WatchError`] if the key is too long, the server does not answer or refuses the call, or the watcher
    /// is closed. A beat may be repeated.
    pub fn beat(&self, key: impl AsRef<[u8]>) -> Result<(), WatchError> {
        self.beat_one(key.as_ref(), 0)
    }

    /// Records a sign of life of `key` like [`beat`](SharedWatcher::beat), with a timeout of its own, from 10 ms to 100
    /// years, which holds until its next beat.
    ///
    /// A timeout that is shorter than half of [`outage_after`](super::SharedBuilder::outage_after) may be noticed that
    /// much late. Keys with a timeout other than that of the watch take about twice the memory.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat), and [`WatchError::Option`] if the timeout is out of range.
    pub fn beat_with(&self, key: impl AsRef<[u8]>, timeout: Duration) -> Result<(), WatchError> {
        self.beat_one(key.as_ref(), check_timeout(timeout)?)
    }

    /// Records a sign of life of each of `keys`, with the timeout of the watch. Costs a call to Redis for each 200 keys
    /// of a shard.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat). Some of the keys may have been beaten then.
    pub fn beat_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), WatchError> {
        self.is_open()?;
        self.watch.in_batches(keys, |shard, keys| {
            self.watch.beat(&self.caller, shard, 0, keys)
        })
    }

    /// Ends the watch over `key` without a report. Returns whether it was watched. A report that a keeper has already
    /// taken is still delivered.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat).
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool, WatchError> {
        Ok(self.remove_many([key])? == 1)
    }

    /// Ends the watch over each of `keys` without a report. Returns how many were watched.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat). Some of the keys may have been removed then.
    pub fn remove_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64, WatchError> {
        self.is_open()?;
        let mut total = 0;
        self.watch.in_batches(keys, |shard, keys| {
            let call = self.watch.calls.remove(shard, keys);
            let [_, removed] = self.watch.make(&self.caller, &call)?;
            total += removed.unsigned_abs();
            Ok(())
        })?;
        Ok(total)
    }

    /// Returns how `key` stands, or `None` if it is not watched. Costs a call to Redis.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat).
    pub fn status(&self, key: impl AsRef<[u8]>) -> Result<Option<SharedStatus>, WatchError> {
        self.is_open()?;
        let key = key.as_ref();
        check_key(key)?;
        let shard = self.watch.calls.layout.shard_of(key);
        let call = self.watch.calls.status(shard, key);
        let [_, is_watched, timeout, remaining] = self.watch.make(&self.caller, &call)?;
        Ok((is_watched == 1).then(|| SharedStatus {
            timeout: Duration::from_micros(timeout.unsigned_abs()),
            remaining: Duration::from_micros(remaining.max(0).unsigned_abs()),
        }))
    }

    /// Returns the account of the watch over all processes. Costs a call to Redis for each shard, so the sum is exact
    /// only if nothing happens meanwhile; it balances nevertheless, because each shard does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`beat`](SharedWatcher::beat).
    pub fn counts(&self) -> Result<SharedCounts, WatchError> {
        self.is_open()?;
        self.watch.counts(&self.caller)
    }

    /// Returns what this process has done.
    #[must_use]
    pub fn stats(&self) -> SharedStats {
        self.watch.tally.stats()
    }

    /// Creates a [`Beater`] that sends each key at most once in `interval`, from 10 ms to half of the timeout. It has a
    /// thread and a connection of its own, and may outlive the watcher.
    ///
    /// # Errors
    ///
    /// Returns [`BuildError::Option`] if the interval is out of range, or [`BuildError::Spawn`] if the operating system
    /// cannot spawn the thread.
    pub fn beater(&self, interval: Duration) -> Result<Beater, BuildError> {
        let half = Duration::from_micros(self.watch.calls.settings.timeout / 2);
        let is_in_range = (Duration::from_millis(10)..=half).contains(&interval);
        OptionError::check(
            "interval",
            "be from 10 ms to half of the timeout",
            is_in_range,
        )?;
        let name = format!("{}-beater", self.thread_name);
        Beater::spawn(self.watch.clone(), interval, name).map_err(BuildError::Spawn)
    }

    /// Closes the watcher and returns the final statistics. Keys stay watched, by other keepers.
    ///
    /// Further calls return [`WatchError::Closed`]. A keeper takes no further reports. Blocks until the callback that
    /// runs has returned. Reports that were not delivered are given back, and other keepers take them at once.
    ///
    /// May be called several times. When called from the callback, it does not wait.
    pub fn close(&self) -> SharedStats {
        self.end(None);
        self.stats()
    }

    /// Closes the watcher like [`close`](SharedWatcher::close), but blocks for at most `wait`. The threads end as soon
    /// as they can afterwards.
    ///
    /// # Errors
    ///
    /// Returns a [`CloseTimeout`] with the names of the threads that still run and the statistics so far.
    pub fn close_timeout(&self, wait: Duration) -> Result<SharedStats, CloseTimeout> {
        let threads = self.end(Instant::now().checked_add(wait));
        let stats = self.stats();
        if threads.is_empty() {
            Ok(stats)
        } else {
            Err(CloseTimeout { threads, stats })
        }
    }

    /// Beats one key; `timeout` us is zero for that of the watch.
    fn beat_one(&self, key: &[u8], timeout: u64) -> Result<(), WatchError> {
        self.is_open()?;
        check_key(key)?;
        let shard = self.watch.calls.layout.shard_of(key);
        self.watch.beat(&self.caller, shard, timeout, &[key])
    }

    /// Returns an error if the watcher is closed.
    fn is_open(&self) -> Result<(), WatchError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(WatchError::Closed);
        }
        Ok(())
    }

    /// Closes, waits for the threads until `deadline`, and returns the names of those that still run.
    fn end(&self, deadline: Option<Instant>) -> Vec<String> {
        self.is_closed.store(true, Ordering::Relaxed);
        self.keeper.as_ref().map_or_else(Vec::new, |keeper| {
            keeper.stop();
            keeper.join(deadline)
        })
    }
}

impl Drop for SharedWatcher {
    fn drop(&mut self) {
        self.end(Instant::now().checked_add(DROP_WAIT));
    }
}

impl fmt::Debug for SharedWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWatcher")
            .field("name", &self.watch.name)
            .field("is_keeper", &self.keeper.is_some())
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}
