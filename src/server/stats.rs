//! What a server counts.

use std::fmt;

use super::close::Cause;
use crate::stats::Histogram;

/// The statistics of a server. Two equations hold at any time; see [`is_balanced`](ServerStats::is_balanced).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that the listeners accepted.
    pub accepted: u64,
    /// Of these, those that ended before they were open: over a limit, or with a handshake that failed.
    pub refused: u64,
    /// Of the refused ones, those whose request was answered by [`get`](super::ServerBuilder::get).
    pub pages: u64,
    /// Connections whose handshake is going on.
    pub handshaking: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that are being closed.
    pub closing: u64,
    /// Connections that were open and have ended.
    pub closed: u64,
    /// Calls of `opened`, also without such a callback.
    pub opened_reports: u64,
    /// Calls of `closed`, also without such a callback.
    pub closed_reports: u64,
    /// Agents that were reported as opened and not yet as closed.
    pub reported: u64,
    /// The ends by cause, in the order of [`Cause::ALL`].
    pub causes: [u64; Cause::ALL.len()],
    /// Messages received, without `Ping` and `Pong`.
    pub received: u64,
    /// Messages written.
    pub sent: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes of messages that wait to be written.
    pub queued_bytes: u64,
    /// Bytes of messages that wait to be handled.
    pub unhandled_bytes: u64,
    /// Messages without a route.
    pub unknown: u64,
    /// Calls of user code that panicked.
    pub panics: u64,
    /// The number of times that a thread of the server was found blocked in user code.
    pub stalls: u64,
    /// Calls of inline handlers that took longer than 10 ms.
    pub slow_inline: u64,
    /// The number of times that accepting was suspended, because the process had no descriptor left.
    pub accept_pauses: u64,
    /// How much later than their deadlines silent connections were dropped.
    pub silence: Histogram,
    /// The times from pings to their pongs.
    pub rtt: Histogram,
}

impl ServerStats {
    /// Returns whether every connection is accounted for, and every report of an opening has, or will have, one of a
    /// closing.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let now = self.handshaking + self.open + self.closing;
        self.accepted == self.refused + now + self.closed
            && self.opened_reports == self.closed_reports + self.reported
    }

    /// Returns how many connections ended for `cause`.
    #[must_use]
    pub fn ended_by(&self, cause: Cause) -> u64 {
        self.causes[cause as usize]
    }
}

impl fmt::Display for ServerStats {
    /// Writes the equation of connections, the traffic, and each cause of an end that has occurred.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerStats {
            accepted,
            refused,
            handshaking,
            open,
            closing,
            closed,
            received,
            sent,
            bytes_in,
            bytes_out,
            queued_bytes,
            unhandled_bytes,
            unknown,
            panics,
            stalls,
            ..
        } = self;
        write!(
            f,
            "{accepted} accepted = {refused} refused + {handshaking} handshaking + {open} open + {closing} closing + \
             {closed} closed; {received} messages in {bytes_in} bytes received, {sent} in {bytes_out} sent, \
             {queued_bytes} bytes queued, {unhandled_bytes} not handled yet, {unknown} unknown, {panics} panics, \
             {stalls} stalls"
        )?;
        let causes = Cause::ALL.iter().zip(self.causes);
        let mut before = "; ended by ";
        for (cause, count) in causes.filter(|(_, count)| *count > 0) {
            write!(f, "{before}{cause} {count}")?;
            before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_displayed_as_an_equation_and_the_causes_that_occurred() {
        let mut stats = ServerStats {
            accepted: 3,
            open: 1,
            closed: 2,
            ..ServerStats::default()
        };
        stats.causes[Cause::Silence as usize] = 2;
        let displayed = stats.to_string();
        assert!(displayed.starts_with(
            "3 accepted = 0 refused + 0 handshaking + 1 open + 0 closing + 2 closed;"
        ));
        assert!(displayed.ends_with("; ended by silence 2"), "{displayed}");
    }
}
