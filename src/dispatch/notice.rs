//! Notices for the operator of a dispatcher.

use std::fmt;

use super::id::EventId;

/// A notice for the operator: an event is dead, a handler is stuck, or a topic was paused or resumed.
///
/// [`Builder::on_notice`](super::Builder::on_notice) passes them to a callback, and
/// [`Builder::build_with_notices`](super::Builder::build_with_notices) to a channel. A notice prints as a line for a
/// log.
///
/// ```
/// use std::time::Duration;
/// use liveness::dispatch::{Dispatcher, Failure, Notice, On, Topic};
///
/// const MAIL: Topic<&str> = Topic::new("mail");
/// let (sender, notices) = std::sync::mpsc::channel();
/// let dispatcher = Dispatcher::builder()
///     .on_notice(move |notice| drop(sender.send(notice)))
///     .build()?;
/// dispatcher.on(&MAIL, "send", On::new(), |_, _| Err(Failure::fatal("no such address")))?;
/// let id = dispatcher.emit(&MAIL, "nobody")?;
/// let notice = notices.recv_timeout(Duration::from_secs(5))?;
/// assert_eq!(
///     notice.to_string(),
///     format!("event {id} of `mail` is dead after 1 attempt of send: no such address")
/// );
/// assert!(matches!(notice, Notice::Dead { attempts: 1, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// An event failed permanently, and is in the dead list.
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
    /// A handler did not return after its call was cancelled.
    Stuck {
        /// The topic.
        topic: String,
        /// The handler.
        handler: String,
        /// The event.
        id: EventId,
        /// The name of its thread.
        thread: String,
        /// Whether the thread was replaced by a new one.
        is_replaced: bool,
    },
    /// A topic was paused.
    Paused {
        /// The topic.
        topic: String,
    },
    /// A topic was resumed.
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
            Notice::Resumed { topic } => write!(f, "topic `{topic}` is resumed"),
        }
    }
}
