//! Where a client stands with its server.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::server::{Cause, Closed};

/// Where a client stands with its server. Each change is passed to the callback
/// [`state`](super::ClientBuilder::state), in their order.
///
/// ```
/// use liveness::client::{ClosedBy, State};
///
/// assert!(!State::Connecting.is_online());
/// assert_eq!(State::Closed(ClosedBy::Program).to_string(), "closed: by the program");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// A connection is being made.
    Connecting,
    /// Messages are sent and received.
    Online {
        /// The number of attempts that this connection took, at least 1.
        attempt: u32,
    },
    /// There is no connection. Another attempt follows.
    Offline {
        /// The failures in a row since the client was last online, at least 1. The loss of the connection is the first.
        failures: u32,
        /// Why there is none.
        error: LinkError,
    },
    /// There will be no other connection.
    Closed(ClosedBy),
}

impl State {
    /// Returns whether messages are sent and received.
    #[must_use]
    pub fn is_online(&self) -> bool {
        matches!(self, State::Online { .. })
    }

    /// Returns whether there will be no other connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, State::Closed(_))
    }
}

impl fmt::Display for State {
    /// Writes the state as one line for a log, such as `offline (1): silence after 12 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Connecting => f.write_str("connecting"),
            State::Online { attempt } => write!(f, "online at attempt {attempt}"),
            State::Offline { failures, error } => write!(f, "offline ({failures}): {error}"),
            State::Closed(by) => write!(f, "closed: {by}"),
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The name of the host has no address, or cannot be looked up.
    Resolve(Arc<io::Error>),
    /// No connection to this address could be made.
    Connect(SocketAddr, Arc<io::Error>),
    /// The look-up of the name and the connection were not complete within this time.
    TimedOut(Duration),
    /// TLS could not begin: the server's certificate is not accepted, or the server refuses, or does not use TLS. The
    /// text says what was wrong. Another attempt follows, for a certificate may be renewed.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    Tls(Arc<str>),
    /// A connection was made and has ended: before it was open, for example with [`Cause::Refused`], or after.
    Ended(Closed),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Resolve(error) => write!(f, "the host cannot be looked up: {error}"),
            LinkError::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            LinkError::TimedOut(within) => write!(f, "no connection within {within:?}"),
            #[cfg(feature = "tls")]
            LinkError::Tls(why) => write!(f, "no TLS with the server: {why}"),
            LinkError::Ended(closed) if closed.cause == Cause::Refused => {
                write!(f, "refused with HTTP status {}", closed.code)?;
                if !closed.reason.is_empty() {
                    write!(f, ": {}", closed.reason)?;
                }
                Ok(())
            }
            LinkError::Ended(closed) => closed.fmt(f),
        }
    }
}

impl Error for LinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            LinkError::Resolve(error) | LinkError::Connect(_, error) => Some(&**error),
            _ => None,
        }
    }
}

/// Why there will be no other connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosedBy {
    /// The program has closed or dropped the client.
    Program,
    /// The server does not want this client: HTTP status 401, 403 or 404, or close code 1008 or 4000 to 4999.
    Server(Closed),
}

impl fmt::Display for ClosedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClosedBy::Program => f.write_str("by the program"),
            ClosedBy::Server(closed) => {
                write!(f, "by the server: {}", LinkError::Ended(closed.clone()))
            }
        }
    }
}
