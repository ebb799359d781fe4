//! Beats per second: 10 thousand to 1 million keys, one and two producers, one at a time, 256 at a time, and hearts.
//!
//! Keys are 16 inline bytes, all watched before the clock starts, and beat in an order that has nothing to do with the
//! one they joined in. The clock stops when the workers have applied everything. `cargo bench --bench beat` runs all;
//! `-- single/1000000` runs some.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use liveness::{Options, Watcher};

/// A name that fits in place, such as `service-00000042`.
type Key = [u8; 16];

/// How many keys a call of `beat_many` is given.
const CHUNK: usize = 256;

/// The numbers of keys.
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// `count` keys in an order that `seed` draws (Fisher and Yates, with Marsaglia's xorshift64).
fn shuffled_keys(count: usize, seed: u64) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..count)
        .map(|i| {
            format!("service-{i:08}")
                .into_bytes()
                .try_into()
                .unwrap_or_default()
        })
        .collect();
    let mut x = seed;
    for i in (1..keys.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        keys.swap(i, (x % (i as u64 + 1)) as usize);
    }
    keys
}

/// The seed of the order in which keys beat.
const BEAT_ORDER: u64 = 0x9E37_79B9_7F4A_7C15;

/// The seed of the order in which keys join: another one, since slots are taken in that order, and beats in the same
/// order would run through memory.
const JOIN_ORDER: u64 = 0xBF58_476D_1CE4_E5B9;

/// A watcher of two workers that watches `keys` and expires none of them meanwhile.
fn watching(keys: &[Key]) -> Watcher<Key> {
    let watcher = Watcher::builder()
        .workers(2)
        .timeout(Duration::from_secs(3_600))
        .expected_keys(keys.len())
        .build()
        .expect("the options are in range");
    watcher
        .beat_many(shuffled_keys(keys.len(), JOIN_ORDER))
        .expect("the watcher is open");
    watcher.flush().expect("the watcher is open");
    watcher
}

/// The time that `producers` threads take for `work(n)`, and the workers to apply it; `n` is each one's number.
fn timed(watcher: &Watcher<Key>, producers: usize, work: impl Fn(usize) + Sync) -> Duration {
    let start = Barrier::new(producers + 1);
    let (start, work) = (&start, &work);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|n| {
                scope.spawn(move || {
                    start.wait();
                    work(n);
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        for thread in threads {
            thread.join().expect("no producer panics");
        }
        watcher.flush().expect("the watcher is open");
        began.elapsed()
    })
}

/// The keys of producer `n` of `producers`, `count` of them, from `keys` round and round.
fn share(keys: &[Key], n: usize, producers: usize, count: usize) -> impl Iterator<Item = Key> + '_ {
    keys.iter()
        .cycle()
        .skip(keys.len() / producers * n)
        .take(count)
        .copied()
}

fn single(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("single");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let keys = shuffled_keys(size, BEAT_ORDER);
        let watcher = watching(&keys);
        for producers in [1, 2] {
            group.bench_function(format!("{size}/{producers}-producers"), |bencher| {
                bencher.iter_custom(|beats| {
                    let each = (beats as usize).div_ceil(producers);
                    timed(&watcher, producers, |n| {
                        for key in share(&keys, n, producers, each) {
                            watcher.beat(key).expect("the watcher is open");
                        }
                    })
                });
            });
        }
    }
    group.finish();
}

fn many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("many");
    group.throughput(Throughput::Elements(CHUNK as u64));
    for size in SIZES {
        let keys = shuffled_keys(size, BEAT_ORDER);
        let watcher = watching(&keys);
        for producers in [1, 2] {
            group.bench_function(format!("{size}/{producers}-producers"), |bencher| {
                bencher.iter_custom(|calls| {
                    let each = (calls as usize).div_ceil(producers);
                    timed(&watcher, producers, |n| {
                        let chunks = keys.chunks_exact(CHUNK);
                        let skip = chunks.len() / producers * n;
                        for chunk in chunks.cycle().skip(skip).take(each) {
                            watcher
                                .beat_many(chunk.iter().copied())
                                .expect("the watcher is open");
                        }
                    })
                });
            });
        }
    }
    group.finish();
}

fn per_key_timeout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per-key-timeout");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let keys = shuffled_keys(size, BEAT_ORDER);
        let watcher = watching(&keys);
        for (timeout, key) in (0..400).cycle().zip(&keys) {
            let options = Options::new().timeout(Duration::from_secs(3_600 + timeout));
            watcher
                .beat_with(*key, options)
                .expect("the watcher is open");
        }
        group.bench_function(format!("{size}/2-producers"), |bencher| {
            bencher.iter_custom(|beats| {
                let each = (beats as usize).div_ceil(2);
                timed(&watcher, 2, |n| {
                    for key in share(&keys, n, 2, each) {
                        watcher.beat(key).expect("the watcher is open");
                    }
                })
            });
        });
    }
    group.finish();
}

fn heart(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heart");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let keys = shuffled_keys(size, BEAT_ORDER);
        let watcher = watching(&keys);
        let hearts: Vec<_> = keys
            .iter()
            .map(|key| watcher.watch(*key).expect("the watcher is open"))
            .collect();
        watcher.flush().expect("the watcher is open");
        let mut next = hearts.iter().cycle();
        group.bench_function(format!("{size}/1-producer"), |bencher| {
            bencher.iter(|| next.next().map(liveness::Heart::beat));
        });
        // Between two beats of each heart, a worker changes the state of another one: each beat has to load its own
        // state.
        group.bench_function(format!("{size}/1-producer/churn"), |bencher| {
            bencher.iter_custom(|beats| {
                let mut left = beats as usize;
                let mut spent = Duration::ZERO;
                while left > 0 {
                    drop(watcher.watch([0xFF; 16]).expect("the watcher is open"));
                    watcher.flush().expect("the watcher is open");
                    let round = left.min(hearts.len());
                    let began = Instant::now();
                    for heart in &hearts[..round] {
                        heart.beat().expect("its key is watched");
                    }
                    spent += began.elapsed();
                    left -= round;
                }
                spent
            });
        });
    }
    // The floor that a heart is measured against: the clock reading and the store, and nothing else.
    let origin = Instant::now();
    let word = std::sync::atomic::AtomicU64::new(0);
    group.bench_function("floor", |bencher| {
        bencher.iter(|| {
            let now = black_box(&origin).elapsed().as_nanos() as u64;
            word.store(now, std::sync::atomic::Ordering::Release);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = single, many, per_key_timeout, heart
}
criterion_main!(benches);
