//! Many connections that are idle: their memory, and that exactly those are dropped that have stopped.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use liveness::server::{AgentId, Cause, Closed, Json, Keepalive, Server, Shutdown};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::kit::{MS, SOON, connect_websocket, frame, until};
use crate::processes::{is_long, raise_limit};

/// Returns the memory of this process that is resident and its own, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// Clients that answer pings, on one thread.
struct Clients {
    poll: Poll,
    streams: Vec<TcpStream>,
}

impl Clients {
    fn connect(address: SocketAddr, count: usize) -> Self {
        let poll = Poll::new().unwrap();
        let streams = (0..count).map(|index| {
            let stream = connect_websocket(address);
            stream.set_nonblocking(true).unwrap();
            let mut stream = TcpStream::from_std(stream);
            let registry = poll.registry();
            registry
                .register(&mut stream, Token(index), Interest::READABLE)
                .unwrap();
            stream
        });
        let streams = streams.collect();
        Clients { poll, streams }
    }

    /// Answers pings until `is_over`, but not those of each tenth once they `have_stopped`.
    fn answer(mut self, have_stopped: &AtomicBool, is_over: &AtomicBool) {
        let mut events = Events::with_capacity(1_024);
        while !is_over.load(Ordering::Relaxed) {
            self.poll.poll(&mut events, Some(MS * 20)).unwrap();
            let has_stopped = have_stopped.load(Ordering::Relaxed);
            for event in &events {
                let index = event.token().0;
                if index % 10 == 0 && has_stopped {
                    continue;
                }
                let stream = &mut self.streams[index];
                let mut input = [0; 256];
                loop {
                    match stream.read(&mut input) {
                        Ok(0) => break,
                        // Pings have ten bytes and come whole.
                        Ok(count) => {
                            for ping in input[..count].chunks(10).filter(|it| it[0] == 0x89) {
                                stream.write_all(&frame(0x8A, &ping[2..])).unwrap();
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }
}

/// Of many idle connections exactly those are dropped that have stopped.
pub(crate) fn exactly_those_are_dropped_that_have_stopped() {
    raise_limit();
    // Both ends are in this process. A busy machine must not make the clients late.
    let (count, scale) = if is_long() { (9_900, 4) } else { (1_000, 1) };
    let keepalive = Keepalive::new(MS * 500 * scale, MS * 1_500 * scale);
    let drop_after = MS * 1_500 * scale;
    let (send, ends) = channel::<(AgentId, Closed)>();
    let server = Server::<Json, ()>::builder()
        .websocket("127.0.0.1:0")
        .keepalive(keepalive)
        .closed(move |agent, closed| send.send((agent.id(), closed.clone())).unwrap())
        .start()
        .unwrap();
    let flags: [Arc<AtomicBool>; 2] = Default::default();
    let [have_stopped, is_over] = flags.clone();
    let address = server.local_addrs()[0];
    drop(connect_websocket(address));
    until("the first has gone", || ends.try_recv().is_ok());
    let before = resident();
    let (ready, connected) = channel();
    let answering = thread::spawn(move || {
        let clients = Clients::connect(address, count);
        let addresses = clients.streams.iter().map(|it| it.local_addr().unwrap());
        ready.send(addresses.collect::<Vec<_>>()).unwrap();
        clients.answer(&have_stopped, &is_over);
    });
    let addresses = connected.recv_timeout(SOON).unwrap();
    until("all are open", || {
        server.stats().opened_reports == count as u64 + 1
    });
    let agents: HashMap<SocketAddr, AgentId> = server
        .agents()
        .iter()
        .map(|agent| (agent.peer(), agent.id()))
        .collect();
    // All have been pinged, and have answered.
    thread::sleep(drop_after);
    assert_eq!(server.stats().open, count as u64);
    assert!(server.agents().iter().all(|agent| agent.rtt().is_some()));
    let bytes = resident().saturating_sub(before) / count as u64;
    println!("{count} idle WebSockets: {bytes} bytes each, with their clients");
    assert!(bytes < 8 << 10, "{bytes}");

    flags[0].store(true, Ordering::Relaxed);
    let stopped: HashSet<AgentId> = addresses
        .iter()
        .step_by(10)
        .map(|address| agents[address])
        .collect();
    let mut dropped = HashSet::new();
    let mut late: Vec<Duration> = Vec::new();
    for _ in 0..stopped.len() {
        let (id, closed) = ends.recv_timeout(SOON).unwrap();
        assert_eq!(closed.cause, Cause::Silence, "{closed}");
        assert!(closed.silent >= drop_after, "{closed}");
        assert!(closed.late < drop_after, "{closed}");
        dropped.insert(id);
        late.push(closed.late);
    }
    late.sort();
    let [p50, p99, max] =
        [50, 99, 100].map(|part| late[(late.len() * part / 100).min(late.len() - 1)]);
    println!(
        "{} dropped, late by p50 {p50:?}, p99 {p99:?}, max {max:?}",
        late.len()
    );
    assert_eq!(dropped, stopped);
    // The others go on.
    thread::sleep(drop_after / 2);
    assert!(ends.try_recv().is_err());
    assert_eq!(server.stats().open as usize, count - stopped.len());
    flags[1].store(true, Ordering::Relaxed);
    answering.join().unwrap();
    let report = server.shutdown(Shutdown::within(SOON));
    assert!(report.still_running.is_empty() && server.stats().is_balanced());
}
