//! A ledger of accepted events and of the calls of their handlers, which survives the death of the processes that write
//! it, and the judgement over it.
//!
//! Each line is one write to a file that is opened for appending, so no line is torn, and none is lost with its
//! process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A ledger to write to.
#[derive(Debug)]
pub struct Ledger {
    /// The file.
    file: File,
}

/// Where a call of a handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It begins.
    Begin,
    /// It is about to return `Ok`.
    End,
    /// It is about to return an error, and the event is to be tried again.
    Fail,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was killed.
    Killed,
    /// It was stopped by a signal.
    Stopped,
    /// It was continued.
    Continued,
}

impl Ledger {
    /// Opens the ledger at `path`, which is created if there is none.
    ///
    /// # Errors
    ///
    /// Returns the error of the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Ledger { file })
    }

    /// Writes a line.
    fn write(&self, line: &str) {
        // A torn line would be found by the judgement.
        (&self.file)
            .write_all(format!("{line}\n").as_bytes())
            .expect("the ledger can be written");
    }

    /// Notes that the event `id` was accepted.
    pub fn accepted(&self, id: u64) {
        self.write(&format!("ok {id}"));
    }

    /// Notes a call for the event `id`, in the attempt with `fence`, which started `late` after it was due.
    pub fn call(&self, stage: Stage, id: u64, fence: u64, late: Duration) {
        let stage = match stage {
            Stage::Begin => "begin",
            Stage::End => "end",
            Stage::Fail => "fail",
        };
        let (pid, now, late) = (process::id(), now_ns(), late.as_micros());
        self.write(&format!("{stage} {id} {fence} {pid} {now} {late}"));
    }

    /// Notes what happened to the process `pid`.
    pub fn fate(&self, fate: Fate, pid: u32) {
        let fate = match fate {
            Fate::Killed => "killed",
            Fate::Stopped => "stopped",
            Fate::Continued => "continued",
        };
        self.write(&format!("{fate} {pid} {}", now_ns()));
    }
}

/// The time, ns since 1970.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as u64
}

/// One attempt at an event.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// Its fence, which is about when it was claimed, us since 1970.
    fence: u64,
    /// Its process.
    pid: u32,
    /// When it began, ns.
    begun: u64,
    /// When it ended, ns, and whether it failed.
    ended: Option<(u64, bool)>,
}

/// What a ledger shows.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events that were accepted, as far as their producers came to know.
    pub accepted: usize,
    /// Events that were handled.
    pub handled: usize,
    /// Events that were handled and whose producer did not come to know that they were accepted.
    pub unknown: usize,
    /// Attempts.
    pub attempts: usize,
    /// Attempts at an event whose earlier attempt had not failed, each explained by a process that was killed or
    /// stopped and by a lease that was over.
    pub explained: usize,
    /// The times from when an event was due to the start of its first attempt, sorted, us.
    pub lateness: Vec<u64>,
    /// What must not be.
    pub faults: Vec<String>,
}

/// When processes did not run.
#[derive(Debug, Default)]
struct Fates {
    /// When each was killed, ns.
    killed: HashMap<u32, u64>,
    /// From when to when each was stopped, ns.
    stopped: HashMap<u32, Vec<(u64, u64)>>,
}

impl Fates {
    /// Whether the process did not run at a moment from `from` to `to`, ns.
    fn rested(&self, pid: u32, from: u64, to: u64) -> bool {
        let was_killed = self.killed.get(&pid).is_some_and(|&killed| killed <= to);
        let mut stops = self.stopped.get(&pid).into_iter().flatten();
        was_killed || stops.any(|&(stopped, continued)| stopped <= to && continued >= from)
    }
}

/// Judges the ledger at `path` of a system with the given `lease`.
///
/// # Errors
///
/// Returns the error of the file.
pub fn judge(path: &Path, lease: Duration) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let (mut accepted, mut fates) = (HashSet::new(), Fates::default());
    let mut events: BTreeMap<u64, Vec<Attempt>> = BTreeMap::new();
    let text = fs::read_to_string(path)?;
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, &numbers[..]) {
            ("ok", &[id]) => {
                if !accepted.insert(id) {
                    verdict.faults.push(format!("{id} was accepted twice"));
                }
            }
            ("begin", &[id, fence, pid, now, late]) => {
                let attempts = events.entry(id).or_default();
                if attempts.is_empty() {
                    verdict.lateness.push(late);
                }
                attempts.push(Attempt {
                    fence,
                    pid: pid as u32,
                    begun: now,
                    ended: None,
                });
            }
            ("end" | "fail", &[id, fence, pid, now, _]) => {
                let mut attempts = events.get_mut(&id).into_iter().flatten();
                let attempt = attempts.find(|attempt| {
                    (attempt.fence, attempt.pid, attempt.ended) == (fence, pid as u32, None)
                });
                match attempt {
                    Some(attempt) => attempt.ended = Some((now, kind == "fail")),
                    None => verdict.faults.push(format!("no beginning of: {line}")),
                }
            }
            ("killed", &[pid, now]) => {
                fates.killed.entry(pid as u32).or_insert(now);
            }
            ("stopped", &[pid, now]) => {
                let stops = fates.stopped.entry(pid as u32).or_default();
                stops.push((now, u64::MAX));
            }
            ("continued", &[pid, now]) => {
                let mut stops = fates.stopped.get_mut(&(pid as u32)).into_iter().flatten();
                if let Some(stop) = stops.next_back() {
                    stop.1 = now;
                }
            }
            _ => verdict.faults.push(format!("not a line: {line:?}")),
        }
    }
    verdict.accepted = accepted.len();
    verdict.lateness.sort_unstable();
    for (id, attempts) in &events {
        verdict.event(*id, attempts, &fates, lease);
        verdict.unknown += usize::from(!accepted.contains(id));
    }
    for id in accepted {
        if !events.contains_key(&id) {
            verdict.faults.push(format!("{id} was never begun"));
        }
    }
    Ok(verdict)
}

impl Verdict {
    /// Judges the attempts at one event, in the order in which they began.
    fn event(&mut self, id: u64, attempts: &[Attempt], fates: &Fates, lease: Duration) {
        self.attempts += attempts.len();
        if attempts
            .iter()
            .any(|attempt| matches!(attempt.ended, Some((_, false))))
        {
            self.handled += 1;
        } else {
            self.faults.push(format!("{id} was never handled"));
        }
        for pair in attempts.windows(2) {
            let (one, other) = (&pair[0], &pair[1]);
            // The claim of the later one was made when its process rested.
            let is_late = fates.rested(other.pid, other.fence * 1_000, other.begun);
            if other.fence <= one.fence && !(is_late && other.fence < one.fence) {
                self.faults
                    .push(format!("{id}: fence {} after {}", other.fence, one.fence));
            }
        }
        let mut sorted = attempts.to_vec();
        sorted.sort_unstable_by_key(|attempt| attempt.fence);
        for pair in sorted.windows(2) {
            let (one, other) = (&pair[0], &pair[1]);
            if matches!(one.ended, Some((ended, true)) if ended <= other.begun) {
                continue;
            }
            let held = Duration::from_micros(other.fence - one.fence);
            let rested = fates.rested(one.pid, one.fence * 1_000, other.begun);
            if held >= lease && rested {
                self.explained += 1;
            } else {
                self.faults.push(format!(
                    "{id} began again {held:?} after its claim, and its process {}: {one:?} {other:?}",
                    if rested { "had rested" } else { "ran" }
                ));
            }
        }
    }

    /// The lateness below which `percent` of the first attempts are.
    #[must_use]
    pub fn late(&self, percent: usize) -> Duration {
        let at = self.lateness.len().saturating_sub(1) * percent / 100;
        Duration::from_micros(self.lateness.get(at).copied().unwrap_or_default())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} handled ({} unknown to their producers), {} attempts, {} of them duplicates that are \
             explained, late p50 {:.3?} p99 {:.3?}, {} faults",
            self.accepted,
            self.handled,
            self.unknown,
            self.attempts,
            self.explained,
            self.late(50),
            self.late(99),
            self.faults.len()
        )?;
        self.faults
            .iter()
            .take(10)
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
