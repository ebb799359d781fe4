//! Checks the outcome of the scenario. It does not compare a fixed list of lines, but applies a naive rule to the
//! received datagrams.
//!
//! On a busy machine, a node that beats every 4 units may be silent for more than 5 units once. It *must* then become
//! unavailable. Each silence is therefore judged by its own length, from one received datagram to the next. If the
//! length is too close to the timeout, both outcomes are accepted.

use std::fmt::Write as _;
use std::time::Duration;

use liveness::registry::Change;

use crate::keeper::{Counts, Pick};
use crate::story::{Act, LENGTH, NODES, SCRIPT, TIMEOUT, cast};
use crate::trouble;
use crate::wire::{Name, Refusal};

/// An observation of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The keeper heard it; what that changed was seen before.
    Heard,
    /// The registry says that it changed.
    Change(Change),
    /// Something was done to it.
    Act(Act),
}

/// All observations. Times are those of the registry's clock.
pub(crate) struct Record {
    /// The length of a unit.
    pub(crate) unit: Duration,
    /// What was seen when of whom.
    pub(crate) seen: Vec<(Duration, Name, Seen)>,
    /// For how long the registry said that it held deaths back, because it had not run itself.
    pub(crate) held: Duration,
    /// What came of the datagrams.
    pub(crate) counts: Counts,
    /// The requests.
    pub(crate) picks: Vec<Pick>,
    /// When it ended.
    pub(crate) end: Duration,
}

impl Record {
    /// Nothing seen yet.
    pub(crate) fn new(unit: Duration) -> Self {
        Record {
            unit,
            seen: Vec::new(),
            held: Duration::ZERO,
            counts: Counts::default(),
            picks: Vec::new(),
            end: Duration::ZERO,
        }
    }

    /// Takes down what was seen.
    pub(crate) fn see(&mut self, at: Duration, node: Name, seen: Seen) {
        self.seen.push((at, node, seen));
    }

    /// What was seen of `node`, in order.
    fn of<'a>(&'a self, node: &'a str) -> Vec<(Duration, Seen)> {
        let of_node = self.seen.iter().filter(|(_, name, _)| name == node);
        let mut seen: Vec<_> = of_node.map(|&(at, _, seen)| (at, seen)).collect();
        // The threads that tell of it take turns as they like. What a beat changes comes before it.
        seen.sort_by_key(|&(at, seen)| (at, seen == Seen::Heard));
        seen
    }

    /// How long a node may be silent.
    fn timeout(&self) -> Duration {
        self.unit * TIMEOUT
    }

    /// By how much a time may be off: half of the unit that lies between the timeout and the nearest intervals. The
    /// keeper's thread may be kept waiting between a datagram and the clock, the watcher between a deadline and its
    /// report, the client between the clock and its pick. On a machine with work for all cores each takes some
    /// milliseconds, seldom tens; half a unit is 100 ms by default.
    fn slack(&self) -> Duration {
        self.unit / 2
    }

    /// The longest that a death may go unnoticed.
    fn notice(&self) -> Duration {
        self.timeout() + self.slack() + self.held
    }

    /// Returns all deviations from the expected outcome.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (node, _) in cast() {
            self.check_silences(node, &mut complaints);
        }
        let is_stranger = |name: &Name| cast().all(|(node, _)| node != name);
        if let Some((at, node, _)) = self.seen.iter().find(|(_, node, _)| is_stranger(node)) {
            complaints.push(format!("an unknown node {node} appeared at {at:?}"));
        }
        self.check_flapping(&mut complaints);
        self.check_acts(&mut complaints);
        self.check_picks(&mut complaints);
        self.check_counts(&mut complaints);
        complaints
    }

    /// From one time that `node` was heard to the next, just that happened which its silence asked for.
    fn check_silences(&self, node: &str, complaints: &mut Vec<String>) {
        let mut last = None;
        let mut changes = Vec::new();
        for (at, seen) in self.of(node) {
            match seen {
                Seen::Act(_) => {}
                Seen::Change(change) => changes.push((at, change)),
                Seen::Heard => {
                    self.check_silence(node, last, at, false, &changes, complaints);
                    changes.clear();
                    last = Some(at);
                }
            }
        }
        self.check_silence(node, last, self.end, true, &changes, complaints);
    }

    /// `node` was heard at `last`, then not until `next`, when it was heard again or all ended.
    fn check_silence(
        &self,
        node: &str,
        last: Option<Duration>,
        next: Duration,
        is_end: bool,
        changes: &[(Duration, Change)],
        complaints: &mut Vec<String>,
    ) {
        use Change::{Down, Left, Recovered, Registered, Up, Updated};
        let is_timely = |last: Duration, down: Duration| {
            down + self.slack() >= last + self.timeout() && down <= last + self.notice()
        };
        let is_right = match (last, changes) {
            (None, [(_, Registered), (_, Up)]) => !is_end,
            (Some(last), []) => next <= last + self.notice(),
            (Some(_), [(_, Left)]) => is_end,
            (Some(last), [(down, Down)]) => is_end && is_timely(last, *down),
            // Updated: a new process serves elsewhere.
            (
                Some(last),
                [(down, Down), (_, Recovered { .. })]
                | [(down, Down), (_, Updated), (_, Recovered { .. })],
            ) => !is_end && is_timely(last, *down),
            _ => false,
        };
        if !is_right {
            let last = last.unwrap_or_default();
            complaints.push(format!(
                "{node} was silent from {last:?} to {next:?}, but its changes were {changes:?}"
            ));
        }
    }

    /// Who beats more seldom than once a timeout comes and goes. Half of the times that it should will do: beats that
    /// are late hide some.
    fn check_flapping(&self, complaints: &mut Vec<String>) {
        for (node, interval) in NODES {
            let (_, _, recovered) = self.tally(node);
            let least = LENGTH / interval / 2;
            if interval > TIMEOUT && recovered < least as usize {
                complaints.push(format!(
                    "{node} beats every {interval} units, but recovered {recovered} times instead of at least {least}"
                ));
            }
        }
    }

    /// What was done to a node showed, and before the next thing was done: so the order is right as well. A timeout
    /// does for all of them, with two more units for a process that the machine must get round to start.
    fn check_acts(&self, complaints: &mut Vec<String>) {
        for (_, act, node) in SCRIPT {
            let seen = self.of(node);
            let done = seen.iter().find(|&&(_, seen)| seen == Seen::Act(act));
            let shown = done.and_then(|&(done, _)| {
                let until = done + self.timeout() + 2 * self.unit;
                let by_then = seen.iter().rev().filter(|&&(at, _)| at <= until);
                by_then.map(|&(_, seen)| seen).find_map(|seen| match seen {
                    Seen::Change(change) => Some(change),
                    Seen::Heard | Seen::Act(_) => None,
                })
            });
            let is_right = match act {
                Act::Kill | Act::Stop | Act::Trouble => shown == Some(Change::Down),
                Act::Continue | Act::Start => matches!(shown, Some(Change::Recovered { .. })),
                Act::Leave => shown == Some(Change::Left),
            };
            if !is_right {
                complaints.push(format!(
                    "after {act:?} of {node}, the changes were {shown:?}"
                ));
            }
        }
    }

    /// Nobody was picked who had been silent for more than a timeout, dead or not, or had left.
    fn check_picks(&self, complaints: &mut Vec<String>) {
        if self.picks.iter().filter(|pick| pick.is_answered).count() < LENGTH as usize / 2 {
            complaints.push("too few requests were answered".to_owned());
        }
        for Pick { at, node, .. } in &self.picks {
            let is_right = self.of(node).iter().any(|&(heard, seen)| {
                // A pick may be made just before a beat that brings the node back is taken down.
                seen == Seen::Heard && heard <= *at + self.slack() && *at <= heard + self.notice()
            });
            let has_left = self.of(node).iter().any(|&(left, seen)| {
                seen == Seen::Change(Change::Left) && left + self.slack() < *at
            });
            if !is_right || has_left {
                complaints.push(format!("{node} was picked at {at:?} while unavailable"));
            }
        }
    }

    /// What was ignored was counted for what it was.
    fn check_counts(&self, complaints: &mut Vec<String>) {
        for (refusal, least, most) in trouble::EXPECTED {
            let count = self.refused(refusal);
            if !(least..=most).contains(&count) {
                complaints.push(format!(
                    "{count} datagrams were counted as {refusal:?}, instead of {least} to {most}"
                ));
            }
        }
    }

    /// How many datagrams were refused so.
    fn refused(&self, refusal: Refusal) -> u64 {
        self.counts.refused.get(&refusal).copied().unwrap_or(0)
    }

    /// How often `node` was heard, became unavailable, and recovered.
    fn tally(&self, node: &str) -> (usize, usize, usize) {
        let seen = self.of(node);
        let count = |is_so: fn(Seen) -> bool| seen.iter().filter(|&&(_, seen)| is_so(seen)).count();
        (
            count(|seen| seen == Seen::Heard),
            count(|seen| seen == Seen::Change(Change::Down)),
            count(|seen| matches!(seen, Seen::Change(Change::Recovered { .. }))),
        )
    }

    /// What was counted, as a table.
    pub(crate) fn summary(&self) -> String {
        let mut out =
            "node  interval  heard  unavailable  recovered  requests  answered\n".to_owned();
        for (node, interval) in cast() {
            let (heard, down, recovered) = self.tally(node);
            let picks = || self.picks.iter().filter(|pick| pick.node == node);
            let requests = picks().count();
            let answered = picks().filter(|pick| pick.is_answered).count();
            _ = writeln!(
                out,
                "{node:<4} {interval:>9} {heard:>6} {down:>12} {recovered:>10} {requests:>9} {answered:>9}"
            );
        }
        for (_, act, node) in SCRIPT {
            let seen = self.of(node);
            let death = seen.iter().find(|&&(_, seen)| seen == Seen::Act(act));
            let (Act::Kill | Act::Stop, Some(&(death, _))) = (act, death) else {
                continue;
            };
            let is_back = |&&(at, seen): &&(Duration, Seen)| at > death && seen == Seen::Heard;
            let back = seen
                .iter()
                .find(is_back)
                .map_or(Duration::MAX, |&(back, _)| back);
            let after = |pick: &&Pick| pick.node == node && death < pick.at && pick.at < back;
            let last = self
                .picks
                .iter()
                .filter(after)
                .map(|pick| pick.at - death)
                .max();
            let units = last.unwrap_or_default().as_secs_f64() / self.unit.as_secs_f64();
            let what = format!("{node} may be picked for {TIMEOUT} units after {act:?}");
            _ = match last {
                Some(_) => writeln!(out, "{what}; it was picked for {units:.2}"),
                None => writeln!(out, "{what}; it was not picked"),
            };
        }
        _ = write!(out, "datagrams: {} accepted", self.counts.heard);
        for (refusal, ..) in trouble::EXPECTED {
            _ = write!(out, ", {} {refusal:?}", self.refused(refusal));
        }
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Duration = Duration::from_millis(200);

    /// What is seen where every node and the registry are as punctual as can be, and all nodes that are up are picked
    /// once a unit.
    fn perfect() -> Record {
        let mut record = Record::new(UNIT);
        for (node, interval) in cast() {
            let mut is_alive = interval > 0;
            let mut is_up = false;
            let mut last = None;
            for unit in 0..LENGTH {
                let at = UNIT * unit;
                let mut see = |seen| record.see(at, node.into(), seen);
                if is_up && last == unit.checked_sub(TIMEOUT) {
                    see(Seen::Change(Change::Down));
                    is_up = false;
                }
                let mut beats = is_alive && unit % interval == 0;
                if let Some(&(_, act, _)) =
                    SCRIPT.iter().find(|&&(at, _, of)| (at, of) == (unit, node))
                {
                    see(Seen::Act(act));
                    is_alive = matches!(act, Act::Start | Act::Continue);
                    beats = is_alive || act == Act::Trouble;
                    if act == Act::Leave {
                        see(Seen::Change(Change::Left));
                        is_up = false;
                    }
                }
                if beats {
                    match last {
                        None => {
                            see(Seen::Change(Change::Registered));
                            see(Seen::Change(Change::Up));
                        }
                        Some(last) if !is_up => {
                            let down_for = UNIT * (unit - last - TIMEOUT);
                            see(Seen::Change(Change::Recovered { down_for }));
                        }
                        Some(_) => {}
                    }
                    see(Seen::Heard);
                    (is_up, last) = (true, Some(unit));
                }
                if is_up {
                    record.picks.push(pick(node, unit));
                }
            }
        }
        for (refusal, least, _) in trouble::EXPECTED {
            record.counts.refused.insert(refusal, least);
        }
        record.end = UNIT * LENGTH;
        record
    }

    fn pick(node: &str, unit: u32) -> Pick {
        Pick {
            at: UNIT * unit,
            node: node.into(),
            is_answered: true,
        }
    }

    #[test]
    fn a_perfect_story_gives_no_cause_for_complaint() {
        assert_eq!(perfect().complaints(), [""; 0]);
    }

    #[test]
    fn whatever_is_missing_is_missed() {
        for gone in 0..perfect().seen.len() {
            let mut record = perfect();
            let gone = record.seen.remove(gone);
            assert!(!record.complaints().is_empty(), "{gone:?}");
        }
    }

    #[test]
    fn strangers_are_noticed() {
        let mut record = perfect();
        record.see(UNIT, "jay".into(), Seen::Change(Change::Registered));
        assert_eq!(record.complaints().len(), 1);
    }

    #[test]
    fn a_death_told_too_early_or_too_late_is_noticed() {
        let is_death = |seen: &Seen| *seen == Seen::Change(Change::Down);
        let deaths = (0..)
            .zip(perfect().seen)
            .filter(|(_, (_, _, seen))| is_death(seen));
        for (death, (at, node, _)) in deaths {
            for (wrong, at) in [
                (true, at - UNIT),
                (false, at + UNIT / 4),
                (false, at - UNIT / 4),
            ] {
                let mut record = perfect();
                record.seen[death].0 = at;
                assert_eq!(!record.complaints().is_empty(), wrong, "{node} {at:?}");
            }
        }
        // The last death that is reported has nothing after it.
        let mut record = perfect();
        let eel = record
            .seen
            .iter_mut()
            .find(|(_, node, seen)| node == "eel" && is_death(seen));
        eel.expect("it dies").0 += UNIT;
        assert!(!record.complaints().is_empty());
    }

    #[test]
    fn a_node_that_is_late_has_to_become_unavailable() {
        let mut record = perfect();
        let is_late = |node: &str, at: Duration| node == "ant" && at == UNIT * 60;
        record.seen.retain(|(at, node, _)| !is_late(node, *at));
        record.picks.retain(|pick| !is_late(&pick.node, pick.at));
        for unit in 61..64 {
            record
                .picks
                .retain(|pick| pick.node != "ant" || pick.at != UNIT * unit);
        }
        assert!(!record.complaints().is_empty());
        let down_for = UNIT * 3;
        record.see(UNIT * 61, "ant".into(), Seen::Change(Change::Down));
        record.see(
            UNIT * 64 - UNIT / 100,
            "ant".into(),
            Seen::Change(Change::Recovered { down_for }),
        );
        assert_eq!(record.complaints(), [""; 0]);
    }

    #[test]
    fn picks_of_the_dead_and_of_those_who_left_are_noticed() {
        // `eel` beats for the last time at 4, `fox` is stopped from 16 to 32, `gnu` leaves at 24.
        for (node, unit) in [
            ("eel", 10),
            ("eel", 71),
            ("fox", 18),
            ("gnu", 25),
            ("hen", 50),
            ("yak", 3),
        ] {
            let mut record = perfect();
            record.picks.push(pick(node, unit));
            assert_eq!(record.complaints().len(), 1, "{node} {unit}");
        }
    }

    #[test]
    fn datagrams_that_are_counted_wrongly_are_noticed() {
        for (refusal, least, most) in trouble::EXPECTED {
            for count in [least - 1, most + 1] {
                let mut record = perfect();
                record.counts.refused.insert(refusal, count);
                assert_eq!(record.complaints().len(), 1, "{refusal:?}");
            }
        }
    }
}
