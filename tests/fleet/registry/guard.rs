//! The guard: many deaths at once leave the list as it is.

use std::time::Duration;

use liveness::registry::{Change, FlapDamping, Guard, State};

use super::{Error, Stage, TIMEOUT, s};

/// A fleet of `nodes`, all of which fall silent at once; returns what is listed when all should be down.
fn all_fall_silent(nodes: u32) -> Result<(Stage, Vec<u32>), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..nodes)?;
    stage.pass(TIMEOUT)?;
    let listed = stage.listed();
    Ok((stage, listed))
}

#[test]
fn one_or_two_nodes_are_never_guarded() -> Result<(), Error> {
    for nodes in [1, 2] {
        let (stage, listed) = all_fall_silent(nodes)?;
        assert_eq!((listed, stage.registry.stats().guards), (vec![], 0));
    }
    Ok(())
}

#[test]
fn three_nodes_that_fall_silent_at_once_stay_listed_until_the_guard_ends() -> Result<(), Error> {
    let (mut stage, listed) = all_fall_silent(3)?;
    assert_eq!((listed, stage.registry.stats().guards), (vec![0, 1, 2], 1));
    let stats = stage.registry.stats();
    assert_eq!((stats.held, stats.suspect, stats.down), (3, 3, 0));
    // One comes back: two of three are still more than half.
    stage.beat([0])?;
    for _ in 0..100 {
        stage.pass(s(5))?;
        stage.beat([0])?;
    }
    assert_eq!(stage.listed(), [0, 1, 2]);
    // Ten minutes after it came up it ends.
    stage.pass(s(5))?;
    stage.beat([0])?;
    for _ in 0..18 {
        stage.pass(s(5))?;
        stage.beat([0])?;
    }
    stage.pass(s(5) - Duration::from_nanos(1))?;
    assert_eq!(stage.listed(), [0, 1, 2]);
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(
        (stage.listed(), stage.state(1)),
        (vec![0], Some(State::Down))
    );
    let told = stage.told();
    let held = told.iter().filter(|it| it.1 == Change::Held).count();
    let downs = told.iter().filter(|it| it.1 == Change::Down).count();
    // Two went down before the third brought the guard up, and two at its end.
    assert_eq!((held, downs), (3, 4));
    Ok(())
}

#[test]
fn two_of_three_nodes_go_down_one_after_the_other_and_a_third_later_too() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..3)?;
    stage.pass(s(9))?;
    stage.beat([2])?;
    stage.pass(s(1))?;
    assert_eq!(stage.listed(), [2]);
    // More than a minute later: the other deaths no longer count.
    for _ in 0..10 {
        stage.beat([2])?;
        stage.pass(s(9))?;
    }
    stage.pass(s(1))?;
    assert_eq!((stage.listed(), stage.registry.stats().guards), (vec![], 0));
    Ok(())
}

#[test]
fn a_death_counts_for_less_than_a_window() -> Result<(), Error> {
    for (early, guards) in [(Duration::from_nanos(1), 1), (Duration::ZERO, 0)] {
        let stage = Stage::new(|it| it)?;
        stage.join(0..3)?;
        for _ in 0..10 {
            stage.pass(s(5))?;
            stage.beat([2])?;
        }
        // Two died after 10 seconds, and a window is 60.
        assert_eq!((stage.listed(), stage.registry.stats().down), (vec![2], 2));
        stage.pass(s(5))?;
        stage.beat([2])?;
        stage.pass(s(5) - early)?;
        stage.beat([2])?;
        stage.pass(s(10))?;
        assert_eq!(stage.registry.stats().guards, guards, "{early:?}");
    }
    Ok(())
}

#[test]
fn half_of_the_list_may_go_down_and_no_node_more() -> Result<(), Error> {
    for (alive, listed, guards) in [(5, 5, 0), (4, 10, 1)] {
        let stage = Stage::new(|it| it)?;
        stage.join(0..10)?;
        stage.pass(s(9))?;
        stage.beat(0..alive)?;
        stage.pass(s(1))?;
        let stats = stage.registry.stats();
        assert_eq!((stats.listed, stats.guards), (listed, guards));
    }
    Ok(())
}

#[test]
fn a_fraction_is_what_it_says() -> Result<(), Error> {
    // 0.29 × 100 is less than 29 in floating point.
    for (fraction, dead, guards) in [(0.29, 29, 0), (0.29, 30, 1), (0.07, 7, 0), (0.07, 8, 1)] {
        let guard = Guard::new().fraction(fraction);
        let stage = Stage::new(|it| it.mass_death_guard(guard))?;
        stage.join(0..100)?;
        stage.pass(s(9))?;
        stage.beat(dead..100)?;
        stage.pass(s(1))?;
        assert_eq!(stage.registry.stats().guards, guards, "{fraction} {dead}");
    }
    // So it is when the guard looks whether it is calm.
    let stage = Stage::new(|it| it.mass_death_guard(Guard::new().fraction(0.29)))?;
    stage.join(0..100)?;
    stage.pass(TIMEOUT)?;
    for _ in 0..12 {
        stage.beat(29..100)?;
        stage.pass(s(5))?;
    }
    assert_eq!((stage.registry.stats().held, stage.listed().len()), (0, 71));
    Ok(())
}

#[test]
fn a_death_that_the_guard_took_back_counts_once() -> Result<(), Error> {
    let guard = Guard::new().longest(s(100));
    let stage = Stage::new(|it| it.mass_death_guard(guard))?;
    stage.join(0..3)?;
    stage.pass(TIMEOUT)?; // two went down, then all are held
    let stats = stage.registry.stats();
    assert_eq!((stats.held, stats.deaths), (3, 2));
    stage.pass(s(100))?;
    let stats = stage.registry.stats();
    assert_eq!((stats.down, stats.deaths), (3, 3));
    // The next silence is another death.
    stage.beat([0])?;
    stage.pass(TIMEOUT)?;
    assert_eq!(stage.registry.stats().deaths, 4);
    Ok(())
}

#[test]
fn the_guard_ends_when_most_are_back_for_a_window() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.join(0..10)?;
    stage.pass(s(5))?;
    stage.beat(0..2)?;
    stage.pass(s(5))?;
    assert_eq!(stage.registry.stats().held, 8);
    assert_eq!(stage.listed().len(), 10);
    // Five are back, so five of ten are held: at most half.
    let beat = |stage: &Stage, ids: std::ops::Range<u32>| stage.beat(ids);
    beat(&stage, 0..5)?;
    for _ in 0..11 {
        stage.pass(s(5))?;
        beat(&stage, 0..5)?;
    }
    stage.pass(s(5) - Duration::from_nanos(1))?;
    assert_eq!((stage.registry.stats().held, stage.listed().len()), (5, 10));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(
        (stage.registry.stats().held, stage.listed()),
        (0, vec![0, 1, 2, 3, 4])
    );
    // And who comes back now has been down since the end.
    beat(&stage, 0..5)?;
    stage.pass(s(5))?;
    stage.beat([9])?;
    let down_for = s(5);
    assert_eq!(
        stage.told().last(),
        Some(&(9, Change::Recovered { down_for }))
    );
    Ok(())
}

#[test]
fn the_guard_ends_at_once_when_all_are_back_and_nobody_went_down() -> Result<(), Error> {
    let mut stage = Stage::new(|it| it)?;
    stage.join(0..10)?;
    stage.pass(TIMEOUT)?;
    stage.beat(0..9)?;
    assert_eq!(stage.registry.stats().held, 1);
    stage.beat([9])?;
    assert_eq!((stage.registry.stats().held, stage.listed().len()), (0, 10));
    stage.told();
    // It can come up again.
    stage.pass(TIMEOUT)?;
    assert_eq!(
        (stage.registry.stats().guards, stage.listed().len()),
        (2, 10)
    );
    Ok(())
}

#[test]
fn leaving_draining_and_forgetting_are_no_deaths() -> Result<(), Error> {
    let stage = Stage::new(|it| it)?;
    stage.join(0..10)?;
    stage.pass(s(9))?;
    stage.beat(4..10)?;
    stage.pass(s(1))?;
    // Four deaths of ten; they stop counting as they are dealt with.
    assert_eq!(stage.listed().len(), 6);
    stage.registry.leave(&0)?;
    stage.registry.drain(&1)?;
    stage.registry.forget(&2)?;
    for id in [4, 5] {
        stage.registry.leave(&id)?;
    }
    assert_eq!(stage.listed(), [6, 7, 8, 9]);
    stage.pass(s(8))?;
    stage.beat(8..10)?;
    stage.pass(s(1))?;
    // Three deaths that count, of five nodes: that is too many.
    assert_eq!(
        (stage.registry.stats().guards, stage.listed()),
        (1, vec![3, 6, 7, 8, 9])
    );
    // Who is drained or leaves while it is held is gone, and so are the doubts.
    stage.registry.drain(&3)?;
    assert_eq!(stage.state(3), Some(State::Down));
    stage.registry.leave(&6)?;
    stage.registry.forget(&7)?;
    assert_eq!(
        (stage.registry.stats().held, stage.listed()),
        (0, vec![8, 9])
    );
    Ok(())
}

#[test]
fn without_a_guard_the_list_may_become_empty() -> Result<(), Error> {
    let stage = Stage::new(|it| it.mass_death_guard(None))?;
    stage.join(0..100)?;
    stage.pass(TIMEOUT)?;
    assert_eq!((stage.listed(), stage.registry.stats().down), (vec![], 100));
    Ok(())
}

#[test]
fn who_is_brought_back_by_the_guard_has_no_penalty_for_it() -> Result<(), Error> {
    let damping = FlapDamping::new().suppress(0.9);
    let stage = Stage::new(|it| it.flap_damping(damping).slow_start(s(150)))?;
    stage.join(0..4)?;
    for _ in 0..16 {
        stage.pass(s(9))?;
        stage.beat(0..4)?;
    }
    stage.pass(s(9))?;
    stage.beat(0..1)?;
    stage.pass(s(1))?;
    assert_eq!(stage.listed(), [0, 1, 2, 3]);
    let list = stage.registry.available();
    assert!(list.iter().all(|node| node.weight() == 100), "{list:?}");
    stage.beat(1..4)?;
    assert_eq!(stage.registry.stats().suppressed, 0);
    Ok(())
}
