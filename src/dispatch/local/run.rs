//! One attempt at an event: calls its handlers in their order, outside the lock.

use std::sync::Arc;

use super::core::Core;
use super::entry::{Payload, Registered, View};
use super::watched::Call;
use crate::dispatch::attempt::{Attempt, Outcome, Rest};
use crate::dispatch::cause::Cause;
use crate::dispatch::context::{Context, set};
use crate::dispatch::handler::Failure;
use crate::dispatch::plan::Start;
use crate::panic::{catch_text, discard};

/// A worker's part outside the lock.
pub(super) struct Run<'a> {
    /// The dispatcher.
    pub(super) core: &'a Core,
    /// The number of the worker.
    pub(super) runner: u32,
    /// The context that is passed to handlers.
    pub(super) context: Context,
    /// The jitter of retries.
    pub(super) random: fastrand::Rng,
}

impl Run<'_> {
    /// Calls the remaining handlers of `start`. Returns `None` if the attempt was given up.
    pub(super) fn attempt(&mut self, start: &Start<Payload>, view: &View) -> Option<Outcome> {
        let mut attempt = Attempt::new(start.attempt, start.rest.as_deref());
        let left;
        let rest = start.rest.as_deref();
        let rest = rest.filter(|rest| !rest.pending.is_empty());
        let handlers = match rest {
            None => &view.handlers,
            Some(rest) => {
                left = still_there(rest, &view.handlers, &mut attempt);
                &left
            }
        };
        self.context.begin(start, &view.name);
        let mut calls = 0;
        for (at, handler) in handlers.iter().enumerate() {
            if matches!(
                self.context.cause(),
                Some(Cause::Cancelled | Cause::Interrupted | Cause::LeaseLost)
            ) {
                attempt.put_off(&handler.name);
            } else if !handler.is_removed() {
                calls += 1;
                self.call(start, handler, &handlers[at + 1..], &mut attempt)?;
            } else if rest.is_some() {
                attempt.missing(&handler.name);
            }
        }
        // If all handlers were removed at the last moment, none has handled the event.
        Some(if calls == 0 && rest.is_none() {
            attempt.end_uncalled()
        } else {
            attempt.end()
        })
    }

    /// Calls `handler`, which is followed by `left`. Returns `None` if the attempt was given up meanwhile.
    fn call(
        &mut self,
        start: &Start<Payload>,
        handler: &Arc<Registered>,
        left: &[Arc<Registered>],
        attempt: &mut Attempt,
    ) -> Option<()> {
        let core = self.core;
        self.context.enter(&handler.name, &handler.options);
        let limits = &handler.options;
        let is_limited = limits.max_duration.is_some() || limits.progress_within.is_some();
        let watched = is_limited.then(|| {
            let call = Call {
                token: start.token,
                runner: self.runner,
                handler: handler.clone(),
                attempt: attempt.clone(),
                number: start.attempt,
                started: start.started,
                is_over: false,
                left: left.to_vec(),
                payload: start.payload.clone(),
            };
            core.watch(call, &mut self.context)
        });
        let result = catch_text(|| handler.call(&self.context, &start.payload));
        let is_current = watched.is_none_or(|call| core.unwatch(call, &mut self.context));
        let failure = match result {
            Ok(result) => result.err(),
            Err(text) => {
                core.state.lock().topics[start.token.topic.at()].panics += 1;
                Some(Failure::retry(format!("panicked: {text}")))
            }
        };
        if !is_current {
            discard(failure);
            return None;
        }
        match failure {
            Some(failure) if self.context.cause() == Some(Cause::Interrupted) => {
                attempt.put_off(&handler.name);
                discard(failure);
            }
            Some(failure) => {
                let random = self.random.f64();
                attempt.failed(&handler.name, &handler.options, &failure, random);
                discard(failure);
            }
            None => {}
        }
        self.context.seat.forgive(start.token.fence);
        Some(())
    }
}

/// The handlers that earlier attempts left to call and that are still registered.
fn still_there(
    rest: &Rest,
    handlers: &[Arc<Registered>],
    attempt: &mut Attempt,
) -> Vec<Arc<Registered>> {
    let find = |name: &Arc<str>| {
        let found = handlers.iter().find(|handler| handler.name == *name);
        if found.is_none() {
            attempt.missing(name);
        }
        found.cloned()
    };
    rest.pending.iter().filter_map(find).collect()
}

impl Context {
    /// Begins the attempt `start` at an event of `topic`.
    fn begin(&mut self, start: &Start<Payload>, topic: &Arc<str>) {
        self.id = start.payload.id(start.token.id);
        set(&mut self.topic, topic);
        self.attempt = start.attempt;
        self.due = start.due;
        self.started = start.started;
        let lease = start.payload.lease.as_ref();
        self.fence = lease.map_or(start.token.fence, |lease| lease.fence);
        self.headers.clone_from(&start.payload.headers);
    }
}
