//! Who is measured.

use peers::frame::Named;
use serde::{Deserialize, Serialize};

use crate::wire::Wire;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Candidate {
    /// The least that a server can do.
    Floor,
    /// This library on TCP, with a handler on the reactor.
    TcpInline,
    /// This library on TCP, with a handler on the pool.
    TcpStrand,
    /// This library on WebSocket, with a handler on the reactor.
    WsInline,
    /// This library on WebSocket, with a handler on the pool.
    WsStrand,
    /// Bun, which is uWebSockets.
    Bun,
    /// `tokio-tungstenite` with small buffers that flushes once for all messages that have come.
    TungsteniteTuned,
    /// `tokio-tungstenite` as its examples have it.
    Tungstenite,
    /// `ws` on Node.js.
    NodeWs,
}

impl Named for Candidate {
    const ALL: &'static [Self] = &[
        Candidate::Floor,
        Candidate::TcpInline,
        Candidate::TcpStrand,
        Candidate::WsInline,
        Candidate::WsStrand,
        Candidate::Bun,
        Candidate::TungsteniteTuned,
        Candidate::Tungstenite,
        Candidate::NodeWs,
    ];

    fn name(self) -> &'static str {
        match self {
            Candidate::Floor => "floor",
            Candidate::TcpInline => "tcp_inline",
            Candidate::TcpStrand => "tcp_strand",
            Candidate::WsInline => "ws_inline",
            Candidate::WsStrand => "ws_strand",
            Candidate::Bun => "bun",
            Candidate::TungsteniteTuned => "tungstenite_tuned",
            Candidate::Tungstenite => "tungstenite",
            Candidate::NodeWs => "node_ws",
        }
    }
}

impl peers::frame::Candidate for Candidate {
    fn description(self) -> &'static str {
        match self {
            Candidate::Floor => "a bare mio loop on TCP that writes the bytes back as they came",
            Candidate::TcpInline => "this library on TCP, JSON, a handler on the reactor",
            Candidate::TcpStrand => "this library on TCP, JSON, a handler on the pool",
            Candidate::WsInline => "this library on WebSocket, JSON, a handler on the reactor",
            Candidate::WsStrand => "this library on WebSocket, JSON, a handler on the pool",
            Candidate::Bun => "`Bun.serve` (npm `bun` 1.4.5), which is uWebSockets; the text back",
            Candidate::TungsteniteTuned => {
                "tokio-tungstenite 0.30 on one thread, buffers of 4 KiB, one flush for all messages that have come"
            }
            Candidate::Tungstenite => {
                "tokio-tungstenite 0.30 on one thread with its defaults, a send for each message"
            }
            Candidate::NodeWs => "npm `ws` 8.23.0 on Node.js; the text back",
        }
    }
}

impl Candidate {
    /// What is between it and its clients.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Candidate::Floor | Candidate::TcpInline | Candidate::TcpStrand => Wire::Tcp,
            _ => Wire::WebSocket,
        }
    }

    /// The program and the file in the folder `websocket` that it is, unless it is a part of this program.
    pub(crate) fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Candidate::Bun => Some(("node_modules/.bin/bun", "bun.mjs")),
            Candidate::NodeWs => Some(("node", "ws.mjs")),
            _ => None,
        }
    }
}
