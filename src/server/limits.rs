//! The limits of one connection.

use std::time::Duration;

use crate::error::OptionError;

/// The most messages a second that a [`Rate`] can allow: its clock counts nanoseconds.
const MAX_RATE: u32 = 1_000_000;

/// What happens when more bytes are queued for a connection than its limit allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is closed with [`Cause::SlowConsumer`](super::Cause::SlowConsumer) and code 1013, so that its
    /// peer never misses a message in the middle, and may connect again.
    #[default]
    Close,
    /// The new message is refused and returned.
    DropNew,
    /// The sender waits for room for at most this long; the message is then refused and returned. A handler on the
    /// reactor's thread does not wait.
    Block(Duration),
}

/// How many messages a peer may send.
///
/// ```
/// use liveness::server::{Excess, Rate};
///
/// // 100 messages at once, then one each 50 ms on average.
/// let rate = Rate::new(20).burst(100).excess(Excess::Close);
/// assert_ne!(rate, Rate::new(20).burst(100)); // by default, reading pauses
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rate {
    /// The messages a second.
    per_second: u32,
    /// The messages at once.
    burst: u32,
    /// What happens beyond that.
    excess: Excess,
}

/// What happens when a peer sends more messages than its [`Rate`] allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// Nothing is read from it until the rate allows it, to about a tenth of a second. Messages that were read together
    /// with an allowed one are handled.
    #[default]
    Throttle,
    /// The connection is closed with [`Cause::RateLimit`](super::Cause::RateLimit) and code 1008, after which clients
    /// do not connect again.
    Close,
}

impl Rate {
    /// Allows `per_second` messages a second, and as many at once. The server's `start` returns an error unless it is
    /// from 1 to 1,000,000.
    pub fn new(per_second: u32) -> Self {
        Rate {
            per_second,
            burst: per_second,
            excess: Excess::Throttle,
        }
    }

    /// Sets how many messages may come at once. Default: as many as a second. Zero is an error.
    pub fn burst(mut self, messages: u32) -> Self {
        self.burst = messages;
        self
    }

    /// Sets what happens beyond that. Default: [`Excess::Throttle`].
    pub fn excess(mut self, excess: Excess) -> Self {
        self.excess = excess;
        self
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// Returns which number is out of range.
    pub(crate) fn validate(&self) -> Result<(), OptionError> {
        let Rate {
            per_second, burst, ..
        } = self;
        if !(1..=MAX_RATE).contains(per_second) {
            let must = format!("allow from 1 to {MAX_RATE} messages a second, not {per_second}");
            return Err(OptionError::new("rate", must));
        }
        OptionError::check("Rate::burst", "be at least 1", *burst > 0)
    }

    /// Returns what happens to a peer that sends more.
    pub(crate) fn on_excess(&self) -> Excess {
        self.excess
    }

    /// The time between messages, ns.
    fn interval(&self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    /// How far ahead of its time a message may come, ns.
    fn tolerance(&self) -> u64 {
        self.interval() * u64::from(self.burst.max(1))
    }
}

/// Counts the messages of a peer against a [`Rate`], by the generic cell rate algorithm of ITU-T I.371: it holds when
/// the messages so far would be due if they came evenly, ns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter(u64);

impl Meter {
    /// Counts a message at `now` ns. Returns whether `rate` allows it.
    pub(crate) fn count(&mut self, rate: &Rate, now: u64) -> bool {
        self.0 = self.0.max(now).saturating_add(rate.interval());
        self.0 - now <= rate.tolerance()
    }

    /// Returns whether `rate` allows another message at `now` ns.
    pub(crate) fn allows(mut self, rate: &Rate, now: u64) -> bool {
        self.count(rate, now)
    }
}

/// The limits of a session.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The longest message, bytes.
    pub(crate) max_message: usize,
    /// The longest upgrade request, bytes.
    pub(crate) max_header: usize,
    /// How long a handshake may take in all.
    pub(crate) handshake_within: Duration,
    /// How long a message may be incomplete.
    pub(crate) message_within: Duration,
    /// How long the peer may accept no byte.
    pub(crate) write_within: Duration,
    /// How long the peer may take to answer a close.
    pub(crate) close_within: Duration,
    /// How many bytes may be queued; control frames do not count.
    pub(crate) outbound: usize,
    /// What happens beyond that.
    pub(crate) overflow: Overflow,
    /// How many messages may come; any number if not set.
    pub(crate) rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_message: 64 << 10,
            max_header: 8 << 10,
            handshake_within: Duration::from_secs(5),
            message_within: Duration::from_secs(30),
            write_within: Duration::from_secs(20),
            close_within: Duration::from_secs(5),
            outbound: 256 << 10,
            overflow: Overflow::Close,
            rate: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let rate = Rate::new(10).burst(3);
        let mut meter = Meter::default();
        let start = 5_000_000_000;
        assert!((0..3).all(|_| meter.count(&rate, start)));
        assert!(!meter.allows(&rate, start));
        assert!(!meter.allows(&rate, start + 99_999_999));
        assert!(meter.count(&rate, start + 100_000_000));
        assert!(!meter.count(&rate, start + 100_000_000));
        // What was beyond the rate is paid back.
        assert!(!meter.allows(&rate, start + 299_999_999));
        assert!(meter.allows(&rate, start + 300_000_000));
    }

    #[test]
    fn a_rate_that_allows_nothing_or_everything_is_refused() {
        let error = |rate: Rate| rate.validate().unwrap_err().to_string();
        let must = "`rate` must allow from 1 to 1000000 messages a second, not ";
        assert_eq!(error(Rate::new(0)), format!("{must}0"));
        assert_eq!(error(Rate::new(1_000_001)), format!("{must}1000001"));
        let burst = error(Rate::new(5).burst(0));
        assert_eq!(burst, "`Rate::burst` must be at least 1");
        assert!(Rate::new(1_000_000).burst(u32::MAX).validate().is_ok());
    }
}
