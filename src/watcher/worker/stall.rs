//! Whether the worker ran when it should have. Time is an argument.
//!
//! The worker records its progress after each step of work and before it sleeps. Where two records, or a wake-up and
//! the time it was set for, lie further apart than the tolerance, the worker did not run: the process was stopped, or
//! the machine paused or overloaded. The tolerance follows the shortest timeout in use, since the key that allows the
//! shortest silence is the first whose beats could not arrive.

use std::time::Duration;

use crate::clock::{self, NEVER};
use crate::options::stall_tolerance;

/// When the worker ran, and when it should run again.
#[derive(Debug)]
pub(super) struct StallDetector {
    /// How late is a stall, ns; [`NEVER`] to look for none.
    threshold: u64,
    /// When the worker last ran, ns.
    last_alive: u64,
    /// When it should run again, ns: then, or in the future while it sleeps.
    expected: u64,
    /// Whether a stall was found that has not been [taken](StallDetector::resume).
    is_stalled: bool,
}

impl StallDetector {
    /// Creates the detector of a worker that starts at `now` ns.
    pub(super) fn new(threshold: u64, now: u64) -> Self {
        StallDetector {
            threshold,
            last_alive: now,
            expected: now,
            is_stalled: false,
        }
    }

    /// Returns whether stalls are looked for.
    pub(super) fn is_on(&self) -> bool {
        self.threshold != NEVER
    }

    /// Returns when the worker last ran, ns.
    pub(super) fn last_alive(&self) -> u64 {
        self.last_alive
    }

    /// Records that the worker runs at `now`, where `shortest` is the shortest timeout in use, both ns. Returns `false`
    /// if it did not run for too long before: then the gap is kept until the worker [resumes](StallDetector::resume).
    pub(super) fn record_progress(&mut self, now: u64, shortest: u64) -> bool {
        let late = now.saturating_sub(self.expected);
        self.is_stalled |= self.is_on() && late > self.tolerance(shortest);
        if !self.is_stalled {
            self.last_alive = self.last_alive.max(now);
            self.expected = self.last_alive;
        }
        !self.is_stalled
    }

    /// Records that a round begins at `now`. Returns when the worker last ran before that, if there was a stall since.
    pub(super) fn resume(&mut self, now: u64, shortest: u64) -> Option<u64> {
        let before = self.last_alive;
        let is_stalled = !self.record_progress(now, shortest);
        self.is_stalled = false;
        self.last_alive = self.last_alive.max(now);
        self.expected = self.last_alive;
        is_stalled.then_some(before)
    }

    /// Records that the worker sleeps until `until` ns.
    pub(super) fn sleep_until(&mut self, until: u64) {
        self.expected = until;
    }

    /// How late the worker may run where `shortest` is the shortest timeout in use, ns.
    fn tolerance(&self, shortest: u64) -> u64 {
        let [threshold, shortest] = [self.threshold, shortest].map(Duration::from_nanos);
        clock::nanos(stall_tolerance(threshold, shortest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_delay_is_a_stall_by_the_shortest_timeout_in_use() {
        let mut detector = StallDetector::new(100 * MS, 0);
        detector.sleep_until(400 * MS);
        // 80 ms late: no stall for a timeout of 400 ms, one for a timeout of 60 ms.
        assert_eq!(detector.resume(480 * MS, 400 * MS), None);
        detector.sleep_until(800 * MS);
        assert_eq!(detector.resume(880 * MS, 60 * MS), Some(480 * MS));
    }

    #[test]
    fn a_stall_that_was_found_is_kept_until_it_is_handled() {
        let mut detector = StallDetector::new(100 * MS, 0);
        assert!(!detector.record_progress(80 * MS, 60 * MS));
        // The key with the short timeout is gone by the next look; its gap stays.
        assert!(!detector.record_progress(81 * MS, 400 * MS));
        assert_eq!(detector.resume(82 * MS, 400 * MS), Some(0));
        assert_eq!(detector.resume(83 * MS, 400 * MS), None);
    }

    #[test]
    fn work_in_small_steps_is_no_stall_and_neither_is_sleep() {
        let mut detector = StallDetector::new(100 * MS, 0);
        for step in 1..1_000 {
            assert!(detector.record_progress(step * 2 * MS, MS));
        }
        detector.sleep_until(60_000 * MS);
        assert_eq!(detector.resume(60_002 * MS, MS), None);
        // Woken before its time.
        detector.sleep_until(NEVER);
        assert_eq!(detector.resume(60_010 * MS, MS), None);
        assert_eq!(detector.last_alive(), 60_010 * MS);
    }

    #[test]
    fn a_detector_that_is_off_finds_nothing() {
        let mut detector = StallDetector::new(NEVER, 0);
        assert!(detector.record_progress(NEVER, 1));
        assert_eq!(detector.resume(NEVER, 1), None);
    }
}
