//! Events of one worker come by deadline, and the episodes of one key one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use liveness::{Event, EventKind, Generation, ManualClock, Mode, Options, Refused, Sink, Watcher};
use parking_lot::Mutex;

use crate::numbers;

/// Keeps what each worker offers, in order.
#[derive(Clone, Default)]
struct ByWorker(Arc<Mutex<HashMap<ThreadId, Vec<Event<u64>>>>>);

impl Sink<u64, ()> for ByWorker {
    fn offer(&self, event: Event<u64>) -> Result<(), Refused<u64, ()>> {
        let mut workers = self.0.lock();
        workers
            .entry(thread::current().id())
            .or_default()
            .push(event);
        Ok(())
    }
}

#[test]
fn each_worker_tells_expiries_by_deadline() {
    let clock = ManualClock::new();
    let told = ByWorker::default();
    let watcher = Watcher::<u64>::builder()
        .workers(3)
        .clock(clock.clone())
        .sink(told.clone())
        .build()
        .unwrap();
    let mut random = numbers(1);
    let mut hearts = Vec::new();
    for key in 0..3_000u64 {
        clock.advance(Duration::from_nanos(random(5)));
        let options = Options::new().timeout(Duration::from_nanos(10_000 + random(40) * 500));
        if key % 3 == 0 {
            hearts.push(watcher.watch_with(key, options).unwrap());
        } else {
            watcher.beat_with(key, options).unwrap();
        }
    }
    watcher.flush().unwrap();
    for heart in &hearts {
        clock.advance(Duration::from_nanos(random(3)));
        // Some have expired by now.
        let _ = heart.beat();
    }
    // Some rounds find one that is due, the last finds very many.
    for step in [1, 10, 100, 1_000, 1_000_000] {
        clock.advance(Duration::from_nanos(step));
        watcher.flush().unwrap();
    }
    let told = told.0.lock();
    assert_eq!(told.values().map(Vec::len).sum::<usize>(), 3_000);
    for events in told.values() {
        let deadline = |event: &Event<u64>| event.key_event().unwrap().deadline.unwrap();
        assert!(events.is_sorted_by_key(deadline));
        assert!(events.is_sorted_by_key(|event| event.key_event().unwrap().detected));
    }
}

#[test]
fn stamps_that_arrive_out_of_order_still_expire_by_deadline() {
    let mut watcher = liveness::LocalWatcher::<u64>::builder()
        .timeout(Duration::from_micros(100))
        .build()
        .unwrap();
    let mut random = numbers(2);
    let mut stamps = HashMap::new();
    for key in 0..2_000u64 {
        watcher.beat(key, Duration::ZERO).unwrap();
        stamps.insert(key, 0);
    }
    // Up to a thousand beats late, which is more than a list is searched for the place of a stamp.
    for i in 0..5_000u64 {
        let stamp = 10_000 + i * 10 - random(10_000);
        let key = random(2_000);
        watcher.beat(key, Duration::from_nanos(stamp)).unwrap();
        let last = stamps.get_mut(&key).unwrap();
        *last = stamp.max(*last);
    }
    let mut told = Vec::new();
    watcher.poll(Duration::from_secs(1), |event| {
        told.push(event.into_key_event().unwrap());
    });
    assert_eq!(told.len(), stamps.len());
    assert!(told.is_sorted_by_key(|event| event.deadline));
    for event in told {
        assert_eq!(
            event.last_beat,
            Duration::from_nanos(stamps[&event.key]).into()
        );
    }
}

#[test]
fn an_episode_is_told_entirely_before_the_next_one_of_its_key() {
    let clock = ManualClock::new();
    // One event fits, so that most of them wait in the worker while the episodes go on.
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_nanos(100))
        .events([
            EventKind::Joined,
            EventKind::Expired,
            EventKind::Recovered,
            EventKind::Removed,
        ])
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    let mut random = numbers(3);
    let mut told = Vec::new();
    for _ in 0..4_000 {
        let key = random(4);
        match random(16) {
            0 => watcher.remove(&key).unwrap(),
            1..=4 => watcher
                .beat_with(key, Options::new().mode(Mode::Repeat))
                .unwrap(),
            5 => watcher
                .beat_with(key, Options::new().mode(Mode::Once))
                .unwrap(),
            _ => watcher.beat(key).unwrap(),
        }
        if random(3) == 0 {
            watcher.flush().unwrap();
            clock.advance(Duration::from_nanos(random(150)));
        }
        if random(4) != 0 {
            told.extend(events.try_recv());
        }
    }
    clock.advance(Duration::from_secs(1));
    for key in 0..4u64 {
        watcher
            .beat_with(key, Options::new().mode(Mode::Once))
            .unwrap();
    }
    watcher.flush().unwrap();
    clock.advance(Duration::from_secs(1));
    loop {
        watcher.flush().unwrap();
        match events.try_recv() {
            Ok(event) => told.push(event),
            Err(_) => break,
        }
    }

    // What each key went through, an episode after the other.
    let mut stories: HashMap<u64, Vec<Vec<&Event<u64>>>> = HashMap::new();
    for event in &told {
        let story = stories.entry(*event.key().unwrap()).or_default();
        if event.kind() == EventKind::Joined {
            story.push(Vec::new());
        }
        story.last_mut().expect("it begins by joining").push(event);
    }
    let generation = |event: &Event<u64>| event.key_event().unwrap().generation;
    let mut recoveries = 0;
    for episodes in stories.values() {
        assert!(episodes.is_sorted_by(|a, b| generation(a[0]) < generation(b[0])));
        for episode in episodes {
            let ends = episode.iter().filter(|event| is_end(event)).count();
            assert!(
                ends == 1 && is_end(episode[episode.len() - 1]),
                "{episode:?}"
            );
            assert!(
                episode
                    .iter()
                    .all(|event| generation(event) == generation(episode[0]))
            );
            for pair in episode.windows(2) {
                if pair[1].kind() == EventKind::Recovered {
                    assert_eq!(pair[0].kind(), EventKind::Expired, "{episode:?}");
                    recoveries += 1;
                }
            }
        }
    }
    let stats = watcher.stats();
    assert!(stats.started > 200, "the script is dull: {stats:?}");
    assert_eq!((stats.live, stats.pending), (0, 0));
    let ends = told.iter().filter(|event| is_end(event)).count();
    assert_eq!(ends as u64, stats.started);
    assert!(
        recoveries > 10,
        "the script is dull: {recoveries} recoveries"
    );
}

/// Whether `event` is the last of its episode.
fn is_end(event: &Event<u64>) -> bool {
    match event {
        Event::Expired(expired) => expired.mode == Mode::Once,
        event => event.kind() == EventKind::Removed,
    }
}

#[test]
fn generations_of_one_key_grow() {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_nanos(1))
        .workers(2)
        .clock(clock.clone())
        .build_with_channel(1_024)
        .unwrap();
    for _ in 0..50 {
        watcher.beat_many(0..10u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(Duration::from_nanos(1));
        watcher.flush().unwrap();
    }
    let mut last: HashMap<u64, Generation> = HashMap::new();
    let mut count = 0;
    for event in events.try_iter() {
        let event = event.into_key_event().unwrap();
        let before = last.insert(event.key, event.generation).unwrap_or_default();
        assert!(event.generation > before);
        count += 1;
    }
    assert_eq!(count, 500);
}
