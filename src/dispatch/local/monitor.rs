//! Enforces time limits of calls, with a watcher whose keys are the running calls.
//!
//! A call has one key that expires at the end of its `max_duration`, and one that `progress` keeps alive. When either
//! expires, the call is cancelled and gets a third key, which expires `stuck_after` later. If the call has not returned
//! by then, it is given up: the attempt fails, and a new thread replaces the stuck one.
//!
//! *Race.* A call may return at the moment at which it is given up. The thread that takes it out of [`Monitor::calls`]
//! decides. The monitor does so under both locks, first that of the calls: the worker of a call that was taken out
//! finds its attempt over, and cannot start another event before.
//!
//! The watcher has its own thread, because all workers may be stuck. It holds back expiry after a stall, so a process
//! that was suspended does not cancel its calls when it resumes.

use std::sync::Weak;

use super::core::{Core, State};
use super::stop::GRACE;
use super::watched::{Call, Key, Limit, Monitor};
use crate::dispatch::cause::Cause;
use crate::dispatch::context::Context;
use crate::dispatch::error::RegisterError;
use crate::dispatch::handler::Failure;
use crate::dispatch::notice::Notice;
use crate::dispatch::options::On;
use crate::event::{Event, EventKind};
use crate::options::Options;
use crate::panic::discard;
use crate::sync::{Mutex, MutexGuard};
use crate::watcher::Watcher;

impl Core {
    /// Spawns the watcher of calls, unless there is one.
    pub(super) fn start_monitor(&self) -> Result<(), RegisterError> {
        if self.monitor.get().is_some() {
            return Ok(());
        }
        let core: Weak<Core> = self.this.clone();
        let watcher = Watcher::builder()
            .workers(1)
            .clock(self.clock.clone())
            .thread_name(format!("{}-monitor", self.settings.thread_name))
            .events([EventKind::Expired])
            .on_event_in_worker(move |event: Event<Key>| {
                if let (Some(core), Some(event)) = (core.upgrade(), event.into_key_event()) {
                    core.silent(event.key);
                }
            })
            .build()
            .map_err(RegisterError::Monitor)?;
        // If two are spawned at the same time, one is dropped.
        let _ = self.monitor.set(Monitor {
            watcher,
            calls: Mutex::default(),
        });
        Ok(())
    }

    /// Watches `call`, which is about to begin. Returns its number for [`unwatch`](Core::unwatch).
    pub(super) fn watch(&self, call: Call, context: &mut Context) -> u64 {
        let monitor = self
            .monitor
            .get()
            .expect("a handler with limits has started it");
        let fence = call.token.fence;
        let On {
            max_duration,
            progress_within,
            ..
        } = call.handler.options;
        let (duration_key, progress_key) = (call.key(Limit::Duration), call.key(Limit::Progress));
        // Added before its keys, because an expired key without a call is ignored.
        monitor.calls.lock().insert(fence, call);
        // The watcher is closed when the dispatcher stops. A stop has its own time limits.
        if let Some(duration) = max_duration {
            let options = Options::new().timeout(duration);
            let _ = monitor.watcher.beat_with(duration_key, options);
        }
        if let Some(silence) = progress_within {
            let options = Options::new().timeout(silence);
            if let Ok(heart) = monitor.watcher.watch_with(progress_key, options) {
                context.progress = Some(Box::new(move || {
                    let _ = heart.beat();
                }));
            }
        }
        fence
    }

    /// Ends the watch of the call that belongs to the start `fence`. Returns whether the call was not given up.
    pub(super) fn unwatch(&self, fence: u64, context: &mut Context) -> bool {
        // This drops its heart.
        context.progress = None;
        let monitor = self.monitor.get().expect("it watches");
        let Some(call) = monitor.calls.lock().remove(&fence) else {
            return false;
        };
        for limit in [Limit::Duration, Limit::Stuck] {
            let _ = monitor.watcher.remove(&call.key(limit));
        }
        true
    }

    /// Handles an expired key of a call.
    fn silent(&self, key: Key) {
        let monitor = self.monitor.get().expect("it watches");
        let mut calls = monitor.calls.lock();
        let Some(call) = calls
            .get_mut(&key.fence)
            .filter(|call| call.left.len() == key.left)
        else {
            return;
        };
        if key.limit == Limit::Stuck {
            let state = self.state.lock();
            let call = calls.remove(&key.fence);
            drop(calls);
            if let Some(call) = call {
                self.give_up(state, call);
            }
            return;
        }
        // The second limit that passes does not postpone the end.
        if std::mem::replace(&mut call.is_over, true) {
            return;
        }
        // Both happen under the lock, so neither can follow the end of the call's watch. The next call of the same
        // start has the same seat and fence.
        let options = Options::new().timeout(self.settings.stuck_after);
        let _ = monitor.watcher.beat_with(call.key(Limit::Stuck), options);
        let seat = self.state.lock().crew.worker(call.runner).seat.clone();
        seat.cancel(key.fence, Cause::TooLong);
    }

    /// Gives up `call`: its attempt has failed, and another thread takes the place of its own.
    pub(super) fn give_up(&self, mut state: MutexGuard<'_, State>, call: Call) {
        let Call {
            token,
            runner,
            handler,
            mut attempt,
            number,
            started,
            left,
            payload,
            ..
        } = call;
        let failure = Failure::retry("took too long, and did not return when it was cancelled");
        attempt.failed(&handler.name, &handler.options, &failure, 0.5);
        for handler in &left {
            attempt.put_off(&handler.name);
        }
        let now = self.clock.now_ns();
        state.stuck += 1;
        let is_replaced = !state.is_stopped
            && state.crew.given_up < self.settings.max_stuck
            && self.spawn(&mut state).is_ok();
        state.crew.given_up += usize::from(is_replaced);
        // Before the callback for notices, which may wait for the end of this attempt.
        let worker = state.crew.worker(runner);
        worker.is_given_up = is_replaced;
        worker.runs = None;
        let thread = worker.name.clone();
        let topic = state.topics[token.topic.at()].view.name.to_string();
        let id = payload.id(token.id);
        // A `flush` or a `remove` may have waited for this attempt alone.
        self.call_ended.notify_all();
        let outcome = attempt.end();
        let unneeded = self.finish(&mut state, token, number, started, payload, outcome, now);
        self.wake(state, now);
        discard(unneeded);
        self.notify(Notice::Stuck {
            topic,
            handler: handler.name.to_string(),
            id,
            thread,
            is_replaced,
        });
    }

    /// Ends the watcher of calls.
    pub(super) fn close_monitor(&self) {
        if let Some(monitor) = self.monitor.get() {
            // Its thread may run the callback for notices.
            let _ = monitor.watcher.close_timeout(GRACE);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
