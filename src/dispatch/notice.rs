//! What an operator wants to know of a dispatcher.

use std::fmt;

use super::id::EventId;

/// Something that an operator wants to know.
///
/// Set [`Builder::on_notice`](super::Builder::on_notice) to get them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// An event failed for good, and is in the dead list.
    Dead {
        /// Its topic.
        topic: String,
        /// The event.
        id: EventId,
        /// The handlers that failed.
        handlers: Vec<String>,
        /// The number of its last attempt.
        attempts: u32,
        /// The last error.
        error: String,
    },
    /// A handler ignores that its time is over.
    Stuck {
        /// The topic.
        topic: String,
        /// The handler.
        handler: String,
        /// The event.
        id: EventId,
        /// The name of its thread.
        thread: String,
        /// Whether a new thread took the place of that one.
        is_replaced: bool,
    },
    /// A topic was paused.
    Paused {
        /// The topic.
        topic: String,
    },
    /// A topic goes on.
    Resumed {
        /// The topic.
        topic: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Dead {
                topic,
                id,
                handlers,
                attempts,
                error,
            } => {
                let (handlers, plural) =
                    (handlers.join(", "), if *attempts == 1 { "" } else { "s" });
                write!(
                    f,
                    "event {id} of `{topic}` is dead after {attempts} attempt{plural} of {handlers}: {error}"
                )
            }
            Notice::Stuck {
                topic,
                handler,
                id,
                thread,
                is_replaced,
            } => {
                let then = if *is_replaced {
                    "a new thread takes its place"
                } else {
                    "no thread takes its place"
                };
                write!(
                    f,
                    "handler {handler} of `{topic}` is stuck on thread {thread} with event {id}; {then}"
                )
            }
            Notice::Paused { topic } => write!(f, "topic `{topic}` is paused"),
            Notice::Resumed { topic } => write!(f, "topic `{topic}` goes on"),
        }
    }
}
