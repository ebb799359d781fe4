//! Mass expiry: how long it takes from the deadline that all keys share until the last event is delivered.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use liveness::{Clock, LocalWatcher, ManualClock, Watcher};

/// The numbers of keys.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// The time from the moment `keys` keys are due until a callback on the delivery thread has seen the last of them.
fn drain(keys: u64) -> Duration {
    let timeout = Duration::from_secs(1);
    let clock = ManualClock::new();
    let (done, all_seen) = crossbeam_channel::bounded(1);
    let mut left = keys;
    let watcher = Watcher::<u64>::builder()
        .workers(2)
        .timeout(timeout)
        .clock(Clock::from(clock.clone()))
        .expected_keys(keys as usize)
        .on_event(move |_| {
            left -= 1;
            if left == 0 {
                done.send(()).expect("the receiver waits");
            }
        })
        .build()
        .expect("the options are in range");
    watcher.beat_many(0..keys).expect("the watcher is open");
    watcher.flush().expect("the watcher is open");
    clock.advance(timeout);
    let began = Instant::now();
    // A manual clock wakes nobody; a flush does.
    watcher.flush().expect("the watcher is open");
    all_seen.recv().expect("the callback runs");
    began.elapsed()
}

fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire");
    for keys in SIZES {
        group.throughput(Throughput::Elements(keys));
        group.bench_with_input(
            BenchmarkId::from_parameter(keys),
            &keys,
            |bencher, &keys| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| drain(keys)).sum());
            },
        );
    }
    group.finish();
}

fn local(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expire-local");
    for keys in SIZES {
        group.throughput(Throughput::Elements(keys));
        group.bench_with_input(
            BenchmarkId::from_parameter(keys),
            &keys,
            |bencher, &keys| {
                bencher.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let builder =
                            LocalWatcher::<u64>::builder().timeout(Duration::from_secs(1));
                        let mut watcher = builder
                            .expected_keys(keys as usize)
                            .build_local()
                            .expect("the options are in range");
                        (0..keys).for_each(|key| {
                            watcher
                                .beat(key, Duration::ZERO)
                                .expect("there is no maximum");
                        });
                        let mut seen = 0;
                        let began = Instant::now();
                        watcher.poll(Duration::from_secs(1), |_| seen += 1);
                        total += began.elapsed();
                        assert_eq!(seen, keys);
                    }
                    total
                });
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = threads, local
}
criterion_main!(benches);
