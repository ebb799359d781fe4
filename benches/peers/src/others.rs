//! What other programs use of the machine, as they disturb a measurement.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::child::ticks;

/// The share of the machine that others may use.
pub const CALM: f64 = 0.05;

/// For how long it is looked whether the machine is calm.
const LOOK: Duration = Duration::from_millis(300);

/// A moment, and what had been used until then.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// When.
    at: Instant,
    /// CPU time that others used, or took from this virtual machine.
    others: Duration,
}

impl Since {
    /// Now.
    ///
    /// # Errors
    ///
    /// Returns why the machine does not say.
    pub fn now() -> Result<Self, Failure> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        // user, nice, system, (idle, waiting for a disk,) interrupts, soft interrupts, stolen
        let busy: u64 = [0, 1, 2, 5, 6, 7]
            .iter()
            .filter_map(|at| fields.get(*at))
            .sum();
        // This process, and its children that have ended.
        let own = ticks("/proc/self/stat", 4)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let busy = Duration::from_secs_f64(busy as f64 / per_second as f64);
        Ok(Since {
            at: Instant::now(),
            others: busy.saturating_sub(own),
        })
    }

    /// The share of the machine that others have used since. Children that have not ended count as others.
    ///
    /// # Errors
    ///
    /// Returns why the machine does not say.
    pub fn share(self) -> Result<f64, Failure> {
        let now = Since::now()?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let all = now.at.duration_since(self.at).as_secs_f64() * cores as f64;
        Ok(now.others.saturating_sub(self.others).as_secs_f64() / all)
    }
}

/// Waits until others use little of the machine, but not past `end`.
///
/// # Errors
///
/// Returns why the machine does not say.
pub fn wait_until_calm(end: Instant) -> Result<(), Failure> {
    while Instant::now() < end {
        let since = Since::now()?;
        thread::sleep(LOOK);
        if since.share()? <= CALM {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_does_is_not_what_others_do() {
        let since = Since::now().expect("Linux tells");
        let began = Instant::now();
        let mut sum = 0u64;
        while began.elapsed() < Duration::from_millis(300) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let share = since.share().expect("Linux tells");
        assert!((0.0..=1.1).contains(&share), "{share}");
    }
}
