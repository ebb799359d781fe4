//! Typed ways into a group, which do not name the type of its state.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::PostError;
use super::shared::{Patience, Shared};
use super::work::{Kind, Work};

/// Accepts values of type `T` for a group.
pub(super) trait Inlet<T>: Send + Sync {
    /// Puts `value` into the inbox.
    fn send(self: Arc<Self>, value: T, patience: Patience) -> Result<(), PostError<T>>;
}

/// An [`Inlet`] whose values are passed to a handler with the state.
pub(super) struct Entrance<S, F> {
    /// The group.
    shared: Arc<Shared<S>>,
    /// Where the values come from.
    kind: Kind,
    /// The handler.
    handle: F,
}

impl<S, F> Entrance<S, F> {
    /// An entrance of `shared`.
    pub(super) fn new(shared: Arc<Shared<S>>, kind: Kind, handle: F) -> Arc<Self> {
        Arc::new(Entrance {
            shared,
            kind,
            handle,
        })
    }
}

/// A value in the inbox of a group.
struct Delivery<S, T, F> {
    /// Where it came in.
    entrance: Arc<Entrance<S, F>>,
    /// The value, until it is handled.
    value: Option<T>,
}

impl<S, T, F> Work<S> for Delivery<S, T, F>
where
    S: Send,
    T: Send,
    F: Fn(&mut S, T) + Send + Sync,
{
    fn run(&mut self, state: &mut S) -> bool {
        if let Some(value) = self.value.take() {
            (self.entrance.handle)(state, value);
        }
        true
    }
}

impl<S, T, F> Inlet<T> for Entrance<S, F>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Fn(&mut S, T) + Send + Sync + 'static,
{
    fn send(self: Arc<Self>, value: T, patience: Patience) -> Result<(), PostError<T>> {
        let delivery = Delivery {
            entrance: self.clone(),
            value: Some(value),
        };
        let pushed = self.shared.push(self.kind, delivery, patience);
        pushed.map_err(|(kind, Delivery { value, .. })| {
            PostError::new(kind, value.expect("it was not handled"))
        })
    }
}

/// A sender into the inbox of a group, created by [`Group::port`](super::Group::port) or
/// [`Chain::port`](super::Chain::port).
///
/// Each value is passed to the port's handler on the group's thread, in the order in which one thread sends them.
/// Clones send to the same handler. A port does not keep the group alive.
///
/// ```
/// use std::{thread, time::Duration};
/// use liveness::server::Group;
///
/// let sum = Group::builder("sum").capacity(2).spawn(0)?;
/// let port = sum.port(|sum, n: u64| *sum += n);
/// let senders: Vec<_> = (0..4)
///     .map(|_| port.clone())
///     .map(|port| thread::spawn(move || (0..100).all(|n| port.send(n).is_ok())))
///     .collect();
/// assert!(senders.into_iter().all(|sender| sender.join().is_ok_and(|sent| sent)));
/// assert_eq!(sum.call(|sum| *sum)?, 4 * 4_950);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Port<T> {
    /// The group and the handler.
    inlet: Arc<dyn Inlet<T>>,
}

impl<T> Port<T> {
    /// A port into `inlet`.
    pub(super) fn new(inlet: Arc<dyn Inlet<T>>) -> Self {
        Port { inlet }
    }

    /// Sends a value, without waiting. Costs an allocation and a lock.
    ///
    /// # Errors
    ///
    /// Returns the value with [`Full`](super::PostErrorKind::Full) or [`Stopped`](super::PostErrorKind::Stopped).
    pub fn try_send(&self, value: T) -> Result<(), PostError<T>> {
        self.inlet.clone().send(value, Patience::None)
    }

    /// Sends a value, and blocks until the inbox has room for it.
    ///
    /// # Errors
    ///
    /// Returns the value with [`Stopped`](super::PostErrorKind::Stopped), or with
    /// [`WouldDeadlock`](super::PostErrorKind::WouldDeadlock) if the wait would not end.
    pub fn send(&self, value: T) -> Result<(), PostError<T>> {
        self.inlet.clone().send(value, Patience::Until(None))
    }

    /// Sends a value, and blocks for at most `timeout` until the inbox has room for it.
    ///
    /// # Errors
    ///
    /// Returns the value with [`Full`](super::PostErrorKind::Full) if there was no room in time, and the errors of
    /// [`send`](Port::send).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), PostError<T>> {
        self.inlet.clone().send(value, Patience::of(timeout))
    }
}

impl<T> Clone for Port<T> {
    fn clone(&self) -> Self {
        Port::new(self.inlet.clone())
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

/// A kind of event of a group, created by [`Group::event`](super::Group::event): a [`Port`] that never waits.
///
/// ```
/// use liveness::server::Group;
///
/// let chat = Group::builder("chat").spawn(Vec::new())?;
/// let say = chat.event(|lines: &mut Vec<String>, text: &str| lines.push(text.to_owned()));
/// say.emit("hello")?;
/// say.clone().emit("world")?;
/// assert_eq!(chat.call(|lines| lines.join(" "))?, "hello world");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event<T>(Port<T>);

impl<T> Event<T> {
    /// An event that goes into `inlet`.
    pub(super) fn new(inlet: Arc<dyn Inlet<T>>) -> Self {
        Event(Port::new(inlet))
    }

    /// Emits an event, without waiting. Costs an allocation and a lock.
    ///
    /// # Errors
    ///
    /// Returns the value with [`Full`](super::PostErrorKind::Full) or [`Stopped`](super::PostErrorKind::Stopped).
    pub fn emit(&self, value: T) -> Result<(), PostError<T>> {
        self.0.try_send(value)
    }
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        Event(self.0.clone())
    }
}

impl<T> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}
