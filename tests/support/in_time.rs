//! Deadlocks fail a test instead of hanging it.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

/// Long enough for any machine to do anything that is done at once.
pub(crate) const GENEROUS: Duration = Duration::from_secs(60);

/// Runs `body` on a thread of its own: a deadlock must fail the test, not hang it.
pub(crate) fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = bounded(1);
    let thread = thread::spawn(move || done.send(body()).unwrap());
    match result.recv_timeout(GENEROUS) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("deadlock"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}
