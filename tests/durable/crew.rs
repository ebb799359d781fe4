//! Producers and workers as processes of their own: this test binary, run anew.

use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::iter;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use liveness::dispatch::{
    Backoff, Context, Emit, EmitErrorKind, EventId, Failure, On, OnDuplicate, Topic,
};
use liveness::redis::Dispatcher;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::{self, Fate, Ledger, Stage, Verdict};
use crate::redis_server::{RedisServer, for_test};
use crate::tap::{Mutation, Tap};

/// The topic of all tests with several processes.
pub(crate) const JOBS: Topic<Job> = Topic::new("jobs");

/// What an event asks for: for how long its handler runs, ms, and how many of its attempts fail.
pub(crate) type Job = (u64, u32);

/// For how long a process may take for what it does at once, on a busy machine.
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);

/// How many events a process emits that keeps time.
pub(crate) const TIMED: usize = 60;

/// What a process is.
const ROLE: &str = "LIVENESS_TEST_ROLE";
/// The server, seen by the process.
const URL: &str = "LIVENESS_TEST_URL";
/// The path of its ledger.
const LEDGER: &str = "LIVENESS_TEST_LEDGER";
/// The lease, ms.
const LEASE: &str = "LIVENESS_TEST_LEASE_MS";
/// How long a reply may take, ms.
const RESPONSE: &str = "LIVENESS_TEST_RESPONSE_MS";
/// The seed of what is random.
const SEED: &str = "LIVENESS_TEST_SEED";

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs handlers.
    Worker,
    /// It emits events until it is ended: one by one and many together, at once and delayed.
    Producer,
    /// It emits events with unique keys, cancels, reschedules, replays and purges, and handles what comes: some events
    /// fail, some for good, some are put off.
    Mixer,
    /// It emits delayed events and handles them, and notes how late they start by the clock of the server.
    Clock,
}

/// What a process was asked to do.
#[derive(Debug, Default)]
struct Orders {
    /// End in the next handler.
    die: AtomicBool,
    /// End.
    end: AtomicBool,
}

/// What a process of its own runs. It is no test then.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let variable = |name: &str| env::var(name).unwrap();
    let ledger = Ledger::open(Path::new(&variable(LEDGER))).unwrap();
    let millis = |name| Duration::from_millis(variable(name).parse().unwrap());
    let lease = millis(LEASE);
    fastrand::seed(variable(SEED).parse().unwrap());
    let dispatcher = Dispatcher::builder(&variable(URL))
        .threads(4)
        .lease(lease)
        .max_lapses(1_000)
        .max_unfinished(5_000)
        .emit_timeout(GENEROUS)
        .response_timeout(millis(RESPONSE))
        .build()
        .unwrap();
    let orders = Arc::new(Orders::default());
    let own = orders.clone();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let order = if line == "die" { &own.die } else { &own.end };
            order.store(true, Ordering::SeqCst);
        }
        // Either all is done, or the test has ended without this process.
        thread::sleep(GENEROUS);
        process::exit(0);
    });
    if role == "Mixer" {
        mix(&dispatcher, &orders);
        let _ = dispatcher.stop(GENEROUS);
        return;
    }
    if role == "Clock" {
        return keep_time(&dispatcher, &ledger, &variable(URL));
    }
    if role == "Worker" {
        work(&dispatcher, ledger, &orders);
        while !orders.end.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    } else {
        // Emits that come together share calls.
        thread::scope(|scope| {
            for seed in iter::repeat_with(|| fastrand::u64(..)).take(3) {
                let (dispatcher, ledger, orders) = (&dispatcher, &ledger, &orders);
                scope.spawn(move || {
                    fastrand::seed(seed);
                    produce(dispatcher, ledger, lease, orders);
                });
            }
        });
    }
    let _ = dispatcher.stop(GENEROUS);
}

/// Does everything that can be done with events, at random, until it is ended.
fn mix(dispatcher: &Dispatcher, orders: &Orders) {
    let backoff = Backoff::constant(Duration::from_millis(5));
    let options = On::new().backoff(backoff).max_attempts(3);
    let handle = |_: &Context, _: &Job| {
        let short = Duration::from_millis(20);
        match fastrand::u32(..20) {
            0 => Err("not yet".into()),
            1 => Err(Failure::fatal("never")),
            2 => Err(Failure::snooze(short)),
            // Without the message of a panic.
            3 => std::panic::resume_unwind(Box::new("a handler panics")),
            _ => Ok(()),
        }
    };
    dispatcher.on(&JOBS, "mix", options, handle).unwrap();
    let mut last = dispatcher.emit(&JOBS, (0, 0)).unwrap();
    while !orders.end.load(Ordering::SeqCst) {
        let how = Emit::after(Duration::from_micros(fastrand::u64(..20_000)));
        let key = || format!("k{}", fastrand::u32(..10));
        let policies = [OnDuplicate::Error, OnDuplicate::Keep, OnDuplicate::Replace];
        match fastrand::u32(..20) {
            // These may fail: their connection may be lost, and they are not repeated then.
            0 => drop(dispatcher.cancel(&JOBS, last)),
            1 => drop(dispatcher.reschedule(&JOBS, last, &how)),
            2 => drop(dispatcher.replay(&JOBS, 10)),
            3 => drop(dispatcher.purge(&JOBS)),
            4..8 => {
                let policy = policies[fastrand::usize(..3)];
                let how = how.unique(key()).on_duplicate(policy);
                if let Ok(id) = dispatcher.emit_with(&JOBS, (0, 0), how) {
                    last = id;
                }
            }
            _ => last = dispatcher.emit_with(&JOBS, (0, 0), how).unwrap(),
        }
    }
}

/// Emits events that are due soon, one after the other, and notes when each starts, by the clock of the server.
fn keep_time(dispatcher: &Dispatcher, ledger: &Ledger, url: &str) {
    let socket = url.trim_start_matches("redis+unix://").to_owned();
    let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = own.abs_diff(server_time(&socket));
    assert!(
        apart > Duration::from_secs(3_500),
        "the clocks are {apart:?} apart"
    );
    let (sender, started) = mpsc::channel();
    let own = socket.clone();
    dispatcher
        .on(&JOBS, "clock", On::new(), move |_, _| {
            Ok(sender.send(server_time(&own))?)
        })
        .unwrap();
    for _ in 0..TIMED {
        let delay = Duration::from_millis(fastrand::u64(10..60));
        let earliest = server_time(&socket) + delay;
        let emitted = dispatcher.emit_with(&JOBS, (0, 0), Emit::after(delay));
        let id = emitted.unwrap().get();
        let latest = server_time(&socket) + delay;
        let start = started.recv_timeout(GENEROUS).unwrap();
        assert!(
            start >= earliest,
            "{:?} early",
            earliest.saturating_sub(start)
        );
        ledger.accepted(id);
        ledger.call(Stage::Begin, id, id, start.saturating_sub(latest));
        ledger.call(Stage::End, id, id, Duration::ZERO);
    }
    let _ = dispatcher.stop(GENEROUS);
}

/// The time of the server, since 1970.
fn server_time(socket: &str) -> Duration {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"*1\r\n$4\r\nTIME\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    // The length of the array comes first. Before each number is its length.
    assert_eq!(lines.next().unwrap(), "*2");
    let mut number = || lines.nth(1).unwrap().parse().unwrap();
    Duration::from_secs(number()) + Duration::from_micros(number())
}

/// Runs handlers.
fn work(dispatcher: &Dispatcher, ledger: Ledger, orders: &Arc<Orders>) {
    let backoff = Backoff::constant(Duration::from_millis(5));
    let (options, orders) = (On::new().backoff(backoff), orders.clone());
    let handle = move |context: &Context, &(runs, fails): &Job| {
        let (id, fence) = (context.id().get(), context.fence());
        let note = |stage| ledger.call(stage, id, fence, context.lateness());
        note(Stage::Begin);
        if orders.die.load(Ordering::SeqCst) {
            ledger.fate(Fate::Killed, process::id());
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
        thread::sleep(Duration::from_millis(runs));
        if context.attempt() <= fails {
            note(Stage::Fail);
            return Err("not yet".into());
        }
        note(Stage::End);
        Ok(())
    };
    dispatcher.on(&JOBS, "work", options, handle).unwrap();
}

/// Emits until it is ended.
fn produce(dispatcher: &Dispatcher, ledger: &Ledger, lease: Duration, orders: &Orders) {
    let note = |id: EventId| ledger.accepted(id.get());
    let job = || (0, u32::from(fastrand::u32(..20) == 0));
    let mut last_long = Instant::now();
    while !orders.end.load(Ordering::SeqCst) {
        let refused = match fastrand::u32(..10) {
            // Its lease is renewed while its handler runs.
            _ if last_long.elapsed() >= lease => {
                last_long = Instant::now();
                let runs = lease.as_millis() as u64 * 7 / 10;
                dispatcher
                    .emit(&JOBS, (runs, 0))
                    .map(note)
                    .map_err(|error| error.kind())
            }
            0 => {
                let delay = Duration::from_micros(fastrand::u64(..200_000));
                let emitted = dispatcher.emit_with(&JOBS, job(), Emit::after(delay));
                emitted.map(note).map_err(|error| error.kind())
            }
            1 | 2 => {
                let jobs: Vec<Job> = (0..fastrand::usize(1..20)).map(|_| job()).collect();
                let emitted = dispatcher.emit_many(&JOBS, jobs);
                let emitted = emitted.map(|ids| ids.into_iter().for_each(note));
                emitted.map_err(|error| error.kind())
            }
            _ => dispatcher
                .emit(&JOBS, job())
                .map(note)
                .map_err(|error| error.kind()),
        };
        match refused {
            Ok(()) => thread::sleep(Duration::from_micros(fastrand::u64(..3_000))),
            Err(EmitErrorKind::Full) => thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A server, a ledger, and what the processes have in common.
pub(crate) struct Site {
    /// The server.
    pub(crate) server: RedisServer,
    /// The lease.
    pub(crate) lease: Duration,
    /// The folder of the ledger and of the sockets.
    folder: PathBuf,
    /// The ledger.
    pub(crate) ledger: Arc<Ledger>,
    /// Whether the ledger is kept for a look at it.
    keeps_ledger: Cell<bool>,
    /// How the scripts are broken.
    mutation: Option<Mutation>,
    /// After about how many calls each connection is cut; zero means never.
    pub(crate) cut_after: usize,
    /// How long a reply may take.
    pub(crate) response_timeout: Duration,
}

impl Site {
    /// Starts a server with `options`; `None` without an installed one.
    pub(crate) fn start(
        options: &[&str],
        lease: Duration,
        mutation: Option<Mutation>,
    ) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = for_test(options)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("lvc{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let ledger = Arc::new(Ledger::open(&folder.join("ledger")).unwrap());
        Some(Site {
            server,
            lease,
            folder,
            ledger,
            keeps_ledger: Cell::new(false),
            mutation,
            cut_after: 0,
            response_timeout: Duration::from_secs(2),
        })
    }

    /// Starts a process behind a tap.
    pub(crate) fn spawn(&self, role: Role) -> Member {
        self.spawn_by(&[], role)
    }

    /// Starts a process by another program, which has the given words before its own.
    pub(crate) fn spawn_by(&self, by: &[&str], role: Role) -> Member {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = self.folder.join(format!("t{number}"));
        let tap = Tap::new(&self.server.socket(), socket, &self.ledger, self.mutation);
        tap.cut_after(self.cut_after);
        let own = env::current_exe().unwrap();
        let words: Vec<&OsStr> = by.iter().map(OsStr::new).chain([own.as_os_str()]).collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["--exact", "crew::child", "--nocapture"])
            .env(ROLE, format!("{role:?}"))
            .env(URL, tap.url())
            .env(LEDGER, self.folder.join("ledger"))
            .env(LEASE, self.lease.as_millis().to_string())
            .env(RESPONSE, self.response_timeout.as_millis().to_string())
            .env(SEED, fastrand::u64(..).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tap.watch(child.id());
        let stdin = child.stdin.take();
        Member {
            child,
            stdin,
            tap,
            role,
        }
    }

    /// Starts `count` processes, and waits until they are connected.
    pub(crate) fn spawn_many(&self, role: Role, count: usize) -> Vec<Member> {
        let members: Vec<Member> = (0..count).map(|_| self.spawn(role)).collect();
        for member in &members {
            let start = Instant::now();
            // The listener is its last thread.
            while !member.threads().iter().any(|name| name.contains("-listen")) {
                assert!(start.elapsed() < GENEROUS, "a {role:?} does not start");
                thread::sleep(Duration::from_millis(1));
            }
        }
        members
    }

    /// Kills `member` by SIGKILL, unless it is dead, and starts another one in its place.
    pub(crate) fn replace(&self, member: &mut Member) {
        // The first of these notes counts.
        self.ledger.fate(Fate::Killed, member.child.id());
        let _ = member.child.kill();
        let status = member.child.wait().unwrap();
        assert!(
            status.code().is_none(),
            "a {:?} ended by itself",
            member.role
        );
        *member = self.spawn(member.role);
    }

    /// Stops `member`.
    pub(crate) fn stop(&self, member: &Member) {
        member.signal(Signal::SIGSTOP);
        self.ledger.fate(Fate::Stopped, member.child.id());
    }

    /// Continues `member`.
    pub(crate) fn continue_(&self, member: &Member) {
        self.ledger.fate(Fate::Continued, member.child.id());
        member.signal(Signal::SIGCONT);
    }

    /// A dispatcher of the test itself, without a tap and without handlers.
    pub(crate) fn dispatcher(&self) -> Dispatcher {
        let builder = Dispatcher::builder(&self.server.url()).threads(1);
        builder.lease(self.lease).build().unwrap()
    }

    /// The numbers in the lines of the ledger that are of the given kind.
    pub(crate) fn lines(&self, kind: &str) -> Vec<Vec<u64>> {
        let text = fs::read_to_string(self.folder.join("ledger")).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect()
    }

    /// Waits until the ledger has `count` lines of the given kind, and returns the numbers in the last of them.
    pub(crate) fn wait_for(&self, kind: &str, count: usize) -> Vec<u64> {
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines(kind).into_iter().nth(count - 1) {
                return line;
            }
            assert!(
                start.elapsed() < GENEROUS,
                "fewer than {count} lines of {kind}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Judges the ledger.
    pub(crate) fn judge(&self) -> Verdict {
        ledger::judge(&self.folder.join("ledger"), self.lease).unwrap()
    }

    /// How many clients are connected, this one included.
    pub(crate) fn clients(&self) -> usize {
        let info = self.server.command(&["INFO", "clients"]).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("connected_clients:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// The names of all keys, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let reply = self.server.command(&["KEYS", "*"]).unwrap();
        let mut keys: Vec<String> = reply
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| line.trim().to_owned())
            .collect();
        keys.sort();
        keys
    }

    /// Ends the processes and judges everything: the ledger, the account, the keys and the connections. Returns the
    /// verdict, to whose faults those of the account are added.
    pub(crate) fn end(
        self,
        producers: Vec<Member>,
        workers: Vec<Member>,
        max_wait: Duration,
    ) -> Verdict {
        producers.into_iter().for_each(Member::end);
        let dispatcher = self.dispatcher();
        wait_until_quiet(&dispatcher, max_wait);
        workers.into_iter().for_each(Member::end);
        let mut faults = Vec::new();
        let mut expect = |is_so: bool, fault: String| {
            if !is_so {
                faults.push(fault);
            }
        };
        let stats = dispatcher.stats().unwrap();
        let account = stats.total();
        println!("{stats}");
        expect(stats.is_balanced(), format!("not balanced: {stats}"));
        expect(
            account.emitted == account.done,
            format!("not all are done: {stats}"),
        );
        // Its connection is one of those that are counted.
        drop(dispatcher);
        let verdict = self.judge();
        let handled = account.emitted == verdict.handled as u64;
        expect(
            handled,
            format!("{} emitted, {} handled", account.emitted, verdict.handled),
        );
        let keys = self.keys();
        // What keeps these two from a compact encoding, and the token that wakes a process.
        let kept = ["c", "l", "p", "t", "w"].map(|letter| format!("{{lv:jobs}}:{letter}"));
        let others: Vec<_> = keys.iter().filter(|key| !kept.contains(key)).collect();
        expect(others.is_empty(), format!("{others:?} are left"));
        for (command, key) in [("ZCARD", "l"), ("HLEN", "p"), ("HLEN", "t")] {
            let key = format!("{{lv:jobs}}:{key}");
            let reply = self.server.command(&[command, &key]).unwrap();
            expect(reply == ":1\r\n", format!("{command} {key} is {reply}"));
        }
        let start = Instant::now();
        while self.clients() > 1 && start.elapsed() < GENEROUS {
            thread::sleep(Duration::from_millis(10));
        }
        expect(
            self.clients() == 1,
            format!("{} clients are connected", self.clients()),
        );
        faults.extend(verdict.faults.iter().cloned());
        let verdict = Verdict { faults, ..verdict };
        println!("{verdict}");
        let is_broken = self.mutation.is_some();
        self.keeps_ledger
            .set(!verdict.faults.is_empty() && !is_broken);
        verdict
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() || self.keeps_ledger.get() {
            eprintln!("the ledger is in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits until no event is unfinished, for at most `wait`.
pub(crate) fn wait_until_quiet(dispatcher: &Dispatcher, wait: Duration) {
    let start = Instant::now();
    let mut unfinished = usize::MAX;
    while unfinished > 0 && start.elapsed() < wait {
        thread::sleep(Duration::from_millis(20));
        let counts = dispatcher.counts(&JOBS).unwrap();
        unfinished = counts.scheduled + counts.ready + counts.running;
    }
}

/// A process.
pub(crate) struct Member {
    /// The process.
    pub(crate) child: Child,
    /// Its input.
    stdin: Option<ChildStdin>,
    /// Its connections.
    pub(crate) tap: Tap,
    /// What it is.
    role: Role,
}

impl Member {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Lets it end by SIGKILL in its next handler.
    pub(crate) fn die_in_handler(&mut self) {
        self.order("die");
    }

    /// Writes an order.
    fn order(&mut self, order: &str) {
        // A process that was killed reads none.
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{order}");
    }

    /// Waits until it is dead, for at most `wait`.
    pub(crate) fn is_dead_within(&mut self, wait: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            if start.elapsed() > wait {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The names of its threads, sorted.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Ends it in order.
    pub(crate) fn end(mut self) {
        self.order("end");
        assert!(
            self.is_dead_within(2 * GENEROUS),
            "a {:?} does not end",
            self.role
        );
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a {:?} failed: {status}", self.role);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
