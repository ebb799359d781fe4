//! Accepting events: due times, order, headers, many at once, and the maximum.

use std::thread;
use std::time::{Instant, SystemTime};

use crossbeam_channel::unbounded;
use liveness::dispatch::{Emit, EmitErrorKind, On, emit_to};

use super::kit::{Fixture, MS, Make, PATIENCE, Setup, get};

pub(crate) fn an_event_is_handled_at_once_by_all_handlers_in_their_order(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    for name in ["first", "second"] {
        let sender = sender.clone();
        it.on(name, On::new().max_attempts(3), move |context, event| {
            sender.send((
                (context.handler().to_owned(), event.clone(), context.id()),
                (context.topic().to_owned(), context.attempt()),
                (context.max_attempts(), context.cause()),
            ))?;
            Ok(())
        });
    }
    let id = it.emit("hello");
    for name in ["first", "second"] {
        let expected = (
            (name.to_owned(), "hello".to_owned(), id),
            (it.topic.name().to_owned(), 1),
            (3, None),
        );
        assert_eq!(get(&seen), expected);
    }
    it.end(1, 0, 0);
}

pub(crate) fn no_delayed_event_starts_early(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", On::new(), move |context, event| {
        sender.send((Instant::now(), event.clone(), context.lateness()))?;
        Ok(())
    });
    let mut due = Vec::new();
    for number in 0..20_u32 {
        let delay = 4 * MS * (number * 7 % 20);
        due.push(Instant::now() + delay);
        it.emit_with(&number.to_string(), Emit::after(delay))
            .unwrap();
    }
    for _ in 0..20 {
        let (started, event, lateness) = get(&seen);
        let due = due[event.parse::<usize>().unwrap()];
        assert!(started >= due, "{event} is {:?} early", due - started);
        assert!(lateness < PATIENCE);
    }
    it.end(20, 0, 0);
}

pub(crate) fn an_event_that_is_due_at_a_time_starts_then_and_one_in_the_past_at_once(
    make: &dyn Make,
) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", On::new(), move |context, event| {
        sender.send((event.clone(), SystemTime::now(), context.due()))?;
        Ok(())
    });
    let later = SystemTime::now() + 80 * MS;
    it.emit_with("later", Emit::at(later)).unwrap();
    let past = SystemTime::now() - 1_000 * MS;
    it.emit_with("past", Emit::at(past)).unwrap();
    assert_eq!(get(&seen).0, "past");
    let (event, started, due) = get(&seen);
    // Wall-clock times are converted, and the clocks are not read at the same instant.
    assert!(event == "later" && started + 20 * MS >= later);
    let difference = due.max(later).duration_since(due.min(later));
    assert!(difference.unwrap() < 1_000 * MS);
    it.end(2, 0, 0);
}

pub(crate) fn with_parallel_one_events_start_by_due_time_then_in_the_order_they_were_emitted(
    make: &dyn Make,
) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new().parallel(1), |_, _| Ok(()));
    it.pause();
    let emitted = [("a", 200), ("b", 0), ("c", 100), ("d", 0), ("e", 100)];
    for (event, delay) in emitted {
        it.emit_with(event, Emit::after(delay * MS)).unwrap();
    }
    thread::sleep(200 * MS);
    it.until(|it| it.counts().ready == 5);
    it.emit("f");
    it.resume();
    let order: String = (0..6).map(|_| get(&calls).event).collect();
    assert_eq!(order, "bdceaf");
    it.end(6, 0, 0);
}

pub(crate) fn headers_arrive_in_their_order(make: &dyn Make) {
    let it = Fixture::new(make);
    let (sender, seen) = unbounded();
    it.on("do", On::new(), move |context, _| {
        let last = context.header("a").map(str::to_owned);
        sender.send((context.headers().to_vec(), last))?;
        Ok(())
    });
    let how = Emit::now()
        .header("a", "1")
        .header("b", "ä \"\u{0}")
        .header("a", "");
    it.emit_with("with", how).unwrap();
    let (headers, last) = get(&seen);
    let expected = [("a", "1"), ("b", "ä \"\u{0}"), ("a", "")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((&headers[..], last.as_deref()), (&expected[..], Some("")));
    it.emit("without");
    assert_eq!(get(&seen), (Vec::new(), None));
    it.end(2, 0, 0);
}

pub(crate) fn text_of_any_kind_arrives_as_it_is(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new().parallel(1), |_, _| Ok(()));
    let long = "\u{1f980}".repeat(10_000);
    let texts = ["", "\u{0}", "a\nb\r\n", "{\"a\": [1]}", "ä", &long];
    for text in texts {
        it.emit(text);
    }
    for text in texts {
        assert!(get(&calls).event == text, "{text:.20}");
    }
    it.end(texts.len() as u64, 0, 0);
}

pub(crate) fn many_events_have_ids_in_their_order(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", On::new().parallel(1), |_, _| Ok(()));
    let events: Vec<_> = (0..450).map(|number| number.to_string()).collect();
    let ids = it.dispatcher.emit_many(&it.topic, events.clone()).unwrap();
    assert!(ids.windows(2).all(|two| two[0] < two[1]));
    // What a process has claimed ahead and gives back, because a busy machine holds it up, is handled later.
    let mut handled: Vec<_> = events.iter().map(|_| get(&calls)).collect();
    handled.sort_by_key(|call| call.id);
    for ((event, id), call) in events.iter().zip(&ids).zip(handled) {
        assert_eq!((&call.event, call.id), (event, *id));
    }
    assert!(
        it.dispatcher
            .emit_many(&it.topic, Vec::new())
            .unwrap()
            .is_empty()
    );
    it.end(450, 0, 0);
}

pub(crate) fn each_chunk_of_many_events_is_accepted_as_a_whole_or_not_at_all(make: &dyn Make) {
    let setup = Setup {
        max_unfinished: 500,
        ..Setup::default()
    };
    let it = Fixture::with(make, setup);
    let calls = it.record("do", On::new(), |_, _| Ok(()));
    it.pause();
    let events: Vec<_> = (0..700).map(|number| number.to_string()).collect();
    // Chunks of 200: the third has no room.
    let error = it
        .dispatcher
        .emit_many(&it.topic, events.clone())
        .unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Full);
    assert_eq!((error.accepted().len(), it.counts().ready), (400, 400));
    assert_eq!(error.into_events(), events[400..]);
    it.resume();
    for _ in 0..400 {
        get(&calls);
    }
    it.end(400, 0, 0);
}

pub(crate) fn an_event_above_the_maximum_comes_back_and_is_accepted_when_one_has_ended(
    make: &dyn Make,
) {
    let setup = Setup {
        max_unfinished: 2,
        ..Setup::default()
    };
    let it = Fixture::with(make, setup);
    let held = it.hold(On::new().parallel(1));
    it.emit("runs");
    get(&held.begun);
    it.emit("waits");
    let error = it.emit_with("above", Emit::now()).unwrap_err();
    assert_eq!(error.kind(), EmitErrorKind::Full);
    assert_eq!(error.into_event(), "above");
    held.gate.send(()).unwrap();
    it.until(|it| it.emit_with("above", Emit::now()).is_ok());
    drop(held);
    it.end(3, 0, 0);
}

pub(crate) fn a_handler_may_emit_events_of_its_own_topic(make: &dyn Make) {
    let it = Fixture::new(make);
    let (dispatcher, topic) = (it.dispatcher.clone(), it.topic.clone());
    let calls = it.record("do", On::new(), move |_, event| {
        if event.len() < 5 {
            dispatcher.emit_with(&topic, format!("{event}x"), Emit::after(MS))?;
        }
        Ok(())
    });
    it.emit("x");
    for length in 1..=5 {
        assert_eq!(get(&calls).event, "x".repeat(length));
    }
    it.end(5, 0, 0);
}

pub(crate) fn an_event_is_emitted_to_several_dispatchers(make: &dyn Make) {
    let (one, other) = (Fixture::new(make), Fixture::new(make));
    let topic = one.topic.clone();
    let (sender, seen) = unbounded();
    for it in [&one, &other] {
        let sender = sender.clone();
        let handler = move |_: &_, event: &String| {
            sender.send(event.clone())?;
            Ok(())
        };
        let registered = it
            .dispatcher
            .on_handler(&topic, "do", On::new(), Box::new(handler));
        registered.unwrap();
    }
    let to = [&*one.dispatcher, &*other.dispatcher];
    let results = emit_to(&topic, &"both".to_owned(), &to).unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((get(&seen), get(&seen)), ("both".into(), "both".into()));
    for it in [one, other] {
        let summary = it.dispatcher.stop(PATIENCE);
        assert!(summary.still_running.is_empty());
    }
}
