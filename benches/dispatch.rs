//! Events per second of the dispatcher, and how late delayed events start.
//!
//! Handlers do nothing but count, so this measures the dispatcher alone: emission, the way to a worker, the account.
//! `cargo bench --features dispatch --bench dispatch` runs all; `-- instant` runs the throughput only, and `--
//! lateness` only the report on 100,000 delayed events beside a thread that sleeps until the same instants. Other
//! thread pools are compared by `cargo run --release --manifest-path benches/peers/Cargo.toml --bin jobs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use liveness::Histogram;
use liveness::dispatch::{Dispatcher, Emit, On, Topic};

/// Events that carry their number.
const EVENT: Topic<u64> = Topic::new("event");

/// How many events one iteration emits.
const EVENTS: u64 = 100_000;

/// How many delayed events there are, and over which time they are due.
const DELAYED: (u64, Duration) = (100_000, Duration::from_secs(10));

/// A dispatcher with two workers and a handler that counts, and the count.
fn counting() -> (Dispatcher, Arc<AtomicU64>) {
    let dispatcher = Dispatcher::builder().threads(2).build();
    let dispatcher = dispatcher.expect("the options are in range");
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    let registered = dispatcher.on(&EVENT, "count", On::new(), move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    registered.expect("the options are in range");
    (dispatcher, count)
}

/// Emits [`EVENTS`] from `producers` threads, and waits until they have run.
fn run(dispatcher: &Dispatcher, count: &AtomicU64, producers: u64) {
    let end = count.load(Ordering::Relaxed) + EVENTS;
    thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| {
                for event in 0..EVENTS / producers {
                    dispatcher.emit(&EVENT, event).expect("there is room");
                }
            });
        }
    });
    while count.load(Ordering::Relaxed) < end {
        thread::yield_now();
    }
}

/// Events per second that are due at once, with one and two producers.
fn instant(c: &mut Criterion) {
    let mut group = c.benchmark_group("instant");
    group.throughput(Throughput::Elements(EVENTS));
    group.sample_size(20);
    for producers in [1, 2] {
        let (dispatcher, count) = counting();
        group.bench_with_input(
            BenchmarkId::new("producers", producers),
            &producers,
            |b, &producers| b.iter(|| run(&dispatcher, &count, producers)),
        );
    }
    let (dispatcher, count) = counting();
    group.bench_function("emit_many", |b| {
        b.iter(|| {
            let end = count.load(Ordering::Relaxed) + EVENTS;
            dispatcher
                .emit_many(&EVENT, 0..EVENTS)
                .expect("there is room");
            while count.load(Ordering::Relaxed) < end {
                thread::yield_now();
            }
        });
    });
    group.finish();
}

/// Prints the lateness of delayed events, and that of a thread that sleeps until the same instants.
fn lateness(_: &mut Criterion) {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !"lateness".contains(&*wanted)) {
        return;
    }
    let (events, over) = DELAYED;
    let lead = Duration::from_millis(500);
    let delay = |event: u64| lead + over.mul_f64(event as f64 / events as f64);
    let began = Instant::now();
    let mut asleep: Vec<Duration> = (0..events)
        .map(|event| {
            let due = began + delay(event);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due.elapsed()
        })
        .collect();
    asleep.sort_unstable();
    let at = |percent: usize| asleep[(asleep.len() * percent / 100).min(asleep.len() - 1)];
    println!("lateness of {events} events due over {over:?}");
    println!(
        "  bare sleep  p50 {:?}  p99 {:?}  max {:?}",
        at(50),
        at(99),
        at(100)
    );

    let (dispatcher, count) = counting();
    let began = Instant::now();
    for event in 0..events {
        let left = delay(event).saturating_sub(began.elapsed());
        let emitted = dispatcher.emit_with(&EVENT, event, Emit::after(left));
        emitted.expect("there is room");
    }
    while count.load(Ordering::Relaxed) < events {
        thread::sleep(Duration::from_millis(10));
    }
    let late: Histogram = dispatcher.stats().total().lateness;
    println!(
        "  dispatcher  p50 {:?}  p99 {:?}  max {:?}",
        late.quantile(0.5),
        late.quantile(0.99),
        late.max()
    );
}

criterion_group!(benches, instant, lateness);
criterion_main!(benches);
