//! What the thread of a group runs.

use std::fmt;

/// Where a call of user code on the thread of a group comes from.
///
/// ```
/// use std::sync::mpsc::channel;
/// use liveness::server::{Group, group::Kind};
///
/// let world = Group::builder("world").spawn(())?;
/// let ((started, starts), (end, ended)) = (channel(), channel());
/// world.post(move |()| {
///     let _ = started.send(());
///     let _ = ended.recv();
/// })?;
/// starts.recv()?;
/// assert_eq!(world.busy().map(|busy| busy.kind), Some(Kind::Post));
/// end.send(())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Kind {
    /// A closure of [`post`](super::Group::post) or its variants.
    Post,
    /// A closure of [`call`](super::Group::call) or [`call_timeout`](super::Group::call_timeout).
    Call,
    /// A value of an [`Event`](super::Event) or a [`Port`](super::Port).
    Message,
    /// A value that runs through a [`Chain`](super::Chain), or a change of one.
    Chain,
    /// The callback of [`slow`](super::Group::slow).
    Slow,
    /// A timer.
    Timer,
    /// An item of an [attached](super::Group::attach) receiver.
    Attached,
    /// Messages of an [agent](super::super::Agent::delegate).
    Agent,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Post => "post",
            Kind::Call => "call",
            Kind::Message => "message",
            Kind::Chain => "chain",
            Kind::Slow => "slow",
            Kind::Timer => "timer",
            Kind::Attached => "attached",
            Kind::Agent => "agent",
        })
    }
}

/// A job in the inbox of a group. It is run at most once. Its drop, which may come without a run, answers the
/// caller that waits for it; the thread drops it after it has counted the run.
pub(super) trait Work<S>: Send {
    /// Runs it. Returns `false` if it was withdrawn and did nothing.
    fn run(&mut self, state: &mut S) -> bool;
}

/// A closure that is called once.
pub(super) struct Once<F>(Option<F>);

impl<F> Once<F> {
    /// Makes a job of `code`.
    pub(super) fn new(code: F) -> Self {
        Once(Some(code))
    }

    /// Returns the closure of a job that has not run.
    pub(super) fn into_code(self) -> F {
        self.0.expect("it has not run")
    }
}

impl<S, F: FnOnce(&mut S) + Send> Work<S> for Once<F> {
    fn run(&mut self, state: &mut S) -> bool {
        if let Some(code) = self.0.take() {
            code(state);
        }
        true
    }
}
