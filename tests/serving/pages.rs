//! Requests that are answered by `get`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use liveness::server::{Cause, Json, Response, Server};

use crate::kit::until;

/// The answer to `GET target`, with more headers.
fn get(address: SocketAddr, target: &str, more: &str) -> String {
    ask("GET", address, target, more)
}

/// The answer to a request for `target`, with more headers.
fn ask(method: &str, address: SocketAddr, target: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn pages_are_answered_with_status_type_and_body_and_counted() {
    let server = Server::<Json, ()>::builder()
        .websocket("127.0.0.1:0")
        .path("/live")
        .get("/", |_| {
            Response::new("text/html\r\nX: y", "<p>".repeat(50_000))
        })
        .get("/busy", |request| {
            let token = request.header("x-token").unwrap_or("none");
            Response::new("text/plain", token.to_owned()).status(503)
        })
        .get("/broken", |_| panic!("as a test wants it"))
        .start()
        .unwrap();
    let address = server.local_addrs()[0];
    let page = get(address, "/?a=b", "");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("\r\nContent-Type: text/htmlX: y\r\nContent-Length: 150000\r\n"));
    assert!(page.ends_with("<p>") && page.contains("\r\nCache-Control: no-store\r\n"));
    let busy = get(address, "/busy", "X-Token: t\r\n");
    assert!(
        busy.starts_with("HTTP/1.1 503 ") && busy.ends_with("\r\n\r\nt"),
        "{busy}"
    );
    assert!(get(address, "/broken", "").starts_with("HTTP/1.1 500 "));
    assert!(get(address, "/missing", "").starts_with("HTTP/1.1 404 "));
    assert!(get(address, "/live", "").starts_with("HTTP/1.1 426 "));
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert!(get(address, "/", upgrade).starts_with("HTTP/1.1 404 "));
    // The answer to `HEAD` has the length of the body, and no body.
    let page = ask("HEAD", address, "/", "");
    assert!(page.contains("\r\nContent-Length: 150000\r\n"), "{page}");
    assert!(page.ends_with("\r\n\r\n"), "{page}");
    for (path, status) in [("/healthz", 200), ("/missing", 404)] {
        let answer = ask("HEAD", address, path, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    server.drain();
    assert!(get(address, "/busy", "").ends_with("none"));
    assert!(get(address, "/healthz", "").starts_with("HTTP/1.1 503 "));
    until("all have ended", || server.stats().refused == 11);
    let stats = server.stats();
    assert!(stats.is_balanced());
    assert_eq!(
        (stats.pages, stats.panics, stats.ended_by(Cause::Refused)),
        (5, 1, 11)
    );
}

#[test]
fn a_page_replaces_the_answer_for_load_balancers() {
    let server = Server::<Json, ()>::builder()
        .websocket("127.0.0.1:0")
        .get("/healthz", |_| {
            Response::new("text/plain", "mine").status(42)
        })
        .start()
        .unwrap();
    let answer = get(server.local_addrs()[0], "/healthz", "");
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("mine"),
        "{answer}"
    );
}
