//! The limit by itself, and whole watchers with a maximum whose keys have hashes that are alike.

use std::collections::HashMap;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::{KeyLimit, Mark, Share, Standing};
use crate::table::ids::{SlotId, Tag};
use crate::table::settings;
use crate::{BeatErrorKind, Event, ManualClock, Watcher};

const TIMEOUT: Duration = Duration::from_secs(10);
const SEED: u64 = 7;

/// The hash of `key` in a watcher of [`SEED`].
fn hash(key: u64) -> u64 {
    settings::hasher(Some(SEED)).hash_one(key)
}

/// Which of two workers has `key`.
fn worker(key: u64) -> u64 {
    hash(key) >> 63
}

/// Pairs of keys with one 32-bit tag that belong to one of two workers, whichever that is.
fn twins() -> Vec<(u64, u64)> {
    let mut seen = HashMap::new();
    let twins = (0..600_000u64).filter_map(|key| {
        let tag = (worker(key), hash(key) as u32);
        seen.insert(tag, key).map(|twin| (twin, key))
    });
    twins.collect()
}

/// A watcher of at most `max` keys on two workers, stepped by hand.
fn capped(max: usize) -> (ManualClock, Watcher<u64>, Receiver<Event<u64>>) {
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::builder()
        .timeout(TIMEOUT)
        .max_keys(max)
        .workers(2)
        .seed(SEED)
        .clock(clock.clone())
        .build_with_channel(100)
        .unwrap();
    (clock, watcher, events)
}

/// A share in `limit` of worker `worker` for keys below 2^32, each with an upper half of its own.
fn share(limit: &std::sync::Arc<KeyLimit>, worker: usize) -> Share<u64> {
    limit.share(worker, |&key| key as u32)
}

#[test]
fn a_full_limit_knows_who_is_watched() {
    let limit = KeyLimit::new(2, 2);
    let mut shares = [share(&limit, 0), share(&limit, 1)];
    let look = |worker, key| limit.look(worker, Mark::new(key, Tag(9)));
    assert_eq!(look(0, 1), Standing::Room);
    for (worker, key) in [(0, 1), (1, 2)] {
        let place = shares[worker].take(Tag(9), &key).unwrap();
        shares[worker].settle(SlotId::new(0), place);
    }
    assert_eq!([look(0, 1), look(1, 2)], [Standing::Watched; 2]);
    assert_eq!([look(1, 1), look(0, 2)], [Standing::Full; 2]);
    assert!(shares[0].take(Tag(9), &3).is_none());
    // One that left keeps its place until its slot is vacant.
    shares[0].leave(SlotId::new(0), Tag(9));
    assert_eq!(look(0, 1), Standing::Full);
    shares[0].give_back();
    assert_eq!(look(0, 1), Standing::Room);
    assert!(shares[1].take(Tag(9), &3).is_some());
}

#[test]
fn a_look_that_must_not_wait_does_not_wait_for_a_preempted_caller() {
    let limit = KeyLimit::new(2, 1);
    let held = limit.shard(0, Mark(7)).lock();
    assert_eq!(limit.look_for(0, Mark(7), Duration::from_millis(1)), None);
    drop(held);
    let standing = limit.look_for(0, Mark(7), Duration::from_millis(1));
    assert_eq!(standing, Some(Standing::Room));
}

#[test]
fn a_mark_that_two_keys_have_is_there_until_both_have_left() {
    let limit = KeyLimit::new(10, 1);
    let mut share = share(&limit, 0);
    for at in (0..3).map(SlotId::new) {
        let place = share.take(Tag(9), &1).unwrap();
        share.settle(at, place);
    }
    for at in (0..3).map(SlotId::new) {
        assert_eq!(share.look(Tag(9), &1), Standing::Watched);
        share.leave(at, Tag(9));
    }
    assert_eq!(share.look(Tag(9), &1), Standing::Room);
}

#[test]
fn a_share_that_goes_gives_everything_back_and_a_small_one_its_memory() {
    let limit = KeyLimit::new(10_000, 2);
    let mut going = share(&limit, 0);
    let mut staying = share(&limit, 1);
    for (at, key) in (0..5_000u32).zip(0..5_000u64) {
        for share in [&mut going, &mut staying] {
            let place = share.take(Tag(at), &key).unwrap();
            share.settle(SlotId::new(at as usize), place);
        }
    }
    drop(going);
    assert_eq!(staying.taken(), (5_000, 5_000));
    assert_eq!(limit.look(0, Mark::new(7, Tag(7))), Standing::Room);
    let full = staying.shard_bytes;
    assert!(full >= 5_000 * 9);
    for at in 0..5_000 {
        staying.leave(SlotId::new(at as usize), Tag(at));
        staying.give_back();
    }
    assert_eq!(staying.taken(), (0, 0));
    let mine = &limit.shards[super::SHARDS..];
    let bytes: usize = mine.iter().map(|shard| shard.lock().bytes()).sum();
    assert_eq!(staying.shard_bytes, bytes);
    assert!(bytes < full / 3, "{bytes} of {full}");
}

#[test]
fn a_resident_is_not_refused_because_of_a_stranger_with_its_tag() {
    let twins = twins();
    assert!(twins.len() > 5, "{} pairs", twins.len());
    for (resident, stranger) in twins {
        let (clock, watcher, events) = capped(2);
        watcher.beat(resident).unwrap();
        watcher.beat(1_000_000u64).unwrap();
        // The stranger comes by every way, and goes.
        let _ = watcher.beat(stranger);
        let _ = watcher.try_beat(stranger);
        let _ = watcher.beat_many([stranger]);
        watcher.flush().unwrap();
        watcher.remove(&stranger).unwrap();
        watcher.flush().unwrap();
        for other in 2_000_000..2_000_010u64 {
            let _ = watcher.beat(other);
            let _ = watcher.try_beat(other + 100);
        }
        clock.advance(TIMEOUT / 2);
        watcher.beat(resident).unwrap();
        watcher.try_beat(resident).unwrap();
        assert_eq!(watcher.beat_many([resident]), Ok(1));
        watcher.watch(resident).unwrap().detach();
        clock.advance(TIMEOUT / 2);
        watcher.flush().unwrap();
        assert!(watcher.contains(&resident).unwrap(), "it beat, and died");
        assert!(events.len() <= 1);
    }
}

#[test]
fn strangers_with_the_tag_of_a_resident_do_not_exceed_the_maximum() {
    let twins = twins();
    let max = twins.len();
    let (_clock, watcher, _events) = capped(max);
    watcher
        .beat_many(twins.iter().map(|&(resident, _)| resident))
        .unwrap();
    watcher.flush().unwrap();
    let strangers = twins.iter().map(|&(_, stranger)| stranger);
    let refused = watcher.beat_many(strangers.clone()).map_err(|error| {
        let kind = error.kind();
        (kind, error.into_keys().len())
    });
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), max);
    assert_eq!(refused, Err((BeatErrorKind::Full, max)));
    for stranger in strangers {
        let refused = watcher.beat(stranger).map_err(|error| error.kind());
        assert_eq!(refused, Err(BeatErrorKind::Full));
        let refused = watcher.try_beat(stranger).map_err(|error| error.kind());
        assert_eq!(refused, Err(BeatErrorKind::Full));
    }
    for &(resident, _) in &twins {
        assert!(watcher.contains(&resident).unwrap());
    }
}
