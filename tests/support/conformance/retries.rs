//! Failures: what is tried again and when, what is dead, and what is replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use liveness::dispatch::{Backoff, Emit, Failure, On};

use super::kit::{Fixture, MS, Make, PATIENCE, Setup, assert_silent, attempts, get};

pub(crate) fn a_failure_is_tried_again_after_the_backoff(make: &dyn Make) {
    let it = Fixture::new(make);
    let backoff = Backoff::exponential(40 * MS, PATIENCE).jitter(0.25);
    let options = On::new().max_attempts(4).backoff(backoff);
    let calls = it.record("do", options, |context, _| {
        if context.attempt() < 4 {
            return Err("again".into());
        }
        Ok(())
    });
    let id = it.emit("event");
    let calls: Vec<_> = (0..4).map(|_| get(&calls)).collect();
    for (two, delay) in calls.windows(2).zip([40, 80, 160]) {
        let gap = two[1].at - two[0].at;
        assert!(gap >= delay * MS * 3 / 4, "{gap:?} instead of {delay} ms");
        assert_eq!((two[1].attempt, two[1].id), (two[0].attempt + 1, id));
        assert!(two[1].fence > two[0].fence);
    }
    it.until(|it| it.stats().retried == 3);
    it.end(1, 0, 0);
}

pub(crate) fn retry_in_waits_for_its_own_delay(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", attempts(2, 1_000 * PATIENCE), |context, _| {
        if context.attempt() == 1 {
            return Err(Failure::retry_in(50 * MS, "later"));
        }
        Ok(())
    });
    it.emit("event");
    let (first, second) = (get(&calls), get(&calls));
    assert!(second.at - first.at >= 50 * MS);
    it.end(1, 0, 0);
}

pub(crate) fn attempts_are_used_up_then_the_event_is_dead_and_can_be_replayed(make: &dyn Make) {
    let it = Fixture::new(make);
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let calls = it.record("send", attempts(3, MS), move |context, _| {
        if down.load(Ordering::SeqCst) {
            return Err(format!("no server at attempt {}", context.attempt()).into());
        }
        Ok(())
    });
    let began = SystemTime::now();
    let how = Emit::now().header("trace", "4bf9");
    let id = it.emit_with("event", how).unwrap();
    it.until_dead(1);
    let tried: Vec<_> = calls.try_iter().map(|call| call.attempt).collect();
    assert_eq!(tried, [1, 2, 3]);
    let dead = it.dispatcher.dead(&it.topic, 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].id, &**dead[0].event, dead[0].attempts),
        (id, "event", 3)
    );
    assert_eq!(dead[0].handlers, ["send"]);
    assert_eq!(dead[0].error, "no server at attempt 3");
    let second = 1_000 * MS;
    assert!(dead[0].died + second >= began && dead[0].died <= SystemTime::now() + second);

    is_down.store(false, Ordering::SeqCst);
    assert_eq!(it.dispatcher.replay(&it.topic, 10).unwrap(), 1);
    let call = get(&calls);
    assert_eq!((&*call.event, call.id, call.attempt), ("event", id, 1));
    it.until_ended();
    assert!(it.dispatcher.dead(&it.topic, 10).unwrap().is_empty());
    assert_eq!(it.dispatcher.replay(&it.topic, 10).unwrap(), 0);
    it.until(|it| (it.stats().died, it.stats().replayed) == (1, 1));
    it.end(1, 0, 0);
}

pub(crate) fn a_fatal_failure_is_not_tried_again(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", attempts(9, MS), |_, _| {
        Err(Failure::fatal("no such address"))
    });
    it.emit("event");
    it.until_dead(1);
    get(&calls);
    assert_silent(&calls);
    let dead = it.dispatcher.dead(&it.topic, 1).unwrap();
    assert_eq!((&*dead[0].error, dead[0].attempts), ("no such address", 1));
    it.end(0, 0, 0);
}

pub(crate) fn a_panic_is_a_failed_attempt(make: &dyn Make) {
    let it = Fixture::new(make);
    let calls = it.record("do", attempts(2, MS), |_, event| {
        assert!(event != "bad", "boom {event}");
        Ok(())
    });
    it.emit("bad");
    it.until_dead(1);
    assert_eq!(calls.try_iter().count(), 2);
    let dead = it.dispatcher.dead(&it.topic, 1).unwrap();
    assert!(dead[0].error.contains("boom bad"), "{}", dead[0].error);
    assert_eq!((dead[0].attempts, it.stats().panics), (2, 2));
    // The worker goes on.
    it.emit("good");
    get(&calls);
    it.end(1, 0, 0);
}

pub(crate) fn a_snooze_does_not_count_as_an_attempt(make: &dyn Make) {
    let it = Fixture::new(make);
    let snoozes = AtomicU64::new(3);
    let calls = it.record("do", On::new().max_attempts(1), move |_, _| {
        if snoozes.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Failure::snooze(20 * MS));
        }
        Ok(())
    });
    it.emit("event");
    it.until_ended();
    let calls: Vec<_> = calls.try_iter().collect();
    assert!(calls.len() == 4 && calls.iter().all(|call| call.attempt == 1));
    assert!(
        calls
            .windows(2)
            .all(|two| two[1].at - two[0].at >= 20 * MS && two[1].fence > two[0].fence)
    );
    it.until(|it| it.stats().put_off == 3);
    it.end(1, 0, 0);
}

pub(crate) fn only_the_handlers_that_failed_are_called_again(make: &dyn Make) {
    let it = Fixture::new(make);
    let first = it.record("first", attempts(9, MS), |_, _| Ok(()));
    let second = it.record("second", attempts(9, MS), |context, _| {
        if context.attempt() < 3 {
            return Err("not yet".into());
        }
        Ok(())
    });
    let third = it.record("third", attempts(9, MS), |context, _| {
        if context.attempt() < 2 {
            return Err("not yet".into());
        }
        Ok(())
    });
    it.emit("event");
    it.until_ended();
    let [first, second, third] = [first, second, third].map(|calls| {
        let attempts = calls.try_iter().map(|call| call.attempt);
        attempts.collect::<Vec<_>>()
    });
    assert_eq!((&first[..], &second[..]), (&[1][..], &[1, 2, 3][..]));
    assert_eq!(third, [1, 2]);
    it.end(1, 0, 0);
}

pub(crate) fn a_replay_calls_only_the_handlers_that_failed(make: &dyn Make) {
    let it = Fixture::new(make);
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    let fine = it.record("fine", attempts(2, MS), |_, _| Ok(()));
    let failing = it.record("failing", attempts(2, MS), move |_, _| {
        if down.load(Ordering::SeqCst) {
            return Err("down".into());
        }
        Ok(())
    });
    it.emit("event");
    it.until_dead(1);
    let dead = it.dispatcher.dead(&it.topic, 1).unwrap();
    assert_eq!(dead[0].handlers, ["failing"]);
    is_down.store(false, Ordering::SeqCst);
    assert_eq!(it.dispatcher.replay(&it.topic, 1).unwrap(), 1);
    it.until_ended();
    let attempts: Vec<_> = failing.try_iter().map(|call| call.attempt).collect();
    assert_eq!(
        (fine.try_iter().count(), &attempts[..]),
        (1, &[1, 2, 1][..])
    );
    it.end(1, 0, 0);
}

pub(crate) fn a_handler_that_is_removed_before_its_next_attempt_has_failed(make: &dyn Make) {
    let it = Fixture::new(make);
    let stays = it.record("stays", On::new(), |_, _| Ok(()));
    let goes = it.record("goes", attempts(99, 50 * MS), |_, _| Err("again".into()));
    it.emit("event");
    get(&goes);
    assert!(it.dispatcher.remove(&it.topic, "goes"));
    it.until_dead(1);
    let dead = it.dispatcher.dead(&it.topic, 1).unwrap();
    assert_eq!(
        (&dead[0].handlers[..], stays.len()),
        (&["goes".to_owned()][..], 1)
    );
    it.end(0, 0, 0);
}

/// Emits events that die one after another.
fn dying(it: &Fixture, events: &[&str]) {
    for event in events {
        it.emit(event);
        it.until(|it| it.counts().ready + it.counts().running == 0);
        // Times of death are apart.
        std::thread::sleep(2 * MS);
    }
}

pub(crate) fn the_dead_list_shows_the_oldest_first_and_is_replayed_in_part(make: &dyn Make) {
    let it = Fixture::new(make);
    it.on("do", On::new(), |context, event| {
        if context.attempt() == 1 && !event.is_empty() {
            return Err(Failure::fatal(event.clone()));
        }
        Ok(())
    });
    dying(&it, &["a", "b", "c"]);
    let dead = |max| {
        let dead = it.dispatcher.dead(&it.topic, max).unwrap().into_iter();
        dead.map(|dead| (*dead.event).clone()).collect::<String>()
    };
    assert_eq!((&*dead(9), &*dead(2), &*dead(0)), ("abc", "ab", ""));
    it.pause();
    assert_eq!(it.dispatcher.replay(&it.topic, 2).unwrap(), 2);
    assert_eq!((&*dead(9), it.counts().ready), ("c", 2));
    let waiting = it.dispatcher.peek(&it.topic, 9).unwrap();
    assert!(waiting.iter().all(|waiting| waiting.attempts == 0));
    it.resume();
    it.until_dead(3);
    it.end(0, 0, 0);
}

pub(crate) fn the_dead_list_is_purged(make: &dyn Make) {
    let it = Fixture::new(make);
    it.on("do", On::new(), |_, _| Err(Failure::fatal("no")));
    dying(&it, &["a", "b", "c"]);
    it.until_dead(3);
    assert_eq!(it.dispatcher.purge(&it.topic).unwrap(), 3);
    assert_eq!(it.dispatcher.purge(&it.topic).unwrap(), 0);
    assert_eq!(it.counts().dead, 0);
    it.end(0, 0, 3);
}

pub(crate) fn a_dead_event_above_the_maximum_replaces_the_oldest_one(make: &dyn Make) {
    let setup = Setup {
        max_dead: 2,
        ..Setup::default()
    };
    let it = Fixture::with(make, setup);
    it.on("do", On::new(), |_, _| Err(Failure::fatal("no")));
    dying(&it, &["a", "b", "c", "d"]);
    it.until_dead(2);
    let dead = it.dispatcher.dead(&it.topic, 9).unwrap().into_iter();
    let dead: String = dead.map(|dead| (*dead.event).clone()).collect();
    assert_eq!(dead, "cd");
    it.end(0, 0, 2);
}
