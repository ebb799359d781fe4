//! Durable dispatch on a private `redis-server`: `liveness::redis` beside its peers, and beside the least calls that
//! the work requires. `--help` explains.

mod apalis;
mod args;
mod bullmq_rust;
mod candidate;
mod children;
mod floors;
mod ledger;
mod measure;
mod ours;
mod parent;
mod plan;
mod server;
mod setting;
mod targets;
mod task;

use std::process::ExitCode;

use peers::Failure;
use peers::frame::args::Options;
use peers::frame::report::Target;
use peers::frame::rows::{Outcome, Row};
use peers::frame::runner::Group;
use peers::frame::{self, Comparison};
use peers::text::grouped;

use crate::candidate::Candidate;
use crate::measure::Measurement;
use crate::setting::{Metric, Setting};
use crate::task::Task;

fn main() -> ExitCode {
    frame::main::<Durable>()
}

/// Durable dispatch.
#[derive(Clone, Copy, Debug)]
struct Durable;

impl Comparison for Durable {
    const NAME: &'static str = "durable";
    const HELP: &'static str = args::HELP;
    const CHILD: &'static str = "task";
    const HAS_BARS: bool = false;

    type Candidate = Candidate;
    type Setting = Setting;
    type Metric = Metric;
    type Own = args::Own;
    type Task = Task;

    fn option(
        own: &mut args::Own,
        name: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<bool, Failure> {
        own.option(name, parser)
    }

    fn run_task(task: &Task) -> Result<(), Failure> {
        candidate::run(task)
    }

    fn plan(options: &Options<Self>) -> Vec<Group<Self>> {
        plan::plan(options)
    }

    fn reason_against(candidate: Candidate) -> Option<String> {
        children::reason_against(candidate)
    }

    fn measure(
        setting: Setting,
        candidate: Candidate,
        options: &Options<Self>,
    ) -> Result<Outcome<Metric>, Failure> {
        Measurement::new(setting, candidate, options).run()
    }

    fn introduction(options: &Options<Self>) -> String {
        let [events, peer_events] = options
            .own
            .events(options.quick)
            .map(|count| grouped(count as usize));
        format!(
            "`emit_many` and `drain`: {events} events, and {peer_events} where an asynchronous peer drains; a fifth of that \
             with `appendfsync always`.\n\
             Medians over the rounds. `x ours` is the ratio of the first column to liveness. `server us` and `client us` \
             are CPU\ntime for each event; `reads` are how often the server read from a connection.\n"
        )
    }

    fn base(_setting: Setting) -> (Candidate, &'static str) {
        (Candidate::Liveness, "x ours")
    }

    fn targets(rows: &[Row<Self>]) -> Vec<Target> {
        targets::targets(rows)
    }

    fn promise(candidate: Candidate) -> Option<&'static str> {
        candidate.promise()
    }
}

#[cfg(test)]
mod tests {
    use peers::frame::report::report;
    use peers::frame::runner::Results;

    use super::*;
    use crate::setting::Scenario;

    #[test]
    fn a_block_has_a_line_for_each_and_targets_have_verdicts() {
        let setting = Setting {
            scenario: Scenario::Emit,
            at_once: 1,
            always: false,
        };
        let row = |candidate, value| Row::<Durable> {
            setting,
            candidate,
            metric: Metric::EventsPerS,
            value,
        };
        let results = Results {
            rows: vec![
                row(Candidate::Liveness, 18_000.0),
                row(Candidate::Bullmq, 9_000.0),
                row(Candidate::FloorSet, 20_000.0),
            ],
            others: Vec::new(),
            notes: vec!["mind the gap".to_owned()],
            is_complete: true,
        };
        let report = report(&results, &Options::default());
        for line in [
            "emit, 1 at once, appendfsync everysec",
            "  bullmq                       9.0     0.50",
            "  emit, 1 at once / SET -c 1                                         0.90  >= 0.85   met",
            "  mind the gap",
        ] {
            assert!(report.lines().any(|l| l == line), "{line}\n{report}");
        }
    }
}
