//! The keys of a topic, and how ids are written.

use super::link::LinkError;

/// The keys of one topic. All have the topic's hash tag, so a cluster keeps them on one node.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Sorted set: events that wait, by when they are due, us.
    pub(crate) waiting: String,
    /// Sorted set: events that run, by the end of their lease, us.
    pub(crate) running: String,
    /// Hash: the payload of each event.
    pub(crate) payloads: String,
    /// Hash: the fence of each attempt that runs.
    pub(crate) tokens: String,
    /// Hash: the record of each event that has failed, and how often it lapsed.
    pub(crate) failures: String,
    /// Hash: the unique keys of unfinished events, and their events.
    pub(crate) unique: String,
    /// Sorted set: dead events, by when they died, us.
    pub(crate) dead: String,
    /// Hash: counters, and the last call of each session.
    pub(crate) counters: String,
    /// List: at most one token, which wakes a process.
    pub(crate) wake: String,
}

impl Keys {
    /// The keys of `topic`, whose name has no brace.
    pub(crate) fn new(topic: &str) -> Self {
        let key = |letter: char| format!("{{lv:{topic}}}:{letter}");
        Keys {
            waiting: key('q'),
            running: key('l'),
            payloads: key('p'),
            tokens: key('t'),
            failures: key('f'),
            unique: key('u'),
            dead: key('d'),
            counters: key('c'),
            wake: key('w'),
        }
    }
}

/// Writes an id: of equal length, so that events that are due at the same time are sorted by their ids.
pub(crate) fn write_id(id: u64) -> String {
    format!("{id:011x}")
}

/// Reads an id.
///
/// # Errors
///
/// Returns an error if the text is no id.
pub(crate) fn read_id(text: &str) -> Result<u64, LinkError> {
    u64::from_str_radix(text, 16).map_err(|_| LinkError::Shape)
}
