//! Who is listed, and with which weight: flap damping and slow starts.

use std::time::Duration;

use liveness::registry::{Change, FlapDamping, Node, NodeOptions, Policy, State};

use super::{Error, Stage, TIMEOUT, s};

#[test]
fn who_flaps_is_suppressed_until_it_was_good_for_long_enough() -> Result<(), Error> {
    let damping = FlapDamping::new().half_life(s(100)).longest(s(1_000));
    let mut stage = Stage::new(|it| it.flap_damping(damping))?;
    stage.join([7])?;
    for _ in 0..3 {
        assert_eq!(stage.listed(), [7]);
        stage.pass(TIMEOUT)?;
        stage.beat([7])?;
    }
    // 1, then 1.93, then 2.8: above 2.
    let status = stage.registry.status(&7).expect("it is known");
    assert!(status.is_suppressed && status.state == State::Up && stage.listed().is_empty());
    // 2.80 takes 1.902 half-lives to fall to 0.75, and each step here is a second.
    let mut waited = s(0);
    while stage.listed().is_empty() {
        stage.pass(s(1))?;
        stage.beat([7])?;
        waited += s(1);
        assert!(waited < s(300), "it is suppressed for ever");
    }
    assert_eq!(waited, s(191));
    let told = stage.told();
    assert_eq!(told.last(), Some(&(7, Change::Reused)));
    assert_eq!(stage.registry.stats().suppressed, 0);
    Ok(())
}

#[test]
fn the_longest_suppression_is_bounded_however_often_it_flapped() -> Result<(), Error> {
    let damping = FlapDamping::new().half_life(s(100)).longest(s(400));
    let stage = Stage::new(|it| it.flap_damping(damping))?;
    stage.join([7])?;
    for _ in 0..200 {
        stage.pass(TIMEOUT)?;
        stage.beat([7])?;
    }
    for _ in 0..80 {
        assert!(stage.listed().is_empty());
        stage.pass(s(5))?;
        stage.beat([7])?;
    }
    assert_eq!(stage.listed(), [7]);
    Ok(())
}

#[test]
fn a_slow_start_grows_the_weight_in_steps_to_the_full_one() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it.slow_start(s(150)).policy(Policy::Fixed(s(200))))?;
    stage
        .registry
        .register_with(7, "", NodeOptions::new().weight(1_600))?;
    stage.beat([7])?;
    let weight = |stage: &Stage| stage.registry.available().iter().next().map(Node::weight);
    for step in 1..=16 {
        assert_eq!(weight(&stage), Some(step * 100));
        stage.pass(s(10) - Duration::from_nanos(1))?;
        assert_eq!(weight(&stage), Some(step * 100));
        stage.pass(Duration::from_nanos(1))?;
    }
    let told = stage.told();
    assert_eq!(told.iter().filter(|it| it.1 == Change::Weight).count(), 15);
    // Anew after a death.
    stage.pass(s(40))?;
    assert_eq!(weight(&stage), None);
    stage.beat([7])?;
    assert_eq!(weight(&stage), Some(100));
    // A small weight grows in fewer steps, and is never zero.
    stage
        .registry
        .register_with(8, "", NodeOptions::new().weight(2))?;
    stage.beat([8])?;
    let of_8 = stage.registry.status(&8).map(|status| status.node.weight());
    assert_eq!(of_8, Some(1));
    Ok(())
}

#[test]
fn a_slow_start_spares_a_node_however_small_its_weight() -> Result<(), Error> {
    for weight in [1, 2, 3, 100] {
        let stage = Stage::new(|it| it.slow_start(s(150)).policy(Policy::Fixed(s(2_000))))?;
        let options = NodeOptions::new().weight(weight);
        stage.registry.register_with(1, "", options)?;
        stage.beat([1])?;
        stage.pass(s(1_000))?;
        stage.registry.register_with(2, "", options)?;
        stage.beat([2])?;
        // One in seventeen at first, one in three half way, one in two at the end.
        for (wait, share) in [(0, 1.0 / 17.0), (70, 8.0 / 24.0), (80, 0.5)] {
            stage.pass(s(wait))?;
            let list = stage.registry.available();
            fastrand::seed(7);
            let weighted = (0..10_000).filter_map(|_| list.weighted());
            let owners = (0..10_000).filter_map(|key| list.rendezvous(&key));
            for count in [
                weighted.filter(|it| *it.id() == 2).count(),
                owners.filter(|it| *it.id() == 2).count(),
            ] {
                let found = count as f64 / 10_000.0;
                assert!((found - share).abs() < 0.02, "{weight} {wait}: {found}");
            }
        }
    }
    Ok(())
}
