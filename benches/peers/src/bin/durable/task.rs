//! What a child process is asked to do, and what it answers. The programs in other languages read and write the same
//! JSON.

use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;

/// What a child process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Emits one event a call, for [`Task::millis`], from [`Task::at_once`] threads or with as many calls in flight.
    Emit,
    /// Emits [`Task::count`] events in calls of [`Task::batch`], one call after the other.
    EmitMany,
    /// Emits [`Task::count`] events that are due over [`Task::millis`], in an order other than that of their due times.
    Delay,
    /// Emits [`Task::count`] events over [`Task::millis`], at irregular intervals.
    Pace,
    /// Handles events until [`Task::count`] different ones have run, [`Task::at_once`] of them at the same time.
    Work,
}

/// What a child process is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// By which means.
    pub(crate) candidate: Candidate,
    /// What.
    pub(crate) role: Role,
    /// The path of the server's socket.
    pub(crate) socket: String,
    /// How many events.
    pub(crate) count: u64,
    /// How many events a call.
    pub(crate) batch: u64,
    /// How many threads, or calls in flight.
    pub(crate) at_once: usize,
    /// For how long, in milliseconds.
    pub(crate) millis: u64,
}

impl Task {
    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket)
    }
}

/// What a child process answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// How many events were emitted, or how many different ones have run.
    pub(crate) count: u64,
    /// How many have run a second time.
    #[serde(default)]
    pub(crate) repeated: u64,
    /// How long that took.
    pub(crate) seconds: f64,
    /// How long each call took, or how late each event was, in microseconds; nothing where that is not asked for.
    #[serde(default)]
    pub(crate) micros: Vec<f64>,
}

/// How long the payload of an event is.
pub(crate) const PAYLOAD: usize = 100;

/// The name of the topic, or of the queue.
pub(crate) const TOPIC: &str = "bench";

/// Scatters numbers: its multiples visit each remainder once before one comes again.
const PRIME: u64 = 7_919;

/// Returns the payload of event `number`, which is due at `due` in microseconds since 1970, or zero if it does not
/// matter.
pub(crate) fn payload(number: u64, due: u64) -> String {
    let mut text = format!("{number:010}{due:020}");
    text.extend(std::iter::repeat_n('x', PAYLOAD - text.len()));
    text
}

/// Returns number and due time of a payload.
pub(crate) fn parse(payload: &str) -> Option<(u64, u64)> {
    let number = payload.get(..10)?.parse().ok()?;
    let due = payload.get(10..30)?.parse().ok()?;
    Some((number, due))
}

/// Returns after how many microseconds event `number` of `count` is due, spread over `millis`: from the first second
/// on, evenly, but not in the order of the numbers.
pub(crate) fn delay(number: u64, count: u64, millis: u64) -> u64 {
    let place = number * PRIME % count;
    // Whole milliseconds, which every peer can express.
    (1_000 + millis * place / count) * 1_000
}

/// Returns how many microseconds to wait before event `number`, `mean` on average: between a half and three halves of
/// it.
pub(crate) fn gap(number: u64, mean: u64) -> u64 {
    mean / 2 + mean * (number * PRIME % 1_000) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_length_and_holds_its_numbers() {
        let text = payload(42, 1_700_000_000_123_456);
        assert_eq!(text.len(), PAYLOAD);
        assert_eq!(parse(&text), Some((42, 1_700_000_000_123_456)));
        assert_eq!(parse("short"), None);
    }

    #[test]
    fn delays_are_spread_and_gaps_have_their_mean() {
        let mut delays: Vec<u64> = (0..1_000).map(|n| delay(n, 1_000, 30_000)).collect();
        assert!(!delays.is_sorted());
        delays.sort_unstable();
        assert_eq!((delays[0], delays[999]), (1_000_000, 30_970_000));
        let gaps: u64 = (0..1_000).map(|n| gap(n, 30_000)).sum();
        assert!((29_000_000..31_000_000).contains(&gaps), "{gaps}");
    }
}
