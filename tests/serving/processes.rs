//! What concerns a whole process: its descriptors, threads, memory and processor time, and that it is stopped. Each test
//! runs this binary once more. `--nocapture` shows the figures.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown as Direction, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{AgentId, Cause, Json, Keepalive, Ping, Server, Shutdown};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;

use crate::alone::{ROLE, alone, start, succeeds, threads};
use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, echo, frame, framed, get, put, reporting, until,
};

/// Returns how many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Returns the processor time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).cast_unsigned())
        })
        .iter()
        .sum()
}

/// Lets the close of `stream` be a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

#[test]
fn resets_and_closes_at_once_leave_nothing_behind() {
    let name = "processes::resets_and_closes_at_once_leave_nothing_behind";
    alone(name, || {
        let (resets, closes) = if is_long() {
            (100_000, 10_000)
        } else {
            (10_000, 1_000)
        };
        let (before, no_threads) = (descriptors(), threads());
        let reports: Arc<Mutex<HashMap<AgentId, Vec<&str>>>> = Arc::default();
        let [opened, closed] = [reports.clone(), reports.clone()];
        let server = Server::<Json, ()>::builder()
            .tcp("127.0.0.1:0")
            .websocket("127.0.0.1:0")
            .handshake_within(MS * 500)
            .close_within(MS * 500)
            .on("Close", |agent: &Peer, ()| agent.close(4_000, "at once"))
            .on("Echo", |agent: &Peer, body: u8| agent.send("Echo", &body))
            .opened(move |agent| {
                let mut reports = opened.lock().unwrap();
                reports.entry(agent.id()).or_default().push("opened");
            })
            .closed(move |agent, _| {
                let mut reports = closed.lock().unwrap();
                reports.entry(agent.id()).or_default().push("closed");
            })
            .start()
            .unwrap();
        let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
        let (with_server, its_threads) = (descriptors(), threads());
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..resets {
                    let mut stream = TcpStream::connect([tcp, websocket][number % 2]).unwrap();
                    match number / 2 % 4 {
                        0 => {}
                        1 => drop(stream.write(b"GET / HT")),
                        2 => drop(stream.write(&framed(r#"{"type":"Echo","data":1}"#))),
                        _ => thread::yield_now(),
                    }
                    reset(stream);
                }
            });
            scope.spawn(|| {
                for number in 0..closes {
                    let mut stream = connect_websocket(websocket);
                    let mut last = frame(0x81, br#"{"type":"Close"}"#);
                    last.extend(frame(0x88, &1_000_u16.to_be_bytes()));
                    stream
                        .write_all(&last[..[20, last.len()][number % 2]])
                        .unwrap();
                    match number % 3 {
                        0 => stream.shutdown(Direction::Write).unwrap(),
                        1 => reset(stream.try_clone().unwrap()),
                        _ => {}
                    }
                }
            });
        });
        until("all have gone", || {
            let stats = server.stats();
            assert!(stats.is_balanced(), "{stats:?}");
            stats.handshaking + stats.open + stats.closing + stats.reported == 0
        });
        let stats = server.stats();
        let reports = std::mem::take(&mut *reports.lock().unwrap());
        assert_eq!(reports.len() as u64, stats.opened_reports);
        assert!(stats.opened_reports >= closes as u64, "{stats:?}");
        println!(
            "{} accepted, {} opened",
            stats.accepted, stats.opened_reports
        );
        for (id, reports) in reports {
            assert_eq!(reports, ["opened", "closed"], "{id}");
        }
        echo(&mut connect(tcp));
        until("the last has gone", || server.stats().reported == 0);
        assert_eq!((descriptors(), threads()), (with_server, its_threads));
        assert_eq!(server.stats().queued_bytes, 0);
        drop(server);
        until("its threads have ended", || threads() == no_threads);
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn accepting_goes_on_after_there_was_no_descriptor() {
    let name = "processes::accepting_goes_on_after_there_was_no_descriptor";
    alone(name, || {
        let server = reporting().0.start().unwrap();
        let address = server.local_addrs()[0];
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let mut first = connect(address);
        echo(&mut first);
        let mut peers = Vec::new();
        while let Ok(stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(SOON)).unwrap();
            peers.push(stream);
        }
        until("accepting pauses", || server.stats().accept_pauses > 0);
        let (began, cpu) = (Instant::now(), cpu_time());
        thread::sleep(MS * 1_000);
        let (spent, of) = (cpu_time() - cpu, began.elapsed());
        println!("without a descriptor: {spent:?} of {of:?}");
        assert!(spent < of / 20, "{spent:?} of {of:?}");
        let pauses = server.stats().accept_pauses;
        assert!(pauses < 20, "{pauses}");
        // Who was accepted before is still served.
        echo(&mut first);
        let rest = peers.split_off(peers.len() / 2);
        drop(peers);
        for mut stream in rest {
            echo(&mut stream);
        }
        assert!(server.stats().is_balanced());
    });
}

/// Whether the long versions of tests run, which take more descriptors than most systems allow.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LIVENESS_TEST_LONG").is_some()
}

/// Closes at a shutdown are spread evenly, and leave nothing behind.
fn shutdown_is_spread() {
    raise_limit();
    let count: u64 = if is_long() { 9_000 } else { 200 };
    let spread = Duration::from_secs(3);
    let (no_descriptors, no_threads) = (descriptors(), threads());
    let server = reporting().0.close_within(MS * 500).start().unwrap();
    let address = server.local_addrs()[1];
    // Each tenth does not read.
    let peers = (0..count).map(|index| (index, connect_websocket(address)));
    let (deaf, readers): (Vec<_>, Vec<_>) = peers.partition(|(index, _)| index % 10 == 0);
    until("all are open", || server.stats().opened_reports == count);
    // Some of those have taken all that they can.
    let full: Vec<SocketAddr> = deaf
        .iter()
        .take(10)
        .map(|it| it.1.local_addr().unwrap())
        .collect();
    let text = "x".repeat(10_000);
    for agent in server
        .agents()
        .iter()
        .filter(|agent| full.contains(&agent.peer()))
    {
        while agent.queued() < 100_000 {
            agent.send("Text", &text).unwrap();
        }
    }
    let began = Instant::now();
    let reading = thread::spawn(move || read_closes(readers, began));
    let report = server.shutdown(Shutdown::within(SOON).spread(spread));
    let took = began.elapsed();
    let times = reading.join().unwrap();
    assert!(took >= spread - spread / 10 && took < SOON, "{took:?}");
    assert_eq!(
        (
            report.open,
            report.still_running.len(),
            report.unreported.len()
        ),
        (count, 0, 0)
    );
    let stats = server.stats();
    assert!(stats.is_balanced() && stats.reported == 0, "{stats:?}");
    assert_eq!(stats.ended_by(Cause::Shutdown), count);
    drop((server, deaf));
    until("all threads have ended", || threads() == no_threads);
    assert_eq!(descriptors(), no_descriptors);

    // Pearson's statistic of eight equal parts of the time. All closes at once would give seven times their number, and
    // closes at random times more than 60 once in ten thousand million cases.
    let mut parts = [0.0; 8];
    for time in &times {
        let part = time.as_millis() * 8 / spread.as_millis();
        parts[(part as usize).min(7)] += 1.0;
    }
    let expected = times.len() as f64 / 8.0;
    let chi_square: f64 = parts
        .iter()
        .map(|part| (part - expected).powi(2) / expected)
        .sum();
    println!(
        "closes in eight parts of the time: {parts:?}, chi-square {chi_square:.2}, took {took:.2?}"
    );
    assert!(chi_square < 60.0, "{parts:?} {chi_square}");
}

/// Reads and answers a close of each, and returns when they came.
fn read_closes(mut readers: Vec<(u64, TcpStream)>, began: Instant) -> Vec<Duration> {
    for (_, stream) in &readers {
        stream.set_nonblocking(true).unwrap();
    }
    let count = readers.len();
    let mut times = Vec::new();
    while times.len() < count {
        readers.retain_mut(|(_, stream)| {
            let mut close = [0; 64];
            // A close frame comes whole.
            let Ok(length) = stream.read(&mut close) else {
                return true;
            };
            assert_eq!(
                (close[0], &close[2..4]),
                (0x88, &1_001_u16.to_be_bytes()[..])
            );
            times.push(began.elapsed());
            stream.write_all(&frame(0x88, &close[2..length])).unwrap();
            false
        });
        thread::sleep(MS);
    }
    times
}

/// The name of the test of what takes seconds.
const SIDE_BY_SIDE: &str = "processes::what_takes_seconds_side_by_side";

/// Most of their time they wait, so they do it together, each in a process of its own.
#[test]
fn what_takes_seconds_side_by_side() {
    if std::env::var_os(SERVER).is_some() {
        return serve();
    }
    let all: [(&str, fn()); 4] = [
        (
            "the session of hotpot",
            crate::hotpot::session_of_its_introduction,
        ),
        (
            "idle connections",
            crate::idle::exactly_those_are_dropped_that_have_stopped,
        ),
        ("a server that is stopped", server_is_stopped),
        ("a shutdown that is spread", shutdown_is_spread),
    ];
    if let Ok(role) = std::env::var(ROLE) {
        let (_, run) = all.into_iter().find(|(name, _)| *name == role).unwrap();
        return run();
    }
    let children = all.map(|(name, _)| (name, start(SIDE_BY_SIDE, name)));
    let failed = children.map(|(name, mut child)| (!succeeds(&mut child)).then_some(name));
    assert_eq!(failed, [None; 4]);
}

/// What makes this binary the server that is stopped.
const SERVER: &str = "LIVENESS_TEST_STOPPED_SERVER";

/// After how much silence that server drops a peer.
const DROP: Duration = Duration::from_millis(1_500);

/// The server that is stopped: says where it listens, and its statistics for each line of input.
fn serve() {
    let keepalive = Keepalive::new(DROP / 2, DROP).ping(Ping::Off);
    let server = reporting().0.keepalive(keepalive).start().unwrap();
    println!("\nlistening on {}", server.local_addrs()[0]);
    for _ in std::io::stdin().lines() {
        let stats = server.stats();
        let silent = stats.ended_by(Cause::Silence);
        println!("\nstats {} {} {silent}", stats.accepted, stats.open);
    }
}

/// A server that was stopped drops no one who sent, nor who had no time to.
fn server_is_stopped() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(SIDE_BY_SIDE)
        .env(SERVER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answer = |prefix: &str| loop {
        let line = lines.next().expect("the server answers").unwrap();
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.to_owned();
        }
    };
    let address: SocketAddr = answer("listening on ").parse().unwrap();
    let mut stats = || -> [usize; 3] {
        input.write_all(b"\n").unwrap();
        let numbers = answer("stats ");
        let numbers: Vec<usize> = numbers.split(' ').map(|it| it.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    };
    let mut peers: Vec<_> = (0..200).map(|_| connect(address)).collect();
    peers.iter_mut().for_each(echo);
    assert_eq!(stats(), [200, 200, 0]);
    kill(pid, Signal::SIGSTOP).unwrap();
    let (early, late) = peers.split_at_mut(100);
    thread::sleep(DROP / 2);
    for peer in &mut *early {
        put(peer, r#"{"type":"Echo","data":1}"#);
    }
    thread::sleep(DROP);
    kill(pid, Signal::SIGCONT).unwrap();
    // Those that were silent all the time have some more.
    thread::sleep(DROP / 4);
    for peer in early {
        assert_eq!(get(peer), r#"{"type":"Echo","data":1}"#);
    }
    late.iter_mut().for_each(echo);
    // Then the silence of all is judged.
    until("all are dropped", || stats()[1] == 0);
    assert_eq!(stats(), [200, 0, 200]);
    drop(input);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_lies_in_the_buffer_at_the_deadline_counts_although_the_server_is_late() {
    let name =
        "processes::what_lies_in_the_buffer_at_the_deadline_counts_although_the_server_is_late";
    alone(name, || {
        raise_limit();
        // More than a round hears of, so that only the last look finds what the others sent.
        let count = 2_000;
        for attempt in 0.. {
            assert!(attempt < 20, "the machine is too busy");
            let drop_after = MS * 800 * (1 + attempt);
            let keepalive = Keepalive::new(drop_after / 2, drop_after).ping(Ping::Off);
            let (send, blocked) = channel();
            // Late, but not by so much that all get more time.
            let server = reporting()
                .0
                .keepalive(keepalive)
                .on_inline("Block", move |_: &Peer, ()| {
                    let began = Instant::now();
                    thread::sleep(MS * 90);
                    send.send((began, Instant::now())).unwrap();
                })
                .start()
                .unwrap();
            let address = server.local_addrs()[0];
            let mut blocking = connect(address);
            let mut peers: Vec<_> = (0..count).map(|_| connect(address)).collect();
            until("all are open", || {
                server.stats().opened_reports == count + 1
            });
            let sign = framed(r#"{"type":"Pong"}"#);
            let all = sign.len() as u64 * count;
            let first = Instant::now();
            for peer in peers.iter_mut().chain([&mut blocking]) {
                // Fails if it was dropped, because this thread did not run.
                let _ = peer.write_all(&sign);
            }
            until("all are heard", || {
                let stats = server.stats();
                stats.bytes_in > all || stats.ended_by(Cause::Silence) > 0
            });
            if server.stats().ended_by(Cause::Silence) > 0 {
                println!("attempt {attempt}: the machine is busy, and the peers were late");
                continue;
            }
            // The deadlines are a few milliseconds away, and over when the server goes on.
            let before = first + drop_after - MS * 15;
            thread::sleep(before.saturating_duration_since(Instant::now()));
            put(&mut blocking, r#"{"type":"Block"}"#);
            thread::sleep(MS * 5);
            for peer in &mut peers {
                let _ = peer.write_all(&sign);
            }
            let last = Instant::now();
            let (began, ended) = blocked.recv_timeout(SOON).unwrap();
            if began >= first + drop_after || last >= ended {
                println!("attempt {attempt}: the machine is busy, and the peers were late");
                continue;
            }
            until("all are heard", || {
                let stats = server.stats();
                stats.bytes_in > 2 * all || stats.ended_by(Cause::Silence) > 0
            });
            assert_eq!(server.stats().ended_by(Cause::Silence), 0);
            return;
        }
    });
}
