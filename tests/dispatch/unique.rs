//! Unique keys: what has one, and when it is free again.

use crossbeam_channel::unbounded;
use liveness::dispatch::{
    Backoff, Cancelled, Context, Emit, EmitErrorKind, Failure, On, OnDuplicate,
};

use crate::kit::{HOUR, S, TOPIC, all, get, holder, manual, manual_with, recorder};

/// How an event with the key is emitted.
fn keyed(policy: OnDuplicate) -> Emit {
    Emit::after(S).unique("key").on_duplicate(policy)
}

#[test]
fn while_an_event_waits_its_key_refuses_keeps_or_replaces() {
    let it = manual();
    let (handle, calls) = recorder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let emit = |event, policy| it.dispatcher.emit_with(&TOPIC, event, keyed(policy));
    let id = emit(1, OnDuplicate::Error).unwrap();
    let error = emit(2, OnDuplicate::Error).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_event()),
        (EmitErrorKind::Duplicate(id), 2)
    );
    assert_eq!(emit(3, OnDuplicate::Keep).unwrap(), id);
    let later = Emit::after(2 * S).unique("key").header("which", "new");
    let later = later.on_duplicate(OnDuplicate::Replace);
    assert_eq!(it.dispatcher.emit_with(&TOPIC, 4, later).unwrap(), id);
    // Another key, and none, are independent.
    it.dispatcher
        .emit_with(&TOPIC, 5, Emit::now().unique("other"))
        .unwrap();
    it.advance(S);
    assert_eq!(all(&calls), [5]);
    it.advance(S);
    assert_eq!(all(&calls), [4]);
    let stats = it.dispatcher.stats();
    assert_eq!((stats.total().emitted, stats.refused), (2, 1));
}

#[test]
fn while_an_event_runs_its_key_refuses_or_keeps() {
    let it = manual();
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let id = it
        .dispatcher
        .emit_with(&TOPIC, 1, Emit::now().unique("key"))
        .unwrap();
    get(&is_held);
    for policy in [OnDuplicate::Error, OnDuplicate::Replace] {
        let error = it
            .dispatcher
            .emit_with(&TOPIC, 2, keyed(policy))
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.into_event()),
            (EmitErrorKind::Duplicate(id), 2)
        );
    }
    assert_eq!(
        it.dispatcher
            .emit_with(&TOPIC, 3, keyed(OnDuplicate::Keep))
            .unwrap(),
        id
    );
    drop(gate);
    it.flush();
    // Done: the key is free.
    let next = it
        .dispatcher
        .emit_with(&TOPIC, 4, keyed(OnDuplicate::Error))
        .unwrap();
    assert!(next > id);
}

#[test]
fn a_key_is_free_when_its_event_is_done_dead_or_cancelled_and_not_between_attempts() {
    let it = manual();
    let handle = |context: &Context, event: &u64| match event {
        0 => Ok(()),
        1 => Err(Failure::fatal("no")),
        _ if context.attempt() > 1 => Ok(()),
        _ => Err("again".into()),
    };
    let options = On::new().backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher.on(&TOPIC, "do", options, handle).unwrap();
    let emit = |event| {
        it.dispatcher
            .emit_with(&TOPIC, event, Emit::now().unique("key"))
    };
    for event in [0, 1] {
        emit(event).unwrap();
        it.flush();
    }
    let id = emit(2).unwrap();
    it.flush();
    assert_eq!(emit(2).unwrap_err().kind(), EmitErrorKind::Duplicate(id));
    it.advance(S);
    let id = emit(2).unwrap();
    it.flush();
    assert_eq!(it.dispatcher.cancel(&TOPIC, id), Cancelled::Waiting);
    emit(0).unwrap();
    it.flush();
    // A dead event that is replayed has no key.
    assert_eq!(it.dispatcher.replay(&TOPIC, 9), 1);
    emit(0).unwrap();
    it.flush();
    let total = it.dispatcher.stats().total();
    assert_eq!((total.done, total.dead, total.cancelled), (4, 1, 1));
}

#[test]
fn an_event_that_is_cancelled_while_it_runs_frees_its_key_at_once() {
    let it = manual();
    let (handle, is_held, gate) = holder();
    it.dispatcher.on(&TOPIC, "do", On::new(), handle).unwrap();
    let emit = || {
        it.dispatcher
            .emit_with(&TOPIC, 1, Emit::now().unique("key"))
    };
    let id = emit().unwrap();
    get(&is_held);
    assert_eq!(it.dispatcher.cancel(&TOPIC, id), Cancelled::Running);
    let second = emit().unwrap();
    get(&is_held);
    assert_eq!(emit().unwrap_err().kind(), EmitErrorKind::Duplicate(second));
    drop(gate);
    it.flush();
    let total = it.dispatcher.stats().total();
    assert_eq!((total.done, total.cancelled, total.stale), (1, 1, 1));
}

#[test]
fn what_replaces_an_event_between_attempts_is_handled_by_all_handlers_and_has_all_attempts() {
    let it = manual();
    let (first, firsts) = recorder();
    it.dispatcher.on(&TOPIC, "first", On::new(), first).unwrap();
    let (sender, seconds) = unbounded();
    let second = move |context: &Context, event: &u64| {
        sender.send((*event, context.attempt()))?;
        if *event == 1 {
            return Err("no".into());
        }
        Ok(())
    };
    let options = On::new().backoff(Backoff::constant(HOUR).jitter(0.0));
    it.dispatcher.on(&TOPIC, "second", options, second).unwrap();
    it.dispatcher
        .emit_with(&TOPIC, 1, Emit::now().unique("key"))
        .unwrap();
    it.flush();
    it.dispatcher
        .emit_with(&TOPIC, 2, keyed(OnDuplicate::Replace))
        .unwrap();
    assert_eq!(it.dispatcher.peek(&TOPIC, 1)[0].attempts, 0);
    it.advance(S);
    assert_eq!(all(&firsts), [1, 2]);
    assert_eq!(all(&seconds), [(1, 1), (2, 1)]);
}

#[test]
fn of_a_thousand_racing_emits_with_one_key_one_is_accepted() {
    let it = manual_with(|builder| builder.threads(2));
    it.dispatcher
        .on(&TOPIC, "do", On::new(), |_, _| Ok(()))
        .unwrap();
    let (sender, results) = unbounded();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (dispatcher, sender) = (&it.dispatcher, sender.clone());
            scope.spawn(move || {
                for event in 0..125 {
                    let emitted = dispatcher.emit_with(&TOPIC, event, keyed(OnDuplicate::Error));
                    sender.send(emitted.map_err(|error| error.kind())).unwrap();
                }
            });
        }
    });
    let (accepted, refused): (Vec<_>, Vec<_>) = all(&results).into_iter().partition(Result::is_ok);
    assert_eq!((accepted.len(), refused.len()), (1, 999));
    let duplicate = accepted[0].map(EmitErrorKind::Duplicate).unwrap();
    assert!(refused.iter().all(|it| *it == Err(duplicate)));
    it.advance(S);
    assert_eq!(it.dispatcher.stats().total().done, 1);
}
