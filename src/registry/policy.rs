//! The timeout of a node: a fixed time, a number of beats, or a time learned from the node's own beats.
//!
//! This module is pure: time is an argument, and a node's [`History`] is the only state.

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
    /// This time, greater than zero. With [`Duration::MAX`], the node never misses a timeout.
    Fixed(Duration),
    /// The time of `count` beats that arrive every `interval`, which is the product of both. If it overflows, the node
    /// never misses a timeout.
    Missed {
        /// The time between two beats, greater than zero.
        interval: Duration,
        /// The number of beats, greater than zero. With 1, every delayed beat counts as missed, because a beat also
        /// takes time to arrive; use 2 or more.
        count: u32,
    },
    /// The time within which the next beat is likely, given the intervals between the node's beats so far.
    Adaptive(PhiAccrual),
}

impl Policy {
    /// Returns the error of the first option that is out of range.
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

/// The φ accrual failure detector, which derives a timeout for each node from the intervals between its own beats.
///
/// φ at a silence of *t* is -log₁₀ of the probability that an interval between two beats is longer than *t*. The
/// intervals are assumed to be normally distributed, with the mean and the deviation of the most recent ones
/// (Hayashibara, Défago, Yared and Katayama, "The φ accrual failure detector", SRDS 2004). As far as that holds, a
/// threshold of 8 causes one wrong suspicion in 10⁸ intervals. φ reaches the threshold at a silence of
///
/// ```text
/// mean + acceptable_pause + y × max(deviation, min_deviation)
/// ```
///
/// where *y* depends on the threshold alone (5.61 for 8, 7.03 for 12). A beat therefore needs no search. It updates two
/// sums and sets the result as the next timeout.
///
/// | option | default | in Akka |
/// |---|---|---|
/// | [`threshold`](Self::threshold) | 8 | `threshold`; but see below |
/// | [`window`](Self::window) | 200 intervals | `max-sample-size`, there 1000 |
/// | [`min_deviation`](Self::min_deviation) | 100 ms | `min-std-deviation` |
/// | [`acceptable_pause`](Self::acceptable_pause) | 3 s | `acceptable-heartbeat-pause` |
/// | [`first_interval`](Self::first_interval) | 1 s | `heartbeat-interval` |
///
/// **Exactness.** The sums are integers, in microseconds, so rounding errors do not accumulate. The timeout is rounded
/// up by at most 1/64 to one of 64 steps between two powers of two of nanoseconds. The timeout of a node that beats
/// steadily then stays the same from beat to beat, which makes its beats cheap, and many nodes share one timeout. A
/// timeout is at least 1 ms.
///
/// **Memory.** A node needs 128 bytes and 8 bytes for each interval in the window, which grows as beats arrive: 1.7 kB
/// if the default window is full. A node with another policy has no history.
///
/// **What is not learned.**
///
/// - The silence of a node that went down, because it is an outage. The exception is three such silences in a row that
///   are alike (the longest at most twice the shortest) with no ordinary interval between them. They are assumed to be
///   the node's new pace, and its history starts again with them. A node that becomes slow, or is slower than
///   [`first_interval`](Self::first_interval), therefore goes down at most three times. A process that crashes and
///   restarts at regular times is treated in the same way, unless each start [registers a new
///   incarnation](super::NodeOptions::incarnation). The gap between two incarnations is never learned.
/// - A burst: an interval below a tenth of the mean, unless such short intervals continue for as long as a mean
///   interval. Beats that were delayed and arrive together say nothing about the pace.
/// - A gap during more than a quarter of which the registry itself did not run. To notice this, the registry wakes four
///   times a second while a node has this policy.
///
/// **Akka.** Akka computes φ by a logistic approximation of the normal distribution
/// (`PhiAccrualFailureDetector.scala`). It is good near the mean and grows too fast beyond three deviations: at 6
/// deviations it gives 10.8, and the exact value is 9.0. Here φ is exact. To get the timeouts of Akka's threshold of 8,
/// use 7.06; for 10, use 8.48; for 12, use 9.81.
///
/// **Cassandra.** Cassandra assumes exponentially distributed intervals, so only their mean matters. A
/// `phi_convict_threshold` of *p* is reached after *p* × ln 10 mean intervals (`FailureDetector.java`), which is 18.4
/// for its default of 8. No threshold corresponds to it here, because here the deviation matters too. The same timeouts
/// result from [`Policy::Missed`] with a `count` of 2.3 × *p*, or from an [`acceptable_pause`](Self::acceptable_pause)
/// of (2.3 × *p* - 1) intervals.
///
/// ```
/// use std::time::Duration;
/// use liveness::registry::{PhiAccrual, Policy};
///
/// // Nodes in one rack beat every 200 ms. A pause of half a second is acceptable.
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
#[must_use = "a policy does nothing until it is set for a registry or a node"]
pub struct PhiAccrual {
    /// The φ at which a node has been silent for too long; finite and greater than zero, once checked.
    threshold: f64,
    /// The number of deviations above the mean at which φ is `threshold`; NaN if that is not greater than zero.
    #[cfg_attr(feature = "serde", serde(skip_serializing))]
    score: f64,
    /// The number of intervals that are remembered, greater than zero.
    window: u32,
    /// The smallest deviation used, greater than zero.
    min_deviation: Duration,
    /// The time that is added to every timeout.
    acceptable_pause: Duration,
    /// The expected interval of a node that has no history, greater than zero.
    first_interval: Duration,
}

impl PhiAccrual {
    /// Creates a policy with the default options: a threshold of 8, a window of 200 intervals, a deviation of at least
    /// 100 ms, an acceptable pause of 3 s, and a first interval of 1 s.
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

    /// Sets the φ at which a node has missed its timeout, a finite number greater than zero. Default: 8. Each increase
    /// by 1 makes wrong suspicions ten times rarer and the timeout about a third of a deviation longer. Below 0.3 the
    /// timeout is shorter than the mean interval plus the acceptable pause.
    pub fn threshold(mut self, phi: f64) -> Self {
        self.threshold = phi;
        self.score = normal::point(phi);
        self
    }

    /// Sets the number of intervals that are remembered, at 8 bytes each. Default: 200, which gives the deviation to
    /// within 5 %. With 1, the deviation is always [`min_deviation`](Self::min_deviation). Zero is refused when the
    /// policy is used.
    pub fn window(mut self, intervals: u32) -> Self {
        self.window = intervals;
        self
    }

    /// Sets the smallest deviation that is used, so that a node that has been punctual for long is not suspected after
    /// a tiny delay. Default: 100 ms. Zero is refused when the policy is used.
    pub fn min_deviation(mut self, deviation: Duration) -> Self {
        self.min_deviation = deviation;
        self
    }

    /// Sets the time that is added to every timeout, for lost beats or garbage collection. Default: 3 s. With zero, a
    /// node whose history contains no lost beat is suspected at the first one.
    pub fn acceptable_pause(mut self, pause: Duration) -> Self {
        self.acceptable_pause = pause;
        self
    }

    /// Sets the expected interval of a node that has no history, within a quarter. Default: 1 s. As in Akka, the first
    /// interval joins two intervals derived from this value, one a quarter shorter and one a quarter longer, which
    /// leave the window when it is full. Zero is refused when the policy is used.
    pub fn first_interval(mut self, interval: Duration) -> Self {
        self.first_interval = interval;
        self
    }

    /// Returns the error of the first option that is out of range.
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
    /// Creates a policy like [`PhiAccrual::new`].
    fn default() -> Self {
        PhiAccrual::new()
    }
}

/// Deserialization of a policy.
#[cfg(feature = "serde")]
mod saved {
    use std::time::Duration;

    /// The serialized form of a [`super::PhiAccrual`]. Omitted fields have their defaults.
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
            // A policy that was deserialized must yield a timeout, valid or not.
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
        // The formula of Akka's PhiAccrualFailureDetector, and the silence at which it reaches a threshold.
        let logistic =
            |y: f64| (y * (1.5976 + 0.070_566 * y * y)).exp().ln_1p() / std::f64::consts::LN_10;
        for (theirs, ours) in [(8.0, 7.06), (10.0, 8.48), (12.0, 9.81)] {
            let score = PhiAccrual::new().threshold(ours).score;
            assert!((logistic(score) - theirs).abs() < 0.01, "{theirs}");
        }
        // The values of Akka's own test, where the approximation is accurate to a tenth; otherwise the exact value.
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
