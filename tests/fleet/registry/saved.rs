//! What is written with `serde`, and a registry that is saved and restored.

use std::time::Duration;

use liveness::ManualClock;
use liveness::registry::{
    Builder, Change, FlapDamping, Node, NodeOptions, Policy, Registry, Saved, State, Update,
};

use super::{Error, Stage, TIMEOUT, s};

#[test]
fn updates_are_written_with_all_their_fields() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.clock.advance(s(5));
    stage.registry.register(7, "data")?;
    let update = stage.updates.try_recv()?;
    let expected = serde_json::json!({ "Node": {
        "version": 1,
        "at": { "secs": 5, "nanos": 0 },
        "change": "Registered",
        "status": {
            "node": { "id": 7, "data": "data", "weight": 100 },
            "incarnation": 1,
            "state": "Joining",
            "since": { "secs": 5, "nanos": 0 },
            "is_drained": false,
            "is_suppressed": false,
            "is_held": false,
        },
    }});
    assert_eq!(serde_json::to_value(update)?, expected);
    Ok(())
}

/// Saves the registry and starts another, by way of text.
fn restart(
    stage: &Stage,
    grace: Duration,
    options: impl FnOnce(Builder<u32, String>) -> Builder<u32, String>,
) -> Result<(ManualClock, Registry<u32, String>), Error> {
    let text = serde_json::to_string(&stage.registry.save())?;
    let saved: Saved<u32, String> = serde_json::from_str(&text)?;
    let clock = ManualClock::new();
    let builder = Registry::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .clock(clock.clone())
        .restore(saved, grace);
    Ok((clock, options(builder).build()?))
}

fn pass(
    clock: &ManualClock,
    registry: &Registry<u32, String>,
    time: Duration,
) -> Result<(), Error> {
    clock.advance(time);
    registry.flush()?;
    Ok(registry.flush()?)
}

#[test]
fn a_restarted_registry_neither_forgets_the_fleet_nor_declares_it_dead() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..4)?;
    stage.pass(s(9))?;
    stage.beat([0])?;
    stage.registry.drain(&1)?;
    stage.registry.leave(&2)?;
    let (clock, registry) = restart(&stage, s(5), |it| it)?;
    assert_eq!(registry.available().len(), 2);
    // Who beat the registry before beats this one, and no number is given again.
    let before = |id| stage.registry.status(&id).map(|it| it.incarnation);
    assert_eq!(registry.status(&3).map(|it| it.incarnation), before(3));
    assert!(registry.register(9, String::new())? > before(3).expect("it is known"));
    registry.forget(&9)?;
    assert_eq!(
        registry
            .available()
            .iter()
            .map(|it| it.data().as_str())
            .next(),
        Some("data")
    );
    let states: Vec<_> = (0..4)
        .filter_map(|id| registry.status(&id))
        .map(|it| it.state)
        .collect();
    assert_eq!(states, [State::Up, State::Up, State::Left, State::Up]);
    assert!(registry.status(&1).is_some_and(|it| it.is_drained));
    // 3 had a second left, and gets the grace; 0 had ten.
    pass(&clock, &registry, s(5) - Duration::from_nanos(1))?;
    assert_eq!(registry.available().len(), 2);
    pass(&clock, &registry, Duration::from_nanos(1))?;
    let listed = |registry: &Registry<u32, String>| {
        let list = registry.available();
        list.iter().map(|node| *node.id()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&registry), [0]);
    pass(&clock, &registry, s(5))?;
    assert!(listed(&registry).is_empty());
    Ok(())
}

#[test]
fn after_the_grace_the_own_policy_of_a_node_holds_again() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    let options = NodeOptions::new().policy(Policy::Fixed(s(100))).weight(7);
    stage.registry.register_with(1, "slow", options)?;
    stage.beat([1])?;
    stage.pass(s(98))?;
    let (clock, registry) = restart(&stage, s(20), |it| it)?;
    pass(&clock, &registry, s(19))?;
    registry.beat(&1)?;
    pass(&clock, &registry, s(100) - Duration::from_nanos(1))?;
    assert_eq!(
        registry.available().iter().map(Node::weight).next(),
        Some(7)
    );
    pass(&clock, &registry, Duration::from_nanos(1))?;
    assert!(registry.available().is_empty());
    Ok(())
}

#[test]
fn after_the_grace_a_node_goes_down_by_timeouts_of_its_own() -> Result<(), Error> {
    let stage = Stage::new(|it| it.fall(3))?;
    stage.join([1])?;
    stage.pass(s(9))?;
    // The first is what was left or the grace, the others are whole ones, neither that short nor that long.
    for (grace, first) in [(0, 1), (25, 25)] {
        let (clock, registry) = restart(&stage, s(grace), |it| it.fall(3))?;
        let instant = Duration::from_nanos(1);
        let state = || registry.status(&1).map(|it| it.state);
        pass(&clock, &registry, s(first) - instant)?;
        assert_eq!(state(), Some(State::Up));
        pass(&clock, &registry, instant)?;
        pass(&clock, &registry, TIMEOUT - instant)?;
        assert_eq!(registry.vitals(&1).map(|it| it.misses), Some(1));
        pass(&clock, &registry, instant)?;
        pass(&clock, &registry, TIMEOUT - instant)?;
        assert_eq!(state(), Some(State::Suspect), "{grace}");
        pass(&clock, &registry, instant)?;
        assert_eq!(state(), Some(State::Down), "{grace}");
    }
    Ok(())
}

#[test]
fn what_was_saved_and_cannot_be_is_cut_down_to_what_can() -> Result<(), Error> {
    let stage = Stage::new(|it| it.forget_after(Duration::MAX))?;
    stage.join(0..4)?;
    stage.pass(s(9))?;
    stage.beat(1..4)?;
    stage.pass(s(1))?; // 0 is down
    let long = r#"{"secs":1000000000000,"nanos":0}"#;
    let mut text = serde_json::to_string(&stage.registry.save())?;
    // Who is up is not to be forgotten, who is down is, and nobody may be silent, suppressed or begin for ages.
    let halves = text.split_once(r#""id":1"#).map(|(down, up)| {
        let up = up.replace(
            r#""remembered_for":null"#,
            r#""remembered_for":{"secs":1,"nanos":0}"#,
        );
        let (suppressed, others) = up.split_once(r#""id":2"#).expect("it is there");
        let others = others.replace(
            r#""ramp":{"secs":0,"nanos":0}"#,
            &format!(r#""ramp":{long}"#),
        );
        let suppressed = suppressed.replace(
            r#""suppressed_for":null"#,
            &format!(r#""suppressed_for":{long}"#),
        );
        format!(r#"{down}"id":1{suppressed}"id":2{others}"#)
    });
    text = halves.expect("they are in the order of their slots");
    text = text.replace(
        r#""remaining":{"secs":9,"#,
        r#""remaining":{"secs":999999999999,"#,
    );
    text = text.replace(r#""penalty":0.0"#, r#""penalty":1e300"#);
    let saved: Saved<u32, String> = serde_json::from_str(&text)?;
    let clock = ManualClock::new();
    let registry = Registry::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .forget_after(s(300))
        .mass_death_guard(None)
        .flap_damping(FlapDamping::new())
        .clock(clock.clone())
        .restore(saved, Duration::ZERO)
        .build()?;
    let listed = || registry.available().iter().map(Node::weight).sum::<u32>();
    assert_eq!(listed(), 200);
    pass(&clock, &registry, s(9))?;
    assert_eq!((listed(), registry.fleet().len()), (200, 4));
    pass(&clock, &registry, s(1))?;
    assert_eq!((listed(), registry.stats().down), (0, 4));
    // The longest suppression is four minutes.
    for suppressed in [3; 24].into_iter().chain([0]) {
        assert_eq!(registry.stats().suppressed, suppressed);
        pass(&clock, &registry, s(10))?;
    }
    pass(&clock, &registry, s(40))?;
    assert!(registry.status(&0).is_none());
    Ok(())
}

#[test]
fn what_was_held_down_or_suppressed_goes_on_from_where_it_was() -> Result<(), Error> {
    let damping = FlapDamping::new().suppress(0.9);
    let stage = Stage::new(|it| it.flap_damping(damping).forget_after(s(100)))?;
    stage.join(0..5)?;
    stage.pass(s(9))?;
    stage.beat(1..5)?;
    stage.pass(s(1))?; // 0 is down
    stage.beat([0])?; // and back, and suppressed: it takes 24.9 s from 1 to 0.75
    stage.pass(s(9))?;
    assert_eq!(stage.registry.stats().held, 4);
    stage.beat(1..3)?;
    stage.pass(s(1))?;
    let state = |id| {
        stage
            .registry
            .status(&id)
            .map(|it| (it.state, it.is_suppressed))
    };
    assert_eq!(state(0), Some((State::Down, true)));
    stage.pass(s(40))?;
    stage.beat(1..5)?;

    let (clock, registry) = restart(&stage, s(10), |it| {
        it.flap_damping(damping).forget_after(s(100))
    })?;
    assert!(
        registry
            .status(&0)
            .is_some_and(|it| it.state == State::Down)
    );
    assert_eq!(registry.stats().listed, stage.registry.stats().listed);
    // 40 of its 100 seconds have passed.
    pass(&clock, &registry, s(60) - Duration::from_nanos(1))?;
    assert!(registry.status(&0).is_some());
    pass(&clock, &registry, Duration::from_nanos(1))?;
    assert!(registry.status(&0).is_none());
    Ok(())
}

#[test]
fn a_node_that_was_down_when_saved_tells_for_how_long_in_all() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join([1])?;
    stage.pass(TIMEOUT)?;
    stage.pass(s(30))?;
    let (clock, registry) = restart(&stage, s(10), |it| it)?;
    let (_, updates) = registry.subscribe(10);
    pass(&clock, &registry, s(12))?;
    registry.beat(&1)?;
    let Ok(Update::Node(transition)) = updates.try_recv() else {
        panic!("it is told");
    };
    assert_eq!(transition.change, Change::Recovered { down_for: s(42) });
    Ok(())
}

#[test]
fn what_was_saved_must_make_sense_and_fit() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join([1, 2])?;
    let saved = stage.registry.save();
    assert_eq!((saved.len(), saved.is_empty()), (2, false));
    let Err(error) = restart(&stage, s(1), |it| it.max_nodes(1)) else {
        panic!("there is no room");
    };
    assert!(error.to_string().starts_with("1 node is known"), "{error}");
    let text = serde_json::to_string(&saved)?.replace("\"penalty\":0.0", "\"penalty\":-1e300");
    let saved: Saved<u32, String> = serde_json::from_str(&text)?;
    // However odd, it does no harm.
    let registry = Registry::builder().restore(saved, Duration::ZERO).build()?;
    registry.beat(&1)?;
    Ok(())
}
