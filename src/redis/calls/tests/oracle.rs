//! Random operations on the scripts and on the plan of the local dispatcher.
//!
//! The plan is the oracle for what both do: acceptance, order, outcomes, unique keys, dead events, pauses, limits and
//! counters. What only the scripts know is kept in a few maps beside it: leases, fences, sessions, records and lapses.
//! The plan and the scripts rightly differ in the following.
//!
//! * A cancelled event occupies its worker of the local dispatcher until the handler returns. Here nothing is known of
//!   workers, and its place is free at once.
//! * A lease that lapses is an attempt that does not count. The scripts count it as lapsed, the plan as put off.
//! * An event whose payload is gone is found when it is claimed, and counted as lost. The plan cancels it then.
//! * The plan purges all dead events, the scripts at most 200 with each call.
//! * The plan keeps what is left to do of an event, the scripts an opaque record. Here it is the number of attempts.

mod claims;
mod operations;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::super::super::layout::write_id;
use super::*;
use crate::dispatch::attempt::{Outcome, Rest};
use crate::dispatch::plan::{Finished, Limits, Plan, Refusal, Removed, Token, TopicId};
use crate::dispatch::{Cancelled, EventId, OnDuplicate};

/// How many events may be unfinished, and how many dead ones are kept: so few that both limits are met.
const LIMITS: (usize, usize) = (9, 2);

/// The lease, us: so short that it often ends.
const LEASE: u64 = 40;

/// How many operations each case has, and how many cases there are. `LIVENESS_SCRIPT_ROUNDS` multiplies the latter:
/// 100,000 operations are 25 rounds.
const CASES: (usize, u32) = (80, 50);

/// What is done.
#[derive(Clone, Debug)]
enum Action {
    /// Time passes, us.
    Pass(u64),
    /// Time passes, and calls are made, until the first lease ends, 1 us before, or 1 us after.
    Outlive(u64),
    /// Groups of events are emitted.
    Emit(usize, Vec<New>),
    /// Attempts end, and events are claimed.
    Work(Work),
    /// Leases are renewed, those of the attempts at these places.
    Renew(Vec<usize>),
    /// Events are cancelled, those at these places among all that there ever were.
    Cancel(Vec<usize>),
    Reschedule(usize, Due),
    Replay(usize),
    Purge,
    Pause(bool),
    /// The payload of an event is removed by hand.
    Lose(usize),
    /// An event is removed from its list by hand, and an audit finds it.
    Misplace(usize),
    /// The reply of the last emission or claim of a session was lost, and the call is made again.
    Repeat(usize, bool),
    /// A call comes after a later one of its session.
    Late(usize, bool),
    /// A process takes the token.
    Wake,
}

/// A group of events.
#[derive(Clone, Debug)]
enum New {
    Plain(Vec<Due>),
    Unique(Due, u8, OnDuplicate),
}

/// When an event is due, us after now.
#[derive(Clone, Copy, Debug)]
enum Due {
    Now,
    After(u64),
    At(u64),
}

impl Due {
    fn when(self, now: u64) -> When {
        match self {
            Due::Now => When::Now,
            Due::After(us) => When::After(us),
            Due::At(us) => When::At(now - 10 + us),
        }
    }

    fn us(self, now: u64) -> u64 {
        match self.when(now) {
            When::Now => now,
            When::After(us) => now + us,
            When::At(us) => us,
        }
    }
}

/// A claim.
#[derive(Clone, Debug)]
struct Work {
    session: usize,
    want: usize,
    max_bytes: usize,
    everywhere: usize,
    interval: u64,
    random: f64,
    /// The attempts that end, by their places among those that were handed out.
    ends: Vec<(usize, End)>,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Done,
    /// After a delay, or in the previous place.
    Again(Option<u64>, bool),
    Dead,
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![
        2 => Just(Due::Now),
        2 => (0..30u64).prop_map(Due::After),
        1 => (0..30u64).prop_map(Due::At),
    ]
}

fn new() -> impl Strategy<Value = New> {
    let policy = prop_oneof![
        Just(OnDuplicate::Error),
        Just(OnDuplicate::Keep),
        Just(OnDuplicate::Replace)
    ];
    prop_oneof![
        2 => proptest::collection::vec(due(), 1..4).prop_map(New::Plain),
        1 => (due(), 0..3u8, policy).prop_map(|(due, key, policy)| New::Unique(due, key, policy)),
    ]
}

fn work() -> impl Strategy<Value = Work> {
    let end = prop_oneof![
        5 => Just(End::Done),
        2 => (0..9u64, any::<bool>()).prop_map(|(us, counts)| End::Again(Some(us), counts)),
        2 => any::<bool>().prop_map(|counts| End::Again(None, counts)),
        3 => Just(End::Dead),
    ];
    let ends = proptest::collection::vec((0..12usize, end), 0..5);
    let bytes = prop_oneof![4 => Just(usize::MAX), 1 => 0..9usize];
    let everywhere = prop_oneof![3 => Just(0usize), 1 => 1..4usize];
    let interval = prop_oneof![4 => Just(0u64), 1 => 1..9u64];
    (
        0..2usize,
        0..5usize,
        bytes,
        everywhere,
        interval,
        0.0..1.0,
        ends,
    )
        .prop_map(
            |(session, want, max_bytes, everywhere, interval, random, ends)| Work {
                session,
                want,
                max_bytes,
                everywhere,
                interval,
                random,
                ends,
            },
        )
}

fn action() -> impl Strategy<Value = Action> {
    let events = || proptest::collection::vec(0..64usize, 1..4);
    let session = || 0..2usize;
    prop_oneof![
        15 => (0..25u64).prop_map(Action::Pass),
        6 => (0..3u64).prop_map(Action::Outlive),
        20 => (session(), proptest::collection::vec(new(), 1..4))
            .prop_map(|(session, groups)| Action::Emit(session, groups)),
        30 => work().prop_map(Action::Work),
        6 => proptest::collection::vec(0..12usize, 0..4).prop_map(Action::Renew),
        5 => events().prop_map(Action::Cancel),
        5 => (0..64usize, due()).prop_map(|(which, due)| Action::Reschedule(which, due)),
        4 => (0..3usize).prop_map(Action::Replay),
        1 => Just(Action::Purge),
        2 => any::<bool>().prop_map(Action::Pause),
        2 => (0..64usize).prop_map(Action::Lose),
        2 => (0..64usize).prop_map(Action::Misplace),
        5 => (session(), any::<bool>()).prop_map(|(session, emit)| Action::Repeat(session, emit)),
        2 => (session(), any::<bool>()).prop_map(|(session, emit)| Action::Late(session, emit)),
        4 => Just(Action::Wake),
    ]
}

/// An attempt that was handed out, and may have ended.
#[derive(Clone, Debug)]
struct Attempt {
    id: u64,
    fence: u64,
    due: u64,
    number: u32,
}

/// An event that runs.
#[derive(Clone, Debug)]
struct Running {
    token: Token,
    fence: u64,
    ends: u64,
    payload: Vec<u8>,
}

/// The last calls of a session.
#[derive(Clone, Debug, Default)]
struct Session {
    seq: u64,
    emit: Option<(u64, Vec<Vec<Emission>>, Vec<GroupReply>)>,
    /// The number of the claim, the fence and the end of the lease.
    work: Option<(u64, u64, u64)>,
}

/// The scripts, the plan, and what the scripts know besides.
struct World {
    store: Store,
    plan: Plan<Vec<u8>>,
    topic: TopicId,
    /// The last attempts that were handed out, ended or not.
    attempts: Vec<Attempt>,
    running: BTreeMap<u64, Running>,
    records: BTreeMap<u64, Vec<u8>>,
    lapses: BTreeMap<u64, u64>,
    unique: BTreeMap<String, u64>,
    /// The events whose payload was removed by hand.
    gone: BTreeSet<u64>,
    /// When the last claim or renewal was.
    last: Option<u64>,
    grace: u64,
    fence: u64,
    has_token: bool,
    sessions: [Session; 2],
    /// All events that there ever were.
    ids: Vec<u64>,
    payload: u32,
    lost: u64,
    lapsed: u64,
    misplaced: u64,
    stale: u64,
}

/// The sessions.
const NAMES: [&str; 2] = ["a", "b"];

/// The limits of a call.
fn limits(everywhere: usize, interval: u64) -> Limits {
    Limits {
        parallel: if everywhere > 0 {
            everywhere
        } else {
            usize::MAX
        },
        interval: interval * 1_000,
    }
}

/// An attempt that is followed by another one after `delay` us.
fn again(delay: Option<u64>, counts: bool) -> Outcome {
    Outcome::Again {
        delay: delay.map(Duration::from_micros),
        counts,
        rest: Rest::default(),
    }
}

#[test]
fn the_scripts_do_what_the_plan_does() {
    let Some(server) = for_test(&[]) else { return };
    let rounds = std::env::var("LIVENESS_SCRIPT_ROUNDS").map_or(1, |rounds| {
        rounds.parse().expect("LIVENESS_SCRIPT_ROUNDS is a number")
    });
    let config = ProptestConfig::with_cases(CASES.1 * rounds);
    let actions = proptest::collection::vec(action(), CASES.0);
    let mut case = 0;
    let store = std::cell::RefCell::new(&mut case);
    proptest!(config, |(actions in actions)| {
        let mut case = store.borrow_mut();
        **case += 1;
        let mut world = World::new(Store::new(&server, &case.to_string()));
        for action in actions {
            world.act(action);
            world.validate();
        }
        world.store.command(&["FLUSHDB"]);
    });
}
