//! The listeners, and what is accepted.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::super::channel::{Channel, Layer};
use super::super::hub::Port;
use super::super::net::{Interest, Registry, TcpListener, Token};

/// How many connections wait to be accepted: with the usual 128, a burst waits a second for its next attempt.
const BACKLOG: i32 = 4_096;

/// The shortest and the longest pause of accepting when there is no descriptor left.
pub(super) const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// A listener.
pub(crate) struct Listener {
    /// The socket.
    socket: TcpListener,
    /// How messages are framed.
    port: Port,
    /// What connections are put under.
    layer: Layer,
    /// Whether connections may wait.
    is_pending: bool,
}

impl Listener {
    /// Listens on `address`.
    pub(crate) fn bind(address: SocketAddr, port: Port, layer: Layer) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // On Windows the option would let two programs share the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        Ok(Listener {
            socket: TcpListener::from_std(socket.into()),
            port,
            layer,
            is_pending: false,
        })
    }

    /// Returns the address.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// The listeners of a reactor.
pub(super) struct Listeners {
    /// The listeners.
    all: Vec<Listener>,
    /// When accepting goes on after there was no descriptor.
    pub(super) again_at: Option<Instant>,
    /// How long the next pause is.
    pub(super) pause: Duration,
}

impl Listeners {
    /// Registers `all`, with tokens from `first` downwards.
    pub(super) fn new(
        mut all: Vec<Listener>,
        registry: &Registry,
        first: usize,
    ) -> io::Result<Self> {
        for (index, listener) in all.iter_mut().enumerate() {
            let token = Token(first - index);
            registry.register(&mut listener.socket, token, Interest::READABLE)?;
        }
        Ok(Listeners {
            all,
            again_at: None,
            pause: PAUSES[0],
        })
    }

    /// Records that connections wait at the listener `index`.
    pub(super) fn mark(&mut self, index: usize) {
        if let Some(listener) = self.all.get_mut(index) {
            listener.is_pending = true;
        }
    }

    /// Returns the number of listeners.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns whether a round can accept something.
    pub(super) fn is_pending(&self) -> bool {
        self.again_at.is_none() && self.all.iter().any(|listener| listener.is_pending)
    }

    /// Returns when accepting goes on.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Closes the listeners.
    pub(super) fn close(&mut self, registry: &Registry) {
        for mut listener in self.all.drain(..) {
            // It is closed in any case.
            let _ = registry.deregister(&mut listener.socket);
        }
        self.again_at = None;
    }

    /// Accepts a connection; `None` if none waits.
    pub(super) fn next(&mut self) -> Option<io::Result<(Channel, SocketAddr, Port)>> {
        let listener = self.all.iter_mut().find(|listener| listener.is_pending)?;
        match listener.socket.accept() {
            Ok((stream, peer)) => Some(Ok((listener.layer.wrap(stream), peer, listener.port))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.is_pending = false;
                self.next()
            }
            Err(error) => Some(Err(error)),
        }
    }
}
