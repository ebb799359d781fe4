//! The table, for people.

use std::fmt::Write;

use peers::frame::Named;
use peers::text::{grouped, machine, plural, shown_ratio};

use crate::candidates::Kind;
use crate::job::{Metric, Scenario};
use crate::rows::{Row, Setting};
use crate::runner::Results;

/// The width of the column of names.
const NAME: usize = 19;

/// The width of a column of values.
const VALUE: usize = 14;

/// The width of a column of ratios.
const RATIO: usize = 8;

/// Returns the table with its notes.
pub(crate) fn table(results: &Results) -> String {
    let mut out = format!("{}\n", machine());
    let _ = writeln!(
        out,
        "Medians over the rounds. `x ours` is the ratio to liveness. A floor measures the least work that the task requires."
    );
    let mut settings: Vec<Setting> = Vec::new();
    for row in &results.rows {
        if !settings.contains(&row.setting()) {
            settings.push(row.setting());
        }
    }
    for setting in settings {
        let rows = results.rows.iter().filter(|row| row.setting() == setting);
        block(&mut out, setting, &rows.collect::<Vec<_>>());
    }
    out.push_str("\nWho is who:\n");
    let mut kinds: Vec<Kind> = results.rows.iter().map(|row| row.candidate).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let _ = writeln!(out, "  {:<NAME$} {}", kind.name(), kind.description());
    }
    if !results.notes.is_empty() {
        out.push_str("\nNotes:\n");
        for note in &results.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    out
}

/// One scenario with one number of keys: a line for each candidate.
fn block(out: &mut String, setting: Setting, rows: &[&Row]) {
    let Setting {
        scenario,
        keys,
        producers,
        workers,
    } = setting;
    let _ = write!(out, "\n{}, {} keys", scenario.name(), grouped(keys));
    if !matches!(scenario, Scenario::Memory | Scenario::Idle) {
        let _ = write!(out, ", {producers} {}", plural(producers, "producer"));
    }
    if scenario != Scenario::Handle {
        let _ = write!(out, ", {workers} {}", plural(workers, "worker"));
    }
    out.push('\n');
    let metrics: Vec<Metric> = SHOWN
        .into_iter()
        .filter(|metric| rows.iter().any(|row| row.metric == *metric))
        .collect();
    let _ = write!(out, "{:NAME$}", "");
    for metric in &metrics {
        let _ = write!(out, "{:>VALUE$}{:>RATIO$}", title(*metric), "x ours");
    }
    out.push('\n');
    let mut candidates: Vec<Kind> = rows.iter().map(|row| row.candidate).collect();
    candidates.dedup();
    let find = |candidate: Kind, metric: Metric| {
        let mut same = rows.iter();
        same.find(|row| (row.candidate, row.metric) == (candidate, metric))
    };
    for candidate in &candidates {
        let _ = write!(out, "  {:<1$}", candidate.name(), NAME - 2);
        for metric in &metrics {
            let row = find(*candidate, *metric);
            let value = row.map_or("-".to_owned(), |row| shown(*metric, row.value));
            // A ratio to what shows as zero would only tell of noise.
            let ours = find(Kind::Liveness, *metric).map(|ours| shown(*metric, ours.value));
            let is_zero = ours.is_some_and(|ours| ours.chars().all(|c| c == '0' || c == '.'));
            let ratio = row.and_then(|row| row.ratio_to_ours).filter(|_| !is_zero);
            let _ = write!(out, "{value:>VALUE$}{:>RATIO$}", shown_ratio(ratio));
        }
        out.push('\n');
    }
    if let Some(floor) = candidates.iter().find(|candidate| candidate.is_floor()) {
        let _ = write!(out, "  {:<1$}", "ours over floor", NAME - 2);
        for metric in &metrics {
            let ratio = find(*floor, *metric).and_then(|row| row.ratio_to_ours);
            let _ = write!(
                out,
                "{:>VALUE$}{:>RATIO$}",
                shown_ratio(ratio.map(f64::recip)),
                ""
            );
        }
        out.push('\n');
    }
}

/// The metrics of the table, in the order of its columns; the JSON file has more.
const SHOWN: [Metric; 9] = [
    Metric::BeatsPerS,
    Metric::CpuNsPerBeat,
    Metric::DrainS,
    Metric::LateP50Ms,
    Metric::LateP99Ms,
    Metric::MaxLateMs,
    Metric::CpuCores,
    Metric::BytesPerKey,
    Metric::WakeupsPerS,
];

/// What stands over a column, unit included.
fn title(metric: Metric) -> &'static str {
    match metric {
        Metric::BeatsPerS => "M beats/s",
        Metric::CpuNsPerBeat => "CPU ns/beat",
        Metric::DrainS => "drain s",
        Metric::LateP50Ms => "p50 ms late",
        Metric::LateP99Ms => "p99 ms late",
        Metric::MaxLateMs => "max ms late",
        Metric::CpuCores => "CPU cores",
        Metric::BytesPerKey => "bytes/key",
        Metric::WakeupsPerS => "wake-ups/s",
    }
}

/// A value in the unit of its column.
fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::BeatsPerS => format!("{:.2}", value / 1e6),
        Metric::CpuNsPerBeat | Metric::BytesPerKey | Metric::WakeupsPerS => format!("{value:.1}"),
        Metric::CpuCores => format!("{value:.4}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(shown(Metric::BeatsPerS, 14_200_000.0), "14.20");
    }

    #[test]
    fn a_block_has_a_line_for_each_and_tells_ours_over_the_floor() {
        let row = |candidate, value, ratio| Row {
            scenario: Scenario::Beat,
            candidate,
            keys: 10_000,
            producers: 2,
            workers: 1,
            metric: Metric::BeatsPerS,
            value,
            ratio_to_ours: Some(ratio),
        };
        let results = Results {
            rows: vec![
                row(Kind::Liveness, 10e6, 1.0),
                row(Kind::Moka, 5e6, 0.5),
                row(Kind::FloorChannel, 40e6, 4.0),
            ],
            notes: vec!["mind the gap".to_owned()],
            is_complete: true,
        };
        let table = table(&results);
        for line in [
            "beat, 10,000 keys, 2 producers, 1 worker",
            "  moka                       5.00    0.50",
            "  ours over floor            0.25",
            "  mind the gap",
        ] {
            assert!(
                table.lines().any(|l| l.trim_end() == line),
                "{line}\n{table}"
            );
        }
    }
}
