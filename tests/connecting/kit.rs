//! Servers and clients of the tests.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use liveness::client::{Client, ClientBuilder, State};
use liveness::server::{Agent, Json, Server, ServerBuilder};

/// The agents of the tests have no data.
pub(crate) type Peer = Agent<Json, ()>;

/// A limit for what should come at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A server with an echo and a doubling.
pub(crate) fn server() -> ServerBuilder<Json, ()> {
    Server::<Json, ()>::builder()
        .on("Echo", |agent: &Peer, body: serde_json::Value| {
            agent.send("Echo", &body)
        })
        .on_request("Double", |_, number: u32| Ok(number * 2))
}

/// Both URLs of a server that listens for TCP and then for WebSocket.
pub(crate) fn urls(addresses: &[SocketAddr]) -> [String; 2] {
    [
        format!("tcp://{}", addresses[0]),
        format!("ws://{}/", addresses[1]),
    ]
}

/// A client that tries again soon and reports its states.
pub(crate) fn client(url: &str) -> (ClientBuilder<Json>, Receiver<State>) {
    let (send, states) = channel();
    let builder = Client::<Json>::builder(url)
        .retry(5 * MS, 50 * MS)
        .spread(50 * MS)
        .state(move |_, state| drop(send.send(state.clone())));
    (builder, states)
}

/// The next state.
pub(crate) fn next(states: &Receiver<State>) -> State {
    states.recv_timeout(SOON).expect("a state")
}

/// The next state that `is_wanted`.
pub(crate) fn next_that(states: &Receiver<State>, is_wanted: impl Fn(&State) -> bool) -> State {
    loop {
        let state = next(states);
        if is_wanted(&state) {
            return state;
        }
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(MS);
    }
}

/// Closes a client, and checks that its statistics balance.
pub(crate) fn close(client: &Client<Json>) {
    assert!(client.close_timeout(SOON), "{client:?}");
    let stats = client.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!(
        (stats.dialing, stats.online, stats.queued, stats.waiting),
        (0, 0, 0, 0)
    );
}
