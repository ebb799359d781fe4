//! The reply to a call: the caller waits for it, and withdraws the call if it has not started in time.

use std::sync::Arc;

use super::deadlock::Wait;
use super::error::CallError;
use super::shared::{Patience, Shared};
use super::work::{Kind, Work};
use crate::sync::{Condvar, Instant, Mutex};

/// Where a call stands.
enum Stage<T> {
    /// It has not started.
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Result<T, CallError>),
    /// The caller is gone, or has taken the result.
    Gone,
}

/// The reply to one call.
pub(super) struct Reply<T> {
    /// Where the call stands.
    stage: Mutex<Stage<T>>,
    /// Notified when it has ended.
    ended: Condvar,
}

impl<T> Reply<T> {
    /// The reply to a call that has not started.
    pub(super) fn new() -> Self {
        Reply {
            stage: Mutex::new(Stage::Waiting),
            ended: Condvar::new(),
        }
    }

    /// Waits for the result until `deadline`, or without a limit.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<T, CallError> {
        let mut stage = self.stage.lock();
        loop {
            match std::mem::replace(&mut *stage, Stage::Gone) {
                Stage::Ended(result) => return result,
                other => *stage = other,
            }
            match deadline {
                None => self.ended.wait(&mut stage),
                Some(deadline) if Instant::now() < deadline => {
                    let _ = self.ended.wait_until(&mut stage, deadline);
                }
                Some(_) => {
                    let was = std::mem::replace(&mut *stage, Stage::Gone);
                    return Err(match was {
                        Stage::Running => CallError::Unfinished,
                        _ => CallError::NotStarted,
                    });
                }
            }
        }
    }

    /// Begins the call. Returns `false` if it was withdrawn.
    fn begin(&self) -> bool {
        let mut stage = self.stage.lock();
        let is_wanted = matches!(*stage, Stage::Waiting);
        if is_wanted {
            *stage = Stage::Running;
        }
        is_wanted
    }

    /// Ends the call. The result is dropped without the lock if nobody waits for it.
    fn end(&self, result: Result<T, CallError>) {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::Gone) {
            drop(stage);
            drop(result);
            return;
        }
        *stage = Stage::Ended(result);
        drop(stage);
        self.ended.notify_one();
    }
}

/// A call in the inbox of a group. Its drop ends it.
pub(super) struct Call<F, T> {
    /// The closure, until it runs.
    code: Option<F>,
    /// The result, between the run and the drop.
    result: Option<T>,
    /// Whether the closure was called.
    has_started: bool,
    /// Where the result goes.
    reply: Arc<Reply<T>>,
}

impl<F, T> Call<F, T> {
    /// A call of `code` whose result goes to `reply`.
    pub(super) fn new(code: F, reply: Arc<Reply<T>>) -> Self {
        Call {
            code: Some(code),
            result: None,
            has_started: false,
            reply,
        }
    }
}

impl<S, T: Send, F: FnOnce(&mut S) -> T + Send> Work<S> for Call<F, T> {
    fn run(&mut self, state: &mut S) -> bool {
        if !self.reply.begin() {
            return false;
        }
        self.has_started = true;
        self.result = self.code.take().map(|code| code(state));
        true
    }
}

impl<F, T> Drop for Call<F, T> {
    fn drop(&mut self) {
        let result = self.result.take().ok_or(if self.has_started {
            CallError::Panicked
        } else {
            CallError::Stopped
        });
        self.reply.end(result);
    }
}

impl<S: Send + 'static> Shared<S> {
    /// Runs `code` on the group's thread, and waits for its result.
    pub(super) fn call<T, F>(&self, code: F, patience: Patience) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&mut S) -> T + Send + 'static,
    {
        let Some(_wait) = Wait::begin(self.id) else {
            self.state.lock().counts.refused += 1;
            return Err(CallError::WouldDeadlock);
        };
        let reply = Arc::new(Reply::new());
        let call = Call::new(code, reply.clone());
        // A call that is refused ends in its drop, and `kind` is the better reason.
        let pushed = self.push(Kind::Call, call, patience);
        pushed.map_err(|(kind, _)| CallError::from(kind))?;
        let Patience::Until(deadline) = patience else {
            return reply.wait(None);
        };
        reply.wait(deadline)
    }
}
