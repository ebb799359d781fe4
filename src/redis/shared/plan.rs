//! When a keeper looks at which shard, and what it holds. Pure: time is an argument.

use std::time::Duration;

use super::report::Report;
use super::script::{BATCH, Held, Looked};
use crate::sync::Instant;

/// Reports of so much time of the callback are taken ahead, so that keepers share them evenly.
const AHEAD: Duration = Duration::from_millis(250);

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The callback returned.
    Delivered,
    /// The callback panicked. The lease lapses, and the report is handed out again.
    Failed,
    /// It was not delivered, because the watcher was closed.
    Returned,
}

/// The plan of a keeper.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The shards.
    seats: Vec<Seat>,
    /// The longest time between two looks at a shard. It is at most a half of the stored `outage`, so that a quiet
    /// shard does not seem out of reach, and a third of the lease, because each look prolongs the leases.
    look: Duration,
    /// A third of the lease.
    third: Duration,
}

/// The plan for one shard. All its reports together are at most [`BATCH`] of the whole plan.
#[derive(Debug)]
struct Seat {
    /// When to look again at the latest.
    look_at: Instant,
    /// When the next report is due, if one is known.
    due_at: Option<Instant>,
    /// Reports that are delivered, which the server does not know yet.
    delivered: Vec<Report>,
    /// Reports that are not delivered yet.
    kept: Vec<Report>,
    /// Reports that will not be delivered.
    returned: Vec<Report>,
}

impl Plan {
    /// Creates a plan that looks at all shards at once.
    pub(crate) fn new(shards: usize, outage: Duration, lease: Duration, now: Instant) -> Self {
        let seat = || Seat {
            look_at: now,
            due_at: None,
            delivered: Vec::new(),
            kept: Vec::new(),
            returned: Vec::new(),
        };
        let third = lease / 3;
        Plan {
            seats: std::iter::repeat_with(seat).take(shards).collect(),
            look: third.min(outage / 2),
            third,
        }
    }

    /// Returns the shard that is looked at next, and when. `wants` is whether more reports can be taken, and `settles`
    /// whether what became of reports is to be sent now.
    pub(crate) fn next(&self, now: Instant, wants: bool, settles: bool) -> (usize, Instant) {
        let times = self.seats.iter().map(|seat| {
            if settles && seat.unsettled() > 0 {
                return now;
            }
            let due_at = seat.due_at.filter(|_| wants).unwrap_or(seat.look_at);
            seat.look_at.min(due_at)
        });
        let first = times.enumerate().min_by_key(|(_, time)| *time);
        first.expect("a watch has at least one shard")
    }

    /// Returns how many reports are not delivered yet.
    fn kept(&self) -> usize {
        self.seats.iter().map(|seat| seat.kept.len()).sum()
    }

    /// Returns how many reports have an outcome that the server does not know yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.seats.iter().map(Seat::unsettled).sum()
    }

    /// Returns whether more reports are wanted, if the callback takes `mean` for each. This is so when half of them are
    /// left, so that each look takes many.
    pub(crate) fn wants(&self, mean: Duration) -> bool {
        let kept = self.kept();
        kept <= limit(mean) / 2 && kept + self.unsettled() <= BATCH / 2
    }

    /// Returns how many reports a look at `shard` may take: as many as there is room for, besides those whose outcome
    /// the look takes away.
    pub(crate) fn want(&self, shard: usize, mean: Duration) -> usize {
        let kept = self.kept();
        let elsewhere = self.unsettled() - self.seats[shard].unsettled();
        limit(mean).min(BATCH - elsewhere).saturating_sub(kept)
    }

    /// Returns what is to be sent about the reports of `shard`.
    pub(crate) fn held(&self, shard: usize) -> Held<'_> {
        let seat = &self.seats[shard];
        Held {
            delivered: &seat.delivered,
            kept: &seat.kept,
            returned: &seat.returned,
        }
    }

    /// Takes note of the reply, at `now`, to a look at `shard` that was made at `sent` with all of
    /// [`held`](Plan::held).
    pub(crate) fn looked(&mut self, shard: usize, looked: &Looked, sent: Instant, now: Instant) {
        self.look = self.third.min(Duration::from_micros(looked.outage) / 2);
        let seat = &mut self.seats[shard];
        seat.delivered.clear();
        seat.returned.clear();
        seat.kept.extend(looked.reports.iter().cloned());
        // The leases began after the call was sent, and the time that is left is no longer than from the reply on: the
        // next look is neither too late for the former, nor too early for the latter.
        seat.look_at = sent + self.look;
        seat.due_at = looked
            .wait
            .and_then(|wait| now.checked_add(Duration::from_micros(wait)));
    }

    /// Takes note of what became of a report.
    pub(crate) fn settle(&mut self, shard: usize, report: &Report, outcome: Outcome) {
        let seat = &mut self.seats[shard];
        let Some(at) = seat.kept.iter().position(|kept| kept == report) else {
            return;
        };
        let report = seat.kept.swap_remove(at);
        match outcome {
            Outcome::Delivered => seat.delivered.push(report),
            Outcome::Returned => seat.returned.push(report),
            Outcome::Failed => {}
        }
    }
}

impl Seat {
    /// Returns how many reports have an outcome that the server does not know yet.
    fn unsettled(&self) -> usize {
        self.delivered.len() + self.returned.len()
    }
}

/// Returns how many reports may be held at a time, if the callback takes `mean` for each.
fn limit(mean: Duration) -> usize {
    let ahead = AHEAD.as_nanos() / mean.as_nanos().max(1);
    usize::try_from(ahead).unwrap_or(BATCH).clamp(1, BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A reply with reports of these fences.
    fn reply(wait: Option<Duration>, fences: std::ops::Range<u64>) -> Looked {
        let report = |fence: u64| Report::new(format!("{fence}:1:5:7:k").into_bytes(), 9).unwrap();
        Looked {
            moved: 0,
            outage: 4_000_000,
            wait: wait.map(|wait| wait.as_micros() as u64),
            delivered: 0,
            reports: fences.map(report).collect(),
        }
    }

    #[test]
    fn it_looks_when_a_report_is_due_and_at_the_latest_after_half_the_outage() {
        let start = Instant::now();
        let mut plan = Plan::new(2, SECOND * 4, SECOND * 30, start);
        assert_eq!(plan.next(start, true, false), (0, start));
        plan.looked(0, &reply(Some(SECOND), 0..0), start, start);
        assert_eq!(plan.next(start, true, false), (1, start));
        plan.looked(1, &reply(None, 0..0), start, start);
        assert_eq!(plan.next(start, true, false), (0, start + SECOND));
        plan.looked(
            0,
            &reply(Some(SECOND * 9), 0..0),
            start + SECOND,
            start + SECOND,
        );
        assert_eq!(plan.next(start, true, false), (1, start + SECOND * 2));
        // Without room it does not matter what is due.
        plan.looked(
            1,
            &reply(Some(SECOND), 0..0),
            start + SECOND,
            start + SECOND,
        );
        assert_eq!(plan.next(start, false, false).1, start + SECOND * 3);
    }

    #[test]
    fn leases_are_renewed_in_time_after_a_late_reply() {
        let start = Instant::now();
        let mut plan = Plan::new(1, SECOND * 4, SECOND * 30, start);
        let late = start + SECOND;
        plan.looked(0, &reply(Some(SECOND * 9), 0..0), start, late);
        assert_eq!(plan.next(late, true, false), (0, start + SECOND * 2));
        plan.looked(0, &reply(Some(SECOND / 2), 0..0), start, late);
        assert_eq!(plan.next(late, true, false), (0, late + SECOND / 2));
    }

    #[test]
    fn a_short_lease_makes_looks_more_frequent() {
        let start = Instant::now();
        let mut plan = Plan::new(1, SECOND * 4, SECOND * 3, start);
        plan.looked(0, &reply(None, 0..0), start, start);
        assert_eq!(plan.next(start, true, false), (0, start + SECOND));
    }

    #[test]
    fn a_report_is_held_until_its_outcome_is_sent() {
        let start = Instant::now();
        let mut plan = Plan::new(2, SECOND * 4, SECOND * 30, start);
        let looked = reply(None, 0..200);
        plan.looked(0, &looked, start, start);
        plan.looked(1, &reply(None, 0..0), start, start);
        assert_eq!((plan.kept(), plan.want(0, Duration::ZERO)), (200, 0));
        plan.settle(0, &looked.reports[3], Outcome::Delivered);
        plan.settle(0, &looked.reports[4], Outcome::Returned);
        plan.settle(0, &looked.reports[5], Outcome::Failed);
        // No longer known: nothing happens.
        plan.settle(0, &looked.reports[5], Outcome::Delivered);
        assert_eq!(plan.kept(), 197);
        let held = plan.held(0);
        assert_eq!(held.delivered, &looked.reports[3..4]);
        assert_eq!(held.returned, &looked.reports[4..5]);
        // A look at the other shard leaves these two where they are, so it can take less.
        assert_eq!(
            (plan.want(0, Duration::ZERO), plan.want(1, Duration::ZERO)),
            (3, 1)
        );
        assert_eq!(plan.next(start, false, true), (0, start));
        assert_eq!(plan.unsettled(), 2);
        plan.looked(0, &reply(None, 0..0), start, start);
        assert_eq!(plan.unsettled(), 0);
        assert_eq!(plan.want(1, Duration::ZERO), 3);
    }

    #[test]
    fn a_slow_callback_takes_few_reports_ahead() {
        let start = Instant::now();
        let mut plan = Plan::new(1, SECOND * 4, SECOND * 30, start);
        assert_eq!(plan.want(0, Duration::from_millis(10)), 25);
        assert_eq!((plan.want(0, SECOND), plan.wants(SECOND)), (1, true));
        plan.looked(0, &reply(None, 0..1), start, start);
        assert_eq!((plan.want(0, SECOND), plan.wants(SECOND)), (0, false));
    }
}
