//! Slow calls: closures that block run on a few threads, and their results come back to the thread of the group.

use std::io;
use std::sync::Arc;

use super::deadlock;
use super::error::{Panicked, PostError, PostErrorKind};
use super::shared::{Shared, State};
use super::work::{Kind, Once, Work};
use crate::panic::{catch_text, discard};
use crate::sync::thread;

impl<S: Send + 'static> Shared<S> {
    /// Accepts a slow call.
    pub(super) fn slow<T, W, F>(&self, work: W, then: F) -> Result<(), PostError<(W, F)>>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
        F: FnOnce(&mut S, Result<T, Panicked>) + Send + 'static,
    {
        let mut state = self.state.lock();
        if let Err(reason) = self.admit_slow(&mut state) {
            state.counts.refused += 1;
            return Err(PostError::new(reason, (work, then)));
        }
        state.slow.counts.accepted += 1;
        state.slow.queue.push_back(Box::new(move || {
            let result = catch_text(work).map_err(|text| Panicked { text });
            let has_panicked = result.is_err();
            let callback = Once::new(move |state: &mut S| then(state, result));
            (Box::new(callback) as Box<dyn Work<S>>, has_panicked)
        }));
        drop(state);
        self.slow_came.notify_one();
        Ok(())
    }

    /// Checks that a slow call may be accepted and that there is a thread for it.
    fn admit_slow(&self, state: &mut State<S>) -> Result<(), PostErrorKind> {
        if state.stopping.is_stopped {
            return Err(PostErrorKind::Stopped);
        }
        if state.slow.unfinished() >= self.settings.slow_capacity {
            return Err(PostErrorKind::Full);
        }
        let slow = &state.slow;
        let is_wanted = slow.queue.len() >= slow.idle && slow.threads < self.settings.slow_threads;
        if is_wanted && let Err(error) = self.spawn_slow(state) {
            let name = &self.settings.name;
            crate::log::error!("group {name}: no thread for slow calls: {error}");
            if state.slow.threads == 0 {
                return Err(PostErrorKind::NoThread);
            }
        }
        Ok(())
    }

    /// Spawns a thread for slow calls, under the lock: its first act is to take it.
    fn spawn_slow(&self, state: &mut State<S>) -> io::Result<()> {
        let shared = self.this.upgrade().expect("it is in use");
        let name = format!("{}-slow-{}", self.settings.name, state.slow.threads);
        let at = state.stopping.threads.len();
        let spawned = thread::Builder::new()
            .name(name.clone())
            .spawn(move || shared.run_slow(at))?;
        state.stopping.add(name, spawned);
        state.slow.threads += 1;
        state.slow.idle += 1;
        Ok(())
    }

    /// The body of the thread for slow calls that is number `at` of all threads.
    fn run_slow(self: Arc<Self>, at: usize) {
        deadlock::enter_slow(self.id);
        let mut state = self.state.lock();
        loop {
            let Some(work) = state.slow.queue.pop_front() else {
                if state.stopping.is_stopped {
                    break;
                }
                self.slow_came.wait(&mut state);
                continue;
            };
            state.slow.idle -= 1;
            state.slow.counts.running += 1;
            drop(state);
            let (callback, has_panicked) = work();
            state = self.state.lock();
            state.slow.idle += 1;
            let counts = &mut state.slow.counts;
            counts.running -= 1;
            counts.panicked += u64::from(has_panicked);
            if state.stopping.is_closed {
                state.slow.counts.discarded += 1;
                drop(state);
                discard(callback);
            } else {
                state.slow.counts.returned += 1;
                state.accept(Kind::Slow, callback);
                self.wake(state);
            }
            state = self.state.lock();
        }
        state.stopping.threads[at].has_ended = true;
        drop(state);
        self.thread_ended.notify_all();
    }
}
