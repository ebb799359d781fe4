//! The calls that inspect a topic and change its events.

use super::super::layout::{Keys, read_id, write_id};
use super::super::link::{Cmd, LinkError, Value};
use super::super::reply::Reply;
use super::{MOST_BYTES, Scripts, When};
use crate::dispatch::Cancelled;

impl Scripts {
    /// Cancels events.
    pub(crate) fn cancel(&self, keys: &Keys, ids: &[u64]) -> Cmd {
        let mut call = self.cancel.call(&[
            &keys.waiting,
            &keys.running,
            &keys.payloads,
            &keys.tokens,
            &keys.failures,
            &keys.unique,
            &keys.dead,
            &keys.counters,
        ]);
        for id in ids {
            call.arg(write_id(*id));
        }
        call
    }

    /// Changes when an event is due.
    pub(crate) fn reschedule(&self, keys: &Keys, id: u64, due: When) -> Cmd {
        let mut call = self.reschedule.call(&[&keys.waiting, &keys.wake]);
        call.arg(write_id(id)).arg(due.write());
        call
    }

    /// Lets dead events wait again, each with a new record.
    pub(crate) fn replay(
        &self,
        keys: &Keys,
        max_unfinished: u64,
        events: &[(u64, Vec<u8>)],
    ) -> Cmd {
        let mut call = self.replay.call(&[
            &keys.waiting,
            &keys.running,
            &keys.failures,
            &keys.dead,
            &keys.counters,
            &keys.wake,
        ]);
        call.arg(max_unfinished);
        for (id, record) in events {
            call.arg(write_id(*id)).arg(&record[..]);
        }
        call
    }

    /// Removes up to `max` dead events.
    pub(crate) fn purge(&self, keys: &Keys, max: usize) -> Cmd {
        let keys = [&keys.payloads, &keys.failures, &keys.dead, &keys.counters];
        let mut call = self.purge.call(&keys);
        call.arg(max);
        call
    }

    /// Pauses a topic, or resumes it.
    pub(crate) fn pause(&self, keys: &Keys, is_paused: bool) -> Cmd {
        let mut call = self.pause.call(&[&keys.counters, &keys.wake]);
        call.arg(u8::from(is_paused));
        call
    }

    /// Reads events that wait, or that are dead: at most `max`, and fewer if they are large.
    pub(crate) fn view(&self, keys: &Keys, dead: bool, skip: usize, max: usize) -> Cmd {
        let set = if dead { &keys.dead } else { &keys.waiting };
        let mut call = self.view.call(&[set, &keys.payloads, &keys.failures]);
        call.arg(skip.min(u32::MAX as usize))
            .arg(max)
            .arg(MOST_BYTES);
        call
    }

    /// Reads the account.
    pub(crate) fn counts(&self, keys: &Keys) -> Cmd {
        let keys = [&keys.waiting, &keys.running, &keys.dead, &keys.counters];
        self.counts.call(&keys)
    }

    /// Repairs what was broken, from the given cursors on.
    pub(crate) fn audit(&self, keys: &Keys, cursors: &(String, String)) -> Cmd {
        let keys = [
            &keys.waiting,
            &keys.running,
            &keys.payloads,
            &keys.tokens,
            &keys.dead,
            &keys.counters,
        ];
        let mut call = self.audit.call(&keys);
        call.arg(&cursors.0).arg(&cursors.1);
        call
    }
}

/// Reads in which state each event was cancelled.
///
/// # Errors
///
/// Returns an error if the reply has another shape.
pub(crate) fn read_cancelled(reply: Value) -> Result<Vec<Cancelled>, LinkError> {
    let mut reply = Reply::new(reply)?;
    let mut states = Vec::with_capacity(reply.len());
    while reply.len() > 0 {
        states.push(match &*reply.text()? {
            "w" => Cancelled::Waiting,
            "r" => Cancelled::Running,
            "d" => Cancelled::Dead,
            _ => Cancelled::Unknown,
        });
    }
    Ok(states)
}

/// An event that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The event.
    pub(crate) id: u64,
    /// When it is due, or died, us of the clock of Redis.
    pub(crate) at: u64,
    /// Its envelope, unless that was lost.
    pub(crate) payload: Option<Vec<u8>>,
    /// Its record, if it has failed.
    pub(crate) record: Option<Vec<u8>>,
}

impl Seen {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Vec<Self>, LinkError> {
        let mut reply = Reply::new(reply)?;
        let mut events = Vec::with_capacity(reply.len() / 4);
        while reply.len() > 0 {
            events.push(Seen {
                id: read_id(&reply.text()?)?,
                at: reply.number()?,
                payload: reply.bytes()?,
                record: reply.bytes()?,
            });
        }
        Ok(events)
    }
}

/// The account of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// The time of the clock of Redis, us.
    pub(crate) now: u64,
    /// Events that wait.
    pub(crate) waiting: u64,
    /// Events of these that are due.
    pub(crate) ready: u64,
    /// Events that run.
    pub(crate) running: u64,
    /// Events in the dead list.
    pub(crate) dead: u64,
    /// Events that were accepted.
    pub(crate) emitted: u64,
    /// Events that were handled.
    pub(crate) done: u64,
    /// Events that were cancelled.
    pub(crate) cancelled: u64,
    /// Events that were removed from the dead list.
    pub(crate) purged: u64,
    /// Events whose payload is gone.
    pub(crate) lost: u64,
    /// How often an event died.
    pub(crate) died: u64,
    /// How often an event was replayed.
    pub(crate) replayed: u64,
    /// Attempts that failed and were followed by another one.
    pub(crate) retried: u64,
    /// Attempts that do not count.
    pub(crate) put_off: u64,
    /// How often a lease ended while its event ran.
    pub(crate) lapsed: u64,
    /// Outcomes that were ignored.
    pub(crate) stale: u64,
    /// Whether the topic is paused.
    pub(crate) is_paused: bool,
}

impl Account {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Self, LinkError> {
        let mut reply = Reply::new(reply)?;
        let (now, waiting, ready) = (reply.number()?, reply.number()?, reply.number()?);
        let (running, dead) = (reply.number()?, reply.number()?);
        let mut counter = || match reply.bytes()? {
            None => Ok(0),
            Some(text) => {
                let text = str::from_utf8(&text).ok();
                text.and_then(|text| text.parse().ok())
                    .ok_or(LinkError::Shape)
            }
        };
        Ok(Account {
            now,
            waiting,
            ready,
            running,
            dead,
            emitted: counter()?,
            done: counter()?,
            cancelled: counter()?,
            purged: counter()?,
            lost: counter()?,
            died: counter()?,
            replayed: counter()?,
            retried: counter()?,
            put_off: counter()?,
            lapsed: counter()?,
            stale: counter()?,
            is_paused: counter()? == 1,
        })
    }
}

/// What an audit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audited {
    /// Where the next audit goes on.
    pub(crate) cursors: (String, String),
    /// How many events were found.
    pub(crate) found: u64,
}

impl Audited {
    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Self, LinkError> {
        let mut reply = Reply::new(reply)?;
        Ok(Audited {
            cursors: (reply.text()?, reply.text()?),
            found: reply.number()?,
        })
    }
}
