//! A watcher whose process is stopped while its peers, in another process, beat on: who lives is not reported, who died
//! is. In the stopped process a naive watcher hears some of the same beats, to show that there is something to survive.
//!
//! Each test runs its own binary once more, as the process that is stopped. `--nocapture` shows the figures.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use liveness::{Event, EventKind, Heart, Timestamp, Watcher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TIMEOUT: Duration = Duration::from_millis(500);

/// How often a peer beats: three beats may be late or lost before anybody dies of it.
const ROUND: Duration = Duration::from_millis(125);

/// The peers with keys below this live all the time; those beyond it are mortal.
const LIVING: u64 = 100_000;

/// The keys of one datagram, as behind a gateway.
const BLOCK: u64 = 1_000;

/// The peers with keys below this have hearts, the others are beaten in batches.
const HEARTS: u64 = LIVING / 2;

/// The naive watcher hears only the peers with keys below this: all of them would keep the machine busy.
const NAIVE: u64 = LIVING / 10;

/// The mortals that die together.
const MORTALS: u64 = 50;

/// Long enough for any machine to do anything that is done at once.
const GENEROUS: Duration = Duration::from_secs(20);

/// By how much a report may be late on a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(3);

/// What makes the test binary the process that is stopped; its value is the cap on grace in milliseconds.
const ROLE: &str = "LIVENESS_TEST_STALL_CAP_MS";

/// What everybody writes who has no better idea: a map of last beats, and a thread that looks through it.
#[derive(Default)]
struct Naive {
    /// When each key was heard last.
    heard: Mutex<HashMap<u64, Instant>>,
    /// How many living keys it reported dead.
    falsely: AtomicU64,
}

impl Naive {
    /// Hears of `keys`.
    fn beat_many(&self, keys: Range<u64>) {
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap();
        heard.extend(keys.map(|key| (key, now)));
    }

    /// Reports and forgets who was silent for too long.
    fn scan(&self) {
        let mut heard = self.heard.lock().unwrap();
        let now = Instant::now();
        heard.retain(|_, &mut last| {
            let is_alive = now.saturating_duration_since(last) <= TIMEOUT;
            self.falsely
                .fetch_add(u64::from(!is_alive), Ordering::Relaxed);
            is_alive
        });
    }
}

/// What this process has reported so far.
#[derive(Default)]
struct Told {
    /// How many living keys were reported dead before the process had run for a timeout without a beat of theirs.
    falsely: u64,
    /// How many living keys were reported because the machine gave the thread that hears the peers no time to run.
    starved: u64,
    /// How many mortal keys were reported.
    rightly: u64,
    /// The most time from the end of a stall to the detection of a death.
    latest: Duration,
    /// When the last stall of each worker ended.
    resumed: [Timestamp; 2],
}

impl Told {
    /// Takes an event in.
    fn hear(&mut self, event: &Event<u64>) {
        let resumed = self.resumed[0].min(self.resumed[1]);
        match event {
            Event::Stalled(stall) => self.resumed[stall.worker] = stall.resumed,
            Event::Expired(event) if event.key >= LIVING => {
                self.rightly += 1;
                self.latest = self.latest.max(event.detected - resumed);
            }
            Event::Expired(event) => {
                let ran = event.detected - event.last_beat.max(resumed);
                if ran < TIMEOUT {
                    self.falsely += 1;
                } else {
                    self.starved += 1;
                }
            }
            _ => unreachable!("not wanted"),
        }
    }
}

/// The process that is stopped: hears the peers through a socket, and answers each line on its input with figures.
fn hear_the_peers(stall_cap: Duration) {
    let (watcher, events) = Watcher::<u64>::builder()
        .timeout(TIMEOUT)
        .workers(2)
        .inbox_capacity(1 << 16)
        .stall_cap(stall_cap)
        .events([EventKind::Expired, EventKind::Stalled])
        .build_with_channel(1 << 18)
        .unwrap();
    let (naive, told) = (Naive::default(), Mutex::new(Told::default()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(ROUND)).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (watcher, naive, told, socket, stop) = (&watcher, &naive, &told, &socket, &stop);
        let goes_on = move || !stop.load(Ordering::Relaxed);
        scope.spawn(move || {
            let mut hearts: HashMap<u64, Vec<Heart<u64>>> = HashMap::new();
            while goes_on() {
                let Some(keys) = receive(socket) else {
                    continue;
                };
                if keys.start < NAIVE {
                    naive.beat_many(keys.clone());
                }
                if keys.start < HEARTS {
                    let hearts = hearts
                        .entry(keys.start)
                        .or_insert_with(|| keys.map(|key| watcher.watch(key).unwrap()).collect());
                    // One that was reported, falsely, is counted there.
                    for heart in hearts {
                        if heart.beat().is_err() {
                            // It was reported; the peer does not know that, and beats on.
                            *heart = watcher.watch(*heart.key()).unwrap();
                        }
                    }
                } else {
                    watcher.beat_many(keys).unwrap();
                }
            }
        });
        scope.spawn(move || {
            while goes_on() {
                thread::sleep(TIMEOUT / 5);
                naive.scan();
            }
        });
        scope.spawn(move || {
            while goes_on() {
                let event = events.recv_timeout(ROUND);
                let mut told = told.lock().unwrap();
                if let Ok(event) = event {
                    told.hear(&event);
                }
            }
        });
        println!("\nfigures {}", socket.local_addr().unwrap().port());
        for line in std::io::stdin().lines() {
            if line.unwrap() == "end" {
                break;
            }
            watcher.flush().unwrap();
            let stats = watcher.stats();
            let told = told.lock().unwrap();
            println!(
                "\nfigures {} {} {} {} {} {} {}",
                stats.live,
                stats.stalls,
                told.falsely,
                told.starved,
                told.rightly,
                told.latest.as_millis(),
                naive.falsely.load(Ordering::Relaxed)
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// The keys of the next datagram, if one comes.
fn receive(socket: &UdpSocket) -> Option<Range<u64>> {
    let mut bytes = [0; 16];
    // A signal interrupts, and silence times out.
    socket.recv(&mut bytes).ok()?;
    let (start, end) = bytes.split_at(8);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    Some(number(start)..number(end))
}

/// The peers; they live in the process that is not stopped.
struct Peers {
    /// Their socket, connected to the process that is stopped.
    socket: UdpSocket,
    /// Which groups of mortals are alive, a bit each.
    alive: AtomicU64,
    /// Whether all are to end.
    stop: AtomicBool,
}

impl Peers {
    /// The first `living` and the mortals that are alive beat in every round, spread over it.
    fn beat(&self, living: u64) {
        let living = (0..living / BLOCK).map(|block| block * BLOCK..(block + 1) * BLOCK);
        let mortals = (0..64).map(|bit| (bit, LIVING + bit * MORTALS));
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let alive = self.alive.load(Ordering::Relaxed);
            let mortals = mortals.clone().filter(|(bit, _)| alive >> bit & 1 == 1);
            let mortals = mortals.map(|(_, first)| first..first + MORTALS);
            let blocks: Vec<Range<u64>> = living.clone().chain(mortals).collect();
            let steps = blocks.len().div_ceil(5) as u32;
            for (step, blocks) in (1..).zip(blocks.chunks(5)) {
                for keys in blocks {
                    let bytes = [keys.start.to_le_bytes(), keys.end.to_le_bytes()].concat();
                    // A datagram that nobody has room for is lost, as in life.
                    let _ = self.socket.send(&bytes);
                }
                thread::sleep((ROUND * step / steps).saturating_sub(began.elapsed()));
            }
        }
    }

    /// Lets the group of mortals with the number `group` live.
    fn raise(&self, group: u64) {
        self.alive.fetch_or(1 << group, Ordering::Relaxed);
    }

    /// Lets it die.
    fn silence(&self, group: u64) {
        self.alive.fetch_and(!(1 << group), Ordering::Relaxed);
    }
}

/// Ends the peers when it goes, also when an assertion fails.
struct Until<'a>(&'a Peers);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// What the process tells.
#[derive(Debug)]
struct Figures {
    /// Keys watched.
    live: u64,
    /// Stalls noticed, by all workers.
    stalls: u64,
    /// Living keys reported dead though they were heard of, or had no time to be.
    falsely: u64,
    /// Living keys reported dead because nobody had heard of them for a timeout that the process did run.
    starved: u64,
    /// Mortal keys reported dead.
    rightly: u64,
    /// The most milliseconds from the end of a stall to the detection of a death.
    latest: u64,
    /// Living keys that the naive watcher reported dead.
    naive: u64,
}

impl From<Vec<u64>> for Figures {
    fn from(figures: Vec<u64>) -> Self {
        let [live, stalls, falsely, starved, rightly, latest, naive] = figures[..] else {
            panic!("{figures:?}")
        };
        Figures {
            live,
            stalls,
            falsely,
            starved,
            rightly,
            latest,
            naive,
        }
    }
}

/// The process that is stopped, seen from the other one.
struct Stopped {
    /// The process.
    child: Child,
    /// Its input; closed to end it.
    stdin: ChildStdin,
    /// The figures that it tells.
    told: Receiver<Vec<u64>>,
}

impl Stopped {
    /// Starts the process as the test `name`, and peers for it.
    fn start(name: &str, stall_cap: Duration) -> (Self, Peers) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROLE, stall_cap.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = unbounded();
        let stdin = child.stdin.take().unwrap();
        let stopped = Stopped { child, stdin, told };
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(figures) = line.strip_prefix("figures ") {
                    let figures = figures.split(' ').map(|number| number.parse().unwrap());
                    // A test that has failed no longer listens.
                    let _ = tell.send(figures.collect());
                }
            }
        });
        let port = stopped.told.recv_timeout(GENEROUS).unwrap()[0];
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port as u16)).unwrap();
        let peers = Peers {
            socket,
            alive: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        (stopped, peers)
    }

    /// Sends a signal.
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Asks for figures, without waiting for them.
    fn ask(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    /// Asks until the figures are `as_wanted`.
    fn await_figures(&mut self, as_wanted: impl Fn(&Figures) -> bool) -> Figures {
        let began = Instant::now();
        loop {
            self.ask();
            let figures = Figures::from(self.told.recv_timeout(GENEROUS).unwrap());
            if as_wanted(&figures) {
                return figures;
            }
            assert!(began.elapsed() < GENEROUS, "{figures:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process.
    fn end(mut self) {
        self.stdin.write_all(b"end\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Only where a test has failed does it still run, perhaps stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the process that is to be stopped, is that process and returns true.
fn is_stopped() -> bool {
    let Ok(cap) = std::env::var(ROLE) else {
        return false;
    };
    hear_the_peers(Duration::from_millis(cap.parse().unwrap()));
    true
}

/// Stops the process for `timeouts` timeouts; of the mortals, `group` falls silent before that and the next while it
/// lasts. Returns the figures of a timeout after all of them were reported.
fn stop_for(timeouts: u32, group: u64, stopped: &mut Stopped, peers: &Peers) -> Figures {
    peers.raise(group);
    peers.raise(group + 1);
    let before = stopped.await_figures(|figures| figures.live == LIVING + 2 * MORTALS);
    peers.silence(group);
    thread::sleep(TIMEOUT / 5);
    stopped.signal(Signal::SIGSTOP);
    thread::sleep(TIMEOUT * timeouts / 2);
    peers.silence(group + 1);
    thread::sleep(TIMEOUT * timeouts / 2);
    stopped.signal(Signal::SIGCONT);
    let dead = before.rightly + 2 * MORTALS;
    stopped.await_figures(|figures| figures.rightly >= dead);
    // A false report would come now: nothing is held back now.
    thread::sleep(TIMEOUT + ROUND);
    let after = stopped.await_figures(|_| true);
    println!("stopped for {timeouts} timeouts: {after:?}");
    assert_eq!((after.falsely, after.rightly), (0, dead));
    let latest = Duration::from_millis(after.latest);
    assert!(latest < TIMEOUT + SLACK, "{latest:?} after the stop");
    assert!(after.stalls >= before.stalls + 2, "both workers stalled");
    Figures {
        starved: after.starved - before.starved,
        naive: after.naive - before.naive,
        ..after
    }
}

#[test]
fn nobody_who_lives_is_reported_after_a_stop_of_one_to_twenty_timeouts() {
    if is_stopped() {
        return;
    }
    let (mut stopped, peers) = Stopped::start(
        "suspension::nobody_who_lives_is_reported_after_a_stop_of_one_to_twenty_timeouts",
        Duration::from_secs(30),
    );
    thread::scope(|scope| {
        let _until = Until(&peers);
        scope.spawn(|| peers.beat(LIVING));
        let mut groups = (0..).step_by(2);
        let mut naive = 0;
        for timeouts in [1, 2, 5, 20] {
            // On a machine so busy that the beats themselves did not get through, once more.
            let told = groups
                .by_ref()
                .take(5)
                .map(|group| stop_for(timeouts, group, &mut stopped, &peers))
                .find(|figures| figures.starved == 0)
                .expect("this machine is too busy to tell, or the stop was not noticed");
            println!(
                "after {timeouts} timeouts ours reported 0 of {LIVING} living keys, a naive watcher {} of {NAIVE}",
                told.naive
            );
            naive += told.naive;
        }
        // Not after each stop: the thread that hears the peers may run before the one that scans.
        assert!(naive >= 1_000, "there was something to survive");
    });
    stopped.end();
}

#[test]
fn the_dead_are_reported_though_the_process_is_stopped_again_and_again() {
    if is_stopped() {
        return;
    }
    // Each stop alone would hold expiry back for longer than the process runs until the next.
    let (stop, run) = (TIMEOUT * 3 / 5, TIMEOUT / 5);
    let cap = 3 * TIMEOUT;
    let (mut stopped, peers) = Stopped::start(
        "suspension::the_dead_are_reported_though_the_process_is_stopped_again_and_again",
        cap,
    );
    thread::scope(|scope| {
        let _until = Until(&peers);
        scope.spawn(|| peers.beat(BLOCK));
        peers.raise(0);
        stopped.await_figures(|figures| figures.live == BLOCK + MORTALS);
        peers.silence(0);
        let died = Instant::now();
        let (mut stops, mut dead) = (0, 0);
        while dead < MORTALS {
            assert!(died.elapsed() < GENEROUS, "expiry is suppressed for ever");
            stopped.signal(Signal::SIGSTOP);
            thread::sleep(stop);
            stopped.signal(Signal::SIGCONT);
            stops += 1;
            thread::sleep(run);
            stopped.ask();
            let figures = stopped.told.try_iter().last().map(Figures::from);
            dead = figures.map_or(0, |figures| figures.rightly);
        }
        println!(
            "the dead were reported {:?} and {stops} stops later",
            died.elapsed()
        );
        assert!(stops >= 3, "stops did hold expiry back");
    });
    stopped.end();
}
