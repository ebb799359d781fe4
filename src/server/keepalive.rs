//! When a silent connection is pinged, and when it is dropped.

use std::time::Duration;

use crate::clock;
use crate::error::OptionError;

/// The shortest interval of pings: about the resolution of the deadlines.
const SHORTEST: Duration = Duration::from_millis(1);

/// How a connection is pinged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ping {
    /// A control frame on WebSocket, a message on TCP.
    #[default]
    Auto,
    /// A control frame of WebSocket, which a browser answers by itself: it proves that the network and the peer's
    /// system work, not that a page's script runs. On TCP, a message.
    Control,
    /// A message named `Ping`, which the peer's program answers with `Pong` or any other message.
    Message,
    /// A control frame and a message.
    Both,
    /// No pings: a peer must send by itself.
    Off,
}

/// What counts as a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alive {
    /// Any byte. A message that is never completed is ended by its own deadline.
    #[default]
    Bytes,
    /// Only complete messages and control frames.
    Messages,
}

/// When a silent connection is pinged, and when it is dropped. Only what is received counts as life; what is sent, or
/// acknowledged by the peer's system, does not.
///
/// ```
/// use std::time::Duration;
/// use liveness::server::{Keepalive, Ping};
///
/// let default = Keepalive::default();
/// assert_eq!(default, Keepalive::new(Duration::from_secs(25), Duration::from_secs(45)));
/// let hotpot = Keepalive::new(Duration::from_secs(6), Duration::from_secs(12)).ping(Ping::Message);
/// assert_eq!(hotpot, Keepalive::hotpot());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Keepalive {
    /// The silence after which the peer is pinged, and pinged again.
    ping_after: Duration,
    /// The silence after which it is dropped.
    drop_after: Duration,
    /// How it is pinged.
    ping: Ping,
    /// The longest time without writing, after which a ping is sent although the peer talks.
    heartbeat_out: Option<Duration>,
    /// What counts as a sign of life.
    alive_by: Alive,
}

impl Default for Keepalive {
    /// Pings after 25 seconds, which is below the usual minute of proxies, and drops after 45.
    fn default() -> Self {
        Keepalive::new(Duration::from_secs(25), Duration::from_secs(45))
    }
}

impl Keepalive {
    /// Pings a peer that was silent for `ping_after`, again each `ping_after` of further silence, and drops it after
    /// `drop_after`. The server's `start` returns an error unless `ping_after` is at least 1 ms and less than
    /// `drop_after`.
    pub fn new(ping_after: Duration, drop_after: Duration) -> Self {
        Keepalive {
            ping_after,
            drop_after,
            ping: Ping::Auto,
            heartbeat_out: None,
            alive_by: Alive::Bytes,
        }
    }

    /// The times of hotpot: a `Ping` message after 6 seconds, dropped after 12.
    pub fn hotpot() -> Self {
        Keepalive::new(Duration::from_secs(6), Duration::from_secs(12)).ping(Ping::Message)
    }

    /// Sets how the peer is pinged. Default: [`Ping::Auto`].
    pub fn ping(mut self, ping: Ping) -> Self {
        self.ping = ping;
        self
    }

    /// Sends a ping whenever nothing was written for `interval`, although the peer talks. Default: off. This is for
    /// proxies that close a connection on which one direction is silent. Less than 1 ms is an error.
    pub fn heartbeat_out(mut self, interval: Duration) -> Self {
        self.heartbeat_out = Some(interval);
        self
    }

    /// Sets what counts as a sign of life. Default: [`Alive::Bytes`].
    pub fn alive_by(mut self, alive_by: Alive) -> Self {
        self.alive_by = alive_by;
        self
    }

    /// Checks the times.
    ///
    /// # Errors
    ///
    /// Returns what is out of range.
    pub(crate) fn validate(&self) -> Result<(), OptionError> {
        let (ping, drop) = (self.ping_after, self.drop_after);
        if ping < SHORTEST || ping >= drop {
            let must = format!(
                "ping after at least {SHORTEST:?} and drop after more than that, not after {ping:?} and {drop:?}"
            );
            return Err(OptionError::new("keepalive", must));
        }
        match self.heartbeat_out {
            Some(interval) if interval < SHORTEST => {
                let must = format!("be at least {SHORTEST:?}, not {interval:?}");
                Err(OptionError::new("Keepalive::heartbeat_out", must))
            }
            _ => Ok(()),
        }
    }

    /// Returns the silence after which the peer is dropped.
    pub(crate) fn drop_after(&self) -> Duration {
        self.drop_after
    }

    /// Returns how the peer is pinged.
    pub(crate) fn kind(&self) -> Ping {
        self.ping
    }

    /// Returns the longest time without writing.
    pub(crate) fn longest_quiet(&self) -> Option<Duration> {
        self.heartbeat_out
    }

    /// Returns whether only complete messages count as life.
    pub(crate) fn needs_messages(&self) -> bool {
        self.alive_by == Alive::Messages
    }

    /// Returns what follows in a silence in which `pings` pings were sent, and how long after the last of them, or
    /// after the last byte if there was none. The times are constants, so that connections share a few distinct
    /// timeouts.
    pub(crate) fn after(&self, pings: u32) -> (Duration, Next) {
        let in_all = self.pings_in_a_silence();
        if pings < in_all {
            (self.ping_after, Next::Ping)
        } else {
            let spent = self.ping_after.saturating_mul(in_all);
            (self.drop_after.saturating_sub(spent), Next::Drop)
        }
    }

    /// Returns the number of pings in a silence that ends with a drop.
    fn pings_in_a_silence(&self) -> u32 {
        if self.ping == Ping::Off || self.ping_after.is_zero() {
            return 0;
        }
        let [drop, ping] = [self.drop_after, self.ping_after].map(clock::nanos);
        // A ping at the moment of the drop is none.
        u32::try_from((drop - 1) / ping).unwrap_or(u32::MAX)
    }
}

/// What follows in a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A ping.
    Ping,
    /// The end.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_silence_has_a_ping_each_interval_and_ends_exactly_at_the_drop() {
        let hotpot = Keepalive::hotpot();
        assert_eq!(hotpot.after(0), (6 * S, Next::Ping));
        assert_eq!(hotpot.after(1), (6 * S, Next::Drop));
        let default = Keepalive::default();
        assert_eq!(default.after(0), (25 * S, Next::Ping));
        assert_eq!(default.after(1), (20 * S, Next::Drop));
        let many = Keepalive::new(5 * S, 17 * S);
        assert_eq!(many.after(2), (5 * S, Next::Ping));
        assert_eq!(many.after(3), (2 * S, Next::Drop));
        assert_eq!(many.ping(Ping::Off).after(0), (17 * S, Next::Drop));
    }

    #[test]
    fn times_that_make_no_sense_are_refused() {
        assert!(Keepalive::default().validate().is_ok());
        for (ping, drop) in [(0, 5), (5, 5), (6, 5)] {
            let (ping, drop) = (ping * S, drop * S);
            let error = Keepalive::new(ping, drop).validate().unwrap_err();
            let must = "`keepalive` must ping after at least 1ms and drop after more than that";
            assert_eq!(
                error.to_string(),
                format!("{must}, not after {ping:?} and {drop:?}")
            );
        }
        let ms = Duration::from_millis(1);
        assert!(Keepalive::new(ms, 2 * ms).validate().is_ok());
        let error = Keepalive::default().heartbeat_out(ms / 2).validate();
        assert_eq!(
            error.unwrap_err().to_string(),
            "`Keepalive::heartbeat_out` must be at least 1ms, not 500µs"
        );
    }
}
