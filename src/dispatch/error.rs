//! One small error per operation. An error about an event returns the event.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::id::EventId;
use super::topic::TopicError;
use crate::error::OptionError;

/// The reason why an event was refused.
///
/// ```
/// use liveness::dispatch::{Dispatcher, EmitErrorKind, Topic};
///
/// const MAIL: Topic<String> = Topic::new("mail");
/// let dispatcher = Dispatcher::builder().build()?;
/// let error = dispatcher.emit(&MAIL, "hello".to_owned()).unwrap_err();
/// assert_eq!(error.kind(), EmitErrorKind::NoHandler);
/// assert_eq!(error.to_string(), "the topic has no handler; register one with `on` first");
/// assert_eq!(error.into_event(), "hello");
/// # Ok::<(), liveness::dispatch::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EmitErrorKind {
    /// The dispatcher is stopped.
    Stopped,
    /// The topic has no handler.
    NoHandler,
    /// The dispatcher has reached [`max_unfinished`](super::Builder::max_unfinished), or the topic has reached
    /// [`max_per_topic`](super::Builder::max_per_topic).
    Full,
    /// This unfinished event has the same [unique key](super::Emit::unique).
    Duplicate(EventId),
    /// The topic is used with events of another type in this dispatcher.
    OtherType,
    /// The due time is more than 500 years away, or cannot be represented.
    TooLate,
    /// The serialized event, with its headers, is larger than the dispatcher allows. The event was not accepted. Only a
    /// durable dispatcher returns this.
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The maximum size in bytes.
        max: usize,
    },
    /// The event cannot be serialized. It was not accepted. Only a durable dispatcher returns this.
    Encode,
    /// The store cannot be reached. The event was not accepted. Only a durable dispatcher returns this.
    Unavailable,
    /// The event was sent to the store, but the reply did not arrive in time. The event may or may not have been
    /// accepted. An event that is emitted again may run twice, unless it has a [unique key](super::Emit::unique). Only
    /// a durable dispatcher returns this.
    Uncertain,
    /// The store refused to write, for example because it is out of memory, is read-only, or the user has no
    /// permission. The event was not accepted. Only a durable dispatcher returns this.
    Refused,
}

impl fmt::Display for EmitErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitErrorKind::Stopped => f.write_str(STOPPED),
            EmitErrorKind::NoHandler => {
                f.write_str("the topic has no handler; register one with `on` first")
            }
            EmitErrorKind::Full => f.write_str(
                "too many events are unfinished; try again, use `emit_within`, or raise the limit",
            ),
            EmitErrorKind::Duplicate(id) => {
                write!(f, "the unfinished event {id} has the same unique key")
            }
            EmitErrorKind::OtherType => {
                f.write_str("the topic is used with events of another type")
            }
            EmitErrorKind::TooLate => {
                f.write_str("the due time is too late; it must be within 500 years")
            }
            EmitErrorKind::TooLarge { len, max } => {
                write!(
                    f,
                    "the event takes {len} bytes, more than the maximum of {max}"
                )
            }
            EmitErrorKind::Encode => f.write_str("the event cannot be serialized"),
            EmitErrorKind::Unavailable => f.write_str(UNAVAILABLE),
            EmitErrorKind::Uncertain => f.write_str(
                "the store did not reply in time; the event may or may not have been accepted",
            ),
            EmitErrorKind::Refused => f.write_str("the store refused to write the event"),
        }
    }
}

impl Error for EmitErrorKind {}

/// The message of every error of a stopped dispatcher.
const STOPPED: &str = "the dispatcher is stopped";

/// The message of every error of a store that cannot be reached.
const UNAVAILABLE: &str = "the store cannot be reached";

/// The error that caused another one.
type Source = Arc<dyn Error + Send + Sync>;

/// `source` as [`Error::source`] returns it.
fn borrowed(source: Option<&Source>) -> Option<&(dyn Error + 'static)> {
    source.map(|source| &**source as &(dyn Error + 'static))
}

/// Writes `source` after a message.
fn write_source(f: &mut fmt::Formatter<'_>, source: Option<&Source>) -> fmt::Result {
    source.map_or(Ok(()), |source| write!(f, ": {source}"))
}

/// The error of an operation of a durable dispatcher whose store cannot be reached. The operation may or may not have
/// taken effect.
///
/// The local [`Dispatcher`](super::Dispatcher) never returns it. Its own methods return their results directly, and the
/// methods of the trait [`Dispatch`](super::Dispatch) return `Ok`.
#[derive(Clone, Debug)]
pub struct Unavailable {
    /// The error of the connection.
    source: Source,
}

#[cfg(any(test, feature = "redis"))]
impl Unavailable {
    /// Creates an error that was caused by `source`.
    pub(crate) fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into().into();
        Unavailable { source }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UNAVAILABLE}: {}", self.source)
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        borrowed(Some(&self.source))
    }
}

/// The error of an event that was refused: the event, the reason, and the error that caused it, if there is one.
#[derive(Clone)]
pub struct EmitError<T> {
    /// The reason.
    kind: EmitErrorKind,
    /// The event.
    event: T,
    /// The cause.
    source: Option<Source>,
}

impl<T> EmitError<T> {
    /// Creates an error that returns `event`.
    pub(crate) fn new(kind: EmitErrorKind, event: T) -> Self {
        EmitError {
            kind,
            event,
            source: None,
        }
    }

    /// Adds the error that caused this one.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> EmitErrorKind {
        self.kind
    }

    /// Returns the event that was refused.
    #[must_use]
    pub fn event(&self) -> &T {
        &self.event
    }

    /// Converts the error into the event that was refused.
    #[must_use]
    pub fn into_event(self) -> T {
        self.event
    }
}

impl<T> fmt::Debug for EmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitError")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for EmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        write_source(f, self.source.as_ref())
    }
}

impl<T> Error for EmitError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        borrowed(self.source.as_ref())
    }
}

/// The error of an `emit_many` that refused some of its events: the refused events, and the reason.
///
/// The events before them were accepted; [`accepted`](EmitManyError::accepted) returns their ids. If the reason is
/// [`Uncertain`](EmitErrorKind::Uncertain), the first chunk of the returned events may have been accepted.
///
/// ```
/// use liveness::dispatch::{Dispatcher, EmitErrorKind, On, Topic};
///
/// const MAIL: Topic<u32> = Topic::new("mail");
/// let dispatcher = Dispatcher::builder().max_unfinished(300).build()?;
/// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
/// dispatcher.pause(&MAIL);
/// let error = dispatcher.emit_many(&MAIL, 0..500).unwrap_err(); // chunks of 200: the second has no room
/// assert_eq!((error.kind(), error.accepted().len()), (EmitErrorKind::Full, 200));
/// assert_eq!(error.into_events(), (200..500).collect::<Vec<_>>());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EmitManyError<T> {
    /// The reason.
    kind: EmitErrorKind,
    /// The ids of the accepted events, in order.
    accepted: Vec<EventId>,
    /// The refused events, in order.
    events: Vec<T>,
    /// The cause.
    source: Option<Source>,
}

impl<T> EmitManyError<T> {
    /// Creates an error that returns `events`, which follow `accepted`.
    pub(crate) fn new(kind: EmitErrorKind, accepted: Vec<EventId>, events: Vec<T>) -> Self {
        EmitManyError {
            kind,
            accepted,
            events,
            source: None,
        }
    }

    /// Adds the error that caused this one.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> EmitErrorKind {
        self.kind
    }

    /// Returns the ids of the events that were accepted, in the order in which they were passed.
    #[must_use]
    pub fn accepted(&self) -> &[EventId] {
        &self.accepted
    }

    /// Converts the error into the events that were refused, in the order in which they were passed.
    #[must_use]
    pub fn into_events(self) -> Vec<T> {
        self.events
    }
}

impl<T> fmt::Debug for EmitManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitManyError")
            .field("kind", &self.kind)
            .field("accepted", &self.accepted.len())
            .field("events", &self.events.len())
            .field("source", &self.source)
            .finish()
    }
}

impl<T> fmt::Display for EmitManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.accepted.len() + self.events.len();
        write!(
            f,
            "{} of {total} events were refused: {}",
            self.events.len(),
            self.kind
        )?;
        write_source(f, self.source.as_ref())
    }
}

impl<T> Error for EmitManyError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        borrowed(self.source.as_ref())
    }
}

/// The error of a handler or schedule that was not registered.
///
/// ```
/// use liveness::dispatch::{Dispatcher, On, RegisterError, Topic};
///
/// const MAIL: Topic<String> = Topic::new("mail");
/// let dispatcher = Dispatcher::builder().build()?;
/// dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(()))?;
/// let error = dispatcher.on(&MAIL, "send", On::new(), |_, _| Ok(())).unwrap_err();
/// assert_eq!(error.to_string(), "topic `mail` already has `send`; remove it first, or choose another name");
/// let error = dispatcher.on(&MAIL, "copy", On::new().parallel(0), |_, _| Ok(())).unwrap_err();
/// assert_eq!(error.to_string(), "`parallel` must be greater than zero");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// The dispatcher is stopped.
    Stopped,
    /// The topic already has a handler or schedule of this name.
    Duplicate {
        /// The topic.
        topic: String,
        /// The name.
        name: String,
    },
    /// The name is invalid.
    Name(TopicError),
    /// The topic is used with events of another type.
    OtherType {
        /// The topic.
        topic: String,
        /// The type of the events with which it is used.
        registered: &'static str,
    },
    /// An option is out of range.
    Option(OptionError),
    /// The thread that enforces time limits could not be spawned.
    Monitor(crate::error::BuildError),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::Stopped => f.write_str(STOPPED),
            RegisterError::Duplicate { topic, name } => write!(
                f,
                "topic `{topic}` already has `{name}`; remove it first, or choose another name"
            ),
            RegisterError::Name(error) => error.fmt(f),
            RegisterError::OtherType { topic, registered } => {
                write!(
                    f,
                    "topic `{topic}` is used with events of type `{registered}`"
                )
            }
            RegisterError::Option(error) => error.fmt(f),
            RegisterError::Monitor(error) => error.fmt(f),
        }
    }
}

impl Error for RegisterError {}

impl From<OptionError> for RegisterError {
    fn from(error: OptionError) -> Self {
        RegisterError::Option(error)
    }
}

impl From<TopicError> for RegisterError {
    fn from(error: TopicError) -> Self {
        RegisterError::Name(error)
    }
}

/// The error of a dispatcher that was not built.
///
/// ```
/// use liveness::dispatch::{BuildError, Dispatcher};
///
/// let error = Dispatcher::builder().max_unfinished(0).build().unwrap_err();
/// assert!(matches!(error, BuildError::Option(_)));
/// assert_eq!(error.to_string(), "`max_unfinished` must be from 1 to 10,000,000");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is out of range.
    Option(OptionError),
    /// The operating system could not spawn a thread.
    Spawn(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Option(error) => error.fmt(f),
            BuildError::Spawn(error) => write!(f, "a worker thread could not be spawned: {error}"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BuildError::Option(_) => None,
            BuildError::Spawn(error) => Some(error),
        }
    }
}

impl From<OptionError> for BuildError {
    fn from(error: OptionError) -> Self {
        BuildError::Option(error)
    }
}

/// The error of [`emit_to`](super::emit_to) if the list of dispatchers is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDispatcher;

impl fmt::Display for NoDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no dispatcher was given; name at least one")
    }
}

impl Error for NoDispatcher {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_store_says_what_caused_it() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let one = EmitError::new(EmitErrorKind::Unavailable, 7).because(refused());
        let many = EmitManyError::new(EmitErrorKind::Uncertain, Vec::new(), vec![7]);
        let many = many.because("timed out");
        let other = Unavailable::new(refused());
        let text = "the store cannot be reached: connection refused";
        assert_eq!(
            (one.to_string(), other.to_string()),
            (text.into(), text.into())
        );
        assert_eq!(
            many.to_string(),
            "1 of 1 events were refused: the store did not reply in time; the event may or may not have been accepted: \
             timed out"
        );
        for error in [&one as &dyn Error, &many, &other] {
            assert!(error.source().is_some());
        }
        assert!(EmitError::new(EmitErrorKind::Full, 7).source().is_none());
    }
}
