//! A server for TCP and WebSocket under load: `liveness::server` beside its peers, and beside the least that a server
//! can do. `--help` explains.

mod args;
mod candidate;
mod child;
mod crowd;
mod echo;
mod keepalive;
mod measure;
mod plan;
mod servers;
mod setting;
mod targets;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use peers::Failure;
use peers::frame::args::Options;
use peers::frame::report::Target;
use peers::frame::rows::{Outcome, Row};
use peers::frame::runner::Group;
use peers::frame::{self, Comparison};

use crate::candidate::Candidate;
use crate::measure::Measurement;
use crate::servers::Task;
use crate::setting::{Metric, Scenario, Setting};

fn main() -> ExitCode {
    frame::main::<Serving>()
}

/// Servers for TCP and WebSocket.
#[derive(Clone, Copy, Debug)]
struct Serving;

impl Comparison for Serving {
    const NAME: &'static str = "serving";
    const HELP: &'static str = args::HELP;
    const CHILD: &'static str = "serve";
    const HAS_BARS: bool = true;

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
        servers::run(task)
    }

    fn plan(options: &Options<Self>) -> Vec<Group<Self>> {
        plan::plan(options)
    }

    fn reason_against(candidate: Candidate) -> Option<String> {
        child::reason_against(candidate)
    }

    fn measure(
        setting: Setting,
        candidate: Candidate,
        options: &Options<Self>,
    ) -> Result<Outcome<Metric>, Failure> {
        let millis = match (setting.scenario, options.quick) {
            (Scenario::Idle, _) => 30_000,
            (_, true) => 1_000,
            (_, false) => 2_000,
        };
        let measurement = Measurement {
            setting,
            candidate,
            duration: Duration::from_millis(millis),
        };
        measurement.run()
    }

    fn introduction(_options: &Options<Self>) -> String {
        "The server on one core, the load on another. Medians over the rounds. Latency counts from the moment at which a\n\
         message is due, which is when an earlier echo was read. The ratio and the bar are those of the first column.\n"
            .to_owned()
    }

    fn base(setting: Setting) -> (Candidate, &'static str) {
        match setting.scenario {
            Scenario::Echo => (Candidate::Floor, "x floor"),
            _ => (Candidate::WsInline, "x ours"),
        }
    }

    fn targets(rows: &[Row<Self>]) -> Vec<Target> {
        targets::targets(rows)
    }
}

#[cfg(test)]
mod tests {
    use peers::frame::report::report;
    use peers::frame::runner::Results;

    use super::*;

    #[test]
    fn a_block_has_a_line_for_each_and_targets_have_verdicts() {
        let setting = Setting {
            scenario: Scenario::Echo,
            connections: 64,
            in_flight: 1,
        };
        let row = |candidate, metric, value| Row::<Serving> {
            setting,
            candidate,
            metric,
            value,
        };
        let rate = |candidate, value| row(candidate, Metric::MessagesPerS, value);
        let cpu = |candidate, value| row(candidate, Metric::CpuUs, value);
        let results = Results {
            rows: vec![
                rate(Candidate::Floor, 200_000.0),
                rate(Candidate::WsInline, 160_000.0),
                rate(Candidate::NodeWs, 80_000.0),
                cpu(Candidate::Floor, 4.0),
                cpu(Candidate::WsInline, 5.0),
                cpu(Candidate::NodeWs, 10.0),
            ],
            others: Vec::new(),
            notes: vec!["mind the gap".to_owned()],
            is_complete: true,
        };
        let report = report(&results, &Options::default());
        for line in [
            "echo, 64 x 1 in flight",
            "  node_ws                     80.0     0.40        10.00  ############",
            "  echo, 64 x 1, by CPU: WebSocket inline / floor                     0.80  >= 0.85   missed",
            "  echo, 64 x 1, by CPU: WebSocket inline / node ws                   2.00  >= 1.6    met",
            "  mind the gap",
        ] {
            assert!(report.lines().any(|l| l == line), "{line}\n{report}");
        }
    }
}
