//! The time for which a failed event waits before it is tried again.

use std::time::Duration;

use crate::clock::nanos;
use crate::error::OptionError;

/// The time between a failure and the next attempt.
///
/// The delay doubles with each attempt, from a base up to a cap. Jitter varies it, so that events that failed together
/// are not tried again together.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::Backoff;
///
/// let s = Duration::from_secs;
/// let backoff = Backoff::exponential(s(1), s(60)).jitter(0.0);
/// assert_eq!(backoff.delay(1), s(1)); // after the first attempt
/// assert_eq!(backoff.delay(4), s(8));
/// assert_eq!(backoff.delay(40), s(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first attempt.
    base: Duration,
    /// The longest delay, without jitter.
    cap: Duration,
    /// The fraction by which a delay varies in both directions, 0 to 1.
    jitter: f64,
}

impl Default for Backoff {
    /// Returns an exponential backoff from one second to ten minutes, with a jitter of 0.25.
    fn default() -> Self {
        Backoff::exponential(Duration::from_secs(1), Duration::from_secs(600))
    }
}

impl Backoff {
    /// Returns a backoff whose delay is `base` after the first attempt and doubles with each further attempt, up to
    /// `cap`. The jitter is 0.25. With a base of zero, every attempt follows at once.
    #[must_use]
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Backoff {
            base,
            cap,
            jitter: 0.25,
        }
    }

    /// Returns a backoff of `delay` after every attempt, with a jitter of 0.25.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Backoff::exponential(delay, delay)
    }

    /// Sets the fraction by which a delay varies in both directions, from 0 to 1. With 0.25, a delay of 8 s becomes 6
    /// to 10 s.
    #[must_use]
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Returns the delay after attempt `attempt`, without jitter. Attempts are numbered from 1.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let delay = nanos(self.base).saturating_mul(1 << doublings);
        Duration::from_nanos(delay).min(self.cap)
    }

    /// Returns the delay after attempt `attempt` with jitter, where `random` is uniform from 0 to 1.
    pub(crate) fn jittered(&self, attempt: u32, random: f64) -> Duration {
        let factor = 1.0 + self.jitter * (2.0 * random - 1.0);
        Duration::try_from_secs_f64(self.delay(attempt).as_secs_f64() * factor)
            .unwrap_or(Duration::MAX)
    }

    /// Checks the numbers.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let is_part = (0.0..=1.0).contains(&self.jitter);
        OptionError::check("Backoff::jitter", "be from 0 to 1", is_part)?;
        let is_ordered = self.base <= self.cap;
        OptionError::check(
            "Backoff::exponential",
            "have a base of at most its cap",
            is_ordered,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_keeps_a_delay_within_its_part_either_way() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(8));
        for attempt in 1..100 {
            let delay = backoff.delay(attempt);
            assert_eq!(backoff.jittered(attempt, 0.0), delay.mul_f64(0.75));
            assert_eq!(backoff.jittered(attempt, 0.5), delay);
            assert_eq!(backoff.jittered(attempt, 1.0), delay.mul_f64(1.25));
            assert!(delay <= Duration::from_secs(8));
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let s = Duration::from_secs;
        for jitter in [-0.1, 1.1, f64::NAN] {
            assert!(Backoff::constant(s(1)).jitter(jitter).check().is_err());
        }
        assert!(Backoff::exponential(s(2), s(1)).check().is_err());
        assert!(Backoff::exponential(s(0), s(0)).jitter(1.0).check().is_ok());
        let century = 3_200_000_000 * s(1);
        assert!(Backoff::constant(Duration::MAX).jittered(9, 1.0) > 5 * century);
    }
}
