//! The end of a dispatcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use liveness::dispatch::{Cancelled, Cause, Emit, EmitErrorKind, On, RegisterError};

use super::kit::{Fixture, HOUR, MS, Make, PATIENCE, assert_silent, get};

pub(crate) fn a_stopped_dispatcher_refuses_everything(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.emit("done");
    get(&calls);
    let id = it.emit_with("later", Emit::after(HOUR)).unwrap();
    // For ever.
    for _ in 0..2 {
        assert!(it.dispatcher.stop(PATIENCE).still_running.is_empty());
        let error = it.emit_with("event", Emit::now()).unwrap_err();
        assert_eq!(error.kind(), EmitErrorKind::Stopped);
        assert_eq!(error.into_event(), "event");
        let events = vec!["a".to_owned(), "b".to_owned()];
        let error = it
            .dispatcher
            .emit_many(&it.topic, events.clone())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.accepted()),
            (EmitErrorKind::Stopped, &[][..])
        );
        assert_eq!(error.into_events(), events);
        let handler = Box::new(|_: &_, _: &String| Ok(()));
        let error = it
            .dispatcher
            .on_handler(&it.topic, "other", On::new(), handler)
            .unwrap_err();
        assert!(matches!(error, RegisterError::Stopped));
        let when = Emit::now();
        let error = it.dispatcher.reschedule(&it.topic, id, &when).unwrap_err();
        assert_eq!(error, EmitErrorKind::Stopped);
        // What returns no such error finds nothing, or says that it reaches no store.
        let cancelled = it.dispatcher.cancel(&it.topic, id);
        assert!(!matches!(cancelled, Ok(cancelled) if cancelled != Cancelled::Unknown));
        assert!(it.dispatcher.replay(&it.topic, 9).unwrap_or(0) == 0);
        assert!(!it.dispatcher.remove(&it.topic, "do"));
    }
    assert!(calls.recv().is_err());
}

pub(crate) fn a_stop_waits_for_the_running_call(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, begun) = unbounded();
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = has_ended.clone();
    it.on("do", On::new().parallel(1), move |context, event| {
        sender.send(event.clone())?;
        thread::sleep(50 * MS);
        ended.store(!context.is_cancelled(), Ordering::SeqCst);
        Ok(())
    });
    it.emit("runs");
    it.emit("waits");
    assert_eq!(get(&begun), "runs");
    let summary = it.dispatcher.stop(PATIENCE);
    assert!(summary.still_running.is_empty(), "{summary:?}");
    assert!(has_ended.load(Ordering::SeqCst));
    // No other event starts.
    assert_silent(&begun);
}

pub(crate) fn a_stop_interrupts_a_call_that_looks(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", On::new(), move |context, _| {
        sender.send(None)?;
        let _ = context.wait(PATIENCE);
        sender.send(context.cause())?;
        Err("interrupted".into())
    });
    it.emit("event");
    assert_eq!(get(&seen), None);
    let began = Instant::now();
    let summary = it.dispatcher.stop(Duration::ZERO);
    assert!(summary.still_running.is_empty(), "{summary:?}");
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(get(&seen), Some(Cause::Interrupted));
}
