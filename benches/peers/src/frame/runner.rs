//! What runs, in which order.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use super::args::Options;
use super::rows::{Outcome, Row, rows_of};
use super::{Comparison, Named, Setting};
use crate::Failure;
use crate::others::{self, CALM, Since};
use crate::progress::Progress;

/// All that was measured.
#[derive(Debug)]
pub struct Results<C: Comparison> {
    /// The numbers.
    pub rows: Vec<Row<C>>,
    /// The share of the machine that other programs used during each measurement.
    pub others: Vec<f64>,
    /// What the reader has to know about them.
    pub notes: Vec<String>,
    /// Whether everything could be measured.
    pub is_complete: bool,
}

/// Measurements that are compared with each other.
#[derive(Clone, Debug)]
pub struct Group<C: Comparison> {
    /// What is done, and how.
    pub setting: C::Setting,
    /// To whom, in this order.
    pub candidates: Vec<C::Candidate>,
    /// How often.
    pub rounds: usize,
}

/// Runs all that is asked for.
pub fn run<C: Comparison>(options: &Options<C>) -> Results<C> {
    let mut groups = plan(options);
    let mut results = Results {
        rows: Vec::new(),
        others: Vec::new(),
        notes: Vec::new(),
        is_complete: true,
    };
    let all = groups.iter().flat_map(|group| group.candidates.clone());
    for candidate in all.collect::<BTreeSet<_>>() {
        if let Some(reason) = C::reason_against(candidate) {
            let note = format!("{}: not measured: {reason}", candidate.name());
            results.notes.push(note);
            results.is_complete = false;
            for group in &mut groups {
                group.candidates.retain(|other| *other != candidate);
            }
        }
    }
    let total = groups.iter().map(|g| g.candidates.len() * g.rounds);
    let mut progress = Progress::new(total.sum());
    for group in &groups {
        group.run(options, &mut progress, &mut results);
    }
    progress.end();
    results
}

/// Returns what of the plan of `C` is asked for.
#[must_use]
pub fn plan<C: Comparison>(options: &Options<C>) -> Vec<Group<C>> {
    let mut groups = C::plan(options);
    if !options.candidates.is_empty() {
        for group in &mut groups {
            let wanted = &options.candidates;
            group.candidates.retain(|it| wanted.contains(it));
        }
    }
    let scenarios = &options.scenarios;
    groups.retain(|group| {
        let is_wanted = scenarios.is_empty() || scenarios.contains(&group.setting.scenario());
        is_wanted && !group.candidates.is_empty()
    });
    groups
}

impl<C: Comparison> Group<C> {
    /// Runs all rounds. The candidates take turns, and each round begins with another.
    fn run(&self, options: &Options<C>, progress: &mut Progress, results: &mut Results<C>) {
        let candidates = self.candidates.iter();
        let mut samples: Vec<_> = candidates.map(|it| (*it, Vec::new())).collect();
        for round in 0..self.rounds {
            let count = samples.len();
            samples.rotate_left(usize::from(round > 0).min(count));
            for (candidate, samples) in &mut samples {
                let title = self.setting.title();
                let label = format!("{title}, round {} of {}", round + 1, self.rounds);
                progress.step(&label, candidate.name());
                let mut note = |note: String| {
                    let note = format!("{title}: {}: {note}", candidate.name());
                    results.notes.push(note);
                };
                match self.measure(*candidate, options) {
                    Ok((outcome, share)) => {
                        results.others.push(share);
                        outcome.notes.into_iter().for_each(&mut note);
                        samples.push(outcome.samples);
                    }
                    Err(error) => {
                        note(error.to_string());
                        results.is_complete = false;
                    }
                }
            }
        }
        samples.sort_unstable_by_key(|(candidate, _)| *candidate);
        for (candidate, samples) in &samples {
            let rows = rows_of(self.setting, *candidate, samples);
            results.rows.extend(rows);
        }
    }

    /// Measures on a thread of its own, and again while other programs disturb it and there is time. Returns the
    /// outcome that was disturbed least, and the share of the machine that others used.
    fn measure(
        &self,
        candidate: C::Candidate,
        options: &Options<C>,
    ) -> Result<(Outcome<C::Metric>, f64), Failure> {
        let end = Instant::now() + options.patience;
        let mut best: Option<(Outcome<C::Metric>, f64)> = None;
        loop {
            others::wait_until_calm(end)?;
            let since = Since::now()?;
            // A measurement may keep its thread on one core.
            let outcome = thread::scope(|scope| {
                let thread = scope.spawn(|| C::measure(self.setting, candidate, options));
                thread.join().map_err(|_| "it panicked")?
            })?;
            let share = since.share()?;
            if best.as_ref().is_none_or(|(_, least)| share < *least) {
                best = Some((outcome, share));
            }
            if share <= CALM || Instant::now() >= end {
                return best.ok_or_else(|| "nothing was measured".into());
            }
        }
    }
}
