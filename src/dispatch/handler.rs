//! Handlers of events, and their failures.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::context::Context;

/// Handles the events of a topic.
///
/// Closures `Fn(&Context, &T) -> Result<(), Failure>` implement this trait. Calls run on the dispatcher's worker
/// threads, several at the same time.
///
/// ```
/// use liveness::dispatch::{Context, Dispatcher, Failure, Handler, On, Topic};
///
/// struct Mailer {
///     from: String,
/// }
///
/// impl Handler<String> for Mailer {
///     fn handle(&self, context: &Context, to: &String) -> Result<(), Failure> {
///         println!("{}: from {} to {to}, attempt {}", context.id(), self.from, context.attempt());
///         Ok(())
///     }
/// }
///
/// const MAIL: Topic<String> = Topic::new("mail");
/// let dispatcher = Dispatcher::builder().build()?;
/// dispatcher.on_handler(&MAIL, "send", On::new(), Mailer { from: "desk".to_owned() })?;
/// dispatcher.emit(&MAIL, "ada@example.org".to_owned())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Handler<T>: Send + Sync + 'static {
    /// Handles `event`.
    ///
    /// # Errors
    ///
    /// Returns a [`Failure`] if the event should be tried again, or moved to the dead list.
    fn handle(&self, context: &Context, event: &T) -> Result<(), Failure>;
}

impl<T, F> Handler<T> for F
where
    F: Fn(&Context, &T) -> Result<(), Failure> + Send + Sync + 'static,
{
    fn handle(&self, context: &Context, event: &T) -> Result<(), Failure> {
        self(context, event)
    }
}

/// Why a handler did not handle an event, and what happens next.
///
/// Any error converts into a failure that is tried again after the handler's [backoff](super::On::backoff), so `?`
/// works in a handler. Because every error converts into a failure, `Failure` does not implement [`Error`] itself.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::Failure;
///
/// fn parse(text: &str) -> Result<u16, Failure> {
///     let port = text.parse::<u16>().map_err(Failure::fatal)?; // never tried again
///     if port < 1_024 {
///         return Err(Failure::retry_in(Duration::from_secs(60), "the port is reserved for now"));
///     }
///     Ok(port)
/// }
/// assert_eq!(parse("http").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Failure {
    /// What happens next.
    pub(crate) next: Next,
    /// The error.
    error: Box<dyn Error + Send + Sync>,
}

/// What happens to an event after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried again after the handler's backoff.
    Retry,
    /// It is tried again after this delay.
    RetryIn(Duration),
    /// It is moved to the dead list.
    Dead,
    /// It is tried again after this delay, and the attempt does not count.
    Snooze(Duration),
}

impl Failure {
    /// Creates a failure that is tried again after the handler's backoff.
    #[must_use]
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (next, error) = (Next::Retry, error.into());
        Failure { next, error }
    }

    /// Creates a failure that is tried again `delay` later.
    #[must_use]
    pub fn retry_in(delay: Duration, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (next, error) = (Next::RetryIn(delay), error.into());
        Failure { next, error }
    }

    /// Creates a failure that is not tried again. The event is moved to the dead list.
    #[must_use]
    pub fn fatal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (next, error) = (Next::Dead, error.into());
        Failure { next, error }
    }

    /// Creates a request to be called again `delay` later. The attempt does not count, so the number of such requests
    /// is not limited.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::dispatch::Failure;
    ///
    /// fn ship(is_paid: bool) -> Result<(), Failure> {
    ///     if is_paid { Ok(()) } else { Err(Failure::snooze(Duration::from_secs(60))) }
    /// }
    /// assert_eq!(ship(false).unwrap_err().to_string(), "snoozed");
    /// ```
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        let (next, error) = (Next::Snooze(delay), "snoozed".into());
        Failure { next, error }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::retry(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("next", &self.next)
            .field("error", &self.error)
            .finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
