//! Notices for the operator of a dispatcher.

use std::fmt;
use std::time::Duration;

use super::id::EventId;

/// A notice for the operator: an event is dead, a handler is stuck, or a topic was paused or resumed. A durable
/// dispatcher also reports the state of its store and of its leases.
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
    /// The lease of a running attempt was lost, so another worker may run the event. The call was requested to end with
    /// [`Cause::LeaseLost`](super::Cause::LeaseLost). Only a durable dispatcher emits this.
    LeaseLost {
        /// The topic.
        topic: String,
        /// The event.
        id: EventId,
    },
    /// Leases were not renewed in time, because the process that held them has ended or is suspended. Their events wait
    /// again. Only a durable dispatcher emits this.
    Lapsed {
        /// The topic.
        topic: String,
        /// The number of events.
        events: u64,
    },
    /// The connection to the store was lost. Only a durable dispatcher emits this.
    Disconnected {
        /// The reason.
        error: String,
    },
    /// The store can be reached again. Only a durable dispatcher emits this.
    Reconnected {
        /// The time since the connection was lost.
        after: Duration,
    },
    /// No lease of the topic lapses for a while, because no process could renew its leases, for example while the store
    /// could not be reached. Only a durable dispatcher emits this.
    Grace {
        /// The topic.
        topic: String,
        /// For how long no lease lapses.
        duration: Duration,
    },
    /// The outcome of an attempt was ignored, because the attempt was no longer the current one. Only a durable
    /// dispatcher emits this.
    Stale {
        /// The topic.
        topic: String,
        /// The event.
        id: EventId,
        /// The fence of the attempt.
        fence: u64,
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
            Notice::LeaseLost { topic, id } => write!(
                f,
                "the lease of event {id} of `{topic}` was lost; another worker may run it"
            ),
            Notice::Lapsed { topic, events } => {
                let (events, plural) = (*events, if *events == 1 { "" } else { "s" });
                write!(
                    f,
                    "{events} lease{plural} of `{topic}` lapsed; {events} event{plural} will run again"
                )
            }
            Notice::Disconnected { error } => {
                write!(f, "the connection to the store was lost: {error}")
            }
            Notice::Reconnected { after } => {
                write!(f, "the store can be reached again after {after:.3?}")
            }
            Notice::Grace { topic, duration } => write!(
                f,
                "no lease of `{topic}` lapses for {duration:.3?}, because none could be renewed"
            ),
            Notice::Stale { topic, id, fence } => write!(
                f,
                "the outcome of event {id} of `{topic}` with fence {fence} was ignored; another attempt is the current \
                 one"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_a_store_print_as_one_line() {
        let (topic, id) = ("mail".to_owned(), EventId::new(17));
        let lapsed = |events| Notice::Lapsed {
            topic: topic.clone(),
            events,
        };
        let duration = Duration::from_millis(1_500);
        let lines = [
            (
                Notice::LeaseLost {
                    topic: topic.clone(),
                    id,
                },
                "the lease of event 17 of `mail` was lost; another worker may run it",
            ),
            (
                lapsed(1),
                "1 lease of `mail` lapsed; 1 event will run again",
            ),
            (
                lapsed(2),
                "2 leases of `mail` lapsed; 2 events will run again",
            ),
            (
                Notice::Disconnected {
                    error: "timed out".to_owned(),
                },
                "the connection to the store was lost: timed out",
            ),
            (
                Notice::Reconnected { after: duration },
                "the store can be reached again after 1.500s",
            ),
            (
                Notice::Grace {
                    topic: topic.clone(),
                    duration,
                },
                "no lease of `mail` lapses for 1.500s, because none could be renewed",
            ),
            (
                Notice::Stale {
                    topic: topic.clone(),
                    id,
                    fence: 9,
                },
                "the outcome of event 17 of `mail` with fence 9 was ignored; another attempt is the current one",
            ),
        ];
        for (notice, line) in lines {
            assert_eq!(notice.to_string(), line);
        }
    }
}
