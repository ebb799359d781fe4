//! What runs, in which order.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::Options;
use crate::candidate::Candidate;
use crate::child::reason_against;
use crate::measure::{Measurement, Outcome};
use crate::others::{self, CALM, Since};
use crate::progress::Progress;
use crate::rows::{Row, Sample, Scenario, Setting, rows_of};

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The numbers.
    pub(crate) rows: Vec<Row>,
    /// The share of the machine that other programs used during each measurement.
    pub(crate) others: Vec<f64>,
    /// What the reader has to know about them.
    pub(crate) notes: Vec<String>,
    /// Whether everything could be measured.
    pub(crate) is_complete: bool,
}

/// Measurements that are compared with each other.
#[derive(Clone, Debug)]
struct Group {
    /// What is done, and how.
    setting: Setting,
    /// To whom, in this order.
    candidates: Vec<Candidate>,
    /// How often.
    rounds: usize,
}

/// Runs all that is asked for.
pub(crate) fn run(options: &Options) -> Results {
    let mut groups = plan(options);
    let mut results = Results {
        is_complete: true,
        ..Results::default()
    };
    let all = groups.iter().flat_map(|group| group.candidates.clone());
    for candidate in all.collect::<BTreeSet<_>>() {
        if let Some(reason) = reason_against(candidate) {
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

/// Measures on a thread of its own, and again while other programs disturb it and there is time. Returns the outcome
/// that was disturbed least, and the share of the machine that others used.
fn measure(measurement: Measurement, patience: Duration) -> Result<(Outcome, f64), Failure> {
    let end = Instant::now() + patience;
    let mut best: Option<(Outcome, f64)> = None;
    loop {
        others::wait_until_calm(end)?;
        let since = Since::now()?;
        // It runs on one core from now on.
        let thread = thread::spawn(move || measurement.run());
        let outcome = thread.join().map_err(|_| "it panicked")??;
        let share = since.share()?;
        if best.as_ref().is_none_or(|(_, least)| share < *least) {
            best = Some((outcome, share));
        }
        if share <= CALM || Instant::now() >= end {
            return best.ok_or_else(|| "nothing was measured".into());
        }
    }
}

/// What to run.
fn plan(options: &Options) -> Vec<Group> {
    use Candidate::{Bun, NodeWs, TcpInline, TungsteniteTuned, WsInline, WsStrand};
    let mut groups = Vec::new();
    let mut add = |scenario, connections, in_flight, candidates: &[Candidate]| {
        let wanted = |candidate: &Candidate| {
            options.candidates.is_empty() || options.candidates.contains(candidate)
        };
        let candidates: Vec<_> = candidates.iter().copied().filter(wanted).collect();
        let is_wanted = options.scenarios.is_empty() || options.scenarios.contains(&scenario);
        if is_wanted && !candidates.is_empty() {
            groups.push(Group {
                setting: Setting {
                    scenario,
                    connections,
                    in_flight,
                },
                candidates,
                rounds: match scenario {
                    // Takes a minute, and differs little.
                    Scenario::Idle => 1,
                    _ => options.rounds,
                },
            });
        }
    };
    for &(connections, in_flight) in &options.loads {
        add(Scenario::Echo, connections, in_flight, &Candidate::ALL);
    }
    let many = options.connections;
    let all: Vec<_> = Candidate::ALL
        .into_iter()
        .filter(|it| !matches!(it, Candidate::Floor | Candidate::TcpStrand | WsStrand))
        .collect();
    let websocket = [WsInline, Bun, TungsteniteTuned, NodeWs];
    add(Scenario::Connect, many, 64, &websocket);
    add(Scenario::Connect, many, many, &websocket);
    add(Scenario::Memory, many, 1, &all);
    add(
        Scenario::Broadcast,
        many,
        1,
        &[TcpInline, WsInline, Bun, NodeWs],
    );
    add(Scenario::Silence, many, 1, &[WsInline]);
    add(Scenario::SilenceOfAll, many, 1, &[WsInline]);
    if !options.quick || !options.scenarios.is_empty() {
        add(Scenario::Idle, many, 1, &[WsInline]);
    }
    groups
}

impl Group {
    /// Runs all rounds. The candidates take turns, and each round begins with another.
    fn run(&self, options: &Options, progress: &mut Progress, results: &mut Results) {
        let mut samples: Vec<(Candidate, Vec<Vec<Sample>>)> = self
            .candidates
            .iter()
            .map(|candidate| (*candidate, Vec::new()))
            .collect();
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
                let millis = match (self.setting.scenario, options.quick) {
                    (Scenario::Idle, _) => 30_000,
                    (_, true) => 1_000,
                    (_, false) => 2_000,
                };
                let measurement = Measurement {
                    setting: self.setting,
                    candidate: *candidate,
                    duration: Duration::from_millis(millis),
                };
                match measure(measurement, options.patience) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_runs() {
        let options = Options {
            quick: true,
            loads: vec![(1, 1)],
            ..Options::default()
        };
        let groups = plan(&options);
        let scenarios: BTreeSet<_> = groups.iter().map(|it| it.setting.scenario).collect();
        assert_eq!(scenarios.len(), Scenario::ALL.len() - 1);
        let options = Options {
            scenarios: vec![Scenario::Echo],
            candidates: vec![Candidate::Bun],
            loads: vec![(8, 1), (1, 1)],
            ..Options::default()
        };
        let groups = plan(&options);
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|it| it.candidates == [Candidate::Bun]));
    }
}
