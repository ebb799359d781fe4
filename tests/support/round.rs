//! Waiting for workers where a callback is held, which `flush` would wait for.

use liveness::Watcher;

/// Waits until each worker has applied what was sent before, expired what was due, and counted it.
pub(crate) fn go_round(watcher: &Watcher<u64>) {
    // A round expires a limited number of keys, so rounds follow until one changes nothing.
    loop {
        let before = watcher.stats();
        // The first is answered within a round, the second after it.
        for _ in 0..2 {
            watcher.snapshot().unwrap();
        }
        let after = watcher.stats();
        if (after.live, after.expiries) == (before.live, before.expiries) {
            break;
        }
    }
}
