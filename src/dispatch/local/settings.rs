//! The settings of a dispatcher.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::clock::Clock;
use crate::dispatch::lease::Lender;
use crate::dispatch::notice::Notice;
use crate::error::OptionError;
use crate::sync::thread;

/// The maximum number of workers.
const MAX_THREADS: usize = 1_024;

/// The maximum number of unfinished events. Each takes about 150 bytes in addition to its payload.
const MAX_UNFINISHED: usize = 10_000_000;

/// The maximum number of dead events that a topic keeps.
const MAX_DEAD: usize = 100_000;

/// The maximum capacity of a channel of notices, which allocates about 100 bytes for each.
const MAX_NOTICES: usize = 65_536;

/// The least number of workers by default. A handler usually waits for something, so there are at least as many.
const DEFAULT_THREADS: usize = 4;

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
    /// The store that lends the events, if they are lent. It enforces their rates, `max_unfinished` and
    /// `max_per_topic`.
    pub(crate) lender: Option<Arc<dyn Lender>>,
}

impl Settings {
    /// The default settings.
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Settings {
            threads: cores.max(DEFAULT_THREADS),
            max_unfinished: 1_000_000,
            max_per_topic: usize::MAX,
            max_dead: 1_000,
            stuck_after: Duration::from_secs(10),
            max_stuck: 16,
            thread_name: "dispatch".to_owned(),
            seed: fastrand::u64(..),
            clock: None,
            on_notice: None,
            lender: None,
        }
    }

    /// Sends notices to a channel of `capacity`, unless there is a callback for them.
    pub(crate) fn channel(
        &mut self,
        capacity: usize,
        has_callback: bool,
    ) -> Result<Receiver<Notice>, OptionError> {
        let is_in_range = (1..=MAX_NOTICES).contains(&capacity);
        OptionError::check("capacity", "be from 1 to 65,536", is_in_range)?;
        let must = "not be set beside a channel of notices";
        OptionError::check("on_notice", must, !has_callback)?;
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        self.on_notice = Some(Box::new(move |notice| sender.try_send(notice).is_ok()));
        Ok(receiver)
    }

    /// Checks each setting.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let threads = (1..=MAX_THREADS).contains(&self.threads);
        OptionError::check("threads", "be from 1 to 1,024", threads)?;
        let unfinished = (1..=MAX_UNFINISHED).contains(&self.max_unfinished);
        OptionError::check("max_unfinished", "be from 1 to 10,000,000", unfinished)?;
        OptionError::positive("max_per_topic", self.max_per_topic > 0)?;
        let dead = self.max_dead <= MAX_DEAD;
        OptionError::check("max_dead", "be at most 100,000", dead)?;
        OptionError::positive("stuck_after", !self.stuck_after.is_zero())?;
        let name = !self.thread_name.contains('\0');
        OptionError::check("thread_name", "contain no zero byte", name)
    }
}
