//! Upgrade requests: who may connect, and what bad ones are answered.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use liveness::server::{Json, Network, Origins, Server};
use socket2::{Domain, Socket, Type};

use crate::kit::{
    SOON, connect, frame, get_close, get_frame, head, put_frame, reporting, request, until,
    upgrade, upgrade_with,
};

/// The status of the answer.
fn status(head: &str) -> u16 {
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3));
    status.and_then(|it| it.parse().ok()).expect(head)
}

#[test]
fn only_pages_of_the_allowed_origins_connect() {
    let list = Origins::List(vec!["https://example.org".to_owned()]);
    let cases = [
        (
            Origins::Same,
            vec![
                (None, 101),
                (Some("http://test"), 101),
                (Some("https://TEST:443"), 101),
                (Some("http://test:81"), 403),
                (Some("http://evil-test"), 403),
                (Some("http://test.evil.net"), 403),
                (Some("null"), 403),
                (Some(""), 403),
            ],
        ),
        (
            Origins::Required,
            vec![
                (None, 403),
                (Some("http://test"), 101),
                (Some("http://other"), 403),
            ],
        ),
        (
            list,
            vec![
                (None, 101),
                (Some("https://example.org"), 101),
                (Some("http://example.org"), 403),
                (Some("https://example.org.evil.net"), 403),
                (Some("http://test"), 403),
            ],
        ),
        (
            Origins::Any,
            vec![
                (None, 101),
                (Some("http://evil.net"), 101),
                (Some("null"), 101),
            ],
        ),
    ];
    for (origins, cases) in cases {
        let server = reporting().0.origins(origins.clone()).start().unwrap();
        let count = cases.len() as u64;
        let refused = cases.iter().filter(|(_, status)| *status == 403).count() as u64;
        for (origin, expected) in cases {
            let mut stream = connect(server.local_addrs()[1]);
            let header = origin.map(|origin| format!("Origin: {origin}\r\n"));
            let answer = upgrade_with(&mut stream, "/", &header.unwrap_or_default());
            assert_eq!(status(&answer), expected, "{origins:?} {origin:?}");
        }
        until("all have gone", || {
            server.stats().closed + server.stats().refused == count
        });
        assert_eq!(server.stats().refused, refused);
    }
}

/// Connects from this address of the host.
fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: IpAddr = source.parse().unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
#[cfg(target_os = "linux")]
fn a_forwarded_address_counts_if_a_trusted_proxy_says_it() {
    let server = Server::<Json, String>::builder()
        .websocket("127.0.0.1:0")
        .trusted_proxies(["127.0.0.2".parse::<Network>().unwrap()])
        .max_per_ip(1)
        .authorize(|request| Ok(request.client().to_string()))
        .start()
        .unwrap();
    let mut open = Vec::new();
    for (source, forwarded, expected) in [
        // The proxy's own connection, and its clients'.
        ("127.0.0.2", "", Ok("127.0.0.2")),
        ("127.0.0.2", "X-Forwarded-For: 10.0.0.1\r\n", Ok("10.0.0.1")),
        ("127.0.0.2", "X-Forwarded-For: 10.0.0.1\r\n", Err(429)),
        // What the client itself wrote is in front, and means nothing.
        (
            "127.0.0.2",
            "X-Forwarded-For: 10.0.0.9, 10.0.0.1\r\n",
            Err(429),
        ),
        ("127.0.0.2", "X-Forwarded-For: 10.0.0.2\r\n", Ok("10.0.0.2")),
        // Anybody else may say what they want.
        (
            "127.0.0.3",
            "X-Forwarded-For: 10.0.0.3\r\n",
            Ok("127.0.0.3"),
        ),
        ("127.0.0.3", "X-Forwarded-For: 10.0.0.4\r\n", Err(429)),
    ] {
        let mut stream = connect_from(source, server.local_addrs()[0]);
        let answer = status(&upgrade_with(&mut stream, "/", forwarded));
        assert_eq!(
            answer,
            expected.err().unwrap_or(101),
            "{source} {forwarded}"
        );
        if let Ok(client) = expected {
            open.push(stream);
            let is_there = || server.agents().iter().any(|agent| agent.data() == client);
            until(client, is_there);
        }
    }
    assert_eq!(server.stats().open, 4);
    drop(open.pop());
    until("one has gone", || server.stats().closed == 1);
    connect_from("127.0.0.3", server.local_addrs()[0])
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    let mut again = connect_from("127.0.0.3", server.local_addrs()[0]);
    assert_eq!(status(&upgrade(&mut again)), 101);
}

#[test]
fn the_limit_of_an_address_does_not_count_another() {
    let server = reporting().0.max_per_ip(2).start().unwrap();
    let to = server.local_addrs()[0];
    let _first = [connect_from("127.0.0.1", to), connect_from("127.0.0.1", to)];
    until("two are open", || server.stats().open == 2);
    // The one too many learns why.
    let mut refused = connect_from("127.0.0.1", to);
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains(r#""code":1013,"msg":"too many connections""#),
        "{answer}"
    );
    #[cfg(target_os = "linux")]
    {
        let _other = connect_from("127.0.0.9", to);
        until("three are open", || server.stats().open == 3);
    }
    assert!(server.stats().is_balanced());
}

#[test]
fn offers_of_compression_are_ignored_and_compressed_frames_refused() {
    let server = reporting().0.start().unwrap();
    let mut stream = connect(server.local_addrs()[1]);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\n\
        Sec-WebSocket-Protocol: chat, liveness.json\r\n";
    let answer = upgrade_with(&mut stream, "/", offer).to_ascii_lowercase();
    assert_eq!(status(&answer.to_ascii_uppercase()), 101);
    assert!(!answer.contains("extensions"), "{answer}");
    assert!(
        answer.contains("sec-websocket-protocol: liveness.json\r\n"),
        "{answer}"
    );
    put_frame(&mut stream, 1, br#"{"type":"Echo","data":1}"#);
    assert_eq!(get_frame(&mut stream).0, 1);
    stream
        .write_all(&frame(0xC1, br#"{"type":"Echo","data":1}"#))
        .unwrap();
    assert_eq!(get_close(&mut stream).0, 1_002);
}

#[test]
fn bad_requests_get_their_status() {
    let server = reporting().0.path("/game").start().unwrap();
    let good = request("/game", "");
    let cases = [
        (good.clone(), 101),
        (request("/game?a=/b", ""), 101),
        (request("/other", ""), 404),
        (good.replace("GET", "POST"), 405),
        (good.replace("Upgrade: websocket\r\n", ""), 426),
        (good.replace("Connection: Upgrade\r\n", ""), 426),
        (
            good.replace("Connection: Upgrade", "connection: keep-alive, upgrade"),
            101,
        ),
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (good.replace("Host: test\r\n", ""), 400),
        (good.replace("Host: test", "Host: test\r\nHost: two"), 400),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (good.replace("Host: test", "Host\0: test"), 400),
        (request("/game", &"X: y\r\n".repeat(100)), 431),
        (
            request("/game", &format!("X: {}\r\n", "y".repeat(20 << 10))),
            431,
        ),
        // Headers without an end.
        (
            format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(2_000)),
            431,
        ),
        // A greeting of TLS.
        (
            "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03".to_owned() + &"x".repeat(500),
            400,
        ),
        ("\r\n\r\n\0".to_owned(), 400),
    ];
    let count = cases.len() as u64;
    for (request, expected) in cases {
        let mut stream = connect(server.local_addrs()[1]);
        stream.write_all(request.as_bytes()).unwrap();
        let answer = head(&mut stream);
        let shown = &request[..request.len().min(200)];
        assert_eq!(status(&answer), expected, "{shown:?}");
        if expected == 405 {
            assert!(answer.contains("Allow: GET, HEAD\r\n"), "{answer}");
        }
    }
    until("all have gone", || {
        server.stats().closed + server.stats().refused == count
    });
    assert!(server.stats().is_balanced());
}

#[test]
fn a_request_may_come_in_pieces_and_messages_together_with_it() {
    let server = reporting().0.start().unwrap();
    let mut all = request("/", "").into_bytes();
    for number in 0..3 {
        let echo = format!(r#"{{"type":"Echo","data":{number}}}"#);
        all.extend(frame(0x81, echo.as_bytes()));
    }
    for piece in [1, 7, all.len() - 5, all.len()] {
        let mut stream = connect(server.local_addrs()[1]);
        for bytes in all.chunks(piece) {
            stream.write_all(bytes).unwrap();
        }
        assert_eq!(status(&head(&mut stream)), 101);
        for number in 0..3 {
            let echo = format!(r#"{{"type":"Echo","data":{number}}}"#);
            assert_eq!(get_frame(&mut stream), (1, echo.into_bytes()));
        }
    }
}
