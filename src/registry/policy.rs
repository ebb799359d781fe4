//! How long a node may be silent: for a fixed time, for so many beats, or for as long as its own history allows.
//!
//! Pure: time is an argument, and a node's [`History`] is all there is.

mod history;
mod normal;

use std::time::Duration;

use crate::error::OptionError;

pub(super) use history::{Gap, History};

/// How long a node may be silent before it has missed a timeout.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{PhiAccrual, Policy};
///
/// let second = Duration::from_secs(1);
/// let policies = [
///     Policy::Fixed(5 * second),
///     Policy::Missed { interval: second, count: 3 },
///     Policy::Adaptive(PhiAccrual::new()),
/// ];
/// let firsts = policies.map(|policy| policy.initial_timeout().as_millis());
/// assert_eq!(firsts, [5_000, 3_000, 5_435]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Policy {
    /// This long, above zero. [`Duration::MAX`] never times out.
    Fixed(Duration),
    /// As long as `count` beats take that come each `interval`: the product of both. One that overflows never times out.
    Missed {
        /// From beat to beat, above zero.
        interval: Duration,
        /// So many beats, above zero. A beat that is on its way takes time too: with 1, the slightest delay counts as missed;
        /// take 2 or more.
        count: u32,
    },
    /// As long as the intervals between the node's own beats make it likely that another comes.
    Adaptive(PhiAccrual),
}

impl Policy {
    /// Whether it makes sense.
    pub(super) fn check(&self) -> Result<(), OptionError> {
        match *self {
            Policy::Fixed(timeout) => OptionError::positive("Policy::Fixed", !timeout.is_zero()),
            Policy::Missed { interval, count } => {
                OptionError::positive("Policy::Missed { interval }", !interval.is_zero())?;
                OptionError::positive("Policy::Missed { count }", count > 0)
            }
            Policy::Adaptive(phi) => phi.check(),
        }
    }
}

/// The φ accrual failure detector: a timeout for each node from the intervals between its own beats.
///
/// φ at a silence of *t* is -log₁₀ of the probability that an interval between two beats is longer than *t*, given that
/// the intervals are normally distributed with the mean and deviation of the last ones (Hayashibara, Défago, Yared and
/// Katayama, "The φ accrual failure detector", SRDS 2004). A threshold of 8 thus allows one wrong suspicion in 10⁸
/// intervals, as far as they are so distributed. φ reaches the threshold at a silence of
///
/// ```text
/// mean + acceptable_pause + y × max(deviation, min_deviation)
/// ```
///
/// where *y* depends on the threshold alone (5.61 for 8, 7.03 for 12). So a beat costs no search: it updates two sums and
/// sets that as the next timeout.
///
/// | option | default | in Akka |
/// |---|---|---|
/// | [`threshold`](Self::threshold) | 8 | `threshold`; but see below |
/// | [`window`](Self::window) | 200 intervals | `max-sample-size`, there 1000 |
/// | [`min_deviation`](Self::min_deviation) | 100 ms | `min-std-deviation` |
/// | [`acceptable_pause`](Self::acceptable_pause) | 3 s | `acceptable-heartbeat-pause` |
/// | [`first_interval`](Self::first_interval) | 1 s | `heartbeat-interval` |
///
/// **Exactness.** The sums are integers, of microseconds, so nothing drifts, however long a node lives. The timeout is
/// rounded up, by at most 1/64 of itself, to one of 64 steps between each power of two of nanoseconds and the next: the
/// timeout of a node that beats steadily then stays the same from beat to beat, which makes its beats cheap, and many nodes
/// share one. It is never below 1 ms.
///
/// **Memory.** 8 bytes for each interval in the window, which grows as beats come, and 128 bytes: 1.7 kB for a node that
/// fills the default one. A node with another policy has no history.
///
/// **What is not learned.**
///
/// - The silence of a node that went down: it is an outage. But after three such silences in a row that are alike, the
///   longest at most twice the shortest, with no ordinary interval between them, they are the node's pace, and its history
///   begins anew with them. So a node that becomes slow, or is slower than [`first_interval`](Self::first_interval), goes down
///   three times at most. A process that crashes and starts again at regular times looks the same, unless each start
///   [registers as a new incarnation](super::NodeOptions::incarnation): the gap between two lives is never learned.
/// - A burst: an interval below a tenth of the mean, unless such short ones go on for as long as a mean interval. Beats that
///   were held up and come all at once say nothing of the pace.
/// - A gap for more than a quarter of which the registry itself did not run. While a node has this policy the registry wakes four times a second to
///   notice that.
///
/// **From Akka.** Akka computes φ by a logistic approximation of the normal distribution (`PhiAccrualFailureDetector.scala`)
/// that is good near the mean and grows too fast beyond three deviations: at 6 deviations it says 10.8, and exactly it is
/// 9.0. Here φ is exact. For the timeouts of Akka's threshold of 8 take 7.06 here; for 10, 8.48; for 12, 9.81.
///
/// **From Cassandra.** Cassandra takes the intervals as exponentially distributed, so only their mean counts, and
/// a `phi_convict_threshold` of *p* is reached after *p* × ln 10 mean intervals (`FailureDetector.java`): 18.4 of them
/// for its default of 8. No threshold here translates it, because here the deviation counts. The same timeouts have
/// [`Policy::Missed`] with a `count` of 2.3 × *p*, or an [`acceptable_pause`](Self::acceptable_pause) of (2.3 × *p* - 1)
/// intervals.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{PhiAccrual, Policy};
///
/// // Beats each 200 ms in one rack; a pause of half a second is nothing.
/// let rack = PhiAccrual::new()
///     .first_interval(Duration::from_millis(200))
///     .acceptable_pause(Duration::from_millis(500))
///     .min_deviation(Duration::from_millis(20));
/// let first = Policy::Adaptive(rack).initial_timeout();
/// assert_eq!(first.as_millis(), 981); // 200 + 500 + 5.61 × 50, rounded up
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "saved::PhiAccrual")
)]
#[must_use = "a policy does nothing until a registry or a node is given it"]
pub struct PhiAccrual {
    /// The φ at which a node has been silent for too long; above zero and finite, once checked.
    threshold: f64,
    /// So many deviations beyond the mean φ is `threshold`; NaN where that is not above zero.
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    score: f64,
    /// So many intervals are remembered, above zero.
    window: u32,
    /// The least deviation to reckon with, above zero.
    min_deviation: Duration,
    /// What every timeout is longer by.
    acceptable_pause: Duration,
    /// What a node's intervals are expected to be before it has any, above zero.
    first_interval: Duration,
}

impl PhiAccrual {
    /// Creates a policy with the defaults: a threshold of 8, a window of 200, a deviation of at least 100 ms, a pause of 3 s, and 1 s as the first
    /// interval.
    pub fn new() -> Self {
        PhiAccrual {
            threshold: 0.0,
            score: 0.0,
            window: 200,
            min_deviation: Duration::from_millis(100),
            acceptable_pause: Duration::from_secs(3),
            first_interval: Duration::from_secs(1),
        }
        .threshold(8.0)
    }

    /// Sets the φ at which a node has missed its timeout, a finite number above zero; 8 by default. One more means ten times
    /// fewer wrong suspicions, and a timeout longer by about a third of a deviation. Below 0.3 the timeout is shorter than
    /// the mean interval and the pause.
    pub fn threshold(mut self, phi: f64) -> Self {
        self.threshold = phi;
        self.score = normal::point(phi);
        self
    }

    /// Sets how many intervals are remembered, 8 bytes each; 200 by default, which tells the deviation within 5 %; not zero.
    /// With 1 there is no deviation, and [`min_deviation`](Self::min_deviation) counts.
    pub fn window(mut self, intervals: u32) -> Self {
        self.window = intervals;
        self
    }

    /// Sets the least deviation to reckon with, so that a node that was punctual for long is not suspected because of a tiny
    /// delay; 100 ms by default, and not zero.
    pub fn min_deviation(mut self, deviation: Duration) -> Self {
        self.min_deviation = deviation;
        self
    }

    /// Sets for how long a node may pause, beyond what its intervals say, and not be suspected: lost beats, garbage collection;
    /// 3 s by default. Zero leaves no room for a lost beat in a history that has none.
    pub fn acceptable_pause(mut self, pause: Duration) -> Self {
        self.acceptable_pause = pause;
        self
    }

    /// Sets what a node's intervals are expected to be, give or take a quarter, before it has a history; 1 s by default, and not
    /// zero. As in Akka the first interval joins two made of this, one a quarter shorter and one a quarter longer, which
    /// leave the window when it is full.
    pub fn first_interval(mut self, interval: Duration) -> Self {
        self.first_interval = interval;
        self
    }

    /// Whether it makes sense.
    fn check(&self) -> Result<(), OptionError> {
        if !self.threshold.is_finite() || self.threshold <= 0.0 {
            let must = format!(
                "be a finite number greater than zero, not {}",
                self.threshold
            );
            return Err(OptionError::new("PhiAccrual::threshold", must));
        }
        OptionError::positive("PhiAccrual::window", self.window > 0)?;
        let has_deviation = !self.min_deviation.is_zero();
        OptionError::positive("PhiAccrual::min_deviation", has_deviation)?;
        OptionError::positive("PhiAccrual::first_interval", !self.first_interval.is_zero())
    }
}

impl Default for PhiAccrual {
    /// As [`PhiAccrual::new`].
    fn default() -> Self {
        PhiAccrual::new()
    }
}

/// How a policy is read back.
#[cfg(feature = "serde")]
mod saved {
    use std::time::Duration;

    /// What is written of a [`super::PhiAccrual`]. What was left out is as by default.
    #[derive(serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub(super) struct PhiAccrual {
        threshold: f64,
        window: u32,
        min_deviation: Duration,
        acceptable_pause: Duration,
        first_interval: Duration,
    }

    impl Default for PhiAccrual {
        fn default() -> Self {
            let phi = super::PhiAccrual::new();
            PhiAccrual {
                threshold: phi.threshold,
                window: phi.window,
                min_deviation: phi.min_deviation,
                acceptable_pause: phi.acceptable_pause,
                first_interval: phi.first_interval,
            }
        }
    }

    impl From<PhiAccrual> for super::PhiAccrual {
        fn from(saved: PhiAccrual) -> Self {
            super::PhiAccrual {
                window: saved.window,
                min_deviation: saved.min_deviation,
                acceptable_pause: saved.acceptable_pause,
                first_interval: saved.first_interval,
                ..super::PhiAccrual::new().threshold(saved.threshold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_makes_no_sense_is_refused_and_told_why() {
        let missed = |interval, count| Policy::Missed { interval, count };
        let phi = PhiAccrual::new();
        let refused = [
            (
                Policy::Fixed(Duration::ZERO),
                "`Policy::Fixed` must be greater than zero",
            ),
            (
                missed(Duration::ZERO, 3),
                "`Policy::Missed { interval }` must be greater than zero",
            ),
            (
                missed(SECOND, 0),
                "`Policy::Missed { count }` must be greater than zero",
            ),
            (
                Policy::Adaptive(phi.window(0)),
                "`PhiAccrual::window` must be greater than zero",
            ),
            (
                Policy::Adaptive(phi.min_deviation(Duration::ZERO)),
                "`PhiAccrual::min_deviation` must be greater than zero",
            ),
            (
                Policy::Adaptive(phi.first_interval(Duration::ZERO)),
                "`PhiAccrual::first_interval` must be greater than zero",
            ),
            (
                Policy::Adaptive(phi.threshold(0.0)),
                "`PhiAccrual::threshold` must be a finite number greater than zero, not 0",
            ),
            (
                Policy::Adaptive(phi.threshold(-0.0)),
                "`PhiAccrual::threshold` must be a finite number greater than zero, not -0",
            ),
            (
                Policy::Adaptive(phi.threshold(-8.0)),
                "`PhiAccrual::threshold` must be a finite number greater than zero, not -8",
            ),
            (
                Policy::Adaptive(phi.threshold(f64::NAN)),
                "`PhiAccrual::threshold` must be a finite number greater than zero, not NaN",
            ),
            (
                Policy::Adaptive(phi.threshold(f64::INFINITY)),
                "`PhiAccrual::threshold` must be a finite number greater than zero, not inf",
            ),
        ];
        for (policy, why) in refused {
            let error = policy.check().expect_err(why).to_string();
            assert_eq!(error, why);
            // Whatever becomes of it, it has a timeout.
            let _ = policy.initial_timeout();
        }
    }

    #[test]
    fn what_is_extreme_and_makes_sense_is_taken() {
        let phi = PhiAccrual::new();
        let taken = [
            Policy::Fixed(Duration::from_nanos(1)),
            Policy::Fixed(Duration::MAX),
            Policy::Missed {
                interval: Duration::MAX,
                count: u32::MAX,
            },
            Policy::Adaptive(phi.window(1).acceptable_pause(Duration::ZERO)),
            Policy::Adaptive(phi.window(u32::MAX).threshold(f64::MAX)),
            Policy::Adaptive(phi.threshold(f64::MIN_POSITIVE)),
            Policy::Adaptive(phi.first_interval(Duration::MAX)),
            Policy::Adaptive(phi.min_deviation(Duration::MAX)),
            Policy::Adaptive(phi.acceptable_pause(Duration::MAX)),
        ];
        for policy in taken {
            assert_eq!(policy.check(), Ok(()), "{policy:?}");
            assert!(!policy.initial_timeout().is_zero());
        }
    }

    #[test]
    fn what_was_fixed_is_the_timeout_and_a_product_that_overflows_never_comes() {
        let missed = |interval, count| Policy::Missed { interval, count }.initial_timeout();
        assert_eq!(Policy::Fixed(SECOND).initial_timeout(), SECOND);
        assert_eq!(missed(SECOND, 3), 3 * SECOND);
        assert_eq!(missed(Duration::from_nanos(1), 1), Duration::from_nanos(1));
        assert_eq!(missed(Duration::MAX, 2), Duration::MAX);
    }

    #[test]
    fn the_thresholds_of_akka_translate_as_the_documentation_says() {
        // The formula of Akka's PhiAccrualFailureDetector, and where it reaches a threshold.
        let logistic =
            |y: f64| (y * (1.5976 + 0.070_566 * y * y)).exp().ln_1p() / std::f64::consts::LN_10;
        for (theirs, ours) in [(8.0, 7.06), (10.0, 8.48), (12.0, 9.81)] {
            let score = PhiAccrual::new().threshold(ours).score;
            assert!((logistic(score) - theirs).abs() < 0.01, "{theirs}");
        }
        // Where Akka's own test expects what the approximation gives, to a tenth; the exact value where that differs.
        let expected = [
            (-10.0, 0.0, 0.0),
            (-5.0, 0.1, 0.0),
            (0.0, 0.3, 0.301),
            (2.0, 1.6, 1.643),
            (4.0, 4.7, 4.499),
            (6.0, 10.8, 9.006),
            (7.0, 15.3, 11.893),
        ];
        for (y, theirs, exact) in expected {
            assert!((logistic(y) - theirs).abs() < 0.1, "{y}");
            let phi = -normal::ln_tail(y) / std::f64::consts::LN_10;
            assert!((phi - exact).abs() < 0.000_6, "{y}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn what_is_written_is_read_back_and_what_is_left_out_is_as_by_default() {
        let phi = PhiAccrual::new().threshold(12.0).window(50);
        for policy in [
            Policy::Fixed(SECOND),
            Policy::Missed {
                interval: SECOND,
                count: 3,
            },
            Policy::Adaptive(phi),
        ] {
            let text = serde_json::to_string(&policy).unwrap();
            assert!(!text.contains("score"), "{text}");
            let back: Policy = serde_json::from_str(&text).unwrap();
            assert_eq!((back, back.check()), (policy, Ok(())), "{text}");
        }
        let read = |text| serde_json::from_str::<PhiAccrual>(text);
        assert_eq!(read(r#"{"threshold":12.0,"window":50}"#).unwrap(), phi);
        assert!(read(r#"{"treshold":12.0}"#).is_err());
        assert!(
            Policy::Adaptive(read(r#"{"threshold":-1.0}"#).unwrap())
                .check()
                .is_err()
        );
    }
}
