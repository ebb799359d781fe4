//! The reasons for which a call should end early.

use std::fmt;

/// Why a call should end early, returned by [`Context::cause`](super::Context::cause).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The event was cancelled. The handler's result is ignored.
    Cancelled,
    /// The dispatcher stops. If the handler returns an error, the attempt does not count.
    Interrupted,
    /// The call exceeded its [`max_duration`](super::On::max_duration), or made no progress [in
    /// time](super::On::progress_within).
    TooLong,
    /// Another worker may run the event, because the lease of this attempt was lost. The handler's result is ignored.
    /// Only a durable dispatcher uses this cause.
    LeaseLost,
}

impl Cause {
    /// Above zero, below eight.
    pub(crate) fn number(self) -> u8 {
        match self {
            Cause::Cancelled => 1,
            Cause::Interrupted => 2,
            Cause::TooLong => 3,
            Cause::LeaseLost => 4,
        }
    }

    /// Returns the cause with this number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        let all = [
            Cause::Cancelled,
            Cause::Interrupted,
            Cause::TooLong,
            Cause::LeaseLost,
        ];
        all.into_iter().find(|cause| cause.number() == number)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Cancelled => "the event was cancelled",
            Cause::Interrupted => "the dispatcher stops",
            Cause::TooLong => "the call took too long",
            Cause::LeaseLost => "another worker may run the event",
        })
    }
}
