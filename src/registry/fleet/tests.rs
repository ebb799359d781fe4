//! The fleet under times that the tests make up: its edges one by one here, and random operations against a naive list
//! in the files below.

mod machine;
mod model;

use super::*;
use crate::registry::options::{Guard, NodeOptions};
use crate::registry::policy::{PhiAccrual, Policy};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_report_that_a_beat_overtook_counts_for_nothing() {
    let mut keeper = Keeper::new(Config::new());
    let options = NodeOptions::new();
    keeper
        .register(7u8, 0u32, &options, s(0))
        .expect("there is room");
    let Ok(Order::Watch(Watched::Node(slot, watch), _)) = keeper.beat(&7, None, s(1)) else {
        panic!("it is watched since it was registered");
    };
    keeper.take();
    // The watcher saw the silence after the registration, and the beat came before its report. It is to wait for the
    // rest, should the beat never reach it, or with another timeout.
    keeper.silent(slot, watch, s(10));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Up));
    assert_eq!(
        keeper.take().orders,
        [Order::Watch(Watched::Node(slot, watch), s(1))]
    );
    keeper.silent(slot, watch, s(11));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Down));
    assert_eq!(
        keeper.take().orders[0],
        Order::Unwatch(Watched::Node(slot, watch))
    );
    // Nor does one of a watch that is over, which is answered by the order to forget it.
    assert!(matches!(keeper.beat(&7, None, s(12)), Ok(Order::Watch(..))));
    keeper.take();
    keeper.silent(slot, watch, s(60));
    assert_eq!(keeper.status(&7).map(|it| it.state), Some(State::Up));
    assert_eq!(
        keeper.take().orders,
        [Order::Unwatch(Watched::Node(slot, watch))]
    );
}

#[test]
fn a_late_look_counts_every_timeout_that_has_passed_but_none_of_a_stall() {
    let config = || Config {
        policy: Policy::Fixed(s(2)),
        fall: 3,
        ..Config::new()
    };
    let watched = |keeper: &mut Keeper<u8, u32>| {
        keeper
            .register(7u8, 0u32, &NodeOptions::new(), s(0))
            .expect("there is room");
        match keeper.beat(&7, None, s(0)) {
            Ok(Order::Watch(Watched::Node(slot, watch), _)) => (slot, watch),
            other => panic!("{other:?}"),
        }
    };
    let stall = Stall {
        worker: 0,
        last_alive: s(1).into(),
        resumed: s(100).into(),
        held_for: s(2),
    };
    for (looks, state) in [
        (1, State::Up),
        (2, State::Suspect),
        (5, State::Suspect),
        (6, State::Down),
        (100, State::Down),
    ] {
        let mut keeper = Keeper::new(config());
        let (slot, watch) = watched(&mut keeper);
        keeper.take();
        keeper.silent(slot, watch, s(looks));
        assert_eq!(keeper.status(&7).map(|it| it.state), Some(state), "{looks}");
        // The next look is at the end of the timeout that runs, not a whole one from now.
        if state != State::Down {
            let wait = s(looks / 2 * 2 + 2 - looks);
            let order = Order::Watch(Watched::Node(slot, watch), wait);
            assert_eq!(keeper.take().orders[0], order, "{looks}");
        }
    }
    let mut keeper = Keeper::new(config());
    let (slot, watch) = watched(&mut keeper);
    keeper.stalled(stall);
    for (now, state) in [
        (102, State::Suspect),
        (104, State::Suspect),
        (106, State::Down),
    ] {
        keeper.silent(slot, watch, s(now));
        assert_eq!(keeper.status(&7).map(|it| it.state), Some(state), "{now}");
    }
}

/// Two orders about one number may be carried out in either order, so they must allow the same silence.
#[test]
fn a_beat_that_changes_the_timeout_is_watched_under_another_number() {
    let mut keeper = Keeper::new(Config {
        policy: Policy::Adaptive(PhiAccrual::new()),
        ..Config::new()
    });
    keeper
        .register(7u8, 0u32, &NodeOptions::new(), s(0))
        .expect("there is room");
    keeper.take();
    let (mut waits, mut watched) = (HashMap::new(), None);
    for second in [1, 2, 3, 6, 7, 8, 9, 10] {
        let Ok(Order::Watch(number, wait)) = keeper.beat(&7, None, s(second)) else {
            panic!("it is known");
        };
        assert_eq!(*waits.entry(number).or_insert(wait), wait);
        let before = watched.replace(number).filter(|&it| it != number);
        let orders = keeper.take().orders;
        assert!(before.is_none_or(|old| orders.contains(&Order::Unwatch(old))));
    }
    assert!(waits.len() > 1);
}

#[test]
fn a_silence_in_which_the_registry_did_not_run_is_not_learned() {
    let policy = Policy::Adaptive(PhiAccrual::new());
    for (is_reported, is_learned) in [(false, false), (true, true)] {
        let mut keeper = Keeper::new(Config {
            policy,
            fall: 2,
            ..Config::new()
        });
        keeper
            .register(7u8, 0u32, &NodeOptions::new(), s(0))
            .expect("there is room");
        let mut watched = None;
        for second in 1..=20 {
            let Ok(Order::Watch(node, _)) = keeper.beat(&7, None, s(second)) else {
                panic!("it is known");
            };
            watched = Some(node);
        }
        let before = keeper.vitals(&7, s(20)).expect("it is known").timeout;
        if let (true, Some(Watched::Node(slot, watch))) = (is_reported, watched) {
            keeper.silent(slot, watch, s(20) + before);
        }
        // Beyond the timeout, and within two of them.
        keeper
            .beat(&7, None, s(20) + before + s(1))
            .expect("it is known");
        let after = keeper.vitals(&7, s(27)).expect("it is known").timeout;
        assert_eq!(after > before, is_learned, "{before:?} {after:?}");
    }
}

/// Beats before and after the report of a stall, by the thread that happened to run first.
#[test]
fn a_pause_of_the_registry_shorter_than_the_timeout_is_not_learned() {
    let policy = Policy::Adaptive(PhiAccrual::new().acceptable_pause(s(2)));
    let ms = Duration::from_millis;
    for is_reported_first in [true, false] {
        let mut keeper = Keeper::new(Config {
            policy,
            ..Config::new()
        });
        keeper
            .register(7u8, 0u32, &NodeOptions::new(), s(0))
            .expect("there is room");
        for second in 1..=300 {
            keeper.beat(&7, None, s(second)).expect("it is known");
        }
        let timeout = |keeper: &Keeper<u8, u32>| keeper.vitals(&7, s(400)).map(|it| it.timeout);
        let before = timeout(&keeper);
        let stall = Stall {
            worker: 0,
            last_alive: ms(300_200).into(),
            resumed: ms(302_500).into(),
            held_for: ms(2_300),
        };
        if is_reported_first {
            keeper.stalled(stall);
        }
        // What had come meanwhile, then the pace as before.
        keeper.beat(&7, None, ms(302_499)).expect("it is known");
        keeper.beat(&7, None, ms(302_500)).expect("it is known");
        if !is_reported_first {
            keeper.stalled(stall);
        }
        keeper.beat(&7, None, s(303)).expect("it is known");
        keeper.beat(&7, None, s(304)).expect("it is known");
        assert_eq!(timeout(&keeper), before, "{is_reported_first}");
    }
}

#[test]
fn as_long_as_timeouts_are_learned_the_registry_wakes_often_enough_to_notice_a_pause() {
    let mut keeper = Keeper::<u8, u32>::new(Config::new());
    let adaptive = NodeOptions::new().policy(Policy::Adaptive(PhiAccrual::new()));
    let asked_for = |keeper: &mut Keeper<u8, u32>| {
        let orders = keeper.take().orders.into_iter();
        orders
            .filter_map(|order| match order {
                Order::Watch(Watched::Until(due), _) => Some(due),
                _ => None,
            })
            .min()
    };
    assert!(keeper.register(1, 0, &NodeOptions::new(), s(0)).is_ok());
    assert_eq!(asked_for(&mut keeper), None);
    assert!(keeper.register(2, 0, &adaptive, s(0)).is_ok());
    let mut now = s(0);
    for _ in 0..10 {
        let due = asked_for(&mut keeper).expect("it wants to be woken");
        assert_eq!(due, now + Duration::from_millis(250));
        keeper.beat(&2, None, now).expect("it is known");
        assert_eq!(asked_for(&mut keeper), None);
        now = due;
        keeper.tend(now);
    }
    // No longer once it has left, and again when it is back.
    keeper.leave(&2, None, now).expect("it is known");
    let next = asked_for(&mut keeper).expect("it will be forgotten");
    assert!(next > now + s(1_000));
    assert!(keeper.register(2, 0, &adaptive, now + s(2)).is_ok());
    assert_eq!(
        asked_for(&mut keeper),
        Some(now + s(2) + Duration::from_millis(250))
    );
    // Nor if it is given another policy.
    assert!(
        keeper
            .register(2, 0, &NodeOptions::new(), now + s(2))
            .is_ok()
    );
    keeper.take();
    keeper.tend(now + s(3));
    assert!(asked_for(&mut keeper).is_none());
}

#[test]
fn a_fleet_that_was_large_gives_its_memory_back() {
    let mut keeper = Keeper::<u32, ()>::new(Config::new());
    let options = NodeOptions::new();
    let join = |keeper: &mut Keeper<u32, ()>, ids: std::ops::Range<u32>| {
        for id in ids {
            assert!(keeper.register(id, (), &options, s(0)).is_ok());
            assert!(keeper.beat(&id, None, s(0)).is_ok());
            keeper.take();
        }
    };
    join(&mut keeper, 0..20_000);
    for id in 10..20_000 {
        keeper.forget(&id, s(0)).expect("it is known");
        keeper.take();
    }
    let capacities = |it: &Keeper<u32, ()>| [it.ids.capacity(), it.listed.capacity()];
    assert!(capacities(&keeper).iter().all(|&it| it < 2_000));
    assert!(size_of_val(&keeper.slots[0]) == size_of::<usize>());
    for id in 0..10 {
        keeper.forget(&id, s(0)).expect("it is known");
        keeper.take();
    }
    assert!(keeper.slots.capacity() + keeper.free.capacity() < 2_000);
    // Slots begin anew; numbers of watches do not.
    let last_watch = keeper.last_watch;
    join(&mut keeper, 0..3);
    assert_eq!((keeper.slots.len(), keeper.stats().listed), (3, 3));
    assert!(keeper.last_watch > last_watch);
}

#[test]
fn deaths_of_nodes_that_came_back_are_not_kept_however_long_the_window() {
    let mut keeper = Keeper::new(Config {
        guard: Some(Guard::new().window(Duration::MAX)),
        ..Config::new()
    });
    for id in 0..10u8 {
        assert!(keeper.register(id, 0u32, &NodeOptions::new(), s(0)).is_ok());
        keeper.beat(&id, None, s(0)).expect("it is known");
    }
    for nth in 1..1_000 {
        let Ok(Order::Watch(Watched::Node(slot, watch), _)) = keeper.beat(&7, None, s(20 * nth))
        else {
            panic!("it is known");
        };
        keeper.silent(slot, watch, s(20 * nth + 10));
        keeper.take();
    }
    assert_eq!(keeper.stats().deaths, 999);
    assert!(keeper.guard.remembered() < 10);
}

#[test]
fn a_stall_is_told_with_a_version_of_its_own() {
    let stall = Stall {
        worker: 0,
        last_alive: s(1).into(),
        resumed: s(3).into(),
        held_for: s(2),
    };
    let mut keeper = Keeper::<u8, u32>::new(Config::new());
    let mut picture = keeper.fleet();
    keeper.stalled(stall);
    let outcome = keeper.take();
    let [update] = &outcome.updates[..] else {
        panic!("it is told once");
    };
    assert_eq!(update.to_string(), "stalled version=1 gap=2s held_for=2s");
    assert_eq!(picture.apply(update), Ok(()));
    assert_eq!((picture.version(), keeper.stats().stalls), (1, 1));
    assert!(outcome.list.is_none());
}
