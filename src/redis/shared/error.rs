//! Why a call of a shared watch failed.

use std::error::Error;
use std::fmt;

use super::stats::SharedStats;
use crate::error::OptionError;
use crate::redis::link::LinkError;

/// The maximum length of a key, in bytes.
pub(crate) const MAX_KEY: usize = 1_024;

/// The error of a call of a [`SharedWatcher`](super::SharedWatcher) or a [`Beater`](super::Beater).
///
/// ```
/// use liveness::redis::WatchError;
///
/// let error = WatchError::KeyTooLong { len: 2_000 };
/// assert_eq!(error.to_string(), "the key has 2000 bytes; it must have at most 1024");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// The watcher or the beater is closed.
    Closed,
    /// The key is too long.
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An argument is out of its range.
    Option(OptionError),
    /// As many keys as a beater holds wait to be sent.
    Full,
    /// The server did not answer. The call may or may not have had its effect; all calls may be repeated. While the
    /// server cannot be reached, most calls return this at once, without an attempt to connect.
    Unreachable {
        /// The error of the connection.
        reason: String,
    },
    /// The server refused the call, which had no effect.
    Refused {
        /// The error of the server.
        reason: String,
    },
    /// The watch was stored with another number of shards.
    Shards {
        /// The number that is stored.
        stored: String,
    },
}

impl From<LinkError> for WatchError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Server { code, text } if code == "SHARDS" => {
                WatchError::Shards { stored: text }
            }
            error if error.is_passing() => WatchError::Unreachable {
                reason: error.to_string(),
            },
            error => WatchError::Refused {
                reason: error.to_string(),
            },
        }
    }
}

impl From<OptionError> for WatchError {
    fn from(error: OptionError) -> Self {
        WatchError::Option(error)
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchError::Closed => f.write_str("the watcher is closed"),
            WatchError::KeyTooLong { len } => {
                write!(f, "the key has {len} bytes; it must have at most {MAX_KEY}")
            }
            WatchError::Option(error) => error.fmt(f),
            WatchError::Full => f.write_str(
                "too many keys wait to be sent; the server is slow or cannot be reached",
            ),
            WatchError::Unreachable { reason } => {
                write!(f, "the server cannot be reached: {reason}")
            }
            WatchError::Refused { reason } => write!(f, "the server refused the call: {reason}"),
            WatchError::Shards { stored } => write!(
                f,
                "the watch is stored with {stored} shards; all processes must set the same number"
            ),
        }
    }
}

impl Error for WatchError {}

/// The error of [`SharedWatcher::close_timeout`](super::SharedWatcher::close_timeout) when threads have not ended in
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseTimeout {
    /// The names of the threads that still run.
    pub threads: Vec<String>,
    /// The statistics so far.
    pub stats: SharedStats,
}

impl fmt::Display for CloseTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.threads.join(", ");
        write!(
            f,
            "the watcher is closed, but these threads still run: {threads}"
        )
    }
}

impl Error for CloseTimeout {}
