//! Close and drop: everybody is released, every thread is joined, everything is accounted for.

mod calls;
mod last_handle;
mod threads;
mod waiting;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use liveness::{Event, Stats, Watcher};

const TIMEOUT: Duration = Duration::from_secs(10);

/// How many beats reached a table: of two threads that beat for one key, one may come late.
fn applied(stats: &Stats) -> u64 {
    stats.applied_beats + stats.late_beats
}

/// Reports that it is dropped.
struct Dropped(crossbeam_channel::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// A watcher that one event is due in at once, whose callback runs `body` with the cell that it is in.
fn with_callback(
    in_worker: bool,
    body: impl Fn(&Cell) + Send + Sync + 'static,
) -> (Arc<Watcher<u64>>, Cell) {
    let cell = Cell::default();
    let inner = cell.clone();
    let callback = move |_: Event<u64>| body(&inner);
    let builder = Watcher::<u64>::builder()
        .workers(2)
        .timeout(Duration::from_nanos(1));
    let builder = if in_worker {
        builder.on_event_in_worker(callback)
    } else {
        builder.on_event(callback)
    };
    let watcher = Arc::new(builder.build().unwrap());
    (watcher, cell)
}

/// A place where a callback finds its own watcher.
type Cell = Arc<OnceLock<Mutex<Option<Arc<Watcher<u64>>>>>>;
