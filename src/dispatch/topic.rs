//! Topics: a name and the type of its events.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

/// The maximum length of a topic's name, in bytes.
const MAX_NAME: usize = 128;

/// A named kind of events, all of type `T`.
///
/// A topic is usually declared once, as a constant. Two topics with the same name are the same topic, and must have the
/// same type within one dispatcher.
///
/// A name consists of 1 to 128 of the characters `A` to `Z`, `a` to `z`, `0` to `9`, `.`, `_`, `:`, `/` and `-`.
///
/// ```
/// use liveness::dispatch::{Topic, TopicError};
///
/// struct Mail {
///     to: String,
/// }
///
/// const MAIL: Topic<Mail> = Topic::new("mail"); // an invalid name does not compile
/// assert_eq!(MAIL.name(), "mail");
///
/// let region = "eu-west";
/// let orders: Topic<u64> = Topic::named(format!("orders/{region}"))?;
/// assert_eq!(orders.name(), "orders/eu-west");
/// # Ok::<(), TopicError>(())
/// ```
///
/// ```compile_fail
/// # use liveness::dispatch::Topic;
/// const ODD: Topic<u64> = Topic::new("two words");
/// ```
pub struct Topic<T> {
    /// Its name, which is valid.
    name: Cow<'static, str>,
    /// The type of its events; a topic owns no event.
    events: PhantomData<fn(T)>,
}

impl<T> Topic<T> {
    /// Creates the topic `name`. In a constant, an invalid name is a compile-time error.
    ///
    /// # Panics
    ///
    /// Panics if the name is invalid. [`named`](Topic::named) returns an error instead.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        match check(name) {
            Ok(()) => Topic {
                name: Cow::Borrowed(name),
                events: PhantomData,
            },
            Err(TopicError::Empty) => panic!("the name of a topic is empty"),
            Err(TopicError::TooLong { .. }) => {
                panic!("the name of a topic is longer than 128 bytes")
            }
            Err(TopicError::Character { .. }) => {
                panic!("the name of a topic has a character other than A-Z a-z 0-9 . _ : / -")
            }
        }
    }

    /// Creates the topic `name` from a name that is computed at run time.
    ///
    /// # Errors
    ///
    /// Returns a [`TopicError`] if the name is empty, is longer than 128 bytes, or contains a character that is not
    /// allowed.
    ///
    /// ```
    /// use liveness::dispatch::{Topic, TopicError};
    ///
    /// let error = Topic::<u64>::named("two words").unwrap_err();
    /// assert_eq!(error, TopicError::Character { at: 3 });
    /// assert!(Topic::<u64>::named("two-words").is_ok());
    /// ```
    pub fn named(name: impl Into<String>) -> Result<Self, TopicError> {
        let name = name.into();
        check(&name)?;
        Ok(Topic {
            name: Cow::Owned(name),
            events: PhantomData,
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Checks the name of a topic or of a handler.
pub(crate) const fn check(name: &str) -> Result<(), TopicError> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    if bytes.len() > MAX_NAME {
        return Err(TopicError::TooLong { len: bytes.len() });
    }
    let mut at = 0;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_alphanumeric()
            || matches!(bytes[at], b'.' | b'_' | b':' | b'/' | b'-'))
        {
            return Err(TopicError::Character { at });
        }
        at += 1;
    }
    Ok(())
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Topic {
            name: self.name.clone(),
            events: PhantomData,
        }
    }
}

impl<T> PartialEq for Topic<T> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<T> Eq for Topic<T> {}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

impl<T> fmt::Display for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The error of an invalid name of a topic or a handler.
///
/// ```
/// use liveness::dispatch::{Topic, TopicError};
///
/// let error = Topic::<u64>::named("").unwrap_err();
/// assert_eq!(error, TopicError::Empty);
/// assert_eq!(error.to_string(), "the name is empty; it must have 1 to 128 characters");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty.
    Empty,
    /// The name is longer than 128 bytes.
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The name has a character that is not allowed.
    Character {
        /// The first such character begins at this byte.
        at: usize,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Empty => {
                write!(
                    f,
                    "the name is empty; it must have 1 to {MAX_NAME} characters"
                )
            }
            TopicError::TooLong { len } => {
                write!(
                    f,
                    "the name has {len} bytes; it must have at most {MAX_NAME}"
                )
            }
            TopicError::Character { at } => write!(
                f,
                "the name has an invalid character at byte {at}; allowed are A-Z a-z 0-9 . _ : / -"
            ),
        }
    }
}

impl Error for TopicError {}
