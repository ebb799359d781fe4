//! Servers on real sockets.

mod kit;

mod echo;
mod ends;
mod limits;
mod silence;
mod stopping;
