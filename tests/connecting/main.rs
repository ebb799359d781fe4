//! Clients on real sockets.

#[path = "../support/alone.rs"]
mod alone;
mod kit;

mod basics;
mod callbacks;
mod finals;
mod herd;
mod options;
mod requests;
mod restarts;
mod verdict;
