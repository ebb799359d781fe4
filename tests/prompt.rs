//! Events that a beat causes come at once, although a beat as such wakes no worker that sleeps.

use std::time::Duration;

use liveness::{Event, EventKind, Mode, Options, Watcher};

/// Longer than any machine is busy; a worker that is not woken sleeps for an hour.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_join_is_told_although_no_deadline_is_near() -> Result<(), Box<dyn std::error::Error>> {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .events([EventKind::Joined])
        .workers(1)
        .build_with_channel(16)?;
    for key in 0..8u64 {
        watcher.beat(key)?;
        let event = events.recv_timeout(PATIENCE)?;
        assert_eq!((event.kind(), event.key()), (EventKind::Joined, Some(&key)));
    }
    Ok(())
}

#[test]
fn a_recovery_is_told_before_the_next_timeout() -> Result<(), Box<dyn std::error::Error>> {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(3_600))
        .events([EventKind::Expired, EventKind::Recovered])
        .workers(1)
        .build_with_channel(16)?;
    let short = Options::new()
        .timeout(Duration::from_millis(1))
        .mode(Mode::Repeat);
    watcher.beat_with(7u64, short)?;
    assert_eq!(events.recv_timeout(PATIENCE)?.kind(), EventKind::Expired);
    watcher.beat_with(7u64, Options::new().timeout(Duration::from_secs(3_600)))?;
    let is_recovery = |event: &Event<u64>| event.kind() == EventKind::Recovered;
    while !is_recovery(&events.recv_timeout(PATIENCE)?) {}
    Ok(())
}
