//! One small error per operation.

use std::error::Error;
use std::fmt;
use std::io;

use super::codec::{DecodeError, EncodeError, Fault};
use crate::error::OptionError;

/// Why a message was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closed, or is being closed.
    Closed,
    /// Too many bytes wait for the connection, or for all connections. With
    /// [`Overflow::Close`](super::Overflow::Close) the connection is being closed if the first limit was reached.
    Full,
    /// The message is longer than [`outbound`](super::ServerBuilder::outbound) allows, so it could never be sent.
    TooBig,
    /// The message cannot be encoded.
    Encode(EncodeError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed => f.write_str("the connection is closed"),
            SendError::Full => f.write_str("too many bytes wait to be sent"),
            SendError::TooBig => f.write_str("the message is longer than `outbound` allows"),
            SendError::Encode(error) => error.fmt(f),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SendError::Encode(error) => Some(error),
            _ => None,
        }
    }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        SendError::Encode(error)
    }
}

/// Why a request has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not sent.
    Send(SendError),
    /// The answer did not come in time.
    Timeout,
    /// The connection ended before the answer came. The peer may have handled the request.
    Lost,
    /// The peer answered with an error.
    Fault(Fault),
    /// The answer cannot be decoded.
    Decode(DecodeError),
    /// The call was made on the thread that would receive the answer, in an inline handler.
    WouldDeadlock,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Send(error) => error.fmt(f),
            RequestError::Timeout => f.write_str("the peer did not answer in time"),
            RequestError::Lost => f.write_str("the connection ended before the answer came"),
            RequestError::Fault(fault) => write!(f, "the peer answered with {fault}"),
            RequestError::Decode(error) => error.fmt(f),
            RequestError::WouldDeadlock => {
                f.write_str("an inline handler cannot wait for an answer; use `on`")
            }
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RequestError::Send(error) => Some(error),
            RequestError::Fault(fault) => Some(fault),
            RequestError::Decode(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a server did not start.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use liveness::server::{Json, Server, StartError};
///
/// let started = Server::<Json, ()>::builder().tcp("127.0.0.1:0").max_message(0).start();
/// assert!(matches!(started, Err(StartError::Option(_))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An option is out of range.
    Option(OptionError),
    /// An address cannot be listened on.
    Listen {
        /// The address as it was given.
        address: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// A thread or a part of the operating system's event queue cannot be created.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Option(error) => error.fmt(f),
            StartError::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")
            }
            StartError::System(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Option(error) => Some(error),
            StartError::Listen { error, .. } | StartError::System(error) => Some(error),
        }
    }
}

impl From<OptionError> for StartError {
    fn from(error: OptionError) -> Self {
        StartError::Option(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        StartError::System(error)
    }
}
