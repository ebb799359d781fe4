//! What a client counts.

use std::fmt;

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

impl fmt::Display for ClientStats {
    /// Writes the three equations, the traffic, and what went wrong in handlers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientStats {
            attempts,
            dialing,
            failed,
            opened,
            online,
            ended,
            accepted,
            sent,
            queued,
            dropped,
            lost,
            requests,
            waiting,
            answered,
            timed_out,
            lost_requests,
            received,
            unknown,
            bad,
            panics,
            bytes_in,
            bytes_out,
            ..
        } = self;
        write!(
            f,
            "{attempts} attempts = {dialing} dialing + {failed} failed + {opened} opened, of which {online} online + \
             {ended} ended; {accepted} messages accepted = {sent} sent + {queued} queued + {dropped} dropped + {lost} \
             lost; {requests} requests = {waiting} waiting + {answered} answered + {timed_out} timed out + \
             {lost_requests} lost; {received} messages in {bytes_in} bytes received, {bytes_out} bytes sent, \
             {unknown} unknown, {bad} bad, {panics} panics"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_displayed_as_equations() {
        let stats = ClientStats {
            attempts: 5,
            failed: 2,
            opened: 3,
            online: 1,
            ended: 2,
            accepted: 7,
            sent: 6,
            queued: 1,
            requests: 4,
            answered: 3,
            lost_requests: 1,
            ..ClientStats::default()
        };
        assert!(stats.is_balanced());
        let displayed = stats.to_string();
        assert!(displayed.starts_with(
            "5 attempts = 0 dialing + 2 failed + 3 opened, of which 1 online + 2 ended; 7 messages accepted = 6 sent + \
             1 queued + 0 dropped + 0 lost; 4 requests = 0 waiting + 3 answered + 0 timed out + 1 lost; "
        ));
    }
}
