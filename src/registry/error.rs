//! Errors of a registry. The error of registering a node returns the node.

use std::error::Error;
use std::fmt;

use super::incarnation::Incarnation;
use crate::error::{BuildError, OptionError};

/// An error returned by a [`Registry`](super::Registry) or by building one.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegistryError {
    /// The node is unknown: it was never registered, or has been forgotten, or the call names a newer
    /// [incarnation](super::Incarnation) than the registered one.
    Unknown,
    /// The node has left. A late beat does not bring it back; registering it again does.
    Left,
    /// The call names an older [incarnation](super::Incarnation) than the registered one.
    Superseded {
        /// The registered incarnation.
        current: Incarnation,
    },
    /// The registry already holds [`max_nodes`](super::Builder::max_nodes) nodes, including those that are down or have
    /// left.
    Full {
        /// The value of `max_nodes`.
        max: usize,
    },
    /// An option of the [`Builder`](super::Builder), or of a type that it takes, is out of range.
    Option(OptionError),
    /// The registry is closed, or its worker has failed.
    Closed,
    /// The registry is closed, but threads have not ended in time; see
    /// [`close_timeout`](super::Registry::close_timeout).
    StillRunning {
        /// The names of those threads.
        threads: Vec<String>,
    },
    /// The worker thread cannot be started.
    Watcher(BuildError),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Unknown => f.write_str("the node is unknown; register it first"),
            RegistryError::Left => {
                f.write_str("the node has left; register it again as a new incarnation")
            }
            RegistryError::Superseded { current } => write!(
                f,
                "the node has been registered again as incarnation {current}; the call names an older one"
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
            // The text of `error` is already the text of this error.
            RegistryError::Watcher(error) => error.source(),
            _ => None,
        }
    }
}

/// The error of registering a node, which returns the node to the caller.
///
/// ```
/// use liveness::registry::{Registry, RegistryError};
///
/// let registry = Registry::<u64, &str>::builder().max_nodes(1).build()?;
/// registry.register(7, "rack 4")?;
/// let refused = registry.register(8, "rack 5").unwrap_err();
/// assert!(matches!(refused.error, RegistryError::Full { max: 1 }));
/// assert_eq!((refused.id, refused.data), (8, "rack 5"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RegisterError<N, D> {
    /// The reason.
    pub error: RegistryError,
    /// The id that was passed in.
    pub id: N,
    /// The data that was passed in.
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
