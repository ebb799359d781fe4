//! This library, with the default number of threads for its core.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use liveness::server::{Agent, Cause, Closed, Json, Keepalive, Server};

use super::Task;
use crate::candidate::Candidate;
use crate::wire::{Wire, body};
use peers::Failure;

/// Is the server. `broadcast` sends to all; `late` prints how much longer than allowed each silent peer was there, in
/// milliseconds.
pub(super) fn run(task: &Task) -> Result<(), Failure> {
    let [ping, drop] = task.keepalive.map(Duration::from_millis);
    let late: Arc<Mutex<Vec<f64>>> = Arc::default();
    let ends = late.clone();
    let echo = |agent: &Agent<Json, ()>, text: String| agent.send("Echo", &text);
    let builder = Server::<Json, ()>::builder()
        .keepalive(Keepalive::new(ping, drop))
        // The peers have no such limit.
        .max_handshaking(20_000);
    let builder = match task.candidate.wire() {
        Wire::Tcp => builder.tcp("127.0.0.1:0"),
        Wire::WebSocket => builder.websocket("127.0.0.1:0"),
    };
    let builder = match task.candidate {
        Candidate::TcpInline | Candidate::WsInline => builder.on_inline("Echo", echo),
        _ => builder.on("Echo", echo),
    };
    let server = builder
        .closed(move |_, closed: &Closed| {
            if closed.cause == Cause::Silence {
                let beyond = closed.silent.as_secs_f64() - drop.as_secs_f64();
                let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.push(beyond * 1e3);
            }
        })
        .start()?;
    super::ready(server.local_addrs()[0].port(), |line| {
        if line == "broadcast" {
            server.broadcast("News", &body("News", 252))?;
        } else {
            let late = late.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{}", serde_json::to_string(&*late)?);
        }
        Ok(())
    })
}
