//! The results: rows, their medians over rounds, and their ratios to ours.

use peers::frame::rows::median;
use serde::{Deserialize, Serialize};

use crate::candidates::Kind;
use crate::job::{Answer, Metric, Scenario};

/// One number of one candidate in one scenario; what the JSON file is an array of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) scenario: Scenario,
    /// To whom.
    pub(crate) candidate: Kind,
    /// With how many keys.
    pub(crate) keys: usize,
    /// By how many threads that beat.
    pub(crate) producers: usize,
    /// With how many threads of the candidate's, where that can be chosen.
    pub(crate) workers: usize,
    /// What was measured.
    pub(crate) metric: Metric,
    /// The median over the rounds.
    pub(crate) value: f64,
    /// That, divided by ours; nothing if ours was not measured, or is zero.
    pub(crate) ratio_to_ours: Option<f64>,
}

/// What rows are compared within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Setting {
    /// What is done.
    pub(crate) scenario: Scenario,
    /// With how many keys.
    pub(crate) keys: usize,
    /// By how many threads that beat.
    pub(crate) producers: usize,
    /// With how many threads of the candidate's.
    pub(crate) workers: usize,
}

impl Row {
    /// What it may be compared within.
    pub(crate) fn setting(&self) -> Setting {
        Setting {
            scenario: self.scenario,
            keys: self.keys,
            producers: self.producers,
            workers: self.workers,
        }
    }
}

/// The rows of `setting`, from the answers of each candidate in all rounds.
pub(crate) fn rows_of(setting: Setting, answers: &[(Kind, Vec<Answer>)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (candidate, answers) in answers {
        let Some(first) = answers.first() else {
            continue;
        };
        for sample in &first.samples {
            let values = answers.iter().flat_map(|answer| &answer.samples);
            let same = values.filter(|other| other.metric == sample.metric);
            let Some(value) = median(same.map(|sample| sample.value).collect()) else {
                continue;
            };
            rows.push(Row {
                scenario: setting.scenario,
                candidate: *candidate,
                keys: setting.keys,
                producers: setting.producers,
                workers: setting.workers,
                metric: sample.metric,
                value,
                ratio_to_ours: None,
            });
        }
    }
    let ours: Vec<Row> = rows
        .iter()
        .filter(|row| row.candidate == Kind::Liveness)
        .cloned()
        .collect();
    for row in &mut rows {
        let same = |our: &&Row| our.metric == row.metric;
        let our = ours.iter().find(same).map(|our| our.value);
        row.ratio_to_ours = our.filter(|our| *our > 0.0).map(|our| row.value / our);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_told_and_its_ratio_to_ours() {
        let answer = |value| {
            let mut answer = Answer::default();
            answer.add(Metric::BeatsPerS, value);
            answer
        };
        let setting = Setting {
            scenario: Scenario::Beat,
            keys: 10,
            producers: 2,
            workers: 2,
        };
        let answers = [
            (Kind::Liveness, [4.0, 100.0, 1.0].map(answer).to_vec()),
            (Kind::Moka, [1.0, 3.0].map(answer).to_vec()),
            (Kind::Dashmap, Vec::new()),
        ];
        let rows = rows_of(setting, &answers);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.value, row.ratio_to_ours))
            .collect();
        assert_eq!(told, [(4.0, Some(1.0)), (2.0, Some(0.5))]);
    }

    #[test]
    fn a_ratio_to_zero_is_not_told() {
        let mut answer = Answer::default();
        answer.add(Metric::WakeupsPerS, 0.0);
        let setting = Setting {
            scenario: Scenario::Idle,
            keys: 10,
            producers: 2,
            workers: 2,
        };
        let rows = rows_of(setting, &[(Kind::Liveness, vec![answer])]);
        assert_eq!(rows[0].ratio_to_ours, None);
        let json = serde_json::to_string(&rows).expect("rows can be written");
        assert!(
            json.contains(r#""metric":"wakeups_per_s","value":0.0,"ratio_to_ours":null}"#),
            "{json}"
        );
    }
}
