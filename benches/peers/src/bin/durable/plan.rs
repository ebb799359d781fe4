//! What runs, in which order.

use peers::frame::args::Options;
use peers::frame::runner::Group;

use crate::Durable;
use crate::candidate::Candidate;
use crate::setting::{Scenario, Setting};

/// The candidates that do the whole job.
const WHOLE: [Candidate; 4] = [
    Candidate::Liveness,
    Candidate::Bullmq,
    Candidate::BullmqRust,
    Candidate::Apalis,
];

/// Returns what can run.
pub(crate) fn plan(options: &Options<Durable>) -> Vec<Group<Durable>> {
    let mut groups = Vec::new();
    let mut add = |scenario, at_once, always, candidates: &[Candidate], floors: &[Candidate]| {
        if options.own.fsync.is_none_or(|only| only == always) {
            groups.push(Group {
                setting: Setting {
                    scenario,
                    at_once,
                    always,
                },
                candidates: candidates.iter().chain(floors).copied().collect(),
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

#[cfg(test)]
mod tests {
    use peers::frame::runner;

    use super::*;
    use crate::args::Own;

    #[test]
    fn everybody_takes_part_and_what_is_given_is_used() {
        let groups = runner::plan::<Durable>(&Options::default());
        assert!(groups.iter().all(|group| group.candidates.len() >= 2));
        let options = Options {
            scenarios: vec![Scenario::Drain],
            candidates: vec![Candidate::Bullmq],
            own: Own {
                fsync: Some(false),
                ..Own::default()
            },
            ..Options::default()
        };
        let at_once: Vec<_> = runner::plan::<Durable>(&options)
            .iter()
            .map(|g| g.setting.at_once)
            .collect();
        assert_eq!(at_once, [1, 8, 100]);
    }
}
