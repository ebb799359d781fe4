//! What a look at a topic shows.

use std::sync::Arc;
use std::time::SystemTime;

use super::id::EventId;

/// Where an event was when it was cancelled, returned by [`Dispatcher::cancel`](super::Dispatcher::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// It waited, and will not start.
    Waiting,
    /// It is running. Its call is asked to end with [`Cause::Cancelled`](super::Cause::Cancelled), and what it returns is ignored.
    Running,
    /// It was in the dead list.
    Dead,
    /// No such event of the topic is known: it ended, or never was.
    Unknown,
}

/// The numbers of events of a topic, by their state; returned by [`Dispatcher::counts`](super::Dispatcher::counts).
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
    /// How many attempts at it failed.
    pub attempts: u32,
    /// The last error, if one failed.
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
    /// When it went there.
    pub died: SystemTime,
    /// How many attempts at it failed.
    pub attempts: u32,
    /// The names of the handlers that failed.
    pub handlers: Vec<String>,
    /// The last error.
    pub error: String,
    /// The event.
    pub event: Arc<T>,
}
