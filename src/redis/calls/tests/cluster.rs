//! The scripts on a cluster of three nodes.

use std::net::TcpListener;
use std::time::Instant;

use redis::cluster::ClusterClientBuilder;

use super::*;
use crate::dispatch::Cancelled;

/// How long the nodes may take to agree.
const AGREE: Duration = Duration::from_secs(30);

/// Numbers of free ports. They stay taken until all are known.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = listeners.iter().map(|it| it.local_addr().unwrap().port());
    ports.collect()
}

/// Starts three nodes, each with its port and that of the bus. Fails if another program takes a port meanwhile.
fn start() -> Result<Vec<(RedisServer, u16, u16)>, String> {
    let ports = free_ports(6);
    let start = |(port, bus): (&u16, &u16)| {
        let (text, bus_text) = (port.to_string(), bus.to_string());
        let listen = ["--port", &text, "--bind", "127.0.0.1"];
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus_text];
        let node = RedisServer::start_with(&[listen, cluster].concat())?;
        Ok((node, *port, *bus))
    };
    ports[..3].iter().zip(&ports[3..]).map(start).collect()
}

/// Three nodes with their ports, each of which knows that the others have the other slots.
fn nodes() -> Option<Vec<(RedisServer, u16)>> {
    // Says whether the test is skipped.
    drop(for_test(&[])?);
    let nodes = (0..5).find_map(|_| start().ok()).expect("free ports");
    for (at, slots) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")]
        .into_iter()
        .enumerate()
    {
        let reply = nodes[at]
            .0
            .command(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
        assert_eq!(reply.unwrap(), "+OK\r\n");
        let (port, bus) = (nodes[at].1.to_string(), nodes[at].2.to_string());
        let meet = nodes[0]
            .0
            .command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        assert_eq!(meet.unwrap(), "+OK\r\n");
    }
    let start = Instant::now();
    let is_whole = |node: &RedisServer| {
        let info = node.command(&["CLUSTER", "INFO"]).unwrap();
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    };
    while !nodes.iter().all(|(node, ..)| is_whole(node)) {
        assert!(start.elapsed() < AGREE, "the nodes do not agree");
        std::thread::sleep(Duration::from_millis(10));
    }
    let nodes = nodes.into_iter().map(|(node, port, _)| (node, port));
    Some(nodes.collect())
}

#[test]
fn topics_are_on_all_nodes_of_a_cluster_and_each_on_one() {
    let Some(nodes) = nodes() else { return };
    let urls = nodes
        .iter()
        .map(|(_, port)| format!("redis://127.0.0.1:{port}/"));
    let client = ClusterClientBuilder::new(urls)
        .retries(3)
        .connection_timeout(AGREE)
        .response_timeout(AGREE)
        .build()
        .unwrap();
    for topic in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let link = Link::over(client.get_connection().unwrap());
        let mut store = Store::over(link, topic);
        let unique = |payload: &[u8]| Emission {
            due: When::After(9),
            unique: Some(("key".to_owned(), crate::dispatch::OnDuplicate::Keep)),
            payload: payload.to_vec(),
        };
        let groups = [plain(&["x", "y", "z"]), vec![unique(b"u")]];
        for _ in 0..2 {
            let reply = store.emit_as("s", 1, 99, &groups).unwrap();
            let accepted = [GroupReply::Accepted(1), GroupReply::Accepted(4)];
            assert_eq!(reply.unwrap(), accepted);
        }
        let mut outcomes = Outcomes::default();
        let claim = WorkCall {
            want: 3,
            ..idle(&outcomes)
        };
        let reply = store.work(&claim).unwrap();
        assert_eq!(reply.events.len(), 3);
        let fence = reply.fence;
        let renewed = store.renew(1_000, &[(1, fence), (2, fence)]);
        assert!(renewed.lost.is_empty());
        let cancelled = store.cancel(&[2, 9]);
        assert_eq!(cancelled, [Cancelled::Running, Cancelled::Unknown]);
        outcomes.done = vec![(1, fence), (2, fence)];
        outcomes.dead = vec![(3, fence, b"no".to_vec())];
        let end = WorkCall {
            seq: 2,
            ..idle(&outcomes)
        };
        assert_eq!(store.work(&end).unwrap().stale, [2]);
        assert!(store.reschedule(4, When::Now));
        assert_eq!(
            store.view(false, 0, 9)[0].payload.as_deref(),
            Some(&b"u"[..])
        );
        assert_eq!(store.view(true, 0, 9)[0].id, 3);
        assert_eq!(store.replay(99, &[(3, b"again".to_vec())]), 1);
        assert!(store.pause(true));
        assert_eq!((store.purge(9), store.audit()), (0, 0));
        let account = store.account();
        assert_eq!(
            (account.waiting, account.done, account.is_paused),
            (2, 1, true)
        );
    }
    // Nine keys of each topic, of which two are not there at the end.
    let mut keys = 0;
    for (node, _) in &nodes {
        let size = node.command(&["DBSIZE"]).unwrap();
        let size: usize = size.trim().trim_start_matches(':').parse().unwrap();
        assert!(size > 0, "a node has no topic");
        keys += size;
    }
    assert_eq!(keys, 8 * 8);
}
