//! Many threads that do everything at once, and an account that still balances.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use liveness::dispatch::{
    Backoff, Cancelled, Context, Dispatcher, Emit, EmitErrorKind, EventId, Failure, On,
    OnDuplicate, Schedule, Topic,
};
use parking_lot::Mutex;

use crate::kit::{MS, PATIENCE, Random, assert_balanced, flush};

/// What became of the events as their handlers and callers saw it, not by the dispatcher's own account.
#[derive(Default)]
struct Ledger {
    /// How often the handler of an event returned without an error.
    done: Mutex<HashMap<u64, u64>>,
    /// The events that were cancelled while they waited, were dead or ran.
    cancelled: Mutex<HashMap<u64, Cancelled>>,
    /// The events that were accepted.
    accepted: AtomicU64,
    /// The next event.
    next: AtomicU64,
}

fn topics() -> [Topic<u64>; 3] {
    ["a", "b", "c"].map(|name| Topic::named(name).unwrap())
}

/// Registers the handler that notes what it has done; each fifth event fails once, each seventh panics once.
fn register(dispatcher: &Dispatcher, topic: &Topic<u64>, options: On, ledger: &Arc<Ledger>) {
    let ledger = ledger.clone();
    let handle = move |context: &Context, event: &u64| -> Result<(), Failure> {
        if context.attempt() == 1 {
            match event % 35 {
                5 | 10 => return Err("once".into()),
                7 | 14 => panic::silent(),
                1 => return Err(Failure::retry_in(MS, "later")),
                _ => {}
            }
        }
        *ledger.done.lock().entry(*event).or_default() += 1;
        Ok(())
    };
    dispatcher.on(topic, "do", options, handle).unwrap();
}

/// Panics without a message.
mod panic {
    pub(super) fn silent() -> ! {
        std::panic::resume_unwind(Box::new("on purpose"))
    }
}

fn options() -> On {
    On::new()
        .backoff(Backoff::constant(MS).jitter(1.0))
        .max_attempts(3)
}

#[test]
fn whatever_threads_do_at_once_each_event_ends_once() {
    const OPERATIONS: u64 = 4_000;
    let dispatcher = Dispatcher::builder()
        .threads(4)
        .max_unfinished(2_000)
        .max_dead(50)
        .seed(1)
        .build()
        .unwrap();
    let ledger = Arc::new(Ledger::default());
    let [a, b, c] = topics();
    register(&dispatcher, &a, options(), &ledger);
    register(&dispatcher, &b, options().parallel(1), &ledger);
    let limited = options()
        .parallel(2)
        .max_duration(PATIENCE)
        .progress_within(PATIENCE);
    register(&dispatcher, &c, limited, &ledger);
    thread::scope(|scope| {
        for seed in 0..6 {
            let (dispatcher, ledger) = (&dispatcher, &ledger);
            scope.spawn(move || one_of_many(dispatcher, ledger, seed, OPERATIONS));
        }
        // Handlers come and go, and topics pause.
        let dispatcher = &dispatcher;
        scope.spawn(move || {
            let mut random = Random(99);
            for _ in 0..OPERATIONS / 4 {
                let topic = &topics()[random.below(3) as usize];
                if random.below(2) == 0 {
                    dispatcher.pause(topic);
                    thread::yield_now();
                    dispatcher.resume(topic);
                } else {
                    let on = On::new().parallel(1 + random.below(3) as usize);
                    dispatcher.on(topic, "other", on, |_, _| Ok(())).unwrap();
                    thread::yield_now();
                    assert!(dispatcher.remove(topic, "other"));
                }
            }
        });
    });
    for topic in topics() {
        dispatcher.resume(&topic);
        // All that waits is due now.
        for waiting in dispatcher.peek(&topic, usize::MAX) {
            let _ = dispatcher.reschedule(&topic, waiting.id, &Emit::now());
        }
    }
    flush(&dispatcher);
    // What was about to be tried again a moment later.
    while dispatcher.stats().total().waiting > 0 {
        thread::yield_now();
    }
    flush(&dispatcher);
    let total = dispatcher.stats().total();
    assert_eq!(total.emitted, ledger.accepted.load(Ordering::SeqCst));
    let done = ledger.done.lock();
    let cancelled = ledger.cancelled.lock();
    assert_eq!(cancelled.len() as u64, total.cancelled);
    // Exactly once, though a call may have returned before its event was cancelled, or before another handler failed.
    assert!(
        done.values().all(|count| *count == 1),
        "a handler that was done was called again"
    );
    let twice = done
        .keys()
        .filter(|event| cancelled.get(event) == Some(&Cancelled::Waiting));
    assert_eq!(twice.count(), 0, "what was cancelled while it waited ran");
    let ended = done
        .keys()
        .filter(|event| !cancelled.contains_key(event))
        .count() as u64;
    assert!(ended >= total.done && ended <= total.done + total.dead + total.purged);
    drop((done, cancelled));
    assert!(dispatcher.stop(PATIENCE).undone.is_empty());
    assert_balanced(&dispatcher);
}

/// One thread's share: emits, cancels, reschedules and replays at random.
fn one_of_many(dispatcher: &Dispatcher, ledger: &Ledger, seed: u64, operations: u64) {
    let mut random = Random(seed);
    let mut known: Vec<(Topic<u64>, EventId, u64)> = Vec::new();
    for _ in 0..operations {
        let topic = topics()[random.below(3) as usize].clone();
        match random.below(10) {
            0..6 => {
                let event = ledger.next.fetch_add(1, Ordering::SeqCst);
                let how = Emit::after(random.below(3) as u32 * MS / 2);
                match dispatcher.emit_with(&topic, event, how) {
                    Ok(id) => {
                        ledger.accepted.fetch_add(1, Ordering::SeqCst);
                        known.push((topic, id, event));
                    }
                    Err(error) => assert_eq!(error.kind(), EmitErrorKind::Full),
                }
            }
            6 if !known.is_empty() => {
                let at = random.below(known.len() as u64) as usize;
                let (topic, id, event) = known.swap_remove(at);
                let cancelled = dispatcher.cancel(&topic, id);
                if cancelled != Cancelled::Unknown {
                    ledger.cancelled.lock().insert(event, cancelled);
                }
            }
            7 if !known.is_empty() => {
                let (topic, id, _) = &known[random.below(known.len() as u64) as usize];
                let how = Emit::after(random.below(3) as u32 * MS);
                let _ = dispatcher.reschedule(topic, *id, &how);
            }
            8 => {
                let ids = dispatcher.emit_many(
                    &topic,
                    (0..random.below(20)).map(|_| ledger.next.fetch_add(1, Ordering::SeqCst)),
                );
                let count = ids.map_or_else(|error| error.accepted().len(), |ids| ids.len());
                ledger.accepted.fetch_add(count as u64, Ordering::SeqCst);
            }
            _ => {
                let stats = dispatcher.stats();
                assert!(stats.is_balanced(), "{stats}");
            }
        }
    }
}

#[test]
fn a_stop_in_the_middle_of_everything_loses_nothing() {
    for seed in 0..40 {
        let dispatcher = Dispatcher::builder().threads(3).seed(seed).build().unwrap();
        let ledger = Arc::new(Ledger::default());
        let [a, b, c] = topics();
        for topic in [&a, &b, &c] {
            register(
                &dispatcher,
                topic,
                options().max_duration(PATIENCE),
                &ledger,
            );
        }
        dispatcher
            .schedule(&a, "tick", Schedule::every(MS / 10), || 0)
            .unwrap();
        let accepted = AtomicU64::new(0);
        let undone = thread::scope(|scope| {
            for thread in 0..4 {
                let (dispatcher, accepted, ledger) = (&dispatcher, &accepted, &ledger);
                scope.spawn(move || {
                    let mut random = Random(seed * 4 + thread);
                    loop {
                        let topic = &topics()[random.below(3) as usize];
                        let event = 1_000 + ledger.next.fetch_add(1, Ordering::SeqCst);
                        let delay = random.below(2) as u32 * MS;
                        let how = Emit::after(delay);
                        let how = if random.below(8) == 0 {
                            how.unique("key").on_duplicate(OnDuplicate::Error)
                        } else {
                            how
                        };
                        match dispatcher
                            .emit_with(topic, event, how)
                            .map_err(|it| it.kind())
                        {
                            Ok(_) => drop(accepted.fetch_add(1, Ordering::SeqCst)),
                            Err(EmitErrorKind::Duplicate(_)) => {}
                            Err(EmitErrorKind::Stopped) => break,
                            Err(kind) => panic!("{kind}"),
                        }
                    }
                });
            }
            let dispatcher = &dispatcher;
            let stop = scope.spawn(move || {
                let mut random = Random(seed);
                while dispatcher.stats().total().done < 20 + random.below(200) {
                    thread::yield_now();
                }
                dispatcher.stop(PATIENCE)
            });
            stop.join().unwrap()
        });
        assert!(undone.still_running.is_empty());
        let total = dispatcher.stats().total();
        assert_eq!(total.discarded, undone.undone.len() as u64);
        assert_eq!((total.waiting, total.running), (0, 0));
        assert!(total.emitted >= accepted.load(Ordering::SeqCst));
        assert_balanced(&dispatcher);
    }
}

#[test]
fn no_wake_up_is_lost_between_a_few_threads() {
    // Each event is emitted when the one before has run: a lost wake-up would stop the chain.
    let dispatcher = Dispatcher::builder().threads(3).build().unwrap();
    let [a, b, _] = topics();
    let (sender, calls) = crossbeam_channel::unbounded();
    for (topic, next) in [(&a, b.clone()), (&b, a.clone())] {
        let (sender, own) = (sender.clone(), dispatcher.clone());
        let handle = move |_: &Context, event: &u64| {
            if *event == 0 {
                sender.send(())?;
                return Ok(());
            }
            // At once, or after a delay about as long as it takes to fall asleep.
            let delay = Duration::from_micros(event % 60);
            own.emit_with(&next, event - 1, Emit::after(delay))?;
            Ok(())
        };
        dispatcher.on(topic, "pass", On::new(), handle).unwrap();
    }
    for _ in 0..4 {
        dispatcher.emit(&a, 2_000).unwrap();
    }
    for _ in 0..4 {
        crate::kit::get(&calls);
    }
    flush(&dispatcher);
    assert!(dispatcher.stop(PATIENCE).undone.is_empty());
}

#[test]
fn removals_and_starts_that_race_leave_no_remover_waiting() {
    let dispatcher = Dispatcher::builder().threads(4).build().unwrap();
    let [a, ..] = topics();
    dispatcher
        .on(&a, "stays", On::new(), |_, _| Ok(()))
        .unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if dispatcher.counts(&a).ready < 100 {
                    dispatcher.emit_many(&a, 0..50).unwrap();
                }
                thread::yield_now();
            }
        });
        let removers: Vec<_> = ["one", "two", "three"]
            .into_iter()
            .map(|name| {
                let (dispatcher, a) = (&dispatcher, &a);
                scope.spawn(move || {
                    for _ in 0..300 {
                        // No call begins once `remove` has returned.
                        let is_removed = Arc::new(AtomicBool::new(false));
                        let seen = is_removed.clone();
                        let handle = move |_: &Context, _: &u64| {
                            assert!(!seen.load(Ordering::SeqCst), "called after its removal");
                            Ok(())
                        };
                        dispatcher.on(a, name, On::new(), handle).unwrap();
                        assert!(dispatcher.remove(a, name));
                        is_removed.store(true, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for remover in removers {
            remover.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    flush(&dispatcher);
    assert_eq!(dispatcher.stats().total().panics, 0);
}

#[test]
fn a_manual_clock_moved_by_several_threads_starts_all_that_is_due() {
    let it = crate::kit::manual();
    let (handle, calls) = crate::kit::recorder();
    it.dispatcher
        .on(&crate::kit::TOPIC, "do", On::new(), handle)
        .unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    it.clock.advance(MS);
                    thread::yield_now();
                }
            });
        }
        let mut random = Random(7);
        for event in 0..2_000 {
            let how = Emit::after(random.below(200) as u32 * MS);
            it.dispatcher
                .emit_with(&crate::kit::TOPIC, event, how)
                .unwrap();
        }
    });
    it.clock.advance(200 * MS);
    for _ in 0..2_000 {
        crate::kit::get(&calls);
    }
    it.flush();
    assert_eq!(it.dispatcher.stats().total().done, 2_000);
}
