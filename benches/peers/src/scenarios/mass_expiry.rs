//! `mass_expiry`: all keys die together; how long until the last is reported, and how late was it?
//!
//! Keys are watched first, and then all beat once more as quickly as the candidate takes beats: those last beats set
//! the deadlines. A candidate that takes beats slowly spreads its deadlines, which lengthens `drain_s`; `max_late_ms`
//! is free of that, as it compares each report with the deadline of its own key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BEAT, FILL, keys_of, start};
use crate::candidate::{Candidate, Clock, Report, nanos};
use crate::job::{Answer, Job, Metric};
use crate::key;

/// How long the slowest candidate gets after the last deadline.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many keys beat in a call: what `beat_many` is measured with.
const CHUNK: usize = 256;

/// What the callback and the scenario share. The callback only writes down who and when, in sequence, so that it costs
/// little beside what it is called by; everything else is worked out afterwards.
struct Log {
    /// When each key, by number, beat for the last time; zero before.
    beats_ns: Vec<AtomicU64>,
    /// The reports in their order: the number of the key, and when.
    reports: Vec<(AtomicUsize, AtomicU64)>,
    /// How many reports there were.
    count: AtomicUsize,
    /// The time.
    clock: Clock,
    /// The timeout.
    timeout_ns: u64,
}

impl Log {
    /// A log for `keys`, with a little room for reports too many.
    fn new(keys: usize, timeout: Duration) -> Self {
        Log {
            beats_ns: (0..keys).map(|_| AtomicU64::new(0)).collect(),
            reports: (0..keys + 1_000).map(|_| Default::default()).collect(),
            count: AtomicUsize::new(0),
            clock: Clock::new(),
            timeout_ns: nanos(timeout),
        }
    }

    /// The key called `name` is reported.
    fn add(&self, name: &[u8]) {
        let now_ns = self.clock.now_ns();
        let place = self.count.fetch_add(1, Ordering::AcqRel);
        if let Some((key, at_ns)) = self.reports.get(place) {
            key.store(key::index_of(name), Ordering::Relaxed);
            at_ns.store(now_ns, Ordering::Release);
        }
    }

    /// When `key` is due.
    fn deadline_ns(&self, key: usize) -> u64 {
        self.beats_ns[key].load(Ordering::Acquire) + self.timeout_ns
    }
}

/// See above. The timeout leaves the slowest candidate enough time to report all keys.
pub(crate) fn mass_expiry<C: Candidate>(job: &Job) -> Answer {
    let timeout = Duration::from_millis(300) + Duration::from_micros(4) * job.keys as u32;
    let log = Arc::new(Log::new(job.keys, timeout));
    let logged = log.clone();
    let report = Report::new(move |name| logged.add(name));
    let keys = [FILL, BEAT].map(|seed| keys_of::<C>(job, seed));
    let candidate = start::<C>(job, timeout, report);
    for keys in &keys {
        beat_all(job, &candidate, keys, &log);
    }
    let give_up = Instant::now() + timeout + PATIENCE;
    while log.count.load(Ordering::Acquire) < job.keys && Instant::now() < give_up {
        thread::sleep(Duration::from_millis(20));
    }
    // A candidate that reports twice gets the time to do so.
    thread::sleep(Duration::from_millis(50));
    std::mem::forget(candidate);
    answer(&log)
}

/// Every key beats once; the time is noted before each call, and a report before its deadline is wrong.
fn beat_all<C: Candidate>(job: &Job, candidate: &C, keys: &[C::Key], log: &Log) {
    thread::scope(|scope| {
        for keys in keys.chunks(keys.len().div_ceil(job.producers)) {
            scope.spawn(move || {
                for keys in keys.chunks(CHUNK) {
                    let now_ns = log.clock.now_ns();
                    for key in keys {
                        let index = key::index_of(key.as_ref());
                        log.beats_ns[index].store(now_ns, Ordering::Release);
                    }
                    candidate.beat_many(keys);
                }
            });
        }
    });
    candidate.settle();
}

/// What was seen.
fn answer(log: &Log) -> Answer {
    let keys = log.beats_ns.len();
    let (mut is_reported, mut wrong) = (vec![false; keys], 0);
    let (mut last_ns, mut max_late_ns) = (0, 0);
    let count = log.count.load(Ordering::Acquire).min(log.reports.len());
    for (key, at_ns) in &log.reports[..count] {
        let (key, at_ns) = (key.load(Ordering::Acquire), at_ns.load(Ordering::Acquire));
        let deadline_ns = log.deadline_ns(key);
        if std::mem::replace(&mut is_reported[key], true) || at_ns < deadline_ns {
            wrong += 1;
        } else {
            max_late_ns = max_late_ns.max(at_ns - deadline_ns);
            last_ns = last_ns.max(at_ns);
        }
    }
    let missing = is_reported
        .iter()
        .filter(|is_reported| !**is_reported)
        .count();
    let mut answer = Answer::default();
    answer.note_if(missing, "keys were never reported");
    answer.note_if(wrong, "reports were early or repeated");
    let first_ns = (0..keys).map(|key| log.deadline_ns(key)).min().unwrap_or(0);
    if last_ns == 0 {
        return answer;
    }
    answer.add(
        Metric::DrainS,
        last_ns.saturating_sub(first_ns) as f64 / 1e9,
    );
    answer.add(Metric::MaxLateMs, max_late_ns as f64 / 1e6);
    answer
}
