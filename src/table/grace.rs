//! Grace after a stall: if a worker did not run for a while, beats may not have arrived yet, so expiry is held back.
//!
//! After a gap of `g`, no key expires before `resumed + min(its timeout, g)`. Every live sender thus has as much time
//! as the gap for its next beat to arrive, and no key gets more than a timeout. Grace comes from a budget that refills
//! by a quarter of the time that passes *between* stalls. A watcher that stalls repeatedly therefore runs without grace
//! for at least three quarters of the time that it runs, and dead keys are reported.

use crate::clock::NEVER;

/// The budget refills by the time that passes divided by this number.
const REFILL_DIVISOR: u64 = 4;

/// The grace in force, and the budget.
#[derive(Debug)]
pub(super) struct Grace {
    /// When the last stall ended, ns.
    from: u64,
    /// How long expiry is held back after `from`, ns. A key with a shorter timeout is held back for that timeout.
    hold: u64,
    /// The maximum grace, which is the size of the budget, ns.
    cap: u64,
    /// The remaining budget, ns; at most `cap`.
    budget: u64,
}

impl Grace {
    /// Creates a state without stalls, with a full budget of `cap` nanoseconds.
    pub(super) fn new(cap: u64) -> Self {
        Grace {
            from: 0,
            hold: 0,
            cap,
            budget: cap,
        }
    }

    /// Returns the earliest time at which something due at `due` with `timeout` expires.
    #[inline]
    pub(super) fn adjust(&self, due: u64, timeout: u64) -> u64 {
        if due == NEVER {
            NEVER
        } else {
            // Expiry is never held back forever, not even at the end of time.
            let held_until = self.from.saturating_add(self.hold.min(timeout));
            due.max(held_until.min(NEVER - 1))
        }
    }

    /// Grants grace for a gap of `gap` that ended at `now`, if no timeout in use exceeds `longest`. Returns the longest
    /// time for which expiry is held back from now on.
    pub(super) fn grant(&mut self, now: u64, gap: u64, longest: u64) -> u64 {
        let ran = now.saturating_sub(self.from).saturating_sub(gap);
        self.budget = self
            .budget
            .saturating_add(ran / REFILL_DIVISOR)
            .min(self.cap);
        let granted = gap.min(longest).min(self.budget);
        self.budget -= granted;
        let still_held = self.from.saturating_add(self.hold).saturating_sub(now);
        self.from = now;
        self.hold = granted.max(still_held);
        self.hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_stall_nothing_is_held_back() {
        let grace = Grace::new(1_000);
        assert_eq!(grace.adjust(17, 100), 17);
        assert_eq!(grace.adjust(NEVER, 100), NEVER);
    }

    #[test]
    fn after_a_stall_a_key_gets_the_gap_but_at_most_its_timeout() {
        let mut grace = Grace::new(1_000);
        assert_eq!(grace.grant(500, 200, 10_000), 200);
        assert_eq!(grace.adjust(400, 10_000), 700);
        assert_eq!(grace.adjust(400, 50), 550);
        assert_eq!(grace.adjust(701, 10_000), 701);
    }

    #[test]
    fn at_the_end_of_time_what_is_held_back_is_still_due_once() {
        let mut grace = Grace::new(NEVER);
        grace.grant(NEVER - 50, 200, 10_000);
        assert_eq!(grace.adjust(400, 10_000), NEVER - 1);
        assert_eq!(grace.adjust(NEVER, 10_000), NEVER);
    }

    #[test]
    fn a_second_stall_never_shortens_what_the_first_granted() {
        let mut grace = Grace::new(1_000);
        grace.grant(1_000, 300, 10_000);
        grace.grant(1_100, 10, 10_000);
        assert_eq!(grace.adjust(0, 10_000), 1_300);
    }

    #[test]
    fn a_spent_budget_refills_a_quarter_as_fast_as_time_passes() {
        let mut grace = Grace::new(1_000);
        assert_eq!(grace.grant(2_000, 1_000, 10_000), 1_000);
        assert_eq!(grace.grant(2_000 + 403 + 900, 900, 10_000), 100);
    }

    #[test]
    fn a_watcher_that_stalls_for_ever_still_runs_mostly_without_grace() {
        let mut grace = Grace::new(1_000);
        let mut now = 0;
        let mut held = 0;
        for _ in 0..1_000 {
            now += 900 + 100;
            held += grace.grant(now, 900, 10_000).min(100);
        }
        assert!(
            held <= 1_000 + 1_000 * 100 / 4 + 100,
            "held back {held} of 100000 ns that it ran"
        );
    }
}
