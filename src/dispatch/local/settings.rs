//! The settings of a dispatcher.

use std::time::Duration;

use crate::clock::Clock;
use crate::dispatch::notice::Notice;

/// The settings of a dispatcher.
pub(crate) struct Settings {
    /// The number of workers.
    pub(crate) threads: usize,
    /// The maximum number of events that wait or run.
    pub(crate) max_unfinished: usize,
    /// The maximum number of them for one topic.
    pub(crate) max_per_topic: usize,
    /// The maximum number of dead events of a topic.
    pub(crate) max_dead: usize,
    /// How long after its cancellation as too long a call counts as stuck.
    pub(crate) stuck_after: Duration,
    /// How many stuck threads are replaced.
    pub(crate) max_stuck: usize,
    /// The prefix of the thread names.
    pub(crate) thread_name: String,
    /// The seed of the jitter of retries.
    pub(crate) seed: u64,
    /// The time source; the dispatcher creates a monotonic clock if it is not set.
    pub(crate) clock: Option<Clock>,
    /// Called with each notice. Returns whether it was taken.
    pub(crate) on_notice: Option<Box<dyn Fn(Notice) -> bool + Send + Sync>>,
}
