//! Periodic events by the calendar, under a virtual clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use liveness::dispatch::{Dispatcher, On, Schedule, Topic};
use liveness::{Clock, ManualClock};

const TICK: Topic<()> = Topic::new("tick");
const WAIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A dispatcher whose handler notes the wall-clock time of each call, and its clock, which stands `before` a full UTC
/// day.
fn dispatcher(before: Duration) -> (Dispatcher, ManualClock, Arc<Mutex<Vec<SystemTime>>>) {
    let manual = ManualClock::new();
    let clock = Clock::from(manual.clone());
    let calls: Arc<Mutex<Vec<SystemTime>>> = Arc::default();
    let dispatcher = Dispatcher::builder()
        .threads(2)
        .clock(manual.clone())
        .build()
        .unwrap();
    let noted = calls.clone();
    dispatcher
        .on(&TICK, "note", On::new(), {
            let clock = clock.clone();
            move |_, ()| {
                noted.lock().unwrap().push(clock.system_time(clock.now()));
                Ok(())
            }
        })
        .unwrap();
    let wall = clock.system_time(clock.now());
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let day = 24 * 3_600_000_000_000;
    let into = (since + before).as_nanos() % day;
    manual.advance(Duration::from_nanos((day - into) as u64));
    (dispatcher, manual, calls)
}

#[test]
fn each_midnight_is_a_tick_that_comes_neither_early_nor_twice() {
    let second = Duration::from_secs(1);
    let (dispatcher, clock, calls) = dispatcher(second);
    let midnight = Schedule::cron("0 0 * * *").unwrap();
    dispatcher
        .schedule(&TICK, "midnight", midnight, || ())
        .unwrap();
    for day in 1..=3 {
        clock.advance(second - Duration::from_nanos(1));
        assert!(dispatcher.flush(WAIT));
        assert_eq!(calls.lock().unwrap().len(), day - 1);
        clock.advance(Duration::from_nanos(1));
        assert!(dispatcher.flush(WAIT));
        assert_eq!(calls.lock().unwrap().len(), day);
        // The looks of the hours between come to nothing.
        for _ in 1..24 {
            clock.advance(HOUR);
            assert!(dispatcher.flush(WAIT));
        }
        clock.advance(HOUR - second);
        assert!(dispatcher.flush(WAIT));
        assert_eq!(calls.lock().unwrap().len(), day);
    }
    let stats = dispatcher.stats();
    assert_eq!((stats.total().done, stats.skipped_ticks), (3, 0));
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn ticks_of_a_day_that_was_slept_through_are_one_and_counted() {
    let (dispatcher, clock, calls) = dispatcher(HOUR);
    let hourly = Schedule::cron("@hourly").unwrap();
    dispatcher.schedule(&TICK, "hourly", hourly, || ()).unwrap();
    clock.advance(24 * HOUR);
    assert!(dispatcher.flush(WAIT));
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert_eq!(dispatcher.stats().skipped_ticks, 23);
    clock.advance(HOUR);
    assert!(dispatcher.flush(WAIT));
    assert_eq!(calls.lock().unwrap().len(), 2);
    assert_eq!(dispatcher.stats().skipped_ticks, 23);
    let lateness = &dispatcher.stats().topics[0].lateness;
    assert_eq!(lateness.max(), 23 * HOUR, "late since the first of them");
    assert!(dispatcher.unschedule(&TICK, "hourly"));
    clock.advance(24 * HOUR);
    assert!(dispatcher.flush(WAIT));
    assert_eq!(calls.lock().unwrap().len(), 2);
}

#[test]
fn a_tick_of_a_running_clock_comes_at_its_second() {
    let dispatcher = Dispatcher::builder().threads(1).build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    dispatcher
        .on(&TICK, "tell", On::new(), move |_, ()| {
            let _ = tell.send(SystemTime::now());
            Ok(())
        })
        .unwrap();
    let each = Schedule::cron("* * * * * *").unwrap();
    dispatcher.schedule(&TICK, "each", each, || ()).unwrap();
    let ticks = [(); 2].map(|()| told.recv_timeout(WAIT).unwrap());
    let since = ticks.map(|tick| tick.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    assert!(since[1].as_secs() > since[0].as_secs(), "{since:?}");
}
