//! Bad URLs and options.

use std::time::Duration;

use liveness::client::{Client, ClientBuilder, StartError};
use liveness::server::{Framing, Json, Keepalive};

fn ws() -> ClientBuilder<Json> {
    Client::builder("ws://127.0.0.1:1/")
}

#[test]
fn bad_options_are_refused_with_what_would_be_right() {
    let s = Duration::from_secs;
    let zero = Duration::ZERO;
    for (builder, why) in [
        (
            Client::builder("example.com"),
            "the URL `example.com` must begin with `tcp://`, `tcps://`, `ws://` or `wss://`",
        ),
        #[cfg(not(feature = "tls"))]
        (Client::builder("wss://a/"), "unless the feature `tls`"),
        (
            ws().keepalive(Keepalive::new(s(5), s(5))),
            "`keepalive` must",
        ),
        (ws().unanswered(s(5), 0), "`keepalive` must"),
        (ws().unanswered(zero, 3), "`keepalive` must"),
        (
            ws().max_message(0),
            "`max_message` must be greater than zero",
        ),
        (
            ws().connect_within(zero),
            "`connect_within` must be greater than zero",
        ),
        (ws().retry(zero, s(1)), "`retry` must be greater than zero"),
        (
            ws().retry(s(2), s(1)),
            "`retry` must have a first wait of at most the longest",
        ),
        (ws().queue(0, 1), "`queue` must be greater than zero"),
        (ws().queue(1, 0), "`queue` must be greater than zero"),
        (ws().header("Host", "x"), "does not set itself, not `Host`"),
        (
            ws().header("sec-websocket-key", "x"),
            "not `sec-websocket-key`",
        ),
        (ws().header("a b", "x"), "not `a b`"),
        (ws().header("", "x"), "not ``"),
        (ws().header("a", "x\r\nB: c"), "without line breaks"),
        (
            Client::builder("tcp://a:1").header("a", "x"),
            "`ws://` or `wss://` only",
        ),
        (ws().on("Ping", |_, (): ()| ()), "not `Ping`"),
        (
            ws().on("A", |_, (): ()| ()).on_inline("A", |_, (): ()| ()),
            "not `A`",
        ),
    ] {
        let error = builder.start().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(matches!(
            error,
            StartError::Url { .. } | StartError::Option(_)
        ));
    }
    #[cfg(feature = "msgpack")]
    {
        let lines =
            Client::<liveness::server::MsgPack>::builder("tcp://a:1").framing(Framing::Lines);
        let error = lines.start().unwrap_err();
        assert!(
            error.to_string().contains("`framing` must be `Lines` only"),
            "{error}"
        );
    }
    // What is strange but possible.
    let client = Client::<Json>::builder("tcp://127.0.0.1:1")
        .framing(Framing::Lines)
        .spread(zero)
        .keepalive(Keepalive::new(Duration::from_millis(1), Duration::MAX))
        .start()
        .unwrap();
    assert!(client.close_timeout(Duration::from_secs(20)));
}
