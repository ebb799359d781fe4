//! The calls of the keeper: it claims and finishes events, renews their leases, and searches for lost events.

use std::sync::Arc;
use std::time::Duration;

use super::{AUDIT, Keeper, REFUSED_WAIT, start};
use crate::clock::nanos;
use crate::dispatch::lease::Lease;
use crate::dispatch::local::lending::Leased;
use crate::dispatch::{Cause, EventId, Notice};
use crate::log;
use crate::redis::calls::{
    Audited, Claimed, MOST, MOST_BYTES, RenewReply, SCRIPTS, WorkCall, WorkReply, micros,
};
use crate::redis::envelope::{self, Encoded};
use crate::redis::link::LinkError;
use crate::redis::record::Record;

impl Keeper {
    /// Makes the call that claims and finishes events of topic `at`.
    pub(super) fn work(&mut self, at: usize) {
        self.turn = at + 1;
        let (threads, all) = (self.options.threads, self.flights());
        let topic = &mut self.topics[at];
        let limits = topic.limits();
        let keys = topic.keys.clone();
        let seq = self.seq + 1;
        let pending = topic.begin(threads, all, seq, self.clock.now_ns());
        self.seq = self.seq.max(pending.seq);
        let call = WorkCall {
            session: &self.options.session,
            seq: pending.seq,
            want: pending.want,
            lease: micros(self.options.times.lease),
            max_bytes: MOST_BYTES,
            everywhere: limits.map_or(0, |limits| limits.everywhere),
            interval: limits.map_or(0, |limits| limits.interval),
            max_dead: self.options.max_dead,
            random: fastrand::f64(),
            outcomes: &pending.outcomes,
        };
        let call = call.write(&SCRIPTS, &keys);
        let reply = self
            .line
            .run(&SCRIPTS.work, &call)
            .and_then(WorkReply::read);
        let now = self.clock.now_ns();
        match reply {
            Ok(Some(reply)) => {
                self.reached(at, now);
                self.replied(at, reply, now);
            }
            // A later call of this session came first, which cannot be: calls are made one after the other.
            Ok(None) => self.failed(at, &LinkError::Shape, now),
            Err(error) => self.failed(at, &error, now),
        }
        self.listen(at, now);
    }

    /// Takes the reply of a call for topic `at`.
    fn replied(&mut self, at: usize, mut reply: WorkReply, now: u64) {
        let events = std::mem::take(&mut reply.events);
        let reported = self.topics[at].replied(&reply, self.options.times, now);
        let name = self.topics[at].name.clone();
        self.grace(&name, reply.grace);
        if reply.lapsed > 0 {
            let (topic, events) = (name.to_string(), reply.lapsed);
            self.core.notify(Notice::Lapsed { topic, events });
        }
        for (id, _, record) in &reported.dead {
            if !reply.stale.contains(id) {
                let record = Record::read(Some(record));
                self.core.notify(Notice::Dead {
                    topic: name.to_string(),
                    id: EventId::new(*id),
                    handlers: record.failed,
                    attempts: record.attempts,
                    error: record.error,
                });
            }
        }
        if !reply.stale.is_empty() {
            let done = reported.done.iter().copied();
            let again = reported.again.iter().map(|event| (event.id, event.fence));
            let dead = reported.dead.iter().map(|(id, fence, _)| (*id, *fence));
            for (id, fence) in done.chain(again).chain(dead) {
                if reply.stale.contains(&id) {
                    let (topic, id) = (name.to_string(), EventId::new(id));
                    self.core.notify(Notice::Stale { topic, id, fence });
                }
            }
        }
        self.lend(at, events, &reply, now);
    }

    /// Lends claimed events of topic `at` to the workers.
    fn lend(&mut self, at: usize, events: Vec<Claimed>, reply: &WorkReply, now: u64) {
        if events.is_empty() {
            return;
        }
        let topic = &mut self.topics[at];
        let mut taken = Vec::with_capacity(events.len());
        let mut leased = Vec::with_capacity(events.len());
        for mut event in events {
            let record = Record::read(event.record.as_deref());
            if event.lapses >= self.options.max_lapses {
                let error = format!("its lease ended {} times while it ran", event.lapses);
                topic.bury(&event, reply.fence, &Record { error, ..record }, now);
                continue;
            }
            let payload = std::mem::take(&mut event.payload);
            let late = reply.now.saturating_sub(event.due).saturating_mul(1_000);
            leased.push(Leased {
                headers: envelope::headers(&payload),
                event: Arc::new(Encoded(payload)),
                due: now.saturating_sub(late),
                lease: Lease {
                    id: EventId::new(event.id),
                    fence: reply.fence,
                    attempts: record.attempts,
                    rest: record.rest(),
                },
            });
            taken.push(event);
        }
        match self.core.lend(topic.topic, leased) {
            Ok(ids) => {
                for (event, local) in taken.iter().zip(ids) {
                    topic.fly(event, reply.fence, local, now);
                }
            }
            Err(_) => taken
                .iter()
                .for_each(|event| topic.refuse(event, reply.fence, now)),
        }
    }

    /// Renews the leases of topic `at`.
    pub(super) fn renew(&mut self, at: usize, now: u64) {
        let claims = self.topics[at].renew(self.options.times, now);
        let lease = micros(self.options.times.lease);
        for chunk in claims.chunks(MOST) {
            let call = RenewReply::write(&SCRIPTS, &self.topics[at].keys, lease, chunk);
            let reply = self
                .line
                .run(&SCRIPTS.renew, &call)
                .and_then(RenewReply::read);
            let now = self.clock.now_ns();
            match reply {
                Ok(reply) => {
                    self.reached(at, now);
                    let name = self.topics[at].name.clone();
                    self.grace(&name, reply.grace);
                    for id in reply.lost {
                        self.recall(at, id, Cause::LeaseLost);
                    }
                    for id in reply.gone {
                        self.recall(at, id, Cause::Cancelled);
                    }
                }
                Err(error) => {
                    self.topics[at].renew_now();
                    self.failed(at, &error, now);
                    return;
                }
            }
        }
    }

    /// Reports that nothing lapses for `us` after an outage, if that is so.
    fn grace(&self, topic: &Arc<str>, us: u64) {
        if us > 0 {
            let (topic, duration) = (topic.to_string(), Duration::from_micros(us));
            self.core.notify(Notice::Grace { topic, duration });
        }
    }

    /// Searches a part of a topic for events that are in no list.
    pub(super) fn audit(&mut self, now: u64) {
        let (_, at, cursors) = &self.audit;
        let at = at % self.topics.len();
        let topic = &self.topics[at];
        let call = SCRIPTS.audit(&topic.keys, cursors);
        match self.line.run(&SCRIPTS.audit, &call).and_then(Audited::read) {
            Ok(Audited { cursors, found }) => {
                if found > 0 {
                    log::warn!(
                        "{found} events of `{}` were in no list, and wait again",
                        topic.name
                    );
                }
                let is_over = cursors == start();
                let interval = nanos(AUDIT) / self.topics.len() as u64;
                let next = if is_over { at + 1 } else { at };
                self.audit = (now.saturating_add(interval), next, cursors);
            }
            Err(error) => {
                // A topic that cannot be searched does not keep the others from it.
                let next = if error.is_passing() { at } else { at + 1 };
                self.audit = (now.saturating_add(nanos(REFUSED_WAIT)), next, start());
                self.failed(at, &error, self.clock.now_ns());
            }
        }
    }
}
