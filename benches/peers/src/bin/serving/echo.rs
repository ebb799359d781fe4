//! Messages that are sent back, as fast as they come back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Input};
use crate::wire::Wire;
use peers::Failure;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// What is between this side and the server.
    pub(crate) wire: Wire,
    /// The connections.
    pub(crate) connections: usize,
    /// The messages of each that are on the way.
    pub(crate) in_flight: usize,
    /// How long it is measured.
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Echoed {
    /// The messages that came back while it was measured.
    pub(crate) count: u64,
    /// For how long that was.
    pub(crate) elapsed: Duration,
    /// From the moment at which each message was due to its echo, nanoseconds, in ascending order.
    pub(crate) nanos: Vec<u32>,
    /// The CPU time of the server.
    pub(crate) cpu: Duration,
}

/// The messages of one connection.
#[derive(Debug, Default)]
struct Flow {
    /// How much of the next echo has come.
    at: usize,
    /// When each message on the way was due: when the echo before it was read.
    due: VecDeque<Instant>,
}

/// Sends `text` for a while, each message when the echo of an earlier one has come.
pub(crate) fn run(
    address: SocketAddr,
    load: Load,
    text: &str,
    cpu: impl Fn() -> Result<Duration, Failure>,
) -> Result<Echoed, Failure> {
    let (mut crowd, _) = Crowd::connect(address, load.wire, load.connections, 64)?;
    let requests = load.wire.request(text).repeat(load.in_flight);
    let reply = load.wire.reply(text);
    let replies = reply.repeat(load.in_flight + 1);
    let mut flows: Vec<Flow> = Vec::new();
    for peer in &mut crowd.peers {
        flows.push(Flow {
            at: 0,
            due: [Instant::now()].repeat(load.in_flight).into(),
        });
        peer.write(&requests);
    }
    let mut nanos: Vec<u32> = Vec::with_capacity(8 << 20);
    let mut count = 0;
    let mut is_wrong = false;
    let mut is_measured = false;
    let mut since = (Instant::now() + load.duration / 4, Duration::ZERO);
    loop {
        crowd.turn(Duration::from_secs(1), |index, peer, input| {
            let flow = &mut flows[index];
            let Input::Bytes(bytes) = input else {
                is_wrong = true;
                return;
            };
            let end = flow.at + bytes.len();
            // More than is on the way would be wrong as well.
            if replies.get(flow.at..end) != Some(bytes) {
                is_wrong = true;
                return;
            }
            flow.at = end % reply.len();
            let echoes = end / reply.len();
            let now = Instant::now();
            for _ in 0..echoes {
                let due = flow.due.pop_front().unwrap_or(now);
                flow.due.push_back(now);
                if is_measured {
                    let nano = now.duration_since(due).as_nanos();
                    nanos.push(u32::try_from(nano).unwrap_or(u32::MAX));
                }
            }
            count += echoes as u64;
            peer.write(&requests[..requests.len() / load.in_flight * echoes]);
        })?;
        if is_wrong {
            return Err("an echo was wrong".into());
        }
        let now = Instant::now();
        if !is_measured && now >= since.0 {
            is_measured = true;
            count = 0;
            since = (now, cpu()?);
        } else if is_measured && now >= since.0 + load.duration {
            let elapsed = now - since.0;
            let cpu = cpu()?.saturating_sub(since.1);
            nanos.sort_unstable();
            return Ok(Echoed {
                count,
                elapsed,
                nanos,
                cpu,
            });
        }
    }
}
