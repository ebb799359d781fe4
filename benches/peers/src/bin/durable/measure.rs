//! One measurement: a fresh server, and the child processes that use it.

use std::thread;
use std::time::Duration;

use peers::Failure;
use peers::frame::args::Options;
use peers::frame::rows::{self, percentile};

use crate::Durable;
use crate::candidate::Candidate;
use crate::children::Child;
use crate::server::{Server, Usage, benchmark};
use crate::setting::{Metric, Scenario, Setting};
use crate::task::{Answer, Role, Task};

/// How many events a call of `emit_many` has.
const BATCH: u64 = 200;

/// How long a worker is left alone before events are sent to it.
const SETTLE: Duration = Duration::from_secs(2);

/// What one measurement gives.
type Outcome = rows::Outcome<Metric>;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// What, and how.
    pub(crate) setting: Setting,
    /// Of whom.
    pub(crate) candidate: Candidate,
    /// How many events, where the time is not given.
    pub(crate) count: u64,
    /// For how long, where that is given.
    pub(crate) duration: Duration,
}

impl Measurement {
    /// Returns what to measure of `candidate`.
    pub(crate) fn new(setting: Setting, candidate: Candidate, options: &Options<Durable>) -> Self {
        let [events, peer_events] = options.own.events(options.quick);
        // An fsync for each write takes most of the time, whatever the number of events.
        let part = if setting.always { 5 } else { 1 };
        let (count, millis) = match (setting.scenario, options.quick) {
            (Scenario::Emit, true) => (0, 1_000),
            (Scenario::Emit, false) => (0, 3_000),
            (Scenario::Drain, _) if candidate.is_async() => (peer_events / part, 0),
            (Scenario::EmitMany | Scenario::Drain, _) => (events / part, 0),
            (Scenario::Due, true) => (1_000, 10_000),
            (Scenario::Due, false) => (1_000, 30_000),
            (Scenario::Start, true) => (200, 5_000),
            (Scenario::Start, false) => (600, 15_000),
            (Scenario::Idle, true) => (0, 10_000),
            (Scenario::Idle, false) => (0, 30_000),
        };
        let most = match setting.scenario {
            Scenario::Drain => candidate.most_waiting(),
            _ => None,
        };
        Measurement {
            setting,
            candidate,
            count: most.map_or(count, |most| count.min(most)),
            duration: Duration::from_millis(millis),
        }
    }

    /// Runs it.
    pub(crate) fn run(&self) -> Result<Outcome, Failure> {
        let server = Server::start(self.setting.always)?;
        let mut outcome = Outcome::default();
        match (self.setting.scenario, self.candidate) {
            (_, Candidate::FloorSet) => {
                // About as long as the others take.
                let count = 20 * self.duration.as_millis() as u64;
                add_benchmark(&mut outcome, &server, count, 1)?;
            }
            (_, Candidate::FloorSetPipelined) => {
                add_benchmark(&mut outcome, &server, self.count, 100)?;
            }
            (Scenario::Emit, _) => self.emit(&server, Role::Emit, &mut outcome)?,
            (Scenario::EmitMany, _) => self.emit(&server, Role::EmitMany, &mut outcome)?,
            (Scenario::Drain, _) => self.drain(&server, &mut outcome)?,
            (Scenario::Due, Candidate::FloorSleep) | (Scenario::Start, Candidate::FloorPing) => {
                let role = Role::Pace;
                let mut child = Child::start(&self.task(&server, role))?;
                child.begin()?;
                add_lateness(&mut outcome, &child.answer()?, self.count);
                child.end()?;
            }
            (Scenario::Due, _) => self.late(&server, Role::Delay, &mut outcome)?,
            (Scenario::Start, _) => self.late(&server, Role::Pace, &mut outcome)?,
            (Scenario::Idle, _) => self.idle(&server, &mut outcome)?,
        }
        Ok(outcome)
    }

    /// The task of a child process.
    fn task(&self, server: &Server, role: Role) -> Task {
        Task {
            candidate: self.candidate,
            role,
            socket: server.socket(),
            count: self.count,
            batch: BATCH,
            at_once: self.setting.at_once,
            millis: self.duration.as_millis() as u64,
        }
    }

    /// Emits.
    fn emit(&self, server: &Server, role: Role, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut child = Child::start(&self.task(server, role))?;
        let warm_up = server.unfinished(self.candidate)?;
        let (before, data) = (server.usage()?, server.data_bytes()?);
        child.begin()?;
        let answer = child.answer()?;
        let (used, client) = (server.used_since(before)?, child.cpu()?);
        let stored = server.unfinished(self.candidate)?;
        if stored != answer.count {
            let emitted = answer.count;
            let note = format!("it emitted {emitted} events, but the server holds {stored}");
            outcome.notes.push(note);
        }
        let count = stored - warm_up;
        outcome.add(Metric::EventsPerS, count as f64 / answer.seconds);
        if !answer.micros.is_empty() {
            let sorted = sorted(&answer.micros);
            outcome.add(Metric::CallP50Us, percentile(&sorted, 50));
            outcome.add(Metric::CallP99Us, percentile(&sorted, 99));
        }
        add_usage(outcome, used, count);
        outcome.add(Metric::ClientUs, micros(client, count));
        if role == Role::EmitMany {
            // Until what is written to the file is no longer in memory.
            thread::sleep(Duration::from_secs(1));
            let bytes = server.data_bytes()?.saturating_sub(data);
            outcome.add(Metric::BytesPerEvent, bytes as f64 / count as f64);
        }
        child.end()
    }

    /// Handles events that wait.
    fn drain(&self, server: &Server, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut child = Child::start(&self.task(server, Role::EmitMany))?;
        child.begin()?;
        child.answer()?;
        child.end()?;
        // Until the file is written.
        thread::sleep(Duration::from_secs(1));
        let mut child = Child::start(&self.task(server, Role::Work))?;
        let before = server.usage()?;
        child.begin()?;
        let answer = child.answer()?;
        let (used, client) = (server.used_since(before)?, child.cpu()?);
        outcome.add(Metric::EventsPerS, answer.count as f64 / answer.seconds);
        add_usage(outcome, used, answer.count);
        outcome.add(Metric::ClientUs, micros(client, answer.count));
        child.end()?;
        note_count(outcome, &answer, self.count);
        let left = server.unfinished(self.candidate)?;
        outcome.note_if(left as usize, "events are still stored after all have run");
        Ok(())
    }

    /// Emits to a worker in another process.
    fn late(&self, server: &Server, role: Role, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut worker = Child::start(&self.task(server, Role::Work))?;
        worker.begin()?;
        thread::sleep(SETTLE);
        let mut emitter = Child::start(&self.task(server, role))?;
        emitter.begin()?;
        emitter.answer()?;
        let answer = worker.answer()?;
        emitter.end()?;
        worker.end()?;
        note_count(outcome, &answer, self.count);
        add_lateness(outcome, &answer, self.count);
        Ok(())
    }

    /// Lets a worker wait.
    fn idle(&self, server: &Server, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut task = self.task(server, Role::Work);
        task.count = 0;
        let mut worker = Child::start(&task)?;
        worker.begin()?;
        worker.answer()?;
        thread::sleep(SETTLE);
        let (before, cpu) = (server.usage()?, worker.cpu()?);
        thread::sleep(self.duration);
        let used = server.used_since(before)?;
        let cpu = worker.cpu()?.saturating_sub(cpu);
        let seconds = self.duration.as_secs_f64();
        outcome.add(Metric::CommandsPerS, used.commands as f64 / seconds);
        outcome.add(Metric::ReadsPerS, used.reads as f64 / seconds);
        outcome.add(Metric::ClientMsPerS, cpu.as_secs_f64() * 1e3 / seconds);
        worker.end()
    }
}

/// Runs `redis-benchmark` with so many SETs, `pipeline` in flight, and adds what it gave.
fn add_benchmark(
    outcome: &mut Outcome,
    server: &Server,
    count: u64,
    pipeline: u64,
) -> Result<(), Failure> {
    let before = server.usage()?;
    let rate = benchmark(server, count, pipeline)?;
    let used = server.used_since(before)?;
    outcome.add(Metric::EventsPerS, rate);
    add_usage(outcome, used, count);
    Ok(())
}

/// Adds what the server used for `count` events.
fn add_usage(outcome: &mut Outcome, used: Usage, count: u64) {
    outcome.add(Metric::ServerUs, micros(used.cpu, count));
    let reads = used.reads as f64 * 100.0 / count as f64;
    outcome.add(Metric::ReadsPer100, reads);
}

/// Adds how late the events were.
fn add_lateness(outcome: &mut Outcome, answer: &Answer, count: u64) {
    let sorted = sorted(&answer.micros);
    for (metric, percent) in [
        (Metric::LateP50Ms, 50),
        (Metric::LateP99Ms, 99),
        (Metric::LateMaxMs, 100),
    ] {
        outcome.add(metric, percentile(&sorted, percent) / 1e3);
    }
    if let Some(earliest) = sorted.first().filter(|late| **late < 0.0) {
        let early = sorted.iter().filter(|late| **late < 0.0).count();
        let note = format!(
            "{early} of {count} started early, by up to {:.3} ms",
            -earliest / 1e3
        );
        outcome.notes.push(note);
    }
}

/// Notes events that did not run, or ran more than once.
fn note_count(outcome: &mut Outcome, answer: &Answer, count: u64) {
    let missing = count.saturating_sub(answer.count);
    outcome.note_if(missing as usize, "events did not run");
    outcome.note_if(answer.repeated as usize, "events ran a second time");
}

/// Returns the microseconds of `time` for each of `count`.
fn micros(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Returns `values` in ascending order.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_missing_and_repeated_events_are_noted() {
        let answer = Answer {
            count: 3,
            repeated: 1,
            seconds: 1.0,
            micros: vec![-250.0, 10.0, 20.0],
        };
        let mut outcome = Outcome::default();
        note_count(&mut outcome, &answer, 4);
        add_lateness(&mut outcome, &answer, 4);
        assert_eq!(
            outcome.notes,
            [
                "1 events did not run",
                "1 events ran a second time",
                "1 of 4 started early, by up to 0.250 ms"
            ]
        );
    }
}
