//! One small error per operation. An error about a closure or a value returns it.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::OptionError;

/// The message of every error of a stopped group.
const STOPPED: &str = "the group is stopped";

/// The message of every refused wait.
const WOULD_DEADLOCK: &str =
    "the group waits for the caller, directly or through other groups, so the wait would not end";

/// The reason why a group refused a closure or a value.
///
/// ```
/// use std::time::Duration;
/// use liveness::server::{Group, group::PostErrorKind};
///
/// let world = Group::builder("world").spawn(0)?;
/// drop(world.stop(Duration::from_secs(1)));
/// let error = world.post(|n| *n += 1).unwrap_err();
/// assert_eq!(error.kind(), PostErrorKind::Stopped);
/// assert_eq!(error.to_string(), "the group is stopped");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PostErrorKind {
    /// A limit of the group is reached: of its inbox, its slow calls, its timers or its receivers.
    Full,
    /// The group is stopped.
    Stopped,
    /// There is no room, and waiting for it would not end: the caller is the group's own thread, or the thread of a
    /// group for which this group waits.
    WouldDeadlock,
    /// The operating system cannot spawn a thread for slow calls, and the group has none yet.
    NoThread,
}

impl fmt::Display for PostErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PostErrorKind::Full => "the group is full; try again later, wait, or raise the limit",
            PostErrorKind::Stopped => STOPPED,
            PostErrorKind::WouldDeadlock => WOULD_DEADLOCK,
            PostErrorKind::NoThread => "no thread can be spawned for slow calls",
        })
    }
}

impl Error for PostErrorKind {}

/// A group refused a closure or a value, which this returns.
///
/// ```
/// use std::time::Duration;
/// use liveness::server::{Group, group::PostErrorKind};
///
/// let world = Group::builder("world").spawn(String::new())?;
/// let say = world.event(|world: &mut String, text: &str| world.push_str(text));
/// drop(world.stop(Duration::from_secs(1)));
/// let error = say.emit("hello").unwrap_err();
/// assert_eq!((error.kind(), error.into_inner()), (PostErrorKind::Stopped, "hello"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PostError<T> {
    /// The reason.
    kind: PostErrorKind,
    /// What was refused.
    value: T,
}

impl<T> PostError<T> {
    /// Creates an error.
    pub(super) fn new(kind: PostErrorKind, value: T) -> Self {
        PostError { kind, value }
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> PostErrorKind {
        self.kind
    }

    /// Returns the closure or the value that was refused.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> fmt::Debug for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PostError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<T> Error for PostError<T> {}

/// The reason why a [`call`](super::Group::call) has no result.
///
/// ```
/// use liveness::server::{Group, group::CallError};
///
/// let world = Group::builder("world").spawn(vec![1, 2, 3])?;
/// assert_eq!(world.call(|list| list[7]), Err(CallError::Panicked));
/// assert_eq!(world.call(|list| list[2]), Ok(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallError {
    /// The caller is the group's own thread, or the thread of a group for which this group waits. The closure did not
    /// run.
    WouldDeadlock,
    /// The group is stopped. The closure did not run.
    Stopped,
    /// The closure panicked.
    Panicked,
    /// The closure did not start in time. It was withdrawn and never runs.
    NotStarted,
    /// The closure started and did not return in time. It goes on, and its result is dropped.
    Unfinished,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallError::WouldDeadlock => WOULD_DEADLOCK,
            CallError::Stopped => STOPPED,
            CallError::Panicked => "the closure panicked",
            CallError::NotStarted => "the closure did not start in time, and was withdrawn",
            CallError::Unfinished => "the closure did not return in time, and goes on",
        })
    }
}

impl Error for CallError {}

impl From<PostErrorKind> for CallError {
    fn from(kind: PostErrorKind) -> Self {
        match kind {
            PostErrorKind::Full | PostErrorKind::NoThread => CallError::NotStarted,
            PostErrorKind::Stopped => CallError::Stopped,
            PostErrorKind::WouldDeadlock => CallError::WouldDeadlock,
        }
    }
}

/// The reason why a [`Chain`](super::Chain) was not changed.
///
/// ```
/// use liveness::server::{Group, group::ChainError};
///
/// let world = Group::builder("world").spawn(())?;
/// let chain = world.chain::<String>();
/// chain.append("log", |(), text| Some(text))?;
/// assert_eq!(chain.append("log", |(), _| None), Err(ChainError::Duplicate));
/// assert_eq!(chain.remove("lag"), Err(ChainError::Unknown));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChainError {
    /// The chain already has a processor of that name.
    Duplicate,
    /// The chain has no processor of that name.
    Unknown,
    /// The group did not accept the change.
    Refused(PostErrorKind),
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainError::Duplicate => f.write_str("the chain has a processor of that name"),
            ChainError::Unknown => f.write_str("the chain has no processor of that name"),
            ChainError::Refused(kind) => kind.fmt(f),
        }
    }
}

impl Error for ChainError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ChainError::Refused(kind) => Some(kind),
            _ => None,
        }
    }
}

/// The reason why a group was not created. The state is dropped.
///
/// ```
/// use liveness::server::Group;
///
/// let error = Group::builder("world").capacity(0).spawn(()).unwrap_err();
/// assert_eq!(error.to_string(), "`capacity` must be from 1 to 1,048,576");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// An option is out of range.
    Option(OptionError),
    /// The operating system cannot spawn the thread.
    Thread(io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Option(error) => error.fmt(f),
            SpawnError::Thread(error) => write!(f, "cannot spawn the thread of a group: {error}"),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SpawnError::Option(error) => Some(error),
            SpawnError::Thread(error) => Some(error),
        }
    }
}

impl From<OptionError> for SpawnError {
    fn from(error: OptionError) -> Self {
        SpawnError::Option(error)
    }
}

/// The closure of a slow call panicked.
///
/// ```
/// use liveness::server::Group;
///
/// let world = Group::builder("world").spawn(())?;
/// let (send, sent) = std::sync::mpsc::channel();
/// world.slow(|| panic!("no route"), move |(), result: Result<u32, _>| drop(send.send(result)))?;
/// let panicked = sent.recv()?.unwrap_err();
/// assert_eq!(panicked.to_string(), "the slow call panicked: no route");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Panicked {
    /// The text of the panic.
    pub text: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the slow call panicked: {}", self.text)
    }
}

impl Error for Panicked {}
