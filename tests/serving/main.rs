//! Servers on real sockets.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
mod alone;
#[cfg(feature = "tls")]
#[path = "../support/authority.rs"]
mod authority;
mod kit;

mod bad_input;
mod bounds;
mod delegating;
mod echo;
mod ends;
mod half_closed;
mod hotpot;
#[cfg(target_os = "linux")]
mod idle;
mod limits;
mod pages;
#[cfg(target_os = "linux")]
mod processes;
mod requests;
mod silence;
mod slow;
mod stalls;
mod stopping;
#[cfg(feature = "tls")]
mod tls;
mod upgrading;
mod user_code;
