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

    /// Returns a plain listener of a model.
    #[cfg(all(test, shuttle))]
    pub(crate) fn of(socket: TcpListener, port: Port) -> Self {
        Listener {
            socket,
            port,
            layer: Layer::default(),
            is_pending: false,
        }
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
    /// The index of the one that is looked at first, so that none waits for another one that is flooded.
    first: usize,
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
            first: 0,
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

    /// Accepts a connection of the listener whose turn it is; `None` if none waits.
    pub(super) fn next(&mut self) -> Option<io::Result<(Channel, SocketAddr, Port)>> {
        let count = self.all.len();
        let mut turns = (0..count).map(|turn| (self.first + turn) % count);
        let index = turns.find(|&index| self.all[index].is_pending)?;
        self.first = index + 1;
        let listener = &mut self.all[index];
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::net::TcpStream;

    use super::super::super::framing::Framing;
    use super::super::super::net::Poll;
    use super::*;

    #[test]
    fn listeners_take_turns() {
        let ports = [Port::Tcp(Framing::U16), Port::WebSocket, Port::WebSocket];
        let all = ports.map(|port| {
            let address = ([127, 0, 0, 1], 0).into();
            Listener::bind(address, port, Layer::default()).unwrap()
        });
        let addresses = all.each_ref().map(|it| it.local_addr().unwrap());
        let poll = Poll::new().unwrap();
        let mut listeners = Listeners::new(all.into(), poll.registry(), 9).unwrap();
        // A flood on the first one, and one connection on each of the others.
        let order = [0, 0, 0, 0, 1, 2];
        let _peers = order.map(|at| TcpStream::connect(addresses[at]).unwrap());
        for index in 0..3 {
            listeners.mark(index);
        }
        let mut turns = Vec::new();
        while let Some(accepted) = listeners.next() {
            let (channel, _, _) = accepted.unwrap();
            let at = channel.stream.local_addr().unwrap();
            turns.extend(addresses.iter().position(|it| *it == at));
        }
        assert_eq!(turns, [0, 1, 2, 0, 0, 0]);
    }
}
