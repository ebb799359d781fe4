//! Which events have run, counted by what the handlers were given and not by what the candidate reports.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::task::{Answer, Task, parse};

/// How long nothing may run before the rest is given up.
const STALL: Duration = Duration::from_secs(40);

/// The events of one task.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Whether each has run.
    seen: Vec<AtomicBool>,
    /// How many have run.
    distinct: AtomicU64,
    /// How often one has run again.
    repeated: AtomicU64,
    /// How late those were that have a due time, in microseconds.
    late: Mutex<Vec<f64>>,
    /// Who waits for the last.
    waiter: Thread,
}

impl Ledger {
    /// No event of `task` has run. The calling thread is the one that will wait.
    pub(crate) fn new(task: &Task) -> Self {
        let count = usize::try_from(task.count).expect("it fits in memory");
        Ledger {
            seen: std::iter::repeat_with(AtomicBool::default)
                .take(count)
                .collect(),
            distinct: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            late: Mutex::default(),
            waiter: thread::current(),
        }
    }

    /// Notes that the event with `payload` runs now.
    pub(crate) fn note(&self, payload: &str) {
        let Some((number, due)) = parse(payload) else {
            return;
        };
        if due > 0 {
            let late = now_micros() as f64 - due as f64;
            let mut lates = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            lates.push(late);
        }
        let seen = usize::try_from(number)
            .ok()
            .and_then(|number| self.seen.get(number));
        if seen.is_some_and(|seen| seen.swap(true, Ordering::Relaxed)) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        } else if self.distinct.fetch_add(1, Ordering::Relaxed) + 1 == self.seen.len() as u64 {
            self.waiter.unpark();
        }
    }

    /// Waits until all have run, or none has for a long time, and returns what happened since `began`.
    pub(crate) fn wait(&self, began: Instant) -> Answer {
        let (mut before, mut since) = (0, Instant::now());
        let answer = loop {
            let distinct = self.distinct.load(Ordering::Relaxed);
            if distinct != before {
                (before, since) = (distinct, Instant::now());
            }
            if distinct == self.seen.len() as u64 || since.elapsed() > STALL {
                break Answer {
                    count: distinct,
                    seconds: began.elapsed().as_secs_f64(),
                    ..Answer::default()
                };
            }
            thread::park_timeout(Duration::from_secs(1));
        };
        let lates = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        Answer {
            repeated: self.repeated.load(Ordering::Relaxed),
            micros: lates.clone(),
            ..answer
        }
    }
}

/// Returns the time in microseconds since 1970, which all processes of the machine share.
pub(crate) fn now_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}
