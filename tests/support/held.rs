//! A worker that stands still, so that its inbox fills.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use liveness::{Builder, Options, Watcher};

/// A watcher whose only worker takes no messages until the second part is dropped: it is held in a callback, for key
/// `u64::MAX`, and its inbox is empty. Drop the second part first.
pub(crate) fn held(builder: Builder<u64>) -> (Watcher<u64>, Sender<()>) {
    let (entered, is_held) = bounded(1);
    let (gate, opened) = bounded::<()>(0);
    let watcher = builder
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .on_event_in_worker(move |_| {
            let _ = entered.try_send(());
            // Ends with an error when the gate is dropped, at once from then on.
            let _ = opened.recv();
        })
        .build()
        .unwrap();
    let mortal = Options::new().timeout(Duration::from_nanos(1));
    watcher.beat_with(u64::MAX, mortal).unwrap();
    is_held.recv_timeout(Duration::from_secs(20)).unwrap();
    (watcher, gate)
}
