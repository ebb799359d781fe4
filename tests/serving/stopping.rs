//! The end of a server.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use liveness::server::{Cause, SendError, Shutdown, ShutdownReport};

use crate::kit::{
    MS, Peer, Report, SOON, connect, connect_websocket, get, get_frame, put, put_frame, reporting,
    until,
};

#[test]
fn a_shutdown_closes_all_spread_over_a_time_and_reports_each() {
    let (builder, reports) = reporting();
    let server = builder.close_within(MS * 200).start().unwrap();
    let mut readers: Vec<_> = (0..20)
        .map(|_| connect_websocket(server.local_addrs()[1]))
        .collect();
    let _silent: Vec<_> = (0..5)
        .map(|_| connect_websocket(server.local_addrs()[1]))
        .collect();
    until("all are open", || server.stats().opened_reports == 25);
    let spread = Duration::from_millis(400);
    let reading = thread::spawn(move || {
        let began = Instant::now();
        let at = readers.iter_mut().map(|reader| {
            let (opcode, payload) = get_frame(reader);
            assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
            put_frame(reader, 8, &payload);
            began.elapsed()
        });
        at.max().unwrap()
    });
    let began = Instant::now();
    let report = server.shutdown(Shutdown::within(SOON).spread(spread));
    assert!(began.elapsed() < SOON, "{report:?}");
    assert_eq!(report.open, 25);
    assert!(
        report.still_running.is_empty() && report.unreported.is_empty(),
        "{report:?}"
    );
    assert!(reading.join().unwrap() >= spread / 2);
    let mut causes = reports.try_iter().filter_map(|it| match it {
        Report::Closed(closed) => Some(closed.cause),
        Report::Opened => None,
    });
    assert!(
        causes
            .by_ref()
            .take(25)
            .all(|cause| cause == Cause::Shutdown)
    );
    let stats = server.stats();
    assert!(
        stats.is_balanced() && stats.closed == 25 && stats.reported == 0,
        "{stats:?}"
    );
    assert_eq!(
        server.shutdown(Shutdown::within(SOON)),
        ShutdownReport::default()
    );
}

#[test]
fn a_handler_that_does_not_return_is_reported_and_holds_up_nothing() {
    let (stalled, stalls) = channel();
    let (release, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = reporting()
        .0
        .stall_after(MS * 50)
        .on_stall(move |blocked| stalled.send(blocked.clone()).unwrap())
        .on("Hang", move |_: &Peer, ()| {
            let _ = wait.lock().unwrap().recv();
        })
        .start()
        .unwrap();
    let mut stream = connect(server.local_addrs()[0]);
    put(&mut stream, r#"{"type":"Echo","data":1}"#);
    get(&mut stream);
    // Threads that wait for work are not blocked.
    thread::sleep(MS * 150);
    assert!(stalls.try_recv().is_err());
    put(&mut stream, r#"{"type":"Hang"}"#);
    let blocked = stalls.recv_timeout(SOON).unwrap();
    let agent = server.agents().pop().unwrap();
    assert_eq!((&*blocked.route, blocked.agent), ("Hang", agent.id()));
    assert!(blocked.since >= MS * 50 && blocked.thread.starts_with("server-h"));
    let began = Instant::now();
    let report = server.shutdown(Shutdown::within(MS * 300));
    assert!(began.elapsed() < SOON);
    assert_eq!(report.still_running, [blocked.thread]);
    assert_eq!(report.unreported, [agent.id()]);
    assert!(matches!(agent.send("Echo", &1), Err(SendError::Closed)));
    drop(release);
}

#[test]
fn a_shutdown_names_the_agents_that_it_cut() {
    let server = reporting().0.start().unwrap();
    let mut answering = connect_websocket(server.local_addrs()[1]);
    until("it is open", || server.stats().opened_reports == 1);
    let answering_agent = server.agents()[0].id();
    let _silent = connect_websocket(server.local_addrs()[1]);
    until("both are open", || server.stats().opened_reports == 2);
    let ids = server.agents().into_iter().map(|it| it.id());
    let silent_agent = ids.max().unwrap();
    assert!(silent_agent > answering_agent);
    let answer = thread::spawn(move || {
        let (_, close) = get_frame(&mut answering);
        put_frame(&mut answering, 8, &close);
        answering
    });
    let report = server.shutdown(Shutdown::within(Duration::from_secs(3)));
    assert_eq!(report.cut, [silent_agent], "{report:?}");
    assert!(report.unreported.is_empty() && report.still_running.is_empty());
    drop(answer.join());
}
