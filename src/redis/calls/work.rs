//! The calls that claim events, finish them and renew their leases.

use super::super::layout::{Keys, read_id, write_id};
use super::super::link::{Cmd, LinkError, Value};
use super::super::reply::Reply;
use super::{LATEST, Scripts, When};

/// An event that waits again.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    /// The event.
    pub(crate) id: u64,
    /// The fence of the attempt.
    pub(crate) fence: u64,
    /// When it is due.
    pub(crate) due: When,
    /// Its record, unless that stays as it is.
    pub(crate) record: Option<Vec<u8>>,
    /// Whether the attempt counts.
    pub(crate) counts: bool,
}

/// Outcomes of attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// Events that were handled, each with the fence of the attempt.
    pub(crate) done: Vec<(u64, u64)>,
    /// Events that wait again.
    pub(crate) again: Vec<Again>,
    /// Events that have failed for good, each with its fence and record.
    pub(crate) dead: Vec<(u64, u64, Vec<u8>)>,
}

impl Outcomes {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.done.len() + self.again.len() + self.dead.len()
    }

    /// Takes up to `most` of them.
    pub(crate) fn take(&mut self, most: usize) -> Outcomes {
        fn first<T>(from: &mut Vec<T>, most: &mut usize) -> Vec<T> {
            let count = from.len().min(*most);
            *most -= count;
            if count == from.len() {
                std::mem::take(from)
            } else {
                from.drain(..count).collect()
            }
        }
        let mut left = most;
        Outcomes {
            done: first(&mut self.done, &mut left),
            again: first(&mut self.again, &mut left),
            dead: first(&mut self.dead, &mut left),
        }
    }
}

/// The call that finishes and claims events.
#[derive(Debug)]
pub(crate) struct WorkCall<'a> {
    /// The session of the caller.
    pub(crate) session: &'a str,
    /// The number of the call. A call that is repeated has the same number.
    pub(crate) seq: u64,
    /// How many events are wanted.
    pub(crate) want: usize,
    /// The lease, us.
    pub(crate) lease: u64,
    /// The most bytes of payloads.
    pub(crate) max_bytes: usize,
    /// How many events may run everywhere; zero means any number.
    pub(crate) everywhere: usize,
    /// The least time between two starts, us; zero means none.
    pub(crate) interval: u64,
    /// How many dead events are kept.
    pub(crate) max_dead: usize,
    /// From 0 to 1.
    pub(crate) random: f64,
    /// What became of earlier events.
    pub(crate) outcomes: &'a Outcomes,
}

/// An event that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The event.
    pub(crate) id: u64,
    /// When it was due, us of the clock of Redis.
    pub(crate) due: u64,
    /// Its envelope.
    pub(crate) payload: Vec<u8>,
    /// Its record, if it has failed before.
    pub(crate) record: Option<Vec<u8>>,
    /// How often its lease ended while it ran.
    pub(crate) lapses: u64,
}

/// The reply of the call that finishes and claims events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkReply {
    /// The time of the clock of Redis, us.
    pub(crate) now: u64,
    /// When the next call is of use, us from now, if that is known.
    pub(crate) wait: Option<u64>,
    /// For how long nothing lapses, us, if this call was the first after an outage.
    pub(crate) grace: u64,
    /// How many events lapsed.
    pub(crate) lapsed: u64,
    /// How many events had no payload.
    pub(crate) lost: u64,
    /// The fence of the claimed events.
    pub(crate) fence: u64,
    /// The events whose outcome was ignored.
    pub(crate) stale: Vec<u64>,
    /// The claimed events.
    pub(crate) events: Vec<Claimed>,
}

impl WorkCall<'_> {
    /// Writes the call.
    pub(crate) fn write(&self, scripts: &Scripts, keys: &Keys) -> Cmd {
        let mut call = scripts.work.call(&[
            &keys.waiting,
            &keys.running,
            &keys.payloads,
            &keys.tokens,
            &keys.failures,
            &keys.unique,
            &keys.dead,
            &keys.counters,
            &keys.wake,
        ]);
        call.arg(self.session)
            .arg(self.seq)
            .arg(self.want)
            .arg(self.lease.min(LATEST))
            .arg(self.max_bytes)
            .arg(self.everywhere)
            .arg(self.interval.min(LATEST))
            .arg(self.max_dead)
            .arg(self.random);
        let Outcomes { done, again, dead } = self.outcomes;
        call.arg(done.len());
        for (id, fence) in done {
            call.arg(write_id(*id)).arg(*fence);
        }
        call.arg(again.len());
        for event in again {
            call.arg(write_id(event.id))
                .arg(event.fence)
                .arg(match event.due {
                    When::Now => When::After(0).write(),
                    due => due.write(),
                })
                .arg(event.record.as_deref().unwrap_or_default())
                .arg(if event.counts { "r" } else { "o" });
        }
        call.arg(dead.len());
        for (id, fence, record) in dead {
            call.arg(write_id(*id)).arg(*fence).arg(&record[..]);
        }
        call
    }
}

impl WorkReply {
    /// Reads the reply, or `None` if a later call came first.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Option<Self>, LinkError> {
        let mut reply = Reply::new(reply)?;
        if reply.len() == 1 {
            return Ok(None);
        }
        let (now, wait, grace) = (reply.number()?, reply.signed()?, reply.number()?);
        let (lapsed, lost, fence) = (reply.number()?, reply.number()?, reply.number()?);
        let mut ids = reply.array()?;
        let mut stale = Vec::with_capacity(ids.len());
        while ids.len() > 0 {
            stale.push(read_id(&ids.text()?)?);
        }
        let mut events = Vec::with_capacity(reply.len() / 5);
        while reply.len() > 0 {
            let id = reply.text().and_then(|text| read_id(&text));
            let (due, payload, record) = (reply.number(), reply.bytes()?, reply.bytes()?);
            let lapses = reply
                .bytes()?
                .and_then(|text| String::from_utf8(text).ok()?.parse().ok());
            // What only a hand can have written holds up no other event: one that is none, and numbers that are none.
            if let Ok(id) = id {
                events.push(Claimed {
                    id,
                    due: due.unwrap_or(now),
                    payload: payload.unwrap_or_default(),
                    record,
                    lapses: lapses.unwrap_or_default(),
                });
            }
        }
        Ok(Some(WorkReply {
            now,
            wait: wait.try_into().ok(),
            grace,
            lapsed,
            lost,
            fence,
            stale,
            events,
        }))
    }
}

/// The reply of the call that renews leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenewReply {
    /// For how long nothing lapses, us, if this call was the first after an outage.
    pub(crate) grace: u64,
    /// The events that another worker may run.
    pub(crate) lost: Vec<u64>,
    /// The events that were cancelled, or have ended.
    pub(crate) gone: Vec<u64>,
}

impl RenewReply {
    /// Writes the call that renews the leases of `events`, each with its fence.
    pub(crate) fn write(scripts: &Scripts, keys: &Keys, lease: u64, events: &[(u64, u64)]) -> Cmd {
        let keys = [&keys.running, &keys.payloads, &keys.tokens, &keys.counters];
        let mut call = scripts.renew.call(&keys);
        call.arg(lease.min(LATEST));
        for (id, fence) in events {
            call.arg(write_id(*id)).arg(*fence);
        }
        call
    }

    /// Reads the reply.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Self, LinkError> {
        let mut reply = Reply::new(reply)?;
        let mut read = RenewReply {
            grace: reply.number()?,
            lost: Vec::new(),
            gone: Vec::new(),
        };
        while reply.len() > 0 {
            let id = read_id(&reply.text()?)?;
            let exists = reply.number()? == 1;
            if exists {
                &mut read.lost
            } else {
                &mut read.gone
            }
            .push(id);
        }
        Ok(read)
    }
}
