//! A cluster of three nodes, for tests.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use redis::cluster::ClusterClientBuilder;

use super::link::Link;
use super::redis_server::{RedisServer, for_test};

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
pub(crate) fn nodes() -> Option<Vec<(RedisServer, u16)>> {
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
        thread::sleep(Duration::from_millis(10));
    }
    let nodes = nodes.into_iter().map(|(node, port, _)| (node, port));
    Some(nodes.collect())
}

/// Connects to the cluster.
pub(crate) fn connect(nodes: &[(RedisServer, u16)]) -> Link {
    let urls = nodes
        .iter()
        .map(|(_, port)| format!("redis://127.0.0.1:{port}/"));
    let client = ClusterClientBuilder::new(urls)
        .retries(3)
        .connection_timeout(AGREE)
        .response_timeout(AGREE)
        .build()
        .unwrap();
    Link::over(client.get_connection().unwrap())
}
