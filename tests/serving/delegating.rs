//! Agents whose messages run on the thread of a group.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::group::{CallError, OnPanic};
use liveness::server::{
    Agent, AgentId, Cause, Fault, Group, Json, Routes, RoutesBuilder, Server, Shutdown,
    ShutdownReport,
};

use crate::kit::{MS, Peer, SOON, connect, get, next_end, put, reporting, until};

/// What a group has seen.
type Seen = Vec<i64>;

/// A group that keeps the numbers that it gets, and its routes: `Number`, and `closed`, which is the number -1.
fn keeping(name: &str) -> (Group<Seen>, RoutesBuilder<Json, (), Seen>) {
    let group = Group::builder(name).capacity(1).spawn(Seen::new()).unwrap();
    let routes = Routes::builder(&group)
        .on("Number", |seen: &mut Seen, _: &Peer, number| {
            seen.push(number);
        })
        .closed(|seen, _, _| seen.push(-1));
    (group, routes)
}

/// Writes the message `name` with the body `number`.
fn send(stream: &mut TcpStream, name: &str, number: i64) {
    put(stream, &format!(r#"{{"type":"{name}","data":{number}}}"#));
}

/// Waits for the answer to a request, which shows that all messages before it were handled.
fn settle(stream: &mut TcpStream) {
    put(stream, r#"{"type":"Settle","id":9}"#);
    assert_eq!(get(stream), r#"{"type":"Settle","re":9,"data":null}"#);
}

/// Blocks a group until the sender is dropped.
fn block<S: Send + 'static>(group: &Group<S>) -> Sender<()> {
    let (release, released): (_, Receiver<()>) = channel();
    let (blocks, is_blocked) = channel();
    group
        .post(move |_| {
            let _ = blocks.send(());
            let _ = released.recv();
        })
        .unwrap();
    is_blocked.recv_timeout(SOON).unwrap();
    release
}

fn shut(server: &Server<Json, ()>, within: Duration) -> ShutdownReport {
    let report = server.shutdown(Shutdown::within(within));
    let stats = server.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    report
}

#[test]
fn messages_that_came_with_the_login_run_in_the_group_in_their_order() {
    let (group, routes) = keeping("world");
    let routes = routes.build().unwrap();
    let (builder, reports) = reporting();
    let server = builder
        .on("Number", |_: &Peer, number: i64| {
            panic!("{number} ran in the server")
        })
        .on("Login", move |agent: &Peer, ()| agent.delegate(&routes))
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Login"}"#);
    for number in 0..1_000 {
        send(&mut stream, "Number", number);
    }
    drop(stream);
    assert_eq!(next_end(&reports).cause, Cause::Eof);
    let seen = group.call(std::mem::take).unwrap();
    assert!(seen.iter().copied().eq((0..1_000).chain([-1])), "{seen:?}");
    assert!(shut(&server, SOON).unreported.is_empty());
}

#[test]
fn a_message_runs_once_and_in_order_however_often_the_place_changes() {
    // A list for each agent, whatever the place: a message that overtakes another one shows in it.
    let seen: Arc<Mutex<BTreeMap<AgentId, Vec<usize>>>> = Arc::default();
    let groups: Vec<Group<()>> = (0..2)
        .map(|at| {
            Group::builder(format!("g{at}"))
                .capacity(1)
                .spawn(())
                .unwrap()
        })
        .collect();
    let places: Arc<Mutex<Vec<Routes<Json, (), ()>>>> = Arc::default();
    // Every third message goes elsewhere: to the first group, to the second one, or back to the server.
    let turn = {
        let (seen, places) = (seen.clone(), places.clone());
        move |agent: &Agent<Json, ()>, number: usize| {
            seen.lock()
                .unwrap()
                .entry(agent.id())
                .or_default()
                .push(number);
            if number.is_multiple_of(3) {
                match places.lock().unwrap().get(number / 3 % 3) {
                    Some(routes) => agent.delegate(routes),
                    None => agent.undelegate(),
                }
            }
        }
    };
    for group in &groups {
        let turn = turn.clone();
        let routes = Routes::builder(group).on("Number", move |(), agent: &Peer, number| {
            turn(agent, number);
        });
        places.lock().unwrap().push(routes.build().unwrap());
    }
    let (builder, reports) = reporting();
    let server = builder
        .inbound(20, 1 << 16)
        .on("Number", turn)
        .start()
        .unwrap();
    let mut streams: Vec<_> = (0..4).map(|_| connect(server.local_addrs()[0])).collect();
    until("all are open", || server.agents().len() == 4);
    // Others change the place as well, at any time.
    let agents = server.agents();
    let (stop, is_over): (_, Receiver<()>) = channel();
    let meddling = thread::spawn({
        let places = places.clone();
        move || {
            for at in 0.. {
                if is_over.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
                let agent = &agents[at % agents.len()];
                match places.lock().unwrap().get(at % 3) {
                    Some(routes) => agent.delegate(routes),
                    None => agent.undelegate(),
                }
                thread::sleep(MS / 20);
            }
        }
    });
    for number in 0..600 {
        for stream in &mut streams {
            send(stream, "Number", number);
        }
    }
    drop(streams);
    for _ in 0..4 {
        assert_eq!(next_end(&reports).cause, Cause::Eof);
    }
    drop(stop);
    meddling.join().unwrap();
    let lists = seen.lock().unwrap();
    assert_eq!(lists.len(), 4);
    assert!(
        lists.values().all(|list| list.iter().copied().eq(0..600)),
        "{lists:?}"
    );
    places.lock().unwrap().clear();
    assert!(shut(&server, SOON).still_running.is_empty());
}

#[test]
fn a_message_that_the_group_has_no_route_for_is_handled_by_the_server_in_its_order() {
    let (send_seen, seen) = channel();
    let group = Group::builder("world").spawn(0_i64).unwrap();
    let [inside, outside] = [send_seen.clone(), send_seen];
    let routes = Routes::builder(&group)
        .on("Inside", move |sum: &mut i64, _: &Peer, number: i64| {
            *sum += number;
            inside.send(("inside", number)).unwrap();
        })
        .on_request("Sum", |sum, _, ()| {
            if *sum > 100 {
                Err(Fault::new(7, "too large"))
            } else {
                Ok(*sum)
            }
        })
        .build()
        .unwrap();
    let server = reporting()
        .0
        .opened(move |agent| agent.delegate(&routes))
        .on("Outside", move |_: &Peer, number: i64| {
            outside.send(("outside", number)).unwrap();
        })
        .on_inline("Inline", |agent: &Peer, ()| {
            let thread = thread::current().name().map(str::to_owned);
            agent.send("Inline", &thread)
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for number in 0..20 {
        send(
            &mut stream,
            if number % 2 == 0 { "Inside" } else { "Outside" },
            number,
        );
    }
    put(&mut stream, r#"{"type":"Nobody","data":1}"#);
    put(&mut stream, r#"{"type":"Nobody","id":3}"#);
    assert_eq!(
        get(&mut stream),
        r#"{"type":"Error","re":3,"code":404,"msg":"unknown message"}"#
    );
    let all: Vec<_> = seen.try_iter().collect();
    assert!(all.iter().map(|it| it.1).eq(0..20), "{all:?}");
    assert!(
        all.iter()
            .all(|(place, number)| (*place == "inside") == (number % 2 == 0))
    );
    assert_eq!(server.stats().unknown, 2);
    put(&mut stream, r#"{"type":"Sum","id":4}"#);
    assert_eq!(get(&mut stream), r#"{"type":"Sum","re":4,"data":90}"#);
    send(&mut stream, "Inside", 20);
    put(&mut stream, r#"{"type":"Sum","id":5}"#);
    assert_eq!(
        get(&mut stream),
        r#"{"type":"Error","re":5,"code":7,"msg":"too large"}"#
    );
    put(&mut stream, r#"{"type":"Inline"}"#);
    assert_eq!(get(&mut stream), r#"{"type":"Inline","data":"server-r0"}"#);
}

#[test]
fn the_end_comes_to_the_last_group_and_then_to_the_server() {
    let (first, to_first) = keeping("first");
    let (second, to_second) = keeping("second");
    let (to_first, to_second) = (to_first.build().unwrap(), to_second.build().unwrap());
    let (ends, ended) = channel();
    let place = second.clone();
    let server = reporting()
        .0
        .on("Login", move |agent: &Peer, ()| agent.delegate(&to_first))
        .on("Change", {
            let to_second = to_second.clone();
            move |agent: &Peer, ()| agent.delegate(&to_second)
        })
        .on("Leave", |agent: &Peer, ()| agent.undelegate())
        .closed(move |agent, closed| {
            // Too late: this group has had its end.
            agent.delegate(&to_second);
            let seen = place.call(|seen| seen.len()).unwrap();
            ends.send((closed.cause, seen)).unwrap();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Login"}"#);
    send(&mut stream, "Number", 1);
    put(&mut stream, r#"{"type":"Change"}"#);
    send(&mut stream, "Number", 2);
    drop(stream);
    assert_eq!(ended.recv_timeout(SOON).unwrap(), (Cause::Eof, 2));
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Login"}"#);
    put(&mut stream, r#"{"type":"Leave"}"#);
    drop(stream);
    assert_eq!(ended.recv_timeout(SOON).unwrap(), (Cause::Eof, 2));
    assert!(shut(&server, SOON).unreported.is_empty());
    assert!(ended.try_recv().is_err(), "each end is reported once");
    assert_eq!(first.call(std::mem::take).unwrap(), [1]);
    assert_eq!(second.call(std::mem::take).unwrap(), [2, -1]);
}

#[test]
fn a_group_that_is_stopped_closes_its_agents_and_loses_no_end() {
    let (group, routes) = keeping("world");
    let routes = routes.build().unwrap();
    let (builder, reports) = reporting();
    let server = builder
        .opened(move |agent| agent.delegate(&routes))
        .on_request("Settle", |_: &Peer, ()| Ok(()))
        .start()
        .unwrap();
    let mut streams: Vec<_> = (0..2).map(|_| connect(server.local_addrs()[0])).collect();
    for stream in &mut streams {
        send(stream, "Number", 1);
        settle(stream);
    }
    // One has a message in the inbox that the stop discards, the other sends one later.
    let release = block(&group);
    send(&mut streams[0], "Number", 2);
    until("the turn waits", || group.stats().waiting == 1);
    let stopping = thread::spawn(move || {
        let report = group.stop(Duration::ZERO);
        (report.discarded, group.stop(SOON).state)
    });
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::Handler);
    assert_eq!(closed.reason, "the group `world` is stopped");
    drop(release);
    let (discarded, state) = stopping.join().unwrap();
    assert_eq!((discarded, state.unwrap()), (1, vec![1, 1]));
    assert_eq!(server.stats().open, 1, "the other one has said nothing yet");
    send(&mut streams[1], "Number", 3);
    assert_eq!(next_end(&reports).cause, Cause::Handler);
    // What the group did not run is accounted for.
    assert_eq!(server.stats().unknown, 2);
    assert!(shut(&server, SOON).unreported.is_empty());
}

#[test]
fn a_route_that_panics_ends_its_connection_and_the_group_decides_about_itself() {
    let stops = [OnPanic::Continue, OnPanic::Stop];
    for on_panic in stops {
        let group = Group::builder("world")
            .on_panic(on_panic)
            .spawn(Seen::new())
            .unwrap();
        let routes = Routes::builder(&group)
            .on("Number", |seen: &mut Seen, _: &Peer, number| {
                seen.push(number);
            })
            .on("Panic", |_, _, ()| -> () {
                std::panic::resume_unwind(Box::new("for the test"))
            })
            .closed(|seen, _, _| {
                seen.push(-1);
                std::panic::resume_unwind(Box::new("for the test"))
            })
            .build()
            .unwrap();
        let (builder, reports) = reporting();
        let server = builder
            .opened(move |agent| agent.delegate(&routes))
            .start()
            .unwrap();
        let mut stream = connect(server.local_addrs()[0]);
        send(&mut stream, "Number", 1);
        put(&mut stream, r#"{"type":"Panic"}"#);
        send(&mut stream, "Number", 2);
        assert_eq!(next_end(&reports).cause, Cause::Handler);
        if on_panic == OnPanic::Continue {
            // A body of another type.
            let mut stream = connect(server.local_addrs()[0]);
            put(&mut stream, r#"{"type":"Number","data":"three"}"#);
            assert_eq!(next_end(&reports).cause, Cause::BadMessage);
            assert_eq!(group.call(std::mem::take).unwrap()[0], 1);
            // The panic, and that of two ends.
            assert_eq!((server.stats().panics, group.stats().panics), (3, 3));
        } else {
            assert!(group.is_stopped());
            assert_eq!(group.stop(SOON).state.unwrap(), [1]);
            assert_eq!((server.stats().panics, group.stats().panics), (1, 1));
        }
        assert!(group.stats().is_balanced(), "{}", group.stats());
        assert!(shut(&server, SOON).unreported.is_empty());
    }
}

#[test]
fn a_group_that_is_blocked_delays_its_agents_and_nobody_else() {
    let (group, routes) = keeping("world");
    let routes = routes.build().unwrap();
    let (builder, reports) = reporting();
    let server = builder
        .handlers(1)
        .inbound(8, 1 << 16)
        .on("Login", move |agent: &Peer, ()| agent.delegate(&routes))
        .on_request("Settle", |_: &Peer, ()| Ok(()))
        .start()
        .unwrap();
    let mut mine: Vec<_> = (0..3).map(|_| connect(server.local_addrs()[0])).collect();
    let mut other = connect(server.local_addrs()[0]);
    for stream in &mut mine {
        put(stream, r#"{"type":"Login"}"#);
        settle(stream);
    }
    let release = block(&group);
    // More than a strand holds: the rest stays in the sockets.
    let writing: Vec<_> = mine
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                // Answered by the reactor, as long as it reads.
                put(&mut stream, r#"{"type":"Ping","data":{}}"#);
                assert_eq!(get(&mut stream), r#"{"type":"Pong","data":{}}"#);
                for number in 0..2_000 {
                    send(&mut stream, "Number", number);
                }
                stream
            })
        })
        .collect();
    for number in 0..200 {
        let echo = format!(r#"{{"type":"Echo","data":{number}}}"#);
        put(&mut other, &echo);
        assert_eq!(get(&mut other), echo);
    }
    // One turn for each connection, however much waits.
    until("the turns wait", || group.stats().waiting == 3);
    drop(release);
    for stream in writing {
        settle(&mut stream.join().unwrap());
    }
    for _ in 0..3 {
        next_end(&reports);
    }
    let seen = group.call(std::mem::take).unwrap();
    for number in 0..2_000 {
        assert_eq!(seen.iter().filter(|it| **it == number).count(), 3);
    }
    assert!(shut(&server, SOON).still_running.is_empty());
}

#[test]
fn a_shutdown_waits_for_a_group_and_reports_the_agents_of_one_that_is_blocked() {
    for is_blocked_for_good in [false, true] {
        let (group, routes) = keeping("world");
        let routes = routes.build().unwrap();
        let (builder, reports) = reporting();
        let server = builder
            .opened(move |agent| agent.delegate(&routes))
            .start()
            .unwrap();
        let mut stream = connect(server.local_addrs()[0]);
        let release = block(&group);
        send(&mut stream, "Number", 1);
        until("the turn waits", || group.stats().waiting == 1);
        let ids: Vec<AgentId> = server.agents().iter().map(Agent::id).collect();
        if is_blocked_for_good {
            let began = Instant::now();
            let report = shut(&server, MS * 300);
            assert!(began.elapsed() < SOON);
            assert_eq!(report.unreported, ids);
            drop(release);
            // It goes on when it can; the server has no thread left for its own report.
            assert_eq!(group.call(std::mem::take).unwrap(), [1, -1]);
        } else {
            let releasing = thread::spawn(move || {
                thread::sleep(MS * 100);
                drop(release);
            });
            assert!(shut(&server, SOON).unreported.is_empty());
            assert_eq!(next_end(&reports).cause, Cause::Shutdown);
            assert_eq!(group.call(std::mem::take).unwrap(), [1, -1]);
            releasing.join().unwrap();
        }
    }
}

#[test]
fn a_name_has_one_handler() {
    let (_group, routes) = keeping("world");
    let error = routes.on("Number", |_, _, ()| ()).build().unwrap_err();
    let text =
        "`on` must have one handler for each name other than Ping, Pong and Error, not `Number`";
    assert_eq!(error.to_string(), text);
    let (_group, routes) = keeping("world");
    assert!(routes.on("Ping", |_, _, ()| ()).build().is_err());
}

#[test]
fn a_route_that_blocks_its_group_is_reported_with_the_group_and_the_agent() {
    let group = Group::builder("world").spawn(()).unwrap();
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let released = Mutex::new(released);
    let routes = Routes::builder(&group)
        .on("Wait", move |(), _, ()| {
            let _ = released.lock().unwrap().recv();
        })
        .build()
        .unwrap();
    let (stalls, stalled) = channel();
    let (builder, reports) = reporting();
    let server = builder
        .stall_after(MS * 50)
        .on_stall(move |blocked| {
            let _ = stalls.send(blocked.clone());
        })
        .opened(move |agent| agent.delegate(&routes))
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    for _ in 0..2 {
        put(&mut stream, r#"{"type":"Wait"}"#);
        let blocked = stalled.recv_timeout(SOON).unwrap();
        let agent = server.agents()[0].id();
        assert_eq!((&*blocked.thread, &*blocked.route), ("world", "Wait"));
        assert_eq!(blocked.agent, agent);
        assert!(blocked.since >= MS * 50, "{blocked}");
        assert_eq!(server.blocked(), ["world"]);
        release.send(()).unwrap();
        until("it goes on", || server.blocked().is_empty());
    }
    assert_eq!(server.stats().stalls, 2);
    drop(stream);
    next_end(&reports);
}

#[test]
fn a_route_of_a_group_may_shut_its_server_down() {
    let group = Group::builder("world").spawn(()).unwrap();
    let server: Arc<Mutex<Option<Server<Json, ()>>>> = Arc::default();
    let (sends, sent) = channel();
    let routes = Routes::builder(&group)
        .on("Shutdown", {
            let server = server.clone();
            move |(), _, ()| {
                let server = server.lock().unwrap().take().unwrap();
                // It waits for the end of this route, so this must not wait for it.
                sends.send(server.shutdown(Shutdown::within(SOON))).unwrap();
            }
        })
        .build()
        .unwrap();
    let (builder, reports) = reporting();
    let started = builder
        .opened(move |agent| agent.delegate(&routes))
        .start()
        .unwrap();
    let address = started.local_addrs()[0];
    *server.lock().unwrap() = Some(started);
    let mut stream = connect(address);
    put(&mut stream, r#"{"type":"Shutdown"}"#);
    let report = sent.recv_timeout(SOON).unwrap();
    assert_eq!((report.open, report.unreported.len()), (1, 1));
    assert_eq!(next_end(&reports).cause, Cause::Shutdown);
}

#[test]
fn everything_can_be_called_in_a_route_of_a_group() {
    let group = Group::builder("world").capacity(1).spawn(0_u32).unwrap();
    let (inside, other) = (
        group.downgrade(),
        Group::builder("other").spawn(7_u32).unwrap(),
    );
    let to_other = Routes::builder(&other).on_request("Ask", |state, _, ()| Ok(*state));
    let to_other = to_other.build().unwrap();
    let (sends, sent) = channel();
    let routes = Routes::builder(&group)
        .on_request("Ask", move |state: &mut u32, agent: &Peer, ()| {
            *state += 1;
            let world = inside.upgrade().unwrap();
            assert_eq!(world.call(|state| *state), Err(CallError::WouldDeadlock));
            assert_eq!(other.call(|state| *state), Ok(7));
            world.post(|state| *state += 10).unwrap();
            let age = agent.request::<_, u32>("Age", "ada", SOON).unwrap();
            agent.join("room");
            agent.publish("room", "Room", &age).unwrap();
            agent.broadcast("All", &age).unwrap();
            agent.undelegate();
            agent.delegate(&to_other);
            sends.send(agent.clone()).unwrap();
            Ok(*state)
        })
        .build()
        .unwrap();
    let (builder, reports) = reporting();
    let server = builder
        .opened(move |agent| agent.delegate(&routes))
        .on("Close", |agent: &Peer, ()| agent.close(4_000, "enough"))
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Ask","id":1}"#);
    put(&mut stream, r#"{"type":"Ask","id":2}"#);
    assert_eq!(get(&mut stream), r#"{"type":"Age","id":1,"data":"ada"}"#);
    put(&mut stream, r#"{"type":"Age","re":1,"data":36}"#);
    for expected in [
        r#"{"type":"Room","data":36}"#,
        r#"{"type":"All","data":36}"#,
        r#"{"type":"Ask","re":1,"data":1}"#,
        r#"{"type":"Ask","re":2,"data":7}"#,
    ] {
        assert_eq!(get(&mut stream), expected);
    }
    assert_eq!(group.call(|state| *state), Ok(11));
    put(&mut stream, r#"{"type":"Close"}"#);
    drop(stream);
    next_end(&reports);
    // After the end, nothing happens.
    let agent = sent.recv_timeout(SOON).unwrap();
    agent.undelegate();
    assert!(agent.send("Late", &1).is_err());
}
