//! Memory: it grows with the keys, comes back when they go, and does not grow while their number stays the same.

use std::time::Duration;

use liveness::{Heart, LocalWatcher, ManualClock, Mode, Options, Watcher};

const TIMEOUT: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);

/// A watcher of two workers that is stepped by hand and has no sink.
fn manual(timeout: Duration) -> (ManualClock, Watcher<u64>) {
    let clock = ManualClock::new();
    let watcher = Watcher::builder()
        .timeout(timeout)
        .workers(2)
        .clock(clock.clone())
        .build()
        .unwrap();
    (clock, watcher)
}

/// The bytes allocated after everything is applied.
fn bytes(watcher: &Watcher<u64>) -> u64 {
    watcher.flush().unwrap();
    watcher.stats().bytes
}

#[test]
fn a_key_costs_what_is_promised() {
    let (_clock, watcher) = manual(TIMEOUT);
    watcher.beat_many(0..100_000u64).unwrap();
    let each = bytes(&watcher) / 100_000;
    // A slot of 48 bytes in an array that doubles, and up to 16 bytes of index.
    assert!((48..=48 * 2 + 16).contains(&each), "{each} bytes a key");

    let sized = LocalWatcher::<u64>::builder()
        .expected_keys(100_000)
        .build()
        .unwrap();
    let each = sized.stats().bytes / 100_000;
    assert!((48..=64).contains(&each), "{each} bytes a key");
}

#[test]
fn expected_keys_are_given_room_at_once() {
    let watcher = Watcher::<u64>::builder()
        .workers(2)
        .expected_keys(50_000)
        .build()
        .unwrap();
    let before = bytes(&watcher);
    watcher.beat_many(0..50_000u64).unwrap();
    assert!(bytes(&watcher) < before + before / 50);
}

#[test]
fn memory_comes_back_after_a_mass_expiry_and_after_mass_removal() {
    let (clock, watcher) = manual(TIMEOUT);
    for removed in [false, true] {
        watcher.beat_many(0..100_000u64).unwrap();
        let full = bytes(&watcher);
        assert!(full > 100_000 * 48);
        if removed {
            (0..100_000u64).for_each(|key| watcher.remove(&key).unwrap());
        } else {
            clock.advance(TIMEOUT);
        }
        watcher.flush().unwrap();
        // A small slab is not worth shrinking: up to 4096 slots a worker may stay, with room for as many again.
        let left = bytes(&watcher);
        assert!(left < full / 8, "{left} of {full} bytes left");
    }
}

#[test]
fn the_few_that_are_left_after_a_mass_expiry_live_on() {
    let (clock, watcher) = manual(TIMEOUT);
    let hearts: Vec<Heart<u64>> = (0..50u64).map(|key| watcher.watch(key).unwrap()).collect();
    let down = Options::new().mode(Mode::Repeat).timeout(TIMEOUT / 2);
    for key in 50..100u64 {
        watcher.beat_with(key, down.clone()).unwrap();
    }
    watcher.beat_many(100..50_000u64).unwrap();
    let full = bytes(&watcher);
    clock.advance(TIMEOUT - Duration::from_nanos(1));
    watcher.flush().unwrap();
    for heart in &hearts {
        heart.beat().unwrap();
    }
    watcher.beat_many(100..150u64).unwrap();
    watcher.flush().unwrap();
    clock.advance(Duration::from_nanos(1));
    watcher.flush().unwrap();
    watcher.flush().unwrap();
    assert!(bytes(&watcher) < full / 8, "the slots have moved");
    assert_eq!(watcher.len(), 150);
    for (key, status) in watcher.snapshot().unwrap() {
        assert_eq!(watcher.status(&key), Ok(Some(status)));
        assert_eq!(status.misses > 0, (50..100).contains(&key));
    }
    // Each is where its deadline is, and its heart is its own.
    clock.advance(TIMEOUT - Duration::from_nanos(2));
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 150);
    for heart in &hearts[..25] {
        heart.beat().unwrap();
    }
    clock.advance(Duration::from_nanos(1));
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 25 + 50);
    assert!(hearts[25..].iter().all(|heart| !heart.is_watched()));
    assert!(hearts[..25].iter().all(Heart::is_watched));
}

#[test]
fn filling_and_expiring_in_cycles_does_not_grow() {
    let (clock, watcher) = manual(TIMEOUT);
    let mut after_first = 0;
    for cycle in 0..20u64 {
        let keys = cycle * 10_000..(cycle + 1) * 10_000;
        let hearts: Vec<_> = keys
            .clone()
            .take(100)
            .map(|key| watcher.watch(key))
            .collect();
        watcher.beat_many(keys).unwrap();
        let full = bytes(&watcher);
        if cycle == 0 {
            after_first = full;
        }
        assert!(
            full <= after_first + after_first / 4,
            "cycle {cycle}: {full} of {after_first}"
        );
        drop(hearts);
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
    }
}

#[test]
fn beats_that_overtake_each_other_do_not_grow_it() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(HOUR)
        .build()
        .unwrap();
    let keys = 10_000u64;
    for key in 0..keys {
        watcher.beat(key, Duration::from_nanos(key)).unwrap();
    }
    let before = watcher.stats().bytes;
    // The lower half always arrives late, behind a whole round of the upper half.
    for round in 1..30u64 {
        let at = |offset: u64| Duration::from_nanos(round * keys * 2 + offset);
        for key in (keys / 2..keys).chain(0..keys / 2) {
            let position = if key < keys / 2 {
                key * 7_919 % (keys / 2)
            } else {
                key
            };
            watcher.beat(key, at(position)).unwrap();
        }
    }
    let after = watcher.stats().bytes;
    assert_eq!(watcher.stats().late_beats, 0);
    assert!(after < before * 2, "{before} bytes became {after}");
}

#[test]
fn keys_with_timeouts_of_their_own_that_come_and_go_do_not_grow_it() {
    let mut watcher = LocalWatcher::<u64>::builder()
        .timeout(HOUR)
        .build()
        .unwrap();
    let mut after_some = 0;
    for i in 0..100_000u64 {
        let options = Options::new().timeout(HOUR * 2 + Duration::from_nanos(i % 50));
        watcher
            .beat_with(1u64, Duration::from_nanos(i), options)
            .unwrap();
        if i % 3 == 0 {
            watcher.remove(&1, Duration::from_nanos(i));
        }
        if i == 5_000 {
            after_some = watcher.stats().bytes;
        }
    }
    let after = watcher.stats().bytes;
    assert!(after <= after_some * 2, "{after_some} bytes became {after}");
}

#[test]
fn hearts_that_come_and_go_do_not_grow_it() {
    let (clock, watcher) = manual(HOUR);
    let mut after_some = 0;
    for i in 0..20_000u64 {
        let heart = watcher.watch(i).unwrap();
        heart.beat().unwrap();
        clock.advance(Duration::from_nanos(1));
        if i % 2 == 0 {
            watcher
                .beat_with(i, Options::new().timeout(TIMEOUT))
                .unwrap();
        }
        drop(heart);
        if i == 2_000 {
            after_some = bytes(&watcher);
        }
    }
    let after = bytes(&watcher);
    assert_eq!(watcher.len(), 0);
    assert!(after <= after_some * 2, "{after_some} bytes became {after}");
}

/// Watches `keys` with a timeout each, and returns the bytes that this takes and those that are left when all expired.
fn live_and_die_with_a_timeout_each(watcher: &Watcher<u64>, clock: &ManualClock) -> (u64, u64) {
    for key in 0..20_000u64 {
        let own = Options::new().timeout(TIMEOUT - Duration::from_nanos(key));
        watcher.beat_with(key, own).unwrap();
    }
    let full = bytes(watcher);
    clock.advance(TIMEOUT);
    watcher.flush().unwrap();
    (full, bytes(watcher))
}

#[test]
fn the_memory_of_timeouts_comes_back_with_the_keys() {
    let (clock, watcher) = manual(HOUR);
    for _ in 0..2 {
        let (full, left) = live_and_die_with_a_timeout_each(&watcher, &clock);
        assert!(left < full / 8, "{left} of {full} bytes left");
    }
}

#[test]
fn the_memory_of_timeouts_comes_back_though_the_keys_stay() {
    let (clock, watcher) = manual(HOUR);
    watcher.beat_many(0..20_000u64).unwrap();
    let plain = bytes(&watcher);
    for nth in 0..3 {
        for key in 0..20_000u64 {
            let own = Options::new().timeout(HOUR * 2 + Duration::from_nanos(key));
            watcher.beat_with(key, own).unwrap();
        }
        let full = bytes(&watcher);
        assert!(full > plain + 20_000 * 50, "{plain} bytes became {full}");
        for key in 0..20_000u64 {
            let same = Options::new().timeout(HOUR * (3 + nth));
            watcher.beat_with(key, same).unwrap();
        }
        let left = bytes(&watcher);
        // The lists shrink once, at a moment when less than an eighth of them is in use, to room for twice as many;
        // fewer than 4,096 are not shrunk again. So up to a quarter stays, depending on when a worker looks.
        let most = plain + plain / 10 + (full - plain) / 4;
        assert!(left < most, "{plain} bytes became {full}, then {left}");
    }
    // And each is where its deadline is.
    clock.advance(HOUR * 5 - Duration::from_nanos(1));
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 20_000);
    clock.advance(Duration::from_nanos(1));
    watcher.flush().unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 0);
}

#[test]
fn the_memory_of_those_that_are_down_comes_back_when_they_recover() {
    let (clock, watcher) = manual(TIMEOUT);
    let (few, many) = (40_000u64, 80_000u64);
    watcher.beat_many(0..many).unwrap();
    for key in 0..few {
        let repeat = Options::new().mode(Mode::Repeat);
        watcher.beat_with(key, repeat).unwrap();
    }
    let before = bytes(&watcher);
    clock.advance(TIMEOUT / 2);
    watcher.beat_many(few..many).unwrap();
    clock.advance(TIMEOUT / 2);
    watcher.flush().unwrap();
    let down = bytes(&watcher);
    assert!(down > before + few * 40, "{before} bytes became {down}");
    watcher.beat_many(0..many).unwrap();
    let left = bytes(&watcher);
    // A little may stay for as long as the keys are watched: stale entries of a heap, room for a queue.
    let (grew, kept) = (down - before, left - before);
    assert!(
        kept < grew / 4,
        "of {grew} bytes beside {before}, {kept} are kept"
    );
}
