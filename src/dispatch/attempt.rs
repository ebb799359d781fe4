//! The result of one attempt at an event, combined from the results of its handlers. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::handler::{Failure, Next};
use super::options::On;
use crate::panic::catch_text;

/// The maximum length of the stored text of an error, in bytes.
const MAX_ERROR: usize = 1_024;

/// The remaining work of an event after attempts that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The handlers to call again; if it is empty, all of them.
    pub(crate) pending: Vec<Arc<str>>,
    /// The handlers that failed permanently.
    pub(crate) failed: Vec<Arc<str>>,
    /// The last error.
    pub(crate) error: String,
}

/// The outcome of an attempt for its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All handlers are done.
    Done,
    /// Some handlers are called again.
    Again {
        /// The delay; `None` means at once, in its previous place.
        delay: Option<Duration>,
        /// Whether the attempt counts.
        counts: bool,
        /// The remaining work.
        rest: Rest,
    },
    /// Some handlers have failed permanently, and none is called again.
    Dead(Rest),
}

/// One attempt at an event, while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Its number, from 1.
    number: u32,
    /// The remaining work so far.
    rest: Rest,
    /// The longest requested delay.
    delay: Option<Duration>,
    /// Whether a handler failed.
    counts: bool,
}

impl Attempt {
    /// Begins the attempt `number` at an event whose previous attempts left `earlier`.
    pub(crate) fn new(number: u32, earlier: Option<&Rest>) -> Self {
        let rest = earlier.map_or_else(Rest::default, |earlier| Rest {
            pending: Vec::new(),
            failed: earlier.failed.clone(),
            error: earlier.error.clone(),
        });
        Attempt {
            number,
            rest,
            delay: None,
            counts: false,
        }
    }

    /// Records that the handler `name` with `options` failed.
    pub(crate) fn failed(&mut self, name: &Arc<str>, options: &On, failure: &Failure, random: f64) {
        let is_last = self.number >= options.max_attempts;
        let delay = match failure.next {
            Next::Snooze(delay) => {
                self.delay = self.delay.max(Some(delay));
                self.rest.pending.push(name.clone());
                return;
            }
            Next::Dead => None,
            Next::Retry | Next::RetryIn(_) if is_last => None,
            Next::Retry => Some(options.backoff.jittered(self.number, random)),
            Next::RetryIn(delay) => Some(delay),
        };
        self.counts = true;
        self.rest.error = cut(catch_text(|| failure.to_string()).unwrap_or_else(|text| text));
        match delay {
            Some(_) => {
                self.delay = self.delay.max(delay);
                self.rest.pending.push(name.clone());
            }
            None => self.rest.failed.push(name.clone()),
        }
    }

    /// Records that the handler `name`, which an earlier attempt left to call, is no longer registered.
    pub(crate) fn missing(&mut self, name: &Arc<str>) {
        self.counts = true;
        self.rest.error = format!("handler `{name}` is no longer registered");
        self.rest.failed.push(name.clone());
    }

    /// Records that no handler was called because all were removed meanwhile. All handlers are called again.
    pub(crate) fn end_uncalled(self) -> Outcome {
        Outcome::Again {
            delay: None,
            counts: false,
            rest: self.rest,
        }
    }

    /// Records that the handler `name` was interrupted by a stop. It is called again without delay, and the attempt
    /// does not count.
    pub(crate) fn put_off(&mut self, name: &Arc<str>) {
        self.rest.pending.push(name.clone());
    }

    /// Returns the outcome for the event.
    pub(crate) fn end(self) -> Outcome {
        let Attempt {
            rest,
            delay,
            counts,
            ..
        } = self;
        if !rest.pending.is_empty() {
            Outcome::Again {
                delay,
                counts,
                rest,
            }
        } else if rest.failed.is_empty() {
            Outcome::Done
        } else {
            Outcome::Dead(rest)
        }
    }
}

/// Truncates a text that is too long to store.
fn cut(mut text: String) -> String {
    let boundary = (0..=MAX_ERROR.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text.truncate(boundary.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::backoff::Backoff;

    const S: Duration = Duration::from_secs(1);

    fn options(max_attempts: u32) -> On {
        On::new()
            .max_attempts(max_attempts)
            .backoff(Backoff::exponential(S, 100 * S).jitter(0.0))
    }

    fn name(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn without_a_failure_the_event_is_done() {
        assert_eq!(Attempt::new(1, None).end(), Outcome::Done);
    }

    #[test]
    fn only_the_handlers_that_failed_are_called_again_after_the_longest_delay() {
        let mut attempt = Attempt::new(3, None);
        attempt.failed(&name("a"), &options(9), &Failure::retry("one"), 0.5);
        attempt.failed(
            &name("b"),
            &options(9),
            &Failure::retry_in(2 * S, "two"),
            0.5,
        );
        let Outcome::Again {
            delay,
            counts,
            rest,
        } = attempt.end()
        else {
            panic!("two are to be called again")
        };
        assert_eq!((delay, counts), (Some(4 * S), true));
        assert_eq!(rest.pending, [name("a"), name("b")]);
        assert_eq!(rest.error, "two");
    }

    #[test]
    fn the_last_attempt_of_a_handler_is_its_own() {
        let mut attempt = Attempt::new(2, None);
        attempt.failed(&name("a"), &options(2), &Failure::retry("a"), 0.5);
        attempt.failed(&name("b"), &options(3), &Failure::retry("b"), 0.5);
        let Outcome::Again { rest, .. } = attempt.end() else {
            panic!("`b` is to be called again")
        };
        assert_eq!(
            (&rest.pending[..], &rest.failed[..]),
            (&[name("b")][..], &[name("a")][..])
        );
        // `b` is done then, and the event is dead because of `a`.
        let Outcome::Dead(rest) = Attempt::new(3, Some(&rest)).end() else {
            panic!("`a` had failed for good")
        };
        assert_eq!(rest.failed, [name("a")]);
    }

    #[test]
    fn a_fatal_failure_is_not_tried_again() {
        let mut attempt = Attempt::new(1, None);
        attempt.failed(&name("a"), &options(9), &Failure::fatal("no"), 0.5);
        assert!(matches!(attempt.end(), Outcome::Dead(rest) if rest.error == "no"));
    }

    #[test]
    fn a_snooze_does_not_count_as_an_attempt_and_has_no_limit() {
        let mut attempt = Attempt::new(9, None);
        attempt.failed(&name("a"), &options(9), &Failure::snooze(7 * S), 0.5);
        assert!(matches!(
            attempt.end(),
            Outcome::Again { delay: Some(delay), counts: false, .. } if delay == 7 * S
        ));
    }

    #[test]
    fn the_text_of_an_error_is_cut_between_characters() {
        let mut attempt = Attempt::new(1, None);
        attempt.failed(
            &name("a"),
            &options(1),
            &Failure::retry("ä".repeat(10_000)),
            0.5,
        );
        assert!(matches!(attempt.end(), Outcome::Dead(rest) if rest.error.len() == 1_024));
        assert_eq!(cut(format!("a{}", "ä".repeat(1_000))).len(), 1_023);
    }
}
