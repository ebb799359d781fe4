//! Where events go: a callback on a thread of its own, a callback on the workers, a channel, or a sink of the user's.

mod outbox;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};

use crate::event::Event;
use crate::sync::sized;
pub(crate) use outbox::Outbox;

/// An event that a [`Sink`] did not take.
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
    /// There is no room for it now; the key waits in the worker, and the same event is offered again a millisecond later
    /// (under a manual clock, when the worker is next woken, by a flush for example).
    Full(Event<K, V>),
    /// There will never be room for any: this event and all later ones are discarded, and counted.
    Gone(Event<K, V>),
}

/// A destination for events.
///
/// `offer` runs on the worker threads, several at a time if there are several workers, and keeps its worker from taking
/// beats while it runs: it must not block. Each worker offers its events in order.
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
    /// Takes `event`, or hands it back.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] to be offered it again, [`Refused::Gone`] to be offered none any more.
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>>;
}

/// Never blocks: a full channel refuses, a channel without a receiver is gone.
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

/// A callback that runs on the workers.
pub(crate) struct OnWorker<F>(pub(crate) F);

impl<K, V, F> Sink<K, V> for OnWorker<F>
where
    F: Fn(Event<K, V>) + Send + Sync + 'static,
{
    fn offer(&self, event: Event<K, V>) -> Result<(), Refused<K, V>> {
        (self.0)(event);
        Ok(())
    }
}

/// A callback that runs on the delivery thread.
pub(crate) type Callback<K, V> = Box<dyn FnMut(Event<K, V>) + Send>;

/// The way out of a worker.
pub(crate) enum Outlet<K, V> {
    /// Nobody listens.
    Nowhere,
    /// The worker itself offers.
    Direct(Arc<dyn Sink<K, V>>),
    /// The delivery thread calls back.
    Queued(Arc<Outbox<K, V>>),
}

impl<K, V> Clone for Outlet<K, V> {
    fn clone(&self) -> Self {
        match self {
            Outlet::Nowhere => Outlet::Nowhere,
            Outlet::Direct(sink) => Outlet::Direct(sink.clone()),
            Outlet::Queued(outbox) => Outlet::Queued(outbox.clone()),
        }
    }
}

impl<K, V> fmt::Debug for Outlet<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outlet::Nowhere => "Nowhere",
            Outlet::Direct(_) => "Direct",
            Outlet::Queued(_) => "Queued",
        })
    }
}

/// How many events of one worker wait in the outbox at the most; all others wait in the worker's slab.
pub(crate) const OUTBOX_QUOTA: usize = sized(1_024, 2);

/// How long delivery goes on with what waits when the watcher closes.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(100);
