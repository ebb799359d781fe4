//! Where the time comes from: the machine's monotonic clock, or one that a test moves by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering};

/// A point in time that never comes: the deadline of a timeout too long to be represented.
pub(crate) const NEVER: u64 = u64::MAX;

/// The nanoseconds of `duration`; what does not fit becomes [`NEVER`].
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// The duration of `ns` nanoseconds; [`NEVER`] becomes [`Duration::MAX`].
pub(crate) fn duration(ns: u64) -> Duration {
    match ns {
        NEVER => Duration::MAX,
        ns => Duration::from_nanos(ns),
    }
}

/// The deadline `ns` nanoseconds as users see it: `None` for one that never comes.
pub(crate) fn deadline(ns: u64) -> Option<Duration> {
    (ns != NEVER).then(|| Duration::from_nanos(ns))
}

/// The time source of a watcher.
///
/// Every point in time of this crate is a [`Duration`] since the origin of the watcher's clock. The origin of a
/// monotonic clock is the moment it was made; steps of the wall clock do not move it. Clones share their origin.
///
/// ```
/// use liveness::Clock;
///
/// let clock = Clock::monotonic();
/// let earlier = clock.now();
/// assert!(clock.now() >= earlier);
/// ```
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

/// The kinds of clock; an enum and not a trait object, so that a reading inlines into the beat.
#[derive(Clone, Debug)]
enum Source {
    /// The operating system's monotonic clock, counted from this instant.
    Monotonic(Instant),
    /// The processor's time-stamp counter, read as nanoseconds, and the reading at the origin.
    #[cfg(feature = "tsc")]
    Tsc(quanta::Clock, quanta::Instant),
    /// A clock moved by hand, and the latest reading of it, ns: who goes by this never sees it go backwards.
    Manual(ManualClock, Arc<AtomicU64>),
}

impl Clock {
    /// The operating system's monotonic clock, its origin now. A reading costs 20 to 30 ns on current machines.
    ///
    /// ```
    /// use liveness::{Clock, Watcher};
    ///
    /// // One clock for both, so that their times can be compared.
    /// let clock = Clock::monotonic();
    /// let devices = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// let jobs = Watcher::<u64>::builder().clock(clock).build()?;
    /// devices.beat(7u64)?;
    /// jobs.beat(8u64)?;
    /// let beat_of_7 = devices.status(&7)?.expect("it is watched").last_beat;
    /// let beat_of_8 = jobs.status(&8)?.expect("it is watched").last_beat;
    /// assert!(beat_of_7 <= beat_of_8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn monotonic() -> Self {
        Clock {
            source: Source::Monotonic(Instant::now()),
        }
    }

    /// The time since the clock's origin.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{Clock, ManualClock};
    ///
    /// let manual = ManualClock::new();
    /// let clock = Clock::from(manual.clone());
    /// manual.advance(Duration::from_secs(5));
    /// assert_eq!(clock.now(), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    /// The processor's time-stamp counter, its origin now: a reading costs about 10 ns. Where the counter does not run
    /// at a constant rate this is the operating system's monotonic clock. The first such clock in a process measures the
    /// rate, which takes up to 200 ms; it is off by some millionths, and so are the watcher's timeouts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Clock, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().clock(Clock::tsc()).build()?;
    /// watcher.beat(7u64)?;
    /// assert!(watcher.status(&7)?.is_some_and(|status| status.last_beat <= watcher.now()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tsc")]
    #[must_use]
    pub fn tsc() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.now();
        Clock {
            source: Source::Tsc(clock, origin),
        }
    }

    /// The time since the clock's origin, in nanoseconds.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        match &self.source {
            Source::Monotonic(origin) => {
                let elapsed = origin.elapsed();
                elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
            }
            #[cfg(feature = "tsc")]
            Source::Tsc(clock, origin) => {
                let elapsed = clock.now().saturating_duration_since(*origin);
                elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
            }
            Source::Manual(clock, latest) => {
                let now = clock.now_ns.load(Ordering::SeqCst);
                latest.fetch_max(now, Ordering::SeqCst).max(now)
            }
        }
    }

    /// Whether time only moves when somebody moves it, so that waiting for it is pointless.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(..))
    }
}

impl Default for Clock {
    /// The monotonic clock.
    fn default() -> Self {
        Clock::monotonic()
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Clock {
            source: Source::Manual(clock, Arc::default()),
        }
    }
}

/// A clock that stands still until it is told to move, for tests that do not sleep.
///
/// Clones share the time. To step a [`Watcher`](crate::Watcher) deterministically: give it such a clock and a
/// channel sink, beat, [`advance`](ManualClock::advance), then [`flush`](crate::Watcher::flush). When `flush`
/// returns, every beat before it is applied, everything due at the new time is expired, and its events are in the
/// channel. Stall detection is off under a manual clock.
///
/// ```
/// use std::time::Duration;
/// use liveness::{ManualClock, Watcher};
///
/// let clock = ManualClock::new();
/// let (watcher, events) = Watcher::<u64>::builder()
///     .timeout(Duration::from_secs(1))
///     .clock(clock.clone())
///     .build_with_channel(16)?;
///
/// watcher.beat(7u64)?;
/// clock.advance(Duration::from_millis(999));
/// watcher.flush()?;
/// assert!(events.is_empty());
///
/// clock.advance(Duration::from_millis(1));
/// watcher.flush()?;
/// assert_eq!(events.recv()?.key(), Some(&7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    /// Nanoseconds since the origin, shared by all clones.
    now_ns: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that reads zero.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::ManualClock;
    /// let clock = ManualClock::new();
    /// let (clone, other) = (clock.clone(), ManualClock::new());
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!((clone.now(), other.now()), (Duration::from_secs(1), Duration::ZERO));
    /// ```
    #[must_use]
    pub fn new() -> Self {
        ManualClock::default()
    }

    /// The time since the clock's origin.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// clock.advance(Duration::from_millis(250));
    /// watcher.beat(7u64)?;
    /// assert_eq!(watcher.status(&7)?.map(|status| status.last_beat), Some(clock.now()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns.load(Ordering::SeqCst))
    }

    /// Moves the time forward by `by`; past the end of the representable time (584 years) it stays there.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::ManualClock;
    /// let clock = ManualClock::new();
    /// clock.advance(Duration::from_secs(2));
    /// clock.advance(Duration::from_millis(500));
    /// assert_eq!(clock.now(), Duration::from_millis(2_500));
    ///
    /// clock.advance(Duration::MAX);
    /// assert_eq!(clock.now(), Duration::from_nanos(u64::MAX));
    /// ```
    pub fn advance(&self, by: Duration) {
        let step = |now: u64| Some(now.saturating_add(nanos(by)));
        let _ = self
            .now_ns
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
    }

    /// Sets the time, backwards too: a watcher takes a clock that goes backwards as standing still until it is past where
    /// it was.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// clock.set(Duration::from_secs(60));
    /// watcher.beat(7u64)?;
    /// clock.set(Duration::from_secs(30));
    /// watcher.beat(7u64)?; // older than the last one: changes nothing
    /// let status = watcher.status(&7)?.expect("it is watched");
    /// assert_eq!(status.last_beat, Duration::from_secs(60));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, now: Duration) {
        self.now_ns.store(nanos(now), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_share_its_time() {
        let manual = ManualClock::new();
        let clock = Clock::from(manual.clone());
        manual.advance(Duration::from_nanos(5));
        assert_eq!(clock.now_ns(), 5);
        manual.set(Duration::from_nanos(2));
        assert_eq!(
            clock.now(),
            Duration::from_nanos(5),
            "back is standing still"
        );
        assert_eq!(manual.now(), Duration::from_nanos(2));
    }

    #[test]
    fn a_monotonic_clock_counts_nanoseconds_from_its_origin() {
        let ago = Duration::from_millis(1_250);
        let Some(origin) = Instant::now().checked_sub(ago) else {
            return; // The machine has just started.
        };
        let source = Source::Monotonic(origin);
        let now = Clock { source }.now();
        assert!(now >= ago && now < ago * 100, "{now:?}");
    }

    #[test]
    fn only_a_clock_moved_by_hand_is_manual() {
        assert!(Clock::from(ManualClock::new()).is_manual());
        assert!(!Clock::monotonic().is_manual());
    }

    #[test]
    fn conversions_saturate_to_never_and_back() {
        assert_eq!(nanos(Duration::MAX), NEVER);
        assert_eq!(duration(NEVER), Duration::MAX);
        assert_eq!(deadline(NEVER), None);
        assert_eq!(deadline(3), Some(Duration::from_nanos(3)));
        let manual = ManualClock::new();
        manual.advance(Duration::MAX);
        manual.advance(Duration::MAX);
        assert_eq!(nanos(manual.now()), NEVER);
    }
}
