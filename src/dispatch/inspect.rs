//! Types that describe the events of a topic.

use std::sync::Arc;
use std::time::SystemTime;

use super::id::EventId;

/// The state of an event when it was cancelled, returned by [`Dispatcher::cancel`](super::Dispatcher::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// It waited, and will not start.
    Waiting,
    /// It is running. Its call is requested to end with [`Cause::Cancelled`](super::Cause::Cancelled), and the result
    /// is ignored.
    Running,
    /// It was in the dead list.
    Dead,
    /// The topic has no such event: it has ended, or never existed.
    Unknown,
}

/// The number of events of a topic in each state, returned by [`Dispatcher::counts`](super::Dispatcher::counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counts {
    /// Events that are due later.
    pub scheduled: usize,
    /// Events that are due and have not started.
    pub ready: usize,
    /// Events that run.
    pub running: usize,
    /// Events in the dead list.
    pub dead: usize,
    /// Whether the topic is paused.
    pub is_paused: bool,
}

/// An event that waits, returned by [`Dispatcher::peek`](super::Dispatcher::peek).
#[derive(Debug)]
#[non_exhaustive]
pub struct Waiting<T> {
    /// The event's id.
    pub id: EventId,
    /// When it is due.
    pub due: SystemTime,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The error of the last failed attempt, if there is one.
    pub error: Option<String>,
    /// The event.
    pub event: Arc<T>,
}

/// An event in the dead list, returned by [`Dispatcher::dead`](super::Dispatcher::dead).
#[derive(Debug)]
#[non_exhaustive]
pub struct Dead<T> {
    /// The event's id.
    pub id: EventId,
    /// When it was moved to the dead list.
    pub died: SystemTime,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The names of the handlers that failed.
    pub handlers: Vec<String>,
    /// The last error.
    pub error: String,
    /// The event.
    pub event: Arc<T>,
}
