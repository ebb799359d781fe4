//! How one key is watched: its timeout, its mode, and the value that it carries.

use std::time::Duration;

/// The timeout of a key without its own, unless the builder is given another.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How late a worker may wake before the delay counts as a stall, unless the builder is given another threshold.
pub(crate) const DEFAULT_STALL_THRESHOLD: Duration = Duration::from_millis(100);

/// A delay up to this is never a stall, however short the timeout. More than a round of delivery takes.
const LEAST_STALL: Duration = Duration::from_millis(2);

/// Returns how late a worker may wake before the delay counts as a stall: `threshold`, or a quarter of the shortest
/// timeout in use if that is less, but at least 2 ms where the threshold allows it.
pub(crate) fn stall_tolerance(threshold: Duration, shortest_timeout: Duration) -> Duration {
    threshold.min((shortest_timeout / 4).max(LEAST_STALL))
}

/// What happens to a key when it expires.
///
/// | mode | reported | then |
/// |---|---|---|
/// | `Once` | once | forgotten; the next beat begins a new episode |
/// | `Track` | once | stays known; the next beat is a [`Recovered`](crate::EventKind::Recovered) event |
/// | `Repeat` | after each further timeout of silence | as `Track` |
///
/// A key that stays known while it is silent is *down*. It can be [forgotten after a
/// period](crate::Builder::forget_after).
///
/// ```
/// use std::time::Duration;
/// use liveness::{EventKind, LocalWatcher, Mode, Options};
///
/// let s = Duration::from_secs;
/// let mut watcher = LocalWatcher::<&str>::builder().timeout(s(5)).build()?;
/// watcher.beat("once", s(0))?;
/// watcher.beat_with("track", s(0), Options::new().mode(Mode::Track))?;
/// watcher.beat_with("repeat", s(0), Options::new().mode(Mode::Repeat))?;
/// let mut expired = Vec::new();
/// for time in [5, 10] {
///     watcher.poll(s(time), |event| expired.extend(event.key().copied()));
/// }
/// assert_eq!(expired, ["once", "track", "repeat", "repeat"]);
/// assert!(!watcher.contains(&"once"));
/// assert_eq!(watcher.status(&"track").map(|status| status.misses), Some(1));
/// assert_eq!(watcher.status(&"repeat").map(|status| status.misses), Some(2));
///
/// watcher.beat("track", s(12))?;
/// let mut recovered = Vec::new();
/// watcher.poll(s(12), |event| recovered.extend(event.into_key_event()));
/// assert_eq!(recovered[0].down_for, Some(s(7))); // since its first deadline
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Mode {
    /// The key is reported and forgotten; its next beat begins a new episode.
    #[default]
    Once,
    /// The key is reported once and stays watched; its next beat emits a [`Recovered`](crate::EventKind::Recovered)
    /// event. While it is down it costs no time.
    Track,
    /// The key stays watched and is reported again after each further timeout of silence, with the number of misses. If
    /// the clock jumps over several timeouts, there is one report for all of them. The next beat emits a
    /// [`Recovered`](crate::EventKind::Recovered) event.
    Repeat,
}

/// Options of one key, which override the defaults of the watcher; passed to
/// [`Watcher::beat_with`](crate::Watcher::beat_with).
///
/// An option holds until it is set again or the episode ends. Later beats without that option do not change it.
///
/// ```
/// use std::time::Duration;
/// use liveness::{Mode, Options};
///
/// let options = Options::new().timeout(Duration::from_secs(30)).mode(Mode::Repeat).extra("rack 4");
/// assert_eq!(options, options.clone());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Options<V = ()> {
    /// The timeout, if it is set.
    pub(crate) timeout: Option<Duration>,
    /// The mode, if it is set.
    pub(crate) mode: Option<Mode>,
    /// The value to carry, if there is one.
    pub(crate) extra: Option<V>,
    /// Whether a beat of an absent key is ignored instead of beginning an episode.
    pub(crate) known_only: bool,
}

impl<V> Options<V> {
    /// Creates options that set nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{LocalWatcher, Options};
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().build()?;
    /// watcher.beat_with(7, s(0), Options::new().timeout(s(30)))?;
    /// watcher.beat_with(7, s(1), Options::new())?; // leaves the timeout as it is
    /// assert_eq!(watcher.status(&7).map(|status| status.timeout), Some(s(30)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Self {
        Options {
            timeout: None,
            mode: None,
            extra: None,
            known_only: false,
        }
    }

    /// Sets the longest silence allowed for this key. If it is zero, the call that takes the options returns an error.
    /// A key whose deadline cannot be represented never expires.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{LocalWatcher, Options};
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<&str>::builder().timeout(s(10)).build()?;
    /// watcher.beat("fast", s(0))?;
    /// watcher.beat_with("slow", s(0), Options::new().timeout(s(60)))?;
    /// watcher.poll(s(59), drop);
    /// assert_eq!((watcher.contains(&"fast"), watcher.contains(&"slow")), (false, true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets what happens to the key when it expires.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{LocalWatcher, Mode, Options};
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<&str>::builder().timeout(s(10)).build()?;
    /// watcher.beat_with("db-1", s(0), Options::new().mode(Mode::Repeat))?;
    /// watcher.beat("db-1", s(1))?; // keeps the mode
    /// assert_eq!(watcher.status(&"db-1").map(|status| status.mode), Some(Mode::Repeat));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets a value that the key's events and its status contain.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{LocalWatcher, Options};
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<&str, &str>::builder().timeout(s(10)).build()?;
    /// watcher.beat_with("db-1", s(0), Options::new().extra("rack 4"))?;
    /// watcher.beat("db-1", s(1))?; // keeps the value
    /// let mut racks = Vec::new();
    /// watcher.poll(s(11), |event| racks.extend(event.into_key_event().and_then(|event| event.extra)));
    /// assert_eq!(racks, ["rack 4"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extra(mut self, extra: V) -> Self {
        self.extra = Some(extra);
        self
    }

    /// Restricts the beat to a key that is already watched. A beat of an absent key begins no episode and is counted in
    /// [`Stats::unknown`](crate::Stats::unknown) instead. Use this for senders that must not bring back a key which was
    /// removed or has expired.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{LocalWatcher, Options};
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().build()?;
    /// watcher.beat(7, s(0))?;
    /// for key in [7, 8] {
    ///     watcher.beat_with(key, s(1), Options::new().known_only())?;
    /// }
    /// assert!(watcher.contains(&7) && !watcher.contains(&8));
    /// assert_eq!(watcher.stats().unknown, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn known_only(mut self) -> Self {
        self.known_only = true;
        self
    }
}

impl<V> Default for Options<V> {
    fn default() -> Self {
        Options::new()
    }
}
