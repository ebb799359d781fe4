//! The tables, for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::candidate::Candidate;
use crate::rows::{Metric, Row, Scenario, Setting};
use crate::runner::Results;
use crate::targets::{Goal, targets};
use crate::text::{machine, shown_ratio};

/// The width of the column of names.
const NAME: usize = 19;

/// The width of a column of values.
const VALUE: usize = 13;

/// The width of the column of ratios.
const RATIO: usize = 9;

/// The longest bar.
const BAR: &str = "##############################";

/// The width of the names of targets.
const TARGET: usize = 62;

/// Returns the tables, the targets, and the notes.
pub(crate) fn report(results: &Results) -> String {
    let mut out = format!("{}\n", machine());
    out.push_str(
        "The server on one core, the load on another. Medians over the rounds. Latency counts from the moment at which a\n\
         message is due, which is when an earlier echo was read. The ratio and the bar are those of the first column.\n",
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
    let mut shown = BTreeSet::new();
    for row in &results.rows {
        if shown.insert(row.setting) {
            block(&mut out, row.setting, &results.rows);
        }
    }
    let targets = targets(&results.rows);
    if !targets.is_empty() {
        out.push_str("\nTargets\n");
    }
    for target in targets {
        let goal = match target.goal {
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::AtMost(most) => format!("<= {most}"),
        };
        let verdict = if target.goal.is_met(target.value) {
            "met"
        } else {
            "missed"
        };
        let (name, value) = (target.name, target.value);
        let _ = writeln!(out, "  {name:<TARGET$}{value:>9.2}  {goal:<8}  {verdict}");
    }
    let candidates: BTreeSet<Candidate> = results.rows.iter().map(|row| row.candidate).collect();
    out.push_str("\nWho is who:\n");
    for candidate in candidates {
        let (name, description) = (candidate.name(), candidate.description());
        let _ = writeln!(out, "  {name:<NAME$}{description}");
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
    let Some(&first) = metrics.first() else {
        return;
    };
    let (base, ratio_title) = match setting.scenario {
        Scenario::Echo => (Candidate::Floor, "x floor"),
        _ => (Candidate::WsInline, "x ours"),
    };
    let _ = write!(out, "\n{}\n  {:NAME$}", setting.title(), "");
    for metric in &metrics {
        let _ = write!(out, "{:>VALUE$}", metric.title());
        if *metric == first {
            let _ = write!(out, "{ratio_title:>RATIO$}");
        }
    }
    out.push('\n');
    let values = rows.iter().filter(|row| row.metric == first);
    let most = values.map(|row| row.value).fold(0.0, f64::max);
    let candidates: BTreeSet<Candidate> = rows.iter().map(|row| row.candidate).collect();
    let has_bars = candidates.len() > 1;
    for candidate in candidates {
        let mut line = format!("  {:<NAME$}", candidate.name());
        for metric in &metrics {
            let value = find(candidate, *metric);
            let shown = value.map_or("-".to_owned(), |value| metric.shown(value));
            let _ = write!(line, "{shown:>VALUE$}");
            if *metric == first {
                let ratio = value.zip(find(base, first));
                let ratio = ratio.map(|(value, base)| value / base);
                let _ = write!(line, "{:>RATIO$}", shown_ratio(ratio));
            }
        }
        if has_bars && let Some(value) = find(candidate, first) {
            let share = value / most * BAR.len() as f64;
            let bar: String = (BAR.chars().zip(0_u32..))
                .take_while(|(_, at)| f64::from(*at) + 0.5 <= share)
                .map(|(mark, _)| mark)
                .collect();
            let _ = write!(line, "  {bar}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_a_line_for_each_and_targets_have_verdicts() {
        let setting = Setting {
            scenario: Scenario::Echo,
            connections: 64,
            in_flight: 1,
        };
        let row = |candidate, metric, value| Row {
            setting,
            candidate,
            metric,
            value,
        };
        let rate = |candidate, value| row(candidate, Metric::MessagesPerS, value);
        let cpu = |candidate, value| row(candidate, Metric::CpuUs, value);
        let results = Results {
            rows: vec![
                rate(Candidate::Floor, 200_000.0),
                rate(Candidate::WsInline, 160_000.0),
                rate(Candidate::NodeWs, 80_000.0),
                cpu(Candidate::Floor, 4.0),
                cpu(Candidate::WsInline, 5.0),
                cpu(Candidate::NodeWs, 10.0),
            ],
            others: Vec::new(),
            notes: vec!["mind the gap".to_owned()],
            is_complete: true,
        };
        let report = report(&results);
        for line in [
            "echo, 64 x 1 in flight",
            "  node_ws                     80.0     0.40        10.00  ############",
            "  echo, 64 x 1, by CPU: WebSocket inline / floor                     0.80  >= 0.85   missed",
            "  echo, 64 x 1, by CPU: WebSocket inline / node ws                   2.00  >= 1.6    met",
            "  mind the gap",
        ] {
            assert!(report.lines().any(|l| l == line), "{line}\n{report}");
        }
    }
}
