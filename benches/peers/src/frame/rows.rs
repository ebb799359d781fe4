//! What a comparison yields: samples, and rows of their medians.

use serde::{Deserialize, Serialize};

use super::{Comparison, Metric};

/// One number of one measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample<M> {
    /// What it is.
    pub metric: M,
    /// The number.
    pub value: f64,
}

/// What one measurement gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome<M> {
    /// The numbers.
    pub samples: Vec<Sample<M>>,
    /// What the reader has to know about them.
    pub notes: Vec<String>,
}

impl<M> Default for Outcome<M> {
    fn default() -> Self {
        Outcome {
            samples: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl<M> Outcome<M> {
    /// Adds a number.
    pub fn add(&mut self, metric: M, value: f64) {
        self.samples.push(Sample { metric, value });
    }

    /// Adds `note` if `count` is not zero.
    pub fn note_if(&mut self, count: usize, note: &str) {
        if count > 0 {
            self.notes.push(format!("{count} {note}"));
        }
    }
}

/// The median of one number of one candidate; what the JSON file is an array of.
#[derive(Clone, Debug, Serialize)]
pub struct Row<C: Comparison> {
    /// What was done.
    #[serde(flatten)]
    pub setting: C::Setting,
    /// To whom.
    pub candidate: C::Candidate,
    /// What was measured.
    pub metric: C::Metric,
    /// The median over the rounds.
    pub value: f64,
}

/// Returns the rows of one candidate, from the samples of all rounds.
pub fn rows_of<C: Comparison>(
    setting: C::Setting,
    candidate: C::Candidate,
    rounds: &[Vec<Sample<C::Metric>>],
) -> impl Iterator<Item = Row<C>> {
    C::Metric::ALL.iter().filter_map(move |&metric| {
        let same = rounds.iter().flatten();
        let same = same.filter(|sample| sample.metric == metric);
        let value = median(same.map(|sample| sample.value).collect())?;
        Some(Row {
            setting,
            candidate,
            metric,
            value,
        })
    })
}

/// Returns the middle one of `values`, or the mean of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// Returns the value that `percent` of sorted `values` do not exceed.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values() {
        let values: Vec<f64> = (0..1_000).map(f64::from).collect();
        let at = [0, 50, 99, 100].map(|percent| percentile(&values, percent).to_string());
        assert_eq!(at, ["0", "500", "990", "999"]);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn a_median_is_in_the_middle() {
        let medians = [&[4.0, 100.0, 1.0][..], &[3.0, 1.0], &[]].map(|it| median(it.to_vec()));
        assert_eq!(medians, [Some(4.0), Some(2.0), None]);
    }
}
