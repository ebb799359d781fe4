//! The states of a node, and what changes them.

use std::time::Duration;

use liveness::registry::{Change, RegistryError, State};

use super::{Error, Stage, TIMEOUT, s};

#[test]
fn a_node_joins_is_up_goes_down_and_recovers() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.registry.register(7, "rack 4")?;
    assert_eq!(
        (stage.state(7), stage.listed()),
        (Some(State::Joining), vec![])
    );
    stage.pass(s(3))?;
    stage.beat([7])?;
    assert_eq!((stage.state(7), stage.listed()), (Some(State::Up), vec![7]));

    stage.pass(TIMEOUT - Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(
        (stage.state(7), stage.listed()),
        (Some(State::Down), vec![])
    );

    stage.pass(s(17))?;
    stage.beat([7])?;
    assert_eq!((stage.state(7), stage.listed()), (Some(State::Up), vec![7]));
    let down_for = s(17);
    assert_eq!(
        stage.told(),
        [
            (7, Change::Registered),
            (7, Change::Up),
            (7, Change::Down),
            (7, Change::Recovered { down_for }),
        ]
    );
    let stats = stage.registry.stats();
    assert_eq!(
        (stats.deaths, stats.recoveries, stats.up, stats.listed),
        (1, 1, 1, 1)
    );
    let list = stage.registry.available();
    assert_eq!(
        list.iter().map(|node| *node.data()).collect::<Vec<_>>(),
        ["rack 4"]
    );
    Ok(())
}

#[test]
fn a_node_that_never_beats_goes_down_too() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it.fall(2))?;
    stage.registry.register(7, "")?;
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.state(7), Some(State::Joining));
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.state(7), Some(State::Down));
    assert_eq!(stage.told(), [(7, Change::Registered), (7, Change::Down)]);
    Ok(())
}

#[test]
fn a_node_that_was_never_up_does_not_recover() -> Result<(), Error> {
    for rise in [1, 2] {
        let mut stage = Stage::new(|it| it.rise(rise))?;
        stage.registry.register(7, "")?;
        stage.pass(TIMEOUT)?;
        assert_eq!(stage.state(7), Some(State::Down));
        stage.beat([7])?;
        stage.pass(TIMEOUT * (rise - 1))?; // down once more, still never up
        for _ in 0..rise {
            stage.beat([7])?;
        }
        assert_eq!(stage.told().last(), Some(&(7, Change::Up)));
        assert_eq!(stage.registry.stats().recoveries, 0);
        // From now on it may.
        stage.pass(TIMEOUT)?;
        for _ in 0..rise {
            stage.beat([7])?;
        }
        assert_eq!(stage.registry.stats().recoveries, 1);
        // A node that leaves and registers again has not been up in its new life.
        stage.registry.leave(&7)?;
        stage.registry.register(7, "")?;
        stage.pass(TIMEOUT)?;
        for _ in 0..rise {
            stage.beat([7])?;
        }
        assert_eq!(stage.told().last(), Some(&(7, Change::Up)));
    }
    Ok(())
}

#[test]
fn rise_counts_beats_in_a_row_at_first_and_after_a_death() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it.rise(3).fall(2))?;
    stage.registry.register(7, "")?;
    stage.beat([7, 7])?;
    stage.pass(TIMEOUT)?; // a miss: they are not in a row
    stage.beat([7, 7])?;
    assert_eq!(stage.state(7), Some(State::Joining));
    stage.beat([7])?;
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(TIMEOUT)?;
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.beat([7, 7])?;
    assert_eq!(
        (stage.state(7), stage.listed()),
        (Some(State::Joining), vec![])
    );
    // It fails again before it is up: it was down all the while.
    stage.pass(TIMEOUT)?;
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.beat([7, 7, 7])?;
    let down_for = TIMEOUT * 2;
    assert_eq!(
        stage.told(),
        [
            (7, Change::Registered),
            (7, Change::Up),
            (7, Change::Suspected),
            (7, Change::Down),
            (7, Change::Returning),
            (7, Change::Down),
            (7, Change::Returning),
            (7, Change::Recovered { down_for }),
        ]
    );
    Ok(())
}

#[test]
fn a_suspect_is_listed_and_one_beat_reassures() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it.rise(2).fall(3))?;
    stage.join([7])?;
    stage.beat([7])?;
    for _ in 0..2 {
        stage.pass(TIMEOUT)?;
        assert_eq!(
            (stage.state(7), stage.listed()),
            (Some(State::Suspect), vec![7])
        );
    }
    stage.beat([7])?;
    assert_eq!(stage.state(7), Some(State::Up));
    for _ in 0..3 {
        stage.pass(TIMEOUT)?;
    }
    assert_eq!(
        (stage.state(7), stage.listed()),
        (Some(State::Down), vec![])
    );
    assert_eq!(
        stage.told(),
        [
            (7, Change::Registered),
            (7, Change::Up),
            (7, Change::Suspected),
            (7, Change::Reassured),
            (7, Change::Suspected),
            (7, Change::Down),
        ]
    );
    Ok(())
}

#[test]
fn who_leaves_is_not_brought_back_by_a_late_beat_but_by_registering() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.join([7, 8])?;
    stage.registry.leave(&7)?;
    stage.registry.leave(&7)?;
    assert_eq!(
        (stage.state(7), stage.listed()),
        (Some(State::Left), vec![8])
    );
    assert!(matches!(stage.registry.beat(&7), Err(RegistryError::Left)));
    assert_eq!(stage.state(7), Some(State::Left));
    stage.registry.register(7, "again")?;
    assert_eq!(stage.state(7), Some(State::Joining));
    stage.beat([7])?;
    assert_eq!(
        stage.told()[4..],
        [(7, Change::Left), (7, Change::Registered), (7, Change::Up)]
    );
    // Who leaves is no longer watched, and who is back is.
    stage.registry.leave(&8)?;
    stage.pass(TIMEOUT)?;
    assert_eq!(
        (stage.state(7), stage.state(8)),
        (Some(State::Down), Some(State::Left))
    );
    Ok(())
}

#[test]
fn who_is_down_or_has_left_is_forgotten_in_time() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it.forget_after(s(100)))?;
    stage.join([7, 8, 9])?;
    stage.registry.leave(&8)?;
    stage.pass(s(5))?;
    stage.beat([9])?;
    stage.pass(s(5))?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.beat([9])?;
    stage.pass(s(90) - Duration::from_nanos(1))?;
    assert_eq!(stage.state(8), Some(State::Left));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!((stage.state(7), stage.state(8)), (Some(State::Down), None));
    stage.beat([7])?; // no longer down: not forgotten either
    for _ in 0..20 {
        stage.pass(s(9))?;
        stage.beat([7])?;
    }
    assert_eq!(stage.state(7), Some(State::Up));
    assert!(matches!(
        stage.registry.beat(&8),
        Err(RegistryError::Unknown)
    ));
    stage.registry.forget(&7)?;
    assert_eq!((stage.state(7), stage.listed()), (None, vec![]));
    let told = stage.told();
    assert!(told.contains(&(8, Change::Forgotten)) && told.ends_with(&[(7, Change::Forgotten)]));
    Ok(())
}

#[test]
fn a_drained_node_is_watched_and_not_listed() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.join([7])?;
    stage.registry.drain(&7)?;
    stage.registry.drain(&7)?;
    assert_eq!((stage.state(7), stage.listed()), (Some(State::Up), vec![]));
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.beat([7])?;
    assert_eq!((stage.state(7), stage.listed()), (Some(State::Up), vec![]));
    // Not even a new start of the node undoes what the operator did.
    stage.registry.leave(&7)?;
    stage.join([7])?;
    assert_eq!((stage.state(7), stage.listed()), (Some(State::Up), vec![]));
    stage.registry.undrain(&7)?;
    assert_eq!(stage.listed(), [7]);
    let changes: Vec<Change> = stage.told().into_iter().map(|(_, change)| change).collect();
    let count = |change| changes.iter().filter(|&&it| it == change).count();
    assert_eq!((count(Change::Drained), count(Change::Undrained)), (1, 1));
    Ok(())
}
