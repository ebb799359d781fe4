//! Mass expiry: how long it takes from the deadline that all keys share until the last event is delivered.
//!
//! Keys beat once more after they joined, in another order: slots are taken in the order of joining and expire in the
//! order of beats, so one order for both would run through memory.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use liveness::{Clock, LocalWatcher, ManualClock, Watcher};

/// The numbers of keys.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// The seeds of the orders in which keys join and beat.
const ORDERS: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x9E37_79B9_7F4A_7C15];

/// The numbers below `keys` in an order that `x` draws (Fisher and Yates, with Marsaglia's xorshift64).
fn shuffled(keys: u64, mut x: u64) -> Vec<u64> {
    let mut shuffled: Vec<u64> = (0..keys).collect();
    for i in (1..shuffled.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        shuffled.swap(i, (x % (i as u64 + 1)) as usize);
    }
    shuffled
}

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
    for order in ORDERS {
        let keys = shuffled(keys, order);
        watcher.beat_many(keys).expect("the watcher is open");
        clock.advance(Duration::from_nanos(1));
    }
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
                            .build()
                            .expect("the options are in range");
                        for (now, order) in (0..).zip(ORDERS) {
                            for key in shuffled(keys, order) {
                                watcher
                                    .beat(key, Duration::from_nanos(now))
                                    .expect("there is no maximum");
                            }
                        }
                        let mut seen = 0;
                        let began = Instant::now();
                        watcher.poll(Duration::from_secs(2), |_| seen += 1);
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
