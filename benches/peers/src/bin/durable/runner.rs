//! What runs, in which order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::Options;
use crate::candidate::Candidate;
use crate::children::reason_against;
use crate::measure::{Measurement, Outcome};
use crate::others::{self, CALM, Since};
use crate::progress::Progress;
use crate::setting::{Row, Sample, Scenario, Setting, rows_of};

/// The candidates that do the whole job.
const WHOLE: [Candidate; 4] = [
    Candidate::Liveness,
    Candidate::Bullmq,
    Candidate::BullmqRust,
    Candidate::Apalis,
];

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The numbers.
    pub(crate) rows: Vec<Row>,
    /// How many events were emitted and drained.
    pub(crate) events: u64,
    /// How many events asynchronous peers drained.
    pub(crate) peer_events: u64,
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
        events: options.events,
        peer_events: options.peer_events,
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

/// Measures, and again while other programs disturb it and there is time. Returns the outcome that was disturbed least,
/// and the share of the machine that others used.
fn measure(measurement: &Measurement, patience: Duration) -> Result<(Outcome, f64), Failure> {
    let end = Instant::now() + patience;
    let mut best: Option<(Outcome, f64)> = None;
    loop {
        others::wait_until_calm(end)?;
        let since = Since::now()?;
        let outcome = measurement.run()?;
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
    let mut groups = Vec::new();
    let mut add = |scenario, at_once, always, candidates: &[Candidate], floors: &[Candidate]| {
        let wanted = |candidate: &Candidate| {
            options.candidates.is_empty() || options.candidates.contains(candidate)
        };
        let candidates: Vec<_> = candidates
            .iter()
            .chain(floors)
            .copied()
            .filter(wanted)
            .collect();
        let is_wanted = options.scenarios.is_empty() || options.scenarios.contains(&scenario);
        if is_wanted && !candidates.is_empty() && options.fsync.is_none_or(|only| only == always) {
            groups.push(Group {
                setting: Setting {
                    scenario,
                    at_once,
                    always,
                },
                candidates,
                // Nothing happens, always in the same way.
                rounds: match scenario {
                    Scenario::Idle => 1,
                    _ => options.rounds,
                },
            });
        }
    };
    let asynchronous: Vec<_> = WHOLE.into_iter().filter(|c| c.is_async()).collect();
    for always in [false, true] {
        add(Scenario::Emit, 1, always, &WHOLE, &[Candidate::FloorSet]);
        if !always {
            add(Scenario::Emit, 8, always, &WHOLE, &[]);
            add(Scenario::Emit, 32, always, &WHOLE, &[]);
        }
        let floors = [Candidate::FloorSetPipelined, Candidate::FloorHashSet];
        add(Scenario::EmitMany, 1, always, &WHOLE, &floors);
        if !always {
            let floors = [Candidate::FloorMove];
            add(Scenario::Drain, 1, always, &WHOLE, &floors);
        }
        add(Scenario::Drain, 8, always, &WHOLE, &[Candidate::FloorMove]);
        if !always {
            // Threads gain nothing from more than there are cores; calls in flight do.
            add(Scenario::Drain, 100, always, &asynchronous, &[]);
            // `apalis` delays by whole seconds.
            add(
                Scenario::Due,
                8,
                always,
                &WHOLE[..3],
                &[Candidate::FloorSleep],
            );
            let floors = [Candidate::FloorPing, Candidate::FloorPop];
            add(Scenario::Start, 8, always, &WHOLE, &floors);
            add(Scenario::Idle, 8, always, &WHOLE, &[]);
        }
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
                match measure(&self.measurement(*candidate, options), options.patience) {
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

    /// One measurement.
    fn measurement(&self, candidate: Candidate, options: &Options) -> Measurement {
        // An fsync for each write takes most of the time, whatever the number of events.
        let part = if self.setting.always { 5 } else { 1 };
        let (count, millis) = match (self.setting.scenario, options.quick) {
            (Scenario::Emit, true) => (0, 1_000),
            (Scenario::Emit, false) => (0, 3_000),
            (Scenario::Drain, _) if candidate.is_async() => (options.peer_events / part, 0),
            (Scenario::EmitMany | Scenario::Drain, _) => (options.events / part, 0),
            (Scenario::Due, true) => (1_000, 10_000),
            (Scenario::Due, false) => (1_000, 30_000),
            (Scenario::Start, true) => (200, 5_000),
            (Scenario::Start, false) => (600, 15_000),
            (Scenario::Idle, true) => (0, 10_000),
            (Scenario::Idle, false) => (0, 30_000),
        };
        let most = match self.setting.scenario {
            Scenario::Drain => candidate.most_waiting(),
            _ => None,
        };
        Measurement {
            setting: self.setting,
            candidate,
            count: most.map_or(count, |most| count.min(most)),
            duration: Duration::from_millis(millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_takes_part_and_what_is_given_is_used() {
        let groups = plan(&Options::default());
        assert!(groups.iter().all(|group| group.candidates.len() >= 2));
        let options = Options {
            scenarios: vec![Scenario::Drain],
            candidates: vec![Candidate::Bullmq],
            fsync: Some(false),
            ..Options::default()
        };
        let at_once: Vec<_> = plan(&options).iter().map(|g| g.setting.at_once).collect();
        assert_eq!(at_once, [1, 8, 100]);
    }
}
