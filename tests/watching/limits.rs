//! Extremes: options out of range, a maximum of keys, the shortest and longest timeouts, clocks old and backwards.

mod key_limit;
mod options;
mod time;

use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

const TICK: Duration = Duration::from_nanos(1);
