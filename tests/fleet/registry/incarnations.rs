//! Incarnations: no call of an old process does anything to the new one.

use std::time::Duration;

use liveness::registry::{RegistryError, State};

use super::{Error, Stage, TIMEOUT, life, s};

#[test]
fn a_late_goodbye_or_beat_of_an_old_life_does_nothing_to_the_new_one() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    let old = stage.registry.register(7, "old")?;
    stage.registry.beat_as(&7, old)?;
    let new = stage.registry.register(7, "new")?;
    assert!(new > old);
    stage.pass(s(6))?;
    let superseded =
        |result| matches!(result, Err(RegistryError::Superseded { current }) if current == new);
    assert!(superseded(stage.registry.leave_as(&7, old)));
    assert!(superseded(stage.registry.beat_as(&7, old)));
    assert_eq!(stage.listed(), [7]);
    // The late beat ended no silence.
    stage.pass(s(4))?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.registry.beat_as(&7, new)?;
    stage.registry.leave_as(&7, new)?;
    assert_eq!(stage.state(7), Some(State::Left));
    assert!(superseded(stage.registry.beat_as(&7, old)));
    assert!(matches!(
        stage.registry.beat_as(&7, new),
        Err(RegistryError::Left)
    ));
    let status = stage.registry.status(&7).expect("it is known");
    assert_eq!(status.incarnation, new);
    stage.told();
    Ok(())
}

#[test]
fn a_late_registration_of_an_old_life_is_refused() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.registry.register_with(7, "second", life(20))?;
    let late = stage
        .registry
        .register_with(7, "first", life(10))
        .expect_err("it is late");
    let current = 20.into();
    assert!(matches!(late.error, RegistryError::Superseded { current: it } if it == current));
    assert_eq!((late.id, late.data), (7, "first"));
    assert!(late.to_string().contains("incarnation 20"), "{late}");
    // Twice is fine, and renews the data.
    stage.registry.register_with(7, "second again", life(20))?;
    let data = stage.registry.status(&7).map(|it| *it.node.data());
    assert_eq!(data, Some("second again"));
    // A life that has said goodbye is over; the next one is not.
    stage.registry.leave_as(&7, 20)?;
    let late = stage
        .registry
        .register_with(7, "second", life(20))
        .expect_err("it is late");
    assert!(matches!(late.error, RegistryError::Left));
    stage.registry.register_with(7, "third", life(30))?;
    assert_eq!(stage.state(7), Some(State::Joining));
    Ok(())
}

#[test]
fn a_life_that_is_newer_than_the_one_registered_must_register_first() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.registry.register_with(7, "first", life(10))?;
    let unknown = |result| matches!(result, Err(RegistryError::Unknown));
    assert!(unknown(stage.registry.beat_as(&7, 20)));
    assert!(unknown(stage.registry.leave_as(&7, 20)));
    assert_eq!(stage.state(7), Some(State::Joining));
    Ok(())
}

#[test]
fn a_new_life_needs_beats_of_its_own_and_a_renewal_does_not() -> Result<(), Error> {
    let stage = Stage::new(|it| it.rise(3))?;
    stage.registry.register_with(7, "", life(1))?;
    stage.beat([7, 7])?;
    stage.registry.register_with(7, "", life(2))?;
    stage.beat([7, 7])?;
    assert_eq!(stage.state(7), Some(State::Joining));
    stage.beat([7])?;
    assert_eq!(stage.state(7), Some(State::Up));
    // Who registers with each beat comes up too.
    for _ in 0..3 {
        stage.registry.register(8, "")?;
        stage.beat([8])?;
    }
    assert_eq!(stage.state(8), Some(State::Up));
    Ok(())
}

#[test]
fn a_number_of_a_life_is_not_given_twice() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let first = stage.registry.register(7, "")?;
    stage.registry.forget(&7)?;
    let second = stage.registry.register(7, "")?;
    assert!(second > first);
    assert!(stage.registry.leave_as(&7, first).is_err());
    // Not even beside numbers that a node gave, up to the last one there is.
    stage.registry.register_with(8, "", life(1_000))?;
    assert!(stage.registry.register(8, "")? > 1_000.into());
    stage.registry.register_with(9, "", life(u64::MAX))?;
    assert_eq!(stage.registry.register(9, "")?, u64::MAX.into());
    Ok(())
}

#[test]
fn a_node_that_is_down_and_registers_again_is_remembered_anew() -> Result<(), Error> {
    let stage = Stage::new(|it| it.forget_after(s(100)))?;
    stage.join([7])?;
    stage.pass(TIMEOUT)?;
    stage.pass(s(99))?;
    stage.registry.register(7, "again")?;
    stage.pass(s(100) - Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), None);
    Ok(())
}
