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

use std::time::Duration;

/// Long enough for any machine to do anything that is done at once.
const GENEROUS: Duration = Duration::from_secs(20);

/// A small generator (Marsaglia's xorshift64), so that a failure comes again.
fn numbers(mut x: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    }
}
