//! The bytes that the stats tell are those that the allocator has given, whatever the tables hold.
//!
//! One test in a file of its own: the allocator that counts is that of the whole process.

#![expect(
    unsafe_code,
    reason = "an allocator cannot be written without; the library itself has none"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use liveness::{EventKind, LocalWatcher, ManualClock, Mode, Options, Stats, Watcher};

/// The system's allocator, which counts.
struct Counting;

/// How many bytes are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as for this function.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size, Ordering::SeqCst);
        ALLOCATED.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as for this function.
        unsafe { System.realloc(at, layout, size) }
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

const KEYS: u64 = 20_000;

/// How many bytes a watcher with threads may have beside its table: buffers of its inbox, mostly.
const OTHER: usize = 400_000;

/// Panics unless the bytes that are `told` are those allocated since `before`, up to a twentieth and `other` ones.
fn assert_told(what: &str, told: u64, before: usize, other: usize) {
    let (told, allocated) = (told as usize, ALLOCATED.load(Ordering::SeqCst) - before);
    assert!(
        told.abs_diff(allocated) <= allocated / 20 + other,
        "{what}: {told} bytes told, {allocated} allocated"
    );
}

/// The bytes in `stats`, which have some of their own and are gone then.
fn told(stats: Stats) -> u64 {
    let bytes = stats.bytes;
    drop(stats);
    bytes
}

/// One way to live: a name, and the options of the key's beats.
type Way = (&'static str, fn(u64) -> Options<()>);

#[test]
fn the_bytes_that_are_told_are_those_that_are_allocated() {
    let own = |key| Options::new().timeout(TIMEOUT / 2 + Duration::from_nanos(key));
    let ways: [Way; 4] = [
        ("plain", |_| Options::new()),
        ("a timeout each", own),
        ("down", |_| Options::new().mode(Mode::Repeat)),
        ("down with a timeout each", |key| {
            let timeout = TIMEOUT / 2 + Duration::from_nanos(key);
            Options::new().mode(Mode::Repeat).timeout(timeout)
        }),
    ];
    for (way, options) in ways {
        let before = ALLOCATED.load(Ordering::SeqCst);
        let mut watcher = LocalWatcher::<u64>::builder()
            .timeout(TIMEOUT)
            .events([EventKind::Stalled])
            .build()
            .unwrap();
        let mut now = Duration::ZERO;
        for round in 0..3 {
            for key in 0..KEYS {
                watcher.beat_with(key, now, options(key)).unwrap();
            }
            assert_told(way, told(watcher.stats()), before, 1_000);
            now += TIMEOUT;
            watcher.poll(now, drop);
            assert_told(way, told(watcher.stats()), before, 1_000);
            for key in 0..KEYS - round {
                watcher.remove(&key, now);
            }
            watcher.poll(now, drop);
            assert_told(way, told(watcher.stats()), before, 1_000);
        }
    }

    // Behind a full channel, with a maximum, and a second episode of each.
    let before = ALLOCATED.load(Ordering::SeqCst);
    let clock = ManualClock::new();
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(1)
        .max_keys(2 * KEYS as usize)
        .clock(clock.clone())
        .build_with_channel(1)
        .unwrap();
    for _ in 0..2 {
        watcher.beat_many(0..KEYS).unwrap();
        watcher.flush().unwrap();
        assert_told("with a maximum", told(watcher.stats()), before, OTHER);
        clock.advance(TIMEOUT);
        watcher.flush().unwrap();
        assert_told(
            "behind a full channel",
            watcher.stats().bytes,
            before,
            OTHER,
        );
    }
    while watcher.stats().pending > 0 {
        events.try_iter().for_each(drop);
        watcher.flush().unwrap();
    }
    watcher.flush().unwrap();
    assert_told("when all is told", told(watcher.stats()), before, OTHER);
    assert!(watcher.stats().bytes < 200_000, "{}", watcher.stats());
}
