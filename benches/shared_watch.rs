//! What a shared watch costs: memory and server time per key and beat, and how late it reports, on a private server
//! that shares the machine.
//!
//! ```text
//! cargo bench --features redis --bench shared_watch            # 1,000,000 keys, about two minutes
//! cargo bench --features redis --bench shared_watch -- 100000  # another number of keys
//! ```

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use liveness::redis::{SharedBuilder, SharedWatcher};

#[expect(
    dead_code,
    unreachable_pub,
    reason = "tests have this file as a module, too"
)]
#[path = "../tests/support/redis_server.rs"]
mod redis_server;

use redis_server::RedisServer;

/// The options of the server: it saves nothing, or appends to a file with an fsync each second.
const FAST: [&str; 0] = [];
const SAVED: [&str; 2] = ["--appendonly", "yes"];

/// Ticks of the processor time in `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;

/// A key such as `device-00001234`, of 15 bytes.
fn name(number: usize) -> String {
    format!("device-{number:08}")
}

/// A field of a section of `INFO`.
fn info(server: &RedisServer, section: &str, field: &str) -> String {
    let text = server
        .command(&["INFO", section])
        .expect("the server answers");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

/// The memory that the server uses, in bytes.
fn memory(server: &RedisServer) -> f64 {
    info(server, "memory", "used_memory").parse().unwrap_or(0.0)
}

/// The calls of scripts that the server has executed.
fn calls(server: &RedisServer) -> f64 {
    let stats = info(server, "commandstats", "cmdstat_evalsha");
    let calls = stats
        .split(',')
        .find_map(|part| part.strip_prefix("calls="));
    calls.and_then(|calls| calls.parse().ok()).unwrap_or(0.0)
}

/// The processor time of the server in seconds, or none where there is no `/proc`.
fn cpu(server: &RedisServer) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// A watch with a timeout that does not pass here.
fn builder(server: &RedisServer) -> SharedBuilder {
    SharedWatcher::builder(server.url(), "bench").timeout(Duration::from_secs(3_600))
}

/// Runs `body`, and prints how many of `count` things it did in a second, and the server's time for each.
fn rate(server: &RedisServer, what: &str, count: usize, body: impl FnOnce()) {
    let (before, start) = (cpu(server), Instant::now());
    body();
    let (took, used) = (start.elapsed().as_secs_f64(), cpu(server) - before);
    let (rate, each) = (count as f64 / took / 1e3, used * 1e6 / count as f64);
    println!("  {what:58} {rate:8.0} k/s  {each:6.2} us of the server each");
}

/// Memory and rates with `keys` keys.
fn many_keys(keys: usize, options: &[&str]) {
    let server = RedisServer::start_with(options).expect("a server");
    println!("{keys} keys of 15 bytes, 16 shards, server with {options:?}");
    let watch = builder(&server).build().expect("a watch");
    let empty = memory(&server);
    rate(
        &server,
        "new keys, batches of 200, one thread",
        keys,
        || {
            watch.beat_many((0..keys).map(name)).expect("beats");
        },
    );
    let used = memory(&server) - empty;
    println!("  bytes per key {:.0}", used / keys as f64);
    rate(&server, "beats, batches of 200, one thread", keys, || {
        watch.beat_many((0..keys).map(name)).expect("beats");
    });
    let part = keys / 4;
    rate(
        &server,
        "beats, batches of about 10, one thread",
        part,
        || {
            for first in (0..part).step_by(160) {
                let names = (first..(first + 160).min(part)).map(name);
                watch.beat_many(names).expect("beats");
            }
        },
    );
    rate(
        &server,
        "beats, batches of 200, two processes' worth of threads",
        keys,
        || {
            thread::scope(|scope| {
                for half in 0..2 {
                    let watch = builder(&server).build().expect("a watch");
                    scope.spawn(move || {
                        let keys = (half * keys / 2..(half + 1) * keys / 2).map(name);
                        watch.beat_many(keys).expect("beats");
                    });
                }
            });
        },
    );
    let few = keys.min(100_000);
    rate(&server, "beats, one by one, one thread", few, || {
        (0..few)
            .try_for_each(|key| watch.beat(name(key)))
            .expect("beats");
    });
    if options.is_empty() {
        let own = Duration::from_secs(7_200);
        let before = memory(&server);
        for key in 0..few {
            watch.beat_with(name(key), own).expect("a beat");
        }
        println!(
            "  bytes more per key with a timeout of its own {:.0}",
            (memory(&server) - before) / few as f64
        );
        let before = memory(&server);
        let long = SharedWatcher::builder(server.url(), "long")
            .build()
            .expect("a watch");
        let uuid = |key: usize| format!("{key:08x}-0000-4000-8000-{key:012x}");
        long.beat_many((0..keys).map(uuid)).expect("beats");
        println!(
            "  bytes per key of 36 bytes {:.0}",
            (memory(&server) - before) / keys as f64
        );
        floor(&server, keys);
    }
    gathered(&watch, keys);
}

/// A beater's beats.
fn gathered(watch: &SharedWatcher, keys: usize) {
    let beater = watch.beater(Duration::from_secs(600)).expect("a beater");
    let names: Vec<String> = (0..keys.min(100_000)).map(name).collect();
    for round in ["first", "later"] {
        let start = Instant::now();
        for name in &names {
            beater.beat(black_box(name)).expect("a beat");
        }
        let each = start.elapsed().as_nanos() as f64 / names.len() as f64;
        println!("  a beater's beat of a key, {round} in an interval {each:.0} ns");
    }
    beater.flush().expect("beats");
}

/// What the sorted sets alone cost: the same batches by `ZADD` without a script.
fn floor(server: &RedisServer, keys: usize) {
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let mut all = |score: u64| {
        for batch in 0..keys / 200 {
            let mut call = redis::cmd("ZADD");
            call.arg(format!("floor{}", batch % 16));
            for key in batch * 200..(batch + 1) * 200 {
                call.arg(score).arg(name(key));
            }
            call.exec(&mut connection).expect("ZADD");
        }
    };
    all(1);
    rate(server, "floor: ZADD of 200 known members", keys, || all(2));
}

/// Prints quantiles.
fn quantiles(what: &str, late: &mut [Duration]) {
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "  {what:44} p50 {:9.3?}  p99 {:9.3?}  max {:9.3?}",
        at(50),
        at(99),
        at(100)
    );
}

/// How late keys are reported that expire one by one, 100 in a second, beside a thread that sleeps until the same
/// times.
fn lateness() {
    const KEYS: usize = 2_000;
    const TIMEOUT: Duration = Duration::from_secs(5);
    let server = RedisServer::start_with(&SAVED).expect("a server");
    println!("lateness of {KEYS} keys, 10 ms apart, timeout 5 s, 16 shards");
    let (sender, reports) = mpsc::channel();
    let watch = builder(&server)
        .timeout(TIMEOUT)
        .on_expired(move |expired| {
            let number: usize = expired.key_text()[7..].parse().expect("a number");
            sender
                .send((number, Instant::now(), expired.lateness))
                .expect("a receiver");
        })
        .build()
        .expect("a watch");
    let (deadlines, sleeps) = mpsc::channel::<Instant>();
    let sleeper = thread::spawn(move || {
        let sleep = |deadline: Instant| {
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            deadline.elapsed()
        };
        sleeps.iter().map(sleep).collect::<Vec<Duration>>()
    });
    let mut due = Vec::new();
    for key in 0..KEYS {
        let start = Instant::now();
        watch.beat(name(key)).expect("a beat");
        due.push(start + TIMEOUT);
        deadlines.send(start + TIMEOUT).expect("a sleeper");
        thread::sleep(Duration::from_millis(10));
    }
    drop(deadlines);
    let mut seen = Vec::new();
    let mut own = Vec::new();
    for (number, at, lateness) in reports.iter().take(KEYS) {
        seen.push(at.duration_since(due[number]));
        own.push(lateness);
    }
    quantiles("from the call of the beat, less the timeout", &mut seen);
    quantiles("as the report says", &mut own);
    quantiles("a bare sleep", &mut sleeper.join().expect("a sleeper"));
}

/// How long it takes until 100,000 keys that expire at once are reported.
fn mass_expiry() {
    const KEYS: usize = 100_000;
    let server = RedisServer::start_with(&SAVED).expect("a server");
    let (sender, reports) = mpsc::channel();
    let timeout = Duration::from_secs(3);
    let watch = builder(&server)
        .timeout(timeout)
        .on_expired(move |_| sender.send(()).expect("a receiver"))
        .build()
        .expect("a watch");
    watch.beat_many((0..KEYS).map(name)).expect("beats");
    // All of them once more, so that the last beats are close together.
    let start = Instant::now();
    watch.beat_many((0..KEYS).map(name)).expect("beats");
    let beaten = start.elapsed();
    let (before, used) = (calls(&server), cpu(&server));
    reports.iter().take(KEYS).for_each(drop);
    let last = start.elapsed() - timeout;
    let (made, used) = (calls(&server) - before, cpu(&server) - used);
    println!(
        "{KEYS} keys beaten within {beaten:.3?}: the last is reported {last:.3?} after the first was due"
    );
    let rest = watch.close();
    let each = used * 1e6 / KEYS as f64;
    println!("  {made} calls, {each:.1} us of the server each; {rest}");
}

/// What one keeper calls while nothing happens.
fn idle() {
    let server = RedisServer::start_with(&SAVED).expect("a server");
    let watch = builder(&server)
        .timeout(Duration::from_secs(30))
        .on_expired(|_| ())
        .build()
        .expect("a watch");
    watch.beat(name(1)).expect("a beat");
    let (before, used) = (calls(&server), cpu(&server));
    let length = Duration::from_secs(10);
    thread::sleep(length);
    let (made, used) = (calls(&server) - before, cpu(&server) - used);
    println!(
        "one idle keeper, timeout 30 s, 16 shards: {:.1} calls a second, {:.2} % of a core with the server's own work",
        made / length.as_secs_f64(),
        used / length.as_secs_f64() * 100.0
    );
}

fn main() {
    if redis_server::program().is_none() {
        eprintln!("SKIPPED: {}", redis_server::INSTALL);
        return;
    }
    let keys = std::env::args().find_map(|argument| argument.parse().ok());
    let keys = keys.unwrap_or(1_000_000);
    many_keys(keys, &FAST);
    many_keys(keys, &SAVED);
    lateness();
    mass_expiry();
    idle();
}
