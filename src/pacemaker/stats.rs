//! The state of a pacemaker's peer, and the counters of its calls.

use std::fmt;

/// The state of a pacemaker's peer, judged by whether calls of the beat function returned `Ok`.
///
/// A datagram that was sent may not have been received. Sending on an unconnected socket never fails. Sending on a
/// connected socket fails at most every other time while the peer's port is closed. If it matters that the peer
/// receives the beats, let the beat function wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Connection {
    /// No beat has succeeded yet, and too few have failed for [`Offline`](Connection::Offline).
    Unknown,
    /// A beat has succeeded, and too few have failed since for [`Offline`](Connection::Offline).
    Online,
    /// At least [`offline_after`](super::Builder::offline_after) calls in a row have failed.
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

/// The counters of a pacemaker. Each call that was due is counted in exactly one of `beats`, `failures` and `withheld`.
/// Ticks
/// that pass without a call are counted in `skipped`.
///
/// Its `Display` is one line for a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PacemakerStats {
    /// The number of calls that succeeded.
    pub beats: u64,
    /// The number of calls that failed or panicked, including retries.
    pub failures: u64,
    /// The number of ticks that passed while the process was suspended or a call ran.
    pub skipped: u64,
    /// The number of calls that were due and not made, because no work ran or it made no progress.
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
