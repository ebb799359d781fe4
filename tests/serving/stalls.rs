//! User code that blocks, and calls from everywhere.

use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{
    Agent, Cause, Group, Json, Keepalive, Ping, RequestError, Server, Shutdown,
};

use crate::kit::{
    MS, Peer, SOON, connect, connect_websocket, echo, framed, get, head, next_end, put, put_frame,
    reporting, request, try_get, until,
};

/// Blocks handlers until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

#[test]
fn handlers_that_all_sleep_hold_up_neither_keepalive_nor_accepting() {
    let drop_after = MS * 400;
    let (gate, builder) = (Gate::default(), reporting());
    let (stalled, stalls) = channel();
    let server = builder
        .0
        .handlers(2)
        .keepalive(Keepalive::new(MS * 150, drop_after).ping(Ping::Message))
        .stall_after(MS * 100)
        .on_stall(move |blocked| drop(stalled.send(blocked.clone())))
        .on("Sleep", {
            let gate = gate.clone();
            move |_: &Peer, ()| gate.pass()
        })
        .on_inline("Now", |agent: &Peer, number: u64| {
            agent.send("Now", &number)
        })
        .start()
        .unwrap();
    let reports = builder.1;
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    let mut sleeping: Vec<_> = (0..3).map(|_| connect(tcp)).collect();
    for stream in &mut sleeping {
        put(stream, r#"{"type":"Sleep"}"#);
    }
    let mut threads: Vec<_> = (0..2).map(|_| stalls.recv_timeout(SOON).unwrap()).collect();
    threads.sort_by(|a, b| a.thread.cmp(&b.thread));
    assert!(
        threads
            .iter()
            .all(|blocked| blocked.route == "Sleep" && blocked.since >= MS * 100)
    );
    assert_ne!(threads[0].thread, threads[1].thread);
    // More than may wait, so that these are no longer read.
    let many: Vec<u8> = framed(r#"{"type":"Echo","data":1}"#).repeat(100_000);
    for stream in &mut sleeping {
        stream.set_write_timeout(Some(MS * 50)).unwrap();
        let _ = stream.write_all(&many);
    }
    let read = server.stats().bytes_in;
    assert!(read < 1 << 20, "{read}");

    // Meanwhile: a silent peer is pinged and dropped, one that talks is answered, and others are accepted.
    let began = Instant::now();
    let silent = thread::spawn(move || {
        let began = Instant::now();
        let mut stream = connect(tcp);
        assert_eq!(get(&mut stream), r#"{"type":"Ping","data":{}}"#);
        assert!(began.elapsed() >= MS * 150);
        while try_get(&mut stream).is_ok() {}
        assert!(began.elapsed() >= drop_after);
    });
    let mut talking = connect(tcp);
    let mut number = 0_u64;
    while began.elapsed() < drop_after * 2 || !silent.is_finished() {
        let message = format!(r#"{{"type":"Now","data":{number}}}"#);
        put(&mut talking, &message);
        // Pings may come in between.
        while get(&mut talking) != message {}
        number += 1;
        thread::sleep(MS);
        assert!(began.elapsed() < SOON);
    }
    silent.join().unwrap();
    connect_websocket(websocket);
    let mut health = connect(websocket);
    health
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert!(head(&mut health).starts_with("HTTP/1.1 200 "));
    let stats = server.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(
        (stats.stalls, stats.ended_by(Cause::Silence)),
        (2, 1),
        "{stats:?}"
    );
    // The openings of the later ones wait, and the end of the silent one.
    assert!(stats.opened_reports <= 3 && stats.closed > 0, "{stats:?}");
    // Those whose messages wait are not called silent.
    assert!(stats.open >= 4, "{stats:?}");
    assert!(reports.try_iter().count() <= 3);

    gate.open();
    for stream in &mut sleeping {
        while get(stream) != r#"{"type":"Echo","data":1}"# {}
    }
    drop(sleeping);
    until("an end is reported", || {
        next_end(&reports).cause == Cause::Silence
    });
}

/// What the calls are made with.
struct Everything {
    server: Server<Json, ()>,
    group: Group<u64>,
    done: Mutex<Sender<String>>,
}

/// What callbacks see; set once the server has started.
type Shared = Arc<OnceLock<Everything>>;

/// Makes every call, none of which may block for long, and reports that it is done.
fn call_all(shared: &Shared, agent: Option<&Peer>, from: &str) {
    let Some(Everything {
        server,
        group,
        done,
    }) = shared.get()
    else {
        return;
    };
    if let Some(agent) = agent {
        let _ = agent.send("Text", "x");
        let _ = agent.try_send("Text", "x");
        agent.join("room");
        let _ = agent.publish("room", "Text", "x");
        let _ = agent.broadcast("Text", "x");
        agent.leave("room");
        let answer = agent.request::<_, u64>("Ask", &1, MS * 20);
        assert!(
            !matches!(answer, Err(RequestError::Decode(_))),
            "{answer:?}"
        );
        let _ = (
            agent.data(),
            agent.queued(),
            agent.is_open(),
            agent.rtt(),
            agent.last_heard(),
        );
    }
    server.broadcast("Text", "x").unwrap();
    server.publish("room", "Text", "x").unwrap();
    for agent in server.agents() {
        let _ = agent.send("Text", "x");
        assert!(
            server
                .get(agent.id())
                .is_none_or(|it| it.id() == agent.id())
        );
    }
    assert!(server.stats().is_balanced());
    let _ = group.post(|count| *count += 1);
    let _ = group.call(|count| *count);
    let _ = group.call_timeout(|count| *count, SOON);
    let _ = group.after(MS, |count| *count += 1);
    let _ = group.slow(|| (), |count, _| *count += 1);
    let _ = group.stats();
    if let Some(agent) = agent {
        agent.close(4_000, "done");
        let _ = agent.send("Text", "x");
    }
    let _ = done.lock().unwrap().send(from.to_owned());
}

/// The callbacks of a server, and what else may call it.
const CALLERS: [&str; 9] = [
    "authorize",
    "opened",
    "on",
    "on_inline",
    "on_request",
    "closed",
    "on_stall",
    "group",
    "thread",
];

/// Starts a server that makes `call` in each of its callbacks, with a name, and agents where there are some.
fn start(
    call: impl Fn(&Shared, Option<&Peer>, &str) + Clone + Send + Sync + 'static,
    done: Sender<String>,
) -> Shared {
    let shared = Shared::default();
    let run = |from: &'static str| {
        let (call, shared) = (call.clone(), shared.clone());
        move |agent: &Peer| call(&shared, Some(agent), from)
    };
    let [on, on_inline, on_request] = ["on", "on_inline", "on_request"].map(run);
    let [opened, closed] = ["opened", "closed"].map(run);
    let bare = |from: &'static str| {
        let (call, shared) = (call.clone(), shared.clone());
        move || call(&shared, None, from)
    };
    let [authorize, on_stall] = ["authorize", "on_stall"].map(bare);
    let server = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .websocket("127.0.0.1:0")
        .stall_after(MS * 50)
        .close_within(MS * 100)
        .authorize(move |_| {
            authorize();
            Ok(())
        })
        .opened(move |agent| {
            // Those on TCP are for other callbacks.
            if agent.transport() == liveness::server::Transport::WebSocket {
                opened(agent);
            }
        })
        .on("On", move |agent: &Peer, ()| on(agent))
        .on_inline("Inline", move |agent: &Peer, ()| on_inline(agent))
        .on_request("Request", move |agent: &Peer, ()| {
            on_request(agent);
            Ok(())
        })
        .on("Stall", |_: &Peer, ()| thread::sleep(MS * 150))
        .closed(move |agent, _| closed(agent))
        .on_stall(move |_| on_stall())
        .start()
        .unwrap();
    let group = Group::builder("group").spawn(0).unwrap();
    let done = Mutex::new(done);
    assert!(
        shared
            .set(Everything {
                server,
                group,
                done
            })
            .is_ok()
    );
    shared
}

/// Lets `caller` make its call.
fn provoke(
    shared: &Shared,
    caller: &str,
    call: impl Fn(&Shared, Option<&Peer>, &str) + Send + 'static,
) {
    let Everything { server, group, .. } = shared.get().unwrap();
    let [tcp, websocket] = [0, 1].map(|index| server.local_addrs()[index]);
    let message = |message: &str| put(&mut connect(tcp), message);
    match caller {
        "authorize" | "opened" => {
            // The server may end meanwhile.
            let _ = connect(websocket).write_all(request("/", "").as_bytes());
        }
        "on" => message(r#"{"type":"On"}"#),
        "on_inline" => message(r#"{"type":"Inline"}"#),
        "on_request" => message(r#"{"type":"Request","id":1}"#),
        "on_stall" => message(r#"{"type":"Stall"}"#),
        "closed" => drop(connect(tcp)),
        "group" => {
            let shared = shared.clone();
            group.post(move |_| call(&shared, None, "group")).unwrap();
        }
        _ => {
            let shared = shared.clone();
            thread::spawn(move || {
                let agent = shared.get().unwrap().server.agents().pop();
                call(&shared, agent.as_ref(), "thread");
            });
        }
    }
}

#[test]
fn every_call_returns_in_every_callback_and_on_every_thread() {
    let (send, done) = channel();
    let shared = start(call_all, send);
    let began = Instant::now();
    let mut count = [0; CALLERS.len()];
    // All of them, several times and at once.
    for _ in 0..5 {
        for caller in CALLERS {
            provoke(&shared, caller, call_all);
        }
    }
    while count.iter().any(|count| *count < 3) {
        let from = done
            .recv_timeout(SOON)
            .unwrap_or_else(|_| panic!("a deadlock: {count:?}"));
        count[CALLERS.iter().position(|it| *it == from).unwrap()] += 1;
        assert!(began.elapsed() < SOON, "{count:?}");
    }
    let Everything { server, group, .. } = shared.get().unwrap();
    echo_none(server);
    let report = server.shutdown(Shutdown::within(SOON));
    assert_eq!(report.still_running, [""; 0]);
    assert_eq!(server.stats().panics, 0);
    assert!(group.stop(SOON).state.is_some());
}

/// Waits until no connection is left.
fn echo_none(server: &Server<Json, ()>) {
    until("all have gone", || {
        let stats = server.stats();
        stats.open + stats.closing + stats.handshaking + stats.reported == 0
    });
}

/// Shuts the server down.
fn shut(shared: &Shared, _: Option<&Agent<Json, ()>>, from: &str) {
    let Some(Everything { server, done, .. }) = shared.get() else {
        return;
    };
    server.shutdown(Shutdown::within(Duration::from_secs(5)));
    let _ = done.lock().unwrap().send(from.to_owned());
}

#[test]
fn a_shutdown_returns_in_every_callback_and_on_every_thread() {
    for caller in CALLERS {
        let (send, done) = channel();
        let shared = start(shut, send);
        let began = Instant::now();
        provoke(&shared, caller, shut);
        let from = done
            .recv_timeout(SOON)
            .unwrap_or_else(|_| panic!("a deadlock in {caller}"));
        // Another callback may have come first.
        assert!(CALLERS.contains(&&*from));
        let server = &shared.get().unwrap().server;
        until(caller, || {
            std::net::TcpStream::connect(server.local_addrs()[0]).is_err()
        });
        echo_none(server);
        assert!(began.elapsed() < SOON, "{caller}");
    }
}

#[test]
fn a_handler_that_sleeps_leaves_the_others_their_speed() {
    let gate = Gate::default();
    let server = reporting()
        .0
        .on("Sleep", {
            let gate = gate.clone();
            move |_: &Peer, ()| gate.pass()
        })
        .start()
        .unwrap();
    let mut sleeping = connect_websocket(server.local_addrs()[1]);
    put_frame(&mut sleeping, 1, br#"{"type":"Sleep"}"#);
    let mut stream = connect(server.local_addrs()[0]);
    let mut times: Vec<Duration> = (0..2_000)
        .map(|_| {
            let began = Instant::now();
            echo(&mut stream);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "echo beside a sleeping handler: p50 {:?}, p99 {:?}",
        times[1_000], times[1_980]
    );
    assert!(times[1_000] < MS * 5, "{:?}", times[1_000]);
    gate.open();
}
