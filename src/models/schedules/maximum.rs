//! A maximum number of keys, with callers whose keys join and leave at the same time.

use std::sync::Arc;

use shuttle::thread;

use super::{builder, explore, quiet};
use crate::{BeatErrorKind, ManualClock};

#[test]
fn a_maximum_is_never_exceeded_and_a_watched_key_never_refused() {
    explore(
        "a_maximum_is_never_exceeded_and_a_watched_key_never_refused",
        || {
            const MAX: usize = 2;
            let builder = builder(&ManualClock::new(), 2, 8).max_keys(MAX);
            let watcher = Arc::new(builder.build().unwrap());
            watcher.beat(1u64).unwrap();
            let come_and_go = thread::spawn({
                let watcher = watcher.clone();
                move || {
                    if watcher.beat(2u64).is_ok() {
                        watcher.remove(&2).unwrap();
                    }
                    // One after another: a returned place is available by now, or another caller has taken it.
                    watcher.beat(3u64).map_err(|error| error.kind())
                }
            });
            let crowd = thread::spawn({
                let watcher = watcher.clone();
                move || match watcher.beat_many([4u64, 5, 4]) {
                    Ok(count) => count,
                    Err(error) => {
                        assert_eq!(error.kind(), BeatErrorKind::Full);
                        3 - error.into_keys().len()
                    }
                }
            });
            for _ in 0..2 {
                watcher.try_beat(1u64).unwrap();
                watcher.beat(1u64).unwrap();
                let _ = watcher.try_beat(6u64);
            }
            let third = come_and_go.join().unwrap();
            let accepted = crowd.join().unwrap();
            assert!(accepted < 3, "two keys beside the one do not fit");
            watcher.flush().unwrap();
            assert!(watcher.contains(&1).unwrap());
            assert_eq!(watcher.contains(&3), Ok(third.is_ok()));
            let has_joined = watcher.contains(&4).unwrap() || watcher.contains(&5).unwrap();
            assert_eq!(has_joined, accepted > 0);
            for key in 1..7u64 {
                watcher.remove(&key).unwrap();
            }
            watcher.flush().unwrap();
            assert_eq!(watcher.beat_many([7u64, 8]), Ok(MAX));
            assert!(watcher.beat(9u64).is_err());
            assert_eq!(quiet(watcher.close()).live, MAX as u64);
        },
    );
}
