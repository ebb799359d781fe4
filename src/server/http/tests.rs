use super::*;

fn peer() -> SocketAddr {
    "192.0.2.1:50000".parse().unwrap()
}

/// The request of the standard's example, with other lines instead of those that begin alike, and further ones.
fn request(changes: &[&str]) -> Vec<u8> {
    let mut lines = vec![
        "GET /chat?room=1 HTTP/1.1",
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    for change in changes {
        let (name, value) = change.split_once(' ').unwrap_or((change, ""));
        lines.retain(|line| !line.starts_with(name));
        if !value.is_empty() {
            lines.insert(if name == "GET" { 0 } else { lines.len() }, change);
        }
    }
    let mut bytes = lines.join("\r\n").into_bytes();
    bytes.extend(b"\r\n\r\n");
    bytes
}

fn ask(bytes: &[u8], policy: &Policy) -> Result<Option<(Asked, usize)>, u16> {
    parse(bytes, 1_000, peer(), policy)
}

fn accept(changes: &[&str], policy: &Policy) -> Request {
    let bytes = request(changes);
    let (asked, length) = ask(&bytes, policy).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    match asked {
        Asked::Upgrade(request) => *request,
        Asked::Health | Asked::Page(_) => panic!("an upgrade is taken for another request"),
    }
}

fn status(changes: &[&str]) -> u16 {
    ask(&request(changes), &Policy::default()).unwrap_err()
}

#[test]
fn the_example_of_the_standard_is_accepted() {
    let request = accept(
        &["Sec-WebSocket-Protocol: chat, liveness.json"],
        &Policy::default(),
    );
    assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
    assert_eq!(request.header("HOST"), Some("server.example.com"));
    assert_eq!((request.peer(), request.client()), (peer(), peer().ip()));
    assert!(request.subprotocols().eq(["chat", "liveness.json"]));
    assert!(request.headers().any(|it| it == ("upgrade", "websocket")));
    let answer = String::from_utf8(accepted(&request, Some("liveness.json"))).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: liveness.json\r\n\r\n"
    );
}

#[test]
fn a_request_may_come_in_any_pieces_with_bytes_behind_it() {
    let mut bytes = request(&[]);
    let length = bytes.len();
    for end in 0..length {
        assert_eq!(ask(&bytes[..end], &Policy::default()), Ok(None), "{end}");
    }
    bytes.extend(b"\x81\x80");
    let (_, taken) = ask(&bytes, &Policy::default()).unwrap().unwrap();
    assert_eq!(taken, length);
}

#[test]
fn each_bad_request_has_its_status() {
    assert_eq!(status(&["GET"]), 400);
    assert_eq!(
        ask(b"\x16\x03\x01\x02\0\x01\0", &Policy::default()),
        Err(400),
        "TLS"
    );
    assert_eq!(ask(b"hello\r\n\r\n", &Policy::default()), Err(400));
    assert_eq!(
        ask(b"POST / HTTP/1.1\r\n\r\n", &Policy::default()),
        Err(405)
    );
    let head = String::from_utf8(request(&[]))
        .unwrap()
        .replace("GET", "HEAD");
    assert_eq!(ask(head.as_bytes(), &Policy::default()), Err(405));
    assert_eq!(status(&["GET / HTTP/1.0"]), 400);
    assert_eq!(status(&["Host:"]), 400);
    assert_eq!(status(&["Upgrade:"]), 426);
    assert_eq!(status(&["Upgrade: h2c"]), 426);
    assert_eq!(status(&["Connection: close"]), 426);
    assert_eq!(status(&["Sec-WebSocket-Version: 8"]), 426);
    assert_eq!(status(&["Sec-WebSocket-Version:"]), 426);
    assert_eq!(status(&["Sec-WebSocket-Key:"]), 400);
    assert_eq!(status(&["Sec-WebSocket-Key: short=="]), 400);
    assert_eq!(
        status(&["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!"]),
        400
    );
    assert_eq!(status(&["Origin: http://evil.example.com"]), 403);
    let twice = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(status(&[twice]), 400);
}

#[test]
fn only_paths_that_exist_are_accepted() {
    let policy = Policy {
        paths: vec!["/game".to_owned()],
        ..Policy::default()
    };
    assert_eq!(ask(&request(&[]), &policy), Err(404));
    accept(&["GET /game HTTP/1.1"], &policy);
    accept(&["GET /game?x HTTP/1.1"], &policy);
    assert_eq!(ask(&request(&["GET /game/ HTTP/1.1"]), &policy), Err(404));
}

#[test]
fn a_page_of_the_same_origin_is_accepted() {
    accept(&["Origin: https://server.example.com"], &Policy::default());
    let policy = Policy {
        origins: Origins::Required,
        ..Policy::default()
    };
    assert_eq!(ask(&request(&[]), &policy), Err(403));
}

#[test]
fn the_question_about_health_needs_no_upgrade() {
    let asked = ask(b"GET /healthz HTTP/1.0\r\n\r\n", &Policy::default());
    assert_eq!(asked, Ok(Some((Asked::Health, 25))));
    let asked = ask(b"HEAD /healthz HTTP/1.0\r\n\r\n", &Policy::default());
    assert_eq!(asked, Ok(Some((Asked::Health, 26))));
    // A connection may have that path as well.
    accept(&["GET /healthz HTTP/1.1"], &Policy::default());
}

#[test]
fn the_header_has_limits_of_length_and_number() {
    let endless = [&request(&[])[..100], &[b'a'; 900]].concat();
    assert_eq!(ask(&endless[..999], &Policy::default()), Ok(None));
    assert_eq!(ask(&endless, &Policy::default()), Err(431));
    let many = "X: 1\r\n".repeat(MAX_HEADERS + 1);
    let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert_eq!(ask(many.as_bytes(), &Policy::default()), Err(431));
    // Complete, but longer than the limit.
    let long = request(&[&format!("X: {}", "a".repeat(900))]);
    assert_eq!(ask(&long, &Policy::default()), Err(431));
}

#[test]
fn the_address_of_the_client_is_taken_from_trusted_proxies() {
    let forwarded = ["X-Forwarded-For: 203.0.113.7"];
    assert_eq!(accept(&forwarded, &Policy::default()).client(), peer().ip());
    let policy = Policy {
        trusted_proxies: vec!["192.0.2.0/24".parse().unwrap()],
        ..Policy::default()
    };
    let client = accept(&forwarded, &policy).client();
    assert_eq!(client.to_string(), "203.0.113.7");
}

#[test]
fn an_answer_says_what_would_be_right() {
    let text = |status| String::from_utf8(Answer::new(status).to_bytes(false)).unwrap();
    assert_eq!(
        text(503),
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 20\r\nRetry-After: 1\r\n\r\nService Unavailable\n"
    );
    assert!(text(426).contains("\r\nSec-WebSocket-Version: 13\r\n"));
    assert!(text(405).contains("\r\nAllow: GET, HEAD\r\n"));
    let head = Answer::new(503).to_bytes(true);
    assert_eq!(
        text(503),
        format!("{}Service Unavailable\n", String::from_utf8(head).unwrap())
    );
}

#[test]
fn base64_pads() {
    let cases = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ];
    for (bytes, text) in cases {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
