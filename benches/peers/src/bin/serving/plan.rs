//! What runs, in which order.

use peers::frame::Named;
use peers::frame::args::Options;
use peers::frame::runner::Group;

use crate::Serving;
use crate::candidate::Candidate;
use crate::setting::{Scenario, Setting};

/// Returns what can run.
pub(crate) fn plan(options: &Options<Serving>) -> Vec<Group<Serving>> {
    use Candidate::{Bun, NodeWs, TcpInline, TungsteniteTuned, WsInline, WsStrand};
    let mut groups = Vec::new();
    let mut add = |scenario, connections, in_flight, candidates: &[Candidate]| {
        groups.push(Group {
            setting: Setting {
                scenario,
                connections,
                in_flight,
            },
            candidates: candidates.to_vec(),
            rounds: match scenario {
                // Takes a minute, and differs little.
                Scenario::Idle => 1,
                _ => options.rounds,
            },
        });
    };
    let loads = match &options.own.loads[..] {
        [] => &[(64, 1), (64, 16), (8, 1), (1, 1)],
        given => given,
    };
    for &(connections, in_flight) in loads {
        add(Scenario::Echo, connections, in_flight, Candidate::ALL);
    }
    let many = options.own.connections;
    let all: Vec<_> = (Candidate::ALL.iter().copied())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use peers::frame::runner;

    use super::*;
    use crate::args::Own;

    #[test]
    fn what_is_asked_for_runs() {
        let options = Options {
            quick: true,
            own: Own {
                loads: vec![(1, 1)],
                ..Own::default()
            },
            ..Options::default()
        };
        let groups = runner::plan::<Serving>(&options);
        let scenarios: BTreeSet<_> = groups.iter().map(|it| it.setting.scenario).collect();
        assert_eq!(scenarios.len(), Scenario::ALL.len() - 1);
        let options = Options {
            scenarios: vec![Scenario::Echo],
            candidates: vec![Candidate::Bun],
            own: Own {
                loads: vec![(8, 1), (1, 1)],
                ..Own::default()
            },
            ..Options::default()
        };
        let groups = runner::plan::<Serving>(&options);
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|it| it.candidates == [Candidate::Bun]));
    }
}
