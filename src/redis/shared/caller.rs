//! Calls of the threads of the user, on one connection.

use std::time::Duration;

use super::counts::SharedCounts;
use super::error::{MAX_KEY, WatchError};
use super::script::{BATCH, Call, Calls, counted, numbers};
use super::stats::Tally;
use crate::error::OptionError;
use crate::redis::link::{Endpoint, Line, LinkError, Value};
use crate::sync::{Instant, Mutex};

/// The least timeout of a key.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// The longest timeout: deadlines in us must be exact as the scores of a sorted set.
const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// A connection that threads share, which fails at once while the server is out of reach.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The connection, and until when no call is attempted.
    line: Mutex<(Line, Option<Instant>)>,
}

impl Caller {
    /// Creates a caller, which connects at the first call.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Caller {
            line: Mutex::new((Line::new(endpoint), None)),
        }
    }

    /// Makes `call`, and again if its connection was lost since the last one. All calls may be made twice.
    ///
    /// A thread that finds the server out of reach makes the others wait no longer than itself: until the time for the
    /// next attempt, their calls fail at once.
    pub(crate) fn make(&self, call: &Call) -> Result<Value, LinkError> {
        let (line, closed_until) = &mut *self.line.lock();
        if closed_until.is_some_and(|until| Instant::now() < until) {
            return Err(LinkError::Lost(
                "it did not answer the last call".to_owned(),
            ));
        }
        let was_well = line.backoff().is_zero();
        let mut made = line.run(call.script, &call.command);
        if was_well && made.as_ref().is_err_and(LinkError::is_passing) {
            made = line.run(call.script, &call.command);
        }
        let backoff = line.backoff();
        *closed_until = (!backoff.is_zero()).then(|| Instant::now() + backoff);
        made
    }

    /// Returns the time until the next attempt, after a call found the server out of reach.
    pub(crate) fn wait(&self) -> Duration {
        let until = self.line.lock().1;
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

/// A watch as its calls see it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its name.
    pub(crate) name: String,
    /// Its calls.
    pub(crate) calls: Calls,
    /// The server.
    pub(crate) endpoint: Endpoint,
    /// What is counted.
    pub(crate) tally: Tally,
}

impl Watch {
    /// Makes `call` by `caller` and reads its reply, which begins with by how much the deadlines were moved.
    pub(crate) fn make<const N: usize>(
        &self,
        caller: &Caller,
        call: &Call,
    ) -> Result<[i64; N], WatchError> {
        let reply = self.counted(caller.make(call).and_then(numbers::<N>))?;
        self.tally.moved(&self.name, reply[0].unsigned_abs());
        Ok(reply)
    }

    /// Counts a call that failed.
    fn counted<T>(&self, made: Result<T, LinkError>) -> Result<T, WatchError> {
        if made.is_err() {
            self.tally.count(|stats| stats.failed_calls += 1);
        }
        Ok(made?)
    }

    /// Beats keys of one shard, at most [`BATCH`].
    pub(crate) fn beat<K: AsRef<[u8]>>(
        &self,
        caller: &Caller,
        shard: usize,
        timeout: u64,
        keys: &[K],
    ) -> Result<(), WatchError> {
        self.make::<2>(caller, &self.calls.beat(shard, timeout, keys))?;
        self.tally.count(|stats| stats.beats += keys.len() as u64);
        Ok(())
    }

    /// Passes `keys` to `call` in batches of one shard.
    pub(crate) fn in_batches<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut call: impl FnMut(usize, &[K]) -> Result<(), WatchError>,
    ) -> Result<(), WatchError> {
        let mut batches: Vec<Vec<K>> = Vec::new();
        batches.resize_with(self.calls.layout.shards(), Vec::new);
        for key in keys {
            check_key(key.as_ref())?;
            let shard = self.calls.layout.shard_of(key.as_ref());
            let batch = &mut batches[shard];
            batch.push(key);
            if batch.len() == BATCH {
                call(shard, batch)?;
                batch.clear();
            }
        }
        for (shard, batch) in batches.iter().enumerate() {
            if !batch.is_empty() {
                call(shard, batch)?;
            }
        }
        Ok(())
    }

    /// Adds up the accounts of all shards.
    pub(crate) fn counts(&self, caller: &Caller) -> Result<SharedCounts, WatchError> {
        let mut total = SharedCounts::default();
        for shard in 0..self.calls.layout.shards() {
            let call = self.calls.counts(shard);
            let (moved, counts) = self.counted(caller.make(&call).and_then(counted))?;
            self.tally.moved(&self.name, moved.unsigned_abs());
            total.add(&counts);
        }
        Ok(total)
    }
}

/// Checks the length of a key.
pub(crate) fn check_key(key: &[u8]) -> Result<(), WatchError> {
    let len = key.len();
    if len > MAX_KEY {
        return Err(WatchError::KeyTooLong { len });
    }
    Ok(())
}

/// Checks a timeout, and returns it in us.
pub(crate) fn check_timeout(timeout: Duration) -> Result<u64, OptionError> {
    let is_in_range = (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout);
    OptionError::check("timeout", "be from 10 ms to 100 years", is_in_range)?;
    Ok(micros(timeout))
}

/// Returns whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}
