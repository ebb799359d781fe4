//! The verdict on a silent server, in its exact time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use liveness::client::{LinkError, State};
use liveness::server::{Cause, Json, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::{MS, SOON, client, close, next_that, server};

/// What makes the test binary a server.
const ROLE: &str = "LIVENESS_TEST_SERVER";

/// By how much a verdict may be late on a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(10);

/// A server in another process.
struct Process {
    /// The process.
    child: Child,
    /// Where it listens.
    address: SocketAddr,
}

impl Process {
    /// Starts it; it runs the test `name` in the role of the server.
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                line.unwrap()
                    .split_once("listens on ")
                    .map(|it| it.1.parse().unwrap())
            })
            .unwrap();
        thread::spawn(move || lines.for_each(drop));
        Process { child, address }
    }

    /// Sends it a signal.
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is a server until the standard input ends, in that role. Returns whether it was.
fn was_server() -> bool {
    if std::env::var_os(ROLE).is_none() {
        return false;
    }
    let server = Server::<Json, ()>::builder()
        .websocket("127.0.0.1:0")
        .start()
        .unwrap();
    println!("listens on {}", server.local_addrs()[0]);
    let _ = std::io::stdin().read(&mut [0]);
    true
}

#[test]
fn a_stopped_server_is_offline_after_the_unanswered_pings_in_exact_time() {
    if was_server() {
        return;
    }
    let name = "verdict::a_stopped_server_is_offline_after_the_unanswered_pings_in_exact_time";
    let process = Process::start(name);
    let (builder, states) = client(&format!("ws://{}/", process.address));
    let client = builder
        .unanswered(250 * MS, 3)
        .connect_within(500 * MS)
        .start()
        .unwrap();
    next_that(&states, State::is_online);
    // Pings are answered for a while.
    thread::sleep(1_500 * MS);
    assert!(client.state().is_online());
    process.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
    let took = stopped.elapsed();
    let State::Offline {
        failures: 1,
        error: LinkError::Ended(closed),
    } = &lost
    else {
        panic!("{lost}");
    };
    assert_eq!(closed.cause, Cause::Silence);
    assert!(closed.silent >= 1_000 * MS, "{closed}");
    assert!(closed.silent < 1_000 * MS + SLACK, "{closed}");
    // The last byte may have come up to a ping before the stop.
    assert!(took >= 740 * MS && took < 1_000 * MS + SLACK, "{took:?}");
    println!("{closed}");
    // The kernel accepts connections for a stopped process, but it upgrades none.
    let refused = next_that(&states, |state| {
        matches!(state, State::Offline { failures: 2, .. })
    });
    assert!(
        refused.to_string().contains("incomplete for too long"),
        "{refused}"
    );
    process.signal(Signal::SIGCONT);
    next_that(&states, State::is_online);
    let stats = client.stats();
    assert_eq!(stats.silence.count(), 1);
    close(&client);
}

#[test]
fn a_killed_server_is_offline_at_once_and_online_when_it_is_back() {
    if was_server() {
        return;
    }
    let name = "verdict::a_killed_server_is_offline_at_once_and_online_when_it_is_back";
    let process = Process::start(name);
    let address = process.address;
    let (builder, states) = client(&format!("ws://{address}/"));
    let client = builder.start().unwrap();
    next_that(&states, State::is_online);
    let killed = Instant::now();
    drop(process);
    let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
    assert!(killed.elapsed() < SLACK, "{:?}", killed.elapsed());
    assert!(
        lost.to_string().contains("end of stream") || lost.to_string().contains("reset"),
        "{lost}"
    );
    let server = server().websocket(address.to_string()).start().unwrap();
    let State::Online { attempt } = next_that(&states, State::is_online) else {
        unreachable!()
    };
    assert!(attempt >= 1);
    close(&client);
    drop(server);
}

#[test]
fn a_server_that_sends_bytes_is_alive_and_is_dropped_exactly_after_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (builder, states) = client(&format!("tcp://{}", listener.local_addr().unwrap()));
    let client = builder.unanswered(120 * MS, 4).start().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    next_that(&states, State::is_online);
    let began = Instant::now();
    // A byte now and then, which completes no message and answers no ping.
    stream.write_all(&[0, 200]).unwrap();
    for _ in 0..10 {
        thread::sleep(40 * MS);
        stream.write_all(b"x").unwrap();
    }
    let last = Instant::now();
    let lost = next_that(&states, |state| matches!(state, State::Offline { .. }));
    let took = last.elapsed();
    let State::Offline {
        error: LinkError::Ended(closed),
        ..
    } = &lost
    else {
        panic!("{lost}");
    };
    assert_eq!(closed.cause, Cause::Silence);
    assert!(closed.silent >= 600 * MS, "{closed}");
    assert!(took >= 599 * MS && took < 600 * MS + SLACK, "{took:?}");
    let all = began.elapsed();
    // Four pings have come, and then the end: a half-open connection is not waited for. On a busy machine the bytes may
    // be so far apart that there were pings between them.
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    let pings = bytes.windows(6).filter(|it| it == b"\"Ping\"").count();
    assert!(
        pings >= 4 && pings as u128 <= all.as_millis() / 120,
        "{pings} in {all:?}"
    );
    close(&client);
}

#[test]
fn a_reactor_that_was_busy_does_not_blame_the_server() {
    // All clients of the process wait for the handler.
    let name = "verdict::a_reactor_that_was_busy_does_not_blame_the_server";
    crate::alone::alone(name, || {
        let server = server().tcp("127.0.0.1:0").start().unwrap();
        let (builder, states) = client(&format!("tcp://{}", server.local_addrs()[0]));
        let client = builder
            .unanswered(50 * MS, 2)
            .on_inline("Echo", |_, ms: u64| {
                thread::sleep(Duration::from_millis(ms));
            })
            .start()
            .unwrap();
        next_that(&states, State::is_online);
        client.send("Echo", &1_000).unwrap();
        thread::sleep(2_000 * MS);
        assert!(client.state().is_online(), "{}", client.state());
        close(&client);
        assert_eq!(client.stats().opened, 1);
    });
}
