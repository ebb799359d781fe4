//! Looking at events and topics, and changing them.

use std::thread;
use std::time::{Instant, SystemTime};

use crossbeam_channel::unbounded;
use liveness::dispatch::{Cancelled, Cause, Emit, Failure, On};

use super::kit::{Fixture, HOUR, MS, Make, PATIENCE, assert_silent, attempts, get};

pub(crate) fn an_event_that_waits_is_cancelled_and_does_not_start(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.pause();
    let (ready, later) = (it.emit("ready"), Emit::after(40 * MS));
    let later = it.emit_with("later", later).unwrap();
    it.emit("stays");
    for id in [ready, later] {
        let cancelled = it.dispatcher.cancel(&it.topic, id).unwrap();
        assert_eq!(cancelled, Cancelled::Waiting);
        let cancelled = it.dispatcher.cancel(&it.topic, id).unwrap();
        assert_eq!(cancelled, Cancelled::Unknown);
    }
    it.resume();
    assert_eq!(get(&calls).event, "stays");
    assert_silent(&calls);
    it.end(1, 2, 0);
}

pub(crate) fn the_call_of_a_running_event_that_is_cancelled_is_to_end_and_its_outcome_is_ignored(
    make: &dyn Make,
) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", attempts(9, MS), move |context, _| {
        sender.send((context.attempt(), None))?;
        let is_cancelled = context.wait(PATIENCE);
        assert_eq!(is_cancelled, context.is_cancelled());
        sender.send((context.attempt(), context.cause()))?;
        Err("ignored".into())
    });
    let id = it.emit("event");
    assert_eq!(get(&seen), (1, None));
    let cancelled = it.dispatcher.cancel(&it.topic, id).unwrap();
    assert_eq!(cancelled, Cancelled::Running);
    assert_eq!(get(&seen), (1, Some(Cause::Cancelled)));
    assert_silent(&seen);
    it.until(|it| it.stats().stale >= 1);
    it.until_ended();
    assert_eq!(it.counts().dead, 0);
    it.end(0, 1, 0);
}

pub(crate) fn a_dead_event_is_cancelled_and_an_unknown_one_is_not(make: &dyn Make) {
    let it = Fixture::new(make);
    it.on("do", On::new(), |_, event| match &**event {
        "dies" => Err(Failure::fatal("no")),
        _ => Ok(()),
    });
    let (dies, done) = (it.emit("dies"), it.emit("done"));
    it.until_dead(1);
    it.until_ended();
    let cancel = |id| it.dispatcher.cancel(&it.topic, id).unwrap();
    assert_eq!(
        (cancel(dies), cancel(dies), cancel(done)),
        (Cancelled::Dead, Cancelled::Unknown, Cancelled::Unknown)
    );
    assert_eq!(it.counts().dead, 0);
    it.end(1, 1, 0);
}

pub(crate) fn an_event_that_waits_is_rescheduled_earlier_and_later(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new().parallel(1), |_, _| Ok(()));
    let reschedule = |id, when| it.dispatcher.reschedule(&it.topic, id, &when).unwrap();
    let earlier = it.emit_with("earlier", Emit::after(HOUR)).unwrap();
    let later = it.emit_with("later", Emit::after(HOUR)).unwrap();
    let began = Instant::now();
    assert!(reschedule(later, Emit::after(80 * MS)));
    assert!(reschedule(earlier, Emit::now()));
    assert_eq!(get(&calls).id, earlier);
    let call = get(&calls);
    assert_eq!(call.id, later);
    assert!(call.at >= began + 80 * MS);
    it.until_ended();
    assert!(!reschedule(earlier, Emit::now()));
    // To a later time.
    it.pause();
    let id = it.emit("postponed");
    let began = Instant::now();
    assert!(reschedule(id, Emit::after(60 * MS)));
    it.resume();
    assert!(get(&calls).at >= began + 60 * MS);
    it.end(3, 0, 0);
}

pub(crate) fn a_paused_topic_starts_no_event_until_it_is_resumed(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    assert!(!it.resume());
    assert!(it.pause() && !it.pause() && it.counts().is_paused);
    it.emit("ready");
    it.emit_with("later", Emit::after(10 * MS)).unwrap();
    assert_silent(&calls);
    assert!(it.resume() && !it.resume() && !it.counts().is_paused);
    let mut seen = [get(&calls).event, get(&calls).event];
    seen.sort_unstable();
    assert_eq!(seen, ["later", "ready"]);
    it.end(2, 0, 0);
}

pub(crate) fn peek_shows_what_waits_in_its_order(make: &dyn Make) {
    let it = Fixture::new(make);
    it.on("do", attempts(5, HOUR), |_, _| Err("no server".into()));
    let failed = it.emit("failed");
    it.until(|it| it.counts().scheduled == 1);
    it.pause();
    let began = SystemTime::now();
    for (event, seconds) in [("c", 300), ("b", 200), ("d", 300), ("a", 0)] {
        let how = Emit::after(seconds * 1_000 * MS);
        it.emit_with(event, how).unwrap();
    }
    let waiting = it.dispatcher.peek(&it.topic, 9).unwrap();
    let order: Vec<_> = waiting.iter().map(|one| &**one.event).collect();
    assert_eq!(order, ["a", "b", "c", "d", "failed"]);
    assert!(
        waiting[..4]
            .iter()
            .all(|it| (it.attempts, &it.error) == (0, &None))
    );
    assert_eq!((waiting[4].id, waiting[4].attempts), (failed, 1));
    assert_eq!(waiting[4].error.as_deref(), Some("no server"));
    let delay = waiting[1].due.duration_since(began).unwrap();
    assert!(delay > 199_000 * MS && delay < 200_000 * MS + PATIENCE);
    assert_eq!(it.dispatcher.peek(&it.topic, 2).unwrap().len(), 2);
    assert!(it.dispatcher.peek(&it.topic, 0).unwrap().is_empty());
    for one in waiting {
        let cancelled = it.dispatcher.cancel(&it.topic, one.id).unwrap();
        assert_eq!(cancelled, Cancelled::Waiting);
    }
    it.end(0, 5, 0);
}

pub(crate) fn counts_are_those_of_each_state(make: &dyn Make) {
    let it = Fixture::new(make);
    let held = it.hold(On::new().parallel(1));
    it.on("fail", On::new(), |_, event| match &**event {
        "dies" => Err(Failure::fatal("no")),
        _ => Ok(()),
    });
    it.emit("dies");
    get(&held.begun);
    held.gate.send(()).unwrap();
    it.until_dead(1);
    it.emit("runs");
    get(&held.begun);
    it.emit("ready");
    it.emit("ready");
    for _ in 0..3 {
        it.emit_with("scheduled", Emit::after(HOUR)).unwrap();
    }
    it.until(|it| {
        let counts = it.counts();
        let events = (counts.scheduled, counts.ready, counts.running);
        (events, counts.dead) == ((3, 2, 1), 1)
    });
    let stats = it.stats();
    assert_eq!((stats.waiting, stats.running, stats.dead), (5, 1, 1));
    assert!(stats.is_balanced());
    drop(held);
    it.until(|it| it.counts().ready + it.counts().running == 0);
    thread::sleep(MS);
    assert_eq!(it.counts().scheduled, 3);
    it.end(3, 0, 0);
}
