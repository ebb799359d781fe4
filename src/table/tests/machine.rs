//! Random operations on a table and on its model, side by side; a failure shrinks to the few operations that it takes.
//!
//! `PROPTEST_CASES=100000 cargo test --lib agrees_with_a_naive_model` makes a long run of it. Seeds that failed are
//! kept in `proptest-regressions/table.txt` and tried first.

mod operations;

use std::num::NonZeroU64;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use self::operations::{KEYS, Op, Sign, Sink, Until, configs, ops, starts};
use super::super::*;
use super::model::{self, Model};
use super::spread;
use crate::clock::NEVER;
use crate::error::HeartError;
use crate::sink::Refused;
use crate::stats::{Histogram, Stats};
use crate::table::heart_cell::{Common, HeartSide, HeartState, pair};
use crate::table::key_limit::{KeyLimit, Standing};

/// How many cases of each test where `PROPTEST_CASES` does not say it.
const CASES: u32 = 256;

/// A table and its model.
struct Pair {
    table: Table<u64, u64>,
    model: Model,
    tag: fn(u64) -> Tag,
    max_keys: usize,
    /// What all hearts share.
    common: Arc<Common>,
    /// All hearts there ever were, by number.
    hearts: Vec<HeartSide>,
    /// How late the model says each expiry was.
    detection: Histogram,
}

impl Pair {
    fn new(config: &Config, start: u64, tag: fn(u64) -> Tag) -> Self {
        let limit = KeyLimit::new(config.max_keys, 1);
        let share = limit.share(0, |&key| upper(key));
        let mut table = Table::new(config.clone(), Some(share)).unwrap();
        table.advance(start);
        Pair {
            table,
            model: Model::new(model_config(config), start),
            tag,
            max_keys: config.max_keys,
            common: Arc::default(),
            hearts: Vec::new(),
            detection: Histogram::default(),
        }
    }

    /// The stamp that is `offset` from now.
    fn stamp(&self, offset: i64) -> u64 {
        self.model.now.saturating_add_signed(offset)
    }

    fn beat_of(&self, sign: Sign) -> Beat<u64, u64> {
        Beat {
            timeout: sign.timeout,
            mode: sign.mode,
            extra: sign.extra,
            known_only: sign.known_only,
            ..Beat::plain((self.tag)(sign.key), sign.key, self.stamp(sign.offset))
        }
    }

    /// A beat for the model; returns what the table should refuse.
    fn beat_model(&mut self, beat: &Beat<u64, u64>) -> Option<u64> {
        (!self.model.beat(&model_beat(beat))).then_some(beat.key)
    }

    /// Does `op` to both and compares what comes out.
    fn step(&mut self, op: &Op) {
        self.model.taken = self.table.slab.len();
        match *op {
            Op::Beats(ref signs) => {
                let mut beats: Vec<_> = signs.iter().map(|&sign| self.beat_of(sign)).collect();
                let full: Vec<_> = beats.iter().filter_map(|it| self.beat_model(it)).collect();
                let mut refused = Vec::new();
                self.table.beat_all(&mut beats, |key| refused.push(key));
                assert_eq!((refused, beats.len()), (full, 0));
            }
            Op::Keys {
                offset,
                ref keys,
                batch,
            } => {
                let stamp = self.stamp(offset);
                let mut plain: Vec<_> = keys.iter().map(|&key| ((self.tag)(key), key)).collect();
                let beats = plain.iter().map(|&(tag, key)| Beat::plain(tag, key, stamp));
                let full: Vec<_> = beats.filter_map(|it| self.beat_model(&it)).collect();
                let mut refused = Vec::new();
                self.table
                    .beat_keys(stamp, &mut plain, batch, |key| refused.push(key));
                assert_eq!((refused, plain.len()), (full, 0));
            }
            Op::Set(sign) => {
                let beat = self.beat_of(sign);
                let is_known = self.model.set(&model_beat(&beat));
                assert_eq!(self.table.set(beat, None), is_known);
            }
            Op::Watch(sign) => self.watch(sign),
            Op::HeartBeat(key) => self.heart_beat(key),
            Op::Release { key, leave } => self.release(key, leave),
            Op::Remove(key) => assert_eq!(
                self.table.remove((self.tag)(key), &key),
                self.model.remove(key)
            ),
            Op::Expire { until, limit } => self.expire(until, limit),
            Op::Back(by) => {
                let back = self.model.now.saturating_sub(by);
                while self.table.expire(back, 5) {}
                self.model.expire(back);
            }
            Op::Stall(gap) => {
                let last_alive = self.model.now;
                let resumed = last_alive.saturating_add(gap);
                self.model.stall(self.table.stall(0, last_alive, resumed));
            }
            Op::Deliver { offers, sink } => self.deliver(offers, sink),
            Op::Discard => {
                self.table.discard_pending();
                self.model.discard();
            }
            Op::Ask => {
                let due = self.table.next_due().map_or(NEVER, |(due, _)| due);
                let expected = self.model.next_due();
                assert!(due <= expected, "it would sleep through {expected}");
                let has_hearts = self.model.keys().any(|key| self.model.heart(key).is_some());
                let is_exact = !has_hearts && self.model.stats().stalls == 0;
                assert!(!is_exact || due == expected, "it wakes too early");
            }
            Op::Rebuild => {
                if !self.table.has_queued() {
                    self.table.rebuild();
                }
            }
        }
    }

    fn watch(&mut self, sign: Sign) {
        let beat = self.beat_of(sign);
        let (heart_side, table_side) = pair(beat.stamp, &self.common);
        let has_room = self.model.watch(&model_beat(&beat), self.hearts.len());
        self.hearts.push(heart_side);
        assert_eq!(self.table.watch(beat, table_side).is_ok(), has_room);
    }

    fn heart_beat(&mut self, key: u64) {
        let Some(beat) = self.model.heart_beat(key) else {
            return;
        };
        let state = self.hearts[beat.heart].beat(beat.stamp);
        if beat.is_down {
            assert_eq!(state, HeartState::Down);
            let beat = Beat::plain((self.tag)(key), key, beat.stamp);
            assert!(self.table.beat(beat).is_ok());
        } else {
            assert_eq!(state, HeartState::Alive);
        }
    }

    fn release(&mut self, key: u64, leave: bool) {
        let Some(heart) = self.model.heart(key) else {
            return;
        };
        let (tag, cell) = ((self.tag)(key), self.hearts[heart].cell());
        for is_first in [true, false] {
            let removed = self.table.release(tag, &key, cell, leave);
            assert_eq!(removed, is_first && !leave, "a heart lets go once");
        }
        self.model.release(key, leave);
    }

    fn expire(&mut self, until: Until, limit: usize) {
        let now = match until {
            Until::In(by) => self.model.now.saturating_add(by),
            Until::DueOf(key, offset) => match self.model.due_of(key) {
                Some(due) if due != NEVER => due.saturating_add_signed(offset),
                _ => self.model.now,
            },
        };
        while self.table.expire(now, limit) {}
        self.model.expire(now);
        assert_eq!(self.table.now(), self.model.now);
    }

    fn deliver(&mut self, offers: usize, sink: Sink) {
        for _ in 0..offers {
            let model = &mut self.model;
            let mut offer = |event: Event<u64, u64>| {
                model.check_offer(&event);
                let about = event.key_event();
                assert!(about.is_none_or(|about| about.delivered == about.detected));
                match sink {
                    Sink::IsFull => return Err(Refused::Full(event)),
                    Sink::Takes => model.settle(&event, true),
                    Sink::IsGone => {
                        model.settle(&event, false);
                        return Err(Refused::Gone(event));
                    }
                }
                Ok(())
            };
            if self.table.deliver(&mut offer).is_none() {
                assert!(!self.table.has_queued());
                assert!(self.model.is_queue_empty(), "lost: {:?}", self.model);
                break;
            }
        }
        self.table.shrink();
    }

    /// Panics unless the table agrees with itself and with the model.
    fn compare(&mut self) {
        self.table.validate();
        let mut stats = Stats::default();
        stats.add(&self.table.counts());
        let expected = Stats {
            bytes: stats.bytes,
            live_by_worker: vec![self.table.len() as u64],
            ..self.model.stats()
        };
        assert_eq!(stats, expected);
        assert_eq!(self.table.len() as u64, stats.live);
        for ns in self.model.lateness.drain(..) {
            self.detection.record(ns);
        }
        assert_eq!(*self.table.detection(), self.detection);
        for key in 0..KEYS {
            let status = self.table.status((self.tag)(key), &key);
            self.model.check_status(key, status.as_ref());
        }
        let mut keys = Vec::new();
        for (key, status) in self.table.snapshot() {
            self.model.check_status(key, Some(&status));
            keys.push(key);
        }
        keys.sort_unstable();
        assert!(self.model.keys().eq(keys));
        let mut down: Vec<_> = self.table.snapshot_down().map(|(key, _)| key).collect();
        down.sort_unstable();
        assert!(self.model.down_keys().eq(down));
        for (heart, end) in self.model.ended.drain(..) {
            let state = match end {
                HeartError::Expired => HeartState::Expired,
                HeartError::Removed => HeartState::Removed,
                HeartError::Replaced => HeartState::Replaced,
                _ => HeartState::Closed,
            };
            assert_eq!(self.hearts[heart].cell().state(), state);
        }
        self.compare_places();
    }

    /// Panics unless the table has taken a place for each slot, and callers find the keys that live and no others.
    fn compare_places(&self) {
        let waiting = self.model.stats().pending as usize;
        let slots = self.table.slab.len();
        assert!(slots <= self.max_keys);
        assert!(slots >= self.table.len() + waiting);
        if !self.table.has_queued() {
            assert_eq!(slots, self.table.len());
        }
        let Some(limit) = &self.table.limit else {
            unreachable!("it was given one")
        };
        assert_eq!(limit.taken(), (slots, slots));
        let mark = |key: u64| ((self.tag)(key), upper(key));
        for key in 0..KEYS {
            let is_in = self.model.keys().any(|it| mark(it) == mark(key));
            let standing = limit.look((self.tag)(key), &key);
            assert_eq!(standing == Standing::Watched, is_in, "key {key}");
        }
    }
}

/// What the model knows of `config`.
fn model_config(config: &Config) -> model::Config {
    use EventKind::{Beat, Expired, Joined, Recovered, Removed, Stalled};

    let kinds = [Joined, Beat, Expired, Recovered, Removed, Stalled];
    model::Config {
        timeout: config.timeout,
        mode: config.mode,
        wanted: kinds
            .into_iter()
            .filter(|&kind| config.wanted.has(kind))
            .collect(),
        max_keys: config.max_keys,
        forget_after: config.forget_after,
        grace_cap: config.grace_cap,
        one_table: true,
    }
}

/// What the model knows of `beat`.
fn model_beat(beat: &Beat<u64, u64>) -> model::Beat {
    model::Beat {
        key: beat.key,
        stamp: beat.stamp,
        timeout: beat.timeout.map(NonZeroU64::get),
        mode: beat.mode,
        extra: beat.extra,
        known_only: beat.known_only,
    }
}

/// The half of a key's mark that is not its tag. Two keys have the same.
fn upper(key: u64) -> u32 {
    (key / 2) as u32
}

/// Drives a table and its model through `ops` from `start` on.
fn run(config: &Config, start: u64, ops: &[Op], tag: fn(u64) -> Tag) {
    let mut pair = Pair::new(config, start, tag);
    for op in ops {
        pair.step(op);
        pair.compare();
    }
    // At last a sink that takes everything: nothing is lost.
    pair.deliver(usize::MAX, Sink::Takes);
    pair.compare();
}

fn cases() -> ProptestConfig {
    let given = ProptestConfig::default();
    let is_said = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if is_said { given.cases } else { CASES },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "proptest-regressions/table.txt",
        ))),
        ..given
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn agrees_with_a_naive_model_on_spread_tags(
        config in configs(), start in starts(), ops in ops(),
    ) {
        run(&config, start, &ops, spread);
    }

    #[test]
    fn agrees_with_a_naive_model_when_all_keys_collide(
        config in configs(), start in starts(), ops in ops(),
    ) {
        run(&config, start, &ops, |_| Tag(7));
    }

    #[test]
    fn agrees_with_a_naive_model_when_tags_share_a_prefix(
        config in configs(), start in starts(), ops in ops(),
    ) {
        run(&config, start, &ops, |key| Tag(u32::MAX - key as u32 % 5));
    }
}
