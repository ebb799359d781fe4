//! What a dispatcher is built with.

use std::time::Duration;

use crate::clock::Clock;
use crate::dispatch::notice::Notice;

/// What a dispatcher is built with.
pub(crate) struct Settings {
    /// How many workers there are.
    pub(crate) threads: usize,
    /// How many events wait or run.
    pub(crate) max_unfinished: usize,
    /// How many of one topic do.
    pub(crate) max_per_topic: usize,
    /// How many dead events a topic keeps.
    pub(crate) max_dead: usize,
    /// How long after it was cancelled for taking too long a call is stuck.
    pub(crate) stuck_after: Duration,
    /// How many stuck threads are replaced.
    pub(crate) max_stuck: usize,
    /// What the names of the threads begin with.
    pub(crate) thread_name: String,
    /// The seed of the jitter of retries.
    pub(crate) seed: u64,
    /// The time, if it is not a monotonic clock of the dispatcher's own.
    pub(crate) clock: Option<Clock>,
    /// Called with each notice.
    pub(crate) on_notice: Option<Box<dyn Fn(Notice) + Send + Sync>>,
}
