//! Clients: many connections on one thread.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::wire::Wire;
use peers::Failure;

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(20);

/// How many bytes are read at once.
const READ: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The socket.
    stream: TcpStream,
    /// What could not be written yet.
    rest: Vec<u8>,
    /// Whether the server has ended it.
    is_over: bool,
    /// The answer to the hello so far; `None` once it is complete.
    welcome: Option<Vec<u8>>,
    /// When it was begun.
    began: Instant,
}

impl Peer {
    /// Writes `bytes`, or keeps what the socket does not take now.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            return;
        }
        match self.stream.write(bytes) {
            Ok(count) => self.rest.extend_from_slice(&bytes[count..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.rest.extend_from_slice(bytes);
            }
            // The next read shows why.
            Err(_) => self.is_over = true,
        }
    }

    /// Writes what could not be written before.
    fn flush(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.write(&rest);
        }
    }
}

/// What has come.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// The end.
    End,
}

/// Many connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// What the thread waits with.
    poll: Poll,
    /// What has happened.
    events: Events,
    /// The connections.
    pub(crate) peers: Vec<Peer>,
    /// Where input is read to.
    scratch: Box<[u8]>,
}

/// How long connecting took.
#[derive(Debug)]
pub(crate) struct Connected {
    /// All of it.
    pub(crate) whole: Duration,
    /// Each, in milliseconds, in ascending order.
    pub(crate) millis: Vec<f64>,
}

impl Crowd {
    /// Opens `count` connections, at most `at_once` at the same time, and waits until each was accepted by the server.
    pub(crate) fn connect(
        address: SocketAddr,
        wire: Wire,
        count: usize,
        at_once: usize,
    ) -> Result<(Self, Connected), Failure> {
        let mut crowd = Crowd {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            peers: Vec::with_capacity(count),
            scratch: vec![0; READ].into(),
        };
        let hello = wire.hello();
        let began = Instant::now();
        let mut millis = Vec::with_capacity(count);
        let mut wrong = None;
        while millis.len() < count {
            while crowd.peers.len() < count.min(millis.len() + at_once) {
                crowd.open(address, &hello)?;
            }
            crowd.turn(Duration::from_secs(1), |_, peer, input| {
                let Input::Bytes(bytes) = input else {
                    wrong = Some("a connection was refused".to_owned());
                    return;
                };
                let Some(welcome) = &mut peer.welcome else {
                    return;
                };
                welcome.extend_from_slice(bytes);
                match wire.is_welcome(welcome) {
                    Ok(false) => {}
                    Ok(true) => {
                        peer.welcome = None;
                        millis.push(peer.began.elapsed().as_secs_f64() * 1e3);
                    }
                    Err(error) => wrong = Some(error),
                }
            })?;
            if let Some(wrong) = wrong {
                return Err(wrong.into());
            }
            if began.elapsed() > LONGEST {
                return Err(format!("{} of {count} were accepted", millis.len()).into());
            }
        }
        let whole = began.elapsed();
        millis.sort_unstable_by(f64::total_cmp);
        Ok((crowd, Connected { whole, millis }))
    }

    /// Opens a connection.
    fn open(&mut self, address: SocketAddr, hello: &[u8]) -> Result<(), Failure> {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        // What is closed by this side is reset, so that its port can be used again at once.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        stream.set_nodelay(true)?;
        let token = Token(self.peers.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, token, interest)?;
        let mut peer = Peer {
            stream,
            // Written when the connection is there.
            rest: hello.to_vec(),
            is_over: false,
            welcome: Some(Vec::new()),
            began,
        };
        peer.rest.shrink_to_fit();
        self.peers.push(peer);
        Ok(())
    }

    /// Waits for at most `within`, and gives what has come to `take`, with the number of the connection.
    pub(crate) fn turn(
        &mut self,
        within: Duration,
        mut take: impl FnMut(usize, &mut Peer, Input<'_>),
    ) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(within))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &self.events {
            let Token(index) = event.token();
            let peer = &mut self.peers[index];
            if event.is_writable() {
                peer.flush();
            }
            if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
                continue;
            }
            while !peer.is_over {
                match peer.stream.read(&mut self.scratch) {
                    Ok(0) => {
                        peer.is_over = true;
                        take(index, peer, Input::End);
                    }
                    Ok(count) => {
                        take(index, peer, Input::Bytes(&self.scratch[..count]));
                        // A short read has emptied the buffer; what comes later is announced.
                        if count < READ && !event.is_read_closed() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => {
                        peer.is_over = true;
                        take(index, peer, Input::End);
                    }
                }
            }
        }
        Ok(())
    }
}
