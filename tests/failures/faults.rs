//! The faults of earlier heartbeat systems, one test each: they must not come back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded, unbounded};
use liveness::{
    BeatErrorKind, CallError, Event, EventKind, LocalWatcher, ManualClock, Options, Timestamp,
    Watcher,
};

use crate::in_time::{GENEROUS, in_time};

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn losing_events_when_the_event_channel_is_full() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_millis(1))
        .workers(2)
        .build_with_channel(8)
        .unwrap();
    watcher.beat_many(0..300u64).unwrap();
    // Nobody receives until all have died, and the channel holds only eight.
    let began = Instant::now();
    while watcher.stats().expiries < 300 {
        assert!(began.elapsed() < GENEROUS);
        thread::yield_now();
    }
    let mut keys: Vec<u64> = (0..300)
        .map(|_| *events.recv_timeout(GENEROUS).unwrap().key().unwrap())
        .collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..300));
    assert_eq!(watcher.close().discarded, 0);
}

#[test]
fn leaving_producers_blocked_after_close() {
    in_time(|| {
        for round in 0..50u64 {
            let watcher = Watcher::<u64>::builder()
                .workers(1 + round as usize % 2)
                .inbox_capacity(1)
                .build()
                .unwrap();
            thread::scope(|scope| {
                for producer in 0..3u64 {
                    let watcher = &watcher;
                    scope.spawn(move || {
                        let refused = (0..)
                            .map(|i| watcher.beat((producer << 32) | (i % 100)))
                            .find_map(Result::err);
                        assert_eq!(refused.unwrap().kind(), BeatErrorKind::Closed);
                    });
                }
                // Closed at a different moment of the tumult each time.
                while watcher.stats().applied_beats < round * 20 {
                    thread::yield_now();
                }
                watcher.close();
            });
        }
    });
}

#[test]
fn sleeping_through_a_nearer_deadline_that_arrives_during_a_sleep() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(HOUR)
        .workers(1)
        .build_with_channel(64)
        .unwrap();
    let soon = || Options::new().timeout(Duration::from_millis(5));
    watcher.beat_many(0..10u64).unwrap();
    for round in 0..20u64 {
        // All deadlines are an hour away, and after the flush the worker goes to sleep until then.
        watcher.flush().unwrap();
        let key = match round % 4 {
            0 => watcher.beat_with(100 + round, soon()).map(|()| 100 + round),
            1 => watcher.watch_with(100 + round, soon()).map(|heart| {
                heart.detach();
                100 + round
            }),
            // A key that is watched already, whose deadline comes nearer.
            2 => watcher.beat_with(round / 4, soon()).map(|()| round / 4),
            _ => watcher
                .beat_with(100 + round, Options::new().timeout(TICK))
                .map(|()| 100 + round),
        };
        let event = events.recv_timeout(GENEROUS).expect("the worker slept on");
        assert_eq!(event.key().copied(), key.ok());
    }
}

#[test]
fn expiring_keys_whose_beat_is_queued() {
    let clock = ManualClock::new();
    let (entered, is_held) = bounded(1);
    let (gate, opened) = bounded::<()>(0);
    let (tell, told) = unbounded();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone())
        .on_event_in_worker(move |event: Event<u64>| {
            tell.send(*event.key().unwrap()).unwrap();
            if event.key() == Some(&0) {
                entered.send(()).unwrap();
                let _ = opened.recv();
            }
        })
        .build()
        .unwrap();
    let gate = gate; // goes before the watcher, also when an assertion fails
    watcher.beat(0u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TICK);
    watcher.beat_many(1..100u64).unwrap();
    let heart = watcher.watch(100u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT - TICK);
    thread::scope(|scope| {
        scope.spawn(|| watcher.flush());
        is_held.recv_timeout(GENEROUS).unwrap();
        // The worker is busy with key 0. The others beat a tick before their deadline, which then passes.
        (1..50u64).for_each(|key| watcher.beat(key).unwrap());
        watcher.beat_many(50..100u64).unwrap();
        heart.beat().unwrap();
        clock.advance(TIMEOUT - TICK);
        drop(gate);
    });
    watcher.flush().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0]);
    assert_eq!(watcher.len(), 100);
    clock.advance(TICK);
    watcher.flush().unwrap();
    assert_eq!(told.len(), 100);
}

#[test]
fn capping_expiries_per_millisecond_so_that_mass_death_takes_seconds() {
    const KEYS: u64 = 400_000;
    let (tell, told) = unbounded();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_millis(1_500))
        .workers(1)
        .on_event(move |event: Event<u64>| {
            let event = event.into_key_event().unwrap();
            tell.send(event.delivered).unwrap();
        })
        .build()
        .unwrap();
    watcher.beat_many(0..KEYS).unwrap();
    // One moment, one deadline for all.
    watcher.beat_many(0..KEYS).unwrap();
    let mut delivered: Vec<_> = (0..KEYS)
        .map(|_| told.recv_timeout(GENEROUS).unwrap())
        .collect();
    // A hundred a millisecond would be a thousand in the best ten of them. However busy the machine is, a thread that
    // runs delivers many times that.
    delivered.sort_unstable();
    let is_fast = |window: &[Timestamp]| window[4_999] - window[0] < Duration::from_millis(10);
    assert!(delivered.windows(5_000).any(is_fast));
}

#[test]
fn crashing_on_the_removal_of_an_unknown_key() {
    let clock = ManualClock::new();
    let watcher = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .clock(clock.clone())
        .build()
        .unwrap();
    (0..100u64).for_each(|key| watcher.remove(&key).unwrap());
    watcher.beat_many(0..100u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    // Known once, but no longer.
    (0..100u64).for_each(|key| watcher.remove(&key).unwrap());
    watcher.flush().unwrap();
    let mut local = LocalWatcher::<u64>::builder().build().unwrap();
    assert!(!local.remove(&1, TIMEOUT));
    let stats = watcher.close();
    assert_eq!((stats.failed_workers, stats.removed), (0, 0));
    assert!(stats.is_balanced());
}

#[test]
fn letting_a_late_older_beat_move_a_deadline_forward_or_back() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(TIMEOUT)
        .build()
        .unwrap();
    let at = Duration::from_secs;
    watcher.beat(2u64, at(95)).unwrap();
    watcher.beat(1u64, at(100)).unwrap();
    for late in [99, 50, 0, 98] {
        watcher.beat(1u64, at(late)).unwrap();
        assert_eq!(watcher.status(&1).unwrap().deadline, Some(at(110).into()));
        assert_eq!(watcher.next_deadline(), Some(at(105).into()));
    }
    assert_eq!(watcher.stats().late_beats, 4);
    let mut told = Vec::new();
    watcher.poll(at(105) - TICK, |event| told.push(event));
    watcher.poll(at(105), |event| told.push(event));
    watcher.poll(at(110) - TICK, |event| told.push(event));
    assert_eq!(told.len(), 1);
    watcher.poll(at(110), |event| told.push(event));
    let deadlines: Vec<_> = told
        .iter()
        .map(|event| event.key_event().unwrap().deadline)
        .collect();
    assert_eq!(deadlines, [at(105), at(110)].map(|at| Some(at.into())));

    // With threads: beats of one key from several race each other, and the last one stays.
    let watcher = Watcher::<u64>::builder().workers(1).build().unwrap();
    let last = Mutex::new(Timestamp::ORIGIN);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let before = watcher.now();
                    watcher.beat(1u64).unwrap();
                    let mut last = last.lock().unwrap();
                    *last = before.max(*last);
                }
            });
        }
    });
    let status = watcher.status(&1).unwrap().unwrap();
    assert!(status.last_beat >= last.into_inner().unwrap());
    assert!(status.last_beat <= watcher.now());
}

#[test]
fn reading_the_map_from_two_threads_without_a_lock() {
    in_time(|| {
        let watcher = Watcher::<u64>::builder()
            .timeout(HOUR)
            .workers(2)
            .inbox_capacity(16)
            .build()
            .unwrap();
        // Each writer has keys of its own, so that it knows what is true of them at every moment.
        let stop = AtomicBool::new(false);
        let together = Barrier::new(5);
        thread::scope(|scope| {
            let (watcher, stop, together) = (&watcher, &stop, &together);
            let writers: Vec<_> = (0..3u64)
                .map(|writer| {
                    scope.spawn(move || {
                        together.wait();
                        for i in 0..1_500 {
                            let key = writer * 1_000 + i % 100;
                            let heart = watcher.watch(key).unwrap();
                            let first = watcher.status(&key).unwrap().unwrap();
                            heart.beat().unwrap();
                            watcher.beat(key).unwrap();
                            let second = watcher.status(&key).unwrap().unwrap();
                            assert_eq!(first.generation, second.generation);
                            assert!(second.last_beat >= first.last_beat);
                            watcher.remove(&key).unwrap();
                            assert_eq!(watcher.contains(&key), Ok(false));
                            heart.beat().unwrap_err();
                            watcher
                                .beat_many(writer * 1_000 + 500..writer * 1_000 + 600)
                                .unwrap();
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                scope.spawn(move || {
                    together.wait();
                    while !stop.load(Ordering::Relaxed) {
                        let snapshot = watcher.snapshot().unwrap();
                        let mut keys: Vec<_> = snapshot.iter().map(|&(key, _)| key).collect();
                        keys.sort_unstable();
                        keys.dedup();
                        assert_eq!(keys.len(), snapshot.len(), "no key twice");
                        for (_, status) in snapshot {
                            assert!(status.joined <= status.last_beat);
                            assert_eq!(status.deadline, Some(status.last_beat + HOUR));
                        }
                        assert!(watcher.stats().is_balanced());
                    }
                });
            }
            let results: Vec<_> = writers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            stop.store(true, Ordering::Relaxed);
            for result in results {
                result.unwrap();
            }
        });
        watcher.flush().unwrap();
        assert_eq!(watcher.len(), 300);
        assert_eq!(watcher.snapshot().unwrap().len(), 300);
        let stats = watcher.close();
        assert!(stats.is_balanced());
        assert_eq!((stats.live, stats.failed_workers), (300, 0));
    });
}

#[test]
fn silencing_the_listener_for_ever_after_one_panic() {
    for in_worker in [false, true] {
        let (tell, told) = unbounded();
        let callback = move |event: Event<u64>| {
            let key = *event.key().unwrap();
            assert_ne!(key, 0, "the one panic");
            tell.send(key).unwrap();
        };
        let builder = Watcher::<u64>::builder()
            .timeout(Duration::from_millis(1))
            .workers(1);
        let watcher = if in_worker {
            builder.on_event_in_worker(callback).build().unwrap()
        } else {
            builder.on_event(callback).build().unwrap()
        };
        for key in 0..10u64 {
            watcher.beat(key).unwrap();
            let wait = if key == 0 { Duration::ZERO } else { GENEROUS };
            assert_eq!(told.recv_timeout(wait).ok(), (key > 0).then_some(key));
        }
        assert_eq!(watcher.close().panics, 1);
    }
}

#[test]
fn deadlocking_when_a_listener_calls_back_in() {
    for in_worker in [false, true] {
        in_time(move || {
            let (tell, told) = unbounded();
            let workers_in = [const { AtomicBool::new(false) }; 2];
            let watcher = Arc::new_cyclic(|itself: &Weak<Watcher<u64>>| {
                let itself = itself.clone();
                let callback = move |event: Event<u64>| {
                    let watcher = itself.upgrade().unwrap();
                    if in_worker {
                        meet(&workers_in);
                    }
                    for key in 1_000..1_100u64 {
                        watcher.beat(key).unwrap();
                    }
                    watcher.remove(event.key().unwrap()).unwrap();
                    drop(watcher.watch(5_000u64).unwrap());
                    let flushed = if in_worker {
                        Err(CallError::OnWorker)
                    } else {
                        Ok(())
                    };
                    assert_eq!(watcher.flush(), flushed);
                    tell.send(()).unwrap();
                };
                let builder = Watcher::builder()
                    .timeout(HOUR)
                    .workers(2)
                    .inbox_capacity(1);
                if in_worker {
                    builder.on_event_in_worker(callback).build().unwrap()
                } else {
                    builder.on_event(callback).build().unwrap()
                }
            });
            let mortal = Options::new().timeout(Duration::from_millis(20));
            for key in 0..64u64 {
                watcher.beat_with(key, mortal.clone()).unwrap();
            }
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                // Keeps the inboxes full.
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        watcher.beat_many(2_000..2_600u64).unwrap();
                    }
                });
                let called = (0..64).all(|_| told.recv_timeout(GENEROUS).is_ok());
                stop.store(true, Ordering::Relaxed);
                assert!(called);
            });
            assert_eq!(watcher.close().panics, 0);
        });
    }
}

/// Waits on a worker until the other one is in a callback too, so that neither empties its inbox; but not for ever, for
/// perhaps the other one was sent nothing before the inbox of this one was full.
fn meet(workers_in: &[AtomicBool; 2]) {
    let index = usize::from(thread::current().name() == Some("liveness-1"));
    workers_in[index].store(true, Ordering::SeqCst);
    let began = Instant::now();
    while !workers_in[1 - index].load(Ordering::SeqCst) && began.elapsed() < Duration::from_secs(2)
    {
        thread::yield_now();
    }
}

#[test]
fn firing_early_on_overflow() {
    let far = [
        Duration::MAX,
        Duration::from_secs(u64::MAX),
        Duration::from_nanos(u64::MAX),
        Duration::from_nanos(u64::MAX - 1),
        Duration::from_nanos(1 << 63),
        Duration::from_millis(1 << 42),
        Duration::from_millis(u64::from(u32::MAX) + 1),
    ];
    let clock = ManualClock::new();
    // Late enough for most sums of the time and a timeout to overflow.
    clock.set(Duration::from_nanos(u64::MAX - 1_000_000_000_000));
    let (watcher, events) = Watcher::<u64>::builder()
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(64)
        .unwrap();
    let mut hearts = Vec::new();
    for (key, timeout) in (0u64..).zip(far) {
        watcher
            .beat_with(key, Options::new().timeout(timeout))
            .unwrap();
        let options = Options::new().timeout(timeout);
        hearts.push(watcher.watch_with(100 + key, options).unwrap());
    }
    for _ in 0..100 {
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
    }
    assert!(events.is_empty(), "{:?}", events.try_recv());
    assert!(hearts.iter().all(|heart| heart.beat().is_ok()));

    // And by a clock that has hardly begun.
    let (watcher, events) = Watcher::<u64>::builder()
        .workers(1)
        .build_with_channel(64)
        .unwrap();
    for (key, timeout) in (0u64..).zip(far) {
        watcher
            .beat_with(key, Options::new().timeout(timeout))
            .unwrap();
    }
    watcher
        .beat_with(99u64, Options::new().timeout(Duration::from_millis(5)))
        .unwrap();
    assert_eq!(events.recv_timeout(GENEROUS).unwrap().key(), Some(&99));
    watcher.flush().unwrap();
    assert!(events.is_empty());
}

#[test]
fn dying_after_two_to_the_thirty_sixth_milliseconds_of_uptime() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(64)
        .unwrap();
    for power in [31, 32, 36, 42] {
        let boundary = Duration::from_millis(1 << power);
        // Across the boundary in steps: one key beats on, one heart too, one key falls silent before it.
        clock.set(boundary - TIMEOUT / 2);
        watcher.beat(power).unwrap();
        watcher.beat(1u64).unwrap();
        let heart = watcher.watch(2u64).unwrap();
        watcher.flush().unwrap();
        // What was still watched before the jump of the clock is not of interest here.
        events.try_iter().for_each(drop);
        for _ in 0..4 {
            clock.advance(TIMEOUT / 4);
            watcher.beat(1u64).unwrap();
            heart.beat().unwrap();
            watcher.flush().unwrap();
        }
        let keys: Vec<_> = events
            .try_iter()
            .map(|event| event.key().copied())
            .collect();
        assert_eq!(keys, [Some(power)], "at 2^{power} ms");
        watcher.beat(power).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT - TICK);
        watcher.flush().unwrap();
        assert!(events.is_empty(), "early after 2^{power} ms");
        clock.advance(TICK);
        watcher.flush().unwrap();
        assert_eq!(events.try_iter().count(), 3, "late after 2^{power} ms");
        assert!(!heart.is_watched());
    }
    assert_eq!(watcher.close().failed_workers, 0);
}

/// The part of the test below that is stopped: beats, reports on its output when it is ready, and checks what is
/// reported to it.
fn live_through_a_suspension() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .events([EventKind::Expired, EventKind::Stalled])
        .build_with_channel(1_024)
        .unwrap();
    // Keys from 0 are beaten, those from 100 have hearts, those from 200 fall silent just before the suspension.
    let hearts: Vec<_> = (100..150u64)
        .map(|key| watcher.watch(key).unwrap())
        .collect();
    watcher.beat_many(200..220u64).unwrap();
    let silence = AtomicBool::new(false);
    let (silenced, is_silent) = bounded(1);
    thread::scope(|scope| {
        // Dropped at the end, or by a panic.
        let (stop, stopped) = bounded::<()>(0);
        let (watcher, hearts, silence) = (&watcher, &hearts, &silence);
        scope.spawn(move || {
            while stopped.recv_timeout(TIMEOUT / 10) == Err(RecvTimeoutError::Timeout) {
                watcher.beat_many(0..50u64).unwrap();
                for heart in hearts {
                    heart.beat().unwrap();
                }
                if silence.load(Ordering::Relaxed) {
                    let _ = silenced.try_send(());
                } else {
                    watcher.beat_many(200..220u64).unwrap();
                }
            }
        });
        println!("\nbeating");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        silence.store(true, Ordering::Relaxed);
        is_silent.recv_timeout(GENEROUS).unwrap();
        println!("\nready");

        let mut dead = Vec::new();
        let mut stall = None;
        while dead.len() < 20 {
            match events.recv_timeout(GENEROUS).unwrap() {
                Event::Stalled(told) => stall = stall.max(Some(told.resumed)),
                event => dead.push(event.into_key_event().unwrap()),
            }
        }
        let resumed = stall.expect("the suspension is told");
        for death in dead {
            assert!((200..220).contains(&death.key), "{death:?}");
            assert!(death.detected < resumed + TIMEOUT + GENEROUS);
        }
        watcher.flush().unwrap();
        assert_eq!(watcher.len(), 100);
        drop(stop);
    });
    watcher.close();
    let rest: Vec<_> = events
        .try_iter()
        .filter(|event| event.key().is_some())
        .collect();
    assert!(rest.is_empty(), "{rest:?}");
    println!("\nsurvived");
}

#[cfg(unix)]
#[test]
fn reporting_every_key_dead_after_the_process_was_suspended() {
    const NAME: &str = "faults::reporting_every_key_dead_after_the_process_was_suspended";
    if std::env::var_os("LIVENESS_TEST_CHILD").is_some() {
        return live_through_a_suspension();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("LIVENESS_TEST_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |word: &str| lines.any(|line| line.unwrap() == word);
    let pid = child.id().to_string();
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    let stdin = child.stdin.as_mut().unwrap();
    assert!(wait_for("beating"));
    stdin.write_all(b"go on\n").unwrap();
    assert!(wait_for("ready"));
    signal("-STOP");
    // The silence itself: four timeouts in which the child does nothing at all.
    thread::sleep(Duration::from_secs(2));
    signal("-CONT");
    let survived = wait_for("survived");
    assert!(child.wait().unwrap().success() && survived);
}
