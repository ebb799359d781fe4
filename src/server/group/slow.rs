//! Slow calls: which wait, and how many threads there are.

use std::collections::VecDeque;

use super::work::Work;

/// The closure of a slow call, which returns the callback with the result, and whether it panicked.
pub(super) type SlowWork<S> = Box<dyn FnOnce() -> (Box<dyn Work<S>>, bool) + Send>;

/// The slow calls of a group.
pub(super) struct Slow<S> {
    /// Those that wait for a thread.
    pub(super) queue: VecDeque<SlowWork<S>>,
    /// The number of threads.
    pub(super) threads: usize,
    /// The number of threads that run nothing.
    pub(super) idle: usize,
    /// The account.
    pub(super) counts: SlowCounts,
}

/// The account of slow calls: `accepted = waiting + running + returned + done + discarded`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowCounts {
    /// Those that were accepted.
    pub(super) accepted: u64,
    /// Those that run.
    pub(super) running: u64,
    /// Those whose callback waits or runs.
    pub(super) returned: u64,
    /// Those whose callback has run.
    pub(super) done: u64,
    /// Those that a stop discarded, before or after they ran.
    pub(super) discarded: u64,
    /// Those that panicked.
    pub(super) panicked: u64,
}

impl<S> Slow<S> {
    /// No slow calls.
    pub(super) fn new() -> Self {
        Slow {
            queue: VecDeque::new(),
            threads: 0,
            idle: 0,
            counts: SlowCounts::default(),
        }
    }

    /// The number of slow calls whose callback has not ended.
    pub(super) fn unfinished(&self) -> usize {
        let SlowCounts {
            running, returned, ..
        } = self.counts;
        self.queue.len() + running as usize + returned as usize
    }

    /// Counts the end of a callback.
    pub(super) fn finished(&mut self) {
        self.counts.returned -= 1;
        self.counts.done += 1;
    }

    /// Takes out those that wait, because the group ends.
    pub(super) fn discard_all(&mut self) -> VecDeque<SlowWork<S>> {
        self.counts.discarded += self.queue.len() as u64;
        std::mem::take(&mut self.queue)
    }
}
