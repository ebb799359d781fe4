//! The tables, for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::args::Options;
use super::rows::Row;
use super::runner::Results;
use super::{Candidate, Comparison, Metric, Named, Setting};
use crate::text::{machine, shown_ratio};

/// The width of the column of names.
const NAME: usize = 19;

/// The width of a column of values.
const VALUE: usize = 13;

/// The width of the column of ratios.
const RATIO: usize = 9;

/// The width of the names of targets.
const TARGET: usize = 62;

/// The longest bar.
const BAR: &str = "##############################";

/// A target whose value was measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is about.
    pub name: String,
    /// The least, or the most.
    pub goal: Goal,
    /// What it is.
    pub value: f64,
}

/// What a value must keep.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Goal {
    /// Returns whether `value` keeps it.
    fn is_met(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        }
    }
}

/// Returns the tables, the targets, and the notes.
pub fn report<C: Comparison>(results: &Results<C>, options: &Options<C>) -> String {
    let mut out = format!("{}\n{}", machine(), C::introduction(options));
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
    targets(&mut out, &C::targets(&results.rows));
    let candidates: BTreeSet<_> = results.rows.iter().map(|row| row.candidate).collect();
    out.push_str("\nWho is who:\n");
    for candidate in &candidates {
        let (name, description) = (candidate.name(), candidate.description());
        let _ = writeln!(out, "  {name:<NAME$}{description}");
    }
    let promises = candidates
        .iter()
        .filter_map(|it| Some((it, C::promise(*it)?)));
    for (at, (candidate, promise)) in promises.enumerate() {
        if at == 0 {
            out.push_str("\nWhat they promise if a worker is killed:\n");
        }
        let _ = writeln!(out, "  {:<NAME$}{promise}", candidate.name());
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
fn block<C: Comparison>(out: &mut String, setting: C::Setting, rows: &[Row<C>]) {
    let rows: Vec<_> = rows.iter().filter(|row| row.setting == setting).collect();
    let find = |candidate: C::Candidate, metric: C::Metric| {
        let mut same = rows.iter();
        same.find(|row| (row.candidate, row.metric) == (candidate, metric))
            .map(|row| row.value)
    };
    let metrics = C::Metric::ALL.iter().copied();
    let metrics: Vec<_> = metrics
        .filter(|metric| rows.iter().any(|row| row.metric == *metric))
        .collect();
    let Some(&first) = metrics.first() else {
        return;
    };
    let (base, ratio_title) = C::base(setting);
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
    let candidates: BTreeSet<_> = rows.iter().map(|row| row.candidate).collect();
    let has_bars = C::HAS_BARS && candidates.len() > 1;
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

/// The targets, with what they are.
fn targets(out: &mut String, targets: &[Target]) {
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
        let (name, value) = (&target.name, target.value);
        let _ = writeln!(out, "  {name:<TARGET$}{value:>9.2}  {goal:<8}  {verdict}");
    }
}
