//! Why a part of this module cannot start.

use std::error::Error;
use std::fmt;
use std::io;

use super::link::LinkError;
use crate::error::OptionError;

/// The error of a server that cannot be used.
///
/// ```
/// use liveness::redis::ConnectError;
///
/// let error = ConnectError::Eviction { policy: "allkeys-lru".to_owned() };
/// assert_eq!(
///     error.to_string(),
///     "the server evicts keys (`maxmemory-policy` is allkeys-lru), which loses data; set it to `noeviction`"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be read.
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached, did not answer in time, or refused the connection.
    Connect {
        /// The error of the connection or of the server.
        reason: String,
    },
    /// The server still loads its data set.
    Loading,
    /// The server is too old.
    Version {
        /// The server and its version, such as `Redis 6.2.14`.
        found: String,
        /// The oldest version that can be used.
        needed: &'static str,
    },
    /// The server evicts keys that have no expiry when its memory is full.
    Eviction {
        /// Its `maxmemory-policy`.
        policy: String,
    },
    /// The server is a replica, which accepts no writes.
    Replica {
        /// Its master, as `host:port`, if it is known.
        master: Option<String>,
    },
    /// The server is a node of a cluster.
    Cluster,
    /// The user of the connection may not run a command, or may not use a key.
    Permission {
        /// What was refused.
        refused: String,
    },
}

impl ConnectError {
    /// The error of a URL that cannot be used.
    pub(crate) fn url(url: &str, error: &LinkError) -> Self {
        let reason = if url.starts_with("rediss") {
            "it asks for TLS, for which the `redis` crate needs one of its features; see the section TLS of the page \
             `redis`"
                .to_owned()
        } else {
            error.to_string()
        };
        ConnectError::Url { reason }
    }

    /// The error of a call that was made to check the server.
    pub(crate) fn of_call(error: LinkError) -> Self {
        match error {
            LinkError::Server { code, text }
                if matches!(&*code, "NOPERM" | "NOAUTH" | "WRONGPASS") =>
            {
                ConnectError::Permission { refused: text }
            }
            LinkError::Server { code, .. } if code == "LOADING" => ConnectError::Loading,
            LinkError::Server { code, .. } if code == "READONLY" => {
                ConnectError::Replica { master: None }
            }
            LinkError::Server { code, .. } if code == "MOVED" || code == "CROSSSLOT" => {
                ConnectError::Cluster
            }
            error => ConnectError::Connect {
                reason: error.to_string(),
            },
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Url { reason } => write!(
                f,
                "the URL cannot be read ({reason}); it must be like `redis://user:password@host:6379/0`, \
                 `redis://127.0.0.1/` or `redis+unix:///run/redis.sock`"
            ),
            ConnectError::Connect { reason } => write!(f, "the server cannot be reached: {reason}"),
            ConnectError::Loading => {
                f.write_str("the server still loads its data set; try again when it has finished")
            }
            ConnectError::Version { found, needed } => {
                write!(f, "the server is {found}; it must be {needed}")
            }
            ConnectError::Eviction { policy } => write!(
                f,
                "the server evicts keys (`maxmemory-policy` is {policy}), which loses data; set it to `noeviction`"
            ),
            ConnectError::Replica { master } => {
                f.write_str("the server is a replica, which accepts no writes; connect to ")?;
                match master {
                    Some(master) => write!(f, "its master {master}"),
                    None => f.write_str("its master"),
                }
            }
            ConnectError::Cluster => f.write_str(
                "the server is a node of a cluster, which this version does not support; use a server without cluster \
                 mode",
            ),
            ConnectError::Permission { refused } => write!(
                f,
                "the user of the connection lacks a permission ({refused}); the page `redis` of the documentation has \
                 the line of `ACL SETUSER` that grants all that is needed"
            ),
        }
    }
}

impl Error for ConnectError {}

/// The error of building a dispatcher or a watch on Redis.
///
/// ```
/// use liveness::redis::{BuildError, ConnectError};
///
/// let error = BuildError::from(ConnectError::Loading);
/// assert_eq!(error.to_string(), "the server still loads its data set; try again when it has finished");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of its range.
    Option(OptionError),
    /// The server cannot be used.
    Connect(ConnectError),
    /// The operating system could not spawn a thread.
    Spawn(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Option(error) => error.fmt(f),
            BuildError::Connect(error) => error.fmt(f),
            BuildError::Spawn(_) => f.write_str("a thread could not be spawned"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Spawn(source) => Some(source),
            // Its text is that of this error.
            BuildError::Option(_) | BuildError::Connect(_) => None,
        }
    }
}

impl From<OptionError> for BuildError {
    fn from(error: OptionError) -> Self {
        BuildError::Option(error)
    }
}

impl From<ConnectError> for BuildError {
    fn from(error: ConnectError) -> Self {
        BuildError::Connect(error)
    }
}
