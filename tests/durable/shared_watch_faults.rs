//! A shared watch while something goes wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use liveness::redis::{Expired, SharedWatcher, WatchError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::redis_server::{RedisServer, for_test};
use crate::shared_watch::{GENEROUS, TIMEOUT, builder, keeper, ms};

/// The options of a server that saves each write before it answers.
const STRICT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Sends a signal to the server.
fn signal(server: &RedisServer, signal: Signal) {
    kill(Pid::from_raw(server.pid().cast_signed()), signal).unwrap();
}

#[test]
fn a_report_whose_callback_panics_is_handed_out_again() {
    let Some(server) = for_test(&[]) else { return };
    let (sender, reports) = unbounded();
    let callback = move |expired: Expired| {
        sender.send(expired.clone()).unwrap();
        if expired.attempt < 3 {
            std::panic::resume_unwind(Box::new("for the test"));
        }
    };
    let watch = builder(&server)
        .lease(ms(200))
        .on_expired(callback)
        .build()
        .unwrap();
    watch.beat("key").unwrap();
    let mut last = 0;
    for attempt in 1..=3 {
        let expired = reports.recv_timeout(GENEROUS).unwrap();
        assert_eq!(expired.attempt, attempt);
        assert!(expired.fence > last);
        last = expired.fence;
    }
    let stats = watch.close();
    assert_eq!((stats.panics, stats.delivered, stats.taken), (2, 1, 3));
    let counts = builder(&server).build().unwrap().counts().unwrap();
    assert!(counts.is_balanced());
    assert_eq!(
        (counts.delivered, counts.redelivered, counts.pending),
        (1, 2, 0)
    );
}

#[test]
fn a_keeper_that_is_closed_gives_its_reports_back() {
    let Some(server) = for_test(&[]) else { return };
    let (busy, is_busy) = bounded(1);
    let (gate, opened) = bounded::<()>(0);
    let callback = move |_| {
        let _ = busy.try_send(());
        let _ = opened.recv();
    };
    let first = builder(&server)
        .lease(GENEROUS * 10)
        .on_expired(callback)
        .build()
        .unwrap();
    first
        .beat_many((0..100).map(|key| format!("{key}")))
        .unwrap();
    is_busy.recv_timeout(GENEROUS).unwrap();
    // The callback does not return.
    let error = first.close_timeout(ms(100)).unwrap_err();
    assert_eq!(error.threads, ["watch-expired", "watch-keeper"]);
    assert_eq!(first.beat("key"), Err(WatchError::Closed));
    assert_eq!(first.counts(), Err(WatchError::Closed));
    let (second, reports) = keeper(builder(&server));
    drop(gate);
    let stats = first.close_timeout(GENEROUS).unwrap();
    assert_eq!(stats.delivered, 1);
    let start = Instant::now();
    for _ in 0..99 {
        reports.recv_timeout(GENEROUS).unwrap();
    }
    assert!(
        start.elapsed() < GENEROUS / 2,
        "not at the end of the lease"
    );
    second.close();
    assert!(reports.is_empty());
    assert!(stats.returned > 0);
}

#[test]
fn the_callback_may_close_and_drop_the_watcher() {
    let Some(server) = for_test(&[]) else { return };
    let shared: Arc<Mutex<Option<SharedWatcher>>> = Arc::default();
    let (done, is_done) = bounded(1);
    let own = shared.clone();
    let callback = move |_| {
        if let Some(watch) = own.lock().unwrap().take() {
            watch.close();
            drop(watch);
            done.send(()).unwrap();
        }
    };
    let watch = builder(&server).on_expired(callback).build().unwrap();
    let mut place = shared.lock().unwrap();
    watch.beat("key").unwrap();
    *place = Some(watch);
    drop(place);
    is_done.recv_timeout(GENEROUS).unwrap();
    // The report was delivered although the watcher is gone.
    let other = builder(&server).build().unwrap();
    let start = Instant::now();
    while other.counts().unwrap().delivered == 0 {
        assert!(start.elapsed() < GENEROUS);
        thread::sleep(ms(10));
    }
}

/// Beats keys `live-0` to `live-99`, each fifth of the timeout, while `body` runs. Each is reported only if its beats
/// could arrive and did not come.
fn while_beating(watch: &SharedWatcher, body: impl FnOnce()) {
    /// Ends the beats, also when an assertion fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Fails while there is no server.
                let _ = watch.beat_many((0..100).map(|key| format!("live-{key}")));
                thread::sleep(TIMEOUT / 5);
            }
        });
        body();
    });
}

#[test]
fn nobody_is_reported_for_a_stopped_server() {
    let Some(server) = for_test(&[]) else { return };
    let (watch, reports) = keeper(
        builder(&server)
            .response_timeout(ms(1_000))
            .lease(ms(2_000)),
    );
    while_beating(&watch, || {
        thread::sleep(TIMEOUT / 2);
        watch.beat("dead").unwrap();
        signal(&server, Signal::SIGSTOP);
        thread::sleep(TIMEOUT * 3);
        signal(&server, Signal::SIGCONT);
        let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
        assert_eq!(expired.key_text(), "dead");
        // Silent as the shard has seen it: not while the server was stopped.
        assert!(
            expired.silent_for() < TIMEOUT * 3,
            "{:?}",
            expired.silent_for()
        );
        assert!(reports.is_empty());
    });
    assert!(watch.stats().outages > 0);
    for _ in 0..100 {
        let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
        assert!(expired.key_text().starts_with("live"));
    }
    let counts = watch.counts().unwrap();
    assert!(counts.is_balanced());
    assert_eq!(counts.started, 101);
}

#[test]
fn nobody_is_reported_for_a_server_that_was_restarted() {
    let Some(mut server) = for_test(&STRICT) else {
        return;
    };
    let (watch, reports) = keeper(builder(&server));
    let beater = watch.beater(TIMEOUT / 5).unwrap();
    beater.beat("gathered").unwrap();
    beater.flush().unwrap();
    while_beating(&watch, || thread::sleep(TIMEOUT / 2));
    watch.beat("dead").unwrap();
    server.kill();
    let gather = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            beater.beat("gathered").unwrap();
            thread::sleep(ms(50));
        }
    };
    gather(TIMEOUT * 2);
    // Calls fail at once once it is known.
    let start = Instant::now();
    let errors =
        (0..100).filter(|_| matches!(watch.beat("x"), Err(WatchError::Unreachable { .. })));
    assert!(errors.count() >= 99);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    // The scripts are gone, too. The keeper is back before those beats are that are not gathered.
    server.restart().unwrap();
    gather(ms(1_500));
    assert_eq!(reports.try_recv().ok(), None);
    while_beating(&watch, || {
        let start = Instant::now();
        while reports.is_empty() {
            assert!(start.elapsed() < GENEROUS);
            gather(ms(50));
        }
        let (expired, _) = reports.recv().unwrap();
        assert_eq!(expired.key_text(), "dead");
        assert!(reports.is_empty());
    });
    let stats = beater.close();
    assert!(stats.failed_calls > 0 && stats.pending == 0, "{stats}");
    assert!(watch.stats().failed_calls > 0);
    assert!(watch.counts().unwrap().is_balanced());
}

#[test]
fn a_watch_that_was_deleted_begins_anew() {
    let Some(server) = for_test(&[]) else { return };
    let (watch, reports) = keeper(builder(&server));
    watch
        .beat_many((0..50).map(|key| format!("{key}")))
        .unwrap();
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    watch.beat("key").unwrap();
    let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
    assert_eq!(
        (expired.key_text(), expired.timeout),
        ("key".into(), TIMEOUT)
    );
    watch.close();
    assert!(reports.is_empty());
    // A number of shards that is not the stored one is refused whenever it is met.
    let watch = builder(&server).build().unwrap();
    server.command(&["FLUSHALL"]).unwrap();
    let other = builder(&server).shards(2).build().unwrap();
    other
        .beat_many(["a", "b", "c", "d", "e", "f", "g", "h"])
        .unwrap();
    let errors = ["a", "b", "c", "d"].map(|key| watch.beat(key));
    assert!(
        errors.contains(&Err(WatchError::Shards {
            stored: "2".to_owned()
        })),
        "{errors:?}"
    );
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    let Some(server) = for_test(&[]) else { return };
    let timeout = Duration::from_secs(5);
    let (watch, reports) = keeper(builder(&server).timeout(timeout).shards(1));
    watch.beat("key").unwrap();
    let start = Instant::now();
    let hour = 3_600_000_000i64;
    // The clock of the server cannot be set here. What is stored can: the time of the last call by this clock, and how
    // far the time of the deadlines is behind it. An hour more of both is a clock that was set back.
    for (by, most) in [(hour, timeout), (-hour, timeout + ms(3_500))] {
        let stored = ["HMGET", "{lv:test#0}:c", "last", "skew"];
        let reply = server.command(&stored).unwrap();
        let numbers = reply.lines().filter_map(|line| line.parse::<i64>().ok());
        let moved: Vec<String> = numbers.map(|it| (it + by).to_string()).collect();
        let [last, skew] = &*moved else {
            panic!("{reply}");
        };
        let set = ["HSET", "{lv:test#0}:c", "last", last, "skew", skew];
        server.command(&set).unwrap();
        let status = watch.status("key").unwrap().expect("not reported");
        let least = timeout.saturating_sub(start.elapsed());
        assert!(
            status.remaining >= least && status.remaining <= most,
            "{status:?}"
        );
    }
    let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
    assert_eq!(expired.key_text(), "key");
    assert!(start.elapsed() >= timeout);
}

#[test]
fn a_refused_call_is_an_error_and_a_keeper_recovers() {
    let Some(server) = for_test(&[]) else { return };
    let user = |rules: &str| {
        let line = format!("ACL SETUSER worker reset on >secret ~{{lv:* {rules}");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(server.command(&words).unwrap(), "+OK\r\n");
    };
    user("+@all");
    let url = format!("{}?user=worker&pass=secret", server.url());
    let (watch, reports) = keeper(
        SharedWatcher::builder(url, "acl")
            .timeout(TIMEOUT)
            .shards(1),
    );
    watch.beat("key").unwrap();
    user("+@all -zadd");
    let error = watch.beat("other").unwrap_err();
    assert!(matches!(error, WatchError::Refused { .. }), "{error}");
    thread::sleep(TIMEOUT * 2);
    assert!(reports.is_empty());
    user("+@all");
    let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
    assert_eq!(expired.key_text(), "key");
    assert!(watch.counts().unwrap().is_balanced());
}
