//! A test as the only one of a process, which runs the test binary once more.

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any of these tests takes on a busy machine, in its long version as well.
const PATIENCE: Duration = Duration::from_secs(600);

/// What makes the test binary the process that is looked at.
pub(crate) const ROLE: &str = "LIVENESS_TEST_ALONE";

/// Runs `body` as the only test of a process of its own; `name` is that of the test that calls.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ROLE).is_some() {
        return body();
    }
    assert!(succeeds(&mut start(name, "alone")));
}

/// Starts this binary once more, in a role and with the test `name` alone.
pub(crate) fn start(name: &str, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .spawn()
        .unwrap()
}

/// Waits for a process, and returns whether it succeeds.
pub(crate) fn succeeds(child: &mut Child) -> bool {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait().unwrap().success()
}

/// Returns how many threads this process has.
pub(crate) fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    line.unwrap().trim().parse().unwrap()
}
