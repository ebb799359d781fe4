//! A thread that looks, rests, and looks again: what a map needs in order to notice silence by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A scan of a whole table is followed by a rest of a hundredth of the timeout: 10 ms where that is a second. To be as
/// punctual as ours it would have to scan every millisecond, which takes a core at a few ten thousand keys.
const RESTS_PER_TIMEOUT: u32 = 100;

/// The rest is at least nine times as long as the scan, so that scanning takes at most a tenth of a core however
/// many keys there are.
const REST_PER_SCAN: u32 = 9;

/// A look that costs next to nothing while nobody is due may come as often as a thousand times per timeout.
const LOOKS_PER_TIMEOUT: u32 = 1_000;

/// No rest is shorter, however short the timeout.
const SHORTEST: Duration = Duration::from_millis(1);

/// A running thread; dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Whether to end.
    stop: Arc<AtomicBool>,
    /// The thread; gone only while this is dropped.
    thread: Option<JoinHandle<()>>,
}

impl Scanner {
    /// Calls `look` again and again, each time after the rest that it asked for the last time.
    pub(crate) fn spawn(mut look: impl FnMut() -> Duration + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let body = move || {
            while !asked.load(Ordering::Acquire) {
                let rest = look();
                if !asked.load(Ordering::Acquire) {
                    thread::park_timeout(rest);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("scanner".to_owned())
            .spawn(body)
            .expect("a thread can be spawned");
        Scanner {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("a scan does not panic");
        }
    }
}

/// Runs a scan of a whole table whose keys have timeouts about as long as `timeout`, and returns how long to rest.
pub(crate) fn rest_after(timeout: Duration, scan: impl FnOnce()) -> Duration {
    let began = Instant::now();
    scan();
    let rest = timeout / RESTS_PER_TIMEOUT;
    rest.max(SHORTEST).max(began.elapsed() * REST_PER_SCAN)
}

/// How long to rest after a look that costs next to nothing.
pub(crate) fn rest_after_look(timeout: Duration) -> Duration {
    (timeout / LOOKS_PER_TIMEOUT).max(SHORTEST)
}
