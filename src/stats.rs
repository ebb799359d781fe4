//! What a watcher counts: the accounting of episodes, and how late it was.

use std::fmt;
use std::time::Duration;

/// The counters of one table. Plain numbers; the owner of the table publishes copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Episodes that began.
    pub(crate) started: u64,
    /// Keys that are watched now.
    pub(crate) live: u64,
    /// Keys that are down and watched.
    pub(crate) down: u64,
    /// Recoveries that were not reported, because the key changed again while the report of its silence waited.
    pub(crate) folded: u64,
    /// Keys that were down and beat again, including those whose recovery was folded.
    pub(crate) recoveries: u64,
    /// Expired episodes that the sink has not taken.
    pub(crate) pending: u64,
    /// Expired episodes that the sink took.
    pub(crate) delivered: u64,
    /// Episodes ended by removal.
    pub(crate) removed: u64,
    /// Expired episodes that were not wanted or had no sink to go to.
    pub(crate) discarded: u64,
    /// Beats that were applied, without late and refused ones.
    pub(crate) beats: u64,
    /// Beats that were older than the last one of their key.
    pub(crate) late_beats: u64,
    /// Beats of absent keys for which there was no room.
    pub(crate) refused: u64,
    /// Beats and options for known keys only whose key was absent.
    pub(crate) unknown: u64,
    /// Missed deadlines; a `Repeat` key counts each time.
    pub(crate) expiries: u64,
    /// `Beat` events that were dropped under load.
    pub(crate) beat_events_dropped: u64,
    /// Stalls that were detected.
    pub(crate) stalls: u64,
    /// Bytes that the table has allocated.
    pub(crate) bytes: u64,
}

impl Counts {
    /// Returns whether every episode is accounted for.
    #[cfg(test)]
    pub(crate) fn is_balanced(&self) -> bool {
        self.started == self.live + self.pending + self.delivered + self.removed + self.discarded
    }
}

/// The number of buckets in an octave of the histogram.
const BUCKETS_PER_OCTAVE: u64 = 16;

/// The number of buckets: 60 octaves, and the values below [`BUCKETS_PER_OCTAVE`], which stand for themselves.
const BUCKETS: usize = 61 * BUCKETS_PER_OCTAVE as usize;

/// A histogram of how late events were, with 16 buckets per power of two (after Gil Tene's `HdrHistogram`): a quantile
/// is at most 6.25 % too large. Takes 8 KB once it has a value.
///
/// ```
/// # use std::time::Duration;
/// use liveness::LocalWatcher;
///
/// let ms = Duration::from_millis;
/// let mut watcher = LocalWatcher::<u64>::builder().timeout(ms(1_000)).build()?;
/// for key in 0..100 {
///     watcher.beat(key, ms(key))?; // their deadlines are a millisecond apart
/// }
/// watcher.poll(ms(1_100), drop); // late by 1 to 100 ms
/// let late = watcher.stats().detection;
/// let median = late.quantile(0.5);
/// assert!(median >= ms(50) && median <= ms(50).mul_f64(1.0625));
/// assert_eq!((late.count(), late.max()), (100, ms(100)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The number of values in each bucket; empty until there is a value.
    buckets: Vec<u64>,
    /// The number of values.
    count: u64,
    /// The sum of the values, ns; saturates.
    sum: u64,
    /// The largest value, ns.
    max: u64,
}

impl Histogram {
    /// Adds `ns` nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(ns);
        self.max = self.max.max(ns);
    }

    /// Returns the number of bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u64>()
    }

    /// Adds the values of `other`.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets
                .iter_mut()
                .zip(&other.buckets)
                .for_each(|(mine, theirs)| *mine += theirs);
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// Returns the number of values.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(8, s(1))?;
    /// watcher.poll(s(5), drop);
    /// assert_eq!(watcher.stats().detection.count(), 1); // one key has expired so far
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the exact sum of all values, which saturates at 584 years. The sum divided by
    /// [`count`](Histogram::count) is the mean.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(8, s(2))?;
    /// watcher.poll(s(8), drop); // the deadlines were at 5 and at 7 seconds
    /// assert_eq!(watcher.stats().detection.sum(), s(3 + 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Returns the non-empty buckets in ascending order, each as the largest value that falls into it and the number of
    /// its values. The bounds are the same for every histogram. From 16 ns on, each is at most 6.25 % above the
    /// previous one.
    ///
    /// The counts are not cumulative. Prometheus requires cumulative counts at a few fixed bounds, which are sums of
    /// these counts:
    ///
    /// ```
    /// # use std::time::Duration;
    /// use liveness::{Histogram, LocalWatcher};
    ///
    /// /// Returns the number of values up to each of `bounds`.
    /// fn cumulative<const N: usize>(late: &Histogram, bounds: [Duration; N]) -> [u64; N] {
    ///     bounds.map(|bound| {
    ///         let below = late.buckets().take_while(|&(upper, _)| upper <= bound);
    ///         below.map(|(_, count)| count).sum()
    ///     })
    /// }
    ///
    /// let ms = Duration::from_millis;
    /// let mut watcher = LocalWatcher::<u64>::builder().timeout(ms(1_000)).build()?;
    /// for key in 0..100 {
    ///     watcher.beat(key, ms(key))?; // their deadlines are a millisecond apart
    /// }
    /// watcher.poll(ms(1_100), drop); // late by 1 to 100 ms
    /// let late = watcher.stats().detection;
    /// let [quick, all] = cumulative(&late, [ms(20), ms(200)]);
    /// assert!((18..=20).contains(&quick)); // a bucket that the bound divides is not counted
    /// assert_eq!(all, late.count());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let counts = self.buckets.iter().enumerate();
        let filled = counts.filter(|&(_, &count)| count > 0);
        filled.map(|(bucket, &count)| (Duration::from_nanos(last_of(bucket)), count))
    }

    /// Returns the exact largest value, or zero if there are no values.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// assert_eq!(watcher.stats().detection.max(), s(0));
    /// watcher.beat(7, s(0))?;
    /// watcher.beat(8, s(2))?;
    /// watcher.poll(s(8), drop); // the deadlines were at 5 and at 7 seconds
    /// assert_eq!(watcher.stats().detection.max(), s(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// Returns the value below or at which a fraction `q` of all values lies, at most 6.25 % too large. Returns zero if
    /// there are no values. A `q` outside 0 to 1 is clamped to that range.
    ///
    /// ```
    /// let stats = liveness::Watcher::<u64>::builder().build()?.close();
    /// assert_eq!(stats.detection.quantile(0.99), std::time::Duration::ZERO);
    /// # Ok::<(), liveness::BuildError>(())
    /// ```
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        #[expect(clippy::cast_sign_loss, reason = "q is at least zero")]
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(last_of(bucket).min(self.max));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("sum", &self.sum())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Histogram {
    /// Serializes a map of `count`, `sum`, `p50`, `p99`, `p999` and `max`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut map = serializer.serialize_struct("Histogram", 6)?;
        map.serialize_field("count", &self.count)?;
        map.serialize_field("sum", &self.sum())?;
        map.serialize_field("p50", &self.quantile(0.5))?;
        map.serialize_field("p99", &self.quantile(0.99))?;
        map.serialize_field("p999", &self.quantile(0.999))?;
        map.serialize_field("max", &self.max())?;
        map.end()
    }
}

/// Returns the bucket of `ns`.
fn bucket_of(ns: u64) -> usize {
    if ns < BUCKETS_PER_OCTAVE {
        return ns as usize;
    }
    let octave = u64::from(ns.ilog2() - BUCKETS_PER_OCTAVE.ilog2());
    ((octave + 1) * BUCKETS_PER_OCTAVE + ((ns >> octave) - BUCKETS_PER_OCTAVE)) as usize
}

/// Returns the largest value that falls into `bucket`.
fn last_of(bucket: usize) -> u64 {
    let (octave, rest) = (
        bucket as u64 / BUCKETS_PER_OCTAVE,
        bucket as u64 % BUCKETS_PER_OCTAVE,
    );
    match octave {
        0 => rest,
        octave => ((BUCKETS_PER_OCTAVE + rest + 1) << (octave - 1)).wrapping_sub(1),
    }
}

/// The counters of a watcher. At every quiet point, such as after [`flush`](crate::Watcher::flush) and after
/// [`close`](crate::Watcher::close), every episode is counted in exactly one place:
///
/// `started = live + pending + delivered + removed + discarded`
///
/// A key of [`Track`](crate::Mode::Track) or [`Repeat`](crate::Mode::Repeat) goes down and recovers within one episode.
/// Its reports are counted in `expiries` and `recoveries`.
///
/// Its `Display` is that equation with its numbers, the other event counters, the stalls and the lateness of delivery,
/// on one line.
///
/// ```
/// use std::time::Duration;
/// use liveness::{ManualClock, Watcher};
///
/// let clock = ManualClock::new();
/// let (watcher, events) = Watcher::<u64>::builder().clock(clock.clone()).build_with_channel(2)?;
/// watcher.beat_many(0..5)?;
/// watcher.remove(&0)?;
/// clock.advance(Duration::from_secs(10));
/// watcher.flush()?;
/// let stats = watcher.stats();
/// assert_eq!((stats.started, stats.live, stats.removed), (5, 0, 1));
/// assert_eq!((stats.delivered, stats.pending), (2, 2)); // the channel is full
/// let equation = "5 started = 0 live + 2 pending + 2 delivered + 1 removed + 0 discarded";
/// assert!(stats.to_string().starts_with(equation));
/// assert_eq!(watcher.close().discarded, 2);
/// assert_eq!(events.len(), 2); // still there to be received
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Episodes that began.
    pub started: u64,
    /// Keys that are watched now, including those that are down.
    pub live: u64,
    /// Keys that are down now: [`Repeat`](crate::Mode::Repeat) and [`Track`](crate::Mode::Track) keys that have expired
    /// and not beaten since.
    pub down: u64,
    /// Episodes that ended by expiry and whose event waits for the sink.
    pub pending: u64,
    /// Episodes that ended by expiry and whose event the sink took. A report of a key that stays watched ends no
    /// episode and is counted in `expiries` only.
    pub delivered: u64,
    /// Episodes that ended by removal.
    pub removed: u64,
    /// Episodes that ended by expiry and whose event was not wanted, had no sink to go to, or still waited at the
    /// close.
    pub discarded: u64,
    /// Beats by call that began an episode or moved a deadline. Beats of hearts are not counted, because most of them
    /// are a store that no worker sees.
    pub applied_beats: u64,
    /// Beats by call that moved no deadline because a newer beat of their key was applied first. Their options were
    /// applied.
    pub late_beats: u64,
    /// Beats by call of new keys for which a worker had no room, whether or not the caller waited for the answer; see
    /// [`max_keys`](crate::Builder::max_keys).
    pub refused_beats: u64,
    /// Calls for watched keys only that found their key absent: beats with [`known_only`](crate::Options::known_only),
    /// and calls of [`set`](crate::Watcher::set).
    pub unknown: u64,
    /// Deadlines that were missed. A [`Repeat`](crate::Mode::Repeat) key counts once per report that is due.
    pub expiries: u64,
    /// Keys that were down and beat again.
    pub recoveries: u64,
    /// Recoveries that were not reported, because the key fell silent again or its episode ended while the report of
    /// the silence before them still waited for the sink.
    pub folded_recoveries: u64,
    /// [`Beat`](crate::EventKind::Beat) events that were dropped because the sink was behind.
    pub beat_events_dropped: u64,
    /// Calls of a callback or a [`Sink`](crate::Sink) that panicked.
    pub panics: u64,
    /// Stalls that were detected.
    pub stalls: u64,
    /// Times that a worker slept and woke.
    pub wakeups: u64,
    /// Workers that ended by a panic in `Eq`, `Clone` or `Drop` of a key.
    pub failed_workers: u64,
    /// Bytes that the tables have allocated now, excluding allocations of keys and extras.
    pub bytes: u64,
    /// Keys that each worker watches now; [`imbalance`](Stats::imbalance) measures how evenly they are spread.
    pub live_by_worker: Vec<u64>,
    /// The time from the deadline to the detection of each expiry.
    pub detection: Histogram,
    /// The time from the deadline to the delivery of each expiry.
    pub delivery: Histogram,
}

impl Stats {
    /// Returns `true` if every episode is accounted for by the equation above.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use liveness::LocalWatcher;
    /// # let s = Duration::from_secs;
    /// # let mut watcher = LocalWatcher::<u64>::builder().timeout(s(5)).build()?;
    /// (0..10).try_for_each(|key| watcher.beat(key, s(0)))?;
    /// watcher.remove(&3, s(1));
    /// watcher.beat(4, s(2))?;
    /// watcher.poll(s(5), drop);
    /// let stats = watcher.stats();
    /// assert!(stats.is_balanced());
    /// assert_eq!((stats.started, stats.live + stats.delivered + stats.removed), (10, 1 + 8 + 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.started == self.live + self.pending + self.delivered + self.removed + self.discarded
    }

    /// Returns the number of keys of the worker that watches the most, divided by the average over all workers. The
    /// result is 1 if all workers watch the same number of keys or no key is watched, and the number of workers if one
    /// worker watches all keys.
    ///
    /// With a few thousand keys or more, it is close to 1. If it is not, the keys were chosen by someone who knows the
    /// [seed](crate::Builder::seed), or their `Hash` does not cover what distinguishes them.
    ///
    /// ```
    /// use liveness::Watcher;
    ///
    /// /// A key whose hash covers the vendor alone.
    /// #[derive(Clone, PartialEq, Eq)]
    /// struct Device { vendor: u16, serial: u64 }
    ///
    /// impl std::hash::Hash for Device {
    ///     fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
    ///         self.vendor.hash(state);
    ///     }
    /// }
    ///
    /// let devices = Watcher::<Device>::builder().workers(4).build()?;
    /// devices.beat_many((0..500).map(|serial| Device { vendor: 7, serial }))?;
    /// devices.flush()?;
    /// assert_eq!(devices.stats().imbalance(), 4.0); // one of four workers watches them all
    ///
    /// let numbers = Watcher::<u64>::builder().workers(4).build()?;
    /// numbers.beat_many(0..10_000)?;
    /// numbers.flush()?;
    /// assert!(numbers.stats().imbalance() < 1.2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let live: u64 = self.live_by_worker.iter().sum();
        match self.live_by_worker.iter().max() {
            Some(&most) if live > 0 => most as f64 * self.live_by_worker.len() as f64 / live as f64,
            _ => 1.0,
        }
    }

    /// Adds the counters of one table.
    pub(crate) fn add(&mut self, counts: &Counts) {
        self.started += counts.started;
        self.live += counts.live;
        self.down += counts.down;
        self.folded_recoveries += counts.folded;
        self.recoveries += counts.recoveries;
        self.pending += counts.pending;
        self.delivered += counts.delivered;
        self.removed += counts.removed;
        self.discarded += counts.discarded;
        self.applied_beats += counts.beats;
        self.late_beats += counts.late_beats;
        self.refused_beats += counts.refused;
        self.unknown += counts.unknown;
        self.expiries += counts.expiries;
        self.beat_events_dropped += counts.beat_events_dropped;
        self.stalls += counts.stalls;
        self.bytes += counts.bytes;
        self.live_by_worker.push(counts.live);
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            started,
            live,
            pending,
            delivered,
            removed,
            discarded,
            applied_beats,
            expiries,
            recoveries,
            down,
            stalls,
            delivery,
            ..
        } = self;
        write!(
            f,
            "{started} started = {live} live + {pending} pending + {delivered} delivered + {removed} removed + \
             {discarded} discarded; {applied_beats} beats by call, {expiries} expiries, {recoveries} recoveries, \
             {down} down, {stalls} stalls; late {:?} at p50, {:?} at p99, {:?} at most",
            delivery.quantile(0.5),
            delivery.quantile(0.99),
            delivery.max()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(last_of(bucket)), bucket);
            assert_eq!(bucket_of(last_of(bucket - 1) + 1), bucket);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(last_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn the_counters_of_tables_add_up_and_each_counts_once() {
        let counts = |factor: u64| Counts {
            started: factor,
            live: factor * 2,
            pending: factor * 3,
            delivered: factor * 4,
            removed: factor * 5,
            discarded: factor * 6,
            beats: factor * 7,
            late_beats: factor * 8,
            refused: factor * 9,
            expiries: factor * 10,
            beat_events_dropped: factor * 11,
            stalls: factor * 12,
            bytes: factor * 13,
            down: factor * 14,
            folded: factor * 15,
            recoveries: factor * 17,
            unknown: factor * 16,
        };
        let mut stats = Stats::default();
        stats.add(&counts(1));
        stats.add(&counts(100));
        let expected = Stats {
            started: 101,
            live: 202,
            pending: 303,
            delivered: 404,
            removed: 505,
            discarded: 606,
            applied_beats: 707,
            late_beats: 808,
            refused_beats: 909,
            expiries: 1_010,
            beat_events_dropped: 1_111,
            stalls: 1_212,
            bytes: 1_313,
            down: 1_414,
            folded_recoveries: 1_515,
            recoveries: 1_717,
            unknown: 1_616,
            live_by_worker: vec![2, 200],
            ..Stats::default()
        };
        assert_eq!(stats, expected);
        assert!(!stats.is_balanced());
        stats.started = 202 + 303 + 404 + 505 + 606;
        assert!(stats.is_balanced());
    }

    #[test]
    fn buckets_hold_every_value_once_and_in_order_and_the_sum_saturates() {
        let mut histogram = Histogram::default();
        assert_eq!(
            (histogram.buckets().next(), histogram.sum()),
            (None, Duration::ZERO)
        );
        let values = [
            0,
            3,
            3,
            15,
            16,
            17,
            1_000,
            1_001,
            1_000_000,
            1 << 62,
            u64::MAX,
        ];
        for ns in values {
            histogram.record(ns);
        }
        let buckets: Vec<(u64, u64)> = histogram
            .buckets()
            .map(|(upper, count)| (upper.as_nanos() as u64, count))
            .collect();
        assert!(buckets.is_sorted_by(|(one, _), (next, _)| one < next));
        let mut left = values.to_vec();
        for (upper, count) in buckets {
            let (inside, above): (Vec<u64>, Vec<u64>) =
                left.into_iter().partition(|&ns| ns <= upper);
            assert_eq!(inside.len() as u64, count, "up to {upper}");
            assert!(
                inside.iter().all(|&ns| upper - ns <= ns / 16),
                "{inside:?} up to {upper}"
            );
            left = above;
        }
        assert!(left.is_empty());
        assert_eq!(histogram.sum(), Duration::from_nanos(u64::MAX));
        let mut both = histogram.clone();
        both.merge(&histogram);
        assert_eq!(both.sum(), histogram.sum());
        let mut small = Histogram::default();
        small.record(2);
        small.record(5);
        let clone = small.clone();
        small.merge(&clone);
        assert_eq!(small.sum(), Duration::from_nanos(14));
    }

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_large() {
        let mut histogram = Histogram::default();
        (1..=1_000u64).for_each(|i| histogram.record(i * 1_000));
        let p50 = histogram.quantile(0.5).as_nanos();
        assert!((500_000..=531_250).contains(&p50), "{p50}");
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!(histogram.quantile(7.0), histogram.max());
        assert_eq!(histogram.quantile(0.0), histogram.quantile(0.001));
        let mut both = Histogram::default();
        both.merge(&histogram);
        both.merge(&histogram);
        assert_eq!(
            (both.count(), both.quantile(0.5)),
            (2_000, histogram.quantile(0.5))
        );
    }
}
