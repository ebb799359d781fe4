//! Which idle worker is called, step by step: the test does what workers would do.

use super::*;
use crate::clock::ManualClock;
use crate::dispatch::options::On;
use crate::dispatch::schedule::Schedule;

const S: Duration = Duration::from_secs(1);

/// What workers share, without any.
pub(in crate::dispatch::local) fn core() -> Arc<Core> {
    Core::new(Settings {
        threads: 0,
        max_unfinished: 100,
        max_per_topic: 100,
        max_dead: 10,
        stuck_after: S,
        max_stuck: 2,
        seed: 7,
        clock: Some(ManualClock::new().into()),
        ..Settings::new()
    })
}

#[test]
fn a_topic_whose_next_event_became_a_later_one_still_finds_a_leader() {
    let core = core();
    let [first, second, third] = ["first", "second", "third"].map(Topic::<u8>::new);
    for topic in [&first, &second, &third] {
        core.on(topic, "handle", On::new(), |_: &_, _: &_| Ok(()))
            .unwrap();
    }
    let emit = |topic, delay| core.emit(topic, 0, Emit::after(delay), None).unwrap();
    let (_, _, cancelled) = (emit(&first, S), emit(&second, S), emit(&third, S));
    emit(&third, 2 * S);
    let now = 1_000_000_000;
    core.state.lock().followers = 2;
    // The leader wakes, takes the first event, and calls a follower.
    let mut state = core.state.lock();
    assert!(state.plan.next(0, now).is_some());
    assert!(matches!(state.call_idle(now), Some(Idle::Follower)));
    drop(state);
    core.cancel(&third, cancelled);
    // The follower takes the second one. What is left is due later, and another follower must lead until then.
    let mut state = core.state.lock();
    assert!(state.plan.next(1, now).is_some());
    assert!(matches!(state.call_idle(now), Some(Idle::Follower)));
}

#[test]
fn schedules_that_come_and_go_leave_nothing_behind() {
    let core = core();
    let topic = Topic::<u8>::new("topic");
    for _ in 0..1_000 {
        core.schedule(&topic, "name", Schedule::every(S), || 0)
            .unwrap();
        assert!(core.unschedule(&topic, "name"));
    }
    assert!(core.state.lock().schedules.looks.len() < 10);
}
