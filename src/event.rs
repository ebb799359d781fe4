//! What a watcher reports: events about keys, their kinds, and the status of a key on request.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::options::Mode;
use crate::panic::drop_both;

/// The number of an episode, which is the life of a key from its first beat to its end by expiry or removal.
///
/// Numbers grow within a worker, and a key always belongs to the same worker. Of two episodes of one key, the later one
/// has the larger number.
///
/// ```
/// use std::time::Duration;
/// use liveness::LocalWatcher;
///
/// let mut watcher = LocalWatcher::<u64>::builder().build()?;
/// watcher.beat(7, Duration::ZERO)?;
/// let first = watcher.status(&7).map(|status| status.generation);
/// watcher.remove(&7, Duration::ZERO);
/// watcher.beat(7, Duration::ZERO)?;
/// let second = watcher.status(&7).map(|status| status.generation);
/// assert!(first < second);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// Returns the number.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// let mut watcher = LocalWatcher::<u64>::builder().build()?;
    /// watcher.beat(7, Duration::ZERO)?;
    /// watcher.beat(8, Duration::ZERO)?;
    /// assert_eq!(watcher.status(&7).map(|status| status.generation.get()), Some(1));
    /// assert_eq!(watcher.status(&8).map(|status| status.generation.get()), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Generation {
    /// Creates a generation from a number, for tests of code that compares generations.
    fn from(number: u64) -> Self {
        Generation(number)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of an [`Event`]. A watcher emits only the kinds that are [enabled](crate::Builder::events).
///
/// ```
/// use std::time::Duration;
/// use liveness::{EventKind, LocalWatcher};
///
/// let mut watcher = LocalWatcher::<u64>::builder()
///     .timeout(Duration::from_secs(1))
///     .events([EventKind::Joined, EventKind::Beat, EventKind::Expired])
///     .build()?;
/// watcher.beat(7, Duration::ZERO)?;
/// watcher.beat(7, Duration::from_millis(500))?;
/// let mut kinds = Vec::new();
/// watcher.poll(Duration::from_secs(2), |event| kinds.push(event.kind().to_string()));
/// assert_eq!(kinds, ["joined", "beat", "expired"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum EventKind {
    /// An absent key beat, which began an episode.
    Joined,
    /// A watched key beat. While the sink is behind, these events are dropped and counted.
    Beat,
    /// A key was silent for its timeout.
    Expired,
    /// A key that was down beat again.
    Recovered,
    /// A key was removed by the user or by dropping its heart, or was down for so long that it was
    /// [forgotten](crate::Builder::forget_after).
    Removed,
    /// A worker detected that it had not run for a while, and held expiry back. These events may be dropped under load;
    /// [`Stats::stalls`](crate::Stats::stalls) counts all stalls.
    Stalled,
}

impl EventKind {
    /// Returns the kind in lower case, as log lines contain it.
    fn name(self) -> &'static str {
        match self {
            EventKind::Joined => "joined",
            EventKind::Beat => "beat",
            EventKind::Expired => "expired",
            EventKind::Recovered => "recovered",
            EventKind::Removed => "removed",
            EventKind::Stalled => "stalled",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of event kinds, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// Returns whether `kind` is in the set.
    #[inline]
    pub(crate) fn has(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

impl Extend<EventKind> for Kinds {
    fn extend<I: IntoIterator<Item = EventKind>>(&mut self, kinds: I) {
        kinds.into_iter().for_each(|kind| self.0 |= 1 << kind as u8);
    }
}

impl FromIterator<EventKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        let mut set = Kinds(0);
        set.extend(kinds);
        set
    }
}

/// An event about a key or about a worker.
///
/// Its `Display` is one line for a log, and requires a key that is `Debug`:
///
/// ```
/// use std::time::Duration;
/// use liveness::LocalWatcher;
///
/// let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
/// watcher.beat("db-1", Duration::ZERO)?;
/// let mut line = String::new();
/// watcher.poll(Duration::from_millis(1_250), |event| line = event.to_string());
/// assert_eq!(line, r#"expired "db-1" generation=1 silent=1.25s late=250ms misses=1"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Event<K, V = ()> {
    /// An absent key beat, which began an episode.
    Joined(KeyEvent<K, V>),
    /// A watched key beat.
    Beat(KeyEvent<K, V>),
    /// A key was silent for its timeout.
    Expired(KeyEvent<K, V>),
    /// A key that was down beat again.
    Recovered(KeyEvent<K, V>),
    /// A key was removed.
    Removed(KeyEvent<K, V>),
    /// A worker did not run for a while.
    Stalled(Stall),
}

/// The state of a key at the moment of an event. Timestamps are those of the watcher's [clock](crate::Watcher::clock).
///
/// ```
/// use std::time::Duration;
/// use liveness::{LocalWatcher, Options};
///
/// let s = Duration::from_secs;
/// let mut watcher = LocalWatcher::<&str, u16>::builder().timeout(s(5)).build()?;
/// watcher.beat_with("db-1", s(1), Options::new().extra(5432))?;
/// watcher.beat("db-1", s(3))?;
/// let mut dead = Vec::new();
/// watcher.poll(s(9), |event| dead.extend(event.into_key_event()));
/// assert_eq!((dead[0].key, dead[0].extra, dead[0].misses), ("db-1", Some(5432), 1));
/// assert_eq!((dead[0].joined, dead[0].last_beat), (s(1).into(), s(3).into()));
/// assert_eq!((dead[0].deadline, dead[0].delivered), (Some(s(8).into()), s(9).into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyEvent<K, V = ()> {
    /// The key.
    pub key: K,
    /// The value that was last set for the key.
    pub extra: Option<V>,
    /// The number of the episode.
    pub generation: Generation,
    /// What happens to the key when it expires.
    pub mode: Mode,
    /// When the episode began.
    pub joined: Timestamp,
    /// The timestamp of the last beat.
    pub last_beat: Timestamp,
    /// The longest silence allowed, or [`Duration::MAX`] if it cannot be represented.
    pub timeout: Duration,
    /// In an expiry, the deadline that passed. Otherwise the next one, or `None` if it never comes.
    pub deadline: Option<Timestamp>,
    /// When the worker detected the event.
    pub detected: Timestamp,
    /// When the event was delivered: just before the callback was called, or when the channel accepted it.
    pub delivered: Timestamp,
    /// In an expiry, the number of times in a row that the key was found silent, from 1. Several timeouts over which
    /// the clock jumps count once. In a recovery, the number of times before it. Otherwise 0.
    pub misses: u64,
    /// In a recovery, the time from the first missed deadline to the beat that ended the silence. Otherwise `None`.
    pub down_for: Option<Duration>,
}

impl<K, V> KeyEvent<K, V> {
    /// Creates an event about `key` without a watcher, for tests of code that handles events.
    ///
    /// The event is about the first episode of a [`Mode::Once`] key that never expires. Every timestamp is the origin,
    /// and there is no extra, no deadline and no miss. Assign to the fields to change them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Event, KeyEvent};
    ///
    /// /// Returns the text of an alarm. This is the code under test.
    /// fn alarm(event: &Event<&str>) -> Option<String> {
    ///     match event {
    ///         Event::Expired(event) if event.misses >= 3 => Some(format!("{} is lost", event.key)),
    ///         _ => None,
    ///     }
    /// }
    ///
    /// let mut event = KeyEvent::new("db-1");
    /// event.last_beat = Duration::from_secs(5).into();
    /// event.misses = 2;
    /// assert_eq!(alarm(&Event::Expired(event.clone())), None);
    /// event.misses = 3;
    /// assert_eq!(alarm(&Event::Expired(event)).as_deref(), Some("db-1 is lost"));
    /// ```
    #[must_use]
    pub fn new(key: K) -> Self {
        KeyEvent {
            key,
            extra: None,
            generation: Generation(1),
            mode: Mode::Once,
            joined: Timestamp::ORIGIN,
            last_beat: Timestamp::ORIGIN,
            timeout: Duration::MAX,
            deadline: None,
            detected: Timestamp::ORIGIN,
            delivered: Timestamp::ORIGIN,
            misses: 0,
            down_for: None,
        }
    }

    /// Returns the time from the deadline to the delivery: how late an expiry is reported, including the time for which
    /// it was held back after a stall. Returns zero if there is no deadline or it is in the future.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// let late = events[0].key_event().map(|event| event.lateness());
    /// assert_eq!(late, Some(Duration::from_millis(250))); // the timeout is a second
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.deadline
            .map_or(Duration::ZERO, |deadline| self.delivered - deadline)
    }

    /// Returns the time from the last beat to the detection.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// let silent = events[0].key_event().map(|event| event.silence());
    /// assert_eq!(silent, Some(Duration::from_millis(1_250)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.detected - self.last_beat
    }
}

/// A period in which a worker did not run, because the process was suspended or the machine was paused or overloaded.
///
/// Beats sent meanwhile may not have arrived yet, so expiry is held back: no key expires before `resumed + min(its
/// timeout, held_for)`.
///
/// ```
/// use std::{sync::mpsc, thread::sleep, time::Duration};
/// use liveness::{Event, EventKind, Stall, Watcher};
///
/// let (sender, stalls) = mpsc::channel();
/// let watcher = Watcher::<u64>::builder()
///     .workers(1)
///     .stall_threshold(Duration::from_millis(2))
///     .events([EventKind::Joined, EventKind::Stalled])
///     .on_event_in_worker(move |event| match event {
///         Event::Stalled(stall) => drop(sender.send(stall)),
///         _ => sleep(Duration::from_millis(3)), // keeps the worker from running
///     })
///     .build()?;
/// watcher.beat(7)?;
/// let stall = stalls.recv()?;
/// let gap = stall.resumed - stall.last_alive;
/// assert!(gap >= Duration::from_millis(3));
/// assert_eq!((stall.worker, stall.held_for), (0, gap));
///
/// // For a test of code that handles stalls:
/// let mut stall = Stall::default();
/// stall.resumed = Duration::from_secs(3).into();
/// assert_eq!(Event::<u64>::Stalled(stall).to_string(), "stalled worker=0 gap=3s held_for=0ns");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stall {
    /// The index of the worker.
    pub worker: usize,
    /// When the worker was last known to run.
    pub last_alive: Timestamp,
    /// When it ran again.
    pub resumed: Timestamp,
    /// The longest time for which expiry is held back. It is less than the gap if the [cap](crate::Builder::stall_cap)
    /// was reached.
    pub held_for: Duration,
}

impl<K, V> Event<K, V> {
    /// Creates an event of `kind` about a key. A `Stalled` event is about none and is created directly.
    pub(crate) fn of_key(kind: EventKind, event: KeyEvent<K, V>) -> Self {
        match kind {
            EventKind::Joined => Event::Joined(event),
            EventKind::Beat => Event::Beat(event),
            EventKind::Recovered => Event::Recovered(event),
            EventKind::Removed => Event::Removed(event),
            EventKind::Expired | EventKind::Stalled => Event::Expired(event),
        }
    }

    /// Returns the kind of the event.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{EventKind, LocalWatcher};
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// assert_eq!(events[0].kind(), EventKind::Expired);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Event::Joined(_) => EventKind::Joined,
            Event::Beat(_) => EventKind::Beat,
            Event::Expired(_) => EventKind::Expired,
            Event::Recovered(_) => EventKind::Recovered,
            Event::Removed(_) => EventKind::Removed,
            Event::Stalled(_) => EventKind::Stalled,
        }
    }

    /// Returns the state of the key, or `None` for a stall.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// let deadline = events[0].key_event().and_then(|event| event.deadline);
    /// assert_eq!(deadline, Some(Duration::from_secs(1).into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn key_event(&self) -> Option<&KeyEvent<K, V>> {
        match self {
            Event::Joined(event)
            | Event::Beat(event)
            | Event::Expired(event)
            | Event::Recovered(event)
            | Event::Removed(event) => Some(event),
            Event::Stalled(_) => None,
        }
    }

    /// Converts the event into the state of the key, or `None` for a stall.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// let event = events.remove(0).into_key_event().expect("an expiry is about a key");
    /// assert_eq!((event.key, event.timeout), ("db-1", Duration::from_secs(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_key_event(self) -> Option<KeyEvent<K, V>> {
        match self {
            Event::Joined(event)
            | Event::Beat(event)
            | Event::Expired(event)
            | Event::Recovered(event)
            | Event::Removed(event) => Some(event),
            Event::Stalled(_) => None,
        }
    }

    /// Returns the key, or `None` for a stall.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(Duration::from_secs(1)).build()?;
    /// watcher.beat("db-1", Duration::ZERO)?;
    /// let mut events = Vec::new();
    /// watcher.poll(Duration::from_millis(1_250), |event| events.push(event));
    /// assert_eq!(events[0].key(), Some(&"db-1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&K> {
        self.key_event().map(|event| &event.key)
    }

    /// Sets the time of the delivery.
    pub(crate) fn set_delivered(&mut self, now: Timestamp) {
        match self {
            Event::Joined(event)
            | Event::Beat(event)
            | Event::Expired(event)
            | Event::Recovered(event)
            | Event::Removed(event) => event.delivered = now,
            Event::Stalled(_) => {}
        }
    }

    /// Turns an expiry into a removal. Moves the key, so no user code runs.
    pub(crate) fn expired_to_removed(&mut self) {
        let nothing = Event::Stalled(Stall {
            worker: 0,
            last_alive: Timestamp::ORIGIN,
            resumed: Timestamp::ORIGIN,
            held_for: Duration::ZERO,
        });
        *self = match std::mem::replace(self, nothing) {
            Event::Expired(event) => Event::Removed(event),
            other => other,
        };
    }

    /// Drops the key and then the value, each of which may panic. Returns whether neither did.
    pub(crate) fn dismantle(self) -> bool {
        let Some(KeyEvent { key, extra, .. }) = self.into_key_event() else {
            return true;
        };
        drop_both(key, extra)
    }

    /// Returns whether this event ends an episode that was counted as pending until now.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Event::Expired(event) if event.mode == Mode::Once)
    }
}

impl<K: fmt::Debug, V> fmt::Display for Event<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(event) = self.key_event() else {
            let Event::Stalled(stall) = self else {
                return Ok(());
            };
            let gap = stall.resumed - stall.last_alive;
            return write!(
                f,
                "stalled worker={} gap={gap:?} held_for={:?}",
                stall.worker, stall.held_for
            );
        };
        write!(
            f,
            "{} {:?} generation={}",
            self.kind(),
            event.key,
            event.generation
        )?;
        match self {
            Event::Expired(_) => write!(
                f,
                " silent={:?} late={:?} misses={}",
                event.silence(),
                event.lateness(),
                event.misses
            ),
            Event::Recovered(_) => {
                write!(
                    f,
                    " down_for={:?} misses={}",
                    event.down_for.unwrap_or_default(),
                    event.misses
                )
            }
            _ => write!(f, " timeout={:?}", event.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_kinds_has_what_was_put_in() {
        let kinds: Kinds = [EventKind::Expired, EventKind::Stalled]
            .into_iter()
            .collect();
        assert!(kinds.has(EventKind::Expired) && kinds.has(EventKind::Stalled));
        assert!(!kinds.has(EventKind::Joined) && !kinds.has(EventKind::Beat));
    }

    #[test]
    fn a_stall_reads_as_a_log_line() {
        let stall = Stall {
            worker: 1,
            last_alive: Duration::from_secs(2).into(),
            resumed: Duration::from_secs(5).into(),
            held_for: Duration::from_secs(3),
        };
        let event: Event<u64> = Event::Stalled(stall);
        assert_eq!(event.to_string(), "stalled worker=1 gap=3s held_for=3s");
        assert_eq!((event.key(), event.kind()), (None, EventKind::Stalled));
    }
}
