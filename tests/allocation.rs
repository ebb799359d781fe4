//! Beating a watched key allocates nothing, neither for the caller nor on a worker.
//!
//! One test in a file of its own: the allocator that counts is that of the whole process.

#![expect(
    unsafe_code,
    reason = "an allocator cannot be written without; the library itself has none"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compact_str::{CompactString, format_compact};
use liveness::{Heart, Watcher};

/// The system's allocator, which counts.
struct Counting;

/// How often memory was asked for, by any thread.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as for this function.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for this function.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// How many keys are watched.
const KEYS: u64 = 1_000;

/// Beats all keys by `round` until it allocates nothing. What is allocated once, when a thread first waits or a buffer
/// first grows, is forgiven; what is allocated with each beat, or with each round, is not.
fn settles(name: &str, mut round: impl FnMut()) {
    let mut counts = Vec::with_capacity(20);
    for _ in 0..20 {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        // Far more beats than the inboxes hold: nearly all of them are applied before the round ends.
        for _ in 0..5 {
            round();
        }
        counts.push(ALLOCATIONS.load(Ordering::SeqCst) - before);
    }
    let quiet = counts.iter().filter(|&&count| count == 0).count();
    assert!(quiet >= 10, "{name}: allocations by round {counts:?}");
}

/// Checks every way to beat a watched key, for keys made by `key`.
fn check<K>(key: impl Fn(u64) -> K)
where
    K: Eq + Hash + Clone + Debug + Send + 'static,
{
    let watcher = Watcher::<K>::builder()
        .timeout(Duration::from_secs(3_600))
        .workers(2)
        .inbox_capacity(16)
        .build()
        .unwrap();
    let keys: Vec<K> = (0..KEYS).map(key).collect();
    watcher.beat_many(keys.iter().cloned()).unwrap();
    settles("beat", || {
        for key in &keys {
            watcher.beat(key.clone()).unwrap();
        }
    });
    settles("try_beat", || {
        for key in &keys {
            while watcher.try_beat(key.clone()).is_err() {
                std::thread::yield_now();
            }
        }
    });
    settles("beat_many", || {
        watcher.beat_many(keys.iter().cloned()).unwrap();
    });
    let hearts: Vec<Heart<K>> = keys
        .iter()
        .map(|key| watcher.watch(key.clone()).unwrap())
        .collect();
    watcher.flush().unwrap();
    settles("heart.beat", || {
        for heart in &hearts {
            heart.beat().unwrap();
        }
    });
    settles("beat of a key with a heart", || {
        for key in &keys {
            watcher.beat(key.clone()).unwrap();
        }
    });
    drop(watcher);
    drop(hearts);
}

#[test]
fn beating_a_watched_key_allocates_nothing() {
    check(|key| key);
    // Up to 24 bytes are kept inline.
    check(|key| format_compact!("rack-04/server-{key:08}"));
    check(|key| {
        std::sync::Arc::<str>::from(format!(
            "a key of any length, shared by all its clones: {key}"
        ))
    });

    // The allocator does count: a key that is not inline costs an allocation with every clone.
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let long: CompactString = format_compact!("{:0>100}", 7);
    assert_eq!(long.clone(), long);
    assert!(ALLOCATIONS.load(Ordering::SeqCst) >= before + 2);
}
