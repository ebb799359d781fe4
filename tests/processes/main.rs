//! What takes a process of its own: a limit of threads, a fork, a stop. Each test runs this binary once more.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
mod alone;
#[cfg(unix)]
mod suspension;
#[cfg(target_os = "linux")]
mod threads;
