//! Looks at the events of a topic, and changes them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use super::calls::{Account, MOST, SCRIPTS, Seen, read_cancelled};
use super::engine::{Engine, KnownTopic, when};
use super::envelope::decode;
use super::link::{Cmd, LinkError, Script, Value};
use super::record::Record;
use super::reply::Reply;
use crate::dispatch::{
    Cancelled, Counts, Dead, DispatchStats, Emit, EmitErrorKind, EventId, Notice, Topic,
    TopicStats, Unavailable, Waiting,
};
use crate::log;

impl Engine {
    /// Makes a call that may be repeated: it only reads, or changes nothing the second time.
    fn read(&self, script: &Script, call: &Cmd) -> Result<Value, Unavailable> {
        self.emitter
            .call(script, call, true)
            .map_err(Unavailable::new)
    }

    /// Makes a call whose second time would have another result.
    fn write(&self, script: &Script, call: &Cmd) -> Result<Value, Unavailable> {
        if self.is_stopped() {
            return Err(Unavailable::new(EmitErrorKind::Stopped));
        }
        self.emitter
            .call(script, call, false)
            .map_err(Unavailable::new)
    }

    /// Cancels an event.
    pub(super) fn cancel<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
    ) -> Result<Cancelled, Unavailable> {
        let known = self.topic(topic);
        let reply = self.write(&SCRIPTS.cancel, &SCRIPTS.cancel(&known.keys, &[id.get()]))?;
        let states = read_cancelled(reply).map_err(Unavailable::new)?;
        let state = states.first().copied().unwrap_or(Cancelled::Unknown);
        if state == Cancelled::Running {
            self.cancelled(&known, id);
        }
        Ok(state)
    }

    /// Changes when an event is due.
    pub(super) fn reschedule<T: 'static>(
        &self,
        topic: &Topic<T>,
        id: EventId,
        how: &Emit,
    ) -> Result<bool, EmitErrorKind> {
        if self.is_stopped() {
            return Err(EmitErrorKind::Stopped);
        }
        let due = when(how.due)?;
        let known = self.topic(topic);
        let call = SCRIPTS.reschedule(&known.keys, id.get(), due);
        match self.emitter.call(&SCRIPTS.reschedule, &call, true) {
            Ok(reply) => Ok(reply == Value::Int(1)),
            Err(error @ LinkError::Server { .. }) if !error.is_passing() => {
                Err(EmitErrorKind::Refused)
            }
            Err(_) => Err(EmitErrorKind::Unavailable),
        }
    }

    /// Pauses a topic, or resumes it.
    pub(super) fn set_paused<T: 'static>(
        &self,
        topic: &Topic<T>,
        is_paused: bool,
    ) -> Result<bool, Unavailable> {
        let known = self.topic(topic);
        let reply = self.write(&SCRIPTS.pause, &SCRIPTS.pause(&known.keys, is_paused))?;
        let is_changed = reply == Value::Int(1);
        if is_changed {
            let topic = known.name.to_string();
            self.core.notify(if is_paused {
                Notice::Paused { topic }
            } else {
                Notice::Resumed { topic }
            });
        }
        Ok(is_changed)
    }

    /// Reads up to `max` events of a topic: those that are dead, or those that wait.
    fn view(&self, known: &KnownTopic, dead: bool, max: usize) -> Result<Vec<Seen>, Unavailable> {
        let mut events: Vec<Seen> = Vec::new();
        while events.len() < max {
            let count = (max - events.len()).min(MOST);
            let call = SCRIPTS.view(&known.keys, dead, events.len(), count);
            let seen = self.read(&SCRIPTS.view, &call)?;
            let seen = Seen::read(seen).map_err(Unavailable::new)?;
            if seen.is_empty() {
                break;
            }
            events.extend(seen);
        }
        Ok(events)
    }

    /// The next events of a topic. Those that cannot be decoded are left out.
    pub(super) fn peek<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Result<Vec<Waiting<T>>, Unavailable> {
        let known = self.topic(topic);
        let events = self.view(&known, false, max)?;
        let waiting = events.into_iter().filter_map(|seen| {
            let event = decoded(&known, &seen)?;
            let record = Record::read(seen.record.as_deref());
            Some(Waiting {
                id: EventId::new(seen.id),
                due: wall(seen.at),
                attempts: record.attempts,
                error: (!record.error.is_empty()).then_some(record.error),
                event,
            })
        });
        Ok(waiting.collect())
    }

    /// The dead events of a topic. Those that cannot be decoded are left out.
    pub(super) fn dead<T: DeserializeOwned + 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Result<Vec<Dead<T>>, Unavailable> {
        let known = self.topic(topic);
        let events = self.view(&known, true, max)?;
        let dead = events.into_iter().filter_map(|seen| {
            let event = decoded(&known, &seen)?;
            let record = Record::read(seen.record.as_deref());
            Some(Dead {
                id: EventId::new(seen.id),
                died: wall(seen.at),
                attempts: record.attempts,
                handlers: record.failed,
                error: record.error,
                event,
            })
        });
        Ok(dead.collect())
    }

    /// Lets up to `max` dead events wait again.
    pub(super) fn replay<T: 'static>(
        &self,
        topic: &Topic<T>,
        max: usize,
    ) -> Result<usize, Unavailable> {
        let known = self.topic(topic);
        let mut replayed = 0;
        while replayed < max {
            let seen = self.view(&known, true, (max - replayed).min(MOST))?;
            let events: Vec<_> = seen
                .into_iter()
                .map(|seen| {
                    let record = Record::read(seen.record.as_deref());
                    (seen.id, record.replayed().write())
                })
                .collect();
            let call = SCRIPTS.replay(&known.keys, self.max_unfinished, &events);
            let count = self.write(&SCRIPTS.replay, &call)?;
            let count = number(count).map_err(Unavailable::new)?;
            replayed += count;
            if count == 0 {
                break;
            }
        }
        Ok(replayed)
    }

    /// Removes the dead events of a topic.
    pub(super) fn purge<T: 'static>(&self, topic: &Topic<T>) -> Result<usize, Unavailable> {
        let known = self.topic(topic);
        let mut purged = 0;
        loop {
            let count = self.write(&SCRIPTS.purge, &SCRIPTS.purge(&known.keys, MOST))?;
            let count = number(count).map_err(Unavailable::new)?;
            purged += count;
            if count == 0 {
                return Ok(purged);
            }
        }
    }

    /// The account of a topic.
    fn account(&self, known: &KnownTopic) -> Result<Account, Unavailable> {
        let reply = self.read(&SCRIPTS.counts, &SCRIPTS.counts(&known.keys))?;
        Account::read(reply).map_err(Unavailable::new)
    }

    /// How many events of a topic are in each state.
    pub(super) fn counts<T: 'static>(&self, topic: &Topic<T>) -> Result<Counts, Unavailable> {
        let known = self.topic(topic);
        let account = self.account(&known)?;
        Ok(Counts {
            scheduled: (account.waiting - account.ready) as usize,
            ready: account.ready as usize,
            running: account.running as usize,
            dead: account.dead as usize,
            is_paused: account.is_paused,
        })
    }

    /// Blocks until no event of the topics that this dispatcher has used is ready or runs, for at most `wait`.
    pub(super) fn flush(&self, wait: Duration) -> Result<bool, Unavailable> {
        self.wait_until(wait, || {
            for known in self.topics() {
                let account = self.account(&known)?;
                let is_ready = account.ready > 0 && !account.is_paused;
                if is_ready || account.running > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The statistics: the account of each topic, which all processes share, and the times of this process.
    pub(super) fn stats(&self) -> Result<DispatchStats, Unavailable> {
        let mut stats = self.core.stats();
        let mut here = std::mem::take(&mut stats.topics);
        for known in self.topics() {
            let account = self.account(&known)?;
            let own = here.iter_mut().find(|topic| *topic.topic == *known.name);
            let own = own.map(std::mem::take).unwrap_or_default();
            stats.topics.push(TopicStats {
                topic: known.name.to_string(),
                emitted: account.emitted,
                waiting: account.waiting,
                running: account.running,
                dead: account.dead,
                done: account.done,
                cancelled: account.cancelled,
                purged: account.purged,
                lost: account.lost,
                died: account.died,
                replayed: account.replayed,
                retried: account.retried,
                put_off: account.put_off,
                lapsed: account.lapsed,
                stale: account.stale + own.stale,
                discarded: 0,
                ..own
            });
        }
        stats.refused = self.refused.load(Ordering::Relaxed);
        Ok(stats)
    }
}

/// The event that was read, or `None` with a line in the log if it cannot be decoded or is gone.
fn decoded<T: DeserializeOwned>(known: &KnownTopic, seen: &Seen) -> Option<Arc<T>> {
    match decode(seen.payload.as_deref()?) {
        Ok(event) => Some(Arc::new(event)),
        Err(error) => {
            log::warn!("event {} of `{}`: {error}", seen.id, known.name);
            None
        }
    }
}

/// A time of the clock of Redis, us since 1970.
fn wall(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// Reads a reply that is one number.
fn number(reply: Value) -> Result<usize, LinkError> {
    Reply::new(Value::Array(vec![reply]))?
        .number()
        .map(|number| number as usize)
}
