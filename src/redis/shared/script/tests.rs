//! The scripts on a real server against a naive model: random operations with injected time, same replies, same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::redis::link::{Endpoint, Link, cmd};
use crate::redis::redis_server::{RedisServer, for_test};
use crate::redis::three_nodes;

/// The time that is added to an outage for the others to connect again, as `watch_time.lua` has it.
const RECONNECT: u64 = 3_000_000;

/// The settings of the tests, us.
const SETTINGS: Settings = Settings {
    shards: 1,
    timeout: 1_000,
    outage: 400,
};

/// A time of the clock, us.
const BASE: u64 = 1_764_000_000_000_000;

/// The lease of the tests, us.
const LEASE: u64 = 700;

/// Scripts whose clock is the last argument.
fn scripts() -> &'static Scripts {
    let edit = |text: &str| {
        let lines = text.lines().map(|line| {
            if line.ends_with("-- CLOCK") {
                "local clock = tonumber(table.remove(ARGV))"
            } else {
                line
            }
        });
        let edited: Vec<&str> = lines.collect();
        assert_ne!(edited, text.lines().collect::<Vec<_>>());
        edited.join("\n") + "\n"
    };
    Box::leak(Box::new(Scripts::new(edit)))
}

/// Makes `call` at the time `clock`, us.
fn make(link: &mut Link, mut call: Call, clock: u64) -> Result<Value, LinkError> {
    call.command.arg(clock);
    link.run(call.script, &call.command)
}

/// A shard as one would write it down without care for speed.
#[derive(Debug, Default)]
struct Model {
    skew: i64,
    last: Option<u64>,
    watched: BTreeMap<Vec<u8>, (u64, u64)>,
    pending: BTreeMap<Vec<u8>, u64>,
    fence: u64,
    counts: SharedCounts,
}

impl Model {
    /// The time of the deadlines at `clock`, and by how much they were moved.
    fn time(&mut self, clock: u64) -> (u64, u64) {
        let last = self.last.replace(clock).unwrap_or(clock);
        let mut moved = 0;
        if clock < last {
            self.skew -= (last - clock).cast_signed();
        } else if clock - last > SETTINGS.outage {
            moved = clock - last + RECONNECT;
            self.skew += moved.cast_signed();
            self.counts.outages += 1;
        }
        ((clock.cast_signed() - self.skew).cast_unsigned(), moved)
    }

    fn beat(&mut self, now: u64, timeout: u64, keys: &[Vec<u8>]) -> u64 {
        let timeout = if timeout == 0 {
            SETTINGS.timeout
        } else {
            timeout
        };
        let mut started = 0;
        for key in keys {
            let entry = (now + timeout, timeout);
            started += u64::from(self.watched.insert(key.clone(), entry).is_none());
        }
        self.counts.started += started;
        started
    }

    fn remove(&mut self, keys: &[Vec<u8>]) -> u64 {
        let removed = keys
            .iter()
            .filter(|key| self.watched.remove(*key).is_some());
        let removed = removed.count() as u64;
        self.counts.removed += removed;
        removed
    }

    fn look(&mut self, clock: u64, now: u64, want: usize, held: Held<'_>) -> (u64, Vec<Vec<u8>>) {
        let mut delivered = 0;
        for report in held.delivered {
            delivered += u64::from(self.pending.remove(report.text()).is_some());
        }
        self.counts.delivered += delivered;
        let ends = [(held.kept, now + LEASE), (held.returned, now)];
        for (reports, end) in ends {
            for report in reports {
                if let Some(lease) = self.pending.get_mut(report.text()) {
                    *lease = end;
                }
            }
        }
        let mut lapsed: Vec<(u64, Vec<u8>)> = self
            .pending
            .iter()
            .map(|(text, lease)| (*lease, text.clone()))
            .collect();
        lapsed.retain(|(lease, _)| *lease <= now);
        lapsed.sort();
        lapsed.truncate(want);
        let mut due: Vec<(u64, Vec<u8>, u64)> = self
            .watched
            .iter()
            .map(|(key, (deadline, timeout))| (*deadline, key.clone(), *timeout))
            .collect();
        due.retain(|(deadline, ..)| *deadline <= now);
        due.sort();
        due.truncate(want - lapsed.len());
        if lapsed.is_empty() && due.is_empty() {
            return (delivered, Vec::new());
        }
        self.fence = clock.max(self.fence + 1);
        let mut reports = Vec::new();
        for (_, text) in &lapsed {
            self.pending.remove(text);
            let report = Report::new(text.clone(), 0).unwrap();
            let attempt = report.expired(Duration::ZERO).attempt;
            let rest = text.splitn(3, |byte| *byte == b':').nth(2).unwrap();
            reports.push([format!("{}:{}:", self.fence, attempt + 1).as_bytes(), rest].concat());
        }
        self.counts.redelivered += lapsed.len() as u64;
        for (deadline, key, timeout) in &due {
            self.watched.remove(key);
            let head = format!("{}:1:{deadline}:{timeout}:", self.fence);
            reports.push([head.as_bytes(), key].concat());
        }
        for report in &reports {
            self.pending.insert(report.clone(), now + LEASE);
        }
        (delivered, reports)
    }

    fn wait(&self, now: u64) -> Option<u64> {
        let deadlines = self.watched.values().map(|(deadline, _)| *deadline);
        let first = deadlines.chain(self.pending.values().copied()).min()?;
        Some(first.saturating_sub(now))
    }

    fn counts(&self, now: u64) -> SharedCounts {
        let overdue = self
            .watched
            .values()
            .filter(|(deadline, _)| *deadline <= now);
        SharedCounts {
            watched: self.watched.len() as u64,
            overdue: overdue.count() as u64,
            pending: self.pending.len() as u64,
            ..self.counts
        }
    }

    /// Checks that the sorted sets and the hash of the server hold the same.
    fn compare(&self, link: &mut Link, calls: &Calls) {
        let [_, b, o, x] = calls.layout.keys(0);
        let mut all = |command: &str, key: &str| {
            let mut call = cmd(command);
            call.arg(key);
            if command == "ZRANGE" {
                call.arg(0).arg(-1).arg("WITHSCORES");
            }
            let mut reply = Reply::new(link.query(&call).unwrap()).unwrap();
            let mut found = BTreeMap::new();
            while reply.len() > 0 {
                found.insert(reply.bytes().unwrap().unwrap(), reply.number().unwrap());
            }
            found
        };
        let deadlines = self
            .watched
            .iter()
            .map(|(key, (deadline, _))| (key.clone(), *deadline));
        assert_eq!(all("ZRANGE", b), deadlines.collect());
        let others = self
            .watched
            .iter()
            .filter(|(_, (_, timeout))| *timeout != SETTINGS.timeout);
        let others = others.map(|(key, (_, timeout))| (key.clone(), *timeout));
        assert_eq!(all("HGETALL", o), others.collect());
        assert_eq!(all("ZRANGE", x), self.pending);
    }
}

/// Opens a connection to the server.
fn open(server: &RedisServer) -> Link {
    let wait = Duration::from_secs(5);
    Endpoint::new(&server.url(), wait, wait)
        .unwrap()
        .connect()
        .unwrap()
}

/// A keeper: the reports that it believes to hold.
type Keeper = Vec<Report>;

/// Takes a random part of the reports.
fn part(random: &mut fastrand::Rng, keeper: &mut Keeper) -> Vec<Report> {
    let (some, rest) = keeper.drain(..).partition(|_| random.u8(..3) == 0);
    *keeper = rest;
    some
}

/// The scripts and the model side by side.
struct Pair {
    link: Link,
    calls: Calls,
    model: Model,
    keepers: [Keeper; 3],
    random: fastrand::Rng,
    clock: u64,
    names: Vec<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
}

impl Pair {
    fn make(&mut self, call: Call) -> Value {
        make(&mut self.link, call, self.clock).unwrap()
    }

    /// Runs random operations on an empty shard, and returns the account at the end.
    fn run(server: &RedisServer, steps: u64) -> SharedCounts {
        let seed = std::env::var("LIVENESS_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        println!("LIVENESS_SEED={seed}");
        let names = [
            &b"a"[..],
            b"b",
            b"",
            b"c:d",
            b"\0\xff\n",
            b"%d",
            b"1",
            b"10",
            b"{x}",
        ];
        let mut pair = Pair {
            link: open(server),
            calls: Calls::with("model", SETTINGS, scripts()),
            model: Model::default(),
            keepers: Default::default(),
            random: fastrand::Rng::with_seed(seed),
            clock: BASE,
            names: names.map(<[u8]>::to_vec).to_vec(),
            seen: BTreeSet::new(),
        };
        for step in 0..steps {
            pair.step();
            if step % 50 == 0 {
                pair.model.compare(&mut pair.link, &pair.calls);
            }
        }
        pair.model.compare(&mut pair.link, &pair.calls);
        pair.model.counts
    }

    /// One random operation on both.
    fn step(&mut self) {
        self.clock = match self.random.u16(..1_000) {
            0..5 => self.clock + self.random.u64(400..10_000_000),
            5 => self.clock - self.random.u64(1..5_000),
            6..500 => self.clock + self.random.u64(..20),
            _ => self.clock + self.random.u64(..300),
        };
        let (now, moved) = self.model.time(self.clock);
        let count = self.random.usize(1..4);
        let keys: Vec<Vec<u8>> =
            std::iter::repeat_with(|| self.random.choice(&self.names).unwrap().clone())
                .take(count)
                .collect();
        let moved_i = moved.cast_signed();
        match self.random.u8(..10) {
            0..4 => {
                let timeout = *self.random.choice(&[0, 0, 1_000, 300, 5_000]).unwrap();
                let reply = self.make(self.calls.beat(0, timeout, &keys));
                let started = self.model.beat(now, timeout, &keys);
                assert_eq!(numbers(reply).unwrap(), [moved_i, started.cast_signed()]);
            }
            4 => {
                let reply = self.make(self.calls.remove(0, &keys));
                let removed = self.model.remove(&keys);
                assert_eq!(numbers(reply).unwrap(), [moved_i, removed.cast_signed()]);
            }
            5 => {
                let reply = self.make(self.calls.status(0, &keys[0]));
                let watched = self.model.watched.get(&keys[0]);
                let status = watched.map_or([moved_i, 0, 0, 0], |(deadline, timeout)| {
                    let rest = deadline.cast_signed() - now.cast_signed();
                    [moved_i, 1, timeout.cast_signed(), rest]
                });
                assert_eq!(numbers(reply).unwrap(), status);
            }
            6 => {
                let reply = self.make(self.calls.counts(0));
                let counts = self.model.counts(now);
                assert!(counts.is_balanced(), "{counts:?}");
                assert_eq!(counted(reply).unwrap(), (moved_i, counts));
            }
            _ => self.look(now, moved),
        }
    }

    /// One of the keepers looks.
    fn look(&mut self, now: u64, moved: u64) {
        let at = self.random.usize(..3);
        let mut keeper = std::mem::take(&mut self.keepers[at]);
        let delivered = part(&mut self.random, &mut keeper);
        let returned = part(&mut self.random, &mut keeper);
        // A keeper that crashed has forgotten what it held.
        drop(part(&mut self.random, &mut keeper));
        let kept = if self.random.bool() {
            keeper.clone()
        } else {
            Vec::new()
        };
        let held = Held {
            delivered: &delivered,
            kept: &kept,
            returned: &returned,
        };
        let want = self.random.usize(..4);
        let looked = looked(self.make(self.calls.look(0, LEASE, want, held))).unwrap();
        let (delivered, reports) = self.model.look(self.clock, now, want, held);
        let texts: Vec<&[u8]> = looked.reports.iter().map(Report::text).collect();
        assert_eq!(texts, reports);
        assert_eq!((looked.moved, looked.delivered), (moved, delivered));
        assert_eq!(
            (looked.wait, looked.outage),
            (self.model.wait(now), SETTINGS.outage)
        );
        for report in &looked.reports {
            assert!(
                self.seen.insert(report.text().to_vec()),
                "handed out twice with one fence"
            );
        }
        keeper.extend(looked.reports);
        self.keepers[at] = keeper;
    }
}

/// 4,000 random operations, or 100,000 for each round of the environment variable `LIVENESS_WATCH_ROUNDS`.
#[test]
fn the_scripts_do_what_the_model_does() {
    let Some(server) = for_test(&[]) else { return };
    let steps = std::env::var("LIVENESS_WATCH_ROUNDS").map_or(4_000, |rounds| {
        rounds
            .parse::<u64>()
            .expect("LIVENESS_WATCH_ROUNDS is a number")
            * 100_000
    });
    let counts = Pair::run(&server, steps);
    println!("{counts}");
    assert!(counts.delivered > 0 && counts.redelivered > 0 && counts.outages > 0);
}

#[test]
fn shards_are_on_all_nodes_of_a_cluster_and_each_on_one() {
    let Some(nodes) = three_nodes::nodes() else {
        return;
    };
    let mut link = three_nodes::connect(&nodes);
    let settings = Settings {
        shards: 16,
        ..SETTINGS
    };
    let calls = Calls::with("spread", settings, scripts());
    let mut at = |call, clock| make(&mut link, call, clock).unwrap();
    for shard in 0..settings.shards {
        at(calls.open(shard, false), BASE);
        at(calls.beat(shard, 0, &["a", "b"]), BASE);
        at(calls.beat(shard, 5_000, &["c", "d"]), BASE);
        assert_eq!(
            numbers(at(calls.remove(shard, &["d"]), BASE)).unwrap(),
            [0, 1]
        );
        let [_, is_watched, timeout, _] = numbers(at(calls.status(shard, b"c"), BASE)).unwrap();
        assert_eq!((is_watched, timeout), (1, 5_000));
        for step in 1..4 {
            at(calls.counts(shard), BASE + step * 300);
        }
        let clock = BASE + 1_000;
        let taken = looked(at(calls.look(shard, LEASE, 9, Held::default()), clock)).unwrap();
        assert_eq!(taken.reports.len(), 2);
        let (delivered, kept) = taken.reports.split_at(1);
        let held = Held {
            delivered,
            kept,
            returned: &[],
        };
        let taken = looked(at(calls.look(shard, LEASE, 9, held), clock)).unwrap();
        assert_eq!((taken.delivered, taken.reports.len()), (1, 0));
        let (_, counts) = counted(at(calls.counts(shard), clock)).unwrap();
        assert!(counts.is_balanced());
        assert_eq!((counts.watched, counts.pending, counts.started), (1, 1, 4));
    }
    let mut keys = 0;
    for (node, _) in &nodes {
        let size = node.command(&["DBSIZE"]).unwrap();
        let size: usize = size.trim().trim_start_matches(':').parse().unwrap();
        assert!(size > 0, "a node has no shard");
        keys += size;
    }
    assert_eq!(keys, settings.shards * 4);
}

#[test]
fn a_key_expires_at_its_deadline_and_not_before() {
    let Some(server) = for_test(&[]) else { return };
    let mut link = open(&server);
    let calls = Calls::with("edge", SETTINGS, scripts());
    let mut at = |call, clock| make(&mut link, call, clock).unwrap();
    let look = || calls.look(0, LEASE, 10, Held::default());
    at(calls.beat(0, 0, &["k"]), 5_000);
    // Within the limit, so that no call is an outage.
    for clock in [5_400, 5_800, 5_999] {
        let looked = looked(at(look(), clock)).unwrap();
        assert_eq!(
            (looked.reports.len(), looked.wait),
            (0, Some(6_000 - clock))
        );
    }
    let looked = looked(at(look(), 6_000)).unwrap();
    let report = looked.reports[0].expired(Duration::ZERO);
    assert_eq!(
        (report.lateness, report.silent_for()),
        (Duration::ZERO, Duration::from_millis(1))
    );
    assert_eq!(looked.wait, Some(LEASE));
}

#[test]
fn a_shard_that_nobody_can_reach_reports_nobody_for_that_time() {
    let Some(server) = for_test(&[]) else { return };
    let mut link = open(&server);
    let calls = Calls::with("outage", SETTINGS, scripts());
    let mut at = |call, clock| make(&mut link, call, clock).unwrap();
    let look = || calls.look(0, LEASE, 10, Held::default());
    at(calls.beat(0, 0, &["k"]), BASE);
    // The limit itself is no outage.
    assert_eq!(looked(at(look(), BASE + 400)).unwrap().moved, 0);
    let back = BASE + 1_000_000_000;
    let first = looked(at(look(), back)).unwrap();
    assert_eq!(first.moved, 999_999_600 + RECONNECT);
    // What was left at the last call, and the time to connect again.
    assert_eq!(
        (first.reports.len(), first.wait),
        (0, Some(600 + RECONNECT))
    );
    // Set back by an hour: nothing changes.
    let hour = 3_600_000_000;
    let second = looked(at(look(), back + hour)).unwrap();
    assert_eq!(second.wait, Some(600 + RECONNECT * 2));
    let third = looked(at(look(), back)).unwrap();
    assert_eq!((third.moved, third.wait), (0, Some(600 + RECONNECT * 2)));
}

#[test]
fn another_number_of_shards_is_refused() {
    let Some(server) = for_test(&[]) else { return };
    let mut link = open(&server);
    let calls = Calls::with("shards", SETTINGS, scripts());
    make(&mut link, calls.open(0, false), 1).unwrap();
    let settings = Settings {
        shards: 2,
        ..SETTINGS
    };
    let other = Calls::with("shards", settings, scripts());
    match make(&mut link, other.open(0, true), 2) {
        Err(LinkError::Server { code, text }) => assert_eq!((&*code, &*text), ("SHARDS", "1")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_scripts_name_no_key_but_those_that_are_declared() {
    let scripts = [
        include_str!("../../scripts/watch_time.lua"),
        include_str!("../../scripts/watch_open.lua"),
        include_str!("../../scripts/watch_beat.lua"),
        include_str!("../../scripts/watch_look.lua"),
        include_str!("../../scripts/watch_remove.lua"),
        include_str!("../../scripts/watch_status.lua"),
        include_str!("../../scripts/watch_counts.lua"),
    ];
    let mut commands = BTreeSet::new();
    for text in scripts {
        for call in text.split("redis.call(").skip(1) {
            let mut words = call.split([',', ')']).map(str::trim);
            let command = words.next().unwrap().trim_matches('\'');
            commands.insert(command);
            let key = words.next().unwrap();
            let is_declared = ["c", "b", "o", "x"].contains(&key) || key.starts_with("KEYS[");
            assert!(is_declared || command == "TIME", "{command} {key}");
        }
        for line in text.lines().filter(|line| line.contains(" = KEYS[")) {
            let (names, values) = line
                .trim()
                .trim_start_matches("local ")
                .split_once(" = ")
                .unwrap();
            for (name, value) in names.split(", ").zip(values.split(", ")) {
                let at = ["c", "b", "o", "x"]
                    .iter()
                    .position(|known| *known == name)
                    .unwrap();
                assert_eq!(value, format!("KEYS[{}]", at + 1));
            }
        }
    }
    assert_eq!(commands, BTreeSet::from(COMMANDS));
}
