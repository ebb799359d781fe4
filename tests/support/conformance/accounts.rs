//! Nothing that is accepted is lost, and everything is accounted for.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use liveness::dispatch::{Cancelled, Emit, Failure, On};

use super::kit::{Fixture, MS, Make, attempts, get};

pub(crate) fn every_event_ends_once_whatever_its_handler_does(make: &dyn Make) {
    const EVENTS: usize = 240;
    let it = Fixture::new(make);
    let snoozed = Mutex::new(HashSet::new());
    it.on("do", attempts(3, 5 * MS), move |context, event| {
        let number: usize = event.parse()?;
        let is_first = context.attempt() == 1;
        match number % 6 {
            1 if is_first => Err("again".into()),
            2 => Err("always".into()),
            3 => Err(Failure::fatal("no")),
            4 if is_first => panic!("once"),
            5 if snoozed.lock().unwrap().insert(number) => Err(Failure::snooze(2 * MS)),
            _ => Ok(()),
        }
    });
    let mut cancelled = 0;
    for number in 0..EVENTS {
        let delay = u32::try_from(number * 7 % 50).unwrap();
        let how = Emit::after(MS * delay);
        let id = it.emit_with(&number.to_string(), how).unwrap();
        if number % 10 == 9 {
            let was = it.dispatcher.cancel(&it.topic, id).unwrap();
            cancelled += u64::from(was != Cancelled::Unknown);
        }
    }
    it.until_ended();
    let is_accounted = |it: &Fixture| {
        let stats = it.stats();
        stats.is_balanced() && stats.emitted == EVENTS as u64
    };
    it.until(is_accounted);
    let stats = it.stats();
    assert_eq!(
        (stats.cancelled, stats.dead),
        (cancelled, it.counts().dead as u64)
    );
    assert_eq!(stats.done, EVENTS as u64 - stats.dead - cancelled);
    assert!(stats.retried > 0 && stats.put_off > 0 && stats.panics > 0 && stats.dead > 0);
    let (done, dead) = (stats.done, stats.dead);
    assert_eq!(it.dispatcher.purge(&it.topic).unwrap() as u64, dead);
    it.end(done, cancelled, dead);
}

pub(crate) fn events_of_many_producers_are_each_handled_once(make: &dyn Make) {
    const EACH: usize = 50;
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    thread::scope(|scope| {
        for producer in 0..4 {
            let it = &it;
            scope.spawn(move || {
                for number in 0..EACH {
                    let delay = u32::try_from(number % 5).unwrap();
                    let how = Emit::after(MS * delay);
                    it.emit_with(&format!("{producer} {number}"), how).unwrap();
                }
                let events = (0..EACH).map(|number| format!("{producer} many {number}"));
                it.dispatcher
                    .emit_many(&it.topic, events.collect())
                    .unwrap();
            });
        }
    });
    let all = 4 * 2 * EACH;
    let seen: HashSet<_> = (0..all).map(|_| get(&calls).event).collect();
    assert_eq!(seen.len(), all);
    it.until_ended();
    assert!(calls.try_recv().is_err());
    assert_eq!(it.stats().emitted, all as u64);
    it.end(all as u64, 0, 0);
}
