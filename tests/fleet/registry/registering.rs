//! Registering: what is renewed, what is refused, and which policy counts.

use std::time::Duration;

use liveness::registry::{
    Builder, FlapDamping, Guard, NodeOptions, Policy, Registry, RegistryError, State,
};

use super::{Error, Stage, life, s};

#[test]
fn registering_a_known_node_renews_its_data_and_keeps_its_state() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.join([7])?;
    let before = stage.registry.available().to_arc();
    let options = NodeOptions::new().policy(Policy::Fixed(s(60))).weight(3);
    stage.registry.register_with(7, "new", options)?;
    let list = stage.registry.available();
    let (old, new) = (before.iter().next(), list.iter().next());
    assert_eq!(old.map(|it| (*it.data(), it.weight())), Some(("data", 100)));
    assert_eq!(new.map(|it| (*it.data(), it.weight())), Some(("new", 3)));
    assert!(list.version() > before.version());
    // The new policy holds from now on.
    stage.pass(s(59))?;
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(s(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    stage.registry.register(7, "newer")?;
    assert_eq!(stage.state(7), Some(State::Down));
    assert_eq!(stage.told().len(), 5);
    Ok(())
}

/// What a node needs to be `seconds` without a beat.
fn silent_for(seconds: u64) -> NodeOptions {
    NodeOptions::new().policy(Policy::Fixed(s(seconds)))
}

#[test]
fn registering_again_with_another_policy_does_not_restart_the_silence() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join([7])?;
    stage.pass(s(6))?;
    // Longer: twenty seconds after the beat, not after the call.
    stage.registry.register_with(7, "", silent_for(20))?;
    stage.pass(s(14) - Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    // Shorter than the silence so far: at once.
    stage.beat([7])?;
    stage.pass(s(6))?;
    stage.registry.register_with(7, "", silent_for(6))?;
    stage.registry.flush()?;
    assert_eq!(stage.state(7), Some(State::Down));
    Ok(())
}

#[test]
fn registrars_that_alternate_do_not_keep_a_dead_node_up() -> Result<(), Error> {
    for fall in 1..4 {
        let stage = Stage::new(|it| it.fall(fall))?;
        stage.join([7])?;
        for nth in 0..u64::from(fall) * 4 {
            stage.pass(s(5))?;
            let seconds = [10, 12][nth as usize % 2];
            stage.registry.register_with(7, "", silent_for(seconds))?;
        }
        stage.registry.flush()?;
        assert_eq!(stage.state(7), Some(State::Down), "{fall}");
    }
    Ok(())
}

#[test]
fn a_late_look_does_not_put_off_the_next_step() -> Result<(), Error> {
    let stage = Stage::new(|it| it.fall(2))?;
    stage.join([7])?;
    stage.pass(s(15))?;
    assert_eq!(stage.state(7), Some(State::Suspect));
    stage.pass(s(5) - Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Suspect));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    Ok(())
}

#[test]
fn a_beat_registers_who_is_not_known_and_nobody_else() -> Result<(), Error> {
    let stage = Stage::new(|it| it.max_nodes(1))?;
    let calls = std::cell::Cell::new(0);
    let beat = |id: u32| {
        stage.registry.beat_or_register(&id, || {
            calls.set(calls.get() + 1);
            "data"
        })
    };
    beat(7)?;
    beat(7)?;
    assert_eq!((stage.listed(), calls.get()), (vec![7], 1));
    assert!(matches!(beat(8), Err(RegistryError::Full { max: 1 })));
    stage.registry.leave(&7)?;
    assert!(matches!(beat(7), Err(RegistryError::Left)));
    stage.registry.forget(&7)?;
    beat(7)?;
    assert_eq!((stage.listed(), calls.get()), (vec![7], 3));
    // A newer life registers, an older one does not.
    stage
        .registry
        .beat_or_register_with(&7, life(100), || "new")?;
    let late = stage.registry.beat_or_register_with(&7, life(99), || "old");
    assert!(matches!(late, Err(RegistryError::Superseded { .. })));
    assert_eq!(
        stage.registry.status(&7).map(|it| *it.node.data()),
        Some("new")
    );
    Ok(())
}

#[test]
fn no_room_refuses_and_hands_back_and_nobody_is_evicted() -> Result<(), Error> {
    let stage = Stage::new(|it| it.max_nodes(2).forget_after(s(50)))?;
    stage.join([1, 2])?;
    stage.registry.leave(&2)?;
    let error = stage.registry.register(3, "mine").expect_err("no room");
    assert!(matches!(error.error, RegistryError::Full { max: 2 }));
    assert_eq!((error.id, error.data), (3, "mine"));
    assert_eq!(
        error.to_string(),
        "2 nodes are known, which is the maximum; forget some, or raise `max_nodes`"
    );
    // Who is known may register again.
    stage.registry.register(1, "new")?;
    stage.registry.register(2, "back")?;
    stage.registry.leave(&2)?;
    assert_eq!(
        (stage.listed(), stage.registry.stats().refused),
        (vec![1], 1)
    );
    stage.pass(s(50))?;
    stage.registry.register(3, "mine")?;
    assert_eq!(stage.state(3), Some(State::Joining));
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_and_says_what_would() {
    let build = |options: Builder<u32, ()>| options.build().expect_err("no sense").to_string();
    let new = Registry::<u32, ()>::builder;
    assert_eq!(build(new().rise(0)), "`rise` must be greater than zero");
    assert_eq!(build(new().fall(0)), "`fall` must be greater than zero");
    assert_eq!(
        build(new().max_nodes(0)),
        "`max_nodes` must be greater than zero"
    );
    assert!(build(new().forget_after(Duration::ZERO)).contains("`forget_after`"));
    for fraction in [-0.1, 1.1, f64::NAN] {
        let guard = Guard::new().fraction(fraction);
        assert_eq!(
            build(new().mass_death_guard(guard)),
            "`Guard::fraction` must be from 0 to 1"
        );
    }
    for (guard, option) in [
        (Guard::new().window(Duration::ZERO), "`Guard::window`"),
        (Guard::new().longest(Duration::ZERO), "`Guard::longest`"),
    ] {
        let error = build(new().mass_death_guard(guard));
        assert_eq!(error, format!("{option} must be greater than zero"));
    }
    let damping = FlapDamping::new;
    for (damping, option) in [
        (damping().half_life(Duration::ZERO), "half_life"),
        (damping().reuse(0.0), "reuse"),
        (damping().reuse(f64::NAN), "reuse"),
        (damping().suppress(0.5), "reuse"),
        (damping().suppress(f64::INFINITY), "suppress"),
        (damping().suppress(f64::NAN), "suppress"),
        (damping().longest(s(60)), "longest"),
    ] {
        let error = build(new().flap_damping(damping));
        assert!(
            error.starts_with(&format!("`FlapDamping::{option}` must be")),
            "{error}"
        );
    }
    let error = build(new().policy(Policy::Fixed(Duration::ZERO)));
    assert_eq!(error, "`Policy::Fixed` must be greater than zero");
    let error = build(new().thread_name("a\0b"));
    assert!(error.starts_with("`thread_name`"), "{error}");

    let registry = new().build().expect("it makes sense");
    let options = NodeOptions::new().policy(Policy::Fixed(Duration::ZERO));
    let error = registry
        .register_with(7, (), options)
        .expect_err("no sense");
    assert!(
        matches!(error.error, RegistryError::Option(error) if error.option() == "Policy::Fixed")
    );
    assert!(matches!(registry.beat(&8), Err(RegistryError::Unknown)));
    assert!(matches!(registry.leave(&8), Err(RegistryError::Unknown)));
    assert!(matches!(registry.drain(&8), Err(RegistryError::Unknown)));
    assert!(matches!(registry.undrain(&8), Err(RegistryError::Unknown)));
    assert!(matches!(registry.forget(&8), Err(RegistryError::Unknown)));
    assert!(registry.status(&8).is_none() && registry.vitals(&8).is_none());
}
