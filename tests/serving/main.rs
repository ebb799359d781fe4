//! Servers on real sockets.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
mod alone;
mod kit;

mod bad_input;
mod bounds;
mod delegating;
mod echo;
mod ends;
mod hotpot;
mod limits;
mod pages;
#[cfg(target_os = "linux")]
mod processes;
mod silence;
mod slow;
mod stopping;
#[cfg(feature = "tls")]
mod tls;
mod upgrading;
mod user_code;
