//! The errors of a registry. A node that was not registered is handed back.

use std::error::Error;
use std::fmt;

use super::incarnation::Incarnation;
use crate::error::{BuildError, OptionError};

/// The error of a registry's calls and of building one.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegistryError {
    /// No such node is known: it was never registered, or is forgotten, or the call names an
    /// [incarnation](super::Incarnation) that is newer than the one that is registered.
    Unknown,
    /// The node has left, and a late beat does not bring it back. Registering it again does.
    Left,
    /// The call names an older [incarnation](super::Incarnation) than the node's: the node was registered again since.
    Superseded {
        /// The node's incarnation.
        current: Incarnation,
    },
    /// The maximum number of nodes is known, those that are down or left included.
    Full {
        /// That number.
        max: usize,
    },
    /// An option of the [`Builder`](super::Builder), or of a type that it takes, is out of its range.
    Option(OptionError),
    /// The registry is closed, or its worker has failed.
    Closed,
    /// The registry is closed, but these threads did not end in time; see
    /// [`close_timeout`](super::Registry::close_timeout).
    StillRunning {
        /// Their names.
        threads: Vec<String>,
    },
    /// The worker thread could not be started.
    Watcher(BuildError),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Unknown => f.write_str("no such node is known; register it first"),
            RegistryError::Left => {
                f.write_str("the node has left; register it again as a new incarnation")
            }
            RegistryError::Superseded { current } => write!(
                f,
                "the node was registered again since, as incarnation {current}; the call names an older one"
            ),
            RegistryError::Full { max: 1 } => f.write_str(
                "1 node is known, which is the maximum; forget it, or raise `max_nodes`",
            ),
            RegistryError::Full { max } => write!(
                f,
                "{max} nodes are known, which is the maximum; forget some, or raise `max_nodes`"
            ),
            RegistryError::Option(error) => error.fmt(f),
            RegistryError::Closed => f.write_str("the registry is closed"),
            RegistryError::StillRunning { threads } => {
                let noun = if threads.len() == 1 {
                    "a thread still runs"
                } else {
                    "threads still run"
                };
                write!(
                    f,
                    "the registry is closed, but {noun}: {}",
                    threads.join(", ")
                )
            }
            RegistryError::Watcher(error) => error.fmt(f),
        }
    }
}

impl From<OptionError> for RegistryError {
    fn from(error: OptionError) -> Self {
        RegistryError::Option(error)
    }
}

impl Error for RegistryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its own text is this error's.
            RegistryError::Watcher(error) => error.source(),
            _ => None,
        }
    }
}

/// The error of registering a node, which hands the node back.
pub struct RegisterError<N, D> {
    /// Why.
    pub error: RegistryError,
    /// The id that was given.
    pub id: N,
    /// The data that was given.
    pub data: D,
}

impl<N, D> fmt::Debug for RegisterError<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<N, D> fmt::Display for RegisterError<N, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<N, D> Error for RegisterError<N, D> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
