//! Lent events: what their handlers see, and that each ends in exactly one way.

use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::dispatch::attempt::{Outcome, Rest};
use crate::dispatch::context::Context;
use crate::dispatch::handler::Failure;
use crate::dispatch::lease::Lender;
use crate::dispatch::local::settings::Settings;
use crate::dispatch::{Backoff, Notice, On, Topic};
use crate::{ManualClock, Timestamp};

const S: Duration = Duration::from_secs(1);
const NS_OF_S: u64 = 1_000_000_000;
const TOPIC: Topic<u8> = Topic::new("topic");

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An outcome: the lease, the outcome, and the times of the start and of the end.
type Settled = (Lease, Outcome, u64, u64);

/// A store that passes each outcome to the test.
struct Store(Sender<Settled>);

impl Lender for Store {
    fn settle(&self, _: TopicId, lease: &Lease, outcome: Outcome, started: u64, now: u64) {
        let _ = self.0.send((lease.clone(), outcome, started, now));
    }
}

/// A dispatcher under a manual clock, and the outcomes that its store receives.
struct Fixture {
    clock: ManualClock,
    core: Arc<Core>,
    settled: Receiver<Settled>,
    notices: Receiver<Notice>,
}

impl Fixture {
    fn new(threads: usize) -> Self {
        let clock = ManualClock::new();
        let (settle, settled) = mpsc::channel();
        let (notify, notices) = mpsc::channel();
        let core = Core::start(Settings {
            threads,
            max_unfinished: 3,
            max_per_topic: 2,
            stuck_after: S,
            clock: Some(clock.clone().into()),
            on_notice: Some(Box::new(move |notice| notify.send(notice).is_ok())),
            lender: Some(Arc::new(Store(settle))),
            ..Settings::new()
        });
        Fixture {
            clock,
            core: core.unwrap(),
            settled,
            notices,
        }
    }

    /// Registers a handler.
    fn on(
        &self,
        name: &str,
        options: On,
        handle: impl Fn(&Context, &u8) -> Result<(), Failure> + Send + Sync + 'static,
    ) {
        self.core.on(&TOPIC, name, options, handle).unwrap();
    }

    /// Lends an event that is due at `due` ns.
    fn lend(&self, due: u64, lease: Lease) -> EventId {
        let lent = self.core.lend(self.topic(), vec![leased(due, lease)]);
        lent.unwrap()[0]
    }

    fn topic(&self) -> TopicId {
        self.core.topic(TOPIC.name()).unwrap()
    }

    /// The next outcome.
    fn settled(&self) -> Settled {
        self.settled.recv_timeout(PATIENCE).unwrap()
    }
}

/// The lease of event `id`, which has failed `attempts` times.
fn lease(id: u64, attempts: u32) -> Lease {
    Lease {
        id: EventId::new(id),
        fence: 1_000 + id,
        attempts,
        rest: None,
    }
}

fn leased(due: u64, lease: Lease) -> Leased {
    Leased {
        event: Arc::new(7_u8),
        headers: None,
        due,
        lease,
    }
}

#[test]
fn a_handler_sees_what_the_store_knows_and_the_store_receives_the_outcome() {
    let it = Fixture::new(1);
    it.clock.set(Timestamp::from(5 * S));
    let (see, seen) = mpsc::channel();
    it.on("handle", On::new(), move |context, event| {
        let header = context.header("trace").map(ToOwned::to_owned);
        let _ = see.send((context.id(), context.fence(), context.attempt()));
        assert_eq!((*event, header.as_deref()), (7, Some("4bf9")));
        assert_eq!(context.lateness(), 3 * S);
        Ok(())
    });
    let lent = Leased {
        headers: Some([("trace".to_owned(), "4bf9".to_owned())].into()),
        ..leased(2 * NS_OF_S, lease(41, 2))
    };
    let ids = it.core.lend(it.topic(), vec![lent]).unwrap();
    let now = 5 * NS_OF_S;
    assert_eq!(it.settled(), (lease(41, 2), Outcome::Done, now, now));
    assert_eq!(seen.recv().unwrap(), (EventId::new(41), 1_041, 3));
    // It is gone from the plan, which knows it by another id.
    assert_ne!(ids[0], EventId::new(41));
    assert!(!it.core.recall(it.topic(), ids[0], Cause::Cancelled));
    let total = it.core.stats().total();
    assert_eq!((total.emitted, total.done, total.panics), (1, 1, 0));
}

#[test]
fn the_attempts_of_the_store_count_and_only_the_handlers_that_are_left_are_called() {
    let it = Fixture::new(1);
    let backoff = Backoff::exponential(S, 100 * S).jitter(0.0);
    let options = On::new().max_attempts(4).backoff(backoff);
    it.on("done", options.clone(), |_, _| panic!("it is done"));
    it.on("left", options, |_, _| Err("no".into()));
    let rest = Arc::new(Rest {
        pending: vec!["left".into()],
        failed: Vec::new(),
        error: "before".to_owned(),
    });
    let third = Lease {
        rest: Some(rest.clone()),
        ..lease(1, 2)
    };
    it.lend(0, third);
    let Outcome::Again {
        delay,
        counts,
        rest: again,
    } = it.settled().1
    else {
        panic!("it is to be tried again")
    };
    assert_eq!((delay, counts), (Some(4 * S), true));
    assert_eq!((&again.pending, &*again.error), (&rest.pending, "no"));

    let last = Lease {
        rest: Some(rest),
        ..lease(1, 3)
    };
    it.lend(0, last);
    assert!(matches!(it.settled().1, Outcome::Dead(rest) if *rest.failed[0] == *"left"));
    // The store decides what is dead.
    assert!(it.core.flush(PATIENCE) && it.notices.try_recv().is_err());
    let total = it.core.stats().total();
    assert_eq!((total.done, total.dead, total.retried), (2, 0, 0));
}

#[test]
fn a_lent_event_waits_until_it_is_due() {
    let it = Fixture::new(2);
    it.on("handle", On::new(), |_, _| Ok(()));
    it.lend(2 * NS_OF_S, lease(2, 0));
    it.lend(NS_OF_S, lease(1, 0));
    it.clock.advance(S - Duration::from_nanos(1));
    assert!(it.core.flush(PATIENCE) && it.settled.try_recv().is_err());
    it.clock.advance(Duration::from_nanos(1));
    assert_eq!(it.settled().0, lease(1, 0));
    it.clock.advance(S);
    assert_eq!(it.settled().0, lease(2, 0));
}

#[test]
fn an_event_that_is_recalled_before_it_starts_is_dropped() {
    let it = Fixture::new(1);
    it.on("handle", On::new(), |_, _| Ok(()));
    let plan_id = it.lend(NS_OF_S, lease(1, 0));
    assert!(it.core.recall(it.topic(), plan_id, Cause::Cancelled));
    assert!(!it.core.recall(it.topic(), plan_id, Cause::Cancelled));
    it.clock.advance(S);
    assert!(it.core.flush(PATIENCE) && it.settled.try_recv().is_err());
    let total = it.core.stats().total();
    assert_eq!((total.cancelled, total.lateness.count()), (1, 0));
}

#[test]
fn a_call_whose_event_is_recalled_is_told_why_and_its_outcome_is_stale() {
    let it = Fixture::new(1);
    let (enter, entered) = mpsc::channel();
    it.on("handle", On::new(), move |context, _| {
        let _ = enter.send(None);
        let _ = context.wait(PATIENCE);
        let _ = enter.send(context.cause());
        Ok(())
    });
    it.on("next", On::new(), |_, _| panic!("the event is recalled"));
    let plan_id = it.lend(0, lease(1, 0));
    assert_eq!(entered.recv().unwrap(), None);
    assert!(it.core.recall(it.topic(), plan_id, Cause::LeaseLost));
    assert_eq!(entered.recv().unwrap(), Some(Cause::LeaseLost));
    assert!(it.core.flush(PATIENCE) && it.settled.try_recv().is_err());
    let total = it.core.stats().total();
    assert_eq!((total.stale, total.done, total.panics), (1, 0, 0));
}

#[test]
fn of_the_events_that_are_taken_back_those_that_have_started_go_on() {
    let it = Fixture::new(1);
    let (enter, entered) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    it.on("handle", On::new(), move |_, _| {
        let _ = enter.send(());
        let _ = gate.lock().unwrap().recv();
        Ok(())
    });
    let runs = it.lend(0, lease(1, 0));
    entered.recv().unwrap();
    let waits = [0, NS_OF_S].map(|due| it.lend(due, lease(2, 0)));
    let ids = [&[runs][..], &waits].concat();
    assert_eq!(it.core.take_back(it.topic(), ids.clone()), waits);
    assert!(it.core.take_back(it.topic(), ids).is_empty());
    drop(open);
    assert_eq!(it.settled().0, lease(1, 0));
    it.clock.advance(S);
    assert!(it.core.flush(PATIENCE) && it.settled.try_recv().is_err());
}

#[test]
fn the_store_keeps_the_rate_and_the_room_and_the_plan_keeps_the_parallelism() {
    let it = Fixture::new(4);
    let (enter, entered) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let hour = Duration::from_secs(3_600);
    let slow = On::new().parallel(2).rate(1, hour);
    it.on("handle", slow, move |_, _| {
        let _ = enter.send(());
        let _ = gate.lock().unwrap().recv();
        Ok(())
    });
    let other = On::new().parallel(9).parallel_everywhere(6).rate(2, S);
    it.on("other", other, |_, _| Ok(()));
    let combined = Combined {
        parallel: Some(2),
        parallel_everywhere: Some(6),
        rate: Some((1, hour)),
    };
    assert_eq!(it.core.combined(it.topic()), Some(combined));
    let events = (1..=10).map(|id| leased(0, lease(id, 0)));
    let ids = it.core.lend(it.topic(), events.collect()).unwrap();
    assert_eq!(ids.len(), 10);
    for _ in 0..2 {
        entered.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(it.core.stats().total().running, 2);
    drop(open);
    let mut settled: Vec<_> = (0..10).map(|_| it.settled().0.id.get()).collect();
    settled.sort_unstable();
    assert!(settled.into_iter().eq(1..=10));
}

#[test]
fn events_are_refused_without_a_handler_and_after_a_stop_which_returns_those_that_wait() {
    let it = Fixture::new(1);
    assert!(it.core.topic("other").is_none());
    it.on("handle", On::new(), |_, _| Ok(()));
    let topic = it.topic();
    let plan_id = it.lend(NS_OF_S, lease(1, 0));
    assert!(it.core.remove(&TOPIC, "handle", true));
    assert_eq!(it.core.combined(topic), None);
    let refused = it.core.lend(topic, vec![leased(0, lease(2, 0))]);
    assert_eq!(refused.unwrap_err()[0].lease, lease(2, 0));
    it.on("handle", On::new(), |_, _| Ok(()));

    let summary = it.core.stop(S);
    assert_eq!(summary.undone.len(), 1);
    assert_eq!(summary.undone[0].id, plan_id);
    assert!(it.core.lend(topic, vec![leased(0, lease(3, 0))]).is_err());
    assert!(!it.core.recall(topic, plan_id, Cause::Cancelled));
    assert!(it.settled.try_recv().is_err());
}

#[test]
fn a_stop_returns_after_the_outcome_of_a_call_that_it_interrupted_is_settled() {
    let it = Fixture::new(1);
    let (enter, entered) = mpsc::channel();
    it.on("handle", On::new(), move |context, _| {
        let _ = enter.send(());
        if context.wait(PATIENCE) {
            return Err("interrupted".into());
        }
        Ok(())
    });
    it.lend(0, lease(1, 0));
    entered.recv().unwrap();
    assert!(it.core.stop(Duration::ZERO).still_running.is_empty());
    let (_, outcome, ..) = it.settled.try_recv().unwrap();
    assert!(matches!(
        outcome,
        Outcome::Again {
            delay: None,
            counts: false,
            ..
        }
    ));
}

#[test]
fn a_call_that_is_given_up_is_settled_as_a_failure_and_once() {
    let it = Fixture::new(1);
    let (enter, entered) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    it.on("handle", On::new().max_duration(S), move |_, _| {
        let _ = enter.send(());
        let _ = gate.lock().unwrap().recv();
        Ok(())
    });
    it.lend(0, lease(41, 0));
    entered.recv().unwrap();
    it.clock.advance(S);
    let stuck = loop {
        if let Ok(notice) = it.notices.try_recv() {
            break notice;
        }
        it.clock.advance(S);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(stuck, Notice::Stuck { id, .. } if id == EventId::new(41)));
    assert!(matches!(
        it.settled().1,
        Outcome::Again { counts: true, .. }
    ));
    drop(open);
    assert!(it.core.stop(PATIENCE).still_running.is_empty());
    assert!(it.settled.try_recv().is_err());
    assert_eq!(it.core.stats().total().stale, 1);
}

#[cfg(feature = "redis")]
#[test]
fn an_event_that_was_due_before_the_process_began_has_its_true_lateness() {
    let clock = crate::Clock::monotonic_since(10 * 365 * 24 * 3_600 * S);
    let (settle, settled) = mpsc::channel();
    let core = Core::start(Settings {
        threads: 1,
        clock: Some(clock.clone()),
        lender: Some(Arc::new(Store(settle))),
        ..Settings::new()
    });
    let core = core.unwrap();
    let limit = Duration::from_millis(50);
    let handle = move |context: &Context, _: &u8| {
        let hour = 3_600 * S;
        assert!((hour..hour + PATIENCE).contains(&context.lateness()));
        assert!(context.remaining() <= Some(limit) && context.wait(PATIENCE));
        Err(context.cause().unwrap().to_string().into())
    };
    core.on(&TOPIC, "handle", On::new().max_duration(limit), handle)
        .unwrap();
    let due = clock.now_ns() - 3_600 * NS_OF_S;
    let topic = core.topic(TOPIC.name()).unwrap();
    core.lend(topic, vec![leased(due, lease(1, 0))]).unwrap();
    let (_, outcome, started, now) = settled.recv_timeout(PATIENCE).unwrap();
    let expected = Cause::TooLong.to_string();
    assert!(matches!(outcome, Outcome::Again { rest, .. } if rest.error == expected));
    assert!(now - started >= 50_000_000);
}
