//! What must not go wrong, whatever callers, callbacks, keys and sinks do.

#[path = "../support/held.rs"]
mod held;
#[path = "../support/in_time.rs"]
mod in_time;
#[path = "../support/round.rs"]
mod round;

mod backpressure;
mod faults;
mod hostile;
mod panics;
mod reentrancy;
mod shutdown;
