//! Who is measured, and who runs as which program.

use peers::Failure;
use peers::frame::Named;
use serde::{Deserialize, Serialize};

use crate::task::Task;
use crate::{apalis, bullmq_rust, floors, ours};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Candidate {
    /// This library.
    Liveness,
    /// `BullMQ` on Node.js.
    Bullmq,
    /// `BullMQ` in Rust.
    BullmqRust,
    /// `apalis` with its storage in Redis.
    Apalis,
    /// `redis-benchmark`, one SET at a time.
    FloorSet,
    /// `redis-benchmark`, 100 SETs in flight.
    FloorSetPipelined,
    /// An HSET and a ZADD an event, 100 commands in flight.
    FloorHashSet,
    /// A script that only moves 200 ids from one sorted set to another.
    FloorMove,
    /// A thread that sleeps until each due time.
    FloorSleep,
    /// A bare round trip.
    FloorPing,
    /// A blocking pop by one process of what another pushes.
    FloorPop,
}

impl Named for Candidate {
    const ALL: &'static [Self] = &[
        Candidate::Liveness,
        Candidate::Bullmq,
        Candidate::BullmqRust,
        Candidate::Apalis,
        Candidate::FloorSet,
        Candidate::FloorSetPipelined,
        Candidate::FloorHashSet,
        Candidate::FloorMove,
        Candidate::FloorSleep,
        Candidate::FloorPing,
        Candidate::FloorPop,
    ];

    fn name(self) -> &'static str {
        match self {
            Candidate::Liveness => "liveness",
            Candidate::Bullmq => "bullmq",
            Candidate::BullmqRust => "bullmq_rust",
            Candidate::Apalis => "apalis",
            Candidate::FloorSet => "floor_set",
            Candidate::FloorSetPipelined => "floor_set_p100",
            Candidate::FloorHashSet => "floor_hset_zadd",
            Candidate::FloorMove => "floor_move_200",
            Candidate::FloorSleep => "floor_sleep",
            Candidate::FloorPing => "floor_ping",
            Candidate::FloorPop => "floor_blpop",
        }
    }
}

impl peers::frame::Candidate for Candidate {
    fn description(self) -> &'static str {
        match self {
            Candidate::Liveness => "this library: `redis::Dispatcher`, on threads",
            Candidate::Bullmq => {
                "BullMQ (npm `bullmq`, `ioredis`) on Node.js, one process; completed jobs are removed"
            }
            Candidate::BullmqRust => {
                "BullMQ in Rust (crate `bullmq-official`) on tokio with two threads; completed jobs are removed"
            }
            Candidate::Apalis => {
                "crates `apalis` and `apalis-redis` on tokio with two threads; polls each 10 ms, stores no results"
            }
            Candidate::FloorSet => "redis-benchmark -c 1 -t set -d 100",
            Candidate::FloorSetPipelined => "redis-benchmark -c 1 -P 100 -t set -d 100",
            Candidate::FloorHashSet => "an HSET and a ZADD an event, 100 commands in flight",
            Candidate::FloorMove => {
                "a script that only moves 200 ids from one sorted set to another"
            }
            Candidate::FloorSleep => "a thread that sleeps until each due time, without a server",
            Candidate::FloorPing => "PING, at the same instants",
            Candidate::FloorPop => "BLPOP in one process, RPUSH in another",
        }
    }
}

impl Candidate {
    /// Whether it does only the least work.
    pub(crate) fn is_floor(self) -> bool {
        self.name().starts_with("floor_")
    }

    /// How many events it can drain at most, if that is not enough.
    pub(crate) fn most_waiting(self) -> Option<u64> {
        // One script gives all that are due to `unpack`, which fails from 8,000 on, and the queue stops.
        (self == Candidate::Apalis).then_some(7_000)
    }

    /// What a kill -9 of its worker costs.
    pub(crate) fn promise(self) -> Option<&'static str> {
        match self {
            Candidate::Liveness => Some(
                "at least once: what ran is started again when its lease of 30 s has ended, by whichever worker is left; \
                 an outcome is accepted from the current attempt only",
            ),
            Candidate::Bullmq | Candidate::BullmqRust => Some(
                "at least once: what ran is put back by a check for stalled jobs (each 30 s) after its lock of 30 s has \
                 ended; the second time it is failed instead",
            ),
            Candidate::Apalis => Some(
                "at least once, but by name: what a worker ran is put back when its name registers again, or another \
                 worker has found 10 heartbeats of 30 s missing",
            ),
            _ => None,
        }
    }

    /// The commands whose answers are how many events wait, run and are dead.
    pub(crate) fn unfinished(self) -> &'static [&'static [&'static str]] {
        match self {
            Candidate::Liveness => &[
                &["ZCARD", "{lv:bench}:q"],
                // One member without an event has the score +inf.
                &["ZCOUNT", "{lv:bench}:l", "-inf", "(+inf"],
                &["ZCARD", "{lv:bench}:d"],
            ],
            Candidate::Bullmq | Candidate::BullmqRust => &[
                &["LLEN", "bull:bench:wait"],
                &["LLEN", "bull:bench:active"],
                &["ZCARD", "bull:bench:delayed"],
                &["ZCARD", "bull:bench:failed"],
            ],
            Candidate::Apalis => &[
                &["ZCARD", "bench:scheduled"],
                &["LLEN", "bench:active"],
                &["ZCARD", "bench:dead"],
            ],
            Candidate::FloorHashSet | Candidate::FloorMove => &[&["ZCARD", "q"]],
            _ => &[],
        }
    }

    /// Whether events that run at the same time are futures instead of threads.
    pub(crate) fn is_async(self) -> bool {
        matches!(
            self,
            Candidate::Bullmq | Candidate::BullmqRust | Candidate::Apalis
        )
    }
}

/// Is the child process of a task.
pub(crate) fn run(task: &Task) -> Result<(), Failure> {
    match task.candidate {
        Candidate::Liveness => ours::run(task),
        Candidate::BullmqRust => bullmq_rust::run(task),
        Candidate::Apalis => apalis::run(task),
        candidate if candidate.is_floor() => floors::run(task),
        candidate => Err(format!("{} is another program", candidate.name()).into()),
    }
}
