//! Watching keys: when they expire, what is reported of them, and what is counted.
//!
//! The tests that count the allocations of a process are binaries of their own: `accounted` and `allocation`.

#[path = "../support/held.rs"]
mod held;
#[path = "../support/round.rs"]
mod round;

mod accounting;
mod expiry;
mod hearts;
mod limits;
mod local;
mod memory;
mod modes;
mod order;
mod prompt;
mod removal;
mod smoke;
mod stall;
