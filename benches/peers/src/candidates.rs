//! The candidates, a file each; the parts that several of them are built of; and who can do what.

pub(crate) mod beatwise;
pub(crate) mod dashmap;
pub(crate) mod delay_queue;
pub(crate) mod hash_wheel;
pub(crate) mod linked_map;
pub(crate) mod liveness;
pub(crate) mod lru;
pub(crate) mod moka;
pub(crate) mod naive;
pub(crate) mod scanner;

use peers::frame::Named;
use serde::{Deserialize, Serialize};

/// How many messages the channel in front of a thread holds, and in front of each of several: what ours holds.
pub(crate) const CHANNEL: usize = 4_096;

/// Who is measured: ours, a peer, or a floor, which does not watch anything and shows what the machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Ours.
    Liveness,
    /// Ours with a faster clock.
    LivenessTsc,
    /// A cache with time-to-idle.
    Moka,
    /// An async delay queue on a thread of its own.
    DelayQueue,
    /// The same, spared most of the work by a trick.
    DelayQueueLazy,
    /// A timer wheel on a thread of its own.
    HashWheel,
    /// A concurrent map and a scanning thread.
    Dashmap,
    /// A mutex around a linked hash map, and a scanning thread.
    LinkedMap,
    /// A registry of heartbeat handles, and a scanning thread.
    Beatwise,
    /// Our own shape done naively.
    Naive,
    /// A clock reading and an atomic store.
    FloorClockStore,
    /// Bounded channels with nothing behind them.
    FloorChannel,
    /// A thread that sleeps until a deadline.
    FloorSleep,
}

impl Named for Kind {
    /// All but the floors.
    const ALL: &'static [Self] = &[
        Kind::Liveness,
        Kind::LivenessTsc,
        Kind::Moka,
        Kind::DelayQueue,
        Kind::DelayQueueLazy,
        Kind::HashWheel,
        Kind::Dashmap,
        Kind::LinkedMap,
        Kind::Beatwise,
        Kind::Naive,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Liveness => "liveness",
            Kind::LivenessTsc => "liveness_tsc",
            Kind::Moka => "moka",
            Kind::DelayQueue => "delay_queue",
            Kind::DelayQueueLazy => "delay_queue_lazy",
            Kind::HashWheel => "hash_wheel",
            Kind::Dashmap => "dashmap",
            Kind::LinkedMap => "linked_map",
            Kind::Beatwise => "beatwise",
            Kind::Naive => "naive",
            Kind::FloorClockStore => "floor_clock_store",
            Kind::FloorChannel => "floor_channel",
            Kind::FloorSleep => "floor_sleep",
        }
    }
}

impl Kind {
    /// What it is, in a line.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Kind::Liveness => "this library; events go to a callback on its delivery thread",
            Kind::LivenessTsc => {
                "the same with the feature `tsc`, which uses the time-stamp counter"
            }
            Kind::Moka => {
                "moka sync cache with time-to-idle and an eviction listener, polled a thousand times per timeout"
            }
            Kind::DelayQueue => {
                "tokio-util DelayQueue on its own thread, fed by a tokio channel, reset by each beat"
            }
            Kind::DelayQueueLazy => "the same, but an entry is renewed only when it is due",
            Kind::HashWheel => {
                "hierarchical_hash_wheel_timer on its own thread, fed by a channel, re-armed only when due"
            }
            Kind::Dashmap => "dashmap of atomic stamps, scanned by a thread",
            Kind::LinkedMap => {
                "parking_lot mutex around a hashlink map, and a thread that sleeps until the front is due"
            }
            Kind::Beatwise => {
                "beatwise handles in a dashmap, with its transition cursor polled by a thread"
            }
            Kind::Naive => "the structure of liveness, with a message and a cloned String per beat",
            Kind::FloorClockStore => "a clock reading and an atomic store",
            Kind::FloorChannel => "bounded crossbeam channels that are only emptied",
            Kind::FloorSleep => {
                "the same producers without beats, and a thread that sleeps until a deadline"
            }
        }
    }

    /// Whether this is no candidate.
    pub(crate) fn is_floor(self) -> bool {
        !Kind::ALL.contains(&self)
    }
}

/// Calls `$f::<C>($args)` for the candidate `$kind` whose keys have the timeouts that
/// `$patience` says: the candidate's, `Uniform`, or `Own`.
macro_rules! with_candidate {
    ($kind:expr, $patience:ident, $f:ident($($arg:expr),*)) => {{
        use $crate::candidate::$patience;
        use $crate::candidates::{
            Kind, beatwise::Beatwise, dashmap::Dashmap, delay_queue::{DelayQueueThread, Lazy, Reset},
            hash_wheel::HashWheel, linked_map::LinkedMap, liveness::{Liveness, Monotonic, Tsc}, moka::Moka,
            naive::Naive,
        };
        use std::sync::atomic::AtomicU64;
        match $kind {
            Kind::Liveness => Ok($f::<Liveness<Monotonic>>($($arg),*)),
            Kind::LivenessTsc => Ok($f::<Liveness<Tsc>>($($arg),*)),
            Kind::Moka => Ok($f::<Moka<$patience>>($($arg),*)),
            Kind::DelayQueue => Ok($f::<DelayQueueThread<$patience, Reset>>($($arg),*)),
            Kind::DelayQueueLazy => Ok($f::<DelayQueueThread<$patience, Lazy>>($($arg),*)),
            Kind::HashWheel => Ok($f::<HashWheel<$patience>>($($arg),*)),
            Kind::Dashmap => Ok($f::<Dashmap<AtomicU64, $patience>>($($arg),*)),
            Kind::LinkedMap => Ok($f::<LinkedMap<$patience>>($($arg),*)),
            Kind::Beatwise => Ok($f::<Beatwise>($($arg),*)),
            Kind::Naive => Ok($f::<Naive<$patience>>($($arg),*)),
            floor => Err(floor),
        }
    }};
}

/// Calls `$f::<C>($args)` for the candidate `$kind` if it takes many beats at a time.
macro_rules! with_beat_many {
    ($kind:expr, $f:ident($($arg:expr),*)) => {{
        use $crate::candidate::Uniform;
        use $crate::candidates::{
            Kind, delay_queue::{DelayQueueThread, Lazy, Reset}, hash_wheel::HashWheel, linked_map::LinkedMap,
            liveness::{Liveness, Monotonic, Tsc},
        };
        match $kind {
            Kind::Liveness => Ok($f::<Liveness<Monotonic>>($($arg),*)),
            Kind::LivenessTsc => Ok($f::<Liveness<Tsc>>($($arg),*)),
            Kind::DelayQueue => Ok($f::<DelayQueueThread<Uniform, Reset>>($($arg),*)),
            Kind::DelayQueueLazy => Ok($f::<DelayQueueThread<Uniform, Lazy>>($($arg),*)),
            Kind::HashWheel => Ok($f::<HashWheel<Uniform>>($($arg),*)),
            Kind::LinkedMap => Ok($f::<LinkedMap<Uniform>>($($arg),*)),
            other => Err(other),
        }
    }};
}

/// Calls `$f::<C>($args)` for the candidate `$kind` if it has handles.
macro_rules! with_handles {
    ($kind:expr, $f:ident($($arg:expr),*)) => {{
        use $crate::candidate::Uniform;
        use $crate::candidates::{Kind, beatwise::Beatwise, dashmap::Dashmap, liveness::{Liveness, Monotonic}};
        use std::sync::{Arc, atomic::AtomicU64};
        match $kind {
            Kind::Liveness => Ok($f::<Liveness<Monotonic>>($($arg),*)),
            Kind::Dashmap => Ok($f::<Dashmap<Arc<AtomicU64>, Uniform>>($($arg),*)),
            Kind::Beatwise => Ok($f::<Beatwise>($($arg),*)),
            other => Err(other),
        }
    }};
}

pub(crate) use {with_beat_many, with_candidate, with_handles};
