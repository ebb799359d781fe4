//! Destinations for events on the worker threads: a channel, or a sink of the user.

use crossbeam_channel::{Sender, TrySendError};

use crate::event::Event;

/// An event that a [`Sink`] did not accept.
///
/// ```
/// use std::time::Duration;
/// use liveness::{LocalWatcher, Refused, Sink};
///
/// let mut watcher = LocalWatcher::<u64>::builder().build()?;
/// (1..=2u64).try_for_each(|key| watcher.beat(key, Duration::ZERO))?;
/// let mut events = Vec::new();
/// watcher.poll(Duration::from_secs(60), |event| events.push(event));
///
/// let (sender, receiver) = crossbeam_channel::bounded(1);
/// assert_eq!(sender.offer(events[0].clone()), Ok(()));
/// assert_eq!(sender.offer(events[1].clone()), Err(Refused::Full(events[1].clone())));
/// drop(receiver);
/// assert_eq!(sender.offer(events[1].clone()), Err(Refused::Gone(events[1].clone())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<K, V> {
    /// The sink has no room now. The key waits in the worker, and the same event is offered again a millisecond later.
    /// Under a manual clock, it is offered again when the clock is advanced by a millisecond, and when the worker is
    /// woken, for example by a flush.
    Full(Event<K, V>),
    /// The sink will never accept an event again. This event and all later ones are discarded and counted.
    Gone(Event<K, V>),
}

/// A destination for events.
///
/// `offer` runs on the worker threads, on several at a time if there are several workers. It must not block, because
/// its worker applies no beats while it runs. Each worker offers its events in order.
///
/// ```
/// use std::sync::Mutex;
/// use std::time::Duration;
/// use liveness::{Event, ManualClock, Refused, Sink, Watcher};
///
/// /// Keeps the last ten keys that died.
/// #[derive(Default)]
/// struct LastTen(Mutex<Vec<u64>>);
///
/// impl Sink<u64, ()> for &'static LastTen {
///     fn offer(&self, event: Event<u64, ()>) -> Result<(), Refused<u64, ()>> {
///         let mut keys = self.0.lock().unwrap();
///         keys.extend(event.key());
///         let excess = keys.len().saturating_sub(10);
///         keys.drain(..excess);
///         Ok(())
///     }
/// }
///
/// let last: &'static LastTen = Box::leak(Box::default());
/// let clock = ManualClock::new();
/// let watcher = Watcher::<u64>::builder().clock(clock.clone()).workers(1).sink(last).build()?;
/// watcher.beat_many(0..20u64)?;
/// clock.advance(Duration::from_secs(60));
/// watcher.flush()?;
/// assert_eq!(last.0.lock().unwrap().len(), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Sink<K, V>: Send + Sync + 'static {
    /// Accepts `event`, or returns it.
    ///
    /// # Errors
    ///
    /// Returns [`Refused::Full`] if the event must be offered again, and [`Refused::Gone`] if the sink will never
    /// accept an event again.
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>>;
}

/// A callback that runs on the workers and accepts every event.
pub(crate) struct InWorker<F>(pub(crate) F);

impl<K, V, F> Sink<K, V> for InWorker<F>
where
    F: Fn(Event<K, V>) + Send + Sync + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        (self.0)(event);
        Ok(())
    }
}

/// Never blocks. If the channel is full, `offer` returns [`Refused::Full`]; if it has no receiver, [`Refused::Gone`].
impl<K, V> Sink<K, V> for Sender<Event<K, V>>
where
    K: Send + 'static,
    V: Send + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        self.try_send(event).map_err(|error| match error {
            TrySendError::Full(event) => Refused::Full(event),
            TrySendError::Disconnected(event) => Refused::Gone(event),
        })
    }
}
