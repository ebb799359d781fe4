//! Why a connection ended, and the codes that say so on the wire.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The longest reason in a close frame, bytes: a control frame has at most 125, two of which are the code.
const MAX_REASON: usize = 123;

/// Why a connection ended. The first cause counts; later ones are ignored.
///
/// ```
/// use liveness::server::Cause;
///
/// assert_eq!(Cause::Silence.to_string(), "silence");
/// assert!(Cause::ALL.is_sorted());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Cause {
    /// The peer sent a close frame. The report has its code and reason.
    Peer,
    /// The peer ended its side of the stream. On TCP, what it had sent before was handled and answered, as far as its
    /// handlers returned within [`close_within`](super::ServerBuilder::close_within).
    Eof,
    /// The connection was reset or failed.
    Reset,
    /// Nothing was received for the time that [`Keepalive`](super::Keepalive) allows.
    Silence,
    /// A request or a message was not complete in time.
    TooSlow,
    /// The peer accepted no byte for too long.
    Stuck,
    /// The peer broke the protocol of frames, or of TLS.
    Protocol,
    /// A message was longer than the limit.
    TooBig,
    /// A text was not UTF-8.
    BadText,
    /// A message was no envelope, or its body could not be decoded.
    BadMessage,
    /// The peer read more slowly than it was sent to.
    SlowConsumer,
    /// The peer sent more messages than the rate allows.
    RateLimit,
    /// The upgrade request was answered with an HTTP status other than 101. The report has the status as its code.
    Refused,
    /// The program closed the connection.
    App,
    /// A handler panicked.
    Handler,
    /// The server was shut down.
    Shutdown,
}

impl Cause {
    /// All causes, in the order of their declaration, which is also the order of counters.
    pub const ALL: [Cause; 16] = [
        Cause::Peer,
        Cause::Eof,
        Cause::Reset,
        Cause::Silence,
        Cause::TooSlow,
        Cause::Stuck,
        Cause::Protocol,
        Cause::TooBig,
        Cause::BadText,
        Cause::BadMessage,
        Cause::SlowConsumer,
        Cause::RateLimit,
        Cause::Refused,
        Cause::App,
        Cause::Handler,
        Cause::Shutdown,
    ];

    /// Returns the close code of WebSocket that a server sends for this cause.
    pub(crate) fn code(self) -> u16 {
        match self {
            Cause::Peer | Cause::Eof | Cause::Reset | Cause::Refused | Cause::App => 1000,
            Cause::Shutdown => 1001,
            Cause::Protocol => 1002,
            Cause::BadText | Cause::BadMessage => 1007,
            // Another attempt would end in the same way.
            Cause::RateLimit => 1008,
            Cause::TooBig => 1009,
            Cause::Silence | Cause::Handler => 1011,
            // Try again later, from the registry of the IANA: perhaps the network was slow.
            Cause::TooSlow | Cause::Stuck | Cause::SlowConsumer => 1013,
        }
    }
}

impl fmt::Display for Cause {
    /// Writes the cause in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Peer => "closed by the peer",
            Cause::Eof => "end of stream",
            Cause::Reset => "reset",
            Cause::Silence => "silence",
            Cause::TooSlow => "incomplete for too long",
            Cause::Stuck => "no byte accepted for too long",
            Cause::Protocol => "protocol error",
            Cause::TooBig => "message too big",
            Cause::BadText => "text that is not UTF-8",
            Cause::BadMessage => "bad message",
            Cause::SlowConsumer => "slow consumer",
            Cause::RateLimit => "rate limit",
            Cause::Refused => "refused",
            Cause::App => "closed by the program",
            Cause::Handler => "panic of a handler",
            Cause::Shutdown => "shutdown",
        })
    }
}

/// The report of the end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Closed {
    /// Why it ended.
    pub cause: Cause,
    /// The close code that was sent or, for [`Cause::Peer`], received: 1005 if the peer sent none, 1006 if the
    /// connection ended without one. For [`Cause::Refused`], the HTTP status.
    pub code: u16,
    /// The reason that was sent or received; may be empty.
    pub reason: String,
    /// How long the connection was open; zero if it never was.
    pub opened_for: Duration,
    /// How long before its end the last byte was received.
    pub silent: Duration,
    /// How much later than its deadline the cause was found; zero for causes without a deadline.
    pub late: Duration,
    /// The number of messages received.
    pub received: u64,
    /// The number of messages that were handed to the operating system, at least in part.
    pub sent: u64,
    /// The number of bytes that were queued and not sent.
    pub unsent: u64,
}

#[cfg(all(test, feature = "client"))]
impl Closed {
    /// Creates the report of an end for `cause` with `code`.
    pub(crate) fn for_test(cause: Cause, code: u16) -> Self {
        Closed {
            cause,
            code,
            reason: String::new(),
            opened_for: Duration::ZERO,
            silent: Duration::ZERO,
            late: Duration::ZERO,
            received: 0,
            sent: 0,
            unsent: 0,
        }
    }
}

impl fmt::Display for Closed {
    /// Writes the cause, the code, the times and the reason. A cause without a deadline has no lateness.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) after {:.3?}, silent for {:.3?}",
            self.cause, self.code, self.opened_for, self.silent
        )?;
        if !self.late.is_zero() {
            write!(f, ", late by {:.3?}", self.late)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// The cause of the end of a session, with the code and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Why it ends.
    pub(crate) cause: Cause,
    /// The close code, or an HTTP status.
    pub(crate) code: u16,
    /// The reason; at most [`MAX_REASON`] bytes.
    pub(crate) reason: Cow<'static, str>,
    /// How late it was found, ns.
    pub(crate) late: u64,
    /// When the session ended, ns.
    pub(crate) at: u64,
    /// The bytes of messages that were discarded.
    pub(crate) unsent: u64,
}

impl Ending {
    /// Creates the ending for `cause`, with its usual code.
    pub(crate) fn new(cause: Cause, reason: impl Into<Cow<'static, str>>) -> Self {
        Ending {
            cause,
            code: cause.code(),
            reason: shorten(reason.into()),
            late: 0,
            at: 0,
            unsent: 0,
        }
    }

    /// Creates the ending for what was received, with a code and a reason that are not sent.
    pub(crate) fn received(cause: Cause, code: u16, reason: String) -> Self {
        Ending {
            code,
            ..Ending::new(cause, reason)
        }
    }

    /// Replaces the code; one that must not be sent becomes 1000.
    pub(crate) fn with_code(mut self, code: u16) -> Self {
        self.code = if is_legal(code) { code } else { 1000 };
        self
    }

    /// Sets how late the cause was found, ns.
    pub(crate) fn with_late(mut self, late: u64) -> Self {
        self.late = late;
        self
    }
}

/// Returns whether `code` may stand in a close frame.
pub(crate) fn is_legal(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Returns `reason`, cut at a character so that it fits a close frame.
fn shorten(mut reason: Cow<'static, str>) -> Cow<'static, str> {
    if reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON)
            .rev()
            .find(|&end| reason.is_char_boundary(end));
        reason.to_mut().truncate(end.unwrap_or(0));
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codes_that_may_stand_in_a_frame_are_legal() {
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert!(is_legal(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!is_legal(code), "{code}");
        }
        for cause in Cause::ALL {
            assert!(is_legal(cause.code()), "{cause}");
        }
    }

    #[test]
    fn a_peer_that_was_too_slow_may_try_again() {
        // 1008 means that another attempt would end in the same way, and clients give up.
        for cause in [Cause::SlowConsumer, Cause::Stuck, Cause::TooSlow] {
            assert_eq!(cause.code(), 1013, "{cause}");
        }
        assert_eq!(Cause::RateLimit.code(), 1008);
    }

    #[test]
    fn the_counters_follow_the_order_of_the_causes() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let ending = Ending::new(Cause::App, "ä".repeat(100));
        assert_eq!(ending.reason, "ä".repeat(61));
        assert_eq!(Ending::new(Cause::App, "x").with_code(1005).code, 1000);
        assert_eq!(Ending::new(Cause::App, "x").with_code(4001).code, 4001);
    }
}
