//! Beats: what they move, and what their options change.

use super::*;

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
            Ok(())
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
        Ok(())
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
        Ok(())
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
        Ok(())
    };
    while table.deliver(&mut take).is_some() {}
    table.validate();
    assert_eq!(generations, [1, 2]);
}
