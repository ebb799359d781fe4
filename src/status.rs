//! The status of one watched key.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::Generation;
use crate::options::Mode;

/// The status of a watched key. All timestamps are those of the watcher's clock.
///
/// ```
/// use std::time::Duration;
/// use liveness::{LocalWatcher, Options};
///
/// let s = Duration::from_secs;
/// let mut watcher = LocalWatcher::<u64, &str>::builder().timeout(s(5)).build()?;
/// watcher.beat_with(7, s(1), Options::new().extra("rack 4"))?;
/// watcher.beat(7, s(3))?;
/// watcher.poll(s(4), drop);
/// let status = watcher.status(&7).expect("key 7 is watched");
/// assert_eq!((status.joined, status.last_beat), (s(1).into(), s(3).into()));
/// assert_eq!((status.timeout, status.deadline), (s(5), Some(s(8).into())));
/// assert_eq!((status.silence(), status.remaining()), (s(1), Some(s(4))));
/// assert_eq!((status.extra, status.misses), (Some("rack 4"), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status<V = ()> {
    /// The value that was last set for the key.
    pub extra: Option<V>,
    /// The generation, which is the number of the episode.
    pub generation: Generation,
    /// What happens to the key when it expires.
    pub mode: Mode,
    /// When the episode began.
    pub joined: Timestamp,
    /// The timestamp of the last beat.
    pub last_beat: Timestamp,
    /// The longest silence allowed, or [`Duration::MAX`] if it cannot be represented.
    pub timeout: Duration,
    /// When the key expires unless it beats, or `None` if it never expires. For a key that is down, when it is next
    /// reported or forgotten.
    pub deadline: Option<Timestamp>,
    /// The number of consecutive times that the key was found silent. Greater than zero only while it is down.
    pub misses: u64,
    /// When this status was taken.
    pub as_of: Timestamp,
}

impl Status {
    /// Returns the same status with the key's value.
    pub(crate) fn with_extra<V>(self, extra: Option<V>) -> Status<V> {
        Status {
            extra,
            generation: self.generation,
            mode: self.mode,
            joined: self.joined,
            last_beat: self.last_beat,
            timeout: self.timeout,
            deadline: self.deadline,
            misses: self.misses,
            as_of: self.as_of,
        }
    }
}

impl<V> Status<V> {
    /// Returns `true` if the key has expired, stays watched and has not beaten since.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{LocalWatcher, Mode};
    ///
    /// # let s = Duration::from_secs;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).mode(Mode::Track).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.poll(s(5), drop);
    /// assert!(watcher.status(&7).is_some_and(|status| status.is_down()));
    /// watcher.beat(7, s(6))?;
    /// assert!(watcher.status(&7).is_some_and(|status| !status.is_down()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.misses > 0
    }

    /// Returns the time from the last beat to [`as_of`](Status::as_of).
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(7)?;
    /// let status = watcher.status(&7)?.expect("key 7 is watched");
    /// assert_eq!(status.silence(), status.as_of - status.last_beat);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.as_of.saturating_duration_since(self.last_beat)
    }

    /// Returns the time from [`as_of`](Status::as_of) to the deadline: zero if it has passed, `None` if there is none.
    ///
    /// ```
    /// # let watcher = liveness::Watcher::<u64>::builder().build()?;
    /// watcher.beat(7)?;
    /// let status = watcher.status(&7)?.expect("key 7 is watched");
    /// assert_eq!(status.remaining(), Some(status.timeout - status.silence()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(self.as_of))
    }
}
