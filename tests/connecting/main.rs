//! Clients on real sockets.

#[path = "../support/alone.rs"]
mod alone;
#[cfg(feature = "tls")]
#[path = "../support/authority.rs"]
mod authority;
mod kit;

mod basics;
mod callbacks;
mod finals;
mod herd;
mod options;
mod requests;
mod restarts;
#[cfg(feature = "tls")]
mod tls;
mod verdict;
