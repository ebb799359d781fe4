//! When the next attempt is made, and whether one is: without socket, thread or clock.

use std::time::Duration;

use super::state::{ClosedBy, LinkError};
use crate::server::{Cause, Closed};

/// The waits between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// The longest first wait.
    pub(super) first: Duration,
    /// The longest wait.
    pub(super) longest: Duration,
    /// The longest first wait after the server has said that it goes away, or is restarted.
    pub(super) spread: Duration,
}

/// The attempts of a client so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    /// The attempts since the client was last online.
    attempts: u32,
    /// The failures in a row, with the loss of the connection.
    failures: u32,
    /// How often the wait was doubled.
    doubled: u32,
}

/// What follows the end of an attempt or of a connection.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Another attempt after this wait. The number of failures in a row.
    Wait(Duration, u32),
    /// Nothing.
    Stop(ClosedBy),
}

impl Course {
    /// Counts an attempt.
    pub(super) fn begin(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Records that a connection is open. Returns the number of attempts that it took.
    pub(super) fn opened(&mut self) -> u32 {
        self.failures = 0;
        std::mem::take(&mut self.attempts)
    }

    /// Returns what follows `error`, by which an attempt or, if it `was_open`, a connection has ended. `random` is from
    /// 0 to 1.
    ///
    /// The wait is a random part of a span, which doubles with each call up to the longest. It begins again at the
    /// first when a connection has lasted for at least the span, so that a server which accepts connections and ends
    /// them at once is not hurried. If the server has asked to try again later, it must have lasted for the longest:
    /// a client that is ended for what it does, again and again, waits longer each time.
    pub(super) fn ended(
        &mut self,
        error: &LinkError,
        was_open: bool,
        backoff: &Backoff,
        random: f64,
    ) -> Next {
        self.failures = self.failures.saturating_add(1);
        let mut span = self.span(backoff);
        if let LinkError::Ended(closed) = error {
            if is_final(closed) {
                return Next::Stop(ClosedBy::Server(closed.clone()));
            }
            let said = |code| was_open && closed.cause == Cause::Peer && closed.code == code;
            let enough = if said(TRY_AGAIN_LATER) {
                backoff.longest
            } else {
                span
            };
            if was_open && closed.opened_for >= enough {
                self.doubled = 0;
                span = self.span(backoff);
            }
            if said(GOING_AWAY) || said(SERVICE_RESTART) {
                span = span.max(backoff.spread);
            }
        }
        self.doubled = self.doubled.saturating_add(1);
        Next::Wait(span.mul_f64(random), self.failures)
    }

    /// Returns the longest next wait.
    fn span(&self, backoff: &Backoff) -> Duration {
        let times = 1_u32.checked_shl(self.doubled).unwrap_or(u32::MAX);
        backoff.first.saturating_mul(times).min(backoff.longest)
    }
}

/// The close code of a server that is shut down, or of a page that is left.
const GOING_AWAY: u16 = 1001;

/// The close code of a server that is restarted.
const SERVICE_RESTART: u16 = 1012;

/// The close code of a server that is overloaded, or to which this client is too much.
const TRY_AGAIN_LATER: u16 = 1013;

/// Returns whether another attempt would end like this one.
fn is_final(closed: &Closed) -> bool {
    match closed.cause {
        Cause::Refused => matches!(closed.code, 401 | 403 | 404),
        Cause::Peer => matches!(closed.code, 1008 | 4000..=4999),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(250),
        longest: Duration::from_secs(30),
        spread: Duration::from_secs(10),
    };

    fn ended(cause: Cause, code: u16, opened_for: Duration) -> LinkError {
        let mut closed = crate::server::Closed::for_test(cause, code);
        closed.opened_for = opened_for;
        LinkError::Ended(closed)
    }

    fn refused() -> LinkError {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        LinkError::Connect("127.0.0.1:1".parse().unwrap(), Arc::new(error))
    }

    fn wait(next: Next) -> (Duration, u32) {
        match next {
            Next::Wait(wait, failures) => (wait, failures),
            Next::Stop(by) => panic!("{by}"),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_after_a_lasting_connection() {
        let mut course = Course::default();
        let mut spans = Vec::new();
        for attempt in 1..=9 {
            course.begin();
            let (span, failures) = wait(course.ended(&refused(), false, &BACKOFF, 1.0));
            assert_eq!(failures, attempt);
            spans.push(span);
        }
        let expected = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
        assert_eq!(spans, expected.map(|ms| ms * MS));
        course.begin();
        assert_eq!(course.opened(), 10);
        // A connection that ends at once is no reason to hurry.
        let short = ended(Cause::Eof, 1006, 30 * S - Duration::from_nanos(1));
        assert_eq!(wait(course.ended(&short, true, &BACKOFF, 1.0)), (30 * S, 1));
        course.begin();
        assert_eq!(course.opened(), 1);
        let long = ended(Cause::Silence, 1011, 30 * S);
        assert_eq!(
            wait(course.ended(&long, true, &BACKOFF, 1.0)),
            (250 * MS, 1)
        );
        assert_eq!(
            wait(course.ended(&refused(), false, &BACKOFF, 0.5)),
            (250 * MS, 2)
        );
    }

    #[test]
    fn a_server_that_goes_away_is_not_stormed() {
        for code in [1001, 1012] {
            let mut course = Course::default();
            let away = ended(Cause::Peer, code, S);
            assert_eq!(wait(course.ended(&away, true, &BACKOFF, 1.0)).0, 10 * S);
            assert_eq!(
                wait(course.ended(&refused(), false, &BACKOFF, 1.0)).0,
                500 * MS
            );
        }
    }

    #[test]
    fn a_server_that_asks_to_try_again_later_waits_longer_each_time() {
        let mut course = Course::default();
        // Each connection lasts longer than the wait before it.
        for expected in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let later = ended(Cause::Peer, 1013, 30 * S - Duration::from_nanos(1));
            let (span, failures) = wait(course.ended(&later, true, &BACKOFF, 1.0));
            assert_eq!((span, failures), (expected * MS, 1));
            course.begin();
            assert_eq!(course.opened(), 1);
        }
        let later = ended(Cause::Peer, 1013, 30 * S);
        let (span, _) = wait(course.ended(&later, true, &BACKOFF, 1.0));
        assert_eq!(span, 250 * MS);
    }

    #[test]
    fn what_the_server_means_finally_is_not_tried_again() {
        for (cause, code, is_final) in [
            (Cause::Refused, 400, false),
            (Cause::Refused, 401, true),
            (Cause::Refused, 403, true),
            (Cause::Refused, 404, true),
            (Cause::Refused, 429, false),
            (Cause::Refused, 503, false),
            (Cause::Peer, 1000, false),
            (Cause::Peer, 1007, false),
            (Cause::Peer, 1008, true),
            (Cause::Peer, 1011, false),
            (Cause::Peer, 1012, false),
            (Cause::Peer, 1013, false),
            (Cause::Peer, 3999, false),
            (Cause::Peer, 4000, true),
            (Cause::Peer, 4999, true),
            // This side's own verdict.
            (Cause::Stuck, 1008, false),
            (Cause::Silence, 1011, false),
        ] {
            let next = Course::default().ended(&ended(cause, code, S), true, &BACKOFF, 0.5);
            let stops = matches!(next, Next::Stop(ClosedBy::Server(_)));
            assert_eq!(stops, is_final, "{cause} {code}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_longest_and_the_numbers_are_those_of_the_naive_model(
            events in prop::collection::vec((0u8..4, 0.0f64..1.0), 1..200),
        ) {
            let mut course = Course::default();
            let (mut attempts, mut failures) = (0, 0);
            for (event, random) in events {
                course.begin();
                attempts += 1;
                let error = match event {
                    0 => refused(),
                    1 => ended(Cause::Refused, 503, Duration::ZERO),
                    _ => {
                        prop_assert_eq!(course.opened(), attempts);
                        (attempts, failures) = (0, 0);
                        ended(Cause::Eof, 1006, u32::from(event) * 10 * S)
                    }
                };
                failures += 1;
                let (wait, counted) = wait(course.ended(&error, event >= 2, &BACKOFF, random));
                prop_assert!(wait <= BACKOFF.longest.mul_f64(random));
                prop_assert_eq!(counted, failures);
            }
        }
    }
}
