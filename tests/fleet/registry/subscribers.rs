//! Subscribers, callbacks and the list: what is reported of changes, and of gaps.

use std::sync::mpsc;
use std::time::Duration;

use liveness::registry::{
    Change, FlapDamping, Fleet, Guard, Policy, Registry, RegistryError, State, Update,
};

use super::{Error, Stage, TIMEOUT, s};

#[test]
fn a_slow_subscriber_is_told_what_it_missed_and_a_fresh_picture_helps() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let (mut fleet, updates) = stage.registry.subscribe(2);
    stage.join(0..10)?; // 20 updates
    let told: Vec<_> = updates.try_iter().collect();
    assert_eq!(told.len(), 3);
    let (count, version) = (18, 20);
    assert!(
        matches!(told[2], Update::Missed { count: c, version: v } if (c, v) == (count, version))
    );
    assert_eq!(told[2].to_string(), "missed version=20 count=18");
    assert_eq!(stage.registry.stats().missed_updates, count);
    let applied = told.iter().map(|update| fleet.apply(update).is_ok());
    assert_eq!(applied.collect::<Vec<_>>(), [true, true, false]);
    stage.registry.drain(&3)?;
    let update = updates.recv()?;
    assert!(fleet.apply(&update).is_err(), "it takes note of the gap");
    fleet = stage.registry.fleet();
    fleet.apply(&told[2])?; // no gap in this picture
    fleet.apply(&update)?; // already in it
    stage.registry.drain(&4)?;
    fleet.apply(&updates.recv()?)?;
    assert_eq!((fleet.len(), fleet.listed().count()), (10, 8));
    assert_eq!(fleet.version(), stage.registry.stats().version);
    Ok(())
}

/// What the documentation of `subscribe` says.
fn catch_up(
    registry: &Registry<u32, &'static str>,
    fleet: &mut Fleet<u32, &'static str>,
    updates: impl Iterator<Item = Update<u32, &'static str>>,
) {
    for update in updates {
        if fleet.apply(&update).is_err() {
            *fleet = registry.fleet();
        }
    }
}

#[test]
fn the_documented_loop_is_up_to_date_also_if_the_last_updates_were_missed() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let (mut fleet, updates) = stage.registry.subscribe(2);
    stage.join(0..10)?;
    catch_up(&stage.registry, &mut fleet, updates.try_iter());
    assert_eq!(fleet.version(), stage.registry.stats().version);
    assert_eq!(fleet.listed().count(), 10);
    // Also at the end.
    stage.registry.leave(&1)?;
    stage.registry.leave(&2)?;
    stage.registry.leave(&3)?;
    stage.registry.close();
    catch_up(&stage.registry, &mut fleet, updates.iter());
    assert_eq!(fleet.listed().count(), 7);
    Ok(())
}

#[test]
fn a_gap_that_waits_takes_no_room_from_updates() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let (_, updates) = stage.registry.subscribe(2);
    stage.join([1, 2])?; // two of four wait
    updates.recv()?;
    stage.registry.drain(&1)?; // the other, a gap, and this
    updates.recv()?;
    stage.registry.undrain(&1)?; // fits: one update waits
    assert_eq!(stage.registry.stats().missed_updates, 2);
    let waiting = updates
        .try_iter()
        .filter(|it| !matches!(it, Update::Missed { .. }));
    assert_eq!(waiting.count(), 2);
    Ok(())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        failure_persistence: None,
        ..Default::default()
    })]

    /// Whatever is missed and whenever it is caught up with.
    #[test]
    fn the_documented_loop_ends_up_to_date_under_every_schedule(
        capacity in 0..6usize,
        steps in proptest::collection::vec((0..12u8, 0..8u32), 1..120),
    ) {
        let stage = Stage::new(|it| it).unwrap();
        let (mut fleet, updates) = stage.registry.subscribe(capacity);
        for (step, id) in steps {
            match step {
                0..4 => drop(stage.registry.register(id, "data")),
                4..6 => drop(stage.registry.beat(&id)),
                6 => drop(stage.registry.leave(&id)),
                7 => drop(stage.registry.forget(&id)),
                8 => fleet = stage.registry.fleet(),
                9 => catch_up(&stage.registry, &mut fleet, updates.try_iter()),
                _ => catch_up(&stage.registry, &mut fleet, updates.try_iter().take(id as usize)),
            }
        }
        catch_up(&stage.registry, &mut fleet, updates.try_iter());
        let picture = |fleet: &Fleet<u32, &str>| {
            let mut nodes: Vec<String> = fleet.iter().map(|it| format!("{it:?}")).collect();
            nodes.sort();
            (fleet.version(), nodes)
        };
        assert_eq!(picture(&fleet), picture(&stage.registry.fleet()));
    }
}

#[test]
fn a_gap_is_told_where_it_is() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let (_, updates) = stage.registry.subscribe(1);
    stage.join([1, 2])?;
    assert_eq!(updates.recv()?.version(), 1);
    stage.registry.drain(&1)?;
    // The queue was empty, so the gap goes ahead of what came after it.
    let gap = updates.recv()?;
    assert_eq!(gap.to_string(), "missed version=4 count=3");
    assert_eq!(updates.recv()?.version(), 5);
    assert!(updates.try_recv().is_err());
    Ok(())
}

#[test]
fn a_callback_is_told_and_may_call_the_registry_and_panic() -> Result<(), Error> {
    let registry = std::sync::Arc::new(Registry::<u32, ()>::builder().build()?);
    let (sender, seen) = mpsc::channel();
    let inner = registry.clone();
    let (_, subscription) = registry.subscribe_with(64, move |update| {
        let Update::Node(transition) = update else {
            return;
        };
        let id = *transition.status.node.id();
        if transition.change == Change::Registered {
            inner.beat(&id).unwrap();
        }
        sender.send((id, transition.change)).unwrap();
        assert_ne!(id, 1, "the test wants it so");
    })?;
    registry.register(1, ())?;
    registry.register(2, ())?;
    let mut told: Vec<_> = seen.iter().take(4).collect();
    told.sort_by_key(|it| it.0);
    let expected = [
        (1, Change::Registered),
        (1, Change::Up),
        (2, Change::Registered),
        (2, Change::Up),
    ];
    assert_eq!(told, expected);
    drop(subscription);
    registry.drain(&1)?;
    assert!(seen.recv().is_err(), "it gets no further update");
    assert_eq!(registry.stats().subscribers, 0);
    Ok(())
}

#[test]
fn a_closed_registry_keeps_its_list_and_disconnects_its_subscribers() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join([7])?;
    stage.registry.close();
    stage.registry.close();
    assert_eq!(stage.listed(), [7]);
    assert!(matches!(
        stage.registry.beat(&7),
        Err(RegistryError::Closed)
    ));
    assert!(stage.registry.flush().is_err());
    let error = stage.registry.register(8, "mine").expect_err("closed");
    assert_eq!((error.id, error.data), (8, "mine"));
    assert_eq!(stage.updates.iter().count(), 2);
    assert!(stage.updates.recv().is_err());
    assert!(stage.registry.subscribe(1).1.recv().is_err());
    Ok(())
}

#[test]
fn a_list_that_was_taken_never_changes() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..300)?;
    let before = stage.registry.available().to_arc();
    for id in 0..150 {
        stage.registry.leave(&id)?;
    }
    stage.join(300..400)?;
    assert_eq!(before.len(), 300);
    let mut ids: Vec<u32> = before.iter().map(|node| *node.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    assert_eq!(stage.listed(), (150..400).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn vitals_tell_of_beats() -> Result<(), Error> {
    let stage = Stage::new(|it| it.fall(3))?;
    stage.registry.register(7, "")?;
    let vitals = stage.registry.vitals(&7).expect("it is known");
    assert_eq!(
        (vitals.last_beat, vitals.timeout, vitals.misses),
        (None, TIMEOUT, 0)
    );
    stage.pass(s(2))?;
    stage.beat([7])?;
    stage.pass(TIMEOUT)?;
    let vitals = stage.registry.vitals(&7).expect("it is known");
    assert_eq!((vitals.last_beat, vitals.misses), (Some(s(2).into()), 1));
    Ok(())
}

#[test]
fn updates_read_as_log_lines() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..3)?;
    stage.registry.drain(&0)?;
    stage.registry.undrain(&0)?;
    stage.pass(TIMEOUT)?;
    let lines: Vec<String> = stage.updates.try_iter().map(|it| it.to_string()).collect();
    assert_eq!(lines[0], "registered 0 version=1 state=joining weight=100");
    assert_eq!(lines[1], "up 0 version=2 state=up weight=100");
    assert_eq!(lines[6], "drained 0 version=7 state=up weight=100 drained");
    assert_eq!(lines[10], "guard active version=11 held=3 listed=3");
    assert!(
        lines[11].ends_with("state=suspect weight=100 held"),
        "{lines:#?}"
    );
    Ok(())
}

#[test]
fn stats_read_as_a_log_line() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..3)?;
    stage.pass(s(5))?;
    stage.beat(0..2)?;
    stage.registry.drain(&0)?;
    stage.pass(s(5))?;
    assert_eq!(
        stage.registry.stats().to_string(),
        "listed=1 joining=0 up=2 suspect=0 down=1 left=0 held=0 drained=1 suppressed=0 deaths=1 recoveries=0 guards=0 \
         stalls=0 refused=0 subscribers=1 missed_updates=0 version=8"
    );
    Ok(())
}

/// The end of time, and the longest of everything.
#[test]
fn extremes_do_no_harm() -> Result<(), Error> {
    let stage = Stage::new(|it| {
        it.policy(Policy::Fixed(Duration::MAX))
            .forget_after(Duration::MAX)
            .slow_start(Duration::MAX)
            .mass_death_guard(Guard::new().window(Duration::MAX).longest(Duration::MAX))
            .flap_damping(
                FlapDamping::new()
                    .half_life(Duration::from_nanos(1))
                    .longest(s(1)),
            )
    });
    // A penalty that falls that fast never suppresses; the options make sense all the same.
    let stage = stage?;
    stage.join([1, 2])?;
    stage.registry.leave(&2)?;
    stage.pass(Duration::MAX)?;
    stage.beat([1])?;
    stage.pass(Duration::MAX)?;
    assert_eq!(
        (stage.state(1), stage.state(2)),
        (Some(State::Up), Some(State::Left))
    );
    Ok(())
}
