//! Operations, configurations and starts of the clock, drawn at random.

use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::clock::NEVER;
use crate::table::tests::config;
use crate::table::tests::model::STARTS;
use crate::table::*;

/// Timeouts that meet each other at boundaries, and two that hardly end.
const TIMEOUTS: [u64; 7] = [1, 7, 50, 100, 101, NEVER - 1_000, NEVER];

/// How many keys there are to draw from: so few that they meet, enough for the index to grow and for walks to end
/// early.
pub(super) const KEYS: u64 = 24;

/// One beat as it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) key: u64,
    /// Its stamp, from now on.
    pub(super) offset: i64,
    pub(super) timeout: Option<NonZeroU64>,
    pub(super) mode: Option<Mode>,
    pub(super) extra: Option<u64>,
    pub(super) known_only: bool,
}

/// A time to go to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// So much later than now.
    In(u64),
    /// So much before or after the moment that this key is due, if that has not passed.
    DueOf(u64, i64),
}

/// What the sink does with what it is offered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sink {
    Takes,
    IsFull,
    IsGone,
}

/// One operation. Each can be left out of a run, so that a run shrinks.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Beats that are applied together.
    Beats(Vec<Sign>),
    /// Plain beats of one stamp, from now on, applied so many at a time.
    Keys {
        offset: i64,
        keys: Vec<u64>,
        batch: usize,
    },
    /// Options without a beat.
    Set(Sign),
    /// A new heart.
    Watch(Sign),
    /// A beat of the key's heart; if that finds the key down, as a message too.
    HeartBeat(u64),
    /// The key's heart goes.
    Release {
        key: u64,
        leave: bool,
    },
    Remove(u64),
    /// Time goes on, and what is due expires, after so many looks at a time.
    Expire {
        until: Until,
        limit: usize,
    },
    /// The clock goes back.
    Back(u64),
    /// Nothing ran for so long.
    Stall(u64),
    /// The sink is offered so many events.
    Deliver {
        offers: usize,
        sink: Sink,
    },
    /// The sink is gone.
    Discard,
    /// The worker asks when to wake.
    Ask,
    /// Memory is given back, if nothing waits.
    Rebuild,
}

/// Any number of nanoseconds, each magnitude as likely as the others.
fn any_magnitude() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn key() -> impl Strategy<Value = u64> {
    0..KEYS
}

/// Mostly now; else late by a little or a lot, or a little ahead: callers read the clock after the worker did.
fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![
        12 => Just(0),
        4 => -120..0i64,
        1 => 1..40i64,
        1 => any_magnitude().prop_map(|ago| -(ago >> 1).cast_signed()),
    ]
}

fn timeout() -> impl Strategy<Value = NonZeroU64> {
    prop_oneof![
        8 => select(&TIMEOUTS[..]),
        1 => any_magnitude(),
    ]
    .prop_filter_map("a timeout is above zero", NonZeroU64::new)
}

fn sign() -> impl Strategy<Value = Sign> {
    let mode = select(&[Mode::Once, Mode::Track, Mode::Repeat][..]);
    let options = (
        option::weighted(0.3, timeout()),
        option::weighted(0.25, mode),
        option::weighted(0.25, 0..100u64),
        prop::bool::weighted(0.1),
    );
    (key(), offset(), options).prop_map(|(key, offset, (timeout, mode, extra, known_only))| Sign {
        key,
        offset,
        timeout,
        mode,
        extra,
        known_only,
    })
}

fn until() -> impl Strategy<Value = Until> {
    prop_oneof![
        8 => select(&[0, 1, 6, 49, 50, 99, 100, 101, 250][..]).prop_map(Until::In),
        4 => (0..300u64).prop_map(Until::In),
        4 => (key(), -1..=1i64).prop_map(|(key, offset)| Until::DueOf(key, offset)),
        1 => any_magnitude().prop_map(Until::In),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let keys = (offset(), vec(key(), 0..12), 1..4usize);
    let sink =
        prop_oneof![6 => Just(Sink::Takes), 3 => Just(Sink::IsFull), 1 => Just(Sink::IsGone)];
    prop_oneof![
        24 => vec(sign(), 1..5).prop_map(Op::Beats),
        10 => keys.prop_map(|(offset, keys, batch)| Op::Keys { offset, keys, batch }),
        4 => sign().prop_map(Op::Set),
        8 => sign().prop_map(Op::Watch),
        12 => key().prop_map(Op::HeartBeat),
        3 => (key(), any::<bool>()).prop_map(|(key, leave)| Op::Release { key, leave }),
        5 => key().prop_map(Op::Remove),
        18 => (until(), select(&[1, 2, 1_000][..]))
            .prop_map(|(until, limit)| Op::Expire { until, limit }),
        1 => (0..300u64).prop_map(Op::Back),
        1 => prop_oneof![0..300u64, any_magnitude()].prop_map(Op::Stall),
        14 => (1..60usize, sink).prop_map(|(offers, sink)| Op::Deliver { offers, sink }),
        1 => Just(Op::Discard),
        3 => Just(Op::Ask),
        2 => Just(Op::Rebuild),
    ]
}

/// The kinds of event that a table may be asked for.
fn wanted() -> impl Strategy<Value = Kinds> {
    use EventKind::{Beat, Expired, Joined, Recovered, Removed, Stalled};

    let sets: [&'static [EventKind]; 4] = [
        &[Joined, Expired, Recovered, Removed, Stalled],
        &[Joined, Beat, Expired, Recovered, Removed, Stalled],
        &[Expired],
        &[Recovered, Removed],
    ];
    select(sets.to_vec()).prop_map(|kinds| kinds.iter().copied().collect())
}

pub(super) fn configs() -> impl Strategy<Value = Config> {
    let mode = prop_oneof![4 => Just(Mode::Once), 1 => Just(Mode::Track), 1 => Just(Mode::Repeat)];
    let forget_after = prop_oneof![2 => Just(NEVER), 1 => 0..400u64];
    let max_keys = prop_oneof![4 => Just(1 << 20), 1 => 1..16usize];
    (wanted(), mode, max_keys, forget_after).prop_map(|(wanted, mode, max_keys, forget_after)| {
        Config {
            mode,
            wanted,
            max_keys,
            forget_after,
            ..config()
        }
    })
}

/// A clock that starts near one of the [`STARTS`].
pub(super) fn starts() -> impl Strategy<Value = u64> {
    (select(&STARTS[..]), -300..300i64)
        .prop_map(|(start, offset)| start.saturating_add_signed(offset))
}

/// A run of operations: some short, most long enough to fill the table.
pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..160)
}
