//! Why a client does not start.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::OptionError;
#[cfg(feature = "tls")]
use crate::server::TlsError;

/// Why a client does not start.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use liveness::client::Client;
/// use liveness::server::Json;
///
/// let error = Client::<Json>::builder("tcp://localhost").start().unwrap_err();
/// let why = "the URL `tcp://localhost` must contain a port, such as `tcp://host:7000`";
/// assert_eq!(error.to_string(), why);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The URL is not one of a server.
    Url {
        /// The URL.
        url: String,
        /// What it must do, which completes the sentence "the URL must …".
        must: &'static str,
    },
    /// An option is out of range.
    Option(OptionError),
    /// There is no certificate of an authority that could be trusted.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    Tls(TlsError),
    /// A thread or a part of the operating system's event queue cannot be created.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Url { url, must } => write!(f, "the URL `{url}` must {must}"),
            StartError::Option(error) => error.fmt(f),
            #[cfg(feature = "tls")]
            StartError::Tls(error) => error.fmt(f),
            StartError::System(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Url { .. } => None,
            StartError::Option(error) => Some(error),
            #[cfg(feature = "tls")]
            StartError::Tls(error) => Some(error),
            StartError::System(error) => Some(error),
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
