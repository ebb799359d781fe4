//! Many threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use liveness::server::Group;
use liveness::server::group::{CallError, PostErrorKind};

use super::stop;

/// How many threads post.
const SENDERS: usize = 8;

/// The state: what each sender has posted, in which only the group's thread may ever be.
#[derive(Default)]
struct World {
    seen: [u64; SENDERS],
    chained: u64,
    marked: u64,
    slow: u64,
    slow_panics: u64,
    ticks: u64,
    threads: std::collections::HashSet<thread::ThreadId>,
}

/// `LIVENESS_GROUP_POSTS` posts in all, a million in a long run.
#[test]
fn posts_timers_slow_calls_and_a_chain_that_changes_leave_a_consistent_state() {
    let posts =
        std::env::var("LIVENESS_GROUP_POSTS").map_or(40_000, |posts| posts.parse().unwrap());
    let each = posts / SENDERS as u64;
    let group = Group::builder("world")
        .capacity(256)
        .spawn(World::default())
        .unwrap();
    let timer = group
        .every(Duration::from_micros(200), |world| world.ticks += 1)
        .unwrap();
    let chain = group.chain::<u64>();
    chain
        .append("count", |world: &mut World, n| {
            world.chained += 1;
            world.marked += n;
            None
        })
        .unwrap();
    let slow_calls = Arc::<AtomicU64>::default();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (group, chain) = (group.clone(), chain.clone());
            let slow_calls = slow_calls.clone();
            scope.spawn(move || {
                let port = chain.port();
                for n in 0..each {
                    let code = move |world: &mut World| {
                        assert_eq!(world.seen[sender], n, "sender {sender} is out of order");
                        world.seen[sender] = n + 1;
                        if n % 64 == 0 {
                            world.threads.insert(thread::current().id());
                        }
                    };
                    group.post_wait(code).unwrap();
                    match n % 16 {
                        3 => port.send(0).unwrap(),
                        7 => {
                            let work = move || assert!(n % 32 != 7, "a slow call panics");
                            let then = |world: &mut World, result: Result<(), _>| {
                                world.slow += 1;
                                world.slow_panics += u64::from(result.is_err());
                            };
                            match group.slow(work, then) {
                                Ok(()) => drop(slow_calls.fetch_add(1, Relaxed)),
                                Err(error) => assert_eq!(error.kind(), PostErrorKind::Full),
                            }
                        }
                        11 => {
                            let seen = group.call(move |world| world.seen[sender]).unwrap();
                            assert_eq!(seen, n + 1);
                        }
                        _ => {}
                    }
                }
            });
        }
        // Meanwhile, a processor comes and goes.
        for _ in 0..200 {
            let _ = chain.insert_before("count", "mark", |_: &mut World, n| Some(n + 1));
            let _ = chain.remove("mark");
            thread::yield_now();
        }
    });
    assert!(timer.cancel());
    let (world, stats) = stop(&group);
    assert_eq!(world.seen, [each; SENDERS]);
    assert_eq!(world.threads.len(), 1);
    // One of each 16, beginning with the fourth.
    let chained = (each + 12) / 16 * SENDERS as u64;
    assert_eq!(world.chained, chained);
    assert!(world.marked <= chained);
    assert_eq!(world.slow, slow_calls.load(Relaxed));
    assert_eq!(
        (world.slow_panics, world.ticks),
        (stats.slow_panicked, stats.timer_calls)
    );
    assert_eq!((stats.panics, stats.discarded), (0, 0));
}

#[test]
fn a_stop_among_many_senders_loses_nothing_that_was_accepted() {
    for round in 0..50_u64 {
        let group = Group::builder("g").capacity(4).spawn(0_u64).unwrap();
        thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let group = group.clone();
                    scope.spawn(move || {
                        let mut accepted = 0;
                        loop {
                            let is_accepted = match sender {
                                0 => group.post(|n| *n += 1).map_err(|error| error.kind()),
                                1 => group.post_wait(|n| *n += 1).map_err(|error| error.kind()),
                                2 => group
                                    .slow(|| (), |n, _| *n += 1)
                                    .map_err(|error| error.kind()),
                                _ => group.call(|n| *n += 1).map_err(|error| {
                                    assert_eq!(error, CallError::Stopped);
                                    PostErrorKind::Stopped
                                }),
                            };
                            match is_accepted {
                                Ok(()) => accepted += 1,
                                Err(PostErrorKind::Full) => thread::yield_now(),
                                Err(_) => return accepted,
                            }
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_micros(20 * round));
            let (count, _) = stop(&group);
            let accepted: u64 = senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .sum();
            assert_eq!(count, accepted);
        });
    }
}
