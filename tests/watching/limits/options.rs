//! Options out of range, and at its edge.

use std::time::Duration;

use liveness::{BeatErrorKind, BuildError, Builder, LocalBuilder, LocalWatcher, Options, Watcher};

use super::{TICK, TIMEOUT};

#[test]
fn options_out_of_range_are_refused_and_named() {
    type Setter = fn(Builder<u64>) -> Builder<u64>;
    type SetLocal = fn(LocalBuilder<u64>) -> LocalBuilder<u64>;
    let refused: [(&str, Setter); 10] = [
        ("timeout", |builder| builder.timeout(Duration::ZERO)),
        ("workers", |builder| builder.workers(0)),
        ("workers", |builder| builder.workers(1_025)),
        ("inbox_capacity", |builder| builder.inbox_capacity(0)),
        ("inbox_capacity", |builder| {
            builder.inbox_capacity((1 << 20) + 1)
        }),
        ("max_keys", |builder| builder.max_keys(0)),
        ("max_keys", |builder| builder.max_keys((1 << 32) - 1)),
        ("expected_keys", |builder| {
            builder.expected_keys((1 << 32) - 1)
        }),
        ("expected_keys", |builder| builder.expected_keys(usize::MAX)),
        ("thread_name", |builder| builder.thread_name("a\0b")),
    ];
    for (option, set) in refused {
        let error = set(Watcher::builder()).build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("`{option}`")),
            "{error}"
        );
    }
    let refused: [(&str, SetLocal); 3] = [
        ("timeout", |builder| builder.timeout(Duration::ZERO)),
        ("max_keys", |builder| builder.max_keys(0)),
        ("expected_keys", |builder| {
            builder.expected_keys((1 << 32) - 1)
        }),
    ];
    for (option, set) in refused {
        let error = set(LocalWatcher::builder()).build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("`{option}`")),
            "{error}"
        );
    }
    for capacity in [0, (1 << 20) + 1] {
        let error = Watcher::<u64>::builder()
            .build_with_channel(capacity)
            .unwrap_err();
        let must = match capacity {
            0 => "greater than zero".to_owned(),
            _ => format!("at most {}, not {capacity}", 1 << 20),
        };
        assert_eq!(error.to_string(), format!("`capacity` must be {must}"));
        assert!(matches!(error, BuildError::Option(error) if error.option() == "capacity"));
    }
}

#[test]
fn two_places_for_events_are_refused_by_the_names_of_their_options() {
    let (sender, events) = crossbeam_channel::unbounded();
    let builder = || Watcher::<u64>::builder();
    let refused = [
        (
            builder().on_event(drop).sink(sender.clone()).build(),
            "`on_event` and `sink` are both given; a watcher has one sink",
        ),
        (
            builder().on_event(drop).on_event(drop).build(),
            "`on_event` is given twice; a watcher has one sink",
        ),
        (
            builder().sink(sender).on_event_in_worker(drop).build(),
            "`sink` and `on_event_in_worker` are both given; a watcher has one sink",
        ),
        (
            builder()
                .on_event(drop)
                .build_with_channel(1)
                .map(|(watcher, _)| watcher),
            "`on_event` and `build_with_channel` are both given; a watcher has one sink",
        ),
    ];
    for (built, message) in refused {
        assert_eq!(built.unwrap_err().to_string(), message);
    }
    drop(events);
}

#[test]
fn options_at_the_edge_of_their_range_work() {
    let watcher = Watcher::<u64>::builder()
        .timeout(TICK)
        .workers(1)
        .inbox_capacity(1)
        .max_keys(1)
        .expected_keys(0)
        .thread_name("")
        .build()
        .unwrap();
    watcher.beat(1u64).unwrap();
    watcher.flush().unwrap();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::MAX)
        .workers(64)
        .max_keys((1 << 32) - 2)
        .stall_threshold(Duration::MAX)
        .stall_cap(Duration::MAX)
        .build()
        .unwrap();
    watcher.beat_many(0..1_000u64).unwrap();
    watcher.flush().unwrap();
    assert_eq!(watcher.len(), 1_000);
}

#[test]
fn a_timeout_of_zero_is_refused_with_the_key() {
    let zero = || Options::new().timeout(Duration::ZERO);
    let watcher = Watcher::<u64>::builder().build().unwrap();
    let error = watcher.beat_with(7u64, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 7)
    );
    let error = watcher.watch_with(8u64, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 8)
    );
    let mut local = LocalWatcher::<u64>::builder().build().unwrap();
    let error = local.beat_with(9u64, TIMEOUT, zero()).unwrap_err();
    assert_eq!(
        (error.kind(), error.into_key()),
        (BeatErrorKind::ZeroTimeout, 9)
    );
    watcher.flush().unwrap();
    assert!(watcher.is_empty() && local.is_empty());
}
