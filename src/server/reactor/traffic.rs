//! Reading, writing, and what follows from that.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::agent::{Agent, Delegate};
use super::super::close::Cause;
use super::super::codec::{Codec, Fault};
use super::super::core::Seated;
use super::super::http::{Answer, Asked, Request};
use super::super::job::{Job, Target};
use super::super::net::Input;
use super::super::session::{Step, Traffic};
use super::super::shortcut;
use super::connections::{Connection, Rare, Stage};
use super::{READ, Reactor};
use crate::clock;
use crate::panic::catch_panic;

/// How long an inline handler may run before it is counted as slow.
const SLOW_INLINE: Duration = Duration::from_millis(10);

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Reads from the sockets that are ready.
    pub(super) fn read_ready(&mut self) {
        let ready = std::mem::take(&mut self.ready);
        for slot in ready {
            let Some(connection) = self.slab.get_mut(slot) else {
                continue;
            };
            connection.is_in_ready = false;
            if connection.session.wants_read() {
                self.read(slot);
                self.mark_dirty(slot);
            }
        }
    }

    /// Reads from a socket until nothing is left, or others have their turn.
    pub(super) fn read(&mut self, slot: u32) {
        let mut total = 0;
        let connection = &mut self.slab[slot];
        if connection.session.is_open() && self.core.pool.hold(connection.agent.jobs()) {
            connection.session.pause();
            self.mark_dirty(slot);
        }
        while total < READ {
            let connection = &mut self.slab[slot];
            if !connection.session.wants_read() {
                return;
            }
            match connection.channel.read(&mut self.scratch) {
                Ok(Input::End) => {
                    connection.is_readable = false;
                    if connection.agent.jobs().await_end() {
                        connection.session.eof_while_handling();
                        // No answer can come.
                        connection.agent.lose_requests();
                    } else {
                        connection.session.eof();
                    }
                    return;
                }
                Ok(Input::Bytes {
                    count,
                    taken,
                    is_short,
                }) => {
                    total += taken;
                    // A short read has emptied the buffer, and what comes later is announced.
                    if is_short && !connection.is_read_closed {
                        connection.is_readable = false;
                    }
                    if connection.session.awaits_owner() && connection.channel.is_ready() {
                        connection.session.open(self.now);
                        self.admit(slot);
                    }
                    let Connection {
                        session, channel, ..
                    } = &mut self.slab[slot];
                    session.set_partial(channel.is_partial());
                    if count > 0 {
                        self.receive(slot, count);
                    } else {
                        session.hear_part(self.now);
                    }
                    if !self.slab[slot].is_readable {
                        return;
                    }
                }
                #[cfg(feature = "tls")]
                Ok(Input::Broken(why)) => {
                    crate::log::debug!("TLS with {} ends: {why}", connection.agent.peer());
                    connection.session.undecipherable(why);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.is_readable = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    connection.is_readable = false;
                    connection.session.failed(self.now);
                    return;
                }
            }
        }
    }

    /// Gives the session the first `count` bytes that were read.
    fn receive(&mut self, slot: u32, count: usize) {
        let connection = &mut self.slab[slot];
        let (core, desk) = (&self.core, &self.desk);
        let agent = &connection.agent;
        let runnable = &mut self.runnable;
        let mut is_full = false;
        let mut at = None;
        let input = &mut self.scratch.clear[..count];
        let codec = connection.session.wire().codec;
        let session = &mut connection.session;
        shortcut::open(agent.address());
        let received = catch_panic(|| {
            session.receive(input, self.now, &mut self.traffic, |envelope| {
                if let Some(re) = envelope.re {
                    let fault = (envelope.name == Fault::NAME)
                        .then(|| codec.split_fault(envelope.body).unwrap_or_default());
                    let answer = fault.map_or_else(|| Ok(envelope.body.to_vec()), Err);
                    agent.answered(re, answer);
                    return;
                }
                let target = match core.program.by_name.get(&*envelope.name) {
                    Some(&route) if core.program.routes[route].is_inline => {
                        // One reading of the clock ends this call and begins the next.
                        let began = at.unwrap_or_else(|| core.hub.clock.now_ns());
                        core.call(agent, route, envelope.body, envelope.id, desk, began);
                        let ended = core.hub.clock.now_ns();
                        if clock::duration(ended.saturating_sub(began)) > SLOW_INLINE {
                            core.hub.stats.lock().slow_inline += 1;
                        }
                        at = Some(ended);
                        return;
                    }
                    Some(&route) => Target::Route(route),
                    // Whether a group knows it is decided in its turn.
                    None => Target::Other(envelope.name.into()),
                };
                let job = Job::Message(target, envelope.body.into(), envelope.id);
                let belongs = |job: &Job, home: &Arc<_>| core.belongs(job, &**home);
                let size = envelope.body.len();
                let pushed = core.pool.push(agent.jobs(), job, size, belongs);
                is_full |= pushed.is_full;
                if let Some(place) = pushed.turn {
                    let (agent, core) = (agent.clone(), core.clone());
                    runnable.push((Seated { agent, core }, place));
                }
            });
        });
        shortcut::close(|frame| {
            // It was counted when it was sent, and is until it is written or discarded.
            connection.charged += frame.len();
            // The report has what is refused as not sent.
            if connection.session.send(frame, self.now).is_err() {
                connection.rare().refused += frame.len() as u64;
            }
        });
        // Code of the program is caught nearer by; this is a codec's.
        if received.is_none() {
            core.hub.stats.lock().panics += 1;
            connection.session.broken();
        }
        if is_full {
            connection.session.pause();
        }
        if let Some(asked) = connection.session.take_asked() {
            self.asked(slot, asked);
        }
    }

    /// Decides about a request that is complete.
    fn asked(&mut self, slot: u32, asked: Asked) {
        let is_draining = self.core.hub.is_draining.load(Ordering::Acquire);
        let answer = match asked {
            Asked::Health => Some(Answer::new(if is_draining { 503 } else { 200 })),
            Asked::Page(request) => {
                if self.count_address(slot, request.client()) {
                    self.push_job(slot, Job::Page(request));
                    None
                } else {
                    Some(Answer::new(429))
                }
            }
            Asked::Upgrade(_) if is_draining => Some(Answer::new(503)),
            Asked::Upgrade(request) => {
                if !self.count_address(slot, request.client()) {
                    Some(Answer::new(429))
                } else if self.core.program.authorize.is_some() {
                    self.push_job(slot, Job::Authorize(request));
                    None
                } else {
                    self.decide(slot, &request, Ok(()));
                    None
                }
            }
        };
        if let Some(answer) = answer {
            self.slab[slot].session.refuse(&answer, self.now);
        }
        self.mark_dirty(slot);
    }

    /// Accepts an upgrade request, or answers with another status.
    pub(super) fn decide(&mut self, slot: u32, request: &Request, decided: Result<(), Answer>) {
        if let Err(answer) = decided {
            self.slab[slot].session.refuse(&answer, self.now);
        } else {
            let session = &mut self.slab[slot].session;
            // A codec that is not of this crate may panic.
            if catch_panic(|| session.accept(request, self.now)).is_none() {
                session.refuse(&Answer::new(500), self.now);
                self.core.hub.stats.lock().panics += 1;
            }
            if self.slab[slot].session.is_open() {
                self.opened(slot);
                // Messages may have come with the request.
                self.receive(slot, 0);
            }
        }
        self.mark_dirty(slot);
    }

    /// Reports a connection that has opened. Nothing was read from it before.
    pub(super) fn opened(&mut self, slot: u32) {
        let core = self.core.clone();
        let connection = &mut self.slab[slot];
        let wire = connection.session.wire();
        core.hub.add_wire(wire);
        connection.agent.open(wire);
        connection.stage = Stage::Open;
        connection.was_reported = true;
        let agent = connection.agent.clone();
        core.agents.lock().insert(agent.id(), agent);
        let mut stats = core.hub.stats.lock();
        stats.handshaking -= 1;
        stats.open += 1;
        if core.program.opened.is_some() {
            drop(stats);
            self.push_job(slot, Job::Opened);
        } else {
            // Saves a change of threads for each connection.
            stats.opened_reports += 1;
            stats.reported += 1;
        }
    }

    /// Lets a job run on the strand of a connection.
    fn push_job(&mut self, slot: u32, job: Job) {
        let agent = self.slab[slot].agent.clone();
        self.push_job_of(agent, job);
    }

    /// Lets a job run on the strand of `agent`.
    fn push_job_of(&mut self, agent: Agent<C, T>, job: Job) {
        let core = self.core.clone();
        let belongs = |job: &Job, home: &Arc<dyn Delegate<C, T>>| core.belongs(job, &**home);
        let pushed = core.pool.push(agent.jobs(), job, 0, belongs);
        if pushed.is_full
            && let Some(slot) = self.find(agent.place())
        {
            self.slab[slot].session.pause();
        }
        if let Some(place) = pushed.turn {
            self.runnable.push((Seated { agent, core }, place));
        }
    }

    /// Counts the connection for its address. Returns whether the limit allows it.
    pub(super) fn count_address(&mut self, slot: u32, address: IpAddr) -> bool {
        let Some(limit) = self.limits.per_ip else {
            return true;
        };
        // A listener of IPv6 reports peers of IPv4 in another form than proxies do.
        let address = address.to_canonical();
        let mut addresses = self.core.hub.addresses.lock();
        let count = addresses.entry(address).or_default();
        if *count >= limit {
            return false;
        }
        *count += 1;
        self.slab[slot].rare().address = Some(address);
        true
    }

    /// Adds the traffic of this round to the statistics.
    pub(super) fn publish_traffic(&mut self) {
        let traffic = std::mem::take(&mut self.traffic);
        if traffic != Traffic::default() {
            let mut stats = self.core.hub.stats.lock();
            stats.received += traffic.received;
            stats.sent += traffic.sent;
            stats.bytes_in += traffic.bytes_in;
            stats.bytes_out += traffic.bytes_out;
        }
    }

    /// Writes, and draws the conclusions, for the connections that have changed.
    pub(super) fn settle_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let Some(connection) = self.slab.get_mut(slot) else {
                continue;
            };
            connection.is_dirty = false;
            self.has_room |= self.settle(slot);
        }
        if std::mem::take(&mut self.has_room) {
            self.core.hub.announce_room();
        }
    }

    /// Writes what waits, and draws the conclusions. Returns whether there has become room.
    fn settle(&mut self, slot: u32) -> bool {
        let now = self.now;
        let connection = &mut self.slab[slot];
        connection.session.conclude(now);
        connection.flush(now, &mut self.traffic);
        let step = connection.session.step();
        if step == Step::ShutdownWrite {
            connection.channel.end();
        }
        let is_ending = connection.session.cause().is_some() && connection.stage != Stage::Closing;
        if is_ending {
            let mut stats = self.core.hub.stats.lock();
            match connection.stage {
                Stage::Open => stats.open -= 1,
                _ => stats.handshaking -= 1,
            }
            stats.closing += 1;
            drop(stats);
            connection.stage = Stage::Closing;
            connection.agent.shut();
            connection.agent.lose_requests();
        }
        let has_room = connection.recount();
        let rtt = connection.session.rtt();
        connection
            .agent
            .set_heard(connection.session.last_heard(), rtt);
        self.watch.update(slot, &mut connection.session, now);
        if step == Step::Close {
            self.remove(slot);
            return true;
        }
        if connection.is_readable && connection.session.wants_read() {
            self.mark_ready(slot);
        }
        // A sender that waits for room learns that there will be none.
        has_room || is_ending
    }

    /// Removes a connection that has ended, and reports its end.
    fn remove(&mut self, slot: u32) {
        let Some(mut connection) = self.slab.remove(slot) else {
            return;
        };
        if connection.channel.is_secure() {
            connection.channel.end();
        }
        // It is closed in any case.
        let stream = &mut connection.channel.stream;
        let _ = self.poll.registry().deregister(stream);
        let Connection {
            session,
            agent,
            was_reported,
            charged,
            rare,
            ..
        } = *connection;
        let Rare {
            refused, address, ..
        } = rare.map_or_else(Rare::default, |rare| *rare);
        let hub = self.core.hub.clone();
        hub.loads[self.index].fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = address {
            let mut addresses = hub.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
        let closed = session.closed();
        let mut stats = hub.stats.lock();
        stats.closing -= 1;
        if was_reported {
            stats.closed += 1;
        } else {
            stats.refused += 1;
        }
        if let Some(closed) = &closed {
            stats.causes[closed.cause as usize] += 1;
            if closed.cause == Cause::Silence {
                stats.silence.record(clock::nanos(closed.late));
            }
        }
        if let Some(rtt) = session.rtt() {
            stats.rtt.record(clock::nanos(rtt));
        }
        drop(stats);
        agent.recount(charged, 0);
        if was_reported && let Some(mut closed) = closed {
            closed.unsent += refused;
            crate::log::debug!("agent {} has ended: {closed}", agent.id());
            self.push_job_of(agent, Job::Closed(Box::new(closed)));
        }
    }
}
