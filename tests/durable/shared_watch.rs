//! A shared watch while nothing goes wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use liveness::redis::{BuildError, Expired, SharedBuilder, SharedWatcher, WatchError};

use crate::redis_server::{RedisServer, for_test};

/// Long enough for any machine to do anything that is done at once.
pub(crate) const GENEROUS: Duration = Duration::from_secs(20);

/// The timeout of most watches here. The time of an outage is 500 ms, so a machine that is busy for that long only
/// makes reports late.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Milliseconds.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The options of a watch with few shards.
pub(crate) fn builder(server: &RedisServer) -> SharedBuilder {
    SharedWatcher::builder(server.url(), "test")
        .timeout(TIMEOUT)
        .shards(4)
}

/// A watcher, and what its callback gets.
pub(crate) fn keeper(builder: SharedBuilder) -> (SharedWatcher, Receiver<(Expired, Instant)>) {
    let (sender, reports) = unbounded();
    let callback = move |expired| sender.send((expired, Instant::now())).unwrap();
    (builder.on_expired(callback).build().unwrap(), reports)
}

#[test]
fn a_silent_key_is_reported_once_and_not_early() {
    let Some(server) = for_test(&[]) else { return };
    let (watch, reports) = keeper(builder(&server));
    let start = Instant::now();
    watch.beat("a").unwrap();
    watch.beat("b").unwrap();
    while start.elapsed() < TIMEOUT * 2 {
        thread::sleep(ms(50));
        watch.beat("b").unwrap();
    }
    let (expired, at) = reports.recv_timeout(GENEROUS).unwrap();
    assert_eq!((&*expired.key, &*expired.key_text()), (&b"a"[..], "a"));
    assert!(at - start >= TIMEOUT, "{:?}", at - start);
    assert_eq!((expired.timeout, expired.attempt), (TIMEOUT, 1));
    assert_eq!(expired.silent_for(), TIMEOUT + expired.lateness);
    assert!(reports.is_empty());
    // It is watched again from its next beat.
    assert_eq!(watch.status("a").unwrap(), None);
    watch.beat("a").unwrap();
    let first = expired.fence;
    let mut again = BTreeMap::new();
    for _ in 0..2 {
        let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
        again.insert(expired.key, expired.fence);
    }
    assert!(again[&b"a"[..]] > first && again.contains_key(&b"b"[..]));
    let stats = watch.close();
    assert_eq!(
        (stats.delivered, stats.panics, stats.stale, stats.returned),
        (3, 0, 0, 0)
    );
    assert_eq!(stats.lateness.count(), 3);
    let counts = builder(&server).build().unwrap().counts().unwrap();
    assert!(counts.is_balanced());
    assert_eq!(
        (counts.started, counts.delivered, counts.watched),
        (3, 3, 0)
    );
}

#[test]
fn keys_have_timeouts_of_their_own_and_can_be_removed() {
    let Some(server) = for_test(&[]) else { return };
    let watch = builder(&server).build().unwrap();
    let hour = Duration::from_secs(3_600);
    watch.beat_with("long", hour).unwrap();
    watch.beat("usual").unwrap();
    let status = watch.status("long").unwrap().unwrap();
    assert_eq!(status.timeout, hour);
    assert!(status.remaining > hour - GENEROUS && status.remaining <= hour);
    assert_eq!(watch.status("usual").unwrap().unwrap().timeout, TIMEOUT);
    // The last beat decides.
    watch.beat("long").unwrap();
    assert_eq!(watch.status("long").unwrap().unwrap().timeout, TIMEOUT);
    watch.beat_with("usual", hour).unwrap();
    assert!(watch.remove("usual").unwrap());
    assert!(!watch.remove("usual").unwrap());
    watch
        .beat_many((0..1_000).map(|number| format!("{number}")))
        .unwrap();
    assert_eq!(watch.counts().unwrap().watched, 1_001);
    let removed = watch.remove_many((500..2_000).map(|number| format!("{number}")));
    assert_eq!(removed.unwrap(), 500);
    let counts = watch.counts().unwrap();
    assert!(counts.is_balanced());
    assert_eq!(
        (counts.started, counts.watched, counts.removed),
        (1_002, 501, 501)
    );
    assert_eq!(watch.stats().beats, 1_004);
}

#[test]
fn arguments_are_checked() {
    let Some(server) = for_test(&[]) else { return };
    let watch = builder(&server).build().unwrap();
    let long = watch.beat(vec![0; 1_025]).unwrap_err();
    assert_eq!(long, WatchError::KeyTooLong { len: 1_025 });
    watch.beat(vec![0; 1_024]).unwrap();
    watch.beat("").unwrap();
    watch.beat(b"\0\xff\n").unwrap();
    assert!(watch.status(b"\0\xff\n").unwrap().is_some());
    let short = watch.beat_with("key", ms(1)).unwrap_err();
    assert_eq!(
        short.to_string(),
        "`timeout` must be from 10 ms to 100 years"
    );
    let error = watch.beater(TIMEOUT).unwrap_err().to_string();
    assert_eq!(
        error,
        "`interval` must be from 10 ms to half of the timeout"
    );
    let message = |builder: SharedBuilder| builder.build().unwrap_err().to_string();
    let other = |name: &str| SharedWatcher::builder(server.url(), name);
    assert!(message(other("two words")).starts_with("`name` must be valid: "));
    assert!(message(other("a#1")).starts_with("`name` must be valid: "));
    let short = other("x").outage_after(ms(10));
    assert_eq!(
        message(short),
        "`outage_after` must be from 20 ms to the timeout"
    );
    assert_eq!(
        message(other("x").lease(ms(99))),
        "`lease` must be at least 100 ms"
    );
    let url = SharedWatcher::builder("http://host", "x");
    assert!(message(url).starts_with("the URL cannot be read"));
}

#[test]
fn all_processes_have_the_same_settings() {
    let Some(server) = for_test(&[]) else { return };
    let (watch, reports) = keeper(builder(&server));
    let message = |builder: SharedBuilder| match builder.build() {
        Err(BuildError::Option(error)) => (error.option(), error.to_string()),
        other => panic!("{other:?}"),
    };
    let (option, text) = message(builder(&server).shards(5));
    assert_eq!(option, "shards");
    assert_eq!(text, "`shards` must be 4, as it is stored with the watch");
    let (option, text) = message(builder(&server).timeout(TIMEOUT * 2));
    assert_eq!(option, "timeout");
    assert_eq!(
        text,
        "`timeout` must be 1s, as it is stored with the watch; or set `replace_settings`"
    );
    let (option, _) = message(builder(&server).outage_after(TIMEOUT));
    assert_eq!(option, "outage_after");
    let other = builder(&server)
        .timeout(ms(600))
        .replace_settings(true)
        .build()
        .unwrap();
    // Those that run follow.
    watch.beat("key").unwrap();
    let (expired, _) = reports.recv_timeout(GENEROUS).unwrap();
    assert_eq!(expired.timeout, ms(600));
    assert!(other.counts().unwrap().is_balanced());
}

#[test]
fn keepers_share_the_reports() {
    const KEYS: usize = 3_000;
    let Some(server) = for_test(&[]) else { return };
    let (sender, reports) = unbounded();
    let keepers: Vec<SharedWatcher> = (0..3)
        .map(|keeper| {
            let sender = sender.clone();
            // Slow enough that one alone would need a second.
            let callback = move |expired: Expired| {
                thread::sleep(Duration::from_micros(300));
                sender.send((keeper, expired)).unwrap();
            };
            builder(&server).on_expired(callback).build().unwrap()
        })
        .collect();
    keepers[0]
        .beat_many((0..KEYS).map(|number| format!("{number}")))
        .unwrap();
    let mut shares = [0; 3];
    let mut keys = BTreeMap::new();
    for _ in 0..KEYS {
        let (keeper, expired) = reports.recv_timeout(GENEROUS).unwrap();
        let again = keys.insert(expired.key, keeper);
        assert_eq!((again, expired.attempt), (None, 1));
        shares[keeper] += 1;
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    for keeper in &keepers {
        assert_eq!(keeper.close().stale, 0);
    }
    assert!(reports.is_empty());
    let counts = builder(&server).build().unwrap().counts().unwrap();
    assert!(counts.is_balanced(), "{counts}");
    assert_eq!((counts.delivered, counts.redelivered), (KEYS as u64, 0));
}

#[test]
fn a_slow_callback_keeps_its_reports() {
    let Some(server) = for_test(&[]) else { return };
    let lease = ms(1_500);
    let attempts: Arc<Mutex<Vec<u64>>> = Arc::default();
    let keepers = [0, 1].map(|_| {
        let attempts = attempts.clone();
        let callback = move |expired: Expired| {
            attempts.lock().unwrap().push(expired.attempt);
            thread::sleep(lease * 3);
        };
        let builder = builder(&server).lease(lease).on_expired(callback);
        builder.build().unwrap()
    });
    keepers[0].beat_many(["a", "b"]).unwrap();
    let start = Instant::now();
    while keepers[0].counts().unwrap().delivered < 2 {
        assert!(start.elapsed() < GENEROUS);
        thread::sleep(ms(20));
    }
    let stale: u64 = keepers.iter().map(|keeper| keeper.close().stale).sum();
    assert_eq!((&**attempts.lock().unwrap(), stale), (&[1, 1][..], 0));
}

#[test]
fn a_beater_sends_each_key_once_in_an_interval() {
    let Some(server) = for_test(&[]) else { return };
    let watch = builder(&server)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let interval = ms(200);
    let beater = watch.beater(interval).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while start.elapsed() < ms(1_000) {
                    for key in 0..50 {
                        beater.beat(format!("key-{key}")).unwrap();
                    }
                    beater.beat_with("long", Duration::from_secs(60)).unwrap();
                }
            });
        }
    });
    let rounds = start.elapsed().as_millis().div_ceil(interval.as_millis()) as u64 + 1;
    beater.flush().unwrap();
    let stats = beater.stats();
    assert!(stats.beats > 51 * 20, "{stats}");
    assert!(
        stats.sent >= 51 && stats.sent <= 51 * (rounds + 1),
        "{stats}"
    );
    assert_eq!(
        (stats.pending, stats.failed_calls, stats.refused),
        (0, 0, 0)
    );
    assert_eq!(watch.counts().unwrap().watched, 51);
    let long = watch.status("long").unwrap().unwrap();
    assert_eq!(long.timeout, Duration::from_secs(60));
    // What waits is sent at the end, and nothing is accepted later.
    beater.beat("last").unwrap();
    assert_eq!(beater.close().pending, 0);
    assert_eq!(beater.beat("later"), Err(WatchError::Closed));
    assert!(watch.status("last").unwrap().is_some());
}

#[test]
fn idle_keepers_call_little() {
    let Some(server) = for_test(&[]) else { return };
    let (watch, _reports) = keeper(builder(&server).timeout(Duration::from_secs(30)));
    watch.beat("key").unwrap();
    let calls = || {
        let info = server.command(&["INFO", "commandstats"]).unwrap();
        let line = info
            .lines()
            .find(|line| line.starts_with("cmdstat_evalsha:"))
            .unwrap();
        let count = line
            .split("calls=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        count.parse::<u32>().unwrap()
    };
    let before = calls();
    thread::sleep(Duration::from_secs(5));
    // Four shards, each 2.5 s.
    let made = calls() - before;
    assert!((4..=12).contains(&made), "{made} calls in 5 s");
}

#[test]
fn the_documented_permissions_are_enough() {
    let Some(server) = for_test(&[]) else { return };
    let allowed = "ACL SETUSER watcher reset on >secret ~{lv:* +info +ping +evalsha +eval +time +exists +hget +hmget \
                   +hset +hdel +hincrby +zadd +zcard +zcount +zrange +zrem +zremrangebyrank +zscore";
    let words: Vec<&str> = allowed.split_whitespace().collect();
    assert_eq!(server.command(&words).unwrap(), "+OK\r\n");
    let url = format!("{}?user=watcher&pass=secret", server.url());
    let (watch, reports) = keeper(
        SharedWatcher::builder(url, "acl")
            .timeout(TIMEOUT)
            .shards(2),
    );
    watch.beat_many(["a", "b", "c"]).unwrap();
    watch.beat_with("d", ms(500)).unwrap();
    watch.remove("a").unwrap();
    watch.status("b").unwrap();
    for _ in 0..3 {
        reports.recv_timeout(GENEROUS).unwrap();
    }
    let stats = watch.close();
    assert_eq!((stats.failed_calls, stats.delivered), (0, 3));
}
