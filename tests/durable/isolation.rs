//! A topic whose keys a hand has spoilt holds up no other topic, and an event whose record was spoilt no other event.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use liveness::dispatch::{Notice, On, Topic};
use liveness::redis::Dispatcher;

use crate::crew::{GENEROUS, JOBS, Job, Site};

/// The topic that is spoilt.
const SPOILT: Topic<Job> = Topic::new("spoilt");

const LEASE: Duration = Duration::from_secs(5);

#[test]
fn a_topic_with_a_key_of_another_type_holds_up_no_other() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let (dispatcher, notices) = Dispatcher::builder(&site.server.url())
        .lease(LEASE)
        .build_with_notices(1_000)
        .unwrap();
    let (begin, begun) = mpsc::channel();
    dispatcher
        .on(&JOBS, "work", On::new(), move |_, _| Ok(begin.send(())?))
        .unwrap();
    site.server
        .command(&["SET", "{lv:spoilt}:q", "a hand"])
        .unwrap();
    dispatcher
        .on(&SPOILT, "work", On::new(), |_, _| Ok(()))
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        dispatcher.emit(&JOBS, (0, 0)).unwrap();
        begun.recv_timeout(GENEROUS).unwrap();
        times.push(start.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    let notices: Vec<Notice> = notices.try_iter().collect();
    times.sort();
    let [median, longest] = [times[10], times[19]];
    println!(
        "the median took {median:?}, the longest {longest:?}; {} notices, the first {:?}",
        notices.len(),
        notices.first()
    );
    // On a busy machine a few may take long.
    assert!(median < Duration::from_millis(500), "{median:?}");
    assert!(notices.len() <= 2, "{notices:?}");
    site.server.command(&["DEL", "{lv:spoilt}:q"]).unwrap();
}

#[test]
fn an_event_whose_record_a_hand_has_spoilt_is_handled() {
    let Some(site) = Site::start(&[], LEASE, None) else {
        return;
    };
    let dispatcher = Dispatcher::builder(&site.server.url())
        .lease(LEASE)
        .build()
        .unwrap();
    let id = dispatcher.emit(&JOBS, (0, 0)).unwrap().get();
    dispatcher.emit(&JOBS, (0, 0)).unwrap();
    for field in [format!("{id:011x}"), format!("x{id:011x}")] {
        let words = ["HSET", "{lv:jobs}:f", &field, "a hand"];
        site.server.command(&words).unwrap();
    }
    for words in [
        ["ZADD", "{lv:jobs}:q", "1", "nonsense"],
        ["HSET", "{lv:jobs}:p", "nonsense", "no event"],
    ] {
        site.server.command(&words).unwrap();
    }
    let (begin, begun) = mpsc::channel();
    dispatcher
        .on(&JOBS, "work", On::new(), move |context, _| {
            Ok(begin.send(context.id())?)
        })
        .unwrap();
    for _ in 0..2 {
        begun.recv_timeout(Duration::from_secs(3)).unwrap();
    }
}
