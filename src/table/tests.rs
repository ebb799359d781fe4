//! The engine against its promises, by a virtual clock: the boundaries one by one here, and random operations against a
//! naive model in the files below.

mod machine;
#[path = "../../tests/support/model.rs"]
mod model;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::clock::NEVER;
use crate::due::STALE;
use crate::table::heart_cell::pair;

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Panics unless every part of the table agrees with every other.
    fn validate(&self) {
        self.lists.validate(&self.slab, &self.grace);
        self.queue.validate(&self.slab);
        let linked: HashSet<u32> = self
            .lists
            .numbers()
            .flat_map(|list| self.lists.iter(&self.slab, list))
            .collect();
        let current: HashSet<u32> = self
            .deferred
            .iter()
            .filter(|(_, deferred)| deferred.is_current(&self.slab))
            .map(|(_, deferred)| deferred.slot)
            .collect();
        let (mut live, mut pending, mut indexed) = (0, 0, 0);
        for (at, body) in self.slab.iter() {
            let entry = self.index.find(self.slab[at].tag, |slot| slot == at);
            let is_newest = is_live(body.state) || body.state == State::Pending;
            assert_eq!(entry.is_some(), is_newest, "index of slot {at}");
            indexed += usize::from(entry.is_some());
            live += u64::from(is_live(body.state));
            pending += u64::from(matches!(body.state, State::Pending | State::Superseded));
            assert_eq!(
                linked.contains(&at),
                body.state == State::Listed,
                "slot {at}"
            );
            let wants_heart = self.policy(at).hearts && is_live(body.state);
            assert_eq!(
                self.table_side(at).is_some(),
                wants_heart,
                "heart of slot {at}"
            );
            if body.state == State::Deferred && self.deadline(at) != NEVER {
                assert!(current.contains(&at), "slot {at} is aside and forgotten");
            }
        }
        assert_eq!(self.index.len(), indexed, "entries of the index");
        assert_eq!((self.counts.live, self.counts.pending), (live, pending));
        assert!(self.counts.is_balanced(), "{:?}", self.counts);
        for (&newer, &older) in &self.older {
            assert_eq!(self.slab.body(older).state, State::Superseded);
            assert_eq!(self.slab[older].prev, newer);
            assert!(self.slab.body(newer).key == self.slab.body(older).key);
        }
        for &at in self.downs.keys() {
            assert!(self.is_live(at), "slot {at} is down");
        }
    }
}

/// Every kind of event but `Beat`, which would only repeat what was put in.
const KINDS: [EventKind; 5] = [
    EventKind::Joined,
    EventKind::Expired,
    EventKind::Recovered,
    EventKind::Removed,
    EventKind::Stalled,
];

/// A table with a timeout of 100 that tells everything.
fn config() -> Config {
    Config {
        timeout: 100,
        mode: Mode::Once,
        wanted: KINDS.into_iter().collect(),
        max_keys: 1 << 20,
        expected_keys: 0,
        forget_after: NEVER,
        grace_cap: 1_000,
    }
}

/// A table that tells expiries only.
fn quiet(config: &Config) -> Table<u64, u64> {
    Table::new(
        Config {
            wanted: [EventKind::Expired].into_iter().collect(),
            ..config.clone()
        },
        None,
    )
    .unwrap()
}

/// A plain beat of `key` at `stamp`.
fn beat(key: u64, stamp: u64) -> Beat<u64, u64> {
    Beat::plain(spread(key), key, stamp)
}

/// Tags as a good hash gives them.
fn spread(key: u64) -> Tag {
    Tag((key as u32).wrapping_mul(0x9E37_79B9))
}

/// Applies a beat that must be accepted.
fn apply(table: &mut Table<u64, u64>, beat: Beat<u64, u64>) {
    assert!(table.beat(beat).is_ok());
}

/// Expires at `now` and takes everything; returns the keys that expired.
fn expired_at(table: &mut Table<u64, u64>, now: u64) -> Vec<u64> {
    while table.expire(now, 3) {}
    let mut keys = Vec::new();
    let mut take = |event: Event<u64, u64>| {
        if let Event::Expired(event) = event {
            keys.push(event.key);
        }
        Offer::Taken
    };
    while table.deliver(&mut take).is_some() {}
    table.shrink();
    table.validate();
    keys
}

#[test]
fn a_key_expires_at_its_deadline_and_not_a_nanosecond_before() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 50));
    assert_eq!(table.next_due(), Some((150, 100)));
    assert!(expired_at(&mut table, 149).is_empty());
    assert_eq!(expired_at(&mut table, 150), [1]);
    assert!(expired_at(&mut table, 151).is_empty());
    assert_eq!(table.next_due(), None);
}

#[test]
fn a_beat_resets_the_deadline_and_an_older_one_changes_nothing() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 50));
    apply(&mut table, beat(1, 149));
    apply(&mut table, beat(1, 60));
    assert_eq!(table.counts().late_beats, 1);
    assert!(expired_at(&mut table, 248).is_empty());
    assert_eq!(expired_at(&mut table, 249), [1]);
}

#[test]
fn options_of_a_late_beat_apply_and_its_stamp_does_not() {
    for has_heart in [false, true] {
        let mut table = quiet(&config());
        apply(&mut table, beat(1, 10));
        if has_heart {
            let (heart_side, table_side) = pair(10, &Arc::default());
            assert!(table.watch(beat(1, 10), table_side).is_ok());
            assert_eq!(heart_side.beat(50), HeartState::Alive);
        } else {
            apply(&mut table, beat(1, 50));
        }
        let late = Beat {
            timeout: NonZeroU64::new(600),
            extra: Some(2),
            ..beat(1, 40)
        };
        apply(&mut table, late);
        let status = table.status(spread(1), &1).unwrap();
        assert_eq!(status.timeout, Duration::from_nanos(600));
        assert_eq!(status.last_beat, Timestamp::from_nanos(50));
        assert_eq!(expired_at(&mut table, 649), [0; 0]);
        let mut extra = None;
        table.expire(650, 3);
        table.deliver(&mut |event| {
            extra = event.into_key_event().and_then(|event| event.extra);
            Offer::Taken
        });
        assert_eq!(extra, Some(2));
    }
}

#[test]
fn options_of_a_late_watch_apply_and_the_last_applied_win() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 50));
    for (stamp, timeout) in [(20, 300), (10, 200)] {
        let late = Beat {
            timeout: NonZeroU64::new(timeout),
            ..beat(1, stamp)
        };
        let (_, table_side) = pair(stamp, &Arc::default());
        assert!(table.watch(late, table_side).is_ok());
    }
    assert_eq!(expired_at(&mut table, 249), [0; 0]);
    assert_eq!(expired_at(&mut table, 250), [1]);
}

#[test]
fn options_of_a_late_beat_apply_to_a_key_that_is_down_and_stays_so() {
    let mut table = quiet(&Config {
        mode: Mode::Repeat,
        ..config()
    });
    apply(&mut table, beat(1, 50));
    assert_eq!(expired_at(&mut table, 150), [1]);
    let late = Beat {
        timeout: NonZeroU64::new(300),
        ..beat(1, 40)
    };
    apply(&mut table, late);
    assert!(
        table
            .status(spread(1), &1)
            .is_some_and(|status| status.misses == 1)
    );
    assert_eq!(expired_at(&mut table, 449), [0; 0]);
    assert_eq!(expired_at(&mut table, 450), [1]);
    let late = Beat {
        mode: Some(Mode::Once),
        ..beat(1, 45)
    };
    apply(&mut table, late);
    assert_eq!(expired_at(&mut table, 750), [1]);
    assert!(table.status(spread(1), &1).is_none());
    // Another key in the slot is not down.
    apply(&mut table, beat(2, 750));
    table.validate();
}

#[test]
fn beats_counts_the_beats_that_were_applied() {
    let mut table = quiet(&Config {
        max_keys: 1,
        ..config()
    });
    apply(&mut table, beat(1, 50));
    apply(&mut table, beat(1, 60));
    apply(&mut table, beat(1, 55));
    assert!(table.beat(beat(2, 60)).is_err());
    let counts = table.counts();
    assert_eq!((counts.beats, counts.late_beats, counts.refused), (2, 1, 1));
}

#[test]
fn the_shortest_timeout_is_that_of_a_key_that_is_watched() {
    let mut table = quiet(&config());
    assert_eq!(table.shortest_timeout(), NEVER, "nothing is watched");
    let with = |key, timeout| Beat {
        timeout: NonZeroU64::new(timeout),
        ..beat(key, 0)
    };
    apply(&mut table, with(1, 400));
    assert_eq!(table.shortest_timeout(), 400);
    apply(&mut table, beat(2, 0));
    apply(&mut table, with(3, 60));
    apply(&mut table, with(4, 60));
    // Whichever is due next: key 1 beats, and the others have not for a while.
    assert_eq!(table.shortest_timeout(), 60);
    table.remove(spread(3), &3);
    assert_eq!(table.shortest_timeout(), 60);
    table.remove(spread(4), &4);
    assert_eq!(table.shortest_timeout(), 100);
    assert_eq!(expired_at(&mut table, 100), [2]);
    assert_eq!(table.shortest_timeout(), 400);
}

#[test]
fn keys_held_back_to_the_same_time_keep_the_order_of_their_deadlines() {
    let mut table = quiet(&config());
    let timeout_of = |key: u64| 300 + (key * 7) % 20;
    for key in 0..20 {
        apply(
            &mut table,
            Beat {
                timeout: NonZeroU64::new(timeout_of(key)),
                ..beat(key, 0)
            },
        );
    }
    table.stall(0, 200, 400);
    assert!(expired_at(&mut table, 599).is_empty());
    let keys = expired_at(&mut table, 600);
    assert_eq!(keys.len(), 20);
    assert!(keys.is_sorted_by_key(|&key| timeout_of(key)));
}

#[test]
fn a_recovery_is_not_detected_before_the_beat_that_it_tells_of() {
    let mut table: Table<u64, u64> = Table::new(
        Config {
            wanted: [EventKind::Recovered].into_iter().collect(),
            mode: Mode::Repeat,
            ..config()
        },
        None,
    )
    .unwrap();
    apply(&mut table, beat(1, 0));
    assert!(expired_at(&mut table, 100).is_empty());
    // The caller read the clock after the worker did.
    apply(&mut table, beat(1, 103));
    let mut detected = Vec::new();
    table.deliver(&mut |event| {
        detected.extend(event.into_key_event().map(|event| event.detected));
        Offer::Taken
    });
    assert_eq!(detected, [Timestamp::from_nanos(103)]);
}

#[test]
fn a_heart_that_was_down_and_stored_a_beat_has_recovered_before_its_message_comes() {
    let mut table: Table<u64, u64> = Table::new(
        Config {
            wanted: [EventKind::Recovered].into_iter().collect(),
            mode: Mode::Repeat,
            ..config()
        },
        None,
    )
    .unwrap();
    let (heart_side, table_side) = pair(0, &Arc::default());
    assert!(table.watch(beat(1, 0), table_side).is_ok());
    assert!(expired_at(&mut table, 100).is_empty());
    assert_eq!(heart_side.cell().state(), HeartState::Down);
    heart_side.cell().raise(150);
    // The next miss would be at 200.
    while table.expire(200, 9) {}
    let mut told = Vec::new();
    table.deliver(&mut |event| {
        told.extend(
            event
                .into_key_event()
                .map(|event| (event.last_beat, event.down_for)),
        );
        Offer::Taken
    });
    assert_eq!(
        told,
        [(Timestamp::from_nanos(150), Some(Duration::from_nanos(50)))]
    );
    assert_eq!(heart_side.cell().state(), HeartState::Alive);
    assert_eq!(
        table.status(spread(1), &1).map(|status| status.misses),
        Some(0)
    );
}

#[test]
fn removing_a_key_whose_last_expiry_waits_takes_its_older_reports_back_too() {
    let mut table = quiet(&config());
    apply(
        &mut table,
        Beat {
            mode: Some(Mode::Repeat),
            ..beat(1, 0)
        },
    );
    while table.expire(100, 9) {}
    apply(
        &mut table,
        Beat {
            mode: Some(Mode::Once),
            ..beat(1, 110)
        },
    );
    while table.expire(210, 9) {}
    assert!(table.remove(spread(1), &1));
    assert!(expired_at(&mut table, 210).is_empty());
}

#[test]
fn a_heart_that_beat_while_held_back_keeps_the_order_of_deadlines() {
    let mut table = quiet(&config());
    let (heart_side, table_side) = pair(0, &Arc::default());
    assert!(table.watch(beat(1, 0), table_side).is_ok());
    apply(&mut table, beat(2, 2));
    // Key 1 is set aside for 100, then held back to 200.
    assert!(expired_at(&mut table, 50).is_empty());
    table.stall(0, 0, 100);
    assert!(expired_at(&mut table, 199).is_empty());
    // Now its deadline is 200 by itself; that of key 2 was 102.
    heart_side.cell().raise(100);
    assert_eq!(expired_at(&mut table, 200), [2, 1]);
}

#[test]
fn a_heart_that_is_due_at_its_next_check_keeps_the_order_of_deadlines() {
    let mut table = quiet(&config());
    let (_beater, table_side) = pair(0, &Arc::default());
    assert!(table.watch(beat(1, 0), table_side).is_ok());
    table.stall(0, 0, 100);
    apply(&mut table, beat(2, 100));
    assert!(expired_at(&mut table, 150).is_empty());
    assert_eq!(expired_at(&mut table, 200), [1, 2]);
}

#[test]
fn a_nearer_deadline_comes_first_whatever_was_there() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 0));
    apply(
        &mut table,
        Beat {
            timeout: NonZeroU64::new(7),
            ..beat(2, 3)
        },
    );
    assert_eq!(table.next_due(), Some((10, 7)));
    assert_eq!(expired_at(&mut table, 100), [2, 1]);
}

#[test]
fn a_timeout_that_overflows_means_never() {
    let mut table = quiet(&config());
    apply(
        &mut table,
        Beat {
            timeout: NonZeroU64::new(NEVER),
            ..beat(1, 5)
        },
    );
    apply(
        &mut table,
        Beat {
            timeout: NonZeroU64::new(NEVER - 3),
            ..beat(2, 5)
        },
    );
    assert_eq!(table.next_due(), None);
    assert!(expired_at(&mut table, NEVER).is_empty());
    assert_eq!(
        table.status(spread(2), &2).map(|status| status.deadline),
        Some(None)
    );
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 0));
    assert!(expired_at(&mut table, 99).is_empty());
    assert!(expired_at(&mut table, 10).is_empty());
    assert_eq!(expired_at(&mut table, 100), [1]);
    apply(&mut table, beat(1, 20));
    assert!(
        expired_at(&mut table, 50).is_empty(),
        "100 has been and 120 is not yet"
    );
    assert_eq!(expired_at(&mut table, 120), [1]);
}

#[test]
fn a_full_table_refuses_new_keys_and_keeps_taking_known_ones() {
    let mut table = quiet(&Config {
        max_keys: 2,
        ..config()
    });
    apply(&mut table, beat(1, 0));
    apply(&mut table, beat(2, 0));
    assert!(matches!(table.beat(beat(3, 0)), Err(Refusal(3))));
    apply(&mut table, beat(1, 5));
    while table.expire(100, 9) {}
    assert!(
        table.beat(beat(3, 100)).is_err(),
        "an expired key that waits takes its room"
    );
    assert_eq!(expired_at(&mut table, 100), [2]);
    apply(&mut table, beat(3, 100));
}

#[test]
fn a_beat_while_pending_begins_a_new_episode_and_both_end_once() {
    let mut table = quiet(&config());
    apply(&mut table, beat(1, 0));
    while table.expire(100, 9) {}
    apply(&mut table, beat(1, 110));
    table.validate();
    while table.expire(210, 9) {}
    let mut generations = Vec::new();
    let mut take = |event: Event<u64, u64>| {
        generations.extend(event.key_event().map(|event| event.generation.get()));
        Offer::Taken
    };
    while table.deliver(&mut take).is_some() {}
    table.validate();
    assert_eq!(generations, [1, 2]);
}

#[test]
fn a_stamp_that_comes_very_late_is_defer_and_expires_in_time() {
    let mut table = quiet(&config());
    for key in 0..200 {
        apply(&mut table, beat(key, 50));
    }
    apply(&mut table, beat(999, 10));
    table.validate();
    assert_eq!(table.next_due(), Some((110, 100)));
    assert_eq!(expired_at(&mut table, 110), [999]);
    apply(&mut table, beat(998, 20));
    apply(&mut table, beat(998, 60));
    assert_eq!(expired_at(&mut table, 159).len(), 200);
    assert_eq!(expired_at(&mut table, 160), [998]);
}

#[test]
fn strays_that_moved_on_are_forgotten() {
    let mut table = quiet(&config());
    for round in 1..100 {
        let now = 10_000 * round;
        for key in 0..500 {
            apply(&mut table, beat(key, now + key));
        }
        // Each comes too late for its place, and leaves an entry behind when it beats again.
        for key in 0..100 {
            apply(&mut table, beat(500 + key, now + (key * 1_999) % 500));
        }
        let deferred = table.deferred.len();
        assert!(deferred <= 2 * 600 + STALE, "{deferred} entries");
        table.now = now + 500;
    }
    assert!(
        table.next_ticket > 1_000,
        "{} deferred are no test",
        table.next_ticket
    );
    table.validate();
}

#[test]
fn memory_comes_back_after_a_mass_expiry_and_the_survivors_live_on() {
    let mut table = quiet(&config());
    for key in 0..50_000 {
        apply(&mut table, beat(key, 0));
    }
    let full = table.counts().bytes;
    let (heart_side, table_side) = pair(0, &Arc::default());
    assert!(table.watch(beat(7, 50), table_side).is_ok());
    for key in (0..50_000).step_by(1_000) {
        apply(&mut table, beat(key, 60));
    }
    assert_eq!(expired_at(&mut table, 100).len(), 50_000 - 51);
    assert!(
        table.counts().bytes * 8 < full,
        "{} of {full} bytes",
        table.counts().bytes
    );
    assert_eq!(expired_at(&mut table, 159), [7]);
    assert_eq!(heart_side.cell().state(), HeartState::Expired);
    let mut last = expired_at(&mut table, 160);
    last.sort_unstable();
    assert_eq!(last, (0..50_000).step_by(1_000).collect::<Vec<_>>());
}

#[test]
fn fill_and_expire_in_cycles_does_not_grow() {
    let mut table = quiet(&config());
    let mut most = 0;
    for cycle in 0..20 {
        for key in 0..5_000 {
            apply(&mut table, beat(cycle * 5_000 + key, cycle * 1_000));
        }
        most = if cycle == 0 {
            table.counts().bytes
        } else {
            most
        };
        assert!(table.counts().bytes <= most + most / 4);
        assert_eq!(expired_at(&mut table, cycle * 1_000 + 100).len(), 5_000);
    }
}

#[test]
fn lists_that_nobody_uses_are_used_again() {
    let mut table = quiet(&config());
    for round in 1..1_000 {
        let timeout = NonZeroU64::new(round);
        apply(
            &mut table,
            Beat {
                timeout,
                ..beat(1, round)
            },
        );
        apply(
            &mut table,
            Beat {
                timeout,
                ..beat(2, round)
            },
        );
    }
    table.validate();
    assert_eq!(table.lists.numbers().count(), 2);
}

#[test]
fn beat_events_are_dropped_under_pressure_and_counted() {
    let wanted = [EventKind::Beat, EventKind::Removed].into_iter().collect();
    let mut table: Table<u64, u64> = Table::new(Config { wanted, ..config() }, None).unwrap();
    for stamp in 0..3_000 {
        apply(&mut table, beat(1, stamp));
    }
    assert!(table.remove(spread(1), &1));
    let mut kinds = Vec::new();
    let mut take = |event: Event<u64, u64>| {
        kinds.push(event.kind());
        Offer::Taken
    };
    while table.deliver(&mut take).is_some() {}
    let told = kinds
        .iter()
        .filter(|&&kind| kind == EventKind::Beat)
        .count() as u64;
    assert_eq!(told + table.counts().beat_events_dropped, 2_999);
    assert!(told > 0 && table.counts().beat_events_dropped > 0);
    assert_eq!(
        kinds.last(),
        Some(&EventKind::Removed),
        "a lifecycle event is never dropped"
    );
}

#[test]
fn a_table_of_which_an_eighth_is_taken_keeps_its_slots_and_one_below_gives_them_back() {
    let mut table = quiet(&config());
    (0..8_192).for_each(|key| apply(&mut table, beat(key, 50)));
    let extent = table.slab.extent();
    assert!(extent >= 8_192);
    let fewest = extent as u64 / 8;
    for key in fewest..8_192 {
        assert!(table.remove(spread(key), &key));
        table.shrink();
    }
    assert_eq!(table.slab.extent(), extent);
    assert!(table.remove(spread(0), &0));
    table.shrink();
    assert!(table.slab.extent() < extent / 2);
    table.validate();
}

#[test]
fn a_queue_that_was_long_once_gives_its_memory_back_with_the_slots() {
    let mut table = Table::<u64, u64>::new(config(), None).unwrap();
    // Everything that joins is told, and nothing is taken.
    (0..8_192).for_each(|key| apply(&mut table, beat(key, 50)));
    let long = table.queue.bytes();
    assert_eq!(expired_at(&mut table, 150).len(), 8_192);
    assert!(table.queue.bytes() < long / 4, "{long}");
}

#[test]
fn lists_that_get_new_numbers_keep_the_default_one_though_no_key_is_in_it() {
    let mut table = quiet(&config());
    let own = |key: u64| Beat {
        timeout: NonZeroU64::new(1_000 + key),
        ..beat(key, 0)
    };
    apply(&mut table, beat(30, 0));
    assert!(table.remove(spread(30), &30));
    (0..20).for_each(|key| apply(&mut table, own(key)));
    let many = table.lists.bytes();
    for key in 0..19 {
        assert!(table.remove(spread(key), &key));
    }
    table.shrink();
    table.validate();
    assert!(table.lists.bytes() < many / 2);
    apply(&mut table, beat(30, 500));
    table.validate();
    assert_eq!(expired_at(&mut table, 600), [30]);
    assert_eq!(expired_at(&mut table, 1_019), [19]);
}
