//! A mix as servers have it: of a hundred operations 90 are beats of watched keys, 4 are joins, 4 removals of what
//! joined, and 2 questions for a key's status.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use liveness::Watcher;

/// The numbers of keys.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// A number spread over all of `u64` (the finaliser of Steele et al.'s splitmix64), so that neighbours do not meet.
fn spread(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

fn mixed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mixed");
    group.throughput(Throughput::Elements(1));
    for keys in SIZES {
        let watcher = Watcher::<u64>::builder()
            .workers(2)
            .timeout(Duration::from_secs(3_600))
            .expected_keys(keys as usize)
            .build()
            .expect("the options are in range");
        watcher
            .beat_many((0..keys).map(spread))
            .expect("the watcher is open");
        watcher.flush().expect("the watcher is open");
        group.bench_with_input(
            BenchmarkId::from_parameter(keys),
            &keys,
            |bencher, &keys| {
                bencher.iter_custom(|operations| {
                    let began = Instant::now();
                    for i in 0..operations {
                        let watched = spread(spread(i) % keys);
                        let stranger = spread(keys + i / 100);
                        match i % 100 {
                            10 | 30 | 50 | 70 => {
                                watcher.beat(stranger).expect("the watcher is open");
                            }
                            20 | 40 | 60 | 80 => {
                                watcher.remove(&stranger).expect("the watcher is open");
                            }
                            45 | 95 => assert!(
                                watcher
                                    .status(&watched)
                                    .expect("the watcher is open")
                                    .is_some()
                            ),
                            _ => watcher.beat(watched).expect("the watcher is open"),
                        }
                    }
                    watcher.flush().expect("the watcher is open");
                    began.elapsed()
                });
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = mixed
}
criterion_main!(benches);
