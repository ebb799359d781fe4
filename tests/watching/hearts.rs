//! Hearts: beats without a message, and handles that never touch a key that is no longer theirs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use liveness::{Event, EventKind, Heart, HeartError, ManualClock, Mode, Options, Watcher};

use crate::GENEROUS;

const TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// A watcher that is stepped by hand.
fn manual() -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .events([EventKind::Expired, EventKind::Recovered, EventKind::Removed])
        .clock(clock.clone())
        .build_with_channel(4_096)
        .unwrap();
    (clock, watcher, events)
}

/// What is reported by now, as kind and key.
fn told(watcher: &Watcher<u64>, events: &Receiver<Event<u64>>) -> Vec<(EventKind, u64)> {
    watcher.flush().unwrap();
    events
        .try_iter()
        .map(|event| (event.kind(), *event.key().unwrap()))
        .collect()
}

#[test]
fn a_heart_lives_by_its_beats_and_dies_exactly_a_timeout_after_the_last() {
    let (clock, watcher, events) = manual();
    let heart = watcher.watch(1u64).unwrap();
    assert_eq!(heart.key(), &1);
    watcher.flush().unwrap();
    // Beats at odd moments, with a look of the worker between them, so that every kind of check comes up.
    let (mut last, mut since) = (clock.now(), Duration::ZERO);
    for step in (0..200u64).map(|i| Duration::from_millis(1 + i * 7_919 % 9_999)) {
        let step = step.min(TIMEOUT - TICK - since);
        clock.advance(step);
        heart.beat().unwrap();
        last = clock.now();
        since = (TIMEOUT - step) / 3;
        clock.advance(since);
        assert_eq!(told(&watcher, &events), []);
    }
    clock.set(last + TIMEOUT - TICK);
    assert_eq!(told(&watcher, &events), []);
    assert!(heart.is_watched());
    clock.advance(TICK);
    watcher.flush().unwrap();
    let event = events.try_recv().unwrap().into_key_event().unwrap();
    assert_eq!(event.last_beat, last);
    assert_eq!(event.deadline, Some(last + TIMEOUT));
    assert_eq!(event.lateness(), Duration::ZERO);
    assert_eq!(heart.beat(), Err(HeartError::Expired));
}

#[test]
fn only_the_silent_ones_of_many_hearts_expire() {
    let (clock, watcher, events) = manual();
    let hearts: Vec<Heart<u64>> = (0..1_000u64)
        .map(|key| watcher.watch(key).unwrap())
        .collect();
    for round in 0..20 {
        clock.advance(TIMEOUT / 4);
        for heart in hearts.iter().filter(|heart| heart.key() % 10 != 3) {
            heart.beat().unwrap();
        }
        let told = told(&watcher, &events);
        let deaths = if round == 3 { 100 } else { 0 };
        assert_eq!(told.len(), deaths, "round {round}");
        assert!(told.iter().all(|(_, key)| key % 10 == 3));
    }
    assert_eq!(watcher.len(), 900);
}

#[test]
fn a_heart_says_what_became_of_its_key() {
    let (clock, watcher, events) = manual();
    let removed = watcher.watch(1u64).unwrap();
    let replaced = watcher.watch(2u64).unwrap();
    let younger = watcher.watch(2u64).unwrap();
    let expired = watcher
        .watch_with(3u64, Options::new().timeout(TIMEOUT / 2))
        .unwrap();
    watcher.remove(&1).unwrap();
    clock.advance(TIMEOUT / 2);
    // They are on two workers perhaps, whose events have no order among them.
    let told = told(&watcher, &events);
    assert_eq!(told.len(), 2);
    assert!(told.contains(&(EventKind::Removed, 1)) && told.contains(&(EventKind::Expired, 3)));
    assert_eq!(removed.beat(), Err(HeartError::Removed));
    assert_eq!(replaced.beat(), Err(HeartError::Replaced));
    assert_eq!(expired.beat(), Err(HeartError::Expired));
    assert_eq!(younger.beat(), Ok(()));
    assert!(younger.is_watched() && !removed.is_watched() && !replaced.is_watched());
    watcher.close();
    assert_eq!(younger.beat(), Err(HeartError::Closed));
    assert!(!younger.is_watched());
    assert_eq!(removed.beat(), Err(HeartError::Removed), "a verdict stands");
}

#[test]
fn a_stale_heart_never_touches_a_later_episode_of_its_key() {
    let (clock, watcher, events) = manual();
    let stale = watcher.watch(1u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
    watcher.beat(1u64).unwrap();
    let before = watcher.status(&1).unwrap().unwrap();
    clock.advance(TIMEOUT / 2);
    assert_eq!(stale.beat(), Err(HeartError::Expired));
    let status = watcher.status(&1).unwrap().unwrap();
    assert_eq!(
        (status.generation, status.last_beat, status.deadline),
        (before.generation, before.last_beat, before.deadline)
    );
    drop(stale);
    assert!(watcher.contains(&1).unwrap(), "its drop removes nothing");
    clock.advance(TIMEOUT / 2);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
}

#[test]
fn a_stale_heart_never_touches_another_key_in_the_same_slot() {
    let (clock, watcher, events) = manual();
    let stale: Vec<Heart<u64>> = (0..50u64).map(|key| watcher.watch(key).unwrap()).collect();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    assert_eq!(told(&watcher, &events).len(), 50);
    // These take the slots that the first ones left.
    let fresh: Vec<Heart<u64>> = (50..100u64)
        .map(|key| watcher.watch(key).unwrap())
        .collect();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT / 2);
    for heart in &stale {
        assert_eq!(heart.beat(), Err(HeartError::Expired));
    }
    drop(stale);
    clock.advance(TIMEOUT / 2);
    assert_eq!(told(&watcher, &events).len(), 50, "nobody kept them alive");
    assert!(
        fresh
            .iter()
            .all(|heart| heart.beat() == Err(HeartError::Expired))
    );
}

#[test]
fn a_key_goes_with_the_last_clone_of_its_heart() {
    let (_clock, watcher, events) = manual();
    let heart = watcher.watch(1u64).unwrap();
    let clone = heart.clone();
    drop(heart);
    assert!(watcher.contains(&1).unwrap());
    clone.beat().unwrap();
    drop(clone);
    assert!(!watcher.contains(&1).unwrap());
    assert_eq!(told(&watcher, &events), [(EventKind::Removed, 1)]);
}

#[test]
fn a_key_that_is_left_lives_on_by_other_beats_and_expires_like_any_other() {
    let (clock, watcher, events) = manual();
    let heart = watcher.watch(1u64).unwrap();
    let clone = heart.clone();
    clock.advance(Duration::from_secs(3));
    heart.beat().unwrap();
    clone.detach();
    assert!(heart.is_watched());
    drop(heart);
    let status = watcher.status(&1).unwrap().unwrap();
    assert_eq!(status.last_beat, Duration::from_secs(3).into());
    clock.advance(TIMEOUT - TICK);
    watcher.beat(1u64).unwrap();
    clock.advance(TICK);
    assert_eq!(told(&watcher, &events), []);
    clock.advance(TIMEOUT - TICK);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
}

#[test]
fn dropping_a_replaced_heart_leaves_the_key_to_the_younger() {
    let (_clock, watcher, _events) = manual();
    let older = watcher.watch(1u64).unwrap();
    let younger = watcher.watch(1u64).unwrap();
    // Perhaps before the worker could say that the older is replaced.
    drop(older);
    assert!(watcher.contains(&1).unwrap());
    assert_eq!(younger.beat(), Ok(()));
}

#[test]
fn messages_and_the_heart_are_beats_of_one_key() {
    let (clock, watcher, events) = manual();
    watcher.beat(1u64).unwrap();
    clock.advance(Duration::from_secs(9));
    let heart = watcher.watch(1u64).unwrap();
    assert_eq!(
        watcher.status(&1).unwrap().unwrap().joined,
        Duration::ZERO.into()
    );
    clock.advance(Duration::from_secs(9));
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(Duration::from_secs(9));
    assert_eq!(told(&watcher, &events), []);
    heart.beat().unwrap();
    clock.advance(TIMEOUT - TICK);
    assert_eq!(told(&watcher, &events), []);
    clock.advance(TICK);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
}

#[test]
fn a_shorter_timeout_given_to_a_key_with_a_heart_holds_at_once() {
    let (clock, watcher, events) = manual();
    let heart = watcher.watch(1u64).unwrap();
    heart.beat().unwrap();
    watcher
        .beat_with(1u64, Options::new().timeout(Duration::from_secs(1)))
        .unwrap();
    watcher.flush().unwrap();
    clock.advance(Duration::from_secs(1) - TICK);
    assert_eq!(told(&watcher, &events), []);
    clock.advance(TICK);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
    assert_eq!(heart.beat(), Err(HeartError::Expired));
}

#[test]
fn a_repeat_heart_that_was_down_recovers_with_its_first_beat() {
    let (clock, watcher, events) = manual();
    let heart = watcher
        .watch_with(1u64, Options::new().mode(Mode::Repeat))
        .unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
    clock.advance(TIMEOUT);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
    assert!(heart.is_watched());
    clock.advance(Duration::from_secs(1));
    heart.beat().unwrap();
    watcher.flush().unwrap();
    let event = events.try_recv().unwrap();
    assert_eq!(event.kind(), EventKind::Recovered);
    let event = event.into_key_event().unwrap();
    assert_eq!(
        (event.misses, event.down_for),
        (2, Some(TIMEOUT + Duration::from_secs(1)))
    );
    heart.beat().unwrap();
    clock.advance(TIMEOUT - TICK);
    assert_eq!(told(&watcher, &events), []);
    clock.advance(TICK);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
}

#[test]
fn a_recovery_is_told_in_real_time_without_another_call() {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(1)
        .events([EventKind::Expired, EventKind::Recovered])
        .build_with_channel(16)
        .unwrap();
    let options = Options::new()
        .timeout(Duration::from_millis(10))
        .mode(Mode::Repeat);
    let heart = watcher.watch_with(1u64, options).unwrap();
    let event = events.recv_timeout(GENEROUS).unwrap();
    assert_eq!(event.kind(), EventKind::Expired);
    heart.beat().unwrap();
    let recovered = std::iter::from_fn(|| events.recv_timeout(GENEROUS).ok())
        .find(|event| event.kind() == EventKind::Recovered);
    assert!(recovered.is_some());
}

#[test]
fn in_real_time_a_beating_heart_stays_and_a_silent_one_is_never_early() {
    let timeout = Duration::from_millis(300);
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(timeout)
        .workers(1)
        .build_with_channel(16)
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = &watcher;
        let beating = watcher.watch(1u64).unwrap();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) && beating.beat().is_ok() {
                thread::yield_now();
            }
            beating.detach();
        });
        // Three deaths next to it take one and a half timeouts at the least.
        for key in 2..5u64 {
            let silent = watcher.watch(key).unwrap();
            let last = Instant::now();
            silent.beat().unwrap();
            silent.detach();
            let event = events.recv_timeout(GENEROUS);
            let elapsed = last.elapsed();
            if event.as_ref().ok().and_then(Event::key) != Some(&key) || elapsed < timeout {
                stop.store(true, Ordering::Relaxed);
                panic!("{event:?} after {elapsed:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(events.recv_timeout(GENEROUS).unwrap().key(), Some(&1));
}

#[test]
fn a_heart_dropped_by_a_panicking_thread_leaves_its_key_to_expire() {
    let (clock, watcher, events) = manual();
    let (crashed, ended) = (watcher.watch(1u64).unwrap(), watcher.watch(2u64).unwrap());
    let result = thread::scope(|scope| {
        let crashing = scope.spawn(move || {
            let _heart = crashed;
            std::panic::panic_any("this thread crashes");
        });
        drop(ended);
        crashing.join()
    });
    assert!(result.is_err());
    assert_eq!(told(&watcher, &events), [(EventKind::Removed, 2)]);
    clock.advance(TIMEOUT);
    assert_eq!(told(&watcher, &events), [(EventKind::Expired, 1)]);
}
