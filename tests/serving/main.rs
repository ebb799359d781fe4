//! Servers on real sockets.

mod kit;

mod bounds;
mod delegating;
mod echo;
mod ends;
mod limits;
mod pages;
mod silence;
mod slow;
mod stopping;
