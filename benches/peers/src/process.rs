//! What this process costs the machine: CPU time, memory, wake-ups. Linux only, as `/proc` is read.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of all threads of this process, those that have ended included.
#[derive(Debug)]
pub(crate) struct CpuTime(Duration);

impl CpuTime {
    /// Begins to count.
    pub(crate) fn start() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        CpuTime(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ))
    }

    /// The CPU time since.
    pub(crate) fn elapsed(&self) -> Duration {
        CpuTime::start().0.saturating_sub(self.0)
    }
}

/// The bytes of memory that are really there. From `smaps_rollup`, which is exact; `statm` may be off by half a
/// megabyte.
pub(crate) fn resident_bytes() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux tells");
    field(&rollup, "Rss:") * 1_024
}

/// How often the threads of this process, all but the calling one, stopped to run because they waited for something.
pub(crate) fn waits_of_others() -> u64 {
    // The main thread's id is that of the process, and the scenarios call this from there.
    let me = std::process::id().to_string();
    fs::read_dir("/proc/self/task")
        .expect("Linux tells")
        .filter_map(Result::ok)
        .filter(|task| task.file_name() != *me)
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(|status| field(&status, "voluntary_ctxt_switches:"))
        .sum()
}

/// The number after `name` at the start of a line of `text`.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("there is no `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time_and_memory() {
        let (cpu, resident) = (CpuTime::start(), resident_bytes());
        let work: Vec<u64> = (0..1_000_000u64).map(|i| i * i).collect();
        assert!(std::hint::black_box(work).len() == 1_000_000);
        assert!(cpu.elapsed() > Duration::ZERO);
        assert!(resident > 100_000);
    }

    #[test]
    fn a_field_is_found_by_its_name_at_the_start_of_a_line() {
        let text = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), 3);
    }
}
