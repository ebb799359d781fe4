//! What a pacemaker shows of its peer and of its calls.

use std::fmt;

/// The state of a pacemaker's peer, by whether calls returned `Ok`.
///
/// A datagram that was sent may not have been received. A send from a socket that is not connected never fails; one from a
/// connected socket fails at most every other time while nobody listens. Where it matters that the peer hears the beats, let
/// the beat function wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Connection {
    /// No beat has succeeded yet, and too few have failed for [`Offline`](Connection::Offline).
    Unknown,
    /// A beat has succeeded, and too few have failed since for [`Offline`](Connection::Offline).
    Online,
    /// As many calls in a row have failed as [`offline_after`](super::Builder::offline_after) says.
    Offline,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Connection::Unknown => "unknown",
            Connection::Online => "online",
            Connection::Offline => "offline",
        })
    }
}

/// The counters of a pacemaker. Each call that was due is in exactly one of `beats`, `failures` and `withheld`; ticks that
/// were not called are in `skipped`.
///
/// Its `Display` is for logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PacemakerStats {
    /// Calls that succeeded.
    pub beats: u64,
    /// Calls that failed or panicked, retries included.
    pub failures: u64,
    /// Ticks that passed while the process was stopped or a call ran.
    pub skipped: u64,
    /// Calls that were due and not made, because no work ran or it made no progress.
    pub withheld: u64,
}

impl fmt::Display for PacemakerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{} beat{}, {} failure{}, {} skipped, {} withheld",
            self.beats,
            plural(self.beats),
            self.failures,
            plural(self.failures),
            self.skipped,
            self.withheld
        )
    }
}
