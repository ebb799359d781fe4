//! The sockets of a server and what waits for them: those of `mio`, or pipes in memory in models of schedules.
//!
//! Only this module selects between them, as [`sync`](crate::sync) does for locks and threads.

#[cfg(all(test, shuttle))]
mod explored;

#[cfg(all(test, shuttle))]
pub(crate) use explored::{
    Events, Interest, Peer, Poll, Registry, TcpListener, TcpStream, Token, Waker,
};
#[cfg(not(all(test, shuttle)))]
pub(crate) use mio::{
    Events, Interest, Poll, Registry, Token, Waker,
    net::{TcpListener, TcpStream},
};
