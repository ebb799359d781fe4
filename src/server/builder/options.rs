//! The options of a server.

use std::time::Duration;

use super::super::codec::Codec;
use super::super::framing::Framing;
use super::super::http::{Network, Origins};
use super::super::keepalive::Keepalive;
use super::super::limits::{Overflow, Rate};
use super::super::strand::Room;
use super::ServerBuilder;

impl<C: Codec, T: Send + Sync + 'static> ServerBuilder<C, T> {
    /// Sets how messages on TCP are delimited. Default: [`Framing::U16`]. [`Framing::Lines`] is an error for a codec
    /// that is not text.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Accepts WebSocket connections on this path, and on others that are set by further calls. Default: on any path. A
    /// path that does not begin with a slash is an error.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.policy.paths.push(path.into());
        self
    }

    /// Sets the pages from which browsers may connect. Default: [`Origins::Same`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.policy.origins = origins;
        self
    }

    /// Sets the proxies whose `X-Forwarded-For` is believed. Default: none.
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.policy.trusted_proxies = proxies.into_iter().collect();
        self
    }

    /// Sets when silent connections are pinged and dropped. Default: after 25 and 45 seconds.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets the number of threads that own connections, from 1 to 64. Default: half the cores, at most 8.
    pub fn reactors(mut self, threads: usize) -> Self {
        self.reactors = threads;
        self
    }

    /// Sets the number of threads that run handlers, from 1 to 512. Default: twice the cores, at least 4.
    pub fn handlers(mut self, threads: usize) -> Self {
        self.handlers = threads;
        self
    }

    /// Sets the most connections, from 1 to 2^20. Default: 20,000. Further ones are answered with status 503, or closed
    /// on TCP.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections.max_connections = connections;
        self
    }

    /// Sets the most connections whose handshake is going on. Default: 1,024. Zero is an error.
    pub fn max_handshaking(mut self, connections: usize) -> Self {
        self.connections.max_handshaking = connections;
        self
    }

    /// Sets the most connections of one address. Default: no limit. Further ones are answered with status 429, or
    /// closed on TCP. Zero is an error.
    pub fn max_per_ip(mut self, connections: usize) -> Self {
        self.connections.per_ip = Some(connections);
        self
    }

    /// Sets the longest message in bytes, from 1 to 16 MiB. Default: 64 KiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.max_message = bytes;
        self
    }

    /// Sets the longest upgrade request in bytes, from 1 KiB to 64 KiB. Default: 8 KiB. A longer one, or one with more
    /// than 64 headers, is answered with status 431.
    pub fn max_header(mut self, bytes: usize) -> Self {
        self.limits.max_header = bytes;
        self
    }

    /// Sets whether small writes are sent at once, with `TCP_NODELAY`. Default: yes. Without it, the operating system
    /// may hold a message back for some 40 ms to send it with the next one.
    pub fn nodelay(mut self, is_on: bool) -> Self {
        self.connections.nodelay = is_on;
        self
    }

    /// Sets how long a handshake may take in all. Default: 5 seconds. Zero is an error.
    pub fn handshake_within(mut self, duration: Duration) -> Self {
        self.limits.handshake_within = duration;
        self
    }

    /// Sets how long a message may be incomplete. Default: 30 seconds. Zero is an error.
    pub fn message_within(mut self, duration: Duration) -> Self {
        self.limits.message_within = duration;
        self
    }

    /// Sets how long a peer may accept no byte of what waits for it. Default: 20 seconds. Zero is an error.
    pub fn write_within(mut self, duration: Duration) -> Self {
        self.limits.write_within = duration;
        self
    }

    /// Sets how long a peer may take to answer a close, and how long handlers may take to answer a peer on TCP that has
    /// ended its direction. Default: 5 seconds. Zero is an error.
    pub fn close_within(mut self, duration: Duration) -> Self {
        self.limits.close_within = duration;
        self
    }

    /// Sets how many messages and bytes of one connection may wait to be handled before its socket is no longer read.
    /// Default: 64 and 256 KiB. What was read at once, at most 64 KiB, may exceed it. Zero is an error.
    ///
    /// The bytes are at most an eighth of [`outbound`](ServerBuilder::outbound), so that answers as long as their
    /// messages do not exceed that limit, however many messages a peer sends before it reads.
    pub fn inbound(mut self, messages: usize, bytes: usize) -> Self {
        self.room = Room {
            jobs: messages,
            bytes,
        };
        self
    }

    /// Sets how many bytes may wait to be sent to one connection, at least `max_message`. Default: 256 KiB.
    pub fn outbound(mut self, bytes: usize) -> Self {
        self.limits.outbound = bytes;
        self
    }

    /// Sets what happens beyond [`outbound`](ServerBuilder::outbound). Default: [`Overflow::Close`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Sets how many bytes may wait to be sent to all connections together, at least `outbound`. As many may wait to be
    /// handled; beyond that, no socket is read until there are fewer. Default: 256 MiB.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// Sets how many messages a peer may send. Default: no limit. See [`Rate`].
    pub fn rate(mut self, rate: Rate) -> Self {
        self.limits.rate = Some(rate);
        self
    }

    /// Sets for how long the code of a route may run before [`on_stall`](ServerBuilder::on_stall) is called. Default: 1
    /// second. Zero is an error.
    pub fn stall_after(mut self, duration: Duration) -> Self {
        self.stall_after = duration;
        self
    }

    /// Sets what the names of the threads begin with. Default: `server`.
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name = prefix.into();
        self
    }
}
