//! Unique keys: what has one, and when it is free again.

use std::thread;

use liveness::dispatch::{Cancelled, Emit, EmitError, EmitErrorKind, Failure, On, OnDuplicate};

use super::kit::{Fixture, HOUR, Make, assert_silent, attempts, get};

/// How an event with the key is emitted.
fn keyed(policy: OnDuplicate) -> Emit {
    Emit::now().unique("key").on_duplicate(policy)
}

pub(crate) fn a_second_event_with_a_key_is_refused(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.pause();
    let id = it
        .emit_with("first", keyed(OnDuplicate::default()))
        .unwrap();
    let error = it
        .emit_with("second", keyed(OnDuplicate::Error))
        .unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Duplicate(id));
    assert_eq!(error.into_event(), "second");
    // Another key, and none, are independent.
    it.emit_with("other", Emit::now().unique("other")).unwrap();
    it.emit("none");
    it.resume();
    let mut seen: Vec<_> = (0..3).map(|_| get(&calls).event).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["first", "none", "other"]);
    it.end(3, 0, 0);
}

pub(crate) fn a_second_event_with_a_key_is_dropped_if_the_first_is_kept(make: &dyn Make) {
    let it = Fixture::new(make);
    let held = it.hold(On::new());
    let id = it.emit_with("first", keyed(OnDuplicate::Keep)).unwrap();
    assert_eq!(get(&held.begun), "first");
    // While it runs as well as while it waits.
    let kept = it.emit_with("second", keyed(OnDuplicate::Keep)).unwrap();
    assert_eq!(kept, id);
    drop(held.gate);
    it.until_ended();
    assert_silent(&held.begun);
    it.pause();
    let id = it.emit_with("third", keyed(OnDuplicate::Keep)).unwrap();
    let kept = it.emit_with("fourth", keyed(OnDuplicate::Keep)).unwrap();
    assert_eq!(kept, id);
    it.resume();
    assert_eq!(get(&held.begun), "third");
    it.end(2, 0, 0);
}

pub(crate) fn a_second_event_with_a_key_replaces_one_that_waits_and_no_other(make: &dyn Make) {
    let it = Fixture::new(make);
    let held = it.hold(On::new());
    let later = Emit::after(HOUR).unique("key");
    let id = it.emit_with("first", later).unwrap();
    let replaced = it
        .emit_with("second", keyed(OnDuplicate::Replace).header("which", "new"))
        .unwrap();
    assert_eq!(replaced, id);
    // It has the payload and the due time of the second.
    assert_eq!(get(&held.begun), "second");
    let error = it
        .emit_with("third", keyed(OnDuplicate::Replace))
        .unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Duplicate(id));
    assert_eq!(error.into_event(), "third");
    drop(held.gate);
    it.end(1, 0, 0);
}

pub(crate) fn a_key_is_free_when_its_event_is_done_dead_or_cancelled_and_not_between_attempts(
    make: &dyn Make,
) {
    let it = Fixture::new(make);
    let calls = it.record("do", attempts(2, HOUR), |_, event| match &**event {
        "dies" => Err(Failure::fatal("no")),
        "fails" => Err("later".into()),
        _ => Ok(()),
    });
    let emit = |event| it.emit_with(event, keyed(OnDuplicate::Error));
    emit("done").unwrap();
    it.until_ended();
    emit("dies").unwrap();
    it.until_dead(1);
    let id = emit("fails").unwrap();
    it.until(|it| it.counts().scheduled == 1);
    let error = emit("second").unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Duplicate(id));
    assert_eq!(
        it.dispatcher.cancel(&it.topic, id).unwrap(),
        Cancelled::Waiting
    );
    emit("last").unwrap();
    it.until_ended();
    assert_eq!(calls.try_iter().count(), 4);
    it.end(2, 1, 0);
}

pub(crate) fn of_many_racing_emits_with_one_key_one_is_accepted(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.pause();
    let results: Vec<_> = thread::scope(|scope| {
        let threads = (0..8).map(|thread| {
            let it = &it;
            let emit = move || {
                let emit = |number: u32| {
                    it.emit_with(&format!("{thread} {number}"), keyed(OnDuplicate::Error))
                };
                (0..25).map(emit).collect::<Vec<_>>()
            };
            scope.spawn(emit)
        });
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.flatten().collect()
    });
    let accepted: Vec<_> = results.iter().flatten().collect();
    assert_eq!(accepted.len(), 1);
    let refused = results.iter().filter_map(|result| result.as_ref().err());
    let kind = EmitErrorKind::Duplicate(*accepted[0]);
    assert!(refused.map(EmitError::kind).all(|it| it == kind));
    it.resume();
    get(&calls);
    assert_silent(&calls);
    it.end(1, 0, 0);
}
