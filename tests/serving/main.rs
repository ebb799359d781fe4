//! Servers on real sockets.

mod kit;

mod bad_input;
mod bounds;
mod delegating;
mod echo;
mod ends;
mod hotpot;
mod limits;
mod pages;
mod silence;
mod slow;
mod stopping;
#[cfg(feature = "tls")]
mod tls;
mod upgrading;
mod user_code;
