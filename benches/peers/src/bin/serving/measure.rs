//! One measurement of one candidate.

use std::thread;
use std::time::{Duration, Instant};

use peers::Failure;
use peers::frame::rows::{self, median, percentile};

use crate::candidate::Candidate;
use crate::child::{self, Child};
use crate::crowd::{Crowd, Input};
use crate::echo::{self, Load};
use crate::keepalive::{self, Peers};
use crate::servers::Task;
use crate::setting::{Metric, Scenario, Setting};
use crate::wire::envelope;

/// The bytes of JSON of a message that is sent back.
const BODY: usize = 32;

/// The bytes of a message that is to leave nothing behind.
const LARGE: usize = 32 << 10;

/// The bytes of a message to all, without the header of its frame.
const NEWS: usize = 252;

/// How often a message goes to all.
const BROADCASTS: usize = 5;

/// How long a server may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(700);

/// The keepalive whose lateness is measured: when a silent peer is pinged, and when it is dropped.
const KEEPALIVE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(4)];

/// Over which time peers fall silent.
const DEATHS: Duration = Duration::from_secs(4);

/// The keepalive of a server by default.
const DEFAULT: [Duration; 2] = [Duration::from_secs(25), Duration::from_secs(45)];

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    /// What is done, and how.
    pub(crate) setting: Setting,
    /// To whom.
    pub(crate) candidate: Candidate,
    /// For how long, where that can be chosen.
    pub(crate) duration: Duration,
}

/// What came of it.
type Outcome = rows::Outcome<Metric>;

impl Measurement {
    /// Measures. This thread stays on the core of the load.
    pub(crate) fn run(&self) -> Result<Outcome, Failure> {
        child::pin(child::LOAD_CORE)?;
        let keepalive = match self.setting.scenario {
            Scenario::Silence | Scenario::SilenceOfAll => KEEPALIVE,
            _ => DEFAULT,
        };
        let mut child = Child::start(&Task {
            candidate: self.candidate,
            keepalive: keepalive.map(|it| it.as_millis() as u64),
            is_broadcast: self.setting.scenario == Scenario::Broadcast,
        })?;
        let mut outcome = Outcome::default();
        match self.setting.scenario {
            Scenario::Echo => self.echo(&child, &mut outcome)?,
            Scenario::Connect => self.connect(&child, &mut outcome)?,
            Scenario::Memory => self.memory(&child, &mut outcome)?,
            Scenario::Broadcast => self.broadcast(&mut child, &mut outcome)?,
            Scenario::Silence => {
                self.silence(&mut child, self.setting.connections / 10, &mut outcome)?;
            }
            Scenario::SilenceOfAll => {
                self.silence(&mut child, self.setting.connections, &mut outcome)?;
            }
            Scenario::Idle => self.idle(&child, &mut outcome)?,
        }
        Ok(outcome)
    }

    /// Opens the connections.
    fn crowd(&self, child: &Child) -> Result<Crowd, Failure> {
        let (wire, count) = (self.candidate.wire(), self.setting.connections);
        Ok(Crowd::connect(child.address, wire, count, 64)?.0)
    }

    /// Has messages sent back.
    fn echo(&self, child: &Child, outcome: &mut Outcome) -> Result<(), Failure> {
        let load = Load {
            wire: self.candidate.wire(),
            connections: self.setting.connections,
            in_flight: self.setting.in_flight,
            duration: self.duration,
        };
        let text = envelope("Echo", BODY);
        let echoed = echo::run(child.address, load, &text, || child.cpu())?;
        let at = |percent: usize| {
            let last = echoed.nanos.len().saturating_sub(1);
            let nanos = echoed.nanos.get(last * percent / 100);
            nanos.map_or(f64::NAN, |nanos| f64::from(*nanos) / 1e3)
        };
        let count = echoed.count as f64;
        outcome.add(Metric::MessagesPerS, count / echoed.elapsed.as_secs_f64());
        outcome.add(Metric::EchoP50Us, at(50));
        outcome.add(Metric::EchoP99Us, at(99));
        outcome.add(Metric::CpuUs, echoed.cpu.as_secs_f64() * 1e6 / count);
        Ok(())
    }

    /// Opens connections.
    fn connect(&self, child: &Child, outcome: &mut Outcome) -> Result<(), Failure> {
        let Setting {
            connections,
            in_flight,
            ..
        } = self.setting;
        let wire = self.candidate.wire();
        let (_crowd, took) = Crowd::connect(child.address, wire, connections, in_flight)?;
        let rate = connections as f64 / took.whole.as_secs_f64();
        outcome.add(Metric::ConnectsPerS, rate);
        outcome.add(Metric::ConnectP99Ms, percentile(&took.millis, 99));
        Ok(())
    }

    /// Weighs connections.
    fn memory(&self, child: &Child, outcome: &mut Outcome) -> Result<(), Failure> {
        let wire = self.candidate.wire();
        // What a server allocates once is not a part of a connection.
        drop(Crowd::connect(child.address, wire, 64, 64)?);
        thread::sleep(SETTLE);
        let before = child.memory()?;
        let mut crowd = self.crowd(child)?;
        thread::sleep(SETTLE);
        let count = self.setting.connections as f64;
        let idle = child.memory()?;
        outcome.add(Metric::IdleBytes, (idle as f64 - before as f64) / count);
        outcome.add(Metric::ProcessMb, idle as f64 / 1e6);
        let text = envelope("Echo", LARGE);
        let (request, reply) = (wire.request(&text), wire.reply(&text).len());
        let mut left = vec![reply; crowd.peers.len()];
        let (mut next, mut done, mut is_wrong) = (0, 0, false);
        while done < left.len() {
            // A few at the same time: what all connections hold together is not what is weighed.
            while next < left.len().min(done + 8) {
                crowd.peers[next].write(&request);
                next += 1;
            }
            crowd.turn(Duration::from_secs(5), |index, _, input| match input {
                Input::Bytes(bytes) if bytes.len() <= left[index] => {
                    left[index] -= bytes.len();
                    done += usize::from(left[index] == 0);
                }
                _ => is_wrong = true,
            })?;
            if is_wrong {
                return Err("an echo of 32 KiB was wrong".into());
            }
        }
        thread::sleep(SETTLE);
        let used = child.memory()?;
        outcome.add(Metric::UsedBytes, (used as f64 - before as f64) / count);
        Ok(())
    }

    /// Sends to all.
    fn broadcast(&self, child: &mut Child, outcome: &mut Outcome) -> Result<(), Failure> {
        let mut crowd = self.crowd(child)?;
        thread::sleep(SETTLE);
        let size = self.candidate.wire().reply(&"x".repeat(NEWS)).len();
        let mut millis = Vec::new();
        for _ in 0..BROADCASTS {
            let mut left = size * crowd.peers.len();
            let mut is_wrong = false;
            let began = Instant::now();
            child.say("broadcast")?;
            while left > 0 && !is_wrong {
                crowd.turn(Duration::from_secs(5), |_, _, input| match input {
                    Input::Bytes(bytes) if bytes.len() <= left => left -= bytes.len(),
                    _ => is_wrong = true,
                })?;
                if began.elapsed() > Duration::from_secs(10) {
                    is_wrong = true;
                }
            }
            if is_wrong {
                return Err(format!("{left} bytes did not come").into());
            }
            millis.push(began.elapsed().as_secs_f64() * 1e3);
            thread::sleep(SETTLE / 4);
        }
        let middle = median(millis).ok_or("nothing was sent")?;
        outcome.add(Metric::LastByteMs, middle);
        Ok(())
    }

    /// Lets `deaths` of the peers fall silent: one after the other at random moments, or all at once.
    fn silence(
        &self,
        child: &mut Child,
        deaths: usize,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let [ping, drop_after] = KEEPALIVE;
        let count = self.setting.connections;
        let mut peers = Peers::new(self.crowd(child)?);
        // So that pings are spread as well.
        let spread = keepalive::plan(count, count, ping);
        peers.run(&spread, false, Instant::now() + ping)?;
        let window = if deaths == count {
            Duration::ZERO
        } else {
            DEATHS
        };
        let plan = keepalive::plan(deaths, count, window);
        let end = Instant::now() + window + drop_after + Duration::from_secs(4);
        peers.run(&plan, true, end)?;
        // Those that were dropped last have been reported.
        thread::sleep(SETTLE);
        child.say("late")?;
        let mut late: Vec<f64> = serde_json::from_str(&child.line()?)?;
        late.sort_unstable_by(f64::total_cmp);
        outcome.add(Metric::LateP50Ms, percentile(&late, 50));
        outcome.add(Metric::LateP99Ms, percentile(&late, 99));
        outcome.add(Metric::LateMaxMs, percentile(&late, 100));
        let seen = peers.seen(drop_after);
        outcome.add(Metric::SeenP99Ms, percentile(&seen.millis, 99));
        let early = seen.millis.iter().chain(&late).filter(|it| **it < 0.0);
        outcome.note_if(early.count(), "were dropped early");
        outcome.note_if(seen.missed, "of the dead were not dropped");
        outcome.note_if(seen.wrong, "of the living were dropped");
        outcome.note_if(late.len().abs_diff(deaths), "more or fewer were reported");
        Ok(())
    }

    /// Lets peers answer pings.
    fn idle(&self, child: &Child, outcome: &mut Outcome) -> Result<(), Failure> {
        let [ping, drop_after] = DEFAULT;
        let count = self.setting.connections;
        let mut peers = Peers::new(self.crowd(child)?);
        let spread = keepalive::plan(count, count, ping);
        peers.run(&spread, false, Instant::now() + ping)?;
        let (since, before) = (Instant::now(), child.cpu()?);
        peers.run(&[], false, since + self.duration)?;
        let used = child.cpu()?.saturating_sub(before).as_secs_f64();
        outcome.add(
            Metric::CpuPercent,
            used * 100.0 / since.elapsed().as_secs_f64(),
        );
        outcome.note_if(peers.seen(drop_after).wrong, "of the living were dropped");
        Ok(())
    }
}
