//! The calls whose time is limited.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::{Payload, Registered};
use crate::dispatch::attempt::Attempt;
use crate::dispatch::plan::Token;
use crate::sync::Mutex;
use crate::watcher::Watcher;

/// A key of a watched call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The number of the start.
    pub(super) fence: u64,
    /// How many handlers of the event come after the one that is called.
    pub(super) left: usize,
    /// The meaning of its silence.
    pub(super) limit: Limit,
}

/// The meaning of a key's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    /// The call exceeds its time limit.
    Duration,
    /// The call makes no progress.
    Progress,
    /// The call was cancelled and has not returned.
    Stuck,
}

/// A call whose time is limited.
#[derive(Debug)]
pub(super) struct Call {
    /// The attempt that it belongs to.
    pub(super) token: Token,
    /// The worker that makes it.
    pub(super) runner: u32,
    /// The handler.
    pub(super) handler: Arc<Registered>,
    /// The result of the attempt before the call.
    pub(super) attempt: Attempt,
    /// The number of the attempt.
    pub(super) number: u32,
    /// When the attempt began, ns.
    pub(super) started: u64,
    /// The payload of the event.
    pub(super) payload: Payload,
    /// Whether one of its limits has passed.
    pub(super) is_over: bool,
    /// The handlers to call after it.
    pub(super) left: Vec<Arc<Registered>>,
}

impl Call {
    /// Returns the key with this meaning.
    pub(super) fn key(&self, limit: Limit) -> Key {
        Key {
            fence: self.token.fence,
            left: self.left.len(),
            limit,
        }
    }
}

/// The watcher of the calls whose time is limited.
#[derive(Debug)]
pub(super) struct Monitor {
    /// Watches them.
    pub(super) watcher: Watcher<Key>,
    /// The running calls, by the number of the start.
    pub(super) calls: Mutex<HashMap<u64, Call>>,
}
