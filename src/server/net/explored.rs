//! Sockets that are pipes in memory, with the readiness of `mio`: each change is reported once. A model has the other
//! end. No sleep ends by its timeout, because time stands still in the models.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, thread};

/// What a source is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) usize);

/// What a source is registered for; always everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest;

impl Interest {
    pub(crate) const READABLE: Interest = Interest;
    pub(crate) const WRITABLE: Interest = Interest;
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, _: Interest) -> Interest {
        Interest
    }
}

/// A change of a socket.
#[derive(Debug)]
pub(crate) struct Event {
    token: Token,
    is_read_closed: bool,
}

impl Event {
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn is_readable(&self) -> bool {
        true
    }

    pub(crate) fn is_writable(&self) -> bool {
        true
    }

    pub(crate) fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    pub(crate) fn is_error(&self) -> bool {
        false
    }
}

/// What a sleep reports.
#[derive(Debug)]
pub(crate) struct Events(Vec<Event>);

impl Events {
    pub(crate) fn with_capacity(_: usize) -> Self {
        Events(Vec::new())
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What waits for a sleeper.
#[derive(Debug, Default)]
struct Selector {
    /// The changes, and whether there was a wake-up.
    state: Mutex<(Vec<Event>, bool)>,
    /// Notified of either.
    changed: Condvar,
}

impl Selector {
    fn report(&self, event: Option<Event>) {
        let mut state = self.state.lock();
        state.1 |= event.is_none();
        state.0.extend(event);
        drop(state);
        self.changed.notify_one();
    }
}

/// Where sources are registered.
#[derive(Debug)]
pub(crate) struct Registry(Arc<Selector>);

impl Registry {
    pub(crate) fn register<S: Source>(
        &self,
        source: &mut S,
        token: Token,
        _: Interest,
    ) -> io::Result<()> {
        source.register(&self.0, token);
        Ok(())
    }

    pub(crate) fn deregister<S: Source>(&self, source: &mut S) -> io::Result<()> {
        source.deregister();
        Ok(())
    }
}

/// The sleep of a reactor.
#[derive(Debug)]
pub(crate) struct Poll(Registry);

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poll(Registry(Arc::default())))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0
    }

    pub(crate) fn poll(&mut self, events: &mut Events, wait: Option<Duration>) -> io::Result<()> {
        let Selector { state, changed } = &*self.0.0;
        let mut state = state.lock();
        while wait != Some(Duration::ZERO) && state.0.is_empty() && !state.1 {
            changed.wait(&mut state);
        }
        state.1 = false;
        events.0 = std::mem::take(&mut state.0);
        drop(state);
        thread::yield_now();
        Ok(())
    }
}

/// Ends a sleep.
#[derive(Debug)]
pub(crate) struct Waker(Arc<Selector>);

impl Waker {
    pub(crate) fn new(registry: &Registry, _: Token) -> io::Result<Self> {
        Ok(Waker(registry.0.clone()))
    }

    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.report(None);
        Ok(())
    }
}

/// What can be registered.
pub(crate) trait Source {
    fn register(&mut self, selector: &Arc<Selector>, token: Token);
    fn deregister(&mut self);
}

/// Both directions of a connection.
#[derive(Debug, Default)]
struct Pipe {
    /// What the peer has written and the server has not read.
    input: Vec<u8>,
    /// Whether the peer has ended its direction.
    is_closed: bool,
    /// Whether the peer has reset the connection.
    is_reset: bool,
    /// What the server has written.
    output: Vec<u8>,
    /// How much more it can write.
    room: usize,
    /// Whether the server has ended its direction or the connection.
    is_over: bool,
    /// Where changes are reported.
    registered: Option<(Arc<Selector>, Token)>,
}

/// The server's end of a connection.
#[derive(Debug)]
pub(crate) struct TcpStream(Arc<Mutex<Pipe>>);

impl TcpStream {
    /// Creates a connection on which the server can write `room` bytes for now.
    pub(crate) fn pair(room: usize) -> (TcpStream, Peer) {
        let pipe = Pipe {
            room,
            ..Pipe::default()
        };
        let pipe = Arc::new(Mutex::new(pipe));
        (TcpStream(pipe.clone()), Peer(pipe))
    }

    pub(crate) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        self.0.lock().is_over = true;
        Ok(())
    }
}

impl Source for TcpStream {
    fn register(&mut self, selector: &Arc<Selector>, token: Token) {
        let mut pipe = self.0.lock();
        pipe.registered = Some((selector.clone(), token));
        let is_read_closed = pipe.is_closed || pipe.is_reset;
        drop(pipe);
        selector.report(Some(Event {
            token,
            is_read_closed,
        }));
    }

    fn deregister(&mut self) {
        self.0.lock().registered = None;
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.lock();
        if pipe.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if pipe.input.is_empty() {
            return if pipe.is_closed {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let count = buffer.len().min(pipe.input.len());
        buffer[..count].copy_from_slice(&pipe.input[..count]);
        pipe.input.drain(..count);
        Ok(count)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.lock();
        if pipe.is_reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = buffer.len().min(pipe.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.room -= count;
        pipe.output.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut pipe = self.0.lock();
        pipe.is_over = true;
        pipe.registered = None;
    }
}

/// The other end, for a model.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<Mutex<Pipe>>);

impl Peer {
    /// Changes the connection, and reports that.
    fn change(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.0.lock();
        change(&mut pipe);
        let is_read_closed = pipe.is_closed || pipe.is_reset;
        let registered = pipe.registered.clone();
        drop(pipe);
        if let Some((selector, token)) = registered {
            selector.report(Some(Event {
                token,
                is_read_closed,
            }));
        }
    }

    /// Sends `bytes`.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.change(|pipe| pipe.input.extend_from_slice(bytes));
    }

    /// Ends this direction.
    pub(crate) fn close(&self) {
        self.change(|pipe| pipe.is_closed = true);
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        self.change(|pipe| pipe.is_reset = true);
    }

    /// Lets the server write `bytes` more.
    pub(crate) fn take(&self, bytes: usize) {
        self.change(|pipe| pipe.room += bytes);
    }

    /// Returns whether the server has ended the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().is_over
    }

    /// Returns how many bytes the server has not read.
    pub(crate) fn unread(&self) -> usize {
        self.0.lock().input.len()
    }

    /// Returns what the server has written.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.0.lock().output.clone()
    }
}

/// What waits at a listener.
#[derive(Debug, Default)]
struct Queue {
    /// The connections that were not accepted.
    waiting: VecDeque<TcpStream>,
    /// Whether the listener is closed.
    is_closed: bool,
    /// Where arrivals are reported.
    registered: Option<(Arc<Selector>, Token)>,
}

/// A listener, at which connections arrive through a [`Door`].
#[derive(Debug)]
pub(crate) struct TcpListener(Arc<Mutex<Queue>>);

impl TcpListener {
    /// Returns a listener at which no connection arrives.
    pub(crate) fn from_std(_: std::net::TcpListener) -> Self {
        Door::default().listener()
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the interface of `mio`'s"
    )]
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([192, 0, 2, 1], 7_000)))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = self.0.lock().waiting.pop_front();
        let stream = stream.ok_or(ErrorKind::WouldBlock)?;
        Ok((stream, SocketAddr::from(([192, 0, 2, 2], 50_000))))
    }
}

impl Source for TcpListener {
    fn register(&mut self, selector: &Arc<Selector>, token: Token) {
        let mut queue = self.0.lock();
        queue.registered = Some((selector.clone(), token));
        drop(queue);
        selector.report(Some(Event {
            token,
            is_read_closed: false,
        }));
    }

    fn deregister(&mut self) {
        self.0.lock().registered = None;
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        // As in the system, they end with the listener.
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
    }
}

/// The way to a listener, for a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door(Arc<Mutex<Queue>>);

impl Door {
    /// Returns the listener.
    pub(crate) fn listener(&self) -> TcpListener {
        TcpListener(self.0.clone())
    }

    /// Connects, with room for `bytes` on the way back. Returns `None` if the listener is closed.
    pub(crate) fn enter(&self, bytes: usize) -> Option<Peer> {
        let (stream, peer) = TcpStream::pair(bytes);
        let mut queue = self.0.lock();
        if queue.is_closed {
            return None;
        }
        queue.waiting.push_back(stream);
        let registered = queue.registered.clone();
        drop(queue);
        if let Some((selector, token)) = registered {
            selector.report(Some(Event {
                token,
                is_read_closed: false,
            }));
        }
        Some(peer)
    }
}
