//! What is left after a stop.

use std::sync::Weak;

use super::*;
use crate::dispatch::{Dispatcher, On, Schedule, Topic};

const S: Duration = Duration::from_secs(1);

#[test]
fn a_stop_drops_what_schedules_own() {
    const TOPIC: Topic<u8> = Topic::new("topic");
    let dispatcher = Dispatcher::builder().threads(1).build().unwrap();
    dispatcher
        .on(&TOPIC, "handle", On::new(), |_, _| Ok(()))
        .unwrap();
    let owned = dispatcher.clone();
    let make = move || u8::from(owned.stats().is_balanced());
    dispatcher
        .schedule(&TOPIC, "tick", Schedule::every(S), make)
        .unwrap();
    let core: Weak<Core> = dispatcher.core().this.clone();
    assert!(dispatcher.stop(S).undone.is_empty());
    assert!(!dispatcher.unschedule(&TOPIC, "tick"));
    drop(dispatcher);
    assert!(core.upgrade().is_none());
}
