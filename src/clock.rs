//! Points in time, and clocks.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::sync::atomic::{AtomicU64, Ordering};
#[cfg(any(feature = "dispatch", feature = "pacemaker", feature = "server"))]
use crate::sync::{Condvar, MutexGuard};
use crate::wakeup::{Ring, Ringers};

/// A point in time that never comes: the deadline of a timeout too long to be represented.
pub(crate) const NEVER: u64 = u64::MAX;

/// Returns the nanoseconds of `duration`, or [`NEVER`] if they do not fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// Returns the duration of `ns` nanoseconds, or [`Duration::MAX`] for [`NEVER`].
pub(crate) fn duration(ns: u64) -> Duration {
    match ns {
        NEVER => Duration::MAX,
        ns => Duration::from_nanos(ns),
    }
}

/// Returns the deadline `ns` as a timestamp, or `None` if it never comes.
pub(crate) fn deadline(ns: u64) -> Option<Timestamp> {
    (ns != NEVER).then_some(Timestamp(ns))
}

/// A point in time, in nanoseconds since the origin of a [`Clock`].
///
/// Timestamps of one clock, and of its clones, can be compared. Those of different clocks are not comparable.
/// Times up to 584 years after the origin can be represented. For a log,
/// [`Clock::system_time`] and [`Clock::instant`] convert a timestamp.
///
/// A [`LocalWatcher`](crate::LocalWatcher) and a [`ManualClock`] have no time of their own, so their methods take the
/// time as `impl Into<Timestamp>`: a [`Duration`] since an origin of the caller's choice converts.
///
/// ```
/// use std::time::Duration;
/// use liveness::{Clock, Timestamp};
///
/// let clock = Clock::monotonic();
/// let began = clock.now();
/// let deadline = began + Duration::from_secs(5);
/// assert!(clock.now() < deadline);
/// assert_eq!(deadline - began, Duration::from_secs(5));
/// assert_eq!(began - deadline, Duration::ZERO); // saturates, as `Instant` does
///
/// let timestamp = Timestamp::from(Duration::from_millis(1_500));
/// assert_eq!(format!("{timestamp:?} {timestamp}"), "1.5s 1.5s");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin of the clock.
    ///
    /// ```
    /// # use liveness::{ManualClock, Timestamp};
    /// assert_eq!(ManualClock::new().now(), Timestamp::ORIGIN);
    /// ```
    pub const ORIGIN: Timestamp = Timestamp(0);

    /// Creates the point in time `ns` nanoseconds after the origin.
    #[inline]
    pub(crate) const fn from_nanos(ns: u64) -> Self {
        Timestamp(ns)
    }

    /// Returns the nanoseconds since the origin.
    #[inline]
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from the origin of the clock to this point.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::Timestamp;
    /// let s = Duration::from_secs;
    /// assert_eq!(Timestamp::from(s(3)).since_origin(), s(3));
    /// ```
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Returns the time from `earlier` to this point, or zero if `earlier` is the later one. The operator `-` does the
    /// same.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::Timestamp;
    /// # let s = Duration::from_secs;
    /// let (earlier, later) = (Timestamp::from(s(3)), Timestamp::from(s(5)));
    /// assert_eq!(later.saturating_duration_since(earlier), s(2));
    /// assert_eq!(earlier.saturating_duration_since(later), s(0));
    /// ```
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the time from `earlier` to this point, or `None` if `earlier` is the later one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::Timestamp;
    /// # let s = Duration::from_secs;
    /// let (earlier, later) = (Timestamp::from(s(3)), Timestamp::from(s(5)));
    /// assert_eq!(later.checked_duration_since(earlier), Some(s(2)));
    /// assert_eq!(earlier.checked_duration_since(later), None);
    /// ```
    #[must_use]
    pub fn checked_duration_since(self, earlier: Timestamp) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_nanos)
    }

    /// Returns the point `duration` later, or `None` if it cannot be represented. The operator `+` returns the largest
    /// timestamp instead.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::Timestamp;
    /// # let s = Duration::from_secs;
    /// let timestamp = Timestamp::from(s(3));
    /// assert_eq!(timestamp.checked_add(s(2)), Some(Timestamp::from(s(5))));
    /// assert_eq!(timestamp.checked_add(Duration::MAX), None);
    /// assert_eq!(timestamp + Duration::MAX, Timestamp::from(Duration::MAX));
    /// ```
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Timestamp> {
        let ns = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(ns).map(Timestamp)
    }

    /// Returns the point `duration` earlier, or `None` if it lies before the origin. The operator `-` returns the
    /// origin instead.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::Timestamp;
    /// # let s = Duration::from_secs;
    /// let timestamp = Timestamp::from(s(3));
    /// assert_eq!(timestamp.checked_sub(s(2)), Some(Timestamp::from(s(1))));
    /// assert_eq!(timestamp.checked_sub(s(4)), None);
    /// assert_eq!(timestamp - s(4), Timestamp::ORIGIN);
    /// ```
    #[must_use]
    pub fn checked_sub(self, duration: Duration) -> Option<Timestamp> {
        let ns = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_sub(ns).map(Timestamp)
    }
}

impl From<Duration> for Timestamp {
    /// Returns the point `since_origin` after the origin, or the largest timestamp if that cannot be represented.
    fn from(since_origin: Duration) -> Self {
        Timestamp(nanos(since_origin))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Returns the point `duration` later, or the largest timestamp if that cannot be represented.
    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    /// Returns the point `duration` earlier, or the origin if that lies before it.
    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// Returns the time from `earlier` to this point, or zero if `earlier` is the later one.
    fn sub(self, earlier: Timestamp) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Timestamp {
    /// Formats the [`Duration`] since the origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.since_origin(), f)
    }
}

impl fmt::Display for Timestamp {
    /// Formats the [`Duration`] since the origin, such as `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.since_origin(), f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Timestamp {
    /// Serializes the [`Duration`] since the origin.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.since_origin().serialize(serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Timestamp {
    /// Deserializes the [`Duration`] since the origin.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Duration::deserialize(deserializer).map(Timestamp::from)
    }
}

/// The time source of a watcher.
///
/// Every point in time of this crate is a [`Timestamp`] of the watcher's clock. The origin of a monotonic clock is the
/// moment of its creation. Steps of the wall clock have no effect on it. Clones share the origin.
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

/// The kinds of clock. This is an enum and not a trait object, so that a reading is inlined into the beat.
#[derive(Clone, Debug)]
enum Source {
    /// The operating system's monotonic clock, counted from this instant.
    Monotonic(Instant),
    /// The processor's time-stamp counter, read as nanoseconds, and the reading at the origin.
    #[cfg(feature = "tsc")]
    Tsc(quanta::Clock, quanta::Instant),
    /// A manual clock, and its latest reading, ns, so that readings never go backwards.
    Manual(ManualClock, Arc<AtomicU64>),
}

impl Clock {
    /// Creates a clock that reads the operating system's monotonic clock, with its origin now. A reading costs 20 to 30
    /// ns on current machines.
    ///
    /// ```
    /// use liveness::{Clock, Watcher};
    ///
    /// // One clock for both, so that their times can be compared.
    /// let clock = Clock::monotonic();
    /// let devices = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// let jobs = Watcher::<u64>::builder().clock(clock).build()?;
    /// devices.beat(7)?;
    /// jobs.beat(8)?;
    /// let beat_of_7 = devices.status(&7)?.expect("the key is watched").last_beat;
    /// let beat_of_8 = jobs.status(&8)?.expect("the key is watched").last_beat;
    /// assert!(beat_of_7 <= beat_of_8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn monotonic() -> Self {
        Clock {
            source: Source::Monotonic(Instant::now()),
        }
    }

    /// Creates a monotonic clock whose origin lies `past` before now, for times from before its creation. If the
    /// platform cannot represent the origin, it is now.
    #[cfg(feature = "redis")]
    pub(crate) fn monotonic_since(past: Duration) -> Self {
        let now = Instant::now();
        let origin = now.checked_sub(past).unwrap_or(now);
        Clock {
            source: Source::Monotonic(origin),
        }
    }

    /// Returns the current time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{Clock, ManualClock};
    ///
    /// let manual = ManualClock::new();
    /// let clock = Clock::from(manual.clone());
    /// manual.advance(Duration::from_secs(5));
    /// assert_eq!(clock.now().since_origin(), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_ns())
    }

    /// Returns `timestamp` as an [`Instant`], or `None` if the platform cannot represent it. A manual clock counts from
    /// the instant of its creation. Costs a reading of one or two clocks.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// use liveness::Watcher;
    ///
    /// let watcher = Watcher::<u64>::builder().build()?;
    /// let before = Instant::now();
    /// watcher.beat(7)?;
    /// let status = watcher.status(&7)?.expect("the key is watched");
    /// let last_beat = watcher.clock().instant(status.last_beat).expect("it is close to now");
    /// assert!(last_beat >= before && last_beat <= Instant::now());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn instant(&self, timestamp: Timestamp) -> Option<Instant> {
        match &self.source {
            Source::Monotonic(origin) => origin.checked_add(timestamp.since_origin()),
            #[cfg(feature = "tsc")]
            Source::Tsc(..) => {
                let now = self.now();
                match timestamp.checked_duration_since(now) {
                    Some(ahead) => Instant::now().checked_add(ahead),
                    None => Instant::now().checked_sub(now - timestamp),
                }
            }
            Source::Manual(clock, _) => clock.made.0.checked_add(timestamp.since_origin()),
        }
    }

    /// Returns `timestamp` as wall-clock time, for a log: the current wall-clock time minus the age of the timestamp.
    /// After a step of the wall clock the same timestamp converts to another time. A manual clock counts from the
    /// wall-clock time of its creation. Costs a reading of two clocks.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// use liveness::{Clock, ManualClock};
    ///
    /// let clock = Clock::monotonic();
    /// let age = clock.system_time(clock.now()).elapsed().unwrap_or_default();
    /// assert!(age < Duration::from_secs(60));
    ///
    /// let manual = ManualClock::new();
    /// let clock = Clock::from(manual.clone());
    /// let origin = clock.system_time(clock.now());
    /// manual.advance(Duration::from_secs(3_600));
    /// assert_eq!(clock.system_time(clock.now()), origin + Duration::from_secs(3_600));
    /// ```
    #[must_use]
    pub fn system_time(&self, timestamp: Timestamp) -> SystemTime {
        let (known, wall) = if let Source::Manual(clock, _) = &self.source {
            (Timestamp::ORIGIN, clock.made.1)
        } else {
            (self.now(), SystemTime::now())
        };
        let converted = match timestamp.checked_duration_since(known) {
            Some(ahead) => wall.checked_add(ahead),
            None => wall.checked_sub(known - timestamp),
        };
        // 584 years fit in every platform's `SystemTime`, unless the wall clock is far off.
        converted.unwrap_or(wall)
    }

    /// Creates a clock that reads the processor's time-stamp counter, with its origin now. A reading costs about 10 ns.
    ///
    /// On a machine whose counter does not run at a constant rate, it reads the operating system's monotonic clock
    /// instead. The first such clock in a process measures the rate, which blocks for up to 200 ms. The measured rate,
    /// and therefore every timeout, is off by a few parts per million.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::{Clock, Watcher};
    ///
    /// let watcher = Watcher::<u64>::builder().clock(Clock::tsc()).build()?;
    /// watcher.beat(7)?;
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

    /// Returns the time since the clock's origin, in nanoseconds.
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
                let now = clock.time.now_ns.load(Ordering::SeqCst);
                // Nearly always a plain load, so that threads which read the clock do not contend.
                match latest.load(Ordering::SeqCst) {
                    latest if latest >= now => latest,
                    _ => latest.fetch_max(now, Ordering::SeqCst).max(now),
                }
            }
        }
    }

    /// Returns whether the time only moves when a test moves it, so that waiting for it is pointless.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(..))
    }

    /// Rings `ringer` each time the clock is moved, if it is a manual one, until `ringer` is dropped.
    pub(crate) fn ring_on_advance(&self, ringer: Weak<dyn Ring>) {
        if let Source::Manual(clock, _) = &self.source {
            clock.time.ringers.add(ringer);
        }
    }

    /// Waits on `condvar` until `due` ns, or without a limit if that is `None`; may return earlier. A manual clock does
    /// not end the wait; it [rings](Clock::ring_on_advance) the caller instead.
    #[cfg(any(feature = "dispatch", feature = "pacemaker", feature = "server"))]
    pub(crate) fn wait_until<T>(
        &self,
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        due: Option<u64>,
    ) {
        let left = due.map(|due| due.saturating_sub(self.now_ns()));
        match left {
            Some(0) => {}
            Some(left) if !self.is_manual() => {
                condvar.wait_for(guard, Duration::from_nanos(left));
            }
            _ => condvar.wait(guard),
        }
    }
}

impl Default for Clock {
    /// Creates a [monotonic](Clock::monotonic) clock.
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

/// A clock that is moved only by calls, for tests that do not sleep.
///
/// Clones share the time. A test that steps a [`Watcher`](crate::Watcher) deterministically gives it such a clock,
/// beats, calls [`advance`](ManualClock::advance) and then [`flush`](crate::Watcher::flush). When `flush` returns,
/// every earlier beat is applied, every key that is due at the new time has expired, and the events are delivered. A
/// key that is due may be reported as soon as the clock is moved. Stall detection is off under a manual clock.
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
/// watcher.beat(7)?;
/// clock.advance(Duration::from_millis(999));
/// watcher.flush()?;
/// assert!(events.is_empty());
///
/// clock.advance(Duration::from_millis(1));
/// watcher.flush()?;
/// assert_eq!(events.recv()?.key(), Some(&7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    /// The state that all clones share.
    time: Arc<Time>,
    /// When the clock was created, by the machine's clocks. The origin converts to this time.
    made: (Instant, SystemTime),
}

/// The time of a manual clock and of its clones.
#[derive(Debug, Default)]
struct Time {
    /// Nanoseconds since the origin.
    now_ns: AtomicU64,
    /// The threads to wake when the clock is moved.
    ringers: Ringers,
}

impl ManualClock {
    /// Creates a clock that is at its origin.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::ManualClock;
    /// let clock = ManualClock::new();
    /// let (clone, other) = (clock.clone(), ManualClock::new());
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(clone.now() - other.now(), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn new() -> Self {
        ManualClock {
            time: Arc::default(),
            made: (Instant::now(), SystemTime::now()),
        }
    }

    /// Returns the current time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// clock.advance(Duration::from_millis(250));
    /// watcher.beat(7)?;
    /// assert_eq!(watcher.status(&7)?.map(|status| status.last_beat), Some(clock.now()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.time.now_ns.load(Ordering::SeqCst))
    }

    /// Moves the time forward by `by`, or to the end of what can be represented (584 years) if that is earlier.
    ///
    /// Wakes the workers of watchers that use this clock if a key of theirs is due by now, so that its expiry is
    /// reported without a [`flush`](crate::Watcher::flush). `advance` does not wait for the report. Also wakes the
    /// threads of pacemakers that use this clock. Costs a short lock per thread.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::ManualClock;
    /// let clock = ManualClock::new();
    /// clock.advance(Duration::from_secs(2));
    /// clock.advance(Duration::from_millis(500));
    /// assert_eq!(clock.now().since_origin(), Duration::from_millis(2_500));
    ///
    /// clock.advance(Duration::MAX);
    /// assert_eq!(clock.now().since_origin(), Duration::from_nanos(u64::MAX));
    /// ```
    pub fn advance(&self, by: Duration) {
        let moved = |now: u64| now.saturating_add(nanos(by));
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        let now_ns = &self.time.now_ns;
        let before = now_ns.fetch_update(set, fetch, |now| Some(moved(now)));
        if let Ok(before) = before {
            self.time.ringers.ring(moved(before));
        }
    }

    /// Sets the time, as a [`Timestamp`] or as a [`Duration`] since the origin. If the time goes backwards, it stands
    /// still for a watcher until it has passed the latest time again. Wakes threads like
    /// [`advance`](ManualClock::advance).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::{ManualClock, Watcher};
    /// let clock = ManualClock::new();
    /// let watcher = Watcher::<u64>::builder().clock(clock.clone()).build()?;
    /// clock.set(Duration::from_secs(60));
    /// watcher.beat(7)?;
    /// clock.set(Duration::from_secs(30));
    /// watcher.beat(7)?; // for the watcher it is still the 60th second
    /// let status = watcher.status(&7)?.expect("the key is watched");
    /// assert_eq!(status.last_beat.since_origin(), Duration::from_secs(60));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, now: impl Into<Timestamp>) {
        let now = now.into().0;
        self.time.now_ns.store(now, Ordering::SeqCst);
        self.time.ringers.ring(now);
    }
}

impl Default for ManualClock {
    /// Creates a clock that is at its origin.
    fn default() -> Self {
        ManualClock::new()
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
        assert_eq!(clock.now(), Timestamp(5), "back is standing still");
        assert_eq!(manual.now(), Timestamp(2));
    }

    #[test]
    fn a_monotonic_clock_counts_nanoseconds_from_its_origin() {
        let ago = Duration::from_millis(1_250);
        let Some(origin) = Instant::now().checked_sub(ago) else {
            return; // The machine has just started.
        };
        let source = Source::Monotonic(origin);
        let now = Clock { source }.now().since_origin();
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
        assert_eq!(deadline(3), Some(Timestamp(3)));
        let manual = ManualClock::new();
        manual.advance(Duration::MAX);
        manual.advance(Duration::MAX);
        assert_eq!(manual.now(), Timestamp(NEVER));
    }

    #[test]
    fn arithmetic_of_timestamps_saturates_at_both_ends() {
        let ns = Duration::from_nanos;
        let (mut early, mut late) = (Timestamp(2), Timestamp(NEVER - 2));
        assert_eq!(early - ns(3), Timestamp::ORIGIN);
        assert_eq!(late + ns(3), Timestamp(NEVER));
        assert_eq!((late - early, early - late), (ns(NEVER - 4), ns(0)));
        assert_eq!(early - Duration::MAX, Timestamp::ORIGIN);
        assert_eq!(early.checked_sub(ns(2)), Some(Timestamp::ORIGIN));
        assert_eq!(early.checked_sub(ns(3)), None);
        assert_eq!(late.checked_add(ns(2)), Some(Timestamp(NEVER)));
        assert_eq!(late.checked_add(ns(3)), None);
        early += ns(1);
        late -= ns(1);
        assert_eq!((early, late), (Timestamp(3), Timestamp(NEVER - 3)));
    }

    #[test]
    fn every_clock_converts_its_timestamps_to_instants_and_wall_times_in_step() {
        let second = Duration::from_secs(1);
        let clocks = [
            Clock::monotonic(),
            Clock::from(ManualClock::new()),
            #[cfg(feature = "tsc")]
            Clock::tsc(),
        ];
        for clock in clocks {
            let (before, wall_before) = (Instant::now(), SystemTime::now());
            let now = clock.now();
            let (Some(at), Some(later)) = (clock.instant(now), clock.instant(now + second)) else {
                panic!("now can be represented")
            };
            // The tsc clock converts by two readings, so allow for a preemption between them.
            let slack = Duration::from_secs(30);
            assert!(at + slack >= before && at <= Instant::now() + slack);
            assert!(later > at && later < at + slack);
            let wall = clock.system_time(now);
            assert!(wall + slack >= wall_before && wall <= SystemTime::now() + slack);
            let later = clock.system_time(now + second);
            assert!(later > wall && later < wall + slack);
            assert!(clock.system_time(Timestamp(NEVER)) > later);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_timestamp_is_written_as_the_duration_since_the_origin() {
        let duration = Duration::new(3, 7);
        let timestamp = Timestamp::from(duration);
        let written = serde_json::to_string(&timestamp).unwrap();
        assert_eq!(written, serde_json::to_string(&duration).unwrap());
        let read: Timestamp = serde_json::from_str(&written).unwrap();
        assert_eq!(read, timestamp);
    }
}
