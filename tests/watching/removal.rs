//! Removal: it ends an episode without an expiry, wherever its event is, and an unknown key is fine.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use liveness::{Event, EventKind, ManualClock, Watcher};

use crate::GENEROUS;
use crate::round::go_round;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A watcher that is stepped by hand and tells of `kinds` over a channel for `capacity` events.
fn manual(
    kinds: impl IntoIterator<Item = EventKind>,
    capacity: usize,
) -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .events(kinds)
        .workers(1)
        .clock(clock.clone())
        .build_with_channel(capacity)
        .unwrap();
    (clock, watcher, events)
}

/// Flushes and receives until nothing comes; kinds and keys.
fn drain(watcher: &Watcher<u64>, events: &Receiver<Event<u64>>) -> Vec<(EventKind, u64)> {
    let mut told = Vec::new();
    loop {
        watcher.flush().unwrap();
        if events.is_empty() {
            return told;
        }
        told.extend(
            events
                .try_iter()
                .map(|event| (event.kind(), *event.key().unwrap())),
        );
    }
}

#[test]
fn a_removed_key_does_not_expire() {
    let (clock, watcher, events) = manual([EventKind::Expired], 16);
    watcher.beat_many(0..4u64).unwrap();
    watcher.remove(&1).unwrap();
    assert!(!watcher.contains(&1).unwrap());
    clock.advance(TIMEOUT);
    let keys = drain(&watcher, &events);
    assert!(keys.iter().all(|&(_, key)| key != 1));
    assert_eq!(keys.len(), 3);
    assert_eq!(watcher.stats().removed, 1);
}

#[test]
fn removing_an_unknown_key_changes_nothing() {
    let (_clock, watcher, events) = manual([EventKind::Expired, EventKind::Removed], 16);
    watcher.remove(&1).unwrap();
    watcher.beat(2u64).unwrap();
    watcher.remove(&2).unwrap();
    watcher.remove(&2).unwrap();
    assert_eq!(drain(&watcher, &events), [(EventKind::Removed, 2)]);
    let stats = watcher.stats();
    assert_eq!((stats.started, stats.removed, stats.live), (1, 1, 0));
}

#[test]
fn removal_takes_effect_in_the_order_of_calls() {
    let (clock, watcher, events) = manual([EventKind::Expired], 16);
    watcher.beat(1u64).unwrap();
    let first = watcher.status(&1).unwrap().unwrap();
    watcher.remove(&1).unwrap();
    watcher.beat(1u64).unwrap();
    let second = watcher.status(&1).unwrap().unwrap();
    assert!(second.generation > first.generation);
    watcher.beat_many([2u64]).unwrap();
    watcher.remove(&2).unwrap();
    clock.advance(TIMEOUT);
    assert_eq!(drain(&watcher, &events), [(EventKind::Expired, 1)]);
}

#[test]
fn an_expiry_that_waits_for_a_full_sink_is_taken_back() {
    for wanted in [
        vec![EventKind::Expired],
        vec![EventKind::Expired, EventKind::Removed],
    ] {
        let tells = wanted.contains(&EventKind::Removed);
        let (clock, watcher, events) = manual(wanted, 1);
        watcher.beat(1u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(Duration::from_nanos(1));
        watcher.beat_many(2..10u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        // Key 1 is in the channel, which is full; the others wait.
        for key in [5u64, 9] {
            watcher.remove(&key).unwrap();
        }
        watcher.flush().unwrap();
        let stats = watcher.stats();
        assert_eq!((stats.removed, stats.delivered, stats.pending), (2, 1, 6));
        assert!(stats.is_balanced());
        let told = drain(&watcher, &events);
        let count = |wanted: EventKind| told.iter().filter(|&&(kind, _)| kind == wanted).count();
        assert_eq!(count(EventKind::Expired), 7);
        assert_eq!(count(EventKind::Removed), if tells { 2 } else { 0 });
        assert!(
            !told.contains(&(EventKind::Expired, 5)) && !told.contains(&(EventKind::Expired, 9))
        );
        assert!(watcher.stats().is_balanced());
    }
}

#[test]
fn an_expiry_that_waits_for_the_callback_is_taken_back() {
    for tells in [false, true] {
        let clock = ManualClock::new();
        let (entered, is_held) = bounded(1);
        let (gate, opened) = bounded::<()>(0);
        let (told, events) = unbounded();
        let mut kinds = vec![EventKind::Expired];
        kinds.extend(tells.then_some(EventKind::Removed));
        let watcher = Watcher::<u64>::builder()
            .timeout(TIMEOUT)
            .events(kinds)
            .workers(1)
            .clock(clock.clone())
            .on_event(move |event: Event<u64>| {
                let _ = entered.try_send(());
                let _ = opened.recv();
                told.send((event.kind(), *event.key().unwrap())).unwrap();
            })
            .build()
            .unwrap();
        let gate = gate; // goes before the watcher, also when an assertion fails
        watcher.beat(1u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(Duration::from_nanos(1));
        watcher.beat_many(2..6u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        go_round(&watcher);
        // The call for key 1 has begun; nobody can take it back.
        is_held.recv_timeout(GENEROUS).unwrap();
        watcher.remove(&1).unwrap();
        watcher.remove(&3).unwrap();
        go_round(&watcher);
        let stats = watcher.stats();
        assert_eq!((stats.removed, stats.delivered, stats.pending), (1, 1, 3));
        drop(gate);
        let stats = watcher.close();
        assert_eq!((stats.removed, stats.delivered, stats.pending), (1, 4, 0));
        assert!(stats.is_balanced());
        let told: Vec<_> = events.try_iter().collect();
        assert_eq!(told.len(), if tells { 5 } else { 4 });
        assert_eq!(told.contains(&(EventKind::Removed, 3)), tells);
        assert!(!told.contains(&(EventKind::Expired, 3)));
        assert!(told.contains(&(EventKind::Expired, 1)));
    }
}

#[test]
fn after_a_flushed_removal_no_expiry_of_the_key_comes_not_even_of_an_earlier_episode() {
    let (clock, watcher, events) = manual([EventKind::Expired], 1);
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(Duration::from_nanos(1));
    // Key 1 is going to fill the channel; two episodes of key 2 wait for it, and a third begins.
    for _ in 0..2 {
        watcher.beat(2u64).unwrap();
        watcher.flush().unwrap();
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
    }
    watcher.beat(2u64).unwrap();
    watcher.remove(&2).unwrap();
    assert_eq!(drain(&watcher, &events), [(EventKind::Expired, 1)]);
    let stats = watcher.stats();
    assert_eq!((stats.started, stats.delivered, stats.removed), (4, 1, 3));
    assert!(stats.is_balanced());
}

#[test]
fn a_key_is_removed_in_mid_expiry_by_the_callback_itself() {
    let clock = ManualClock::new();
    let (told, keys) = unbounded();
    let watcher = Arc::new_cyclic(|watcher: &std::sync::Weak<Watcher<u64>>| {
        let watcher = watcher.clone();
        Watcher::builder()
            .timeout(TIMEOUT)
            .workers(1)
            .clock(clock.clone())
            .on_event(move |event: Event<u64>| {
                // All that expired together with the first: theirs are taken back.
                if let Some(watcher) = watcher.upgrade() {
                    (0..100u64).for_each(|key| watcher.remove(&key).unwrap());
                    watcher.flush().unwrap();
                }
                told.send(*event.key().unwrap()).unwrap();
            })
            .build()
            .unwrap()
    });
    watcher.beat_many(0..100u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    let first = keys.recv_timeout(GENEROUS).unwrap();
    let stats = watcher.close();
    assert_eq!((stats.delivered, stats.removed), (1, 99));
    assert!(stats.is_balanced());
    assert!(first < 100 && keys.is_empty());
}
