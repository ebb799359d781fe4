//! Accepting connections.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::agent::{Agent, Transport};
use super::super::channel::Channel;
use super::super::close::Cause;
use super::super::codec::Codec;
use super::super::http::Answer;
use super::super::hub::{Command, Port};
use super::super::net::{Interest, Token};
use super::super::session::Session;
use super::Reactor;
use super::connections::Connection;
use super::listeners::PAUSES;

/// The most connections that a round accepts.
const MAX_ACCEPTS: usize = 64;

impl<C: Codec, T: Send + Sync + 'static> Reactor<C, T> {
    /// Accepts connections, and gives each to the reactor with the fewest.
    pub(super) fn accept(&mut self) {
        if let Some(again) = self.listeners.again_at {
            if Instant::now() < again {
                return;
            }
            self.listeners.again_at = None;
        }
        for _ in 0..MAX_ACCEPTS {
            match self.listeners.next() {
                None => return,
                Some(Ok((channel, peer, port))) => {
                    self.listeners.pause = PAUSES[0];
                    self.accepted(channel, peer, port);
                }
                // The peer has gone in between, or a signal came.
                Some(Err(error)) if is_about_one(&error) => {}
                Some(Err(error)) => {
                    crate::log::warn!("accepting pauses: {error}");
                    // No descriptor is left. The listener reports nothing again, so it is tried again.
                    self.listeners.again_at = Some(Instant::now() + self.listeners.pause);
                    self.listeners.pause = (self.listeners.pause * 2).min(PAUSES[1]);
                    self.core.hub.stats.lock().accept_pauses += 1;
                    return;
                }
            }
        }
    }

    /// Gives an accepted connection to a reactor, or refuses it.
    fn accepted(&mut self, mut channel: Channel, peer: SocketAddr, port: Port) {
        let hub = self.core.hub.clone();
        let mut stats = hub.stats.lock();
        stats.accepted += 1;
        let all = (stats.handshaking + stats.open + stats.closing) as usize;
        let has_handshake = port == Port::WebSocket || channel.is_secure();
        let is_full = all >= self.limits.max_connections
            || has_handshake && stats.handshaking as usize >= self.limits.max_handshaking
            || hub.is_draining.load(Ordering::Acquire) && port != Port::WebSocket;
        if is_full {
            stats.refused += 1;
            drop(stats);
            if port == Port::WebSocket && !channel.is_secure() {
                // Best effort: an empty buffer takes it.
                let _ = channel.stream.write(&Answer::new(503).to_bytes(false));
                channel.end();
            }
            return;
        }
        stats.handshaking += 1;
        drop(stats);
        let loads = hub.loads.iter().enumerate();
        let least = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        let index = least.map_or(self.index, |(index, _)| index);
        hub.loads[index].fetch_add(1, Ordering::Relaxed);
        if index == self.index {
            self.adopt(channel, peer, port);
        } else if hub.inboxes[index]
            .push(Command::Adopt(channel, peer, port))
            .is_err()
        {
            let mut stats = hub.stats.lock();
            stats.handshaking -= 1;
            stats.refused += 1;
        }
    }

    /// Takes a connection.
    pub(super) fn adopt(&mut self, mut channel: Channel, peer: SocketAddr, port: Port) {
        let hub = self.core.hub.clone();
        let place = self.slab.next_place(self.index as u32);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(place.slot as usize);
        // An option that the system does not grant costs only time.
        let stream = &mut channel.stream;
        let _ = stream.set_nodelay(self.limits.nodelay);
        let registered = self.poll.registry().register(stream, token, interest);
        if registered.is_err() {
            let mut stats = hub.stats.lock();
            stats.handshaking -= 1;
            stats.refused += 1;
            drop(stats);
            hub.loads[self.index].fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let codec = C::default();
        let (session, transport) = match port {
            Port::Tcp(framing) if channel.is_secure() => {
                let session =
                    Session::tcp_after_handshake(&self.settings, framing, codec, self.now);
                (session, Transport::Tcp)
            }
            Port::Tcp(framing) => {
                let session = Session::tcp(&self.settings, framing, codec, self.now);
                (session, Transport::Tcp)
            }
            Port::WebSocket => {
                let session = Session::websocket(&self.settings, codec, peer, self.now);
                (session, Transport::WebSocket)
            }
        };
        let first_data = self.core.program.first_data;
        let agent = Agent::new(hub.clone(), place, peer, transport, first_data);
        self.slab.insert(Connection::new(session, channel, agent));
        let slot = place.slot;
        if self.slab[slot].session.is_open() {
            self.admit(slot);
        }
        if self.ending.is_some() {
            let now = self.now;
            self.slab[slot]
                .session
                .close(Cause::Shutdown, None, String::new(), now);
        }
        self.mark_dirty(slot);
    }

    /// Reports a TCP connection that has opened, or closes it because of the limit of its address.
    pub(super) fn admit(&mut self, slot: u32) {
        let address = self.slab[slot].agent.peer().ip();
        if self.count_address(slot, address) {
            self.opened(slot);
            return;
        }
        let why = "too many connections".to_owned();
        let session = &mut self.slab[slot].session;
        session.close(Cause::Refused, Some(1013), why, self.now);
    }
}

/// Returns whether the error concerns one connection, so that the next one can be accepted at once.
fn is_about_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
