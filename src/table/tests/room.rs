//! Room: what a full table refuses, and the memory that comes back.

use super::*;

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
        table.next_ticket.as_link().index() > 1_000,
        "{:?} deferred are no test",
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
        Ok(())
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
    // Everything that joins is reported, and nothing is accepted by the sink.
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
