//! The sockets of a server and what waits for them: those of `mio`, or pipes in memory in models of schedules.
//!
//! Only this module selects between them, as [`sync`](crate::sync) does for locks and threads.

#[cfg(all(test, shuttle))]
mod explored;

#[cfg(all(test, shuttle))]
pub(crate) use explored::{
    Door, Events, Interest, Peer, Poll, Registry, TcpListener, TcpStream, Token, Waker,
};
#[cfg(not(all(test, shuttle)))]
pub(crate) use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    net::{TcpListener, TcpStream},
};

/// What a read from a socket, plain or under TLS, yielded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes.
    Bytes {
        /// How many the session is given, from the start of the scratch buffer; may be zero under TLS.
        count: usize,
        /// How many the socket yielded.
        taken: usize,
        /// Whether the socket is now empty.
        is_short: bool,
    },
    /// The end of the peer's direction.
    End,
    /// The peer broke the rules of TLS, in this way.
    #[cfg(feature = "tls")]
    Broken(String),
}
