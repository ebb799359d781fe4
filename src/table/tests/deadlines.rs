//! Deadlines: each boundary, and the order of those that come together.

use super::*;

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
