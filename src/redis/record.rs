//! What is kept of an event's failed attempts: a JSON object, so that people can read it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dispatch::attempt::Rest;

/// The record of an event that has failed, or was put off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// How many attempts have failed.
    pub(crate) attempts: u32,
    /// The handlers to call again; if there is none, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pending: Vec<String>,
    /// The handlers that have failed for good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<String>,
    /// The last error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
}

impl Record {
    /// Creates the record of an event with `rest` to do after `attempts` failed attempts.
    pub(crate) fn new(attempts: u32, rest: Rest) -> Self {
        let names = |names: Vec<Arc<str>>| names.iter().map(ToString::to_string).collect();
        Record {
            attempts,
            pending: names(rest.pending),
            failed: names(rest.failed),
            error: rest.error,
        }
    }

    /// Reads a record. One that cannot be read, which only a hand can have written, is that of an event that has not
    /// failed.
    pub(crate) fn read(text: Option<&[u8]>) -> Self {
        text.and_then(|text| serde_json::from_slice(text).ok())
            .unwrap_or_default()
    }

    /// Writes the record.
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts can be written")
    }

    /// Returns the record of the event when it is replayed: the handlers that failed are called again.
    pub(crate) fn replayed(mut self) -> Self {
        self.attempts = 0;
        self.pending.append(&mut self.failed);
        self
    }

    /// Returns what is left to do; `None` if nothing of it is known.
    pub(crate) fn rest(self) -> Option<Arc<Rest>> {
        if self == Record::default() {
            return None;
        }
        let names = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
        Some(Arc::new(Rest {
            pending: names(self.pending),
            failed: names(self.failed),
            error: self.error,
        }))
    }
}
