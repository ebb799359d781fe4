use super::*;
use crate::dispatch::attempt::Rest;

const MS: u64 = 1_000_000;
const TIMES: Times = Times {
    lease: Duration::from_secs(30),
    look: Duration::from_secs(5),
};
const THREADS: usize = 4;
const LIMITS: Limits = Limits {
    parallel: usize::MAX,
    everywhere: 0,
    interval: 0,
};

/// A topic with a handler, and the number of its last call.
struct Topic {
    claims: Claims,
    seq: u64,
    last_id: u64,
}

impl Topic {
    fn new() -> Self {
        let keys = Arc::new(Keys::new("t"));
        let mut claims = Claims::new(TopicId(0), "t".into(), keys);
        claims.set_limits(Some(LIMITS), 0);
        Topic {
            claims,
            seq: 0,
            last_id: 0,
        }
    }

    fn step(&self, now: u64) -> Step {
        self.claims.step(THREADS, self.claims.flights(), now)
    }

    /// Makes the next call, which claims `events`. Returns how many it wanted, and the outcomes that it reported.
    fn call(&mut self, events: u64, wait: Option<u64>, now: u64) -> (usize, Outcomes) {
        self.seq += 1;
        let all = self.claims.flights();
        let want = self.claims.begin(THREADS, all, self.seq, now).want;
        let reply = WorkReply {
            now: 0,
            wait,
            grace: 0,
            lapsed: 0,
            lost: 0,
            fence: 7,
            stale: Vec::new(),
            events: Vec::new(),
        };
        let outcomes = self.claims.replied(&reply, TIMES, now);
        for _ in 0..events {
            self.last_id += 1;
            let event = Claimed {
                id: self.last_id,
                due: 5,
                payload: Vec::new(),
                record: None,
                lapses: 0,
            };
            self.claims.fly(&event, 7, EventId::new(self.last_id), now);
        }
        (want, outcomes)
    }

    /// Ends the attempt at `id` after `run_time`.
    fn end(&mut self, id: u64, run_time: u64, now: u64) -> bool {
        let settled = Settled {
            topic: TopicId(0),
            id,
            fence: 7,
            attempts: 0,
            outcome: Outcome::Done,
            run_time,
        };
        self.claims.settle(settled, now)
    }
}

#[test]
fn a_topic_without_a_handler_makes_no_call() {
    let keys = Arc::new(Keys::new("t"));
    let mut claims = Claims::new(TopicId(0), "t".into(), keys);
    assert_eq!(claims.step(THREADS, 0, 9), Step::Until(u64::MAX));
    claims.set_limits(Some(LIMITS), 9);
    assert_eq!(claims.step(THREADS, 0, 9), Step::Work);
}

#[test]
fn the_next_call_is_made_when_an_event_is_due_and_at_least_once_in_a_while() {
    let mut topic = Topic::new();
    assert_eq!(topic.call(0, Some(2_000), 0).0, THREADS);
    assert_eq!(topic.step(2 * MS - 1), Step::Until(2 * MS));
    assert_eq!(topic.step(2 * MS), Step::Work);
    topic.call(0, None, 2 * MS);
    assert_eq!(topic.step(2 * MS), Step::Until(5_002 * MS));
    topic.call(0, Some(60_000_000), 2 * MS);
    assert_eq!(topic.step(2 * MS), Step::Until(5_002 * MS));
}

#[test]
fn what_is_due_while_all_workers_are_busy_is_passed_on_once() {
    let mut topic = Topic::new();
    topic.call(4, Some(2_000), 0);
    assert_eq!(topic.step(2 * MS - 1), Step::Until(2 * MS));
    assert_eq!(topic.step(2 * MS), Step::Work);
    assert_eq!(topic.call(0, Some(0), 2 * MS).0, 0);
    assert!(matches!(topic.step(3 * MS), Step::Until(_)));
    // The event was run elsewhere, and the next one that is due is passed on too.
    topic.claims.token(3 * MS);
    assert_eq!(topic.step(3 * MS), Step::Work);
    topic.call(0, Some(4_000), 3 * MS);
    assert_eq!(topic.step(7 * MS), Step::Work);
}

#[test]
fn a_token_without_a_free_worker_is_put_back_by_a_call() {
    let mut topic = Topic::new();
    topic.call(4, None, 0);
    assert!(!topic.claims.is_open(THREADS, 4, MS));
    topic.claims.token(MS);
    assert_eq!(topic.step(MS), Step::Work);
    assert_eq!(topic.call(0, Some(0), MS).0, 0);
    // With a free worker it is claimed.
    assert!(topic.end(1, 50 * MS, 2 * MS));
    assert_eq!(topic.step(2 * MS), Step::Work);
    let (want, outcomes) = topic.call(0, None, 2 * MS);
    assert_eq!((want, &outcomes.done[..]), (1, &[(1, 7)][..]));
    assert!(topic.claims.is_open(THREADS, 3, 3 * MS));
}

#[test]
fn events_are_claimed_ahead_only_if_attempts_are_quick() {
    let mut topic = Topic::new();
    topic.call(1, Some(0), 0);
    topic.end(1, MS, MS);
    // Four threads run 40 of 1 ms in 10 ms.
    assert_eq!(topic.claims.want(THREADS, 0), THREADS + 40);
    topic.call(1, Some(0), MS);
    for id in 2..100 {
        topic.end(id, 1_000, MS);
        topic.call(1, Some(0), MS);
    }
    assert_eq!(topic.claims.want(THREADS, topic.claims.flights()), MOST);
    let mut slow = Topic::new();
    slow.call(1, Some(0), 0);
    slow.end(1, 6 * MS, 6 * MS);
    assert_eq!(slow.claims.want(THREADS, 0), THREADS);
}

#[test]
fn what_was_claimed_ahead_is_given_back_if_nothing_moves() {
    let mut topic = Topic::new();
    topic.call(1, Some(0), 0);
    topic.end(1, MS, MS);
    topic.call(10, None, MS);
    assert_eq!(topic.step(MS + STUCK - 1), Step::Until(MS + STUCK));
    assert_eq!(topic.step(MS + STUCK), Step::TakeBack);
    // Four run, and six have not started.
    let waiting: Vec<_> = (6..12).map(EventId::new).collect();
    topic.claims.took_back(&waiting, MS + STUCK);
    assert_eq!(
        (topic.claims.flights(), topic.step(MS + STUCK)),
        (4, Step::Work)
    );
    let (want, outcomes) = topic.call(0, Some(0), MS + STUCK);
    assert_eq!((want, outcomes.again.len()), (0, 6));
    let given_back = &outcomes.again[0];
    assert_eq!((given_back.due, given_back.counts), (When::At(5), false));
    assert_eq!(given_back.record, None);
}

#[test]
fn outcomes_are_gathered_only_while_the_workers_have_more_to_do() {
    let mut topic = Topic::new();
    topic.call(1, Some(0), 0);
    topic.end(1, MS, MS);
    topic.call(30, None, MS);
    topic.end(2, MS, 2 * MS);
    assert_eq!(topic.step(2 * MS), Step::Until(2 * MS + GATHER));
    for id in 3..29 {
        topic.end(id, MS, 2 * MS + 1);
    }
    assert_eq!(topic.step(2 * MS + 1), Step::Work);
}

#[test]
fn leases_are_renewed_after_a_third() {
    let mut topic = Topic::new();
    topic.call(2, None, 0);
    topic.call(0, None, 9_999 * MS);
    assert_eq!(topic.step(9_999 * MS), Step::Until(10_000 * MS));
    assert_eq!(topic.step(10_000 * MS), Step::Renew);
    let mut claims = topic.claims.renew(TIMES, 10_000 * MS);
    claims.sort_unstable();
    assert_eq!(claims, [(1, 7), (2, 7)]);
    topic.call(0, None, 16_000 * MS);
    assert_eq!(topic.step(16_000 * MS), Step::Until(20_000 * MS));
    topic.claims.renew_now();
    assert_eq!(topic.step(16_000 * MS), Step::Renew);
}

#[test]
fn a_call_that_was_not_answered_is_repeated_as_it_is() {
    let mut topic = Topic::new();
    topic.call(4, Some(0), 0);
    topic.end(1, 50 * MS, MS);
    let first = topic.claims.begin(THREADS, 3, 8, 0).clone();
    assert_eq!(
        (first.seq, first.want, first.outcomes.done.len()),
        (8, 1, 1)
    );
    topic.end(2, 50 * MS, 2 * MS);
    assert_eq!(topic.step(2 * MS), Step::Work);
    let again = topic.claims.begin(THREADS, 2, 9, 0);
    assert_eq!(
        (again.seq, again.want, again.outcomes.done.len()),
        (8, 1, 1)
    );
    assert!(!topic.claims.is_settled());
}

#[test]
fn the_outcome_of_another_attempt_is_ignored() {
    let mut topic = Topic::new();
    topic.call(1, None, 0);
    let settled = |fence, outcome| Settled {
        topic: TopicId(0),
        id: 1,
        fence,
        attempts: 2,
        outcome,
        run_time: MS,
    };
    assert!(!topic.claims.settle(settled(6, Outcome::Done), MS));
    let rest = Rest {
        pending: vec!["send".into()],
        failed: Vec::new(),
        error: "no".to_owned(),
    };
    let again = Outcome::Again {
        delay: Some(Duration::from_millis(3)),
        counts: true,
        rest,
    };
    assert!(topic.claims.settle(settled(7, again), MS));
    assert!(!topic.claims.settle(settled(7, Outcome::Done), MS));
    let (_, outcomes) = topic.call(0, None, MS);
    let again = &outcomes.again[0];
    assert_eq!((again.due, again.counts), (When::After(3_000), true));
    let record = r#"{"attempts":3,"pending":["send"],"error":"no"}"#;
    assert_eq!(again.record.as_deref(), Some(record.as_bytes()));
}

#[test]
fn the_first_renewal_is_a_third_of_the_lease_after_the_call_and_not_after_its_reply() {
    let mut topic = Topic::new();
    // The call is lost, and repeated 9 s later.
    topic.claims.begin(THREADS, 0, 1, 1_000 * MS);
    topic.call(2, Some(1_000_000_000), 10_000 * MS);
    assert_eq!(topic.step(10_999 * MS), Step::Until(11_000 * MS));
    assert_eq!(topic.step(11_000 * MS), Step::Renew);
}
