//! The accounting: every episode is in exactly one place at every quiet point, whatever happens and wherever events go.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use liveness::{
    Builder, Event, EventKind, Heart, ManualClock, Mode, Options, Refused, Sink, Stats, Watcher,
};
use parking_lot::Mutex;

use crate::numbers;

const TIMEOUT: Duration = Duration::from_micros(1);

/// The terminal events among those received: expiries that ended an episode, and removals.
fn ends(events: impl IntoIterator<Item = Event<u64>>) -> (u64, u64) {
    let (mut expired, mut removed) = (0, 0);
    for event in events {
        match event {
            Event::Expired(event) => expired += u64::from(event.mode == Mode::Once),
            Event::Removed(_) => removed += 1,
            _ => {}
        }
    }
    (expired, removed)
}

/// Plays a long random script on a watcher of `builder`, and checks the equation on the way. Returns the final stats.
fn play(builder: Builder<u64>, seed: u64, mut between: impl FnMut()) -> Stats {
    let clock = ManualClock::new();
    let watcher = builder
        .timeout(TIMEOUT)
        .workers(3)
        .seed(seed)
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut random = numbers(seed);
    let mut hearts: Vec<Heart<u64>> = Vec::new();
    for step in 0..3_000 {
        let key = random(60);
        match random(12) {
            0..=3 => drop(watcher.beat(key)),
            4 => drop(watcher.beat_many(key..key + 20)),
            5 => drop(watcher.remove(&key)),
            6 => hearts.extend(watcher.watch(key)),
            7 if !hearts.is_empty() => {
                let heart = hearts.swap_remove(random(hearts.len() as u64) as usize);
                let _ = heart.beat();
                if random(2) == 0 {
                    heart.detach();
                }
            }
            8 => drop(watcher.beat_with(key, Options::new().mode(Mode::Repeat))),
            9 => drop(watcher.beat_with(key, Options::new().mode(Mode::Once))),
            _ => clock.advance(Duration::from_nanos(random(300))),
        }
        if step % 50 == 0 {
            between();
            watcher.flush().unwrap();
            let stats = watcher.stats();
            assert!(stats.is_balanced(), "step {step}: {stats:?}");
            assert_eq!(stats.live, watcher.len() as u64);
            assert_eq!(stats.live_by_worker.iter().sum::<u64>(), stats.live);
            assert_eq!(stats.live, watcher.snapshot().unwrap().len() as u64);
        }
    }
    let stats = watcher.close();
    assert!(stats.is_balanced(), "after close: {stats:?}");
    assert_eq!(stats.pending, 0, "nothing waits after close");
    // How many exactly depends on how far the clock went before a worker looked; a flush makes it look every 50 steps.
    assert!(stats.started > 200, "the script is dull: {stats:?}");
    assert_eq!(stats, watcher.stats());
    stats
}

const TERMINAL: [EventKind; 2] = [EventKind::Expired, EventKind::Removed];

#[test]
fn it_balances_with_a_channel_and_every_end_is_told_once() {
    for seed in 1..5 {
        let (sender, events) = unbounded();
        let stats = play(
            Watcher::builder().events(TERMINAL).sink(sender),
            seed,
            || {},
        );
        let told = ends(events.iter());
        assert_eq!(told, (stats.delivered, stats.removed));
        assert_eq!(stats.discarded, 0);
    }
}

#[test]
fn it_balances_with_a_channel_that_is_mostly_full() {
    for seed in 1..5 {
        let (sender, events) = crossbeam_channel::bounded(2);
        let mut told = Vec::new();
        let receiver: Receiver<Event<u64>> = events.clone();
        let builder = Watcher::builder().events(TERMINAL).sink(sender);
        let stats = play(builder, seed, || told.extend(receiver.try_recv()));
        told.extend(events.try_iter());
        let (expired, _) = ends(told);
        assert_eq!(expired, stats.delivered);
        assert!(
            stats.discarded > 0,
            "most waited until the close: {stats:?}"
        );
    }
}

#[test]
fn it_balances_with_a_callback_and_every_end_is_told_once() {
    for seed in 1..5 {
        let (tell, events) = unbounded();
        let builder = Watcher::builder()
            .events(TERMINAL)
            .on_event(move |event| tell.send(event).unwrap());
        let stats = play(builder, seed, || {});
        assert_eq!(ends(events.iter()), (stats.delivered, stats.removed));
    }
}

#[test]
fn it_balances_with_a_callback_that_sometimes_panics() {
    for in_worker in [false, true] {
        let callback = |event: Event<u64>| {
            let number = event.key_event().map_or(0, |event| event.generation.get());
            // Unwinds without the noise of the panic hook.
            if number.is_multiple_of(7) {
                std::panic::resume_unwind(Box::new("for the test"));
            }
        };
        let builder = Watcher::builder().events(TERMINAL);
        let builder = if in_worker {
            builder.on_event_in_worker(callback)
        } else {
            builder.on_event(callback)
        };
        let stats = play(builder, 6, || {});
        assert!(stats.panics > 10, "{stats:?}");
        assert_eq!(stats.discarded, 0);
    }
}

#[test]
fn it_balances_without_a_listener_and_without_wanted_kinds() {
    let unheard = play(Watcher::builder(), 7, || {});
    let (sender, events) = unbounded();
    let unwanted = play(Watcher::builder().events([]).sink(sender), 7, || {});
    for stats in [unheard, unwanted] {
        assert_eq!((stats.delivered, stats.pending), (0, 0));
        assert!(stats.discarded > 0);
    }
    assert!(events.is_empty());
}

#[test]
fn it_balances_when_the_receiver_goes() {
    let (sender, events) = unbounded();
    let mut events = Some(events);
    let mut looks = 0;
    let stats = play(Watcher::builder().sink(sender), 8, || {
        looks += 1;
        if looks == 20 {
            events = None;
        }
    });
    assert!(stats.delivered > 0 && stats.discarded > 0, "{stats:?}");
}

#[test]
fn it_balances_with_a_maximum_of_keys() {
    let (sender, events) = unbounded();
    let builder = Watcher::builder()
        .events(TERMINAL)
        .max_keys(25)
        .sink(sender);
    let stats = play(builder, 9, || {});
    assert_eq!(ends(events.iter()), (stats.delivered, stats.removed));
}

/// Refuses at random, and now and then panics.
struct Moody(Mutex<Box<dyn FnMut(u64) -> u64 + Send>>);

impl Sink<u64, ()> for Moody {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        let mood = (self.0.lock())(20);
        match mood {
            0 => std::panic::resume_unwind(Box::new("for the test")),
            1..15 => Err(Refused::Full(event)),
            _ => Ok(()),
        }
    }
}

#[test]
fn it_balances_with_a_moody_sink() {
    for seed in 10..13 {
        let sink = Moody(Mutex::new(Box::new(numbers(seed))));
        let stats = play(Watcher::builder().events(TERMINAL).sink(sink), seed, || {});
        assert!(stats.panics > 10, "{stats:?}");
    }
}

#[test]
fn it_balances_after_many_threads_did_all_at_once() {
    let (tell, events) = unbounded();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_micros(300))
        .workers(2)
        .inbox_capacity(8)
        .events(TERMINAL)
        .on_event(move |event| tell.send(event).unwrap())
        .build()
        .unwrap();
    thread::scope(|scope| {
        for seed in 20..24 {
            let watcher = &watcher;
            scope.spawn(move || {
                let mut random = numbers(seed);
                for _ in 0..5_000 {
                    let key = random(500);
                    match random(6) {
                        0 => watcher.remove(&key).unwrap(),
                        1 => drop(watcher.beat_many(key..key + 10).unwrap()),
                        2 => drop(watcher.watch(key).unwrap().beat()),
                        3 => drop(watcher.try_beat(key)),
                        _ => watcher.beat(key).unwrap(),
                    }
                }
            });
        }
    });
    let stats = watcher.close();
    assert!(stats.is_balanced(), "{stats:?}");
    let (expired, _) = ends(events.iter());
    assert_eq!(expired, stats.delivered);
    assert!(stats.delivered > 0 && stats.removed > 0);
}

#[test]
fn beats_are_counted_once_each() {
    let watcher = Watcher::<u64>::builder().workers(2).build().unwrap();
    watcher.beat(1u64).unwrap();
    watcher.try_beat(1u64).unwrap();
    watcher.beat_timeout(2u64, Duration::from_secs(1)).unwrap();
    watcher.beat_with(3u64, Options::new()).unwrap();
    watcher.beat_many([1u64, 1, 4]).unwrap();
    let heart = watcher.watch(5u64).unwrap();
    (0..10).for_each(|_| heart.beat().unwrap());
    watcher.remove(&9).unwrap();
    watcher.flush().unwrap();
    let stats = watcher.stats();
    // The heart's own beats nobody counts: that is what makes them cheap.
    assert_eq!((stats.applied_beats, stats.started), (8, 5));
}
