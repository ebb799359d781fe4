//! The registry through its public face, under a clock that the tests move.

use std::sync::mpsc;
use std::time::Duration;

use liveness::ManualClock;
use liveness::registry::{
    Builder, Change, FlapDamping, Fleet, Guard, Node, NodeOptions, PhiAccrual, Policy, Registry,
    RegistryError, State, Update, Updates,
};

use crate::in_time::in_time;

type Error = Box<dyn std::error::Error>;

/// The timeout in these tests.
const TIMEOUT: Duration = Duration::from_secs(10);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A registry under a clock that is moved by hand, and what it tells.
struct Stage {
    clock: ManualClock,
    registry: Registry<u32, &'static str>,
    fleet: Fleet<u32, &'static str>,
    updates: Updates<u32, &'static str>,
}

impl Stage {
    fn new(
        options: impl FnOnce(Builder<u32, &'static str>) -> Builder<u32, &'static str>,
    ) -> Result<Self, Error> {
        let clock = ManualClock::new();
        let builder = Registry::builder()
            .policy(Policy::Fixed(TIMEOUT))
            .clock(clock.clone());
        let registry = options(builder).build()?;
        let (fleet, updates) = registry.subscribe(10_000);
        Ok(Stage {
            clock,
            registry,
            fleet,
            updates,
        })
    }

    /// Registers nodes and lets them beat once.
    fn join(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        for id in ids {
            self.registry.register(id, "data")?;
            self.registry.beat(&id)?;
        }
        Ok(())
    }

    fn beat(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        for id in ids {
            self.registry.beat(&id)?;
        }
        Ok(())
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) -> Result<(), Error> {
        self.registry.flush()?;
        self.clock.advance(time);
        Ok(self.registry.flush()?)
    }

    fn state(&self, id: u32) -> Option<State> {
        self.registry.status(&id).map(|status| status.state)
    }

    /// The ids of the list, sorted.
    fn listed(&self) -> Vec<u32> {
        let list = self.registry.available();
        let mut ids: Vec<u32> = list.iter().map(|node| *node.id()).collect();
        ids.sort_unstable();
        ids
    }

    /// What was told of nodes since the last call; all pictures of the fleet must be the same.
    fn told(&mut self) -> Vec<(u32, Change)> {
        let mut told = Vec::new();
        for update in self.updates.try_iter() {
            self.fleet.apply(&update).expect("there is no gap");
            if let Update::Node(transition) = update {
                told.push((*transition.status.node.id(), transition.change));
            }
        }
        let mut ids: Vec<u32> = self.fleet.listed().map(|it| *it.node.id()).collect();
        ids.sort_unstable();
        assert_eq!(ids, self.listed());
        let picture = |fleet: &Fleet<u32, &str>| {
            let mut nodes: Vec<String> = fleet.iter().map(|it| format!("{it:?}")).collect();
            nodes.sort();
            (fleet.version(), nodes)
        };
        assert_eq!(picture(&self.fleet), picture(&self.registry.fleet()));
        told
    }
}

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
    stage.beat([7])?; // not down any more: not forgotten either
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

/// A registration of the life that began with this number.
fn life(number: u64) -> NodeOptions {
    NodeOptions::new().incarnation(number)
}

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
    // More than a minute later: the other deaths count no more.
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
    // Five are back, so five of ten are held: no more than half.
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
    assert!(seen.recv().is_err(), "it is told no more");
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

#[test]
fn an_adaptive_policy_learns_the_pace_and_tells_how_suspicious_a_silence_is() -> Result<(), Error> {
    let stage = Stage::new(|it| it.policy(Policy::Adaptive(PhiAccrual::new())))?;
    stage.join([7])?;
    for _ in 0..100 {
        stage.pass(s(1))?;
        stage.beat([7])?;
    }
    let timeout = stage.registry.vitals(&7).expect("it is known").timeout;
    assert!(timeout < s(10), "{timeout:?}");
    stage.pass(timeout - Duration::from_nanos(1))?;
    let phi = stage.registry.vitals(&7).and_then(|it| it.phi);
    assert!(phi.is_some_and(|phi| phi > 1.0), "{phi:?}");
    assert_eq!(stage.state(7), Some(State::Up));
    stage.pass(Duration::from_nanos(1))?;
    assert_eq!(stage.state(7), Some(State::Down));
    Ok(())
}

/// A process that is stopped for a second while a node beats on, and then asked for the node's timeout. The test runs its own
/// binary once more, as that process.
#[cfg(unix)]
#[test]
fn a_registry_that_was_stopped_does_not_learn_that_from_the_beats_that_waited() -> Result<(), Error>
{
    use std::io::{BufRead, BufReader};
    use std::net::UdpSocket;
    use std::process::{Command, Stdio};

    const ROLE: &str = "LIVENESS_TEST_STOPPED_REGISTRY";
    const INTERVAL: Duration = Duration::from_millis(200);
    if std::env::var_os(ROLE).is_some() {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let phi = PhiAccrual::new()
            .first_interval(INTERVAL)
            // No deadline comes near, so that nothing but the ticks would notice.
            .acceptable_pause(s(10))
            .min_deviation(Duration::from_millis(5));
        let registry = Registry::builder().policy(Policy::Adaptive(phi)).build()?;
        println!("line {}", socket.local_addr()?.port());
        let mut buffer = [0; 1];
        while let Ok(1) = socket.recv(&mut buffer) {
            registry.beat_or_register(&7, || ())?;
            if buffer[0] == b'?' {
                let vitals = registry.vitals(&7).expect("it is known");
                println!("line {}", vitals.timeout.as_millis());
            }
        }
        return Ok(());
    }
    let name =
        "registry::a_registry_that_was_stopped_does_not_learn_that_from_the_beats_that_waited";
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, "")
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let signal = |signal| nix::sys::signal::kill(pid, signal);
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut numbers = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("line ")?.parse::<u64>().ok());
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = numbers.next().ok_or("it ended")?;
    socket.connect(("127.0.0.1", port as u16))?;
    let beat = |times: u32| {
        for _ in 0..times {
            socket.send(b".")?;
            std::thread::sleep(INTERVAL);
        }
        Ok::<(), Error>(())
    };
    beat(12)?;
    socket.send(b"?")?;
    let before = numbers.next().ok_or("it ended")?;
    std::thread::sleep(2 * INTERVAL); // the watcher has done what follows from a beat, and sleeps
    signal(nix::sys::signal::SIGSTOP)?;
    beat(6)?;
    signal(nix::sys::signal::SIGCONT)?;
    beat(3)?;
    socket.send(b"?")?;
    let after = numbers.next().ok_or("it ended")?;
    child.kill()?;
    child.wait()?;
    // A second and more among a dozen intervals of 200 ms would be more than a second of timeout.
    assert!(after < before + 500, "{before} ms, then {after} ms");
    Ok(())
}

#[test]
fn nodes_that_slow_down_for_good_are_learned_also_if_the_guard_holds_them() -> Result<(), Error> {
    for nodes in [1, 10] {
        let stage = Stage::new(|it| it.policy(Policy::Adaptive(PhiAccrual::new())))?;
        stage.join(0..nodes)?;
        for _ in 0..100 {
            stage.pass(s(1))?;
            stage.beat(0..nodes)?;
        }
        for _ in 0..50 {
            stage.pass(s(10))?;
            stage.beat(0..nodes)?;
        }
        let stats = stage.registry.stats();
        assert!(stats.deaths <= 3 * u64::from(nodes), "{stats:?}");
        assert!(stats.guards <= 3, "{stats:?}");
        assert_eq!(
            (stats.up, stage.state(0)),
            (nodes as usize, Some(State::Up))
        );
    }
    Ok(())
}

/// Data that takes its time to go.
struct Slow;

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn a_worker_that_was_kept_from_running_is_noticed() -> Result<(), Error> {
    let registry = Registry::<u32, Slow>::builder()
        .policy(Policy::Fixed(Duration::from_millis(1)))
        .forget_after(Duration::from_millis(1))
        .build()?;
    // It is forgotten in the worker, and its data goes there.
    registry.register(7, Slow)?;
    let begin = std::time::Instant::now();
    while registry.stats().stalls == 0 {
        assert!(begin.elapsed() < s(30), "{:?}", registry.stats());
        std::thread::yield_now();
    }
    Ok(())
}

/// Data that does something as it goes.
struct Last(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Last {
    fn new(last: impl FnOnce() + Send + Sync + 'static) -> Self {
        Last(Some(Box::new(last)))
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

/// Runs `code` as a caller who survives its panics does.
fn survive<T>(code: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).ok()
}

#[test]
fn a_close_that_waits_no_longer_names_the_worker_that_runs_data_s_drop() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, Last>::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .forget_after(TIMEOUT)
        .thread_name("fleet")
        .clock(clock.clone())
        .build()?;
    let (busy, is_busy) = mpsc::channel();
    let (release, hold) = mpsc::channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    let last = Last::new(move || {
        busy.send(()).expect("the test listens");
        let _ = hold.lock().expect("nobody else does").recv();
    });
    registry.register(7, last)?;
    registry.leave(&7)?;
    clock.advance(TIMEOUT);
    // It is forgotten in the worker, and its data goes there. Nobody waits for that.
    std::thread::scope(|scope| {
        scope.spawn(|| registry.flush());
        is_busy.recv().expect("it goes");
        let error = registry
            .close_timeout(Duration::ZERO)
            .expect_err("the worker is held");
        assert_eq!(
            error.to_string(),
            "the registry is closed, but a thread still runs: fleet-0"
        );
        assert!(matches!(registry.beat(&7), Err(RegistryError::Closed)));
        drop(release);
    });
    registry.close_timeout(s(60))?;
    registry.close();
    Ok(())
}

#[test]
fn data_that_panics_as_it_goes_takes_nothing_with_it() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, Last>::builder()
        .policy(Policy::Fixed(TIMEOUT))
        .forget_after(s(15))
        .clock(clock.clone())
        .build()?;
    let pass = |time| {
        clock.advance(time);
        registry.flush()
    };
    let bomb = || Last::new(|| panic!("the test wants it so"));
    // In a caller: the node is watched all the same.
    registry.register(1, bomb())?;
    registry.leave(&1)?;
    assert!(survive(|| registry.register(1, Last(None))).is_none());
    // In the worker: the nodes after it are forgotten all the same.
    registry.register(2, bomb())?;
    registry.leave(&2)?;
    pass(s(5))?;
    registry.register(3, Last(None))?;
    registry.leave(&3)?;
    pass(s(5))?;
    assert_eq!(registry.status(&1).map(|it| it.state), Some(State::Down));
    pass(s(5))?;
    assert!(registry.status(&2).is_none() && registry.status(&3).is_some());
    pass(s(5))?;
    assert!(registry.status(&3).is_none() && registry.status(&1).is_some());
    pass(s(5))?;
    assert_eq!(registry.fleet().len(), 0);
    Ok(())
}

/// An id that asks the registry something as it goes, and panics in `Hash` where a test wants it.
#[derive(Clone)]
struct Asking(u32, std::sync::Weak<Registry<Asking, Last>>);

thread_local! {
    /// After so many calls of `Hash`, one panics.
    static GOOD_HASHES: std::cell::Cell<u32> = const { std::cell::Cell::new(u32::MAX) };
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Asking {}

impl std::hash::Hash for Asking {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let left = GOOD_HASHES.get().checked_sub(1);
        GOOD_HASHES.set(left.expect("the test wants it so"));
        self.0.hash(state);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(registry) = self.1.upgrade() {
            let _ = registry.stats();
        }
    }
}

#[test]
fn ids_and_data_may_call_the_registry_as_they_go() {
    in_time(|| {
        let registry = std::sync::Arc::new(Registry::<Asking, Last>::builder().build().unwrap());
        let asking = |id| Asking(id, std::sync::Arc::downgrade(&registry));
        let last = || {
            let registry = std::sync::Arc::downgrade(&registry);
            Last::new(move || {
                let _ = registry.upgrade().map(|registry| registry.stats());
            })
        };
        for is_listed in [false, true] {
            for _ in 0..2 {
                registry.register(asking(1), last()).unwrap();
                if is_listed {
                    registry.beat(&asking(1)).unwrap();
                }
            }
            assert_eq!(registry.fleet().len(), 1);
            registry.leave(&asking(1)).unwrap();
            registry.register(asking(1), last()).unwrap();
            registry.forget(&asking(1)).unwrap();
        }
        assert_eq!(registry.fleet().len(), 0);
    });
}

#[test]
fn an_id_that_panics_in_a_call_leaves_everything_as_it_was() -> Result<(), Error> {
    let registry = Registry::<Asking, Last>::builder().build()?;
    let asking = |id| Asking(id, std::sync::Weak::new());
    let ids: Vec<Asking> = (0..100).map(asking).collect();
    for id in &ids {
        registry.register(id.clone(), Last(None))?;
        registry.beat(id)?;
    }
    let counts = || {
        let stats = registry.stats();
        [
            stats.up,
            stats.joining,
            stats.listed,
            registry.fleet().len(),
        ]
    };
    for good in 0..4 {
        let new = asking(100);
        GOOD_HASHES.set(good);
        let registered = survive(|| registry.register(new, Last(None)));
        let forgotten = registered.is_none() && {
            GOOD_HASHES.set(good);
            survive(|| registry.forget(&ids[7])).is_some()
        };
        GOOD_HASHES.set(u32::MAX);
        assert_eq!(registry.forget(&asking(100)).is_ok(), registered.is_some());
        assert_eq!(registry.status(&ids[7]).is_none(), forgotten);
        registry.register(ids[7].clone(), Last(None))?;
        registry.beat(&ids[7])?;
        assert_eq!(counts(), [100, 0, 100, 100], "{good}");
    }
    for id in &ids {
        registry.beat(id)?;
        registry.leave(id)?;
        registry.forget(id)?;
    }
    assert_eq!((registry.fleet().len(), registry.available().len()), (0, 0));
    Ok(())
}

/// Many threads beat, register and leave while the clock runs on; whoever replays what is told comes to the same, and
/// readers never see a list that goes back.
#[test]
fn what_is_told_adds_up_whatever_threads_do() -> Result<(), Error> {
    let clock = ManualClock::new();
    let registry = Registry::<u32, ()>::builder()
        .policy(Policy::Fixed(s(3)))
        .fall(2)
        .forget_after(s(20))
        .clock(clock.clone())
        .build()?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut fleet, updates) = registry.subscribe(1_000_000);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u32)
            .map(|seed| {
                let registry = &registry;
                scope.spawn(move || {
                    let mut random = fastrand_like(seed);
                    for _ in 0..5_000 {
                        let id = random() % 50;
                        let _ = match random() % 10 {
                            0 => registry.register(id, ()).map(drop).map_err(|it| it.error),
                            1 => registry.leave(&id),
                            2 => registry.drain(&id),
                            3 => registry.undrain(&id),
                            _ => registry.beat(&id),
                        };
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut version = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let list = registry.available();
                assert!(list.version() >= version, "the list goes back");
                version = list.version();
            }
        });
        for _ in 0..100 {
            clock.advance(s(1));
            registry.flush().expect("it is open");
        }
        for worker in workers {
            worker.join().expect("no panic");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("no panic");
    });
    let picture = |fleet: &Fleet<u32, ()>| {
        let mut nodes: Vec<String> = fleet.iter().map(|it| format!("{it:?}")).collect();
        nodes.sort();
        (fleet.version(), nodes)
    };
    for update in updates.try_iter() {
        fleet.apply(&update)?;
    }
    assert_eq!(picture(&fleet), picture(&registry.fleet()));
    assert_eq!(fleet.listed().count(), registry.available().len());
    // Whoever is watched goes down: nobody was lost between the threads.
    for _ in 0..700 {
        clock.advance(s(1));
        registry.flush()?;
        registry.flush()?;
    }
    assert_eq!(registry.fleet().len(), 0, "{:?}", registry.stats());
    Ok(())
}

/// Numbers that look random (George Marsaglia, "Xorshift RNGs", 2003).
fn fastrand_like(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state >> 4
    }
}

#[cfg(feature = "serde")]
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

#[cfg(feature = "serde")]
mod saved {
    use super::*;
    use liveness::registry::Saved;

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
}
