//! What runs, in which order, and the child processes that run it.

use std::process::{Command, Stdio};
use std::thread;

use peers::frame::Named;
use peers::progress::Progress;
use peers::text::grouped;

use crate::args::Options;
use crate::candidates::Kind;
use crate::job::{Answer, Job, Scenario};
use crate::rows::{Row, Setting, rows_of};
use crate::scenarios::reason_against;

/// How many keys the check is done with.
const CHECKED_KEYS: usize = 1_000;

/// Measurements that are compared with each other.
#[derive(Clone, Debug)]
struct Group {
    /// What is done, and with how many of what.
    setting: Setting,
    /// To whom, in this order.
    candidates: Vec<Kind>,
    /// How often.
    rounds: usize,
    /// For how long each time, in milliseconds.
    millis: u64,
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// The numbers.
    pub(crate) rows: Vec<Row>,
    /// What the reader has to know about them.
    pub(crate) notes: Vec<String>,
    /// Whether everything could be measured.
    pub(crate) is_complete: bool,
}

/// Runs all that is asked for.
pub(crate) fn run(options: &Options) -> Results {
    let (mut groups, mut notes) = plan(options);
    let checked = groups.iter().flat_map(|group| group.candidates.clone());
    let mut candidates: Vec<Kind> = checked.filter(|candidate| !candidate.is_floor()).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let mut progress = Progress::new(groups.iter().map(Group::measurements).sum());
    let mut is_complete = true;
    for (candidate, failures) in check(&candidates, &mut progress) {
        if !failures.is_empty() {
            let failures = failures.join("; ");
            let name = candidate.name();
            notes.push(format!(
                "{name}: not measured, as it failed its check: {failures}"
            ));
            for group in &mut groups {
                group.candidates.retain(|other| *other != candidate);
            }
            is_complete = false;
        }
    }
    let mut rows = Vec::new();
    for group in &groups {
        let answers = group.run(&mut progress, &mut notes);
        is_complete &= answers
            .iter()
            .all(|(_, answers)| answers.len() == group.rounds);
        rows.extend(rows_of(group.setting, &answers));
    }
    progress.end();
    Results {
        rows,
        notes,
        is_complete,
    }
}

/// Lets each of `candidates` prove that it does the job, and returns what is wrong with it. All at once: this is mostly
/// waiting.
fn check(candidates: &[Kind], progress: &mut Progress) -> Vec<(Kind, Vec<String>)> {
    progress.say("checking that each candidate reports the dead once and the living never");
    let job = |candidate| Job {
        scenario: Scenario::Check,
        candidate,
        keys: CHECKED_KEYS,
        producers: 1,
        workers: 2,
        millis: 0,
    };
    thread::scope(|scope| {
        let checks: Vec<_> = candidates
            .iter()
            .map(|candidate| (*candidate, scope.spawn(move || measure(&job(*candidate)))))
            .collect();
        checks
            .into_iter()
            .map(
                |(candidate, check)| match check.join().expect("no check panics") {
                    Ok(answer) => (candidate, answer.notes),
                    Err(error) => (candidate, vec![error]),
                },
            )
            .collect()
    })
}

/// What to run, and who takes no part in what, and why.
fn plan(options: &Options) -> (Vec<Group>, Vec<String>) {
    let mut scenarios = options.scenarios.clone();
    if scenarios.is_empty() {
        scenarios.extend(Scenario::ALL);
    }
    let (mut groups, mut notes) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        let keys = match &options.keys[..] {
            [] => sizes(scenario, options.quick).to_vec(),
            given => given.to_vec(),
        };
        let candidates = candidates_of(scenario, options, &mut notes);
        for keys in keys {
            groups.push(Group {
                setting: Setting {
                    scenario,
                    keys,
                    // A handle belongs to one thread; two would measure the machine twice.
                    producers: options
                        .producers
                        .unwrap_or(if scenario == Scenario::Handle { 1 } else { 2 }),
                    workers: options.workers.unwrap_or(2),
                },
                candidates: candidates.clone(),
                rounds: options.rounds.unwrap_or(rounds(scenario, options.quick)),
                millis: millis(scenario, options.quick),
            });
        }
    }
    (groups, notes)
}

/// Who takes part in `scenario`: the candidates, ours first, and the floor.
fn candidates_of(scenario: Scenario, options: &Options, notes: &mut Vec<String>) -> Vec<Kind> {
    let wanted = |kind: &Kind| options.candidates.is_empty() || options.candidates.contains(kind);
    let mut candidates = Vec::new();
    for kind in Kind::ALL.iter().copied().filter(wanted) {
        match reason_against(kind, scenario) {
            None => candidates.push(kind),
            Some(reason) => notes.push(format!(
                "{}: {}: not comparable: {reason}",
                scenario.name(),
                kind.name()
            )),
        }
    }
    match scenario {
        Scenario::Beat | Scenario::BeatMany => candidates.push(Kind::FloorChannel),
        Scenario::Handle => candidates.push(Kind::FloorClockStore),
        Scenario::Steady => candidates.push(Kind::FloorSleep),
        _ => {}
    }
    candidates
}

/// The numbers of keys.
#[expect(
    clippy::match_same_arms,
    reason = "a line for each scenario reads better"
)]
fn sizes(scenario: Scenario, quick: bool) -> &'static [usize] {
    match (scenario, quick) {
        (Scenario::Check, _) => &[CHECKED_KEYS],
        (Scenario::Beat | Scenario::BeatMany, true) => &[10_000, 1_000_000],
        (Scenario::Beat | Scenario::BeatMany, false) => &[10_000, 100_000, 1_000_000],
        (Scenario::Handle, true) => &[10_000, 100_000],
        (Scenario::Handle, false) => &[10_000, 100_000, 1_000_000],
        (Scenario::PerKeyTimeout, true) => &[100_000],
        (Scenario::PerKeyTimeout, false) => &[10_000, 1_000_000],
        (Scenario::MassExpiry, true) => &[100_000],
        (Scenario::MassExpiry, false) => &[1_000_000],
        (Scenario::Steady, true) => &[20_000],
        (Scenario::Steady, false) => &[100_000],
        (Scenario::Memory | Scenario::Idle, true) => &[200_000],
        (Scenario::Memory | Scenario::Idle, false) => &[1_000_000],
    }
}

/// How often each candidate is measured.
fn rounds(scenario: Scenario, quick: bool) -> usize {
    match (scenario, quick) {
        (Scenario::Steady | Scenario::Memory | Scenario::Idle, true) => 1,
        (
            Scenario::Beat | Scenario::BeatMany | Scenario::Handle | Scenario::PerKeyTimeout,
            false,
        ) => 5,
        _ => 3,
    }
}

/// How long each measurement is, in milliseconds, where that can be chosen.
fn millis(scenario: Scenario, quick: bool) -> u64 {
    match (scenario, quick) {
        (Scenario::Steady, true) => 2_500,
        (Scenario::Steady, false) => 10_000,
        (Scenario::Idle, true) => 1_000,
        (Scenario::Idle, false) => 5_000,
        (_, true) => 250,
        (_, false) => 1_000,
    }
}

impl Group {
    /// How many measurements it takes.
    fn measurements(&self) -> usize {
        self.candidates.len() * self.rounds
    }

    /// Runs all rounds. The candidates take turns, and each round begins with another.
    fn run(&self, progress: &mut Progress, notes: &mut Vec<String>) -> Vec<(Kind, Vec<Answer>)> {
        let mut answers: Vec<(Kind, Vec<Answer>)> = self
            .candidates
            .iter()
            .map(|candidate| (*candidate, Vec::new()))
            .collect();
        for round in 0..self.rounds {
            let count = answers.len();
            answers.rotate_left(usize::from(round > 0).min(count));
            for (candidate, answers) in &mut answers {
                progress.step(&self.label(round), candidate.name());
                match measure(&self.job(*candidate)) {
                    Ok(answer) => {
                        notes.extend(answer.notes.iter().map(|note| self.note(*candidate, note)));
                        answers.push(answer);
                    }
                    Err(error) => notes.push(self.note(*candidate, &error)),
                }
            }
        }
        answers.sort_unstable_by_key(|(candidate, _)| *candidate);
        answers
    }

    /// What the process of one measurement is given.
    fn job(&self, candidate: Kind) -> Job {
        Job {
            scenario: self.setting.scenario,
            candidate,
            keys: self.setting.keys,
            producers: self.setting.producers,
            workers: self.setting.workers,
            millis: self.millis,
        }
    }

    /// What is shown while round `round` runs.
    fn label(&self, round: usize) -> String {
        let Setting { scenario, keys, .. } = self.setting;
        let (scenario, keys, rounds) = (scenario.name(), grouped(keys), self.rounds);
        format!("{scenario} {keys} keys, round {} of {rounds}", round + 1)
    }

    /// A note on one measurement.
    fn note(&self, candidate: Kind, note: &str) -> String {
        let Setting { scenario, keys, .. } = self.setting;
        format!(
            "{}, {} keys: {}: {note}",
            scenario.name(),
            grouped(keys),
            candidate.name()
        )
    }
}

/// Runs `job` in a process of its own, and returns its answer.
fn measure(job: &Job) -> Result<Answer, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let told = serde_json::to_string(job).map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(["--measure", &told])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        return Err(format!("failed: {}: {said}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("answered nonsense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_takes_part_unless_there_is_a_reason() {
        let (groups, notes) = plan(&Options::default());
        let beat = groups
            .iter()
            .find(|group| group.setting.scenario == Scenario::Beat);
        let beat = beat.map(|group| group.candidates.len());
        assert_eq!(beat, Some(Kind::ALL.len() + 1));
        let moka = "handle: moka: not comparable: no handles: a beat must look up its key";
        assert!(notes.iter().any(|note| note == moka), "{notes:?}");
    }

    #[test]
    fn what_is_given_is_used() {
        let options = Options {
            scenarios: vec![Scenario::Beat, Scenario::Handle],
            keys: vec![7],
            producers: Some(3),
            rounds: Some(9),
            ..Options::default()
        };
        let (groups, _) = plan(&options);
        assert_eq!(groups.len(), 2);
        assert!(
            groups
                .iter()
                .all(|group| group.setting.keys == 7 && group.rounds == 9)
        );
        assert!(groups.iter().all(|group| group.setting.producers == 3));
    }
}
