//! The events of a watcher as events of a topic.

use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};
use liveness::dispatch::{Backoff, Context, On, Topic};
use liveness::{Event, EventKind, ManualClock, Watcher};

use crate::kit::{Fixture, HOUR, MS, PATIENCE, S, all, manual, manual_with};

const SILENT: Topic<Event<u64>> = Topic::new("silent");

/// A watcher under `clock` whose expiries become events of the topic, with one second of patience.
fn watcher(clock: &ManualClock, dispatcher: &liveness::dispatch::Dispatcher) -> Watcher<u64> {
    Watcher::builder()
        .timeout(S)
        .workers(1)
        .events([EventKind::Expired])
        .clock(clock.clone())
        .sink(dispatcher.sink(&SILENT))
        .build()
        .unwrap()
}

/// Waits for a message while time passes: a watcher offers again what was refused after a pause.
fn offered(it: &Fixture, pages: &Receiver<u64>) -> u64 {
    let began = Instant::now();
    loop {
        match pages.recv_timeout(MS) {
            Ok(page) => return page,
            Err(_) => it.clock.advance(10 * MS),
        }
        assert!(began.elapsed() < PATIENCE, "nothing was offered again");
    }
}

#[test]
fn a_key_that_falls_silent_is_handled_and_retried() {
    let it = manual();
    let (sender, pages) = unbounded();
    let page = move |context: &Context, event: &Event<u64>| {
        sender.send((*event.key().unwrap(), context.attempt()))?;
        if context.attempt() < 3 {
            return Err("nobody answers".into());
        }
        Ok(())
    };
    let options = On::new().backoff(Backoff::constant(S).jitter(0.0));
    it.dispatcher.on(&SILENT, "page", options, page).unwrap();
    let watcher = watcher(&it.clock, &it.dispatcher);
    watcher.beat(7).unwrap();
    it.clock.advance(S);
    watcher.flush().unwrap();
    it.flush();
    it.advance(S);
    it.advance(S);
    assert_eq!(all(&pages), [(7, 1), (7, 2), (7, 3)]);
}

#[test]
fn a_full_dispatcher_leaves_the_events_with_the_watcher_which_offers_them_again() {
    let it = manual_with(|builder| builder.threads(1).max_unfinished(10));
    let (sender, pages) = unbounded();
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let page = move |_: &Context, event: &Event<u64>| {
        let _ = opened.recv();
        sender.send(*event.key().unwrap())?;
        Ok(())
    };
    it.dispatcher.on(&SILENT, "page", On::new(), page).unwrap();
    let watcher = watcher(&it.clock, &it.dispatcher);
    for key in 0..1_000 {
        watcher.beat(key).unwrap();
    }
    it.clock.advance(S);
    while it.dispatcher.stats().refused == 0 {
        std::thread::yield_now();
    }
    drop(gate);
    let mut seen: Vec<_> = (0..1_000).map(|_| offered(&it, &pages)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    watcher.flush().unwrap();
    it.flush();
    let stats = watcher.stats();
    assert!(stats.is_balanced(), "{stats}");
    assert_eq!(it.dispatcher.stats().total().done, 1_000);
}

#[test]
fn events_wait_for_the_first_handler_of_the_topic() {
    let it = manual();
    let watcher = watcher(&it.clock, &it.dispatcher);
    watcher.beat(7).unwrap();
    it.clock.advance(S);
    while it.dispatcher.stats().refused == 0 {
        std::thread::yield_now();
    }
    let (sender, pages) = unbounded();
    let page = move |_: &Context, event: &Event<u64>| Ok(sender.send(*event.key().unwrap())?);
    it.dispatcher.on(&SILENT, "page", On::new(), page).unwrap();
    assert_eq!(offered(&it, &pages), 7);
    watcher.close();
    it.flush();
}

#[test]
fn the_watcher_of_a_stopped_dispatcher_counts_its_events_as_lost() {
    let it = manual();
    it.dispatcher
        .on(&SILENT, "page", On::new(), |_, _| Ok(()))
        .unwrap();
    let watcher = watcher(&it.clock, &it.dispatcher);
    watcher.beat(7).unwrap();
    assert!(it.dispatcher.stop(HOUR).undone.is_empty());
    it.clock.advance(S);
    watcher.flush().unwrap();
    let stats = watcher.stats();
    assert!(stats.is_balanced(), "{stats}");
    assert_eq!(it.dispatcher.stats().refused, 1);
}
