//! What concerns a whole process: how many threads it has, that the system refuses further ones, and a fork.
//!
//! Each test runs its own binary once more, so that no other test is in the process that it looks at.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::alone::{alone, threads};
use crossbeam_channel::{RecvTimeoutError, bounded, unbounded};
use liveness::{BuildError, Event, HeartError, Watcher};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Uid, fork, pipe, setuid};

/// Long enough for any machine to do anything that is done at once.
const GENEROUS: Duration = Duration::from_secs(20);

/// Waits until this process has `wanted` threads: one that is joined takes a moment to leave the count.
fn await_threads(wanted: usize) {
    let began = Instant::now();
    while threads() != wanted {
        assert!(began.elapsed() < GENEROUS, "{} threads", threads());
        thread::yield_now();
    }
}

#[test]
fn a_thousand_watchers_leave_no_thread() {
    alone("threads::a_thousand_watchers_leave_no_thread", || {
        let before = threads();
        let mut hearts = Vec::new();
        for round in 0..1_000u64 {
            let (tell, told) = unbounded();
            let watcher = Watcher::<u64>::builder()
                .workers(2)
                .timeout(Duration::from_nanos(1 + round % 2 * 1_000_000_000))
                .on_event(move |event| drop(tell.send(event)))
                .build()
                .unwrap();
            assert!(threads() > before);
            watcher.beat_many(0..10u64).unwrap();
            hearts.push(watcher.watch(10u64).unwrap());
            match round % 4 {
                // Used, and then dropped; dropped at once; closed; dropped by another thread.
                0 => drop(told.recv_timeout(GENEROUS).unwrap()),
                1 => {}
                2 => assert!(watcher.close().is_balanced()),
                _ => thread::spawn(move || drop(watcher)).join().unwrap(),
            }
        }
        await_threads(before);
        // What outlives a watcher keeps none of its threads.
        assert!(
            hearts
                .iter()
                .all(|heart| heart.beat() == Err(HeartError::Closed) || !heart.is_watched())
        );
    });
}

#[test]
fn a_process_that_may_have_no_more_threads_gets_an_error_and_keeps_none() {
    alone(
        "threads::a_process_that_may_have_no_more_threads_gets_an_error_and_keeps_none",
        || {
            // The limit is one of all threads of a user, and does not bind root.
            if Uid::effective().is_root() && setuid(Uid::from_raw(65_534)).is_err() {
                return println!("skipped: root cannot become nobody here");
            }
            let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
            let before = threads();
            for callback in [false, true] {
                setrlimit(Resource::RLIMIT_NPROC, 8, hard).unwrap();
                for _ in 0..3 {
                    let mut builder = Watcher::<u64>::builder().workers(64);
                    if callback {
                        builder = builder.on_event(drop);
                    }
                    let error = builder.build().unwrap_err();
                    println!("{error}");
                    assert!(matches!(error, BuildError::Spawn { .. }), "{error:?}");
                    await_threads(before);
                }
                setrlimit(Resource::RLIMIT_NPROC, soft, hard).unwrap();
                let watcher = Watcher::<u64>::builder().workers(64).build().unwrap();
                watcher.beat(1u64).unwrap();
                assert_eq!(watcher.contains(&1), Ok(true));
                drop(watcher);
                await_threads(before);
            }
        },
    );
}

/// Forks. What the child does is `body`, which tells of its progress in bytes; it is killed when it is done or has had
/// two seconds. Returns its output.
#[expect(unsafe_code, reason = "there is no safe fork")]
fn in_a_fork(body: impl FnOnce(&mut File)) -> Vec<u8> {
    let (reader, writer) = pipe().unwrap();
    // SAFETY: the child runs `body` and ends. It may find locks that nobody will ever release, and is killed then;
    // memory it shares with nobody.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let mut progress = File::from(writer);
            // A panic must not make the child go on as this test.
            let _ = catch_unwind(AssertUnwindSafe(|| body(&mut progress)));
            // Ends without what a process does at its end, which is the other one's to do.
            raise(Signal::SIGKILL).unwrap();
            unreachable!()
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let (ended, has_ended) = bounded::<()>(0);
            let killer = thread::spawn(move || {
                if has_ended.recv_timeout(Duration::from_secs(2)) == Err(RecvTimeoutError::Timeout)
                {
                    kill(child, Signal::SIGKILL).unwrap();
                }
            });
            let mut told = Vec::new();
            File::from(reader).read_to_end(&mut told).unwrap();
            drop(ended);
            killer.join().unwrap();
            waitpid(child, None).unwrap();
            told
        }
    }
}

#[test]
fn a_fork_leaves_the_parent_unharmed_whatever_the_child_calls() {
    alone(
        "threads::a_fork_leaves_the_parent_unharmed_whatever_the_child_calls",
        || {
            let (tell, told) = unbounded();
            let watcher = Watcher::<u64>::builder()
                .timeout(Duration::from_millis(500))
                .workers(2)
                .on_event(move |event: Event<u64>| tell.send(*event.key().unwrap()).unwrap())
                .build()
                .unwrap();
            let watcher = Arc::new(watcher);
            let heart = watcher.watch(0u64).unwrap();
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        watcher.beat_many(1..1_000u64).unwrap();
                        heart.beat().unwrap();
                        thread::sleep(Duration::from_millis(20));
                    }
                });
                // The child of a fork has none of these threads, and perhaps a lock that one of them held. Nothing is
                // promised to it; but what it does must not reach the parent.
                let told_by_child = in_a_fork(|progress| {
                    for key in 5_000..15_000u64 {
                        let _ = watcher.try_beat(key);
                    }
                    progress.write_all(b"b").unwrap();
                    let _ = heart.beat();
                    progress.write_all(b"h").unwrap();
                    let _ = (watcher.len(), watcher.stats());
                    progress.write_all(b"s").unwrap();
                });
                println!("it got through {} of 3 calls", told_by_child.len());
                assert!(told.is_empty(), "nobody who lives is reported");
                assert_eq!(
                    watcher.contains(&5_000),
                    Ok(false),
                    "the child's beats are its own"
                );
                watcher.beat(2_000u64).unwrap();
                assert_eq!(told.recv_timeout(GENEROUS), Ok(2_000));
                stop.store(true, Ordering::Relaxed);
            });
            // Now nobody holds a lock, and the child closes without waiting for threads that it does not have.
            watcher.flush().unwrap();
            let told_by_child = in_a_fork(|progress| {
                drop(heart.clone());
                watcher.close();
                progress.write_all(b"c").unwrap();
            });
            assert_eq!(told_by_child, b"c");
            // The parent's watcher is open, its threads run, and now all die, once.
            let mut dead: Vec<u64> = (0..1_000)
                .map(|_| told.recv_timeout(GENEROUS).unwrap())
                .collect();
            dead.sort_unstable();
            assert!(dead.into_iter().eq(0..1_000));
            let stats = watcher.close();
            assert!(stats.is_balanced());
            assert_eq!((stats.failed_workers, stats.panics), (0, 0));
        },
    );
}
