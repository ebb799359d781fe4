//! What a scrape of the metrics costs, and what it costs the beats beside it.
//!
//! ```text
//! cargo bench --features observe --bench scrape            # 1,000,000 keys, about half a minute
//! cargo bench --features observe --bench scrape -- 10000   # another number of keys
//! ```

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use liveness::Watcher;
use liveness::observe::Observer;

type Failure = Box<dyn Error + Send + Sync>;

/// The scrapes that are timed.
const SCRAPES: usize = 2_000;

/// How often a scraper asks beside beats; Prometheus asks every 15 seconds or so.
const EVERY: Duration = Duration::from_millis(100);

/// How long beats are counted in a round.
const ROUND: Duration = Duration::from_secs(2);

/// How many rounds there are without and with a scraper, in turn.
const ROUNDS: usize = 5;

/// Counts the beats of one thread for a round, in millions a second.
fn beats(watcher: &Watcher<u64>, keys: u64) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut count = 0_u64;
    while began.elapsed() < ROUND {
        for _ in 0..1_024 {
            // A stride that is prime visits the keys in no order.
            watcher.beat(count * 7_919 % keys)?;
            count += 1;
        }
    }
    Ok(count as f64 / began.elapsed().as_secs_f64() / 1e6)
}

fn main() -> Result<(), Failure> {
    // `cargo bench` adds arguments of its own.
    let keys = std::env::args()
        .find_map(|it| it.parse().ok())
        .unwrap_or(1_000_000);
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .build()?;
    let watcher = Arc::new(watcher);
    (0..keys).try_for_each(|key| watcher.beat(key))?;
    watcher.flush()?;
    let observer = Observer::new();
    observer.watcher("keys", &watcher);

    let mut took: Vec<_> = (0..SCRAPES)
        .map(|_| {
            let began = Instant::now();
            black_box(observer.render());
            began.elapsed()
        })
        .collect();
    took.sort();
    let at = |percent: usize| took[(SCRAPES - 1) * percent / 100];
    println!(
        "a scrape of {keys} keys: {:.1?} at p50, {:.1?} at p99, {:.1?} at most; {} bytes",
        at(50),
        at(99),
        at(100),
        observer.render().len()
    );

    for round in 1..=ROUNDS {
        let without = beats(&watcher, keys)?;
        let is_over = AtomicBool::new(false);
        let with = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    black_box(observer.render());
                    thread::sleep(EVERY);
                }
            });
            let with = beats(&watcher, keys);
            is_over.store(true, Ordering::Relaxed);
            with
        })?;
        println!(
            "round {round}: {without:.2} M beats a second without a scraper, {with:.2} with one every {EVERY:?}"
        );
    }
    Ok(())
}
