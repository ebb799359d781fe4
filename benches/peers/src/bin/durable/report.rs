//! The tables, for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::candidate::Candidate;
use crate::runner::Results;
use crate::setting::{Metric, Row, Setting};
use crate::targets::{Goal, TARGETS, Values};
use crate::text::{grouped, machine, shown_ratio};

/// The width of the column of names.
const NAME: usize = 18;

/// The width of a column of values.
const VALUE: usize = 13;

/// The width of the column of ratios.
const RATIO: usize = 8;

/// The width of the names of targets.
const TARGET: usize = 54;

/// Returns the tables, the targets, and the notes.
pub(crate) fn report(results: &Results) -> String {
    let mut out = format!("{}\n", machine());
    let [events, peer_events] =
        [results.events, results.peer_events].map(|count| grouped(count as usize));
    let _ = writeln!(
        out,
        "`emit_many` and `drain`: {events} events, and {peer_events} where an asynchronous peer drains; a fifth of that \
         with `appendfsync always`."
    );
    out.push_str(
        "Medians over the rounds. `x ours` is the ratio of the first column to liveness. `server us` and `client us` are CPU\n\
         time for each event; `reads` are how often the server read from a connection.\n",
    );
    let mut others: Vec<f64> = results.others.clone();
    others.sort_unstable_by(f64::total_cmp);
    if let [.., most] = others[..] {
        let half = others[others.len() / 2] * 100.0;
        let most = most * 100.0;
        let _ = writeln!(
            out,
            "Other programs used {half:.0} % of the machine in the median of the measurements, and at most {most:.0} %."
        );
    }
    let settings: Vec<Setting> = results.rows.iter().map(|row| row.setting).collect();
    let mut shown = BTreeSet::new();
    for setting in settings {
        if shown.insert(setting) {
            block(&mut out, setting, &results.rows);
        }
    }
    targets(&mut out, &results.rows);
    let candidates: BTreeSet<Candidate> = results.rows.iter().map(|row| row.candidate).collect();
    out.push_str("\nWho is who:\n");
    for candidate in &candidates {
        let (name, description) = (candidate.name(), candidate.description());
        let _ = writeln!(out, "  {name:<NAME$}{description}");
    }
    out.push_str("\nWhat they promise if a worker is killed:\n");
    for candidate in &candidates {
        if let Some(promise) = candidate.promise() {
            let _ = writeln!(out, "  {:<NAME$}{promise}", candidate.name());
        }
    }
    if !results.notes.is_empty() {
        out.push_str("\nNotes:\n");
        for note in &results.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    out
}

/// One setting: a line for each candidate.
fn block(out: &mut String, setting: Setting, rows: &[Row]) {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.setting == setting).collect();
    let find = |candidate: Candidate, metric: Metric| {
        let mut same = rows.iter();
        same.find(|row| (row.candidate, row.metric) == (candidate, metric))
            .map(|row| row.value)
    };
    let metrics: Vec<Metric> = Metric::ALL
        .into_iter()
        .filter(|metric| rows.iter().any(|row| row.metric == *metric))
        .collect();
    let _ = write!(out, "\n{}\n  {:NAME$}", setting.title(), "");
    for (at, metric) in metrics.iter().enumerate() {
        let _ = write!(out, "{:>VALUE$}", metric.title());
        if at == 0 {
            let _ = write!(out, "{:>RATIO$}", "x ours");
        }
    }
    out.push('\n');
    let candidates: BTreeSet<Candidate> = rows.iter().map(|row| row.candidate).collect();
    for candidate in candidates {
        let _ = write!(out, "  {:<NAME$}", candidate.name());
        for (at, metric) in metrics.iter().enumerate() {
            let value = find(candidate, *metric);
            let shown = value.map_or("-".to_owned(), |value| metric.shown(value));
            let _ = write!(out, "{shown:>VALUE$}");
            if at == 0 {
                let ours = find(Candidate::Liveness, *metric);
                let ratio = value.zip(ours).map(|(value, ours)| value / ours);
                let _ = write!(out, "{:>RATIO$}", shown_ratio(ratio));
            }
        }
        out.push('\n');
    }
}

/// The targets whose values were measured.
fn targets(out: &mut String, rows: &[Row]) {
    let mut title = Some("\nTargets\n");
    for target in TARGETS {
        let Some(value) = (target.value)(&Values(rows)) else {
            continue;
        };
        out.push_str(title.take().unwrap_or_default());
        let goal = match target.goal {
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::AtMost(most) => format!("<= {most}"),
        };
        let verdict = if target.goal.is_met(value) {
            "met"
        } else {
            "missed"
        };
        let _ = writeln!(
            out,
            "  {:<TARGET$}{value:>9.2}  {goal:<8}  {verdict}",
            target.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Scenario;

    #[test]
    fn a_block_has_a_line_for_each_and_targets_have_verdicts() {
        let setting = Setting {
            scenario: Scenario::Emit,
            at_once: 1,
            always: false,
        };
        let row = |candidate, value| Row {
            setting,
            candidate,
            metric: Metric::EventsPerS,
            value,
        };
        let results = Results {
            rows: vec![
                row(Candidate::Liveness, 18_000.0),
                row(Candidate::Bullmq, 9_000.0),
                row(Candidate::FloorSet, 20_000.0),
            ],
            events: 1_000_000,
            peer_events: 200_000,
            others: Vec::new(),
            notes: vec!["mind the gap".to_owned()],
            is_complete: true,
        };
        let report = report(&results);
        for line in [
            "emit, 1 at once, appendfsync everysec",
            "  bullmq                      9.0    0.50",
            "  emit, 1 at once / SET -c 1                                 0.90  >= 0.85   met",
            "  mind the gap",
        ] {
            assert!(report.lines().any(|l| l == line), "{line}\n{report}");
        }
    }
}
