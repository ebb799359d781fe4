//! The engine against its promises, by a virtual clock: the boundaries one by one, and random operations against a
//! naive model in `machine`.

mod beats;
mod deadlines;
mod machine;
#[path = "../../tests/support/model.rs"]
mod model;
mod room;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::clock::NEVER;
use crate::clock::Timestamp;
use crate::due::STALE;
use crate::table::heart_cell::pair;

impl<K: Eq + Clone, V: Clone> Table<K, V> {
    /// Panics unless every part of the table agrees with every other.
    fn validate(&self) {
        self.lists.validate(&self.slab, &self.grace);
        self.queue.validate(&self.slab);
        let linked: HashSet<SlotId> = self
            .lists
            .numbers()
            .flat_map(|list| self.lists.iter(&self.slab, list))
            .collect();
        let current: HashSet<SlotId> = self
            .deferred
            .iter()
            .filter(|(_, deferred)| deferred.is_current(&self.slab))
            .map(|(_, deferred)| deferred.slot)
            .collect();
        let (mut live, mut pending, mut indexed) = (0, 0, 0);
        for (at, body) in self.slab.iter() {
            let entry = self.index.find(self.slab[at].tag, |slot| slot == at);
            let is_newest = is_live(body.state) || body.state == State::Pending;
            assert_eq!(entry.is_some(), is_newest, "index of slot {at}");
            indexed += usize::from(entry.is_some());
            live += u64::from(is_live(body.state));
            pending += u64::from(matches!(body.state, State::Pending | State::Superseded));
            assert_eq!(
                linked.contains(&at),
                body.state == State::Listed,
                "slot {at}"
            );
            let wants_heart = self.policy(at).hearts && is_live(body.state);
            assert_eq!(
                self.table_side(at).is_some(),
                wants_heart,
                "heart of slot {at}"
            );
            if body.state == State::Deferred && self.deadline(at) != NEVER {
                assert!(current.contains(&at), "slot {at} is aside and forgotten");
            }
        }
        assert_eq!(self.index.len(), indexed, "entries of the index");
        assert_eq!((self.counts.live, self.counts.pending), (live, pending));
        assert!(self.counts.is_balanced(), "{:?}", self.counts);
        for (&newer, &older) in &self.older {
            assert_eq!(self.slab.body(older).state, State::Superseded);
            assert_eq!(self.slab[older].prev, newer);
            assert!(self.slab.body(newer).key == self.slab.body(older).key);
        }
        for &at in self.downs.keys() {
            assert!(self.is_live(at), "slot {at} is down");
        }
    }
}

/// Every kind of event but `Beat`, which would only repeat what was put in.
const KINDS: [EventKind; 5] = [
    EventKind::Joined,
    EventKind::Expired,
    EventKind::Recovered,
    EventKind::Removed,
    EventKind::Stalled,
];

/// A table with a timeout of 100 that tells everything.
fn config() -> Config {
    Config {
        timeout: 100,
        mode: Mode::Once,
        wanted: KINDS.into_iter().collect(),
        max_keys: 1 << 20,
        expected_keys: 0,
        forget_after: NEVER,
        grace_cap: 1_000,
    }
}

/// A table that tells expiries only.
fn quiet(config: &Config) -> Table<u64, u64> {
    Table::new(
        Config {
            wanted: [EventKind::Expired].into_iter().collect(),
            ..config.clone()
        },
        None,
    )
    .unwrap()
}

/// A plain beat of `key` at `stamp`.
fn beat(key: u64, stamp: u64) -> Beat<u64, u64> {
    Beat::plain(spread(key), key, stamp)
}

/// Tags as a good hash gives them.
fn spread(key: u64) -> Tag {
    Tag((key as u32).wrapping_mul(0x9E37_79B9))
}

/// Applies a beat that must be accepted.
fn apply(table: &mut Table<u64, u64>, beat: Beat<u64, u64>) {
    assert!(table.beat(beat).is_ok());
}

/// Expires at `now` and takes everything; returns the keys that expired.
fn expired_at(table: &mut Table<u64, u64>, now: u64) -> Vec<u64> {
    while table.expire(now, 3) {}
    let mut keys = Vec::new();
    let mut take = |event: Event<u64, u64>| {
        if let Event::Expired(event) = event {
            keys.push(event.key);
        }
        Ok(())
    };
    while table.deliver(&mut take).is_some() {}
    table.shrink();
    table.validate();
    keys
}
