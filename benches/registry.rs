//! Picks per second from a list that changes, transitions per second, and how late a thousand pacemakers call.
//!
//! Each pick takes the list anew, as a balancer does for a request. Meanwhile a thread of its own drains nodes and lets
//! them back, a thousand such transitions a second. `cargo bench --features registry,pacemaker --bench registry` runs
//! all; `-- pick/10000` runs some, and `-- pacemakers` only the report on pacemakers.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use liveness::pacemaker::{Pacemaker, Pacer};
use liveness::registry::{Available, Node, NodeOptions, Policy, Registry};

/// The numbers of nodes.
const SIZES: [u64; 3] = [10, 1_000, 10_000];

/// From one transition to the next while picks are measured.
const BETWEEN_TRANSITIONS: Duration = Duration::from_millis(1);

/// A registry of nodes with, as their data, how many requests each has under way.
type Nodes = Registry<u64, AtomicU32>;

/// A way to pick, for the key given, which most take no notice of.
type Picker = fn(&Available<u64, AtomicU32>, u64) -> Option<&Node<u64, AtomicU32>>;

/// The ways to pick.
const PICKERS: [(&str, Picker); 5] = [
    ("round-robin", |list, _| list.round_robin()),
    ("random", |list, _| list.random()),
    ("weighted", |list, _| list.weighted()),
    ("least-of-two", |list, _| {
        list.least_of_two(|node| node.data().load(Ordering::Relaxed))
    }),
    ("rendezvous", |list, key| list.rendezvous(&key)),
];

/// A registry that lists `size` nodes of weights from 1 to 16, and expires none of them meanwhile.
fn listing(size: u64) -> Nodes {
    let registry = Registry::builder()
        .policy(Policy::Fixed(Duration::from_secs(3_600)))
        .build()
        .expect("the options are in range");
    for id in 0..size {
        let options = NodeOptions::new().weight(id as u32 % 16 + 1);
        registry
            .register_with(id, AtomicU32::new(id as u32 % 7), options)
            .expect("there is room");
        registry.beat(&id).expect("it is known");
    }
    assert_eq!(registry.available().len() as u64, size);
    registry
}

/// Transition number `nth`: every even one drains a node, the next lets it back. Goes through the nodes in strides, so
/// that neighbours do not follow each other.
fn transit(registry: &Nodes, size: u64, nth: u64) {
    let id = nth / 2 * 7 % size;
    let done = if nth.is_multiple_of(2) {
        registry.drain(&id)
    } else {
        registry.undrain(&id)
    };
    done.expect("it is known");
}

/// The time that `threads` threads together take for `picks` picks, while transitions are made.
fn timed(registry: &Nodes, size: u64, threads: u64, picks: u64, pick: Picker) -> Duration {
    let each = picks.div_ceil(threads);
    let start = &Barrier::new(threads as usize + 1);
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // An even number, so that every drained node is let back.
            let transitions = (0u64..)
                .take_while(|nth| !nth.is_multiple_of(2) || !is_over.load(Ordering::Relaxed));
            for nth in transitions {
                transit(registry, size, nth);
                thread::sleep(BETWEEN_TRANSITIONS);
            }
        });
        let pickers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    start.wait();
                    for key in each * thread..each * (thread + 1) {
                        let list = registry.available();
                        let picked = pick(&list, key).expect("all but one are listed");
                        black_box(picked.id());
                    }
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        for picker in pickers {
            picker.join().expect("no picker panics");
        }
        let took = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        took
    })
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let registry = listing(size);
        for (name, pick) in PICKERS {
            for threads in [1, 2] {
                group.bench_function(format!("{size}/{name}/{threads}-threads"), |bencher| {
                    bencher.iter_custom(|picks| timed(&registry, size, threads, picks, pick));
                });
            }
        }
    }
    group.finish();
}

fn transitions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transitions");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let registry = listing(size);
        let mut nth = 0;
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| {
                transit(&registry, size, nth);
                nth += 1;
            });
        });
    }
    group.finish();
}

/// How many pacemakers share a thread.
const PACEMAKERS: u32 = 1_000;

/// From beat to beat of one pacemaker.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long after the start the first beat of pacemaker `nth` comes: when all are there, and for each at its own moment
/// of the interval.
fn phase(nth: u32) -> Duration {
    INTERVAL + INTERVAL / PACEMAKERS * nth
}

/// How late a thousand pacemakers call their functions, and how late one thread wakes that sleeps until the same
/// moments. Not for criterion, which knows nothing of percentiles.
fn pacemakers(_: &mut Criterion) {
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    if !filters.all(|filter| "pacemakers".contains(&filter)) {
        return;
    }
    // `cargo test` only wants to see that it runs.
    let is_test = std::env::args().all(|arg| arg != "--bench");
    let rounds = if is_test { 1 } else { 50 };
    report("pacemakers", paced(rounds));
    report("bare sleep", slept(rounds));
}

/// How late each call of the pacemakers was, for about so many rounds.
fn paced(rounds: u32) -> Vec<Duration> {
    let late = Arc::new(Mutex::new(Vec::new()));
    let pacer = Pacer::spawn().expect("there is room for a thread");
    let started: Vec<_> = (0..PACEMAKERS)
        .map(|nth| {
            let late = late.clone();
            let options = Pacemaker::every(INTERVAL).phase(phase(nth)).jitter(0.0);
            // Before the pacemaker reads the clock: what is measured is at least the error.
            let first = Instant::now() + phase(nth);
            let beat = move || {
                let since = first.elapsed().as_nanos() % INTERVAL.as_nanos();
                let since = Duration::from_nanos(since as u64);
                late.lock().expect("no call panics").push(since);
                Ok::<_, Infallible>(())
            };
            pacer
                .start(options, beat)
                .expect("the options are in range")
        })
        .collect();
    thread::sleep(INTERVAL * (rounds + 1));
    drop(started);
    std::mem::take(&mut *late.lock().expect("no call panics"))
}

/// How late a thread wakes that sleeps until each of the same moments in turn.
fn slept(rounds: u32) -> Vec<Duration> {
    let began = Instant::now();
    let moments =
        (0..rounds).flat_map(|round| (0..PACEMAKERS).map(move |nth| INTERVAL * round + phase(nth)));
    moments
        .map(|moment| {
            thread::sleep(moment.saturating_sub(began.elapsed()));
            began.elapsed().saturating_sub(moment)
        })
        .collect()
}

/// Prints percentiles.
fn report(name: &str, mut late: Vec<Duration>) {
    late.sort_unstable();
    let at = |percent| late[(late.len() - 1) * percent / 100];
    println!(
        "{name}: {} calls, late by p50 {:?}, p99 {:?}, at most {:?}",
        late.len(),
        at(50),
        at(99),
        at(100)
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    targets = pick, transitions, pacemakers
}
criterion_main!(benches);
