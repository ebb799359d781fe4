//! The listener: the thread that hears, by a read that blocks on the server, that an event may be ready.
//!
//! It takes the token of a topic and leaves word for the keeper. It does not listen to that topic again until the
//! keeper has looked and could run more. So a process takes no token that it has no use for, and one token wakes one
//! process.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::keeper::inbox::{Inbox, Order};
use super::link::{Line, LinkError, Value, cmd};

/// How long one read blocks on the server.
pub(crate) const LISTEN: Duration = Duration::from_secs(5);

/// What the keeper and the listener share.
#[derive(Debug)]
pub(crate) struct Ears {
    /// The key by which the listener is woken.
    bye: String,
    /// The topics.
    state: Mutex<State>,
    /// Notified when that changes.
    changed: Condvar,
}

/// The topics of a listener.
#[derive(Debug, Default)]
struct State {
    /// The key of the token of each topic, and whether the listener takes it.
    topics: Vec<(String, bool)>,
    /// Which topics the read that blocks now listens to.
    blocks_on: Option<Vec<usize>>,
    /// How many tokens of the key by which it is woken it has not taken, those that are pushed soon included.
    wakes: usize,
    /// Whether the listener is to end.
    is_over: bool,
}

impl Ears {
    /// Creates what the listener of `session` shares.
    pub(crate) fn new(session: &str) -> Arc<Self> {
        Arc::new(Ears {
            bye: format!("{{lv:bye:{session}}}"),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The key by which the listener is woken.
    pub(crate) fn bye(&self) -> &str {
        &self.bye
    }

    /// Adds the topic in place `at`, which is closed at first.
    pub(crate) fn add(&self, at: usize, wake: &str) {
        let mut state = self.state.lock();
        debug_assert_eq!(at, state.topics.len(), "topics are added in order");
        state.topics.push((wake.to_owned(), false));
    }

    /// Lets the listener take the token of topic `at`. Returns whether it has to be woken for that.
    pub(crate) fn open(&self, at: usize) -> bool {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.topics[at].1, true) {
            return false;
        }
        self.changed.notify_one();
        let blocks_on = state.blocks_on.as_ref();
        let has_to_wake = blocks_on.is_some_and(|topics| !topics.contains(&at));
        state.wakes += usize::from(has_to_wake);
        has_to_wake
    }

    /// Notes that the listener was not woken, because the server is out of reach.
    pub(crate) fn not_woken(&self) {
        let mut state = self.state.lock();
        state.wakes = state.wakes.saturating_sub(1);
    }

    /// Ends the listener. Returns whether it has to be woken for that.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.state.lock();
        state.is_over = true;
        self.changed.notify_one();
        let has_to_wake = state.blocks_on.is_some();
        state.wakes += usize::from(has_to_wake);
        has_to_wake
    }

    /// Blocks until there is a topic to listen to. Returns their places and keys, or `None` at the end.
    fn topics(&self) -> Option<Vec<(usize, String)>> {
        let mut state = self.state.lock();
        loop {
            if state.is_over {
                return None;
            }
            let open = state.topics.iter().enumerate().filter(|(_, topic)| topic.1);
            let open: Vec<_> = open.map(|(at, topic)| (at, topic.0.clone())).collect();
            if !open.is_empty() {
                state.blocks_on = Some(open.iter().map(|topic| topic.0).collect());
                return Some(open);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Notes that the read is over, in which the token of topic `at` was taken, if one was, or that which wakes the
    /// listener.
    fn read(&self, at: Option<usize>, is_woken: bool) {
        let mut state = self.state.lock();
        state.blocks_on = None;
        state.wakes = state.wakes.saturating_sub(usize::from(is_woken));
        if let Some(at) = at {
            state.topics[at].1 = false;
        }
    }

    /// Whether a token of the key by which the listener is woken is left.
    fn is_woken(&self) -> bool {
        self.state.lock().wakes > 0
    }

    /// Waits a moment for the keeper to look at topic `at`. It mostly opens the topic again within a call, and a read
    /// of the other topics would not hear of that.
    fn wait_for(&self, at: usize) {
        let mut state = self.state.lock();
        if !state.topics[at].1 && !state.is_over {
            self.changed.wait_for(&mut state, Duration::from_millis(1));
        }
    }

    /// Sleeps for `wait`, or until the end.
    fn sleep(&self, wait: Duration) {
        let mut state = self.state.lock();
        if !state.is_over {
            self.changed.wait_for(&mut state, wait);
        }
    }
}

/// Listens until the end.
pub(crate) fn listen(ears: &Ears, inbox: &Inbox, line: &mut Line) {
    while let Some(topics) = ears.topics() {
        let keys = topics.iter().map(|(_, key)| &**key);
        let reply = read(line, keys.chain([ears.bye()]));
        let key = reply.as_ref().ok().and_then(Option::as_deref);
        let at = topics
            .iter()
            .find(|(_, other)| key == Some(other.as_bytes()));
        let at = at.map(|(at, _)| *at);
        ears.read(at, key == Some(ears.bye.as_bytes()));
        if let Some(at) = at {
            inbox.order(Order::Token(at));
            ears.wait_for(at);
        }
        if let Err(error) = reply {
            let wait = line.backoff();
            // An error of the server does not close the connection, and may come at once again.
            let wait = if error.is_passing() {
                wait
            } else {
                Duration::from_secs(1)
            };
            ears.sleep(wait);
        }
    }
    // A token that nobody takes would stay in the server for ever.
    while ears.is_woken() && read(line, [ears.bye()].into_iter()).is_ok_and(|key| key.is_some()) {
        ears.read(None, true);
    }
}

/// Takes a token of one of `keys`, the first that has one. Returns the key, or `None` if there was none for a while.
fn read<'a>(
    line: &mut Line,
    keys: impl Iterator<Item = &'a str>,
) -> Result<Option<Vec<u8>>, LinkError> {
    let mut read = cmd("BLPOP");
    for key in keys {
        read.arg(key);
    }
    read.arg(LISTEN.as_secs());
    Ok(match line.query(&read)? {
        Value::Array(reply) => match reply.into_iter().next() {
            Some(Value::BulkString(key)) => Some(key),
            _ => None,
        },
        _ => None,
    })
}
