//! What a client counts.

use crate::stats::Histogram;

/// The statistics of a client. Three equations hold at any time; see [`is_balanced`](ClientStats::is_balanced).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Attempts to connect.
    pub attempts: u64,
    /// Attempts that are going on: 0 or 1.
    pub dialing: u64,
    /// Attempts that failed, or were given up by the program.
    pub failed: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that are open: 0 or 1.
    pub online: u64,
    /// Connections that were open and have ended.
    pub ended: u64,
    /// Messages that were accepted for sending, with greetings, requests and answers.
    pub accepted: u64,
    /// Messages that were handed to the operating system.
    pub sent: u64,
    /// Messages that wait.
    pub queued: u64,
    /// Messages that were never sent: dropped as the oldest of a full queue, or for a request whose time was over, for
    /// an answer whose connection has ended, or at the close.
    pub dropped: u64,
    /// Messages that were being written when a connection ended. The server may have received them.
    pub lost: u64,
    /// Requests that were accepted.
    pub requests: u64,
    /// Requests that wait for their answers.
    pub waiting: u64,
    /// Requests that were answered, also with a fault.
    pub answered: u64,
    /// Requests whose time was over.
    pub timed_out: u64,
    /// Requests whose connection ended before the answer came, or that were dropped.
    pub lost_requests: u64,
    /// Messages received, without `Ping` and `Pong`.
    pub received: u64,
    /// Messages without a handler.
    pub unknown: u64,
    /// Messages whose body could not be decoded.
    pub bad: u64,
    /// Calls of user code that panicked.
    pub panics: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// How much later than their deadlines silent servers were judged.
    pub silence: Histogram,
    /// The times from pings to their pongs, one for each connection.
    pub rtt: Histogram,
}

impl ClientStats {
    /// Returns whether every attempt, every message and every request is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let ends = self.answered + self.timed_out + self.lost_requests;
        self.attempts == self.dialing + self.failed + self.opened
            && self.opened == self.online + self.ended
            && self.accepted == self.sent + self.queued + self.dropped + self.lost
            && self.requests == self.waiting + ends
    }
}
